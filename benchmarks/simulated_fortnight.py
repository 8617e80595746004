"""A fortnight of nights with the faults of a laboratory: each is told that night, none is served.

Every night one delivery lies in the inbox of a cross-validated task, and one pass is made. What the
mail must say is known beforehand; so is what the predictor must answer for crystals that nobody
delivers, which no fault may change by more than the predictor errs anyway.

``python -m benchmarks.simulated_fortnight`` prints one JSON object, and the mails.
"""

from __future__ import annotations

import csv
import io
import json
import re
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planned_nights import made_up_row
from benchmarks.simulated_year import _line
from moma_cl.automation import conditions, notices
from moma_cl.hub import Hub
from moma_cl.recipe import Recipe, TrainingSettings

FIRST_ROWS = 60
NIGHTLY = 6
PROBES = 40
NUMBERS = np.random.default_rng(0).permutation(FIRST_ROWS + 14 * NIGHTLY + PROBES).tolist()
"""Of the crystals, in the order in which they are measured; the probes never are."""

EV_IN_KJ_PER_MOL = 96.485
TASK = "task_01"
MAILS = Path(__file__).parent / "results" / "simulated_fortnight.txt"

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One night.

    Attributes
    ----------
    fault
        What is wrong with the delivery; empty for a good one.
    file
        Name of the delivery, below the task's folder.
    content
        What it holds, or what makes that from the night's own good rows.
    told
        What the mail must say; nothing for a night without one.
    exit_code
        How the pass must exit.
    held
        Whether the champion must stay.
    cure
        What somebody does the next morning.
    """

    fault: str
    file: str
    content: Callable[[Rows], str] | str
    told: tuple[str, ...] = ()
    exit_code: int = 0
    held: bool = False
    cure: Callable[[Hub, Rows], object] | None = None


def _lines(rows: Rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _table(rows: Rows, *, moved: bool = False) -> str:
    """Write a CSV table; with a moved column, values stand under the name of their neighbour."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["id", "value", "volume", "structure"])
    for row in rows:
        volume = abs(np.linalg.det(row["structure"]["lattice"]))
        figures = [row["value"], volume]
        structure = json.dumps(row["structure"])
        writer.writerow([row["id"], *(reversed(figures) if moved else figures), structure])
    return file.getvalue()


def _in_kj_per_mol(rows: Rows) -> Rows:
    return [{**row, "value": EV_IN_KJ_PER_MOL * row["value"]} for row in rows]


def _with_silver(rows: Rows) -> Rows:
    for row in rows:
        row["structure"]["species"][0] = "Ag"
    return rows


def _mended() -> Rows:
    row = made_up_row(TASK, NUMBERS[3])
    return [{**row, "value": row["value"] + 0.004}]


def _retract(hub: Hub, rows: Rows) -> object:
    return hub.retract(TASK, [row["id"] for row in rows])


def _restore(hub: Hub, rows: Rows) -> object:
    del rows
    return hub.add_data(TASK, _rows(0), replace=True)


def _confirm(hub: Hub, rows: Rows) -> object:
    del rows
    return hub.confirm(TASK)


def nights() -> list[Night]:
    """List the nights."""
    same = _lines(_rows(0))
    return [
        Night(fault="", file="night-00.jsonl", content=_lines),
        Night(fault="wrong unit", file="night-01.jsonl", held=True, exit_code=notices.DRIFT,
              content=lambda rows: _lines(_in_kj_per_mol(rows)), cure=_retract,
              told=("promotion held", "of night-01.jsonl", "another unit?", "moma-cl confirm")),
        Night(fault="half a file of JSON lines", file="night-02.jsonl", exit_code=notices.REFUSED,
              content=lambda rows: _lines(rows)[:-40],
              told=("night-02.jsonl is left alone: its end is cut off",)),
        Night(fault="", file="night-02.jsonl", content=_lines(_rows(2))),
        Night(fault="twice the same file", file="night-04.jsonl", content=same,
              told=("night-04.jsonl: nothing to add, its content was added before as night-00",)),
        Night(fault="a correction as if it were new rows", file="night-05.jsonl",
              content=_lines(_mended()), exit_code=notices.REFUSED,
              told=("1 of 1 row refused", f"already-stored, e.g. r-{NUMBERS[3]}", "/replace/")),
        Night(fault="a correction", file="replace/night-06.jsonl",
              content=_lines(_mended()), told=("1 stored row replaced",)),
        Night(fault="a correction in the wrong unit", file="replace/night-07.jsonl", held=True,
              content=_lines(_in_kj_per_mol(_rows(0))), exit_code=notices.DRIFT,
              told=("6 stored rows replaced", "promotion held", "another unit?"),
              cure=_restore),
        Night(fault="a new element", file="night-08.jsonl", held=True, exit_code=notices.DRIFT,
              content=lambda rows: _lines(_with_silver(rows)),
              told=("elements that no earlier row has: Ag",),
              cure=_confirm),
        Night(fault="an empty file", file="night-09.jsonl", content="",
              exit_code=notices.REFUSED, told=("night-09.jsonl is left alone: it is empty",)),
        Night(fault="a table with a moved column", file="night-10.csv", held=True,
              content=lambda rows: _table(rows, moved=True), exit_code=notices.DRIFT, cure=_retract,
              told=("promotion held", "in night-10.csv")),
        Night(fault="half a table", file="night-11.csv", exit_code=notices.REFUSED,
              content=lambda rows: _table(rows)[:-60],
              told=("1 of 6 rows refused, 5 added", "never closed")),
        Night(fault="one row in the wrong unit", file="night-12.jsonl", held=True,
              content=lambda rows: _lines(_in_kj_per_mol(rows[:1])), exit_code=notices.DRIFT,
              told=("promotion held", "the new rows"),
              cure=lambda hub, rows: _retract(hub, rows[:1])),
        Night(fault="", file="night-13.csv", content=_table),
    ]  # fmt: skip


