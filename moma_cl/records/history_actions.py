"""What entries of the history say was done."""

from __future__ import annotations

from enum import StrEnum


class HistoryAction(StrEnum):
    """Actions of a hub's history; the store adds its own, such as ``import``."""

    INIT = "init"
    ADD_BACKBONE = "add-backbone"
    SET_RECIPE = "set-recipe"
    # tasks and their rows
    ADD_TASK = "add-task"
    ADD_DATA = "add-data"
    RETRACT = "retract"
    REMOVE_TASK = "remove-task"
    # modules, and records that are kept
    ADD_MODULE = "add-module"
    PIN = "pin"
    UNPIN = "unpin"
    # what a pass does
    DERIVE = "derive"  # the kind of the derivation follows: derive-estimate
    COMPOSE = "compose"
    MODULE = "module"  # a task's own module was added
    PROMOTE = "promote"
    FIT = "fit"  # a predictor was fitted and not promoted
    HOLD = "hold"  # a predictor was fitted, and waits until somebody confirms it
    CONFIRM = "confirm"
    ROLLBACK = "rollback"
    # failures
    FAIL = "fail"
    RETRY = "retry"
    FORGET_FAILURES = "forget-failures"
    # new rows that the champion was asked
    DRIFT = "drift"
    NEW_ROWS = "new-rows"
