"""Progress: one bar on stderr where a person is watching, nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Progress]:
    """Show how far long steps are.

    Parameters
    ----------
    shown
        Whether to show anything; where stderr is no terminal, nothing is shown in any case.

    Yields
    ------
    Progress
        To be told a label, the steps done and the steps planned.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda label, done, total: None  # noqa: ARG005  named as Progress has them
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(
        *columns,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        # Else rich would print what goes to a file or pipe above the bar instead.
        redirect_stdout=sys.stdout.isatty(),
    ) as bars:
        bar = bars.add_task("", total=None)
        current = ""

        def show(label: str, done: int, total: int) -> None:
            nonlocal current
            if label != current:
                bars.reset(bar)
                current = label
            bars.update(bar, description=label, completed=done, total=total or None)

        yield show
