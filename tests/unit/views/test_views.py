"""Listings, on hubs whose records are written by hand."""

import pytest

from moma_cl.recipe import Recipe
from moma_cl.records.records import (
    Calibration,
    Composition,
    Dataset,
    Grouping,
    Method,
    Module,
    ModuleKind,
    Predictor,
    Segment,
    SegmentRole,
    Task,
)
from moma_cl.views import modules, tasks
from moma_cl.views.log import log
from moma_cl.views.show import show
from moma_store.errors import InvalidInputError, NotFoundError
from moma_store.records import BlobLink
from tests.helpers.processes import run_python
from tests.helpers.stores import new_store


class Hub:
    """A hub in the making."""

    def __init__(self, path):
        self.path = path
        self.store = new_store(path)
        with self.store.transaction("init") as transaction:
            hub = transaction.put_record({"kind": "hub", "format": 1, "salt": "mine"})
            transaction.move_ref("hub", hub, expected=None)
            self.backbone = transaction.put_record({"kind": "backbone", "format": 1})
            transaction.move_ref("backbones/cgcnn", self.backbone, expected=None)
        self.blob = self._blob()

    def _blob(self) -> BlobLink:
        import numpy as np

        return self.store.put_blob({"parameters": np.zeros(3, np.float32)}, {"kind": "test"})

    def move(self, action, task, **records):
        """Point refs of a task at records; a ref whose record is None is removed.

        Compositions and modules are those of the backbone.
        """
        with self.store.transaction(action, {"task": task}) as transaction:
            for kind, record in records.items():
                digest = None if record is None else transaction.put_record(record.to_doc())
                on = "@cgcnn" if kind in {"compositions", "modules"} else ""
                ref = f"{kind}/{task}{on}"
                transaction.move_ref(ref, digest, expected=transaction.ref(ref))

    def put(self, record) -> str:
        with self.store.transaction("test") as transaction:
            return transaction.put_record(record.to_doc())

    def add_task(self, name, *, n_rows=9):
        task = Task(
            name=name,
            property=name,
            target=name,
            unit="eV",
            transform="none",
            module=ModuleKind.FULL,
            grouping=Grouping.FORMULA,
            fold_column=None,
        )
        segment = Segment(
            role=SegmentRole.ROWS, blob=self.blob, n_rows=n_rows, sources=(), refused=2
        )
        dataset = Dataset(
            segments=(self.put(segment),),
            previous=None,
            n_rows=n_rows,
            n_train=n_rows,
            n_validation=0,
            n_held_out=0,
        )
        self.move("add-task", name, tasks=task, datasets=dataset, recipes=Recipe())

    def train(self, name, *, epochs) -> str:
        module = Module(
            backbone=self.backbone,
            module=ModuleKind.FULL,
            property=name,
            dataset=None,
            blob=self.blob,
            n_train=9,
            n_validation=1,
            validation_mae=0.1,
            unit="eV",
            epochs=epochs,
            settings={},
            made_by={},
            source={},
        )
        self.move("module", name, modules=module)
        return self.store.ref(f"modules/{name}@cgcnn")

    def compose(self, name, weights) -> str:
        composition = Composition(
            backbone=self.backbone,
            dataset=self.store.ref(f"datasets/{name}"),
            module=ModuleKind.FULL,
            modules=tuple(weights),
            weights=tuple(weights.values()),
            backbone_weight=1 - sum(weights.values()),
            objective=0.1,
            backbone_objective=0.2,
            duality_gap=0.0,
            n_candidates=3,
            excluded={},
        )
        self.move("compose", name, compositions=composition)
        return self.store.ref(f"compositions/{name}@cgcnn")

    def promote(self, name, composition):
        predictor = Predictor(
            task=self.store.ref(f"tasks/{name}"),
            dataset=self.store.ref(f"datasets/{name}"),
            compositions=(composition,),
            learners=(),
            blob=self.blob,
            method=Method.MEAN,
            n_train=9,
            calibration=Calibration.RANGE,
            validation_mae=0.25,
            validation_maes={},
            held_out_mae=None,
            held_out_maes={},
            settings={},
            made_by={},
        )
        self.move("promote", name, predictors=predictor)


@pytest.fixture
def hub(tmp_path):
    made = Hub(tmp_path / "hub")
    yield made
    made.store.close()


def test_a_task_without_a_predictor_is_listed_with_gaps(hub):
    hub.add_task("gap")
    (task,) = tasks.tasks(hub.path)
    assert (task.name, task.unit, task.rows) == ("gap", "eV", 9)
    assert task.folds == {"train": 9, "validation": 0, "held-out": 0}
    assert (task.champion, task.method, task.validation_mae) == (None,) * 3
    assert (task.compositions, task.modules) == ((), {})


