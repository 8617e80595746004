"""Tasks that change while a pass derives: it ends as if that had been done before it."""

import shutil

import pytest

from moma_cl.commands import maintenance
from moma_cl.datasets import added_rows
from moma_cl.derivations import derive as deriving
from moma_cl.hub import Hub
from moma_cl.reconciling import composer, rounds
from moma_cl.reconciling.composer import Composer
from moma_cl.reconciling.pass_actions import PassAction
from moma_cl.reconciling.pass_lock import PassRunningError
from moma_cl.records.refs import RefKind
from moma_cl.records.tasks import task_state
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.hubs import refs
from tests.helpers.rows import made_up_rows

pytestmark = pytest.mark.fault("a task that changes while a pass derives")

DERIVED = ("tasks/", "datasets/", "recipes/", "compositions/", "modules/", "fitted/")


@pytest.fixture(scope="module")
def stale_hub(tmp_path_factory):
    """Two tasks of which only the first answers are known, the second of few rows."""
    recipe = hubs.short_recipe(1, worth_it=-1.0)
    hub = hubs.make_hub(tmp_path_factory.mktemp("stale") / "hub", recipe)
    hubs.add_task(hub, "energy", 60, compose=False)
    hubs.add_task(hub, "gap", 20, compose=False)
    return hub


@pytest.fixture
def hub(stale_hub, tmp_path):
    return shutil.copytree(stale_hub, tmp_path / "hub")


@pytest.fixture
def meanwhile(monkeypatch):
    """Do something once, while the derivation of a number is computed."""
    original = deriving.derive_all

    def doing(action, at=0):
        begun = []

        def derive_all(workspace, derivations):
            begun.append(derivations[0].key)
            if len(begun) == at + 1:
                action()
            return original(workspace, derivations)

        monkeypatch.setattr(deriving, "derive_all", derive_all)
        return begun

    return doing


def state(hub):
    return {name: digest for name, digest in refs(hub).items() if name.startswith(DERIVED)}


def add_rows(hub):
    hubs.add_data(hub, "energy", made_up_rows(10, first=60), compose=False)


def retract(hub):
    Hub(hub).retract("energy", ["row-3", "row-40"], compose=False)


def set_recipe(hub):
    Hub(hub).set_recipe("gap", {"estimate": {"k": 3}}, compose=False)


def remove_task(hub):
    Hub(hub).remove_task("energy")


def add_task(hub):
    hubs.add_task(hub, "modulus", 20, unit="GPa", compose=False)


CHANGES = (add_rows, retract, set_recipe, remove_task, add_task)


@pytest.fixture(scope="module")
def one_after_the_other(stale_hub, tmp_path_factory):
    """What the refs are where a pass comes after the change."""
    states = {}
    for change in CHANGES:
        hub = shutil.copytree(stale_hub, tmp_path_factory.mktemp("after") / "hub")
        change(hub)
        Hub(hub).update()
        states[change] = state(hub)
    return states


@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_pass_ends_as_if_the_change_had_come_before_it(
    hub, meanwhile, one_after_the_other, change, at
):
    begun = meanwhile(lambda: change(hub), at)
    done = Hub(hub).update()
    assert len(begun) > at
    assert state(hub) == one_after_the_other[change]
    assert [entry.text for entry in done if entry.action == PassAction.FAILED] == []
    assert refs(hub, RefKind.FAILURE.prefix) == {}
    assert Hub(hub).plan() == []
    assert not maintenance.verify(hub, deep=True).problems


def test_what_became_stale_is_kept_and_found_again(hub, meanwhile):
    begun = meanwhile(lambda: set_recipe(hub), at=1)
    Hub(hub).update()
    stale = begun[1]
    assert stale.startswith("estimate:")
    assert stale in hubs.memo_results(hub)
    again = meanwhile(lambda: None)
    Hub(hub).set_recipe("gap", None)
    assert stale not in again
    assert Hub(hub).plan() == []


