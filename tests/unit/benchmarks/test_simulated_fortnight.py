"""Every fault of a laboratory is told in that night's mail, and none is served."""

from benchmarks.simulated_fortnight import live


def test_every_fault_is_told_once_and_none_is_served(tmp_path, reached):
    found = live(tmp_path)
    assert (found["nights"], found["faults"]) == (14, 11)
    wrong = ("untold", "needless_mails", "served", "wrong_exit_codes")
    assert {name: found[name] for name in wrong} == {name: [] for name in wrong}
    assert found["told_again"] == 0
    assert len(found["mails"]) == 11
    assert found["largest_error"] <= 2 * found["first_error"]
    reached(f"{found['faults']} faults in {found['nights']} nights: each told, none served")
