"""Honest error bars: coverage and width of intervals, and whether ``outside`` means what it says.

The nine datasets of the paper beside the repository, in its five splits. Held-out rows are divided
in two, a hundred times: one half calibrates, the other is measured. Measured are the kernel heads
that answer first, and, of the hubs that ``make paper`` has left, the predictors that join the
learners of both backbones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.datasets.split import split_of
from moma_cl.hub import Hub
from moma_cl.predictors.intervals import conformal_quantile
from moma_cl.predictors.predictor import LoadedPredictor, graphs_for, load_predictor
from moma_cl.progress import quiet
from moma_cl.records.records import ModuleKind, Task
from moma_cl.records.refs import RefKind
from moma_cl.workspace.workspace import Workspace
from moma_store.store import Store

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PAPER = {
    "jarvis_2d_dielectric_opt": ("dielectric_constant", "1"),
    "jarvis_2d_eform": ("formation_energy", "eV/atom"),
    "jarvis_2d_exfoliation": ("exfoliation_energy", "meV/atom"),
    "mp_elastic_anisotropy": ("elastic_anisotropy", "1"),
    "mp_eps_electronic": ("log_eps_electronic", "1"),
    "mp_phonons": ("log_last_phdos_peak", "1"),
    "mp_poisson_ratio": ("poisson_ratio", "1"),
    "mp_poly_electronic": ("poly_electronic", "1"),
    "mp_poly_total": ("poly_total", "1"),
}
FITS = [(name, split) for name in PAPER for split in range(5)]
FINISHED = Path("build/paper")  # where `make paper` leaves a hub for each of them
LAYERED = "jarvis_2d_eform"  # the task that is asked about perovskites
LEVEL = 0.9
HALVINGS = 100

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Measured:
    """One task in one split.

    Attributes
    ----------
    coverage, width, constant_width
        Share of the measured half within its interval, and mean width with and without a
        difficulty, each of shape ``(n_halvings,)``; widths over the deviation of the targets.
    varies
        Whether validation rows chose widths that vary.
    words
        What held-out rows are called, shape ``(n_held_out,)``.
    errors
        Their absolute errors over the mean of the task and split, same shape.
    """

    task: str
    coverage: FloatArray
    width: FloatArray
    constant_width: FloatArray
    varies: bool
    words: NDArray[np.str_]
    errors: FloatArray


def run() -> list[dict[str, Any]]:
    """Add the tasks split by split and measure their predictors."""
    with tempfile.TemporaryDirectory() as folder:
        hubs = {(name, split): Path(folder) / f"{name}-{split}" for name, split in FITS}
        for (name, split), hub in hubs.items():
            _make(hub, name, split)
        rows = _rows(hubs, "at once")
    finished = {(name, split): FINISHED / f"composed-{name}-{split}" for name, split in FITS}
    finished = {fit: hub for fit, hub in finished.items() if _is_fitted(hub, fit[0])}
    if finished:
        rows += _rows(finished, f"composed, {len(finished)} fits")
    return rows


def _is_fitted(hub: Path, name: str) -> bool:
    if not (hub / "hub.toml").exists():
        return False
    with Store.open(hub) as store:
        return store.ref(RefKind.FITTED.of(name)) is not None


def _rows(hubs: Mapping[tuple[str, int], Path], which: str) -> list[dict[str, Any]]:
    measured = [_measure(hub, name) for (name, _), hub in hubs.items()]
    strangers = _strangers(next(hub for (name, _), hub in hubs.items() if name == LAYERED))
    rows = [*_coverage_rows(measured), _width_row(measured), *_domain_rows(measured), strangers]
    return [row | {"name": f"{which}: {row['name']}"} for row in rows]


def _make(hub: Path, name: str, split: int) -> None:
    target, unit = PAPER[name]
    Hub(hub).init(backbones=["chgnet"], starter=False)
    Hub(hub).add_task(
        name,
        [DATA / "paper" / f"{name}.jsonl.gz"],
        target=target,
        unit=unit,
        fold_column=f"fold_{split}",
        module=ModuleKind.NONE,
        compose=False,
    )


def _measure(hub: Path, name: str) -> Measured:
    with Store.open(hub) as store, Workspace(store=store, progress=quiet) as workspace:
        predictor = load_predictor(workspace, store.ref(RefKind.PREDICTOR.of(name)) or "")
        return _measured(workspace, predictor, name)


def _measured(workspace: Workspace, predictor: LoadedPredictor, name: str) -> Measured:
    calibrated = predictor.artifact.calibrated
    residuals, stored = calibrated.residuals, calibrated.residual_difficulty
    difficulty = np.ones(len(residuals)) if stored is None else stored
    halves = [
        _halved(residuals, scale, np.random.default_rng(turn))
        for turn in range(HALVINGS)
        for scale in (difficulty, np.ones(len(residuals)))
    ]
    varying, constant = np.array(halves[::2]), np.array(halves[1::2])
    rows = workspace.rows(predictor.record.dataset)
    grouping = Task.from_doc(workspace.store.record(predictor.record.task)).grouping
    held_out = split_of(rows, grouping, predictor.recipe.predictor).held_out
    graphs = graphs_for(workspace, predictor.record, rows, held_out)
    answers = predictor.answer(graphs, level=LEVEL)
    errors = np.abs(answers.values - rows.targets[held_out])
    crystals = workspace.crystals(rows, held_out)
    words = [
        predictor.domain.applicability(
            distance, strangers=bool(predictor.domain.strangers(crystal.atomic_numbers.tolist()))
        )
        for distance, crystal in zip(answers.distances, crystals, strict=True)
    ]
    return Measured(
        task=name,
        coverage=varying[:, 0],
        width=varying[:, 1],
        constant_width=constant[:, 1],
        varies=stored is not None,
        words=np.array(words, dtype=np.str_),
        errors=errors / errors.mean(),
    )


def _halved(
    residuals: FloatArray, difficulty: FloatArray, generator: np.random.Generator
) -> tuple[float, float]:
    """Calibrate on one half; give coverage and mean width on the other."""
    order = generator.permutation(len(residuals))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    half_width = (
        conformal_quantile(residuals[first] / difficulty[first], LEVEL) * difficulty[second]
    )
    return float(np.mean(residuals[second] <= half_width)), float(2 * half_width.mean())


def _strangers(hub: Path) -> dict[str, Any]:
    rows = list(
        Hub(hub).iter_predictions(LAYERED, [DATA / "upstream" / "castelli_perovskites.jsonl.gz"])
    )
    answered = [row for row in rows if row.status == "ok"]
    share = float(np.mean([row.applicability != "inside" for row in answered]))
    name = f"{len(answered)} perovskites called outside or edge by 2D formation energy"
    return _row(name, share, None, "", (0.9, None))


def _coverage_rows(measured: list[Measured]) -> Iterator[dict[str, Any]]:
    pooled = float(np.mean(np.concatenate([one.coverage for one in measured])))
    yield _row("coverage of 90 % intervals, pooled", pooled, None, "", (0.88, 0.92))
    for name in dict.fromkeys(one.task for one in measured):
        own = [one for one in measured if one.task == name]
        coverage = float(np.mean([one.coverage for one in own]))
        yield _row(f"coverage, {name}", coverage, None, "", (0.82, None))
        width = float(np.mean([one.width for one in own]))
        constant = float(np.mean([one.constant_width for one in own]))
        chosen = sum(one.varies for one in own)
        label = f"mean width against constant, {name}, varying in {chosen} of {len(own)} splits"
        yield _row(label, width, constant, "deviations", None)


def _width_row(measured: list[Measured]) -> dict[str, Any]:
    ratios = [np.mean(one.width) / np.mean(one.constant_width) for one in measured]
    ratio = float(np.exp(np.mean(np.log(ratios))))
    return _row("mean width over constant width, geometric mean", ratio, None, "", None)


def _domain_rows(measured: list[Measured]) -> Iterator[dict[str, Any]]:
    words = np.concatenate([one.words for one in measured])
    errors = np.concatenate([one.errors for one in measured])
    inside = float(errors[words == "inside"].mean())
    for word, bar in (("edge", None), ("outside", (1.5, None))):
        chosen = errors[words == word]
        label = (
            f"error of {len(chosen)} rows {word} against {int(np.sum(words == 'inside'))} inside"
        )
        yield _row(label, float(chosen.mean()) / inside, None, "x", bar)


def _row(
    name: str,
    ours: float,
    theirs: float | None,
    unit: str,
    bar: tuple[float, float | None] | None,
) -> dict[str, Any]:
    low, high = bar or (None, None)
    text = None if bar is None else f">= {low:g}" if high is None else f"{low:g} to {high:g}"
    holds = None if low is None else ours >= low and (high is None or ours <= high)
    return {
        "name": name,
        "ours": ours,
        "theirs": theirs,
        "unit": unit,
        "ratio": None if theirs is None else ours / theirs,
        "bar": text,
        "holds": holds,
    }
