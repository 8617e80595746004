"""Adding the rows of deliveries, each exactly once, and putting the delivery away with a report.

The digest of a delivery is stored in its segment, in the transaction that adds its rows. A pass
that was killed between that and putting the delivery away finds the digest, and only puts it away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.automation import inbox
from moma_cl.automation.inbox import Delivery
from moma_cl.automation.state_files import write_state
from moma_cl.datasets.source_files import signature, source_of
from moma_cl.progress import Progress
from moma_cl.reconciling.pass_actions import Done, PassAction
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.records import Segment
from moma_cl.records.tasks import TaskState, task_names, task_state
from moma_store.errors import (
    BusyError,
    InvalidInputError,
    MomaError,
    NotFoundError,
    StorageError,
)
from moma_store.files import reported

if TYPE_CHECKING:
    from moma_store.store import Store

logger = logging.getLogger(__name__)

SCHEMA = "moma-cl-delivery/1"
KIND = "inbox"


class DeliveryError(MomaError):
    """The rows of a delivery could not be added, or it could not be put away; it stays."""

    code = "delivery"
    exit_code = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of a delivery."""

    folder: str  # where it goes
    text: str  # for people
    figures: dict[str, Any]  # for the report
    reasons: tuple[str, ...] = ()  # for which rows were refused, each with an example

    def for_mail(self, delivery: Delivery) -> dict[str, Any]:
        """Give what a mail says: the file, and how many rows of how many were refused and why."""
        refusals = self.figures.get("refusals", {"refused": 0, "counts": {}})
        names = ("rows", "repeated", "replaced", "total")
        return {
            "file": delivery.shown,
            "folder": self.folder,
            **{name: self.figures.get(name, 0) for name in names},
            "refused": refusals["refused"],
            "codes": list(refusals["counts"]),
            "reasons": list(self.reasons),
        }


def add_deliveries(
    store: Store, deliveries: Sequence[Delivery], *, progress: Progress
) -> list[Done]:
    """Add the rows of complete deliveries; one that fails does not stop the others.

    Those that have changed since `moma_cl.automation.inbox.settled` gave them wait for the next
    pass. An error that concerns all is raised: the disk refuses, or somebody else moved a ref.
    """
    done = []
    for delivery in deliveries:
        start = time.perf_counter()
        try:
            outcome = _add_delivery(store, delivery, progress)
        except DeliveryError as error:
            logger.error("%s", error.message, extra={"action": HistoryAction.FAIL})  # noqa: TRY400  its cause is told
            done.append(
                _done(delivery, PassAction.FAILED, f"[{error.code}] {error.message}", start)
            )
            continue
        if outcome is not None:
            refused = outcome.folder == inbox.REFUSED
            action = PassAction.REFUSED if refused else PassAction.TAKEN_IN
            text = f"{delivery.shown}: {outcome.text}"
            done.append(_done(delivery, action, text, start, outcome.for_mail(delivery)))
    return done


def _done(
    delivery: Delivery,
    action: PassAction,
    text: str,
    start: float,
    figures: dict[str, Any] | None = None,
) -> Done:
    return Done(
        task=delivery.task,
        action=action,
        kind=KIND,
        text=text,
        seconds=time.perf_counter() - start,
        figures=figures or {},
    )


def _add_delivery(store: Store, delivery: Delivery, progress: Progress) -> _Outcome | None:
    """Add a delivery and put it away; none where it is gone, or still being written."""
    if delivery.task not in task_names(store) or not _unchanged(delivery):
        return None
    origin = source_of(delivery.path)
    try:
        outcome = _outcome(store, delivery, origin, progress)
    except (StorageError, BusyError):
        raise
    except MomaError as error:
        raise DeliveryError(f"{delivery.shown} stays in the inbox: {error.message}") from error
    except Exception as error:
        raise DeliveryError(
            f"{delivery.shown} stays in the inbox: {type(error).__name__}: {error}"
        ) from error
    # If it was written to meanwhile, its content is another, which the next pass adds.
    if outcome is not None and _unchanged(delivery):
        _put_away(delivery, origin, outcome)
    return outcome


def _outcome(
    store: Store, delivery: Delivery, origin: dict[str, str], progress: Progress
) -> _Outcome | None:
    state = task_state(store, delivery.task)
    earlier = _segment_from(store, state, origin)
    if earlier is not None:
        text = f"nothing to add, its content was added before{_as_name(store, earlier, delivery)}"
        return _Outcome(folder=inbox.DONE, text=text, figures={"segment": earlier, "rows": 0})
    try:
        return _add_rows(store, state, delivery, origin, progress)
    except NotFoundError:
        return None  # removed meanwhile
    except InvalidInputError as error:
        figures = {"rows": 0, "code": error.code, "message": error.message}
        return _Outcome(folder=inbox.REFUSED, text=error.message, figures=figures)


