"""What happened to a hub, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moma_store.entries import HistoryEntry
from moma_store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """Something that happened.

    Attributes
    ----------
    counter
        Position in the history, from 0.
    at
        When, UTC, ISO 8601; the order is that of the counters.
    action
        What was done, such as ``add-task``.
    task
        The task it was done to, where it was one.
    detail
        What the action wanted remembered.
    changes
        The refs that moved, as ``name``, ``old`` and ``new``.
    """

    counter: int
    at: str
    action: str
    task: str | None
    detail: dict[str, Any]
    changes: tuple[dict[str, str | None], ...]


def log(path: Path, *, limit: int | None = None, task: str | None = None) -> list[LogEntry]:
    """Read the history, newest first; at most `limit` entries, of one task if it is named."""
    with Store.open(path) as store, store.snapshot() as view:
        if task is None:
            return [_logged(entry) for entry in view.history(limit=limit)]
        entries = [_logged(entry) for entry in view.history()]
        return [entry for entry in entries if entry.task == task][:limit]


def _logged(entry: HistoryEntry) -> LogEntry:
    task = entry.detail.get("task")
    return LogEntry(
        counter=entry.counter,
        at=entry.at,
        action=entry.action,
        task=None if task is None else str(task),
        detail=entry.detail,
        changes=tuple(change.to_json() for change in entry.changes),
    )
