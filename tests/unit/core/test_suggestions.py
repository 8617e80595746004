"""Suggestions: the end of a message about a name that is not there."""

import pytest

from moma_cl.core.suggestions import did_you_mean


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("enrgy", {}, "; did you mean 'energy'?"),
        ("enrgy", {"otherwise": "look again"}, "; did you mean 'energy'?"),
        ("gapp", {"most": 2}, "; did you mean 'gap', 'gap2'?"),
        ("zzz", {"otherwise": "look again"}, "; look again"),
        ("zzz", {}, ""),
    ],
)
def test_the_nearest_names_are_suggested(name, options, told):
    assert did_you_mean(name, ["energy", "gap", "gap2"], **options) == told