def test_the_new_rows_are_asked_before_they_are_learned(hub, meanwhile, caplog):
    """A colleague's rows in another unit hold the promotion, as they do between two passes."""
    Hub(hub).update()
    hubs.add_data(hub, "energy", made_up_rows(5, first=60), compose=False)
    wrong = [row | {"energy": 1000 * row["energy"]} for row in made_up_rows(10, first=65)]

    def add_wrong_rows():
        hubs.add_data(hub, "energy", wrong, compose=False)
        caplog.clear()  # a colleague has a process of his own, and caches that are free

    meanwhile(add_wrong_rows)
    champion = refs(hub)["predictors/energy"]
    done = Hub(hub).update()
    assert PassAction.DRIFT in [entry.action for entry in done if entry.task == "energy"]
    assert refs(hub)["holds/energy"]
    assert "no cache" not in caplog.text  # one workspace after the other
    fitted = hubs.record(hub, "fitted/energy")
    assert fitted["dataset"]["$record"] == refs(hub)["datasets/energy"]
    assert refs(hub)["predictors/energy"] == champion or (
        hubs.record(hub, "predictors/energy")["dataset"] != fitted["dataset"]
    )


def test_a_champion_that_is_rolled_back_meanwhile_is_what_the_next_is_compared_with(
    hub, meanwhile, monkeypatch
):
    Hub(hub).update()
    hubs.add_data(hub, "energy", made_up_rows(10, first=60))
    first = [d for d in _champions(hub) if d != refs(hub)["predictors/energy"]]
    assert first
    hubs.add_data(hub, "energy", made_up_rows(10, first=70), compose=False)
    compared = []
    original = composer.compared

    def compare(store, opened, task, champion, predictor):
        if task == "energy" and not compared:
            Hub(hub).rollback("energy", to=first[0])
        compared.append(champion)
        return original(store, opened, task, champion, predictor)

    monkeypatch.setattr(composer, "compared", compare)
    Hub(hub).update()
    assert compared[-1] == first[0] != compared[0]
    assert Hub(hub).plan() == []


def _champions(hub):
    with Store.open(hub) as store:
        moves = [
            change
            for entry in store.history(ref_prefix="predictors/energy")
            for change in entry.changes
            if change.name == "predictors/energy"
        ]
    return [change.new for change in moves if change.new]


def test_a_task_that_changes_in_every_round_is_left_to_the_next_pass(hub, monkeypatch):
    monkeypatch.setattr(rounds, "MOST_ROUNDS", 2)
    original = Composer._walk
    rows = iter(range(60, 100))

    def walk(self, only):
        hubs.add_data(hub, "gap", made_up_rows(1, first=next(rows)), compose=False)
        original(self, only)

    monkeypatch.setattr(Composer, "_walk", walk)
    done = Hub(hub).update()
    left = [entry for entry in done if entry.action == PassAction.LEFT and "again" in entry.text]
    assert [entry.task for entry in left] == ["gap"]
    assert PassAction.FAILED not in [entry.action for entry in done]
    monkeypatch.undo()
    Hub(hub).update()
    assert Hub(hub).plan() == []


def test_a_failure_under_a_change_does_not_count(hub, monkeypatch):
    original = deriving.derive
    tried = []

    def derive(workspace, derivation):
        if derivation.task == "energy" and not tried:
            tried.append(derivation.key)
            add_rows(hub)
            raise ZeroDivisionError("on purpose")
        return original(workspace, derivation)

    monkeypatch.setattr(deriving, "derive", derive)
    done = Hub(hub).update()
    assert PassAction.FAILED not in [entry.action for entry in done]
    assert refs(hub, RefKind.FAILURE.prefix) == {}
    assert Hub(hub).plan() == []


def test_what_fails_is_tried_once_in_a_pass_of_two_rounds(hub, monkeypatch):
    original = deriving.derive
    tried = []

    def derive(workspace, derivation):
        if derivation.task == "energy" and derivation.kind == "module":
            tried.append(derivation.key)
            raise ZeroDivisionError("on purpose")
        if derivation.task == "gap" and len(tried) == 1:
            set_recipe(hub)
        return original(workspace, derivation)

    monkeypatch.setattr(deriving, "derive", derive)
    done = Hub(hub).update()
    assert len(tried) == 1
    assert Hub(hub).plan(tasks=["gap"]) == []
    failed = [entry for entry in done if entry.action == PassAction.FAILED]
    assert [entry.task for entry in failed] == ["energy"]


