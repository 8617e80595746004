"""Reconciling: what is computed when, and that nothing else is."""

from pathlib import Path

import pytest

from moma_cl import service
from moma_cl.backbones.parameters import to_vector
from moma_cl.composer import Composer
from moma_cl.progress import quiet
from moma_cl.properties import Transform
from moma_cl.recipe import Recipe, TrainingSettings
from moma_cl.reconcile import training_point
from moma_cl.records import Composition, Dataset, ModuleKind
from moma_cl.workbench import Workbench
from moma_store.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from moma_store.store import Store

TARGETS = ("energy", "modulus", "gap")


@pytest.fixture
def hub(tmp_path, short_recipe):
    path = tmp_path / "hub"
    service.init(path, backbone="cgcnn", recipe=short_recipe)
    return path


@pytest.fixture
def add(hub, write_rows, made_up):
    def add_task(target, n_rows=160, **options):
        return service.add_task(
            hub, target, [write_rows(made_up(n_rows))], target=target, unit="1", **options
        )

    return add_task


def derived(hub: Path) -> dict[str, str]:
    with Store.open(hub) as store:
        return {key: memo.result for key, memo in store.memos().items()}


def everything(hub: Path) -> tuple[set[str], dict[str, bytes]]:
    """All records, and all blob files with their bytes."""
    with Store.open(hub) as store, store.snapshot() as view:
        records = set(view.records())
    return records, {p.name: p.read_bytes() for p in (hub / "objects").rglob("*.zip")}


def actions(done):
    return [(entry.task, entry.action) for entry in done]


def test_a_task_gets_predictor_composition_and_module(hub, add):
    taken = add("energy")
    assert taken.rows == 160
    assert ("energy", "promoted") in actions(taken.done)
    with Store.open(hub) as store:
        assert set(store.refs()) >= {
            f"{kind}/energy"
            for kind in ("tasks", "datasets", "recipes", "compositions", "predictors", "modules")
        }


def test_without_a_pass_there_is_a_first_predictor_and_a_plan(hub, add):
    add("energy", compose=False)
    with Store.open(hub) as store:
        assert store.ref("predictors/energy") is not None
        assert store.ref("modules/energy") is None
    assert {step.kind for step in service.plan(hub)} >= {"predictor", "module"}


def test_a_second_pass_does_nothing_and_writes_nothing(hub, add):
    add("energy")
    add("gap")
    before = everything(hub)
    assert [entry.action for entry in service.update(hub) if entry.action != "left"] == []
    assert everything(hub) == before
    assert [step for step in service.plan(hub) if step.status == "stale"] == []


def test_adding_a_task_leaves_every_older_record_and_blob_as_it_was(hub, add):
    add("energy")
    add("modulus", transform=Transform.LOG10)
    records, blobs = everything(hub)
    add("gap")
    records_after, blobs_after = everything(hub)
    assert records < records_after
    assert blobs.items() < blobs_after.items()


def test_a_new_module_costs_each_task_one_estimate_and_one_composition(hub, add):
    add("energy")
    taken = add("gap")
    of_energy = [
        entry.kind for entry in taken.done if (entry.task, entry.action) == ("energy", "derived")
    ]
    assert of_energy.count("estimate") == 1
    assert of_energy.count("composition") == 1
    assert "module" not in of_energy


def test_incremental_and_from_scratch_derive_the_same(tmp_path, write_rows, made_up):
    training = TrainingSettings(epochs=2, batch_size=32)
    recipe = Recipe(threads=1, finetune=training, module=training, worth_it=-1.0)
    step_by_step, at_once = tmp_path / "steps", tmp_path / "once"
    results = []
    for path, compose in ((step_by_step, True), (at_once, False)):
        service.init(path, backbone="cgcnn", recipe=recipe)
        for target in TARGETS:
            rows = write_rows(made_up(160))
            service.add_task(path, target, [rows], target=target, unit="1", compose=compose)
        for target in TARGETS[:2]:
            more = write_rows(made_up(100, first=160))
            service.add_data(path, target, [more], compose=compose)
        service.update(path)
        with Store.open(path) as store:
            results.append(
                {
                    name: digest
                    for name, digest in store.refs().items()
                    if not name.startswith("predictors/")
                }
            )
    assert results[0] == results[1]
    shared = derived(step_by_step).items() & derived(at_once).items()
    assert shared == derived(at_once).items() & {
        (k, v) for k, v in derived(step_by_step).items() if k in derived(at_once)
    }
    assert {key.split(":")[0] for key, _ in shared} == {
        "estimate",
        "composition",
        "predictor",
        "module",
    }


