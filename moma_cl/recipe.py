"""Recipes: every number that decides a derived result, pinned per task.

A recipe is a record. A task keeps the recipe it was added with, so a new release changes nothing
until the recipe is set anew. Each section holds the version of the algorithm it configures. The key
of a derivation is made of the sections it depends on, never of the whole recipe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from moma_cl.core.limits import MOST
from moma_store.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSettings:
    """How structures become embeddings."""

    version: int = 1
    max_edges: int = 8192  # in one batch; part of the recipe, since sums round by their order


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateSettings:
    """How useful a module is: leave-one-out prediction in its embedding space."""

    version: int = 1
    estimator: str = "ridge"  # "knn" (the paper's) or "ridge" (closed form)
    readout: str = "moments"  # "mean" of the last block (the paper's) or "moments" of all blocks
    k: int = 5  # neighbours, kNN
    temperature: float = 0.2  # of the softmax over similarities, kNN
    duplicate_distance: float = 1e-5  # cosine distance below which a row is no neighbour
    winsorise: float = 0.01  # share of targets pulled in at each end, so that outliers do not rule
    max_candidates: int = 32  # embedded in full; more are screened on a sample first
    sample_rows: int = 384  # rows of that sample


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSettings:
    """The convex program for the composition weights."""

    version: int = 1
    prune: float = 1e-6  # rise of the objective, in var(y), that dropping small weights may cost


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSettings:
    """The kernel head: ridge regression in closed form on embeddings."""

    version: int = 1
    length_scales: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the median distance
    ridges: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    readout_weights: tuple[float, ...] = (1.0, 10.0, 100.0)  # of the kernel of readouts
    readout_length_scales: tuple[float, ...] = (0.5, 1.0, 4.0, 16.0)  # of their median distance
    readouts_worth: float = 0.02  # share of the leave-one-out error that readouts must save
    max_rows: int = 4000  # rows the kernel is built on; beyond it a fixed sample
    cv_folds: int = 10  # grouped cross-validation of small tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Gradient training of an encoder with a fresh head."""

    version: int = 1
    epochs: int = 60
    batch_size: int = 16
    encoder_learning_rate: float = 1e-3
    adapter_learning_rate: float = 5e-3
    head_learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    warmup: float = 0.1  # share of all steps
    ema_decay: float = 0.99  # per step
    patience: int = 20  # epochs without a better validation error
    clip_norm: float = 1.0
    head_width: int = 64
    max_steps: int = 20000  # fewer epochs on large datasets
    rounded_bits: int = 8  # last places of the parameters that are not worth storing
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorSettings:
    """What a task's predictor is made of."""

    version: int = 1
    min_rows_training: int = 150  # fewer: kernel head only, grouped cross-validation
    min_rows_interval: int = 10  # fewer: the interval is the range of the labels
    interval_level: float = 0.9
    adapters: bool = True  # trained beside the whole encoders, and joined with them
    finetuned_backbones: int = 1  # the others answer by their kernel heads alone
    neighbours: int = 5  # for the distance to the nearest known rows

    def has_folds(self, *, n_train: int, n_validation: int, n_held_out: int) -> bool:
        """Say whether each fold has enough rows; otherwise the task is cross-validated.

        Gradients need `n_train` rows, choices `n_validation` and calibration `n_held_out`.
        """
        enough = n_train + n_validation + n_held_out >= self.min_rows_training
        return enough and min(n_train, n_validation) > 0 and n_held_out >= self.min_rows_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """From where to where a setting may be; an end that is open does not belong to it."""

    least: float
    most: float
    least_open: bool = False
    most_open: bool = False

    def expected(self, value: float) -> str | None:
        """Say what was expected instead of a value; none for a good one."""
        if not -math.inf < value < math.inf:
            return "a finite number"
        if value < self.least or (self.least_open and value == self.least):
            return f"{'more than' if self.least_open else 'at least'} {self.least:g}"
        if value > self.most or (self.most_open and value == self.most):
            return f"{'less than' if self.most_open else 'at most'} {self.most:.10g}"
        return None


_COUNT = _Range(least=1, most=MOST)
_COUNT_OR_NONE = _Range(least=0, most=MOST)
_POSITIVE = _Range(least=0.0, most=1e6, least_open=True)
_NOT_NEGATIVE = _Range(least=0.0, most=1e6)
_GAIN = _Range(least=-1.0, most=1.0)  # of an error; a negative one is always reached

