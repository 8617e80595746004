"""What commands print of added rows, and of the pass that followed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.reconciling.pass_actions import FIRST_PREDICTOR, Done, PassAction
from moma_cli.output import Output, Problem, counted, figure, jsonable
from moma_cli.output_file import write_file
from moma_cli.program import Run

if TYPE_CHECKING:
    from moma_cl.commands.add_rows import RowsAdded
    from moma_cl.commands.row_checks import RowChecks
    from moma_cl.structures.checks import Refusal
    from moma_cl.views.tasks import ComposedOn, TaskListed

_REFS_MOVED = frozenset(
    {PassAction.COMPOSED, PassAction.PROMOTED, PassAction.KEPT_BESIDE, PassAction.MODULE}
)
FEW_ROWS = "few-rows"
_NAMED_WEIGHTS = 5
_OUTCOMES = {
    PassAction.KEPT_BESIDE: "fitted anew, not promoted",
    PassAction.MEASURED: "new rows",
}
_FAILURES = {PassAction.FAILED: "task-failed", PassAction.WAITING: "task-waiting"}
_NOTICES = {
    PassAction.REFUSED: "inbox.refused",
    PassAction.ADDED: "inbox.told",
    PassAction.UNCLAIMED: "inbox.unclaimed",
    PassAction.UNFINISHED: "inbox.unfinished",
    PassAction.SET_ASIDE: "task-set-aside",
    PassAction.DRIFT: "drift",
    PassAction.MEASURED: "new-elements",
    PassAction.HELD: "held",
}


def rows_output(run: Run, added: RowsAdded, report: Path | None, summary: str) -> Output:
    """Print what added rows have changed; the command failed if the task's update failed.

    Parameters
    ----------
    run
        The run.
    added
        What the hub did with the rows.
    report
        File for every refused row, if there is one.
    summary
        The first line: what happened to the rows.

    Returns
    -------
    Output
        The command's output.
    """
    write_report(report, added.refusals, added.checks)
    listed = run.hub.task(added.task)
    failures = failed(added.done)
    return Output(
        data={"rows": added, "task": listed},
        text=[summary, *_state_lines(listed, added.done), *_other_tasks(added)],
        notes=[
            *flagged(added.flagged),
            *proposals(added),
            *_check_lines(added.checks, listed.unit),
            *left_to_another(added.done),
            f"next: moma-cl predict {added.task} FILES",
        ],
        errors=[*warned(added), *refused(added.refusals), *failures, *noticed(added.done)],
        exit_code=int((added.task, PassAction.FAILED) in [(d.task, d.action) for d in added.done]),
    )


def dry_run_output(added: RowsAdded, report: Path | None) -> Output:
    """Print which rows would be added."""
    write_report(report, added.refusals)
    would = f"{added.task}: would add {counted(added.added, 'row')}"
    total = "" if added.added == added.rows else f" to have {added.rows:,}"
    return Output(
        data=added,
        text=[f"{would}{total} {folds_text(added)}"],
        notes=[*flagged(added.flagged), *proposals(added)],
        errors=[*warned(added), *refused(added.refusals)],
    )


def folds_text(added: RowsAdded) -> str:
    """Say how many rows each fold has, and what decides it."""
    counts = ", ".join(f"{count} {fold}" for fold, count in added.folds.items())
    return f"({counts}; by {added.grouping})"


def failed(done: Iterable[Done]) -> list[Problem]:
    """List the tasks whose update failed, or that wait for another try."""
    return _problems(done, _FAILURES)


def noticed(done: Iterable[Done]) -> list[Problem]:
    """List what somebody should read although the pass went well: the inbox, and drift."""
    from moma_cl.automation.notices import is_news, what_to_do

    news = [entry for entry in done if is_news(entry)]
    return _problems([replace(e, text=_with_advice(e.text, what_to_do(e))) for e in news], _NOTICES)


def _with_advice(text: str, advice: str) -> str:
    return f"{text}; {advice}" if advice else text


def left_to_another(done: Iterable[Done]) -> list[str]:
    """Say that another process makes the pass, where it does."""
    return [entry.text for entry in done if entry.action == PassAction.LEFT_TO_ANOTHER]


def refused(refusals: Sequence[Refusal], task: str = "") -> list[Problem]:
    """List the reasons for which rows were refused, each with its first example.

    A task is named where there are several.
    """
    whose = f"{task}: " if task else ""
    by_code: dict[str, list[Refusal]] = {}
    for refusal in refusals:
        by_code.setdefault(refusal.code, []).append(refusal)
    return [
        Problem(
            code=f"refused.{code}",
            message=f"{whose}{counted(len(alike), 'row')}, first {alike[0].id}"
            f"{f' ({alike[0].source})' if alike[0].source else ''}: {alike[0].message}",
        )
        for code, alike in by_code.items()
    ]


def flagged(flags: Sequence[Refusal]) -> list[str]:
    """Say which rows were added although their target looks wrong, with the first example."""
    if not flags:
        return []
    first = flags[0]
    example = f"first {first.id} ({first.source}): {first.message}"
    return [f"{counted(len(flags), 'row')} {first.code}, {example}"]


def warned(added: RowsAdded) -> list[Problem]:
    """List what must not be missed about the rows, though they were added: that they are few."""
    return [
        Problem(code=advice.code, message=advice.message)
        for advice in added.advice
        if advice.code == FEW_ROWS
    ]


def proposals(added: RowsAdded) -> list[str]:
    """List what would make a task better."""
    return [advice.message for advice in added.advice if advice.code != FEW_ROWS]


def write_report(
    file: Path | None, refusals: tuple[Refusal, ...], checks: RowChecks | None = None
) -> None:
    """Write every refused row, and the checks of the other rows, into the file if there is one."""
    if file is None:
        return
    import json

    from moma_cl.structures.checks import Quarantine

    document = {**Quarantine(refusals=refusals).to_json(), "checks": jsonable(checks)}
    write_file(file, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def composed_of(task: TaskListed) -> str:
    """Write a task's composition on each backbone, heaviest modules first."""
    several = len(task.compositions) > 1
    return (
        "; ".join(
            f"{one.backbone}: {_composed_on(one)}" if several else _composed_on(one)
            for one in task.compositions
        )
        or "-"
    )


