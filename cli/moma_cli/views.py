"""``tasks``, ``modules``, ``show`` and ``log``: what a hub holds and what happened to it."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from moma_cl.core.limits import MOST
from moma_cli.output import Output, Table, figure, jsonable, outline
from moma_cli.program import Run, command
from moma_cli.rows_output import composed_of

_SHOWN_DIGITS = 12  # of a digest, which is far beyond what one hub needs


@command("tasks", example="moma-cl tasks --json")
def tasks(run: Run) -> Output:
    """List the tasks with their errors and compositions."""
    listed = run.hub.tasks()
    table = Table(
        columns=("task", "property", "rows", "validation", "held-out", "unit", "composition"),
        numeric=frozenset({"rows", "validation", "held-out"}),
        rows=[
            (
                task.name,
                task.property,
                f"{task.rows:,}",
                figure(task.validation_mae),
                figure(task.held_out_mae),
                task.unit,
                composed_of(task),
            )
            for task in listed
        ],
    )
    if not listed:
        return Output(data=listed, notes=["the hub has no tasks; `moma-cl add-task` adds one"])
    return Output(data=listed, text=[table])


@command("modules", example="moma-cl modules")
def modules(
    run: Run,
    *,
    shipped: Annotated[
        bool,
        typer.Option(
            "--shipped", help="List what the modules that come with moma-cl answer without a hub."
        ),
    ] = False,
) -> Output:
    """List the modules and which tasks compose them.

    With --shipped, or where there is no hub, lists the properties that the modules of moma-cl
    itself answer: for `moma-cl predict --property`.
    """
    if shipped or not (run.names_hub or run.path.exists()):
        return _shipped()
    listed = run.hub.modules()
    # Ten thousand modules live until the program ends; collecting cycles among them would take a
    # tenth of its time.
    gc.freeze()
    table = Table(
        columns=(
            "module",
            "backbone",
            "version",
            "kind",
            "rows",
            "validation",
            "unit",
            "bytes",
            "used by",
        ),
        numeric=frozenset({"version", "rows", "validation", "bytes"}),
        rows=[
            (
                module.name,
                module.backbone,
                str(module.version),
                module.kind,
                f"{module.rows:,}",
                figure(module.validation_mae),
                module.unit,
                f"{module.bytes:,}",
                ", ".join(f"{task} {weight:.2f}" for task, weight in module.used_by.items()) or "-",
            )
            for module in listed
        ],
    )
    if not listed:
        return Output(data=listed, notes=["the hub has no modules yet; tasks train them"])
    return Output(data=listed, text=[table])


def _shipped() -> Output:
    """List what the modules of the package answer."""
    from moma_cl.views.shipped_properties import shipped_properties

    listed = shipped_properties()
    table = Table(
        columns=("property", "column", "unit", "error", "of the median", "rows", "module"),
        numeric=frozenset({"error", "of the median", "rows"}),
        rows=[
            (
                entry.name,
                entry.target,
                entry.unit,
                figure(entry.mae),
                figure(entry.mae_of_median),
                f"{entry.n_train:,}",
                entry.module,
            )
            for entry in listed
        ],
    )
    note = "`moma-cl predict --property NAMES FILES` asks them; errors are on held-out materials"
    return Output(data=listed, text=[table], notes=[note])


@command("show", example="moma-cl show bulk_modulus")
def show(
    run: Run,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A task; a module; a ref, such as hub/recipe; or six or more digits of a digest.",
            show_default=False,
        ),
    ],
) -> Output:
    """Show a task, a module or any record in full."""
    shown = run.hub.show(name)
    heading = f"{shown.kind} {shown.name} {shown.digest}"
    around = {"refs": shown.refs, "used by": shown.used_by}
    body = outline({**jsonable(shown.document), **around}, depth=1)
    return Output(data=shown, text=[heading, *body])


@command("log", example="moma-cl log bulk_modulus -n 5")
def log(
    run: Run,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only entries of this task.")
    ] = None,
    limit: Annotated[
        int,
        typer.Option("--number", "-n", min=1, max=MOST, help="How many entries, the newest first."),
    ] = 20,
) -> Output:
    """Say what happened, newest first."""
    entries = run.hub.log(limit=limit, task=name)
    table = Table(
        columns=("number", "at", "action", "task", "detail"),
        numeric=frozenset({"number"}),
        rows=[
            (
                str(entry.counter),
                entry.at[:19].replace("T", " "),
                entry.action,
                entry.task or "-",
                _detail(entry.detail),
            )
            for entry in entries
        ],
    )
    return Output(data=entries, text=[table])


def _detail(detail: dict[str, object]) -> str:
    because = detail.get("because")
    if because is not None:
        return str(because)
    return ", ".join(f"{name} {_short(v)}" for name, v in detail.items() if name != "task") or "-"


def _short(value: object) -> str:
    return figure(value) if isinstance(value, float) else str(value)[: 4 * _SHOWN_DIGITS]
