"""The demo: a hub made from data that the package and its dependencies contain.

Measured properties of the elements are added as tasks, one after another, in the same way as every
task. The demo writes its files so that each step can be repeated by hand.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from moma_cl.backbones.registry import backbone_class
from moma_cl.commands.predictions import PredictedRow
from moma_cl.core.devices import CPU
from moma_cl.demo import text
from moma_cl.demo.data import (
    MEASURED,
    Elements,
    Measured,
    contradictory,
    crystals_of_elements,
    write_compounds,
    write_rows,
)
from moma_cl.demo.gains import TaskSummary, task_summaries
from moma_cl.demo.picture import weights_picture
from moma_cl.hub import Hub
from moma_cl.progress import Progress
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_store.errors import AlreadyExistsError, IntegrityError
from moma_store.files import reported
from moma_store.records import canonical_json
from moma_store.store import Store

BACKBONE = "chgnet"
PREDICTED = ("bulk_modulus", "melting_point")
TITLE = "Properties of the elements: what each task learns from the others"

# One thread, on the CPU: cells of a few atoms gain nothing from a second, nor from a GPU, and the
# figures do not depend on the machine. The learning rate is three times the default: in the few
# steps that fifty rows allow, a module otherwise stays so close to the backbone that composing it
# changes almost nothing. It was chosen among 0.001, 0.003 and 0.01 by the errors that the demo
# shows, which the demo says.
SETTINGS = MappingProxyType({"threads": 1, "module": {"encoder_learning_rate": 0.003}})

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """The results of the demo.

    Attributes
    ----------
    hub
        The hub.
    picture
        Weights of all tasks over all modules, and errors.
    seconds
        How long it took.
    tasks
        State of each task at the end, in the order they were added.
    predictions
        Answers for the compounds.
    """

    hub: Path
    picture: Path
    seconds: float
    tasks: tuple[TaskSummary, ...]
    predictions: tuple[PredictedRow, ...]


def run(folder: Path, *, say: Say, progress: Progress) -> DemoResult:
    """Make a hub in a folder and let it grow.

    Parameters
    ----------
    folder
        Where hub, data, structures and picture go; empty or absent.
    say
        Called with each line of the account of what happens.
    progress
        Called with how far long steps are.

    Returns
    -------
    DemoResult
        The hub, the picture and the results.

    Raises
    ------
    AlreadyExistsError
        If there is something in the folder.
    """
    start = time.perf_counter()
    demo = _Demo(hub=folder / "hub", folder=folder, say=say, progress=progress)
    demo.make()
    summaries = demo.add_tasks()
    tasks = tuple(summaries[measured.task] for measured in MEASURED)
    demo.say_lines(text.summary(tasks))
    answers = demo.predict()
    picture = folder / "weights.png"
    weights_picture(tasks, picture, title=TITLE)
    return DemoResult(
        hub=demo.hub,
        picture=picture,
        seconds=time.perf_counter() - start,
        tasks=tasks,
        predictions=answers,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demo:
    hub: Path
    folder: Path
    say: Say
    progress: Progress

    def say_lines(self, lines: list[str]) -> None:
        for line in lines:
            self.say(line)

    def make(self) -> None:
        """Make folders, recipe and hub."""
        exists = self.folder.exists()
        if exists and not (self.folder.is_dir() and not any(self.folder.iterdir())):
            raise AlreadyExistsError(
                f"{self.folder} is there and not an empty folder; remove it, or name another: "
                "`moma-cl demo FOLDER`"
            )
        recipe = self.folder / "recipe.json"
        with reported("write to", self.folder):
            for name in ("data", "structures"):
                (self.folder / name).mkdir(parents=True)
            recipe.write_text(json.dumps(dict(SETTINGS), indent=2) + "\n", encoding="utf-8")
        made = Hub(self.hub).init(backbones=[BACKBONE], recipe=Recipe.from_doc(SETTINGS))
        self.say_lines(text.command("init", self.hub, "--backbone", BACKBONE, "--recipe", recipe))
        self.say_lines([*text.hub_made(made), ""])

    def add_tasks(self) -> dict[str, TaskSummary]:
        """Add one task after another."""
        elements = crystals_of_elements(backbone_class(BACKBONE).elements)
        self.say_lines(text.introduction(elements, contradictory(elements)))
        summaries: dict[str, TaskSummary] = {}
        before: dict[str, str] = {}
        for number, measured in enumerate(MEASURED, start=1):
            before = _contents(self.hub)
            self.say_lines(text.heading(number, measured))
            summaries = self._add_task(measured, elements, number - 1)
        after = _contents(self.hub)
        n_changed = sum(after.get(name) != digest for name, digest in before.items())
        n_files = sum(name.startswith("objects/") for name in before)
        self.say_lines(text.unchanged(len(before) - n_files, n_files, n_changed))
        if n_changed:
            raise IntegrityError(f"{n_changed} records or blobs of {self.hub} have changed")
        return summaries

    def _add_task(
        self, measured: Measured, elements: Elements, modules: int
    ) -> dict[str, TaskSummary]:
        data = self.folder / "data" / f"{measured.task}.jsonl"
        write_rows(data, measured, elements)
        words: list[Any] = ["--hub", self.hub, "add-task", measured.task, data]
        words += ["--target", measured.task, "--unit", measured.unit]
        if measured.transform != Transform.NONE:
            words += ["--transform", measured.transform.value]
        self.say_lines(text.command(*words))
        added = Hub(self.hub, progress=self.progress, device=CPU).add_task(
            measured.task,
            [data],
            target=measured.task,
            unit=measured.unit,
            transform=measured.transform,
        )
        summaries = task_summaries(self.hub)
        self.say_lines(text.step(added, summaries, modules))
        return summaries

    def predict(self) -> tuple[PredictedRow, ...]:
        """Predict for compounds, which are unlike all rows of the tasks."""
        paths = write_compounds(self.folder / "structures")
        self.say_lines(text.asking())
        answers: list[PredictedRow] = []
        for task in PREDICTED:
            self.say_lines(text.command("--hub", self.hub, "predict", task, *paths))
            rows = list(
                Hub(self.hub, progress=self.progress, device=CPU).iter_predictions(task, paths)
            )
            self.say_lines(text.predictions(rows))
            answers += rows
        return tuple(answers)


def _contents(hub: Path) -> dict[str, str]:
    """Hash every record and every blob file of a hub."""
    return dict(_hashed(hub))


def _hashed(hub: Path) -> Iterator[tuple[str, str]]:
    with Store.open(hub) as store, store.snapshot() as view:
        for digest in view.records():
            content = canonical_json(view.record(digest))
            yield f"records/{digest}", hashlib.sha256(content).hexdigest()
    for path in sorted((hub / "objects").rglob("*.zip")):
        yield path.relative_to(hub).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()