def test_a_pass_that_was_stopped_resumes_and_ends_the_same(
    hub, add, tmp_path, short_recipe, monkeypatch
):
    add("energy", compose=False)
    add("gap", compose=False)
    count = 0
    original = Composer.derive

    def stopping(self, derivation, why):
        nonlocal count
        if self.store.memo(derivation.key) is None:
            count += 1
            if count % 3 == 0:
                raise KeyboardInterrupt
        return original(self, derivation, why)

    monkeypatch.setattr(Composer, "derive", stopping)
    stops = 0
    while True:
        try:
            service.update(hub)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 2
    monkeypatch.undo()
    undisturbed = tmp_path / "undisturbed"
    service.init(undisturbed, backbone="cgcnn", recipe=short_recipe)
    rows = [tmp_path / "rows.jsonl"]
    for target in ("energy", "gap"):
        service.add_task(undisturbed, target, rows, target=target, unit="1", compose=False)
    service.update(undisturbed)
    assert derived(hub) == derived(undisturbed)


def test_appended_rows_embed_only_the_new_segment_and_leave_other_tasks_alone(
    hub, add, write_rows, made_up
):
    add("energy")
    add("gap")
    taken = service.add_data(hub, "energy", [write_rows(made_up(20, first=160))])
    assert (taken.added, taken.rows) == (20, 180)
    assert {entry.task for entry in taken.done if entry.action == "derived"} == {"energy"}


def test_a_module_is_trained_again_only_when_its_rows_have_grown(hub, add, write_rows, made_up):
    add("energy", n_rows=100)
    with Store.open(hub) as store:
        first = store.ref("modules/energy")
    service.add_data(hub, "energy", [write_rows(made_up(40, first=100))])
    with Store.open(hub) as store:
        assert store.ref("modules/energy") == first
    service.add_data(hub, "energy", [write_rows(made_up(40, first=140))])
    with Store.open(hub) as store:
        assert store.ref("modules/energy") != first


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([10], None), ([40], 0), ([40, 50], 0), ([40, 60], 1), ([40, 50, 61, 70], 2), ([10, 30], 1)],
)
def test_training_points_are_a_function_of_the_segments(sizes, expected):
    records, previous, digests = {}, None, []
    for n_rows in sizes:
        digest = f"{len(records):064x}"
        dataset = Dataset(
            segments=(),
            previous=previous,
            n_rows=n_rows,
            n_train=round(0.7 * n_rows),
            n_validation=1,
            n_held_out=1,
        )
        records[digest] = dataset.to_doc()
        digests.append(digest)
        previous = digest

    class Records:
        def record(self, digest):
            return records[digest]

    point = training_point(Records(), previous, 1.5)
    assert point == (None if expected is None else digests[expected])


def test_data_that_is_there_already_changes_nothing(hub, add, write_rows, made_up):
    add("energy")
    before = everything(hub)
    taken = service.add_data(hub, "energy", [write_rows(made_up(10))])
    assert (taken.added, taken.repeated, taken.rows) == (0, 10, 160)
    assert everything(hub) == before


def test_a_stored_row_changes_only_when_asked(hub, add, write_rows, made_up):
    add("energy")
    (row,) = made_up(1)
    corrected = write_rows([{**row, "energy": 5.0}])
    refused = service.add_data(hub, "energy", [corrected])
    assert [refusal.code for refusal in refused.refusals] == ["already-stored"]
    assert refused.added == 0
    replaced = service.add_data(hub, "energy", [corrected], replace=True)
    assert (replaced.added, replaced.rows) == (1, 160)


def test_retracted_rows_are_gone(hub, add):
    add("energy")
    taken = service.retract(hub, "energy", ["row-3", "row-4"])
    assert taken.rows == 158
    assert ("energy", "derived") in actions(taken.done)
    with pytest.raises(NotFoundError, match="no row 'row-3'"):
        service.retract(hub, "energy", ["row-3"])
    with pytest.raises(InvalidInputError, match="would leave task 'energy' empty"):
        service.retract(hub, "energy", [f"row-{i}" for i in range(160) if i not in (3, 4)])


