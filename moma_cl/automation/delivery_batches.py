"""Deliveries that have been read, with what becomes of each, and the rows that are stored together.

Light until a delivery is read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.automation import inbox
from moma_cl.automation.delivery_outcomes import Outcome, of_refusal, of_rows
from moma_cl.automation.inbox import Delivery
from moma_cl.automation.put_away import put_away, unchanged
from moma_cl.datasets.source_files import source_of
from moma_cl.reconciling.pass_actions import Done, PassAction
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.records import Segment
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import TaskState, task_names, task_state
from moma_store.errors import (
    BusyError,
    InvalidInputError,
    MomaError,
    NotFoundError,
    StorageError,
)

if TYPE_CHECKING:
    from moma_cl.backbones.base import Backbone
    from moma_cl.datasets.intake import Intake
    from moma_cl.datasets.stored_rows import StoredRows
    from moma_cl.graphs.cache import ByteCache
    from moma_cl.progress import Progress
    from moma_cl.readers.dispatch import Reader
    from moma_cl.records.task_spec import TaskSpec
    from moma_cl.structures.checks import RowError
    from moma_cl.structures.crystals import Crystal
    from moma_store.store import Store

logger = logging.getLogger(__name__)

KIND = "inbox"

_DELIVERIES_AT_ONCE = 1000  # in one segment
_ROWS_AT_ONCE = 50_000  # of all of them, as their rows are held in memory


class DeliveryError(MomaError):
    """The rows of a delivery could not be added, or it could not be put away; it stays."""

    code = "delivery"
    exit_code = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """Where a content was stored, and under which name it came."""

    segment: str
    name: str


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A delivery that has been read."""

    delivery: Delivery
    origin: dict[str, str]
    seconds: float
    outcome: Outcome | None = None  # none: it is gone, or still being written
    found: Intake | None = None  # rows that it has
    intake: Intake | None = None  # those of them to be stored
    error: DeliveryError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What reads and checks the rows of every delivery."""

    reader: Reader
    backbones: Sequence[type[Backbone]]
    graphs: ByteCache
    progress: Progress

    def check_graphs(self, crystals: Sequence[Crystal]) -> list[RowError | None]:
        """Build the graph of each structure, and say which cannot be."""
        from moma_cl.graphs.checks import check_graphs

        return check_graphs(crystals, self.backbones, self.graphs)


@dataclass(slots=True, kw_only=True)
class Batch:
    """Deliveries of one task whose rows are stored together."""

    store: Store
    tools: Tools
    entries: list[_Entry] = field(default_factory=list)
    n_rows: int = 0
    state: TaskState | None = None
    spec: TaskSpec | None = None
    stored: StoredRows | None = None  # with the rows of this batch
    earlier: dict[str, _Stored] = field(default_factory=dict)  # by digest of the content

    @property
    def is_full(self) -> bool:
        """Whether no more should be read before these rows are stored."""
        return len(self.entries) >= _DELIVERIES_AT_ONCE or self.n_rows >= _ROWS_AT_ONCE

    def another(self) -> Batch:
        """Give an empty batch of the same hub."""
        return Batch(store=self.store, tools=self.tools)

    def read(self, delivery: Delivery) -> None:
        """Read a delivery; what is wrong with it is its own affair."""
        start = time.perf_counter()
        if self.state is None:
            if delivery.task not in task_names(self.store):
                return
            self.state = task_state(self.store, delivery.task)
            self.earlier = _contents_of(self.store, self.state)
        if not unchanged(delivery):
            return
        entry = _Entry(delivery=delivery, origin=source_of(delivery.path), seconds=0.0)
        with _own_affair(entry):
            self._read(entry, self.state)
        entry.seconds = time.perf_counter() - start
        self.entries.append(entry)

    def finished(self) -> list[Done]:
        """Store the rows and put the deliveries away."""
        self._store_rows()
        done = [self._done(entry) for entry in self.entries]
        return [one for one in done if one is not None]

    def _read(self, entry: _Entry, state: TaskState) -> None:
        delivery = entry.delivery
        if self._was_added(entry):
            return
        try:
            intake = self._intake(delivery, state)
        except NotFoundError:
            return  # removed meanwhile
        except InvalidInputError as error:
            entry.outcome = of_refusal(error)
            return
        if not unchanged(delivery):
            return  # written to while it was read
        entry.found = intake
        self._compare(entry, state)

    def _was_added(self, entry: _Entry) -> bool:
        """Say whether the content of a delivery was added before; note that if it was."""
        earlier = self.earlier.get(entry.origin.get("sha256", ""))
        if earlier is None or entry.delivery.replaces:
            return False
        name = "" if earlier.name == entry.delivery.path.name else f" as {earlier.name}"
        entry.outcome = Outcome(
            folder=inbox.DONE,
            text=f"nothing to add, its content was added before{name}",
            figures={"segment": earlier.segment, "rows": 0},
        )
        return True

    def _compare(self, entry: _Entry, state: TaskState) -> None:
        """Compare the rows of a delivery with those stored, and those of this batch so far."""
        if entry.found is None:
            return
        stored = self._stored(state)
        intake = stored.new_rows(entry.found, replace=entry.delivery.replaces)
        entry.outcome = of_rows(intake, replaced=stored.count(intake))
        if intake.ids:
            stored.add(intake)
            entry.intake = intake
            self.n_rows += len(intake.ids)

    def _renew(self) -> None:
        """Compare all again where the task has changed since they were read; without it they stay.

        To be called by the hub's writer.
        """
        before = self.state
        if (
            before is None
            or self.store.ref(RefKind.DATASET.of(before.name)) == before.dataset_digest
        ):
            return
        self.state, self.stored, self.earlier = None, None, {}
        if self.store.ref(RefKind.TASK.of(before.name)) == before.task_digest:
            self.state = task_state(self.store, before.name)
            self.earlier = _contents_of(self.store, self.state)
        for entry in self.entries:
            if entry.found is not None:
                entry.outcome = entry.intake = None
                if self.state is not None and not self._was_added(entry):
                    self._compare(entry, self.state)

    def _intake(self, delivery: Delivery, state: TaskState) -> Intake:
        from moma_cl.datasets import intake
        from moma_cl.graphs.checks import known_elements
        from moma_cl.records.task_spec import TaskSpec

        _check_name(delivery.path)
        self.spec, sources = self.spec or TaskSpec.of(state.task), [delivery.path]
        return intake.read_task_rows(
            sources,
            self.spec,
            elements=known_elements(self.tools.backbones),
            check_graphs=self.tools.check_graphs,
            appended=True,
            rows=self.tools.reader.rows(sources, strict=True),
            progress=lambda rows: self.tools.progress("reading", rows, 0),
        )

    def _stored(self, state: TaskState) -> StoredRows:
        from moma_cl.datasets.stored_rows import StoredRows

        if self.stored is None:
            self.stored = StoredRows.of(self.store, state)
        return self.stored

    def _store_rows(self) -> None:
        """Store the rows of all; if one of them spoils that, the rows of each by themselves."""
        entries = [entry for entry in self.entries if entry.intake is not None]
        if not entries:
            return
        start = time.perf_counter()
        if len(entries) > 1:
            try:
                self._append()
            except (StorageError, BusyError):
                raise
            except Exception:  # noqa: BLE001  whichever it is, the others must not wait for it
                self._store_one_by_one(entries)
        else:
            with _own_affair(entries[0]):
                try:
                    self._append()
                except NotFoundError:
                    entries[0].outcome = None  # the task was removed meanwhile
                except InvalidInputError as error:
                    entries[0].outcome = of_refusal(error)
        for entry in entries:
            entry.seconds += (time.perf_counter() - start) / len(entries)

    def _append(self) -> None:
        """Store the rows of deliveries as one more segment, which names their digests."""
        from moma_cl.datasets import added_rows
        from moma_cl.datasets.stored_rows import joined

        with self.store.writing():
            self._renew()
            entries = [entry for entry in self.entries if entry.intake is not None]
            if not entries or self.state is None:
                return
            intake, counts = joined([entry.intake for entry in entries if entry.intake is not None])
            origins: list[dict[str, Any]] = [entry.origin for entry in entries]
            if len(entries) > 1:
                pairs = zip(origins, counts, strict=True)
                origins = [{**origin, "rows": count} for origin, count in pairs]
            rows = added_rows.segment_rows(self.store, intake, self.state.task)
            added_rows.append_rows(self.store, self.state, intake, rows, origins)

    def _store_one_by_one(self, entries: Sequence[_Entry]) -> None:
        for entry in entries:
            alone = self.another()
            alone.read(entry.delivery)
            alone._store_rows()
            entry.outcome = None
            for read in alone.entries:
                entry.outcome, entry.error = read.outcome, read.error

    def _done(self, entry: _Entry) -> Done | None:
        """Put a delivery away, and say what became of it."""
        start = time.perf_counter()
        delivery, outcome = entry.delivery, entry.outcome
        # If it was written to meanwhile, its content is another, which the next pass adds.
        if entry.error is None and outcome is not None and unchanged(delivery):
            with _own_affair(entry):
                _put_away(delivery, entry.origin, outcome)
        entry.seconds += time.perf_counter() - start
        if entry.error is not None:
            error = entry.error
            logger.error("%s", error.message, extra={"action": HistoryAction.FAIL})
            text = f"[{error.code}] {error.message}"
            return _as_done(entry, PassAction.FAILED, text)
        if outcome is None:
            return None
        refused = outcome.folder == inbox.REFUSED
        action = PassAction.REFUSED if refused else PassAction.ADDED
        text = f"{delivery.shown}: {outcome.text}"
        return _as_done(entry, action, text, outcome.for_mail(delivery))


def _as_done(
    entry: _Entry, action: PassAction, text: str, figures: dict[str, Any] | None = None
) -> Done:
    return Done(
        task=entry.delivery.task,
        action=action,
        kind=KIND,
        text=text,
        seconds=entry.seconds,
        figures=figures or {},
    )


@contextmanager
def _own_affair(entry: _Entry) -> Iterator[None]:
    """Keep an error of the block for the delivery, unless it concerns all."""
    try:
        yield
    except DeliveryError as error:
        entry.error = error
    except (StorageError, BusyError):
        raise
    except MomaError as error:
        entry.error = _stays(entry.delivery, error.message, error)
    except Exception as error:  # noqa: BLE001  one delivery must not stop the others
        entry.error = _stays(entry.delivery, f"{type(error).__name__}: {error}", error)


def _stays(delivery: Delivery, why: str, cause: Exception) -> DeliveryError:
    error = DeliveryError(f"{delivery.shown} stays in the inbox: {why}")
    error.__cause__ = cause
    return error


def _contents_of(store: Store, state: TaskState) -> dict[str, _Stored]:
    """Say of each content that was added where it is, by its digest."""
    return {
        source["sha256"]: _Stored(segment=digest, name=source["name"])
        for digest in state.dataset.segments
        for source in Segment.from_doc(store.record(digest)).sources
        if "sha256" in source
    }


def _check_name(path: Path) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"the name {path.name!r} is not UTF-8: give the file another one",
            code="invalid-input.bad-name",
        ) from error


def _put_away(delivery: Delivery, origin: dict[str, str], outcome: Outcome) -> None:
    try:
        put_away(
            delivery,
            outcome.folder,
            sha256=origin.get("sha256"),
            outcome=outcome.text,
            figures=outcome.figures,
        )
    except StorageError as error:
        raise DeliveryError(
            f"{delivery.shown} was dealt with ({outcome.text}) but stays in the inbox: "
            f"{error.message}"
        ) from error
