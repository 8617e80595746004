"""Derivations that fail: tried again later, set aside in the end, and nobody else is stopped."""

import pytest

from moma_cl.derivations import derive as deriving
from moma_cl.derivations.keys import DerivationKind
from moma_cl.hub import Hub
from moma_cl.reconciling import composer
from moma_cl.reconciling.failures import MAX_TRIES
from moma_cl.reconciling.reasons import StepStatus
from moma_store.errors import StorageError
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.hubs import refs

pytestmark = pytest.mark.fault("a derivation that keeps failing")


@pytest.fixture
def hub(hub):
    """Two tasks of which only the first answers are known."""
    for target in ("energy", "gap"):
        hubs.add_task(hub, target, 60, compose=False)
    return hub


@pytest.fixture
def broken(monkeypatch):
    """Make derivations fail that are chosen by a function."""
    original = deriving.derive

    def breaking(chosen, error=None):
        tried = []

        def derive(workspace, derivation):
            if chosen(derivation):
                tried.append(derivation.key)
                raise error or ZeroDivisionError("on purpose")
            return original(workspace, derivation)

        monkeypatch.setattr(deriving, "derive", derive)
        return tried

    return breaking


def of(task, kind):
    return lambda derivation: (derivation.task, derivation.kind) == (task, kind)


def actions(done, task):
    return [entry.action for entry in done if entry.task == task]


def statuses(hub, task):
    return {step.status for step in Hub(hub).plan(tasks=[task])}


def test_a_failing_derivation_backs_off_and_is_set_aside_after_three_tries(hub, broken):
    tried = broken(of("energy", DerivationKind.MODULE))
    seen = []
    for _ in range(6):
        done = Hub(hub).update()
        seen.append(
            (
                len(tried),
                [a for a in actions(done, "energy") if a in ("failed", StepStatus.WAITING)],
            )
        )
    # one pass goes by between the second try and the third
    assert [count for count, _ in seen] == [1, 2, 2, 3, 3, 3]
    assert [found for _, found in seen] == [
        ["failed"],
        ["failed"],
        [StepStatus.WAITING],
        ["failed"],
        [],
        [],
    ]
    (step,) = [step for step in Hub(hub).plan() if step.status == StepStatus.SET_ASIDE]
    assert (step.task, step.kind) == ("energy", "module")
    assert f"failed {MAX_TRIES} times: [derivation]" in step.why
    assert "ZeroDivisionError: on purpose" in step.why


def test_the_others_go_on(hub, broken):
    broken(of("energy", DerivationKind.ESTIMATE))
    done = Hub(hub).update()
    assert "failed" in actions(done, "energy") or "module" in actions(done, "energy")
    assert "modules/gap@cgcnn" in refs(hub)


def test_a_pass_with_nothing_but_what_is_set_aside_does_nothing(hub, broken):
    broken(of("energy", DerivationKind.MODULE))
    for _ in range(5):
        Hub(hub).update()
    with Store.open(hub) as store:
        entries = len(store.history())
    (left,) = Hub(hub).update()
    assert (left.action, left.task) == ("set-aside", "energy")
    with Store.open(hub) as store:
        assert len(store.history()) == entries


def test_trying_again_by_hand_mends_it_and_forgets_the_failure(hub, broken, monkeypatch):
    broken(of("energy", DerivationKind.MODULE))
    for _ in range(5):
        Hub(hub).update()
    monkeypatch.undo()
    assert Hub(hub).update(tasks=["gap"], retry=True) == []
    done = Hub(hub).update(retry=True)
    assert "module" in actions(done, "energy")
    assert refs(hub, "failures/") == {}


def test_other_inputs_are_another_derivation(hub, broken, monkeypatch, add_data, made_up):
    broken(of("energy", DerivationKind.MODULE))
    for _ in range(5):
        Hub(hub).update()
    assert StepStatus.SET_ASIDE in statuses(hub, "energy")
    monkeypatch.undo()
    done = add_data("energy", made_up(40, first=60)).done
    assert "module" in actions(done, "energy")
    assert refs(hub, "failures/") == {}


def test_a_module_whose_estimate_is_set_aside_is_done_without(hub, broken):
    Hub(hub).update(tasks=["gap"])
    bad = refs(hub)["modules/gap@cgcnn"]
    tried = broken(lambda derivation: derivation.inputs.get("module") == bad)
    for _ in range(5):
        Hub(hub).update()
    assert len(tried) == MAX_TRIES
    with Store.open(hub) as store:
        composition = store.record(store.ref("compositions/energy@cgcnn"))
        assert store.ref("modules/energy@cgcnn") is not None
    assert composition["n_candidates"] == 1


def test_a_comparison_that_fails_is_set_aside_too(hub, monkeypatch):
    tries = []

    def breaking(*arguments):
        tries.append(arguments)
        raise ZeroDivisionError("on purpose")

    Hub(hub).update()
    monkeypatch.setattr(composer, "compared", breaking)
    with Store.open(hub, write=True) as store, store.transaction("forget") as transaction:
        transaction.move_ref("fitted/energy", None, expected=store.ref("fitted/energy"))
    for _ in range(6):
        Hub(hub).update()
    assert len(tries) == MAX_TRIES
    assert statuses(hub, "energy") == {StepStatus.SET_ASIDE}
    monkeypatch.undo()
    Hub(hub).update(retry=True)
    with Store.open(hub) as store:
        assert store.ref("fitted/energy") is not None
        assert store.refs("failures/") == {}


def test_a_disk_that_refuses_is_no_derivation_s_failure(hub, broken):
    broken(of("energy", DerivationKind.MODULE), StorageError("no space left", errno=28))
    with pytest.raises(StorageError):
        Hub(hub).update()
    assert refs(hub, "failures/") == {}


def test_failures_of_a_removed_task_are_forgotten(hub, broken, add_data, made_up):
    broken(of("energy", DerivationKind.MODULE))
    Hub(hub).update()
    Hub(hub).remove_task("energy")
    add_data("gap", made_up(5, first=60))
    assert refs(hub, "failures/") == {}


def test_what_would_take_too_long_is_not_started_and_named(hub):
    done = Hub(hub).update(max_seconds=0.0)
    postponed = [entry for entry in done if entry.action == "postponed"]
    assert {entry.kind for entry in postponed} >= {"module"}
    assert not [entry for entry in done if entry.action in ("derived", "failed")]
    Hub(hub).update(tasks=["gap"])  # now the cost of a module is known
    with Store.open(hub) as store:
        (memo,) = store.memos("module:").values()
    with Store.open(hub, write=True) as store, store.transaction("slow") as transaction:
        (key,) = store.memos("module:")
        transaction.put_memo(key, memo.result, 1e4)
    done = Hub(hub).update(max_seconds=100.0)
    assert [e.text for e in done if e.action == "postponed"] == [
        "60 rows, cgcnn, which is likely to take 10000 s"
    ]
    assert "composed" in actions(done, "energy")  # what there is time for goes on
    assert "module" in actions(Hub(hub).update(), "energy")