def test_a_composition_names_its_modules_heaviest_first_and_also_replaced_ones(hub):
    for name in ("a", "b", "gap"):
        hub.add_task(name)
    old, b = hub.train("a", epochs=1), hub.train("b", epochs=2)
    composition = hub.compose("gap", {old: 0.25, b: 0.5})
    hub.promote("gap", composition)
    new = hub.train("a", epochs=3)
    task = tasks.task(hub.path, "gap")
    (on,) = task.compositions
    assert [(part.module, part.weight) for part in on.modules] == [("b", 0.5), ("a", 0.25)]
    assert (on.backbone, on.backbone_weight) == ("cgcnn", 0.25)
    assert (task.method, task.validation_mae, task.calibration) == ("mean", 0.25, "range")
    listed = {module.name: module for module in modules.modules(hub.path)}
    assert (listed["a"].version, listed["a"].digest, listed["a"].used_by) == (2, new, {})
    assert (listed["b"].version, listed["b"].used_by) == (1, {"gap": 0.5})
    assert listed["b"].bytes == hub.blob.n_bytes


def test_a_task_that_is_removed_and_added_again_begins_anew(hub):
    hub.add_task("a")
    hub.train("a", epochs=1)
    hub.train("a", epochs=2)
    hub.move("remove-task", "a", tasks=None, datasets=None, recipes=None, modules=None)
    assert tasks.tasks(hub.path) == []
    assert modules.modules(hub.path) == []
    hub.add_task("a")
    hub.train("a", epochs=3)
    (module,) = modules.modules(hub.path)
    assert module.version == 1
    newest = next(entry for entry in log(hub.path) if entry.action == "add-task")
    assert tasks.task(hub.path, "a").created == newest.at


def test_show_gives_a_task_with_all_that_belongs_to_it(hub):
    hub.add_task("a")
    hub.add_task("gap")
    digest = hub.train("a", epochs=1)
    hub.promote("gap", hub.compose("gap", {digest: 0.5}))
    shown = show(hub.path, "gap")
    assert shown.kind == "task"
    assert shown.document["dataset"]["segments"][0]["refused"] == 2
    assert shown.document["compositions"]["cgcnn"]["by_name"] == {"a": 0.5}
    assert shown.document["predictor"]["method"] == "mean"
    assert shown.document["modules"] == {}
    assert shown.refs["predictors/gap"][-1]["digest"] == tasks.task(hub.path, "gap").champion
    assert show(hub.path, "a").used_by == {"gap@cgcnn": 0.5}


def test_show_finds_a_record_by_ref_and_by_the_beginning_of_its_digest(hub):
    hub.add_task("a")
    digest = hub.train("a", epochs=1)
    by_ref = show(hub.path, "modules/a@cgcnn")
    by_digest = show(hub.path, digest[:6].upper())
    assert by_ref.document == by_digest.document == hub.store.record(digest)
    assert list(by_digest.refs) == ["modules/a@cgcnn"]


def test_show_finds_a_module_that_is_no_task_by_its_name(hub):
    hub.add_task("a")
    digest = hub.train("a", epochs=1)
    with hub.store.transaction("add-module") as transaction:
        transaction.move_ref("modules/adopted@cgcnn", digest, expected=None)
    shown = show(hub.path, "adopted")
    assert (shown.kind, shown.digest) == ("module", digest)


def test_show_refuses_what_is_ambiguous_and_guesses_what_is_mistyped(hub, monkeypatch):
    hub.add_task("formation_energy")
    with pytest.raises(NotFoundError, match="did you mean 'formation_energy'"):
        show(hub.path, "formation_enrgy")
    with pytest.raises(NotFoundError, match="at least 6"):
        show(hub.path, hub.store.ref("tasks/formation_energy")[:5])
    alike = ["abcdef" + end * 58 for end in "01"]
    monkeypatch.setattr("moma_store.catalogue.Snapshot.records", lambda _: alike)
    with pytest.raises(InvalidInputError, match="2 records begin with 'abcdef'"):
        show(hub.path, "abcdef")


def test_log_filters_before_it_limits(hub):
    for name in ("a", "b"):
        hub.add_task(name)
        hub.train(name, epochs=1)
    assert [entry.action for entry in log(hub.path, limit=2)] == ["module", "add-task"]
    (entry,) = log(hub.path, limit=1, task="a")
    assert (entry.action, entry.task) == ("module", "a")
    assert [change["name"] for change in entry.changes] == ["modules/a@cgcnn"]


def test_listing_imports_nothing_heavy(hub):
    hub.add_task("a")
    code = (
        "import sys, pathlib; from moma_cl.views import modules, tasks\n"
        "from moma_cl.views.log import log; from moma_cl.views.show import show\n"
        f"path = pathlib.Path({str(hub.path)!r})\n"
        "tasks.tasks(path), log(path), show(path, 'a')\n"
        "modules.modules(path)\n"
        "assert not {'numpy', 'torch', 'zarr', 'scipy', 'pymatgen'} & sys.modules.keys()"
    )
    run_python(code)
