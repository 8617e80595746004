"""What is kept of the last passes."""

from moma_cl.automation import last_pass
from moma_cl.automation.last_pass import PassOutcome, last_passes, noted
from moma_cl.reconciling.pass_actions import Done, PassAction


def made(hub, *actions, text="it is so"):
    with noted(hub) as done:
        done.extend(
            Done(task="energy", action=action, kind="", text=text, seconds=0.0)
            for action in actions
        )


def test_passes_that_did_something_are_kept_and_idle_ones_only_while_they_are_the_last(tmp_path):
    assert last_pass.last_pass(tmp_path) is None
    made(tmp_path, PassAction.REFUSED, text="a file")
    made(tmp_path)
    made(tmp_path)
    made(tmp_path, PassAction.DERIVED)
    made(tmp_path)
    outcomes = [one.outcome for one in last_passes(tmp_path)]
    assert outcomes == [PassOutcome.IDLE, PassOutcome.WORKED, PassOutcome.WORKED]
    assert [one.problems for one in last_passes(tmp_path)] == [[], [], ["energy: a file"]]
    assert last_pass.last_pass(tmp_path).outcome == PassOutcome.IDLE


def test_only_so_many_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(last_pass, "KEPT", 3)
    for number in range(6):
        made(tmp_path, PassAction.DRIFT, text=str(number))
    told = [one.problems for one in last_passes(tmp_path)]
    assert told == [["energy: 5"], ["energy: 4"], ["energy: 3"], ["energy: 2"]]


def test_a_file_of_another_version_is_no_pass(tmp_path):
    (tmp_path / last_pass.FILE).write_text('{"passes": [{"at": 1}]}')
    assert last_passes(tmp_path) == ()
    made(tmp_path, PassAction.DERIVED)
    assert len(last_passes(tmp_path)) == 1
