"""What a module has seen of a task does not judge it."""

import numpy as np
import pytest

from moma_cl.datasets.split import split_of
from moma_cl.derivations import leakage
from moma_cl.hub import Hub
from moma_cl.recipe import PredictorSettings
from moma_cl.records.records import Composition, Module, ModuleKind, Predictor, Task
from moma_cl.structures.fingerprints import known_in
from tests.helpers import hubs
from tests.helpers.hubs import open_workspace, record

FOLDS = ("train", "train", "validation", "held-out")


@pytest.fixture
def hub(hub, made_up):
    """One module of 120 rows; a task of the same property with these rows and 120 others."""
    rows = [{**row, "fold": FOLDS[i % 4]} for i, row in enumerate(made_up(240))]
    hubs.add_task(hub, "a", rows[:120], target="gap")
    hubs.add_task(hub, "b", rows, target="gap", fold_column="fold", module=ModuleKind.NONE)
    return hub


@pytest.mark.parametrize(("least", "named"), [(20, False), (50, True)])
def test_a_module_may_have_seen_many_rows_where_enough_others_judge(hub, monkeypatch, least, named):
    monkeypatch.setattr(leakage, "MIN_UNSEEN", least)
    with open_workspace(hub) as (store, workspace):
        judged = _judged_rows(store, workspace)
        reason = judged.exclusion(store.ref("modules/a@cgcnn"))
    assert (reason is not None) == named


def test_only_rows_that_no_module_has_seen_judge(hub):
    with open_workspace(hub) as (store, workspace):
        judged = _judged_rows(store, workspace)
        digest = store.ref("modules/a@cgcnn")
        fingerprints = store.blob(Module.from_doc(store.record(digest)).blob).arrays["fingerprints"]
        left = judged.unseen_by([digest]).split
        untouched = judged.unseen_by([]).split
    split = judged.split
    seen = known_in(judged.rows.fingerprints, fingerprints)
    for before, after, same in (
        (split.validation, left.validation, untouched.validation),
        (split.held_out, left.held_out, untouched.held_out),
    ):
        assert after.tolist() == before[~seen[before]].tolist()
        assert 0 < len(after) < len(before)
        assert np.array_equal(same, before)
    assert np.array_equal(left.train, split.train)


def test_modules_that_leave_too_little_together_do_not_stand_side_by_side(
    hub, monkeypatch, add_task, made_up
):
    add_task("c", made_up(120, first=120), target="gap")
    monkeypatch.setattr(leakage, "MIN_UNSEEN", 20)
    with open_workspace(hub) as (store, workspace):
        judged = _judged_rows(store, workspace)
        a, c = store.ref("modules/a@cgcnn"), store.ref("modules/c@cgcnn")
        assert all(judged.exclusion(digest) is None for digest in (a, c))
        excluded = {
            order: list(judged.exclusions_together(order))
            for order in ((a,), (a, c), (c, a), (a, a))
        }
    assert excluded == {(a,): [], (a, c): [c], (c, a): [a], (a, a): []}
    done = Hub(hub).update()
    assert [one.text for one in done if one.action == "failed"] == []
    composition = Composition.from_doc(record(hub, "compositions/b@cgcnn"))
    assert len({a, c} & set(composition.modules)) <= 1
    assert len({a, c} & composition.excluded.keys()) == 1


def _judged_rows(store, workspace):
    fitted = Predictor.from_doc(store.record(store.ref("fitted/b")))
    rows, task = workspace.rows(fitted.dataset), Task.from_doc(store.record(fitted.task))
    split = split_of(rows, task.grouping, PredictorSettings())
    return leakage.JudgedRows(workspace, task, rows, split)
