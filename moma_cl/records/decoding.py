"""Records from outside, decoded as what their fields are declared to hold.

A hub trusts its own records, whose digests prove them. Those of an archive or another hub were
written by somebody: each is decoded by its kind, field by field, before anything of it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from moma_cl.recipe import Recipe
from moma_cl.records.base import FORMAT, Record
from moma_cl.records.records import (
    BackboneRecord,
    Composition,
    Dataset,
    Drift,
    Estimate,
    Failure,
    Hold,
    HubRecord,
    Learner,
    Module,
    Predictor,
    Segment,
    StartKind,
    Task,
)
from moma_cl.records.task_spec import TaskSpec
from moma_cl.records.tasks import check_task_name
from moma_store.errors import FormatError, InvalidInputError, MomaError

Decoded = Record | Recipe

KINDS: Mapping[str, type[Record]] = {
    kind.kind: kind
    for kind in (
        HubRecord, BackboneRecord, Task, Segment, Dataset, Module, Estimate, Composition, Learner,
        Predictor, Failure, Drift, Hold,
    )
}  # fmt: skip
"""Records by their kind; recipes are no `Record`."""

LINKED: Mapping[str, type[Record]] = {
    "backbone": BackboneRecord, "dataset": Dataset, "previous": Dataset, "segments": Segment,
    "module": Module, "modules": Module, "multitask": Module, "multitasks": Module, "task": Task,
    "composition": Composition, "compositions": Composition, "learners": Learner,
    "fast": Predictor, "origin": Learner,
}  # fmt: skip
"""What the fields that name records name."""

_MOST = 2**53  # integers up to here are exact in every program
_LARGEST = 1e300
_LONGEST = 1 << 20  # characters of a text
_ROUNDING = 1e-6  # of the sum of weights

_HINTS: dict[str, Mapping[str, Any]] = {}  # of the fields of each kind, worked out once


def decoded(doc: Mapping[str, Any]) -> Decoded:
    """Decode a record that comes from outside.

    Parameters
    ----------
    doc
        A document with ``kind`` and ``format``.

    Returns
    -------
    Decoded
        The record.

    Raises
    ------
    FormatError
        If its kind, its format or one of its fields is unknown to this version.
    InvalidInputError
        If a field does not hold what it is declared to hold.
    """
    kind = str(doc["kind"])
    if doc["format"] != FORMAT or (kind != "recipe" and kind not in KINDS):
        raise FormatError(
            f"there is a record of kind {kind[:40]!r} in format {doc['format']}, which this"
            " version of moma-cl does not know; was it written by a newer one?"
        )
    try:
        return Recipe.from_doc(doc) if kind == "recipe" else _record(KINDS[kind], doc)
    except MomaError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _malformed(kind, repr(error)[:200]) from error


def _record(cls: type[Record], doc: Mapping[str, Any]) -> Record:
    unknown = sorted(doc.keys() - {"kind", "format"} - _hints(cls).keys())
    if unknown:
        raise FormatError(
            f"a record of kind {cls.kind!r} has the field {unknown[0][:40]!r}, which this version "
            "of moma-cl does not know; was it written by a newer one?"
        )
    record = cls.from_doc(doc)
    for name, hint in _hints(cls).items():
        value = getattr(record, name)
        if not _fits(value, hint):
            raise _malformed(cls.kind, f"{name!r} is {repr(value)[:80]}, expected {hint}")
    _check_meaning(record)
    return record


def _hints(cls: type[Record]) -> Mapping[str, Any]:
    if cls.kind not in _HINTS:
        hints = get_type_hints(cls)
        _HINTS[cls.kind] = {entry.name: hints[entry.name] for entry in fields(cls)}
    return _HINTS[cls.kind]


_PLAIN: Mapping[Any, Callable[[Any], bool]] = {
    Any: lambda _: True,
    float: lambda value: type(value) in {int, float} and abs(value) <= _LARGEST,
    int: lambda value: type(value) is int and 0 <= value <= _MOST,
    str: lambda value: isinstance(value, str) and len(value) <= _LONGEST,
}
"""Tests of values by type hint; bools are no numbers, and everything has a size."""


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is what a type hint says, and of a size that makes sense."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return any(_fits(value, one) for one in inner)
    if origin in {tuple, dict}:
        kept = value.values() if isinstance(value, dict) else value
        of = inner[1 if origin is dict else 0]
        return isinstance(value, origin) and all(_fits(one, of) for one in kept)
    if hint in _PLAIN:
        return _PLAIN[hint](value)
    return isinstance(value, hint)


def _check_meaning(record: Record) -> None:
    """Refuse what no field says by itself."""
    if isinstance(record, Task):
        check_task_name(record.name)
        TaskSpec.of(record)
    elif isinstance(record, Learner):
        Recipe.from_doc(record.settings)
        _check_start(record)
    elif isinstance(record, Predictor):
        Recipe.from_doc(record.settings)
        if not record.learners or len(set(record.learners)) < len(record.learners):
            raise _malformed(record.kind, "it has no learners, or one of them twice")
    elif isinstance(record, Dataset):
        if record.n_rows != record.n_train + record.n_validation + record.n_held_out:
            raise _malformed(record.kind, "its folds have other rows than it has")
    elif isinstance(record, Composition):
        weights = (record.backbone_weight, *record.weights)
        right = min(weights) >= 0 and abs(sum(weights) - 1) <= _ROUNDING
        if not right or len(record.weights) != len(set(record.modules)):
            raise _malformed(record.kind, "its weights are none, or not one for each module")


def _check_start(record: Learner) -> None:
    """Refuse a learner that names anything but what it started from."""
    named = {
        StartKind.COMPOSITION: record.composition,
        StartKind.MULTITASK: record.multitask,
    }
    right = all((digest is not None) == (start is record.start) for start, digest in named.items())
    if not right:
        raise _malformed(record.kind, f"it started from a {record.start}, and names something else")


def _malformed(kind: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"a record of kind {kind[:40]!r} is malformed: {reason}", code="invalid-input.archive"
    )