class TestOnePassAtATime:
    """What other processes may do while a pass derives, and what not."""

    def test_a_second_pass_is_told_who_makes_the_first(self, hub, meanwhile):
        seen = []

        def second():
            with pytest.raises(PassRunningError, match="is being brought up to date by process"):
                Hub(hub).update()
            seen.append(True)

        meanwhile(second)
        Hub(hub).update()
        assert seen
        assert Hub(hub).plan() == []

    def test_what_takes_away_waits_for_the_pass(self, hub, meanwhile):
        seen = []

        def tidy():
            for verb in (Hub(hub).gc, lambda: Hub(hub).verify(repair=True)):
                with pytest.raises(PassRunningError):
                    verb()
            assert not Hub(hub).verify().problems
            seen.append(True)

        meanwhile(tidy)
        Hub(hub).update()
        assert seen
        assert Hub(hub).gc().blobs >= 0

    def test_rows_are_stored_and_left_to_the_pass(self, hub, meanwhile):
        added = []
        meanwhile(lambda: added.append(hubs.add_data(hub, "energy", made_up_rows(5, first=60))))
        Hub(hub).update()
        assert added[0].added == 5
        assert [entry.action for entry in added[0].done] == [PassAction.LEFT_TO_ANOTHER]
        assert "its pass takes this up" in added[0].done[0].text
        assert (
            hubs.record(hub, "fitted/energy")["dataset"]["$record"]
            == (refs(hub)["datasets/energy"])
        )

    def test_a_new_task_answers_while_the_pass_goes_on(self, hub, meanwhile):
        answered = []

        def add():
            hubs.add_task(hub, "modulus", 20, unit="GPa")
            answered.append(refs(hub)["predictors/modulus"])

        meanwhile(add)
        Hub(hub).update()
        assert answered
        assert "fitted/modulus" in refs(hub)

    def test_deliveries_are_taken_in_while_the_pass_goes_on(self, hub, meanwhile):
        from moma_cl.automation import inbox
        from tests.helpers.rows import write_rows

        folder = inbox.folder_of(hub, "energy")
        folder.mkdir(parents=True, exist_ok=True)
        done = []

        def deliver():
            write_rows(folder / "tonight.jsonl", made_up_rows(5, first=60))
            done.extend(Hub(hub).update(settle=0.0))

        meanwhile(deliver)
        Hub(hub).update(settle=0.0)
        actions = [entry.action for entry in done]
        assert actions == [PassAction.ADDED, PassAction.LEFT_TO_ANOTHER]
        assert (folder / "done" / "tonight.jsonl").exists()
        assert (
            hubs.record(hub, "fitted/energy")["dataset"]["$record"]
            == (refs(hub)["datasets/energy"])
        )

    def test_a_first_answer_is_made_anew_when_its_rows_change(self, hub, meanwhile):
        def change():
            with Store.open(hub) as store, store.writing():  # and no first answer follows
                state = task_state(store, "modulus")
                added_rows.append_retraction(store, state, frozenset({"row-0"}))
            hubs.add_data(hub, "gap", made_up_rows(1, first=60), compose=False)

        begun = meanwhile(change)
        done = hubs.add_task(hub, "modulus", 20, unit="GPa", compose=False).done
        promoted = [entry.task for entry in done if entry.action == PassAction.PROMOTED]
        assert promoted == ["modulus"]
        predictor = hubs.record(hub, "predictors/modulus")
        assert predictor["dataset"]["$record"] == refs(hub)["datasets/modulus"]
        assert {key.partition(":")[0] for key in begun} == {
            "estimate",
            "composition",
            "learner",
            "predictor",
        }
        assert len(begun) == 5  # the first estimate was of the rows of before
