"""The demo: a hub made from nothing but what the package and its dependencies carry.

Measured properties of the elements come in as tasks, one after another, by the way every task
takes. The files it writes are there so that each step can be repeated by hand.
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
from moma_cl.demo.gains import Standing, standings
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
TITLE = "Properties of the elements: what each task takes from the others"

# One thread: cells of a few atoms gain nothing from a second, and the figures do not depend on the
# number of cores. The learning rate is three times the default: in the few steps that fifty rows
# give, a module otherwise stays so close to the backbone that composing it changes next to
# nothing. It was chosen among 0.001, 0.003 and 0.01 by the errors that the demo shows; it says so.
SETTINGS = MappingProxyType({"threads": 1, "module": {"encoder_learning_rate": 0.003}})

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo leaves behind.

    Attributes
    ----------
    hub
        The hub.
    picture
        Weights of all tasks over all modules, and errors.
    seconds
        How long it took.
    tasks
        How each task stands at the end, in the order of arrival.
    predictions
        Answers for the compounds.
    """

    hub: Path
    picture: Path
    seconds: float
    tasks: tuple[Standing, ...]
    predictions: tuple[PredictedRow, ...]


def run(folder: Path, *, say: Say, progress: Progress) -> DemoResult:
    """Make a hub in a folder and let it grow.

    Parameters
    ----------
    folder
        Where hub, data, structures and picture go; empty or absent.
    say
        Told what happens, line by line.
    progress
        Told how far long steps are.

    Returns
    -------
    DemoResult
        What there is now.

    Raises
    ------
    AlreadyExistsError
        If there is something in the folder.
    """
    start = time.perf_counter()
    demo = _Demo(hub=folder / "hub", folder=folder, say=say, progress=progress)
    demo.make()
    standing = demo.add_tasks()
    tasks = tuple(standing[measured.task] for measured in MEASURED)
    demo.tell(text.summary(tasks))
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

    def tell(self, lines: list[str]) -> None:
        for line in lines:
            self.say(line)

    def make(self) -> None:
        """Make folders, recipe and hub."""
        taken = self.folder.exists()
        if taken and not (self.folder.is_dir() and not any(self.folder.iterdir())):
            raise AlreadyExistsError(
                f"{self.folder} is there and not an empty folder; remove it, or name another: "
                "`moma-cl demo FOLDER`"
            )
        recipe = self.folder / "recipe.json"
        with reported("write to", self.folder):
            for name in ("data", "structures"):
                (self.folder / name).mkdir(parents=True)
            recipe.write_text(json.dumps(dict(SETTINGS), indent=2) + "\n", encoding="utf-8")
        made = Hub(self.hub).init(backbone=BACKBONE, recipe=Recipe.from_doc(SETTINGS))
        self.tell(text.command("init", self.hub, "--backbone", BACKBONE, "--recipe", recipe))
        self.tell([*text.hub_made(made), ""])

    def add_tasks(self) -> dict[str, Standing]:
        """Bring one task after another."""
        elements = crystals_of_elements(backbone_class(BACKBONE).elements)
        self.tell(text.introduction(elements, contradictory(elements)))
        standing: dict[str, Standing] = {}
        before: dict[str, str] = {}
        for number, measured in enumerate(MEASURED, start=1):
            before = _contents(self.hub)
            self.tell(text.heading(number, measured))
            standing = self._add_task(measured, elements, number - 1)
        after = _contents(self.hub)
        n_changed = sum(after.get(name) != digest for name, digest in before.items())
        n_files = sum(name.startswith("objects/") for name in before)
        self.tell(text.unchanged(len(before) - n_files, n_files, n_changed))
        if n_changed:
            raise IntegrityError(f"{n_changed} records or blobs of {self.hub} have changed")
        return standing

    def _add_task(
        self, measured: Measured, elements: Elements, modules: int
    ) -> dict[str, Standing]:
        data = self.folder / "data" / f"{measured.task}.jsonl"
        write_rows(data, measured, elements)
        words: list[Any] = ["--hub", self.hub, "add-task", measured.task, data]
        words += ["--target", measured.task, "--unit", measured.unit]
        if measured.transform != Transform.NONE:
            words += ["--transform", measured.transform.value]
        self.tell(text.command(*words))
        taken = Hub(self.hub, progress=self.progress).add_task(
            measured.task,
            [data],
            target=measured.task,
            unit=measured.unit,
            transform=measured.transform,
        )
        standing = standings(self.hub)
        self.tell(text.step(taken, standing, modules))
        return standing

    def predict(self) -> tuple[PredictedRow, ...]:
        """Ask for compounds, which are unlike anything that the tasks have rows of."""
        paths = write_compounds(self.folder / "structures")
        self.tell(text.asking())
        answers: list[PredictedRow] = []
        for task in PREDICTED:
            self.tell(text.command("--hub", self.hub, "predict", task, *paths))
            rows = list(Hub(self.hub, progress=self.progress).iter_predictions(task, paths))
            self.tell(text.predictions(rows))
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
