"""The properties that the modules of the package answer, with no hub and no data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from moma_cl.core.suggestions import did_you_mean
from moma_cl.properties.table import canonical_property, names_of
from moma_cl.records.records import Module
from moma_cl.records.refs import RefKind, backbone_in
from moma_cl.starter.modules import archives
from moma_store.archived_records import ArchivedRecords
from moma_store.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedProperty:
    """A property that a module of the package answers.

    Attributes
    ----------
    name
        What to ask for: the canonical name of the property, or that of the column the module was
        trained on where several modules answer the property and another one comes first.
    property
        Canonical name of the property.
    target
        Name of the column that the module was trained on, which may say by which method the values
        were computed, such as ``band_gap_pbe``.
    unit
        Unit of the answers.
    mae, mae_of_median
        Mean absolute error on held-out rows, in the unit: of the answers, and of always answering
        the median of the training rows; none where no row was held out.
    n_held_out, n_train
        Rows that the errors were measured on, and rows of the training.
    module
        Name of the module.
    digest
        Digest of its record.
    backbone
        Name of the backbone it specialises.
    """

    name: str
    property: str
    target: str
    unit: str
    mae: float | None
    mae_of_median: float | None
    n_held_out: int
    n_train: int
    module: str
    digest: str
    backbone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenProperty:
    """The module that answers for a name, and what else the name of its property may mean."""

    chosen: ShippedProperty
    others: tuple[str, ...]  # none where the name says exactly which module is meant

    @property
    def remark(self) -> str:
        """Say which values are meant, where the package has several of the property."""
        if not self.others:
            return ""
        return f"{self.chosen.target} is meant; there are also {', '.join(self.others)}"


def shipped_properties() -> list[ShippedProperty]:
    """List the properties that modules of the package answer, by name; the best module first."""
    listed: list[ShippedProperty] = []
    for path in archives():
        with ArchivedRecords(path) as archive:
            for ref, digest in archive.refs(RefKind.MODULE.prefix).items():
                module = Module.from_doc(archive.record(digest))
                if (errors := module.answers) is not None:
                    listed.append(
                        ShippedProperty(
                            name=module.target.lower(),
                            property=module.property,
                            target=module.target,
                            unit=errors["unit"],
                            mae=errors["mae"],
                            mae_of_median=errors["mae_of_median"],
                            n_held_out=errors["n_held_out"],
                            n_train=module.n_train,
                            module=RefKind.MODULE.full_name_in(ref),
                            digest=digest,
                            backbone=backbone_in(ref),
                        )
                    )
    return sorted(
        _named(listed),
        key=lambda entry: (entry.property, entry.name != entry.property, entry.name, entry.mae),
    )


def choose_properties(properties: str | Sequence[str]) -> list[ChosenProperty]:
    """Choose a module for each name, or for each of the names that a text holds between commas."""
    listed = [properties] if isinstance(properties, str) else list(properties)
    names = [name.strip() for text in listed for name in text.split(",") if name.strip()]
    if not names:
        raise InvalidInputError(
            "no property is named; `moma-cl modules --shipped` lists those that can be answered",
            code="invalid-input.unknown-property",
        )
    shipped = shipped_properties()
    chosen = [choose_property(name, shipped) for name in names]
    return list({one.chosen.digest: one for one in chosen}.values())


def choose_property(name: str, shipped: Sequence[ShippedProperty]) -> ChosenProperty:
    """Choose the module that answers for a name.

    Parameters
    ----------
    name
        Name of a property, under any of its names; of the column that a module was trained on; or
        of a module.
    shipped
        What there is.

    Returns
    -------
    ChosenProperty
        The module of that name; else the first of the property, in the order of its names.

    Raises
    ------
    InvalidInputError
        If no module answers.
    """
    asked = name.strip().lower()
    for matches in (
        [entry for entry in shipped if asked in _names(entry)],
        [entry for entry in shipped if asked == entry.target.lower()],
        [entry for entry in shipped if entry.property == canonical_property(asked)],
    ):
        if matches:
            chosen = _first(matches)
            explicit = asked != chosen.property
            explicit = explicit and asked in {*_names(chosen), chosen.target.lower()}
            others = {other.name for other in shipped if other.property == chosen.property}
            names = () if explicit else tuple(sorted(others - {chosen.name}))
            return ChosenProperty(chosen=chosen, others=names)
    names = tuple(dict.fromkeys(entry.name for entry in shipped))
    hint = did_you_mean(asked, {*names, *(entry.target for entry in shipped)})
    raise InvalidInputError(
        f"no module that ships with moma-cl answers {name!r}{hint or ';'} answered are "
        f"{', '.join(names) or 'none'}",
        code="invalid-input.unknown-property",
    )


def _names(entry: ShippedProperty) -> set[str]:
    """Give the names of a module: its own, and that among those of all backbones."""
    full = entry.module.lower()
    return {full, RefKind.MODULE.name_in(full)}


def _named(listed: Sequence[ShippedProperty]) -> list[ShippedProperty]:
    """Give the first module of each property the canonical name."""
    first = {
        name: _first([entry for entry in listed if entry.property == name]).target
        for name in {entry.property for entry in listed}
    }
    return [
        replace(entry, name=entry.property) if first[entry.property] == entry.target else entry
        for entry in listed
    ]


def _first(entries: Sequence[ShippedProperty]) -> ShippedProperty:
    """Choose by the order of the names of the property, then by the error."""

    def place(entry: ShippedProperty) -> tuple[int, float, str]:
        names = names_of(entry.property)
        target = entry.target.lower()
        error = math.inf if entry.mae is None else entry.mae
        return (names.index(target) if target in names else len(names), error, entry.module)

    return min(entries, key=place)
