"""The program: the options that every command has, and how a function becomes a command."""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from moma_cl.core.printable import printable_lines
from moma_cli.output import Output, print_output
from moma_cli.progress import Progress, progress_bar

if TYPE_CHECKING:
    import logging

    from moma_cl.core.devices import DeviceName
    from moma_cl.hub import Hub as HubOfRun

HUB_VARIABLE = "MOMA_CL_HUB"
DEFAULT_HUB = Path("moma-hub")

PANELS = {
    "Start": ("init", "add-backbone", "demo"),
    "Add and remove data": ("add-task", "add-tasks", "add-data", "retract", "remove-task"),
    "Predict": ("predict", "evaluate"),
    "List and inspect": ("tasks", "modules", "show", "log", "status"),
    "Stay up to date": (
        "update",
        "plan",
        "set-recipe",
        "confirm",
        "rollback",
        "daemon",
        "schedule",
    ),
    "Maintain the hub": ("verify", "gc", "migrate", "pin", "unpin"),
    "Exchange modules": ("export", "import", "add-module"),
}
"""The commands as the help lists them."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One run of the program; its options are set while the arguments are parsed."""

    json: bool
    debug: bool
    command: str | None = None
    hub_option: Path | None = None
    verbose: bool = False
    quiet: bool = False

    @property
    def path(self) -> Path:
        """The hub's folder: the option, else the environment, else a folder here."""
        return self.hub_option or Path(os.environ.get(HUB_VARIABLE) or DEFAULT_HUB)

    @property
    def names_hub(self) -> bool:
        """Whether the option or the environment says where the hub is."""
        return self.hub_option is not None or bool(os.environ.get(HUB_VARIABLE))

    def set_options(
        self, *, hub: Path | None, json: bool, quiet: bool, verbose: bool, debug: bool
    ) -> None:
        """Set the options that stand before the command or after it; the later hub counts."""
        self.hub_option = hub or self.hub_option
        self.json |= json
        self.quiet |= quiet
        self.verbose |= verbose
        self.debug |= debug

    @property
    def hub(self) -> HubOfRun:
        """The hub, for a verb that neither waits nor takes long."""
        return self.waiting()

    def waiting(
        self,
        wait: float = 0.0,
        progress: Progress | None = None,
        *,
        device: DeviceName = "auto",
    ) -> HubOfRun:
        """Give the hub, for a verb that waits for a writer, reports its progress, or computes."""
        from moma_cl.hub import Hub
        from moma_cl.progress import quiet

        return Hub(self.path, wait=wait, progress=progress or quiet, device=device)

    def progress(self, *, shown: bool = True) -> AbstractContextManager[Progress]:
        """Show how far long steps are, unless the output is JSON or the run is quiet."""
        return progress_bar(shown=shown and not (self.json or self.quiet))


Hub = Annotated[
    Path | None,
    typer.Option(
        "--hub",
        metavar="PATH",
        help=f"The hub.  [default: {HUB_VARIABLE}, else ./{DEFAULT_HUB}]",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON envelope.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no hints.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say on stderr what happens.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def shared_options(
    *,
    hub: Hub = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Declare, in its signature, the options that every command has."""


_SHARED = inspect.signature(shared_options, eval_str=True).parameters


class _Command(TyperCommand):
    """A command that refuses an option given twice, of which the parser would take the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments."""
        *_, given = self.make_parser(ctx).parse_args(args=list(args))
        counts = Counter(
            option.opts[0]
            for option in given
            if not (option.multiple or getattr(option, "is_flag", True))
        )
        for name, count in counts.items():
            if count > 1:
                raise typer.BadParameter(f"{name} is given {count} times: give it once", ctx=ctx)
        return super().parse_args(ctx, args)


class GroupedHelp(TyperGroup):
    """Lists the commands under headings, which Typer itself does with rich only."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, panel by panel."""
        del ctx
        for panel, names in PANELS.items():
            rows = [
                (name, self.commands[name].get_short_help_str(limit=formatter.width))
                for name in names
            ]
            with formatter.section(panel):
                formatter.write_dl(rows)


# Without rich, help is half as slow and reads the same in a pipe.
app = typer.Typer(
    cls=GroupedHelp,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Command = Callable[..., Output]


def command(name: str, *, example: str) -> Callable[[Command], Command]:
    """Make a function a command with the shared options; its output is printed.

    Parameters
    ----------
    name
        Name of the command.
    example
        One way to call it, for its help.

    Returns
    -------
    Callable[[Command], Command]
        A decorator. The function's first parameter is the `Run`, the others are the command's.
    """

    def register(function: Command) -> Command:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        context = inspect.Parameter(
            "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        keyword = [entry.replace(kind=inspect.Parameter.KEYWORD_ONLY) for entry in own]
        parameters = [context, *keyword, *_SHARED.values()]

        def call(ctx: typer.Context, **values: Any) -> None:
            run: Run = ctx.obj
            run.command = name
            _check_finite(ctx)
            run.set_options(**{option: values.pop(option) for option in _SHARED})
            start_logging(verbose=run.verbose)
            output = function(run, **values)
            print_output(name, output, as_json=run.json, quiet=run.quiet)
            raise typer.Exit(output.exit_code)

        # Typer reads a command's parameters from its signature.
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {entry.name: entry.annotation for entry in parameters}
        help_text = f"{inspect.getdoc(function)}\n\n\b\nExample:\n  {example}"
        app.command(name, cls=_Command, help=help_text)(call)
        return function

    return register


def _check_finite(context: typer.Context) -> None:
    """Refuse numbers that are infinite or none at all, which a range of Typer's lets through."""
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if isinstance(value, float) and not math.isfinite(value):
            raise typer.BadParameter(f"{value} is no finite number.", ctx=context, param=parameter)


def start_logging(*, verbose: bool) -> None:
    """Send what the libraries log to stderr: warnings, or with `verbose` also what happens."""
    import logging

    from moma_cl.records.history_actions import HistoryAction

    handler = logging.StreamHandler()
    handler.setFormatter(line_formatter("%(message)s"))
    # Commands report failures themselves.
    handler.addFilter(
        lambda record: verbose or getattr(record, "action", None) != HistoryAction.FAIL
    )
    for name in ("moma_cl", "moma_cli", "moma_store"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if verbose else logging.WARNING)
        logger.propagate = False
    if sys.stderr.isatty():  # somebody waits
        logging.getLogger("moma_cl.core.compiled").setLevel(logging.INFO)
    # A library's deprecations are not what cron should mail.
    logging.captureWarnings(capture=True)
    warned = logging.getLogger("py.warnings")
    warned.addHandler(handler if verbose else logging.NullHandler())
    warned.propagate = False


def line_formatter(layout: str) -> logging.Formatter:
    """Make a formatter of log messages that lets no control characters reach the terminal."""
    import logging

    class LineFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable_lines(super().format(record))

    return LineFormatter(layout)
