"""Continual learning for material property prediction: modules, composition, prediction.

These names are the public interface; everything else may change without notice. They are loaded
when they are first used, so that ``import moma_cl`` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers read it; importing `typing` takes longer than all the rest
if TYPE_CHECKING:
    from moma_cl import errors
    from moma_cl.commands.predict_properties import predict
    from moma_cl.commands.predictions import PredictedRow, Predictions
    from moma_cl.commands.ranking import Ranking
    from moma_cl.hub import Hub
    from moma_cl.recipe import Recipe
    from moma_cl.records.task_spec import TaskSpec

__version__ = "0.1.0"

__all__ = [
    "Hub",
    "PredictedRow",
    "Predictions",
    "Ranking",
    "Recipe",
    "TaskSpec",
    "__version__",
    "errors",
    "predict",
]

_HOMES = {
    "Hub": "moma_cl.hub",
    "PredictedRow": "moma_cl.commands.predictions",
    "Predictions": "moma_cl.commands.predictions",
    "Ranking": "moma_cl.commands.ranking",
    "Recipe": "moma_cl.recipe",
    "TaskSpec": "moma_cl.records.task_spec",
    "predict": "moma_cl.commands.predict_properties",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "errors":
        return import_module("moma_cl.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'moma_cl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
