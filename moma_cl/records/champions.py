"""The champions of a task: the predictors that answer for it, or did before."""

from __future__ import annotations

from collections.abc import Sequence

from moma_cl.records.hub import HistoryReads
from moma_cl.records.refs import RefKind
from moma_store.errors import NotFoundError


def champions(store: HistoryReads, task: str) -> list[str]:
    """List the predictors that have answered for a task since it was added, the latest first."""
    ref = RefKind.PREDICTOR.of(task)
    digests: list[str] = []
    for entry in store.history(ref_prefix=ref):
        for change in entry.changes:
            if change.name != ref:
                continue
            if change.new is None:  # an earlier task of this name was removed here
                return list(dict.fromkeys(digests))
            digests.append(change.new)
    return list(dict.fromkeys(digests))


def choose_champion(digests: Sequence[str], beginning: str | None, task: str) -> str:
    """Choose a champion by the beginning of its digest, or the latest if that is None.

    ``digests`` has the latest first. Raises ``NotFoundError``, which names the task, if no digest
    begins so, or more than one does.
    """
    matches = [digest for digest in digests if beginning is None or digest.startswith(beginning)]
    if not matches or (beginning is not None and len(matches) > 1):
        listed = ", ".join(digest[:12] for digest in digests) or "none"
        missing = "an earlier champion" if beginning is None else f"just one like {beginning!r}"
        raise NotFoundError(f"task {task!r} has not {missing}; champions: {listed}")
    return matches[0]
