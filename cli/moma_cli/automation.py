"""``status``, ``daemon`` and ``schedule``: passes that nobody has to start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moma_cl.core.limits import LONGEST
from moma_cli.output import Output, Problem, Table, figure
from moma_cli.output_file import write_file
from moma_cli.parameters import Settle
from moma_cli.program import Run, command, line_formatter

if TYPE_CHECKING:
    from moma_cl.automation.last_pass import LastPass
    from moma_cl.automation.schedule import Unit, When
    from moma_cl.automation.status import HubStatus, InboxStatus, TaskStatus

UpdateOptions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[-- OPTIONS]",
        help="Options of every `update`, after two dashes.",
        show_default=False,
    ),
]

_SHOWN_DIGITS = 8
_ERRORS = {"held-out": "held-out", "cross-validation": "CV"}
_WAIT = "60"  # s; passes that nobody starts let a writer finish


@command("status", example="moma-cl status --json")
def status(
    run: Run,
    prometheus: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write metrics for node_exporter here; print nothing."),
    ] = None,
) -> Output:
    """Show the state of the hub: tasks, inbox, last pass, daemon."""
    hub_status = run.hub.status()
    if prometheus is not None:
        from moma_cl.automation.metrics import metrics_text

        write_file(prometheus, metrics_text(hub_status))
        return Output(data={"file": prometheus})
    table = Table(
        columns=("task", "rows", "champion", "error", "unit", "from", "to do", "new rows"),
        numeric=frozenset({"rows", "error"}),
        rows=[_task_cells(task) for task in hub_status.tasks],
    )
    return Output(
        data=hub_status,
        text=[
            _daemon_line(hub_status),
            *_pass_lines(hub_status),
            *([table] if hub_status.tasks else []),
        ],
        notes=_inbox_lines(hub_status.inbox),
        errors=_problems(hub_status),
    )


@command("daemon", example="moma-cl daemon --interval 60")
def daemon(
    run: Run,
    interval: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.1, max=LONGEST, help="Time between two checks."),
    ] = 10.0,
    settle: Settle = 2.0,
    options: UpdateOptions = None,
) -> Output:
    """Make a pass whenever catalogue or inbox change.

    Runs until SIGTERM or Ctrl-C. Exits 5 if the hub has a daemon already.
    """
    import logging

    from moma_cl.automation.daemon import Daemon

    log = logging.getLogger("moma_cl")
    for handler in log.handlers:
        handler.setFormatter(line_formatter("%(asctime)s %(message)s"))
    if not run.quiet:
        log.setLevel(logging.INFO)
    one_pass = [*_program(run), "update", "--quiet", "--settle", f"{settle:g}", "--wait", _WAIT]
    Daemon(hub=run.path.absolute(), command=[*one_pass, *(options or ())], interval=interval).run()
    return Output()


@command("schedule", example="moma-cl schedule --systemd --at 02:30")
def schedule(
    run: Run,
    *,
    at: Annotated[
        str | None, typer.Option("--at", metavar="HH:MM", help="Once a day, at this time.")
    ] = None,
    every: Annotated[
        int | None, typer.Option("--every", metavar="MINUTES", help="All day long, this often.")
    ] = None,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Units for systemd rather than a crontab line.")
    ] = False,
    daemon: Annotated[
        bool, typer.Option("--daemon", help="With --systemd: the daemon instead of a timer.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FOLDER", help="With --systemd: write the units here."),
    ] = None,
    options: UpdateOptions = None,
) -> Output:
    """Print a crontab line, or systemd units, that start passes.

    By default every night at 02:30.
    """
    from moma_cl.automation import schedule as schedules
    from moma_store.store import Store

    if not systemd and (daemon or output is not None):
        raise typer.BadParameter("goes with --systemd only", param_hint="--daemon, --output")
    Store.open(run.path).close()
    when = _when(at, every)
    extra = options or []
    waits = [] if any(word.partition("=")[0] == "--wait" for word in extra) else ["--wait", _WAIT]
    update = [*_program(run), "update", *waits, *extra]
    if not systemd:
        line = schedules.crontab_line(update, when)
        return Output(data={"crontab": line}, text=[line], notes=["add it with crontab -e"])
    hub = run.path.absolute()
    if daemon:
        daemon_command = [*_program(run), "daemon", *(["--", *extra] if extra else [])]
        return _units_output([schedules.daemon_unit(hub, daemon_command)], output)
    return _units_output(schedules.timer_units(hub, update, when), output)


def _program(run: Run) -> list[str]:
    """Give the command line of this very program and hub, for whoever starts it elsewhere.

    With -P, Python takes no module from the folder where it is started, such as cron's HOME.
    """
    return [sys.executable, "-P", "-m", "moma_cli", "--hub", str(run.path.absolute())]


def _when(at: str | None, every: int | None) -> When:
    from moma_cl.automation import schedule as schedules

    if at is not None and every is not None:
        raise typer.BadParameter("give one of them", param_hint="--at, --every")
    return schedules.daily(at or "02:30") if every is None else schedules.every(every)


def _units_output(units: list[Unit], output: Path | None) -> Output:
    enabled = units[-1].name
    notes = [f"then: systemctl --user daemon-reload && systemctl --user enable --now {enabled}"]
    if output is None:
        place = "~/.config/systemd/user"
        text = [f"# {place}/{unit.name}\n{unit.text}" for unit in units]
        return Output(data={"units": units}, text=text, notes=notes)
    output.mkdir(parents=True, exist_ok=True)
    files = [output / unit.name for unit in units]
    for file, unit in zip(files, units, strict=True):
        write_file(file, unit.text)
    return Output(data={"units": units, "files": files}, text=list(map(str, files)), notes=notes)


def _daemon_line(status: HubStatus) -> str:
    from moma_cl.automation.daemon import DaemonState

    beat = status.daemon.heartbeat
    if beat is None:
        return "daemon: none"
    if not status.daemon.running:
        clean = beat.state == DaemonState.STOPPED
        return f"daemon: none; the last one {'stopped' if clean else 'was lost'} at {beat.beat}"
    return (
        f"daemon: {beat.state}, process {beat.pid} on {beat.host} since {beat.since}, "
        f"passes so far: {beat.passes:,}, "
        f"heartbeat {beat.beat}"
    )


def _pass_lines(status: HubStatus) -> list[str]:
    """Say how the last pass ended, and what somebody should read of it and of those before."""
    if status.last_pass is None:
        return ["last pass: none"]
    lines = [f"last pass: {_ended(status.last_pass)}"]
    lines += [f"  {problem}" for problem in status.last_pass.problems]
    for earlier in status.earlier_passes:
        if earlier.problems:
            lines.append(f"pass before: {_ended(earlier)}")
            lines += [f"  {problem}" for problem in earlier.problems]
    return lines


def _ended(ended: LastPass) -> str:
    counts = ", ".join(f"{count} {action}" for action, count in ended.actions.items())
    actions = f": {counts}" if counts else ""
    return f"{ended.at}, {ended.seconds:.1f} s, {ended.outcome}{actions}"


def _task_cells(task: TaskStatus) -> tuple[str, ...]:
    new = "-"
    if task.drift is not None:
        learned = "" if task.drift.predictor == task.champion else ", since learned"
        drift = ", drift" if task.drift.drifted else ""
        new = f"{figure(task.drift.mae)}{drift}{learned}"
    return (
        task.name,
        f"{task.rows:,}",
        (task.champion or "-")[:_SHOWN_DIGITS],
        figure(task.held_out_mae),
        task.unit,
        _ERRORS.get(task.error_from or "", "-"),
        ", ".join(f"{count} {state}" for state, count in task.steps.items()) or "-",
        new,
    )


def _inbox_lines(inbox: InboxStatus) -> list[str]:
    lines = [f"inbox: {name} waits for the next pass" for name in inbox.waiting]
    lines += [f"inbox: {name} is left alone: {why}" for name, why in inbox.unfinished.items()]
    lines += [f"inbox: {task} has {count:,} in done/, added" for task, count in inbox.done.items()]
    return lines


def _problems(status: HubStatus) -> list[Problem]:
    failing = [
        Problem(code="task-failing", message=f"{task.name}: {why}")
        for task in status.tasks
        for why in task.problems
    ]
    held = [
        Problem(
            code="held",
            message=f"{task.name}: {task.held}; if the rows are right, `moma-cl confirm "
            f"{task.name}`; if not, `moma-cl retract {task.name} IDS`",
        )
        for task in status.tasks
        if task.held is not None
    ]
    unclaimed = [
        Problem(code="inbox.unclaimed", message=why) for why in status.inbox.unclaimed.values()
    ]
    refused = [
        Problem(
            code="inbox.refused",
            message=f"{task}: {', '.join(files)}; the reasons are beside in inbox/{task}/refused/",
        )
        for task, files in status.inbox.refused.items()
    ]
    return [*held, *failing, *unclaimed, *refused]
