"""A year of nights: data through the inbox, new tasks, corrections, kills, overlaps, wrong clocks.

The same year is run twice: undisturbed, and with everything that goes wrong. At the end the hubs
must agree in every derived record, every row must be in exactly once, and a night's cost must not
depend on how many nights there were before.

``python -m benchmarks.simulated_year --nights 20 --seed 1`` runs a shorter one, and prints one
JSON object; with ``--keep FOLDER`` the hubs stay there, each with the cost of its nights so far.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.planned_nights import FIRST_ROWS, Ledger, Night, made_up_row, plan_year
from moma_cl.hub import Hub
from moma_cl.recipe import Recipe, TrainingSettings
from moma_cl.reconciling.pass_actions import PassAction
from moma_cl.records.records import Dataset, ModuleKind, Segment, SegmentRole
from moma_cl.records.refs import RefKind
from moma_cl.workspace.dataset_rows import DatasetRows
from moma_store.errors import AlreadyExistsError, BusyError, NotFoundError
from moma_store.store import Store

NIGHTS = 365


@dataclass(slots=True, kw_only=True)
class Year:
    """One run of the year over one hub."""

    hub: Path
    inputs: Path
    disturbed: bool
    draw: random.Random
    costs: list[dict[str, Any]] = field(default_factory=list)
    kills: int = 0
    overlaps: int = 0
    _usual: float = 0.5  # seconds that a pass lately took

    def live(self, nights: list[Night]) -> None:
        """Go through all nights."""
        training = TrainingSettings(epochs=1, batch_size=64)
        recipe = Recipe(
            threads=1, finetune=training, module=TrainingSettings(epochs=1, batch_size=64)
        )
        self._child(lambda: Hub(self.hub).init(backbones=["cgcnn"], recipe=recipe))
        for night in nights:
            self._live_through(night)

    def _live_through(self, night: Night) -> None:
        start, processor = time.perf_counter(), _children()
        if night.new_task is not None:
            self._surely(lambda: self._add_task(str(night.new_task)))
            self._surely(lambda: self._update(night))
        for place, (folder, name, rows) in enumerate(night.deliveries):
            self._deliver(folder, name, rows, first=place == 0)
        self._surely(lambda: self._update(night))
        if night.retracted is not None:
            task, ids = night.retracted
            self._surely(lambda: self._retract(task, ids))
            self._surely(lambda: self._update(night))
        rows = sum(len(rows) for _, _, rows in night.deliveries)
        self._count(night, rows, time.perf_counter() - start, _children() - processor)

    def _count(self, night: Night, rows: int, seconds: float, processor: float) -> None:
        kind = "new task" if night.new_task else "data" if rows or night.retracted else "idle"
        cost = {"night": night.number, "kind": kind, "rows": rows, "seconds": seconds}
        last = json.loads((self.hub / "cost.json").read_text())
        self.costs.append({**cost, "processor": processor, **last})
        with (self.hub.parent / "nights.jsonl").open("a") as file:
            file.write(json.dumps(self.costs[-1]) + "\n")

    def _add_task(self, name: str) -> None:
        file = self.inputs / f"{name}.jsonl"
        rows = [made_up_row(name, number) for number in range(FIRST_ROWS)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        kind = ModuleKind.FULL if int(name[-2:]) % 3 == 0 else ModuleKind.NONE
        try:
            Hub(self.hub).add_task(
                name, [file], target="value", unit="eV", module=kind, compose=False
            )
        except AlreadyExistsError:  # killed after that
            return

    def _retract(self, task: str, ids: tuple[str, ...]) -> None:
        try:
            Hub(self.hub).retract(task, ids, compose=False)
        except NotFoundError:  # killed after that
            return

    def _update(self, night: Night) -> None:
        done = Hub(self.hub).update(settle=0.0)
        cost = {
            "intake": sum(d.seconds for d in done if d.kind == "inbox"),
            "derived": sum(d.action == PassAction.DERIVED for d in done),
            "deriving": sum(d.seconds for d in done if d.action == PassAction.DERIVED),
        }
        failed = [
            d
            for d in done
            if d.action in {PassAction.FAILED, PassAction.REFUSED, PassAction.UNCLAIMED}
        ]
        if failed:
            raise RuntimeError(f"night {night.number}: {failed[0]}")
        (self.hub / "cost.json").write_text(json.dumps(cost))

    def _deliver(self, folder: str, name: str, rows: list[dict[str, Any]], *, first: bool) -> None:
        """Write elsewhere and rename, as one should, or, disturbed, as it comes."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        target = self.hub / "inbox" / folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.disturbed and first and self.draw.random() < 0.3:
            target.write_text(text[: len(text) - 9])  # half written when a pass looks
            self._child(self._update_quietly)
        part = target.with_name(f".{name}")
        part.write_text(text)
        part.rename(target)
        if self.disturbed:
            odd = time.time() + self.draw.choice((-3e8, 0.0, 3e8))
            os.utime(target, (odd, odd))

    def _update_quietly(self) -> None:
        Hub(self.hub).update(settle=0.0)

    def _surely(self, work: Callable[[], object]) -> None:
        """Do it; disturbed, after being killed up to three times, and with another at it."""
        while self.disturbed and self.draw.random() < 0.4:
            self._killed(work)
        if self.disturbed and self.draw.random() < 0.2:
            self._overlapping(work)
        start = time.perf_counter()
        self._child(work)
        self._usual = 0.5 * self._usual + 0.5 * (time.perf_counter() - start)

    def _killed(self, work: Callable[[], object]) -> None:
        process = self._start(work)
        process.join(self.draw.random() * 1.5 * self._usual)
        if process.is_alive():
            os.kill(int(process.pid or 0), signal.SIGKILL)
            self.kills += 1
        process.join()

    def _overlapping(self, work: Callable[[], object]) -> None:
        processes = [self._start(work), self._start(self._update_quietly)]
        for process in processes:
            process.join()
        self.overlaps += 1

    def _child(self, work: Callable[[], object]) -> None:
        process = self._start(work)
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"exit {process.exitcode}")

    def _start(self, work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
        # Forked, since what they import would take longer than what they do.
        shift = self.draw.choice((-3650, 0, 3650)) if self.disturbed else 0
        process = multiprocessing.get_context("fork").Process(target=_run, args=(work, shift))
        process.start()
        return process


def _children() -> float:
    """Processor time of all processes that have ended, s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(work: Callable[[], object], days: int) -> None:
    """Do the work of one process, by a clock that may be wrong."""
    defaults = Store.open.__func__.__kwdefaults__  # type: ignore[attr-defined]
    defaults["clock"] = lambda: datetime.now(UTC) + timedelta(days=days)
    try:
        work()
    except BusyError:
        os._exit(5)
    except BaseException as error:  # noqa: BLE001  the parent sees the status only
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def compare(nights: int, seed: int, folder: Path) -> dict[str, Any]:
    """Run the year twice and compare the hubs."""
    planned, ledger = plan_year(nights, seed)
    years = []
    for disturbed in (False, True):
        home = folder / ("disturbed" if disturbed else "undisturbed")
        home.mkdir()
        year = Year(
            hub=home / "hub",
            inputs=folder,
            disturbed=disturbed,
            draw=random.Random(seed + 1),
        )
        year.live(planned)
        years.append(year)
    calm, wild = years
    return {
        "nights": nights,
        "tasks": len(ledger.rows),
        "rows": ledger.written,
        "kills": wild.kills,
        "overlaps": wild.overlaps,
        **_differences(_derived(calm.hub), _derived(wild.hub)),
        "rows_wrong": sum(_rows_wrong(year.hub, ledger) for year in years),
        "left_in_inbox": sum(len(_left(year.hub)) for year in years),
        "seconds": round(sum(sum(c["seconds"] for c in year.costs) for year in years), 1),
        "linear": _linear(calm.costs),
        "costs": _table(calm.costs),
    }


def _differences(calm: dict[str, str], wild: dict[str, str]) -> dict[str, int]:
    return {
        "derived": len(calm),
        "only_undisturbed": len(calm.keys() - wild.keys()),
        "only_disturbed": len(wild.keys() - calm.keys()),
        "different": sum(calm[key] != wild[key] for key in calm.keys() & wild.keys()),
    }


def _derived(hub: Path) -> dict[str, str]:
    """Give all results by key; drift goes by champions, which depend on the order of events."""
    with Store.open(hub) as store:
        memos = store.memos()
        refs = (
            store.refs(RefKind.COMPOSITION.prefix)
            | store.refs(RefKind.MODULE.prefix)
            | store.refs(RefKind.DATASET.prefix)
        )
    found = {key: memo.result for key, memo in memos.items() if not key.startswith("drift:")}
    return found | refs


def _rows_wrong(hub: Path, ledger: Ledger) -> int:
    """Count rows that are missing, spare, not what was written last, or stored more than once."""
    wrong = stored = 0
    with Store.open(hub) as store:
        contents = DatasetRows(store=store)
        for task, expected in ledger.rows.items():
            digest = store.refs(RefKind.DATASET.prefix)[RefKind.DATASET.of(task)]
            rows = contents.of(digest)
            found = dict(zip(rows.ids, rows.targets.tolist(), strict=True))
            wrong += sum(found.get(i) != expected.get(i) for i in found.keys() | expected.keys())
            for segment in Dataset.from_doc(store.record(digest)).segments:
                record = Segment.from_doc(store.record(segment))
                if record.role is SegmentRole.ROWS:
                    stored += len(contents.segment(segment).ids)
    return wrong + abs(stored - ledger.written)


def _left(hub: Path) -> list[Path]:
    places = [*(hub / "inbox").glob("*"), *(hub / "inbox").glob("*/replace")]
    return [file for place in places for file in place.iterdir() if file.is_file()]


def _linear(costs: list[dict[str, Any]]) -> dict[str, float]:
    """Fit a night's processor time by what arrived, and say what it grew by beyond that."""
    columns = {
        "s_new_task": [float(cost["kind"] == "new task") for cost in costs],
        "s_data": [float(cost["kind"] == "data") for cost in costs],
        "s_row": [float(cost["rows"]) for cost in costs],
        "s_derivation": [float(cost["derived"]) for cost in costs],
        "s_nothing": [1.0] * len(costs),
        "s_more_at_the_end": [cost["night"] / max(1, len(costs) - 1) for cost in costs],
    }
    design = np.stack(list(columns.values()), axis=1)
    target = np.array([cost["processor"] for cost in costs])
    found = np.linalg.lstsq(design, target)[0]
    unexplained = np.var(target - design @ found) / np.var(target)
    named = {name: round(float(value), 4) for name, value in zip(columns, found, strict=True)}
    return {**named, "explained": round(1.0 - float(unexplained), 3)}


def _table(costs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sum up the costs by quarter of the year and kind of night."""
    quarter = max(1, len(costs) // 4)
    table = []
    for kind in ("idle", "data", "new task"):
        for number in range(4):
            part = costs[number * quarter : (number + 1) * quarter if number < 3 else None]
            chosen = [cost for cost in part if cost["kind"] == kind]
            if not chosen:
                continue
            rows = sum(cost["rows"] for cost in chosen)
            table.append(
                {
                    "kind": kind,
                    "quarter": number + 1,
                    "nights": len(chosen),
                    "seconds": round(mean(cost["seconds"] for cost in chosen), 3),
                    "processor": round(mean(cost["processor"] for cost in chosen), 3),
                    "rows": rows,
                    "intake_ms_per_row": round(
                        1e3 * sum(cost["intake"] for cost in chosen) / max(1, rows), 2
                    ),
                    "derivations": round(mean(cost["derived"] for cost in chosen), 1),
                    "deriving": round(mean(cost["deriving"] for cost in chosen), 3),
                }
            )
    return table


def run() -> list[dict[str, Any]]:
    """Simulate a whole year."""
    with tempfile.TemporaryDirectory() as folder:
        found = compare(NIGHTS, 1, Path(folder))
    wrong = found["different"] + found["only_undisturbed"] + found["only_disturbed"]
    rows = [
        _line(f"{found['nights']} nights, {found['kills']} kills: derived records that differ",
              wrong, found["derived"], "records", "0", holds=wrong == 0),
        _line("rows missing, spare or in twice", found["rows_wrong"], found["rows"], "rows", "0",
              holds=found["rows_wrong"] == 0),
        _line("deliveries left in the inbox", found["left_in_inbox"], None, "files", "0",
              holds=found["left_in_inbox"] == 0),
        _line("both runs", found["seconds"], None, "s", None, holds=None),
    ]  # fmt: skip
    for cost in found["costs"]:
        name = f"{cost['kind']} night, quarter {cost['quarter']}, {cost['derivations']} derivations"
        rows.append(_line(name, cost["processor"], cost["seconds"], "s", None, holds=None))
    for name, value in found["linear"].items():
        rows.append(_line(f"a night's processor time: {name}", value, None, "", None, holds=None))
    return rows


def _line(
    name: str, ours: float, theirs: float | None, unit: str, bar: str | None, *, holds: bool | None
) -> dict[str, Any]:
    return {
        "name": name, "ours": ours, "theirs": theirs, "unit": unit, "ratio": None, "bar": bar,
        "holds": holds,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--nights", type=int, default=NIGHTS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        home = given.keep or Path(place)
        home.mkdir(parents=True, exist_ok=True)
        print(json.dumps(compare(given.nights, given.seed, home), indent=1))
