"""A module trained on several properties at once is fine-tuned beside the composed encoder."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from moma_cl.datasets.segments import TRAIN, VALIDATION
from moma_cl.datasets.split import Split
from moma_cl.derivations import finetuned_learners, join_learners, leakage
from moma_cl.derivations import predictor as predictor_derivation
from moma_cl.hub import Hub
from moma_cl.learning.readout import READOUTS, LinearReadouts, linear_readout
from moma_cl.predictors.learner_artifact import LearnerArtifact, RowAnswers
from moma_cl.predictors.loaded_learners import LoadedLearners
from moma_cl.predictors.predictor import load_predictor
from moma_cl.predictors.stored_learner import StoredLearner
from moma_cl.recipe import EmbeddingSettings, KernelSettings
from moma_cl.records.records import (
    Calibration,
    Composition,
    Drift,
    Learner,
    Module,
    ModuleKind,
    Predictor,
    StartKind,
)
from moma_store.records import record_link
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.hubs import encoders_of, open_workspace, record

FROM_BACKBONE = "finetuned from backbone@cgcnn"
FROM_MULTITASK = "finetuned from multitask"
KERNEL_ON_MULTITASK = "kernel on multitask@cgcnn"


@pytest.fixture
def hub(hub):
    """A module of energies, one of several properties that has seen 40 structures, and no task."""
    hubs.add_task(hub, "energy", 200, unit="eV/atom")
    _add_multitask(hub, n_seen=40)
    return hub


def _add_multitask(hub, n_seen):
    """Declare the module of energies to be one of several properties, with other parameters."""
    with open_workspace(hub, write=True) as (store, workspace):
        record = Module.from_doc(store.record(store.ref("modules/energy@cgcnn")))
        arrays = dict(store.blob(record.blob).arrays)
        prints = arrays["fingerprints"][:n_seen]
        kept = {
            "parameters": arrays["parameters"] + np.float32(1e-3),
            "fingerprints": prints,
            READOUTS: _readouts(workspace, arrays["parameters"]),
        }
        header = {"kind": "module-arrays", "format": 1}
        record = replace(
            record,
            module=ModuleKind.MULTITASK,
            property="several",
            blob=store.put_blob(kept, header, base=encoders_of(workspace).base(ModuleKind.FULL)),
            source={"properties": ["gap", "hardness"]},
        )
        with store.transaction("module", {"module": "multitask"}) as transaction:
            digest = transaction.put_record(record.to_doc())
            transaction.move_ref(
                "modules/multitask@cgcnn",
                digest,
                expected=transaction.ref("modules/multitask@cgcnn"),
            )


def _readouts(workspace, parameters):
    """Readouts of the energy, and of minus twice the energy."""
    fitted = Predictor.from_doc(workspace.store.record(workspace.store.ref("fitted/energy")))
    rows = workspace.rows(fitted.dataset)
    embedded = encoders_of(workspace).embeddings(
        ModuleKind.FULL, parameters, rows, EmbeddingSettings()
    )
    energies = rows.targets - rows.targets.mean()
    readouts = [linear_readout(embedded, scale * energies) for scale in (1.0, -2.0)]
    return LinearReadouts.of(readouts).to_array()


def _add(hub, rows, target, recipe=None, module=ModuleKind.NONE):
    hubs.add_task(hub, target, rows, module=module, recipe=recipe)
    return Predictor.from_doc(record(hub, f"fitted/{target}"))


def test_it_is_fine_tuned_in_place_of_the_backbone_and_composed_by_nobody(hub, monkeypatch):
    trained = finetuned_learners._fitted

    def noted(start, derivation, report):
        derived = trained(start, derivation, report)
        rows = derived.arrays["validation_rows"]
        error = 0.0 if derived.record.start is StartKind.MULTITASK else 5.0
        answers = start.data.targets[rows] + error
        return replace(derived, arrays={**derived.arrays, "validation_answers": answers})

    monkeypatch.setattr(finetuned_learners, "_fitted", noted)
    fitted = _add(hub, 200, "modulus")
    with open_workspace(hub) as (store, workspace):
        multitask = store.ref("modules/multitask@cgcnn")
        composition = store.record(fitted.compositions[0])
        predictor = load_predictor(workspace, store.ref("fitted/modulus"))
        rows = workspace.rows(fitted.dataset)
        graphs = {"cgcnn": encoders_of(workspace).graphs(rows)}
        answers = predictor.answer(graphs, level=0.9)
        arrays = store.blob(fitted.blob).arrays
        learners = [Learner.from_doc(store.record(digest)) for digest in fitted.learners]
    assert fitted.multitasks == (multitask,)
    assert record_link(multitask) not in composition["modules"]
    assert f"{FROM_MULTITASK}@cgcnn" in fitted.held_out_maes
    assert FROM_BACKBONE not in fitted.held_out_maes
    assert [(one.name, one.multitask) for one in learners] == [(FROM_MULTITASK, multitask)]
    residuals = np.abs(
        predictor.normaliser.forward(answers.values) - predictor.normaliser.forward(rows.targets)
    )
    assert np.isin(np.round(arrays["held_out_residuals"], 4), np.round(residuals, 4)).all()


@pytest.mark.parametrize("rows", [40, 200], ids=["cross-validated", "held out"])
def test_a_kernel_head_sees_it_and_what_it_reads_out(hub, rows):
    eager = hubs.short_recipe(kernel=KernelSettings(readouts_worth=-1.0))
    fitted = _add(hub, rows, "modulus", recipe=eager)
    with open_workspace(hub) as (store, workspace):
        stored = (StoredLearner.load(store, one.result) for one in store.memos("learner:").values())
        of_task = (one for one in stored if one.record.dataset == fitted.dataset)
        (learner,) = (one for one in of_task if one.record.name == "kernel on multitask")
        composition = Composition.from_doc(store.record(fitted.compositions[0]))
        loaded = LoadedLearners.of(encoders_of(workspace), composition, [learner], domain=False)
        judging = learner.artifact.validation
        graphs = encoders_of(workspace).graphs(workspace.rows(fitted.dataset))
        calls = loaded.calls([graphs[row] for row in judging.rows], EmbeddingSettings())
        (answers,) = loaded.encoded([call() for call in calls]).by_kernel
        assert learner.record.multitask == store.ref("modules/multitask@cgcnn")
    assert loaded.composed is None
    assert loaded.kernels[0].scale is not None
    assert KERNEL_ON_MULTITASK in fitted.validation_maes
    # the head that answers knows more rows than the one that was judged
    assert np.corrcoef(answers[:, 0], judging.answers)[0, 1] > 0.9


def test_the_kernel_head_sees_the_backbone_where_it_has_seen_too_much(hub):
    fitted = _add(hub, 40, "gap")
    assert "kernel on backbone@cgcnn" in fitted.validation_maes
    assert KERNEL_ON_MULTITASK not in fitted.validation_maes


def test_adapters_start_from_the_backbone(hub):
    fitted = _add(hub, 200, "modulus", module=ModuleKind.ADAPTER)
    assert fitted.multitasks == ()
    assert FROM_BACKBONE in fitted.held_out_maes


@pytest.mark.parametrize(("least", "used"), [(5, True), (50, False)])
def test_what_it_has_seen_of_the_property_does_not_judge(hub, monkeypatch, least, used):
    monkeypatch.setattr(leakage, "MIN_UNSEEN", least)
    joined = []
    monkeypatch.setattr(
        predictor_derivation,
        "join_learners",
        lambda *given: joined.append(join_learners.join_learners(*given)) or joined[-1],
    )
    fitted = _add(hub, 200, "gap")
    with open_workspace(hub) as (store, workspace):
        digest = store.ref("modules/multitask@cgcnn")
        prints = store.blob(Module.from_doc(store.record(digest)).blob).arrays["fingerprints"]
        rows = workspace.rows(fitted.dataset)
        composition = Composition.from_doc(store.record(fitted.compositions[0]))
    known, split = set(prints.tolist()), joined[-1].data.split
    judges = np.concatenate([split.validation, split.held_out])
    assert not composition.modules or digest not in composition.modules
    assert (fitted.multitasks == (digest,)) == used
    assert (f"{FROM_MULTITASK}@cgcnn" in fitted.held_out_maes) == used
    assert (FROM_BACKBONE in fitted.held_out_maes) == (not used)
    assert known.isdisjoint(rows.fingerprints[judges].tolist()) == used


@pytest.mark.parametrize(("n_unseen", "joins"), [(4, False), (6, True)])
def test_it_is_left_out_where_too_few_rows_would_judge_it_beside_the_composition(
    monkeypatch, n_unseen, joins
):
    monkeypatch.setattr(leakage, "MIN_UNSEEN", 5)
    rows = np.arange(20)
    split = Split(
        calibration=Calibration.HELD_OUT, train=rows, validation=rows + 20, held_out=rows + 40
    )
    data = SimpleNamespace(split=split, split_as=lambda split: split)
    composed, multitask = (_stored(None, split, 10, 0), _stored("m", split, 0, 10 - n_unseen))
    learners, left = join_learners._judged_together(data, [composed, multitask])
    assert learners == [composed, *([multitask] if joins else [])]
    assert left.validation.tolist() == [
        20 + row for row in range(10 - n_unseen if joins else 0, 10)
    ]
    assert left.held_out.tolist() == [40 + row for row in range(10 - n_unseen if joins else 0, 10)]


def _stored(multitask, split, n_last_seen, n_first_seen):
    """A learner that has not answered the last rows of each fold, nor the first."""

    def answers(rows):
        rows = rows[n_first_seen : len(rows) - n_last_seen]
        return RowAnswers(rows=rows, answers=np.zeros(len(rows)))

    artifact = LearnerArtifact(
        validation=answers(split.validation), held_out=answers(split.held_out)
    )
    return SimpleNamespace(record=SimpleNamespace(multitask=multitask), artifact=artifact)


@pytest.mark.parametrize("blank", ["structures", "properties"])
def test_it_is_left_alone_where_nobody_knows_what_it_has_seen(hub, monkeypatch, blank):
    if blank == "structures":
        _add_multitask(hub, n_seen=0)
    else:
        monkeypatch.setattr(leakage, "properties_of", lambda module: ())
    assert _add(hub, 200, "modulus").multitasks == ()


def test_neighbours_are_named_right_where_seen_rows_did_not_decide(
    hub, write_rows, made_up, monkeypatch
):
    monkeypatch.setattr(leakage, "MIN_UNSEEN", 5)
    rows = write_rows(made_up(200))
    fitted = _add(hub, rows, "gap")
    with open_workspace(hub) as (store, workspace):
        arrays = store.blob(fitted.blob).arrays
        live = workspace.rows(fitted.dataset)
    decided = set(arrays["decided_rows"].tolist())
    assert fitted.multitasks
    assert decided < set(np.flatnonzero(live.folds == VALIDATION).tolist())
    known = np.flatnonzero(live.folds == TRAIN).tolist() + sorted(decided)
    answers = {row.id: row for row in Hub(hub).iter_predictions("gap", [rows], explain=True)}
    for row in known:
        nearest = answers[live.ids[row]].neighbours[0]
        assert nearest.distance == pytest.approx(0.0, abs=1e-3)
        assert nearest.value == live.targets[live.ids.index(nearest.id)]
        same = answers[nearest.id].neighbours[0]
        assert same.distance == pytest.approx(0.0, abs=1e-3)


def test_a_champion_is_not_asked_what_it_has_seen(hub, monkeypatch):
    monkeypatch.setattr(leakage, "MIN_UNSEEN", 5)
    champion = _add(hub, 200, "gap")
    with Store.open(hub) as store:
        decided = store.blob(champion.blob).arrays["decided_rows"]
    with Store.open(hub, write=True) as store, store.transaction("remove-module") as transaction:
        multitask = transaction.ref("modules/multitask@cgcnn")
        transaction.move_ref("modules/multitask@cgcnn", None, expected=multitask)
    done = Hub(hub).set_recipe("gap", {"finetune": {"epochs": 2}}).done
    assert any(one.action in {"promoted", "kept-beside"} for one in done)
    with Store.open(hub) as store:
        fitted = Predictor.from_doc(store.record(store.ref("fitted/gap")))
        judged = store.blob(fitted.blob).arrays["decided_rows"]
        (entry,) = [e for e in store.history(limit=3) if "champion_mae" in e.detail][:1]
    assert fitted.multitasks == ()
    assert entry.detail["rows"] == len(decided) < len(judged)


def test_new_rows_that_it_has_seen_are_no_test_for_drift(hub, add_data, made_up, monkeypatch):
    monkeypatch.setattr(leakage, "MIN_UNSEEN", 5)
    champion = _add(hub, made_up(200, first=100), "gap")
    (seen,) = champion.multitasks
    taken = add_data("gap", 100)
    assert any(one.kind == "drift" for one in taken.done)
    with open_workspace(hub) as (store, workspace):
        found = Drift.from_doc(store.record(store.ref("drift/gap")))
        module = Module.from_doc(store.record(seen))
        prints = set(store.blob(module.blob).arrays["fingerprints"].tolist())
        rows = workspace.rows(store.ref("datasets/gap"))
    new = [rows.fingerprints[row] for row, name in enumerate(rows.ids) if int(name[4:]) < 100]
    assert found.rows == sum(int(one) not in prints for one in new) < len(new)


def test_the_pass_keeps_what_it_was_fitted_from(hub):
    _add(hub, 200, "modulus")
    assert not Hub(hub).plan()
    with Store.open(hub) as store:
        digest = store.ref("modules/multitask@cgcnn")
        links = store.record(store.ref("fitted/modulus"))["multitasks"]
    assert links == [record_link(digest)]
