"""The picture of a hub: which task composes which modules, and what that does to its error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.demo.gains import BACKBONE, TaskSummary, three_digits

OTHERS = "starter_modules"  # all that are no task's, together

_INK, _FAINT, _GRID = "#1b1f24", "#6b7280", "#d8dce2"
_BETTER, _WORSE, _UNDECIDED = "#1a6fb0", "#b5482b", "#8a9099"
_DARK = 0.55  # weight from which text on the cell is white
_DPI = 200
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, and has the units' superscripts
    "font.size": 9.0,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "hatch.color": _GRID,
    "hatch.linewidth": 0.8,
}


def weights_picture(rows: Sequence[TaskSummary], path: Path, *, title: str) -> None:
    """Draw the weights of every task over every module, and the change of its error.

    Parameters
    ----------
    rows
        The tasks, from top to bottom; their modules stand in the same order from left to right.
    path
        The file; its suffix decides the format.
    title
        What stands above.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = [BACKBONE, *(row.task for row in rows)]
    if any(row.weights.keys() - set(columns) for row in rows):
        columns.append(OTHERS)
    with mpl.rc_context(_STYLE):
        size = (4.4 + 0.95 * len(columns), 2.2 + 0.5 * len(rows))
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
        figure = Figure(figsize=size, dpi=_DPI, layout=layout)
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[0.95 * len(columns), 2.9])
        _draw_weights(left, rows, columns)
        _draw_changes(right, rows)
        figure.suptitle(title, x=0.01, ha="left", size=12.5, weight="bold")
        # No software version in the file: equal hubs give equal pictures.
        metadata = {"Software": None} if path.suffix == ".png" else {}
        figure.savefig(path, metadata=metadata)


def _draw_weights(axes: Any, rows: Sequence[TaskSummary], columns: Sequence[str]) -> None:
    weights = _matrix(rows, columns)
    axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for place, row in enumerate(rows):
        for column, module in enumerate(columns):
            _draw_cell(axes, row, module, float(weights[place, column]), (column, place))
    axes.set_xticks(range(len(columns)), [_column_label(name) for name in columns])
    axes.set_yticks(range(len(rows)), [_row_label(row) for row in rows])
    axes.xaxis.tick_top()
    axes.set_xlabel(
        "own: no candidate for its own task.  barred: its property reveals the answers.",
        color=_FAINT,
        labelpad=8,
    )
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2.0)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Weight of each module, %", loc="left", size=10, pad=10)


def _matrix(rows: Sequence[TaskSummary], columns: Sequence[str]) -> NDArray[np.float64]:
    shown = np.array([[row.weights.get(module, 0.0) for module in columns] for row in rows])
    if OTHERS in columns:
        named = set(columns)
        rest = [sum(w for name, w in row.weights.items() if name not in named) for row in rows]
        shown[:, columns.index(OTHERS)] = rest
    return shown


def _draw_cell(
    axes: Any, row: TaskSummary, module: str, weight: float, at: tuple[int, int]
) -> None:
    """Write a weight, or why there is none."""
    if module == row.task or module in row.excluded:
        from matplotlib.patches import Rectangle

        corner = (at[0] - 0.5, at[1] - 0.5)
        hatch = "" if module == row.task else "////"
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="#f1f2f4", hatch=hatch, linewidth=0))
        text, color = ("own" if module == row.task else "barred"), _FAINT
    elif weight > 0:
        text = f"{100 * weight:.0f}" if weight >= 0.005 else "<1"
        color = "white" if weight > _DARK else _INK
    else:
        text, color = "0", "#a8aeb8"
    axes.text(*at, text, ha="center", va="center", color=color)


def _column_label(name: str) -> str:
    """Put a name on two lines, so that all names stand at one height."""
    first, _, rest = name.partition("_")
    return f"{first}\n{rest.replace('_', ' ')}"


def _row_label(row: TaskSummary) -> str:
    return f"{row.task.replace('_', ' ')}\n{row.rows} rows"


def _draw_changes(axes: Any, rows: Sequence[TaskSummary]) -> None:
    axes.axvline(0.0, color=_INK, linewidth=0.9)
    for place, row in enumerate(rows):
        if row.gain is None:
            axes.text(0.0, place, "not comparable", color=_FAINT, ha="center", va="center")
            continue
        change = 100 * row.gain.change
        low, high = (100 * end for end in row.gain.change_interval)
        color = _BETTER if high < 0 else _WORSE if low > 0 else _UNDECIDED
        axes.plot([low, high], [place, place], color=color, linewidth=2.0, solid_capstyle="butt")
        axes.plot([change], [place], "o", color=color, markersize=6)
        text = f"{three_digits(row.gain.error_with)} {row.unit}"
        axes.annotate(
            text, (1.03, place), xycoords=("axes fraction", "data"), va="center", color=_INK
        )
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", which="both", length=0, labelleft=False)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.set_title(
        "Mean error with modules\nagainst the backbone alone", loc="left", size=10, pad=10
    )
    axes.set_xlabel("change, % (bar: 95 % interval)", color=_FAINT, labelpad=8)