_RANGES: dict[str, _Range] = {
    **dict.fromkeys(("max_edges", "k", "max_candidates", "sample_rows", "max_rows"), _COUNT),
    **dict.fromkeys(("epochs", "batch_size", "patience", "max_steps", "neighbours"), _COUNT),
    **dict.fromkeys(("head_width", "adapter_width"), _Range(least=1, most=2**16)),
    "threads": _Range(least=1, most=1024),
    **dict.fromkeys(
        ("min_rows_training", "min_rows_interval", "finetuned_backbones", "seed"), _COUNT_OR_NONE
    ),
    **dict.fromkeys(
        ("temperature", "clip_norm", "length_scales", "ridges", "readout_length_scales"), _POSITIVE
    ),
    **dict.fromkeys(("readout_weights", "prune", "weight_decay"), _NOT_NEGATIVE),
    **dict.fromkeys(
        ("encoder_learning_rate", "adapter_learning_rate", "head_learning_rate"), _NOT_NEGATIVE
    ),
    **dict.fromkeys(("readouts_worth", "worth_it"), _GAIN),
    "version": _Range(least=1, most=1),  # of the algorithms; so far each has one
    "cv_folds": _Range(least=2, most=MOST),
    "rounded_bits": _Range(least=0, most=16),
    "duplicate_distance": _Range(least=-1.0, most=2.0),  # negative: no row is a duplicate
    "winsorise": _Range(least=0.0, most=0.5, most_open=True),
    "warmup": _Range(least=0.0, most=1.0),
    "ema_decay": _Range(least=0.0, most=1.0, most_open=True),
    "interval_level": _Range(least=0.0, most=1.0, least_open=True, most_open=True),
    **dict.fromkeys(("retrain_factor", "refit_factor"), _Range(least=1.0, most=1e6)),
}
"""Of every setting that is a number, or a list of numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All settings of a task, pinned."""

    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    estimate: EstimateSettings = field(default_factory=EstimateSettings)
    weights: WeightsSettings = field(default_factory=WeightsSettings)
    kernel: KernelSettings = field(default_factory=KernelSettings)
    finetune: TrainingSettings = field(default_factory=TrainingSettings)
    module: TrainingSettings = field(default_factory=TrainingSettings)
    predictor: PredictorSettings = field(default_factory=PredictorSettings)
    worth_it: float = 0.02  # share by which the objective must fall for a new predictor
    retrain_factor: float = 1.5  # growth of a task at which its module is trained again
    refit_factor: float = 1.2  # growth at which its fine-tuned learners are trained again
    adapter_width: int = 32  # of a new hub's adapters; a task's recipe cannot change it
    # One, so that all machines round alike, and because two beside another job are far slower.
    threads: int = 1

    def to_doc(self) -> dict[str, Any]:
        """Write as a JSON document of kind ``recipe``, a record."""
        return {"kind": "recipe", "format": 1, **_listed(asdict(self))}

    @classmethod
    def from_doc(cls, doc: Mapping[str, Any]) -> Recipe:
        """Read a record, or a document with some settings; the others get their defaults.

        Raises `InvalidInputError` if a setting is unknown or has the wrong type.
        """
        settings = {name: value for name, value in doc.items() if name not in {"kind", "format"}}
        return cls(**{name: _read(cls, name, v, prefix="") for name, v in settings.items()})

    def __post_init__(self) -> None:
        _check("estimate.estimator", self.estimate.estimator, {"knn", "ridge"})
        _check("estimate.readout", self.estimate.readout, {"mean", "moments"})
        for name in ("length_scales", "ridges"):
            if not getattr(self.kernel, name):
                raise InvalidInputError(f"recipe setting 'kernel.{name}' is empty")
        _check_ranges(self)


def section(document: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Select from a recipe's record the sections that a derivation depends on, for its key.

    Single settings may be named, too; the number of threads is always included, since the rounding
    of sums depends on it. The record is used and not the recipe, so that a setting that a later
    release introduces changes no key as long as it has its default.
    """
    return {name: document[name] for name in (*names, "threads") if name in document}


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _listed(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _read(cls: type, name: str, value: Any, *, prefix: str) -> Any:
    names = {entry.name for entry in fields(cls)}
    if name not in names:
        raise InvalidInputError(
            f"recipe setting {prefix + name!r} is unknown; known here: {', '.join(sorted(names))}"
        )
    default = getattr(cls(), name)
    if hasattr(default, "__dataclass_fields__"):
        if not isinstance(value, Mapping):
            raise _wrong_type(prefix + name, value, "a section")
        settings = type(default)
        prefix = f"{prefix}{name}."
        return settings(**{key: _read(settings, key, v, prefix=prefix) for key, v in value.items()})
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not all(_is_number(v) for v in value):
            raise _wrong_type(prefix + name, value, "a list of numbers")
        return tuple(_to_float(prefix + name, number) for number in value)
    if isinstance(default, float) and _is_number(value):
        return _to_float(prefix + name, value)
    if type(value) is not type(default):
        raise _wrong_type(prefix + name, value, f"a value like {default!r}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _to_float(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError as error:  # an integer of hundreds of digits
        raise InvalidInputError(f"recipe setting {name!r} is far too large") from error


def _check(name: str, value: Any, allowed: set[Any]) -> None:
    if value not in allowed:
        listed = ", ".join(repr(choice) for choice in sorted(allowed))
        raise InvalidInputError(f"recipe setting {name!r} is {value!r}; expected {listed}")


def _check_ranges(settings: Any, prefix: str = "") -> None:
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if is_dataclass(value):
            _check_ranges(value, prefix=f"{entry.name}.")
        for number in value if isinstance(value, tuple) else (value,):
            if not _is_number(number):
                continue
            expected = _RANGES[entry.name].expected(number)
            if expected is not None:
                raise InvalidInputError(
                    f"recipe setting {prefix + entry.name!r} is {number!r}; expected {expected}"
                )


def _wrong_type(name: str, value: Any, expected: str) -> InvalidInputError:
    return InvalidInputError(f"recipe setting {name!r} is {value!r}; expected {expected}")
