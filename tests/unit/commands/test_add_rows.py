"""Rows that are added while others change the same task: nobody is kept out meanwhile."""

import pytest

from moma_cl.commands import new_task
from moma_cl.hub import Hub
from moma_store.errors import AlreadyExistsError, ConflictError
from tests.helpers import hubs
from tests.helpers.inboxes import stored, targets
from tests.helpers.rows import made_up_rows


@pytest.fixture
def hub(hub):
    hubs.add_task(hub, "energy", 30, compose=False)
    return hub


@pytest.fixture
def meanwhile(monkeypatch):
    """Do something once, after rows were read and before they are stored."""
    original = new_task.read

    def doing(action):
        actions = [action]

        def read(*arguments, **options):
            intake = original(*arguments, **options)
            if actions:
                actions.pop()()
            return intake

        monkeypatch.setattr(new_task, "read", read)

    return doing


def test_rows_that_came_meanwhile_are_repeats(hub, meanwhile):
    rows = made_up_rows(4, first=30)
    meanwhile(lambda: hubs.add_data(hub, "energy", rows[2:], compose=False))
    added = hubs.add_data(hub, "energy", hubs._file(hub, rows), compose=False)
    assert (added.added, added.repeated, added.rows) == (2, 2, 34)
    assert stored(hub)[30:] == ["row-32", "row-33", "row-30", "row-31"]


def test_what_was_retracted_meanwhile_stays_so(hub, meanwhile):
    meanwhile(lambda: Hub(hub).retract("energy", ["row-0"], compose=False))
    added = hubs.add_data(hub, "energy", made_up_rows(1, first=30), compose=False)
    assert added.rows == 30
    assert "row-0" not in targets(hub)


def test_a_task_that_was_made_anew_meanwhile_gets_no_rows(hub, meanwhile):
    def anew():
        Hub(hub).remove_task("energy")
        hubs.add_task(hub, "energy", 20, unit="GPa", compose=False)

    meanwhile(anew)
    with pytest.raises(ConflictError, match="made anew"):
        hubs.add_data(hub, "energy", made_up_rows(5, first=30), compose=False)
    assert len(targets(hub)) == 20


def test_a_name_that_was_taken_meanwhile_is_refused(hub, meanwhile):
    meanwhile(lambda: hubs.add_task(hub, "gap", 20, compose=False))
    with pytest.raises(AlreadyExistsError, match="gap"):
        hubs.add_task(hub, "gap", 25, compose=False)
    assert len(targets(hub, "gap")) == 20
