"""Limits of numbers that users give."""

import math
from pathlib import Path

import pytest

from moma_cl import Hub
from moma_cl.automation.daemon import Daemon
from moma_cl.commands.add_module import Weights
from moma_cl.core.limits import LONGEST, check_number, check_seconds
from moma_store.errors import InvalidInputError
from tests.helpers.stores import new_store

ENDLESS = (math.inf, -math.inf, math.nan, 1e300)


def test_a_number_in_range_passes_and_the_message_names_another():
    for value in (0, 0.5, 1.0):
        check_number("share", value, least=0.0, most=1.0)
    with pytest.raises(InvalidInputError, match=r"share is 1\.5; expected a number from 0 to 1"):
        check_number("share", 1.5, least=0.0, most=1.0)
    with pytest.raises(InvalidInputError, match="share is nan; expected a finite number"):
        check_number("share", math.nan, least=0.0, most=1.0)


@pytest.mark.parametrize("value", ENDLESS)
def test_no_verb_waits_for_ever(tmp_path, value):
    new_store(tmp_path / "hub").close()
    hub = Hub(tmp_path / "hub")
    weights = Weights(file=Path("x"), property="gap", unit="eV", validation_mae=value)
    for call in (
        lambda: check_seconds("time", value),
        lambda: Hub(tmp_path / "hub", wait=value),
        lambda: hub.update(settle=value),
        lambda: hub.update(max_seconds=value),
        lambda: hub.add_module("module", weights),
        lambda: Daemon(hub=tmp_path / "hub", command=["true"], interval=value),
    ):
        with pytest.raises(InvalidInputError, match="expected a"):
            call()


def test_a_year_is_the_longest_wait():
    check_seconds("time", LONGEST)
    with pytest.raises(InvalidInputError, match="from 0 to 31622400"):
        check_seconds("time", LONGEST + 1)