def _rows(night: int) -> Rows:
    first = FIRST_ROWS + NIGHTLY * night
    return [made_up_row(TASK, number) for number in NUMBERS[first : first + NIGHTLY]]


def live(folder: Path) -> dict[str, Any]:
    """Live through all nights; give what was not told, or served, with all mails."""
    training = TrainingSettings(epochs=1, batch_size=64)
    hub = Hub(folder / "lab-hub")
    hub.init(backbones=["cgcnn"], recipe=Recipe(threads=1, finetune=training, module=training))
    first = [made_up_row(TASK, number) for number in NUMBERS[:FIRST_ROWS]]
    hub.add_task(TASK, first, target="value", unit="eV", module="none")
    probes = [made_up_row(TASK, number) for number in NUMBERS[-PROBES:]]
    promised = _error(hub, probes)
    lived = [_live_through(hub, number, night, probes) for number, night in enumerate(nights())]
    return {
        "nights": len(lived),
        "faults": sum(bool(night["fault"]) for night in lived),
        "untold": [night["file"] for night in lived if not night["told"]],
        "needless_mails": [n["file"] for n in lived if not n["fault"] and n["mail"]],
        "served": [night["file"] for night in lived if night["served"]],
        "wrong_exit_codes": [night["file"] for night in lived if not night["exits_right"]],
        "told_again": sum(night["told_again"] for night in lived),
        "first_error": promised,
        "largest_error": max(night["error"] for night in lived),
        "mails": [_anonymous(night["mail"], hub.path) for night in lived if night["mail"]],
    }


def _live_through(hub: Hub, number: int, night: Night, probes: Rows) -> dict[str, Any]:
    rows = _rows(number)
    target = hub.path / "inbox" / TASK / night.file
    target.parent.mkdir(exist_ok=True)
    content = night.content
    target.write_text(content if isinstance(content, str) else content(rows))
    before = hub.task(TASK).champion
    mail, exit_code = _pass(hub)
    again, _ = _pass(hub)
    lived = {
        "file": night.file,
        "fault": night.fault,
        "mail": mail,
        "told": all(part in mail for part in night.told) and bool(mail) == bool(night.told),
        "told_again": bool(again),
        "exits_right": exit_code == night.exit_code,
        "served": night.held and hub.task(TASK).champion != before,
        "error": _error(hub, probes),
    }
    if night.cure is not None:
        night.cure(hub, rows)
        lived["error"] = max(lived["error"], _error(hub, probes))
    return lived


def _pass(hub: Hub) -> tuple[str, int]:
    """Make a pass as `moma-cl update` does; give its mail and exit code."""
    done = hub.update(settle=0.0)
    notice = notices.notice_of(hub.path, done)
    conditions.remember(hub.path, done)
    return ("" if notice is None else notice.text), notices.exit_code(done)


def _error(hub: Hub, probes: Rows) -> float:
    """Give the mean absolute error of what is answered now, eV."""
    answers = hub.predict(TASK, probes)
    pairs = zip(answers, probes, strict=True)
    return float(np.mean([abs(float(answer.value or 0.0) - row["value"]) for answer, row in pairs]))


def _anonymous(mail: str, hub: Path) -> str:
    mail = mail.replace(str(hub.absolute()), "/data/lab-hub").replace(socket.gethostname(), "lab-7")
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "2026-11-28 02:30 UTC", mail)


def run() -> list[dict[str, Any]]:
    """Simulate the fortnight and keep its mails."""
    with tempfile.TemporaryDirectory() as folder:
        found = live(Path(folder))
    MAILS.write_text(("\n\n" + 72 * "-" + "\n\n").join(found["mails"]) + "\n", encoding="utf-8")
    zero = {
        "faults that were not told that night": "untold",
        "champions that learned a fault and answered": "served",
        "good nights with a mail": "needless_mails",
        "wrong exit codes": "wrong_exit_codes",
    }
    lines = [
        _line(name, len(found[key]), found["nights"], "nights", "0", holds=not found[key])
        for name, key in zero.items()
    ]
    again, largest, first = found["told_again"], found["largest_error"], found["first_error"]
    return [
        *lines,
        _line("mails that say again what was said", again, None, "mails", "0", holds=again == 0),
        _line("largest error of the answers on any night; on the first", largest, first, "eV",
              "<= 2 x", holds=largest <= 2 * first),
    ]  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        result = live(Path(place))
    print("\n\n".join(result.pop("mails")))
    print(json.dumps(result, indent=1))