def test_a_removed_task_is_no_candidate_any_more(hub, add):
    add("energy")
    add("gap")
    service.remove_task(hub, "energy")
    service.update(hub)
    with Store.open(hub) as store:
        composition = store.record(store.ref("compositions/gap"))
        assert not [name for name in store.refs() if name.endswith("/energy")]
    assert composition["n_candidates"] == 1


def test_rollback_lets_the_earlier_champion_answer_until_something_new_arrives(
    hub, add, write_rows, made_up
):
    add("energy", n_rows=100)
    service.add_data(hub, "energy", [write_rows(made_up(20, first=100))])
    back = service.rollback(hub, "energy")
    assert back.before != back.after
    service.update(hub)
    with Store.open(hub) as store:
        assert store.ref("predictors/energy") == back.after
    service.add_data(hub, "energy", [write_rows(made_up(20, first=120))])
    with Store.open(hub) as store:
        assert store.ref("predictors/energy") not in {back.after, back.before}


def test_a_task_that_fails_does_not_stop_the_others(hub, add, monkeypatch):
    add("energy", compose=False)
    add("gap", compose=False)
    original = Composer.derive

    def failing(self, derivation, why):
        if derivation.task == "energy":
            raise InvalidInputError("broken on purpose")
        return original(self, derivation, why)

    monkeypatch.setattr(Composer, "derive", failing)
    done = service.update(hub)
    assert ("energy", "failed") in actions(done)
    assert ("gap", "module") in actions(done)


def test_an_adapter_task_composes_adapters_only(hub, add):
    add("energy")
    add("modulus", module=ModuleKind.ADAPTER)
    add("gap", module=ModuleKind.ADAPTER)
    with Store.open(hub) as store:
        composition = store.record(store.ref("compositions/gap"))
        assert composition["module"] == "adapter"
        assert composition["n_candidates"] == 2


def test_a_module_of_the_same_property_that_saw_held_out_structures_is_no_candidate(
    hub, add, write_rows, made_up
):
    rows = made_up(160)
    labelled = [
        {**row, "fold": ("train", "train", "validation", "held-out")[i % 4]}
        for i, row in enumerate(rows)
    ]
    path = write_rows(labelled)
    service.add_task(hub, "a", [path], target="gap", unit="1")  # hashed folds
    service.add_task(hub, "b", [path], target="gap", unit="1", fold_column="fold")
    service.add_task(hub, "c", [path], target="energy", unit="1", fold_column="fold")
    with Store.open(hub) as store:
        seen, unrelated = (store.record(store.ref(f"compositions/{n}")) for n in "bc")
        module = store.ref("modules/a")
    assert module in seen["excluded"]
    assert "held-out" in seen["excluded"][module]
    assert module not in unrelated["excluded"]


def test_names_are_unique_and_plain(hub, add):
    add("energy", compose=False)
    with pytest.raises(AlreadyExistsError, match="add-data energy"):
        add("energy")
    with pytest.raises(NotFoundError, match="did you mean 'energy'"):
        service.update(hub, tasks=["enrgy"])
    with pytest.raises(InvalidInputError, match="task name"):
        service.add_task(hub, "a/b", [], target="x", unit="1")


def test_progress_labels_say_what_is_going_on(hub, write_rows, made_up):
    labels = set()
    service.add_task(
        hub,
        "energy",
        [write_rows(made_up(160))],
        target="energy",
        unit="1",
        progress=lambda label, done, total: labels.add(label),
    )
    assert {"embedding", "predictor energy", "module energy"} <= labels
    quiet("nothing", 0, 0)


@pytest.mark.parametrize("kind", [ModuleKind.FULL, ModuleKind.ADAPTER])
def test_one_module_at_weight_one_is_that_module_bit_for_bit(hub, add, kind):
    add("energy", module=kind)
    with Store.open(hub) as store, Workbench(store=store, progress=quiet) as bench:
        module = store.ref("modules/energy")
        composition = Composition(
            dataset=store.ref("datasets/energy"),
            module=kind,
            modules=(module,),
            weights=(1.0,),
            backbone_weight=0.0,
            objective=0.0,
            backbone_objective=0.0,
            duality_gap=0.0,
            n_candidates=1,
            excluded={},
        )
        merged, own = bench.merged(composition), bench.parameters(module, kind)
        assert merged.tobytes() == own.tobytes()
        encoder = bench.encoder(kind, merged)
        assert to_vector(encoder, bench.manifest(kind)).tobytes() == own.tobytes()
        assert merged.tobytes() != bench.parameters(None, kind).tobytes()
