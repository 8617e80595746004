"""Reconciling: what is computed when, and that nothing else is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moma_cl.backbones.parameters import to_vector
from moma_cl.derivations import composition as composition_derivation
from moma_cl.hub import Hub
from moma_cl.progress import FIRST_ANSWER, quiet
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import EstimateSettings, KernelSettings
from moma_cl.reconciling.composer import Composer
from moma_cl.reconciling.task_derivations import training_point
from moma_cl.records.champions import champions
from moma_cl.records.records import Composition, Dataset, Estimate, ModuleKind
from moma_cl.workspace.encoders import Encoders
from moma_store.errors import (
    AlreadyExistsError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from moma_store.records import BlobLink
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.hubs import encoders_of, memo_results, open_workspace, record, refs

TARGETS = ("energy", "modulus", "gap")


@pytest.fixture
def add(add_task):
    """Add a task of 160 rows unless another number is given."""
    return lambda name, n_rows=160, **options: add_task(name, n_rows, **options)


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
            *(f"{kind}/energy" for kind in ("tasks", "datasets", "recipes", "predictors")),
            *(f"{kind}/energy@cgcnn" for kind in ("compositions", "modules")),
        }


def test_without_a_pass_there_is_a_first_predictor_and_a_plan(hub, add):
    add("energy", compose=False)
    with Store.open(hub) as store:
        assert store.ref("predictors/energy") is not None
        assert store.ref("modules/energy@cgcnn") is None
    assert {step.kind for step in Hub(hub).plan()} >= {"predictor", "module"}


def test_a_second_pass_does_nothing_and_writes_nothing(hub, add):
    add("energy")
    add("gap")
    before = everything(hub)
    assert [entry.action for entry in Hub(hub).update() if entry.action != "left"] == []
    assert everything(hub) == before
    assert [step for step in Hub(hub).plan() if step.status == "stale"] == []


def test_adding_a_task_leaves_every_older_record_and_blob_as_it_was(hub, add):
    add("energy")
    add("modulus", transform=Transform.LOG10)
    records, blobs = everything(hub)
    add("gap")
    records_after, blobs_after = everything(hub)
    assert records < records_after
    assert blobs.items() < blobs_after.items()


def test_a_new_module_costs_each_task_one_estimate_and_one_composition(add):
    add("energy")
    taken = add("gap")
    of_energy = [
        entry.kind for entry in taken.done if (entry.task, entry.action) == ("energy", "derived")
    ]
    assert of_energy.count("estimate") == 1
    assert of_energy.count("composition") == 1
    assert "module" not in of_energy


def test_incremental_and_from_scratch_derive_the_same(tmp_path, made_up):
    step_by_step, at_once = tmp_path / "steps", tmp_path / "once"
    results = []
    for path, compose in ((step_by_step, True), (at_once, False)):
        hubs.make_hub(path, hubs.short_recipe(1, worth_it=-1.0))
        for target in TARGETS:
            hubs.add_task(path, target, 160, compose=compose)
        for target in TARGETS[:2]:
            hubs.add_data(path, target, made_up(100, first=160), compose=compose)
        Hub(path).update()
        results.append(
            {
                name: digest
                for name, digest in refs(path).items()
                if not name.startswith(("predictors/", "drift/"))
            }
        )
    assert results[0] == results[1]
    shared = memo_results(step_by_step).items() & memo_results(at_once).items()
    assert shared == memo_results(at_once).items() & {
        (k, v) for k, v in memo_results(step_by_step).items() if k in memo_results(at_once)
    }
    assert {key.split(":")[0] for key, _ in shared} == {
        "estimate",
        "composition",
        "learner",
        "predictor",
        "module",
    }


def test_a_pass_that_was_stopped_resumes_and_ends_the_same(hub, add, tmp_path, monkeypatch):
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
            Hub(hub).update()
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 2
    monkeypatch.undo()
    undisturbed = hubs.make_hub(tmp_path / "undisturbed")
    for target in ("energy", "gap"):
        hubs.add_task(undisturbed, target, 160, compose=False)
    Hub(undisturbed).update()
    assert memo_results(hub) == memo_results(undisturbed)


def test_appended_rows_embed_only_the_new_segment_and_leave_other_tasks_alone(
    add, add_data, made_up
):
    add("energy")
    add("gap")
    taken = add_data("energy", made_up(20, first=160))
    assert (taken.added, taken.rows) == (20, 180)
    assert {entry.task for entry in taken.done if entry.action == "derived"} == {"energy"}


def test_a_module_is_trained_again_only_when_its_rows_have_grown(hub, add, add_data, made_up):
    add("energy", n_rows=100)
    first = refs(hub)["modules/energy@cgcnn"]
    add_data("energy", made_up(40, first=100))
    assert refs(hub)["modules/energy@cgcnn"] == first
    add_data("energy", made_up(40, first=140))
    assert refs(hub)["modules/energy@cgcnn"] != first


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


def test_data_that_is_there_already_changes_nothing(hub, add, add_data, made_up):
    add("energy")
    before = everything(hub)
    taken = add_data("energy", made_up(10))
    assert (taken.added, taken.repeated, taken.rows) == (0, 10, 160)
    assert everything(hub) == before


def test_a_stored_row_changes_only_when_asked(add, add_data, made_up):
    add("energy")
    (row,) = made_up(1)
    corrected = [{**row, "energy": 5.0}]
    refused = add_data("energy", corrected)
    assert [refusal.code for refusal in refused.refusals] == ["already-stored"]
    assert refused.added == 0
    replaced = add_data("energy", corrected, replace=True)
    assert (replaced.added, replaced.rows) == (1, 160)


def test_retracted_rows_are_gone(hub, add):
    add("energy")
    taken = Hub(hub).retract("energy", ["row-3", "row-4"])
    assert taken.rows == 158
    assert ("energy", "derived") in actions(taken.done)
    with pytest.raises(NotFoundError, match="no row 'row-3'"):
        Hub(hub).retract("energy", ["row-3"])
    with pytest.raises(InvalidInputError, match="would leave task 'energy' empty"):
        Hub(hub).retract("energy", [f"row-{i}" for i in range(160) if i not in (3, 4)])


def test_a_removed_task_is_no_candidate_any_more(hub, add):
    add("energy")
    add("gap")
    Hub(hub).remove_task("energy")
    Hub(hub).update()
    with Store.open(hub) as store:
        composition = store.record(store.ref("compositions/gap@cgcnn"))
        assert not [name for name in store.refs() if "/energy" in name]
    assert composition["n_candidates"] == 1


def test_rollback_lets_the_earlier_champion_answer_until_something_new_arrives(
    hub, add, add_data, made_up
):
    add("energy", n_rows=100)
    add_data("energy", made_up(20, first=100))
    back = Hub(hub).rollback("energy")
    assert back.before != back.after
    Hub(hub).update()
    assert refs(hub)["predictors/energy"] == back.after
    add_data("energy", made_up(20, first=120))
    assert refs(hub)["predictors/energy"] not in {back.after, back.before}


def test_a_task_that_fails_does_not_stop_the_others(hub, add, monkeypatch):
    add("energy", compose=False)
    add("gap", compose=False)
    original = Composer.derive

    def failing(self, derivation, why):
        if derivation.task == "energy":
            raise InvalidInputError("broken on purpose")
        return original(self, derivation, why)

    monkeypatch.setattr(Composer, "derive", failing)
    done = Hub(hub).update()
    assert ("energy", "failed") in actions(done)
    assert ("gap", "module") in actions(done)


def test_an_adapter_task_composes_adapters_only(hub, add):
    add("energy")
    add("modulus", module=ModuleKind.ADAPTER)
    add("gap", module=ModuleKind.ADAPTER)
    with Store.open(hub) as store:
        composition = store.record(store.ref("compositions/gap@cgcnn"))
        assert composition["module"] == "adapter"
        assert composition["n_candidates"] == 2


def test_a_module_of_the_same_property_that_saw_held_out_structures_is_no_candidate(
    hub, add, add_task, made_up
):
    rows = made_up(160)
    labelled = [
        {**row, "fold": ("train", "train", "validation", "held-out")[i % 4]}
        for i, row in enumerate(rows)
    ]
    add_task("a", labelled, target="gap")  # hashed folds
    add_task("b", labelled, target="gap", fold_column="fold")
    add_task("c", labelled, target="energy", fold_column="fold")
    with Store.open(hub) as store:
        seen, unrelated = (store.record(store.ref(f"compositions/{n}@cgcnn")) for n in "bc")
        module = store.ref("modules/a@cgcnn")
    assert module in seen["excluded"]
    assert "by which this task is judged" in seen["excluded"][module]
    assert module not in unrelated["excluded"]


@pytest.mark.parametrize("n_seen", [1, 12])
def test_a_module_of_the_same_property_may_have_seen_a_few_rows_that_judge(
    hub, add_task, made_up, n_seen
):
    seen = made_up(60)
    add_task("a", seen, target="gap")
    rows = [*made_up(60 - n_seen, first=300), *seen[:n_seen]]
    add_task("b", rows, target="gap", module=ModuleKind.NONE)
    with Store.open(hub) as store:
        excluded = store.record(store.ref("compositions/b@cgcnn"))["excluded"]
        module = store.ref("modules/a@cgcnn")
    if n_seen == 1:
        assert excluded == {}
    else:
        assert "of 60 structures by which" in excluded[module]


def test_who_repeats_an_interrupted_add_task_is_sent_on(add, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("moma_cl.commands.add_rows.compose_now", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            add("energy")
    with pytest.raises(AlreadyExistsError, match="moma-cl update"):
        add("energy")


def _interrupted(*_, **__):
    raise KeyboardInterrupt


def test_names_are_unique_and_plain(hub, add):
    add("energy", compose=False)
    with pytest.raises(AlreadyExistsError, match="add-data energy"):
        add("energy")
    with pytest.raises(NotFoundError, match="did you mean 'energy'"):
        Hub(hub).update(tasks=["enrgy"])
    with pytest.raises(InvalidInputError, match="task name"):
        add("a/b")


def test_a_task_trains_no_multitask_module(add):
    with pytest.raises(InvalidInputError, match="expected one of full, adapter, none"):
        add("energy", module=ModuleKind.MULTITASK)


def test_progress_labels_say_what_is_going_on(add):
    labels = []
    add("energy", progress=lambda label, done, total: labels.append(label))
    assert {"energy: embedding", "learners energy", "module energy", "energy: estimate"} <= set(
        labels
    )
    (answers,) = [place for place, label in enumerate(labels) if label.startswith(FIRST_ANSWER)]
    assert labels[answers].startswith("first answer: `moma-cl predict energy FILES` works now")
    assert answers < labels.index("module energy")
    quiet("nothing", 0, 0)


@pytest.mark.parametrize("kind", [ModuleKind.FULL, ModuleKind.ADAPTER])
def test_one_module_at_weight_one_is_that_module_bit_for_bit(hub, add, kind):
    add("energy", module=kind)
    with open_workspace(hub) as (store, workspace):
        module = store.ref("modules/energy@cgcnn")
        encoders = encoders_of(workspace)
        composition = Composition(
            backbone=store.ref("backbones/cgcnn"),
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
        merged, own = encoders.merged(composition), encoders.parameters(module, kind)
        assert merged.tobytes() == own.tobytes()
        encoder = encoders.encoder(kind, merged)
        assert to_vector(encoder, encoders.manifest(kind)).tobytes() == own.tobytes()
        assert merged.tobytes() != encoders.parameters(None, kind).tobytes()


def test_appended_rows_join_the_fold_of_their_formula(hub, add, add_data, made_up):
    add("energy", n_rows=108, compose=False)
    add_data("energy", made_up(108, first=108), compose=False)
    with open_workspace(hub) as (store, workspace):
        rows = workspace.rows(store.ref("datasets/energy"))
    folds: dict[str, set[int]] = {}
    for formula, fold in zip(rows.formulas, rows.folds.tolist(), strict=True):
        folds.setdefault(formula, set()).add(fold)
    assert len(rows.ids) == 216
    assert all(len(found) == 1 for found in folds.values())


def test_the_champion_is_judged_by_answers_it_gave_before_it_had_seen_the_rows(
    hub, add, add_data, made_up
):
    add("energy", module=ModuleKind.NONE)
    first = record(hub, "predictors/energy")
    # rows of the training fold only: the rows that decide stay as they are
    add_data("energy", made_up(160, first=160), compose=False)
    with open_workspace(hub) as (store, workspace):
        then = workspace.rows(first["dataset"]["$record"])
        now = workspace.rows(store.ref("datasets/energy"))
    assert set(then.ids) < set(now.ids)
    done = Hub(hub).update()
    (compared,) = [e.text for e in done if e.action in {"promoted", "kept-beside"}]
    assert "mean error" in compared
    with Store.open(hub) as store:
        (entry,) = [e for e in store.history(limit=3) if "champion_mae" in e.detail][:1]
        assert entry.detail["champion_mae"] > 0
        assert entry.detail["rows"] == (now.folds == 1).sum()


def test_a_task_of_an_earlier_name_cannot_be_rolled_back_to(hub, add):
    add("energy", n_rows=40, module=ModuleKind.NONE)
    Hub(hub).remove_task("energy")
    add("energy", n_rows=60, module=ModuleKind.NONE)
    with Store.open(hub) as store:
        assert len(champions(store, "energy")) == 1
    with pytest.raises(NotFoundError, match="not an earlier champion"):
        Hub(hub).rollback("energy")


def test_a_computation_that_breaks_unforeseen_fails_its_task_only(hub, add, monkeypatch):
    add("energy", compose=False)
    add("gap", compose=False)

    def breaking(*arguments, **options):
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr("moma_cl.derivations.trainings.train", breaking)
    done = Hub(hub).update()
    failures = [e.text for e in done if e.action == "failed"]
    assert len(failures) == 2
    assert all("ZeroDivisionError: on purpose" in text for text in failures)


def test_a_full_disk_ends_the_pass(hub, add, monkeypatch):
    add("energy", compose=False)

    def full(*arguments, **options):
        raise StorageError("no space left", errno=28)

    monkeypatch.setattr(Store, "put_blob", full)
    with pytest.raises(StorageError):
        Hub(hub).update()


def test_a_module_whose_embeddings_are_not_finite_is_excluded_and_reported(hub, add, monkeypatch):
    add("energy")
    module = refs(hub)["modules/energy@cgcnn"]
    original = Encoders.embeddings

    def poisoned(self, kind, vector, rows, settings):
        found = original(self, kind, vector, rows, settings)
        own = self.parameters(module, kind)
        return found * float("nan") if np.array_equal(vector, own) else found

    monkeypatch.setattr(Encoders, "embeddings", poisoned)
    add("gap", module=ModuleKind.NONE)
    composition = record(hub, "compositions/gap@cgcnn")
    assert "not finite" in composition["excluded"][module]
    assert composition["backbone_weight"] == 1.0


def test_very_many_modules_are_screened_on_a_sample(hub, add, short_recipe):
    for target in TARGETS:
        add(target)
    few = replace(short_recipe, estimate=EstimateSettings(max_candidates=2, sample_rows=30))
    add("energy2", recipe=few, module=ModuleKind.NONE, target="energy")
    with Store.open(hub) as store:
        composition = store.record(store.ref("compositions/energy2@cgcnn"))
        sampled = [
            found
            for memo in store.memos("estimate:").values()
            if (found := store.record(memo.result))["blob"]
            and len(store.blob(BlobLink.from_json(found["blob"])).arrays["predictions"]) == 30
        ]
    assert composition["n_candidates"] == 2
    assert len(sampled) >= 2


def test_screening_asks_the_convex_program_and_then_the_errors(hub, add, short_recipe, monkeypatch):
    for target in TARGETS:
        add(target)
    add("modulus2", n_rows=120, target="modulus")
    weighed = composition_derivation.solve_weights
    monkeypatch.setattr(
        composition_derivation, "solve_weights", lambda c, t, **o: last_alone(weighed(c, t, **o))
    )
    few = replace(short_recipe, estimate=EstimateSettings(max_candidates=3, sample_rows=30))
    add("energy2", n_rows=150, recipe=few, module=ModuleKind.NONE, target="energy")
    with Store.open(hub) as store:
        dataset = store.ref("datasets/energy2")
        errors, candidates = {}, set()
        for memo in store.memos("estimate:").values():
            found = Estimate.from_doc(store.record(memo.result))
            if found.dataset == dataset and found.module and found.blob:
                sampled = len(store.blob(found.blob).arrays["predictions"]) == 30
                errors.update({found.module: found.mae} if sampled else {})
                candidates.update(() if sampled else {found.module})
        (screened,) = [
            found
            for memo in store.memos("composition:").values()
            if (found := Composition.from_doc(store.record(memo.result))).dataset == dataset
            and found.n_candidates == 1 + len(errors)
        ]
    assert len(errors) > 2
    others = sorted(set(errors) - set(screened.modules), key=lambda module: errors[module])
    assert candidates == {*screened.modules, others[0]}


def last_alone(weights):
    """Give all weight to the last candidate."""
    return replace(weights, values=np.eye(len(weights.values))[-1])


def test_a_changed_recipe_fits_a_new_predictor(hub, add, short_recipe):
    add("energy", module=ModuleKind.NONE)
    changed = replace(short_recipe, kernel=KernelSettings(ridges=(0.5,)))
    with Store.open(hub, write=True) as store, store.transaction("set-recipe") as transaction:
        digest = transaction.put_record(changed.to_doc())
        transaction.move_ref("recipes/energy", digest, expected=store.ref("recipes/energy"))
    steps = Hub(hub).plan()
    assert [(step.subject, step.why) for step in steps if step.kind == "learner"] == [
        ("kernel@cgcnn", "its recipe changed")  # fine-tuning does not depend on ridges
    ]
    assert [step.why for step in steps if step.kind == "predictor"] == ["after its learners"]
    assert {one.kind for one in Hub(hub).update() if one.action == "derived"} == {
        "learner",
        "predictor",
    }


def test_retractions_that_leave_nothing_to_learn_are_refused(hub, add_task, made_up):
    rows = made_up(30)
    for row in rows[2:]:
        row["energy"] = 1.0
    add_task("t", rows, target="energy", compose=False)
    with pytest.raises(InvalidInputError, match="no id was given"):
        Hub(hub).retract("t", [])
    with pytest.raises(InvalidInputError, match="nothing to learn"):
        Hub(hub).retract("t", ["row-0", "row-1"])


def test_a_fold_column_with_held_out_rows_only_is_refused(hub, add_task, made_up):
    rows = [{**row, "fold": "held-out"} for row in made_up(30)]
    with pytest.raises(InvalidInputError, match="held-out; expected some to train on"):
        add_task("t", rows, target="energy", fold_column="fold")
    assert "tasks/t" not in refs(hub)


def test_corrected_folds_are_corrections(add_task, add_data, made_up):
    rows = [{**r, "fold": ("train", "validation")[i % 2]} for i, r in enumerate(made_up(30))]
    options = {"fold_column": "fold", "module": ModuleKind.NONE, "compose": False}
    add_task("t", rows, target="energy", **options)
    rows[0]["fold"] = "held-out"
    taken = add_data("t", rows, replace=True, compose=False)
    assert (taken.added, taken.repeated) == (1, 29)
    assert taken.folds == {"train": 14, "validation": 15, "held-out": 1}


def test_a_task_may_be_called_default(add_task):
    assert add_task("default", 10, target="gap", compose=False).rows == 10


def test_a_row_retracted_twice_may_come_a_third_time(hub, add_task, add_data, made_up):
    rows = made_up(12)
    add_task("t", rows, target="gap", compose=False)
    for expected in (12, 12):
        Hub(hub).retract("t", ["row-0"], compose=False)
        taken = add_data("t", rows[:1], compose=False)
        assert (taken.added, taken.rows) == (1, expected)
