"""Putting deliveries away with a report, once their rows are stored or refused."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from moma_cl.automation import inbox
from moma_cl.automation.inbox import Delivery
from moma_cl.automation.state_files import write_state
from moma_cl.datasets.source_files import signature
from moma_store.files import reported

SCHEMA = "moma-cl-delivery/1"

_LONGEST_NAME = 200
"""Bytes of a name, of the 255 that file systems allow: the report's own ending follows it."""

_LONGEST_SUFFIX = 20  # bytes


def unchanged(delivery: Delivery) -> bool:
    """Say whether a delivery still looks as it did in the inbox."""
    return _looks_like(delivery, delivery.path)


def put_away(
    delivery: Delivery, folder: str, *, sha256: str | None, outcome: str, figures: dict[str, Any]
) -> None:
    """Move a delivery out of the way, its report first: what is there is always explained.

    What was written to it until it was moved comes back to the inbox, where the next pass adds
    the rows that are new.

    Parameters
    ----------
    delivery
        The delivery.
    folder
        ``done`` or ``refused``.
    sha256
        Digest of the content that was read; none if it could not be read.
    outcome
        What became of it, for people.
    figures
        The same for programs.

    Raises
    ------
    StorageError
        If it cannot be moved, or its report cannot be written.
    """
    target = _free_name(_task_folder(delivery) / folder / delivery.path.name)
    report_file = target.with_name(target.name + inbox.REPORT)
    report = {
        "schema": SCHEMA,
        "task": delivery.task,
        "file": delivery.path.name,
        "sha256": sha256,
        "replaces": delivery.replaces,
        "outcome": outcome,
        **figures,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with reported("put away", delivery.path):
        target.parent.mkdir(exist_ok=True)
        write_state(report_file, report)
        delivery.path.rename(target)
        if not _looks_like(delivery, target):
            target.rename(_free_name(delivery.path))
            with suppress(OSError):
                report_file.unlink()


def _task_folder(delivery: Delivery) -> Path:
    return delivery.path.parents[1 if delivery.replaces else 0]


def _looks_like(delivery: Delivery, path: Path) -> bool:
    try:
        return signature(path) == delivery.signature
    except OSError:
        return False


def _free_name(target: Path) -> Path:
    """Give the name that a delivery is put under; an earlier one of its name stays."""
    target = target.with_name(_shortened(target.name))
    if not os.path.lexists(target):
        return target
    stem, dot, suffix = target.name.partition(".")
    numbered = (target.with_name(f"{stem}-{number}{dot}{suffix}") for number in range(2, 1_000_000))
    return next(name for name in numbered if not os.path.lexists(name))


def _shortened(name: str) -> str:
    """Shorten a name, so that its report's has room; its endings, which tell the format, stay."""
    if len(os.fsencode(name)) <= _LONGEST_NAME:
        return name
    suffix = "".join(PurePath(name).suffixes[-2:])
    if len(os.fsencode(suffix)) > _LONGEST_SUFFIX:
        suffix = ""
    kept = os.fsencode(name)[: _LONGEST_NAME - len(os.fsencode(suffix))]
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsdecode(kept) + suffix
    return kept.decode("utf-8", errors="ignore") + suffix