def _add_rows(
    store: Store,
    state: TaskState,
    delivery: Delivery,
    origin: dict[str, str],
    progress: Progress,
) -> _Outcome | None:
    """Add a delivery's rows as one more segment, which names its digest."""
    from moma_cl.backbones.registry import backbone_class
    from moma_cl.datasets import added_rows
    from moma_cl.datasets.intake import read_task_rows
    from moma_cl.records.task_spec import TaskSpec
    from moma_cl.structures.checks import Quarantine

    _check_name(delivery.path)
    intake = read_task_rows(
        [delivery.path],
        TaskSpec.of(state.task),
        elements=backbone_class(store.backbone["name"]).elements,
        appended=True,
        progress=lambda rows: progress("reading", rows, 0),
    )
    if not _unchanged(delivery):
        return None  # written to while it was read
    intake = added_rows.new_rows(store, state, intake, replace=delivery.replaces)
    added, before = len(intake.ids), state.dataset.n_rows
    if added:
        rows = added_rows.segment_rows(store, intake, state.task)
        added_rows.append_rows(store, state, intake, rows, [origin])
    refused = len(intake.refusals)
    replaced = added + before - task_state(store, delivery.task).dataset.n_rows
    quarantine = Quarantine(refusals=intake.refusals)
    counts = {"added": added, "there already": intake.repeats, "refused": refused}
    told = [f"{count:,} {what}" for what, count in counts.items() if count]
    return _Outcome(
        folder=inbox.REFUSED if refused and not added else inbox.DONE,
        text="rows: " + (", ".join(told) or "none with a fold"),
        figures={
            "rows": added,
            "repeated": intake.repeats,
            "replaced": replaced,
            "left_out": intake.left_out,
            "total": added + intake.repeats + intake.left_out + refused,
            "refusals": quarantine.to_json(),
        },
        reasons=tuple(quarantine.summary()[1:]),
    )


def _segment_from(store: Store, state: TaskState, origin: dict[str, str]) -> str | None:
    """Find the segment that holds this content, whatever the file was called then."""
    sha256 = origin.get("sha256")
    for digest in reversed(state.dataset.segments):
        sources = Segment.from_doc(store.record(digest)).sources
        if sha256 is not None and any(source.get("sha256") == sha256 for source in sources):
            return digest
    return None


def _as_name(store: Store, segment: str, delivery: Delivery) -> str:
    """Say what a delivery was called then, if that was another name."""
    names = [source["name"] for source in Segment.from_doc(store.record(segment)).sources]
    return "" if delivery.path.name in names or not names else f" as {names[0]}"


def _unchanged(delivery: Delivery) -> bool:
    try:
        return signature(delivery.path) == delivery.signature
    except OSError:
        return False


def _check_name(path: Path) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"the name {path.name!r} is not UTF-8: give the file another one",
            code="invalid-input.bad-name",
        ) from error


def _put_away(delivery: Delivery, origin: dict[str, str], outcome: _Outcome) -> None:
    """Move a delivery out of the way, its report first: what is there is always explained."""
    folder = delivery.path.parents[1 if delivery.replaces else 0]
    target = _free_name(folder / outcome.folder / delivery.path.name)
    report = {
        "schema": SCHEMA,
        "task": delivery.task,
        "file": delivery.path.name,
        "sha256": origin.get("sha256"),
        "replaces": delivery.replaces,
        "outcome": outcome.text,
        **outcome.figures,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        with reported("put away", delivery.path):
            target.parent.mkdir(exist_ok=True)
            write_state(target.with_name(target.name + inbox.REPORT), report)
            delivery.path.rename(target)
    except StorageError as error:
        raise DeliveryError(
            f"{delivery.shown} was dealt with ({outcome.text}) but stays in the inbox: "
            f"{error.message}"
        ) from error


def _free_name(target: Path) -> Path:
    """Give the name that a delivery is put away under; an earlier one of its name stays."""
    if not target.exists():
        return target
    stem, dot, suffix = target.name.partition(".")
    numbered = (target.with_name(f"{stem}-{number}{dot}{suffix}") for number in range(2, 1_000_000))
    return next(name for name in numbered if not name.exists())
