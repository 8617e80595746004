"""Progress: one bar on stderr where a person is watching, nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from moma_cl.core.printable import printable

Progress = Callable[[str, int, int], None]


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Progress]:
    """Show how far long steps are, if `shown`, and if stderr is a terminal.

    Gives the function to be called with a label, the steps done and the steps planned.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    from moma_cl.progress import FIRST_ANSWER

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Bars(
        *columns,
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # Else rich would print what goes to a file or pipe above the bar instead.
        redirect_stdout=sys.stdout.isatty(),
    ) as bars:
        bar = bars.add_task("", total=None)
        current = ""

        def show(label: str, steps_done: int, steps_planned: int) -> None:
            nonlocal current
            label = printable(label)
            if label.startswith(FIRST_ANSWER):
                bars.console.print(label, markup=False, highlight=False)
                return
            if label != current:
                bars.reset(bar)
                current = label
            bars.update(bar, description=label, completed=steps_done, total=steps_planned or None)

        yield show
