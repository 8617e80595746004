"""Where a hub's refs pointed before: the history, followed ref by ref."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from moma_cl.records.refs import RefKind
from moma_store.catalogue import Snapshot


class Move(NamedTuple):
    """A ref took a new value."""

    at: str  # UTC, ISO 8601
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Where refs pointed."""

    moves: dict[str, list[Move]] = field(default_factory=dict)  # values of each ref, oldest first
    # full names of all modules there ever were, by digest
    module_names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, view: Snapshot) -> Self:
        """Follow all refs through the history."""
        past = cls()
        for entry in reversed(view.history()):
            for change in entry.changes:
                past._follow(entry.at, change.name, change.new)
        return past

    def of_refs(self, refs: Iterable[str]) -> dict[str, list[dict[str, str]]]:
        """Give the values of those refs that exist, oldest first, as ``at`` and ``digest``."""
        present = sorted(self.moves.keys() & set(refs))
        return {ref: [move._asdict() for move in self.moves[ref]] for ref in present}

    def module_name(self, digest: str) -> str:
        """Name a module among those of its backbone; by its digest where no ref ever named it."""
        return RefKind.MODULE.name_in(self.module_names.get(digest, digest[:12]))

    def _follow(self, at: str, ref: str, digest: str | None) -> None:
        if digest is None:
            self.moves.pop(ref, None)
            return
        moves = self.moves.setdefault(ref, [])
        if not moves or moves[-1].digest != digest:
            moves.append(Move(at, digest))
        if ref.startswith(RefKind.MODULE.prefix):
            self.module_names[digest] = RefKind.MODULE.full_name_in(ref)
