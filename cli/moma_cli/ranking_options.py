"""Options of ``predict`` that put rows in the order of a goal."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from moma_cl.commands.ranking import AcquireName, Ranking, SortName
from moma_cl.core.limits import MOST

Maximise = Annotated[
    bool, typer.Option("--max", help="Best first: the largest values. See --acquire.")
]
Minimise = Annotated[bool, typer.Option("--min", help="Best first: the smallest values.")]
Window = Annotated[
    str | None,
    typer.Option(
        "--target-window",
        metavar="LOW,HIGH",
        help="Best first: the likeliest to lie between these, in the task's unit.",
    ),
]
Sort = Annotated[
    SortName | None,
    typer.Option(
        help="Best first: largest value, narrowest interval, or nearest to known rows.",
    ),
]
Acquisition = Annotated[
    AcquireName | None,
    typer.Option(
        "--acquire",
        help="With --max or --min, weigh what is not known, too: expected improvement, upper "
        "confidence bound or Thompson sampling; like compositions come later.",
    ),
]
Outside = Annotated[
    bool,
    typer.Option("--outside", help="Let rows compete that are like nothing known; else last."),
]
Top = Annotated[int | None, typer.Option(min=1, max=MOST, help="Keep the best so many rows.")]


def ranking_of(*, window: str | None, **options: Any) -> Ranking | None:
    """Make what orders the rows; none where nothing of the kind is asked for."""
    if window is None and not any(options.values()):
        return None
    try:
        ends = None if window is None else tuple(map(float, window.split(",")))
        if ends is not None and len(ends) != 2:
            raise ValueError
    except ValueError as error:
        raise typer.BadParameter(
            f"{window!r} is not two numbers with a comma between them",
            param_hint="--target-window",
        ) from error
    return Ranking(window=ends, **options)