def _composed_on(composition: ComposedOn) -> str:
    parts = [(weight.module, weight.weight) for weight in composition.modules]
    parts.append(("backbone", composition.backbone_weight))
    shown = [f"{name} {weight:.2f}" for name, weight in parts if weight > 0]
    more = len(shown) - _NAMED_WEIGHTS
    return ", ".join(shown[:_NAMED_WEIGHTS]) + (f" and {more} more" if more > 0 else "")


def _problems(done: Iterable[Done], codes: dict[PassAction, str]) -> list[Problem]:
    return [
        Problem(code=codes[entry.action], message=f"{entry.task}: {entry.text}".removeprefix(": "))
        for entry in done
        if entry.action in codes
    ]


def _state_lines(task: TaskListed, done: Sequence[Done]) -> list[str]:
    """Say how a task's predictor was made, and how large its errors are."""
    lines = _predictor_lines(task, done)
    lines.append(f"composition: {composed_of(task)}")
    if task.method is not None:
        lines.append(
            f"answers: {task.method} head, validation error "
            f"{figure(task.validation_mae, task.unit)}, held-out error "
            f"{figure(task.held_out_mae, task.unit)}, intervals from {task.calibration}"
        )
    lines += [f"module of {name}: {digest[:12]}" for name, digest in task.modules.items()]
    return lines


def _predictor_lines(task: TaskListed, done: Sequence[Done]) -> list[str]:
    """Say how long the first promoted predictor took, and what else the pass did with the task."""
    steps = [(place, entry) for place, entry in enumerate(done) if entry.task == task.name]
    lines = []
    for place, entry in steps:
        if entry.action == PassAction.PROMOTED:
            seconds = sum(step.seconds for step in done[steps[0][0] : place + 1])
            which = "first answer" if entry.text == FIRST_PREDICTOR else "better predictor"
            lines.append(f"{which}: after {seconds:.1f} s of computing")
            break
    for action, label in _OUTCOMES.items():
        lines += [f"{label}: {entry.text}" for _, entry in steps if entry.action == action]
    return lines


def _check_lines(checks: RowChecks | None, unit: str) -> list[str]:
    """Say which rows somebody may want to look at, with an example of each kind."""
    lines = []
    if checks is not None and checks.twins:
        twin = checks.twins[0]
        lines.append(
            f"{counted(checks.n_twins, 'row')} with the structure of one in an earlier fold, "
            f"first {twin.id} ({twin.fold}, {twin.twin} in {twin.twin_fold}): errors look smaller "
            "than they are"
        )
    if checks is not None and checks.repeats:
        twin = checks.repeats[0]
        lines.append(
            f"{counted(checks.n_repeats, 'row')} with the structure of an earlier row, first "
            f"{twin.id} (of {twin.twin}): one material under two names?"
        )
    if checks is not None and checks.doubts:
        doubt = checks.doubts[0]
        lines.append(
            f"{counted(checks.n_doubts, 'row')} far from what the other rows predict, first "
            f"{doubt.id}: {figure(doubt.target, unit)}, expected {figure(doubt.expected, unit)}"
        )
    return lines


def _other_tasks(added: RowsAdded) -> list[str]:
    """Say what the pass changed for other tasks."""
    return [
        f"also: {entry.task} {entry.action}, {entry.text}"
        for entry in added.done
        if entry.task != added.task and entry.action in _REFS_MOVED
    ]
