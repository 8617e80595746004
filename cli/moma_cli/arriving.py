"""How rows that came in, and the pass that followed, are told to people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.reconciling.pass_actions import FIRST_PREDICTOR, Done, PassAction
from moma_cli.output import Answer, Problem, figure, jsonable
from moma_cli.program import Run

if TYPE_CHECKING:
    from moma_cl.commands.add_rows import RowsAdded
    from moma_cl.commands.row_checks import RowChecks
    from moma_cl.structures.checks import Refusal
    from moma_cl.views.tasks import TaskListed

_REFS_MOVED = frozenset(
    {PassAction.COMPOSED, PassAction.PROMOTED, PassAction.KEPT_BESIDE, PassAction.MODULE}
)
_NAMED_WEIGHTS = 5


def rows_answer(run: Run, added: RowsAdded, report: Path | None, summary: str) -> Answer:
    """Tell what rows that came in have changed.

    Parameters
    ----------
    run
        The run.
    added
        What the hub says of them.
    report
        Where every refused row is written.
    summary
        What happened to the rows, in one line.

    Returns
    -------
    Answer
        The answer; failed if the task could not be brought up to date.
    """
    write_report(report, added.refusals, added.checks)
    listed = run.hub.task(added.task)
    failures = failed(added.done)
    return Answer(
        data={"rows": added, "task": listed},
        text=[summary, *_standing(listed, added.done), *_elsewhere(added)],
        notes=[
            *flagged(added.flagged),
            *_checked(added.checks, listed.unit),
            f"next: moma-cl predict {added.task} FILES",
        ],
        errors=[*refused(added.refusals), *failures, *noticed(added.done)],
        exit_code=int((added.task, PassAction.FAILED) in [(d.task, d.action) for d in added.done]),
    )


def dry_run_answer(added: RowsAdded, report: Path | None) -> Answer:
    """Tell what rows would be added."""
    write_report(report, added.refusals)
    folds = split(added.folds, added.grouping)
    would = f"{added.task}: would add {counted(added.added, 'row')}"
    total = "" if added.added == added.rows else f" to have {added.rows:,}"
    return Answer(
        data=added,
        text=[f"{would}{total} ({folds})"],
        notes=flagged(added.flagged),
        errors=refused(added.refusals),
    )


def split(folds: Mapping[str, int], grouping: str) -> str:
    """Say how rows are divided, in half a line."""
    counts = ", ".join(f"{count} {fold}" for fold, count in folds.items())
    return f"{counts}; by {grouping}"


def failed(done: Iterable[Done]) -> list[Problem]:
    """Give the tasks that a pass could not bring up to date, or that wait for another try."""
    codes = {PassAction.FAILED: "task-failed", PassAction.WAITING: "task-waiting"}
    return [
        Problem(code=codes[entry.action], message=f"{entry.task}: {entry.text}")
        for entry in done
        if entry.action in codes
    ]


def noticed(done: Iterable[Done]) -> list[Problem]:
    """Give what somebody should read although the pass went well: the inbox, and drift."""
    codes = {
        PassAction.REFUSED: "inbox.refused",
        PassAction.UNCLAIMED: "inbox.unclaimed",
        PassAction.DRIFT: "drift",
    }
    return [
        Problem(code=codes[entry.action], message=f"{entry.task}: {entry.text}".removeprefix(": "))
        for entry in done
        if entry.action in codes
    ]


def refused(refusals: Sequence[Refusal]) -> list[Problem]:
    """Give the reasons for which rows were refused, each with its first example."""
    by_code: dict[str, list[Refusal]] = {}
    for refusal in refusals:
        by_code.setdefault(refusal.code, []).append(refusal)
    return [
        Problem(
            code=f"refused.{code}",
            message=f"{counted(len(alike), 'row')}, first {alike[0].id}"
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


def write_report(
    file: Path | None, refusals: tuple[Refusal, ...], checks: RowChecks | None = None
) -> None:
    """Write every refused row, and what the others say about each other, if there is a file."""
    if file is None:
        return
    import json

    from moma_cl.structures.checks import Quarantine

    document = {**Quarantine(refusals=refusals).to_json(), "checks": jsonable(checks)}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def counted(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def composed_of(task: TaskListed) -> str:
    """Write a task's composition, heaviest modules first."""
    if task.backbone_weight is None:
        return "-"
    parts = [(weight.module, weight.weight) for weight in task.composition]
    parts.append(("backbone", task.backbone_weight))
    shown = [f"{name} {weight:.2f}" for name, weight in parts if weight > 0]
    more = len(shown) - _NAMED_WEIGHTS
    return ", ".join(shown[:_NAMED_WEIGHTS]) + (f" and {more} more" if more > 0 else "")


def _standing(task: TaskListed, done: Sequence[Done]) -> list[str]:
    """Say how a task's predictor was made, and what it is worth."""
    lines = []
    first = next((place for place, entry in enumerate(done) if entry.task == task.name), None)
    promoted = next(
        (
            place
            for place, entry in enumerate(done)
            if (entry.task, entry.action) == (task.name, PassAction.PROMOTED)
        ),
        None,
    )
    if first is not None and promoted is not None:
        seconds = sum(entry.seconds for entry in done[first : promoted + 1])
        which = "first answer" if done[promoted].text == FIRST_PREDICTOR else "better predictor"
        lines.append(f"{which}: after {seconds:.1f} s of computing")
    lines.extend(
        f"fitted anew, not promoted: {entry.text}"
        for entry in done
        if (entry.task, entry.action) == (task.name, PassAction.KEPT_BESIDE)
    )
    lines.extend(
        f"new rows: {entry.text}"
        for entry in done
        if (entry.task, entry.action) == (task.name, PassAction.MEASURED)
    )
    lines.append(f"composition: {composed_of(task)}")
    if task.method is not None:
        lines.append(
            f"answers: {task.method} head, validation error "
            f"{figure(task.validation_mae, task.unit)}, held-out error "
            f"{figure(task.held_out_mae, task.unit)}, intervals from {task.calibration}"
        )
    if task.module is not None:
        lines.append(f"module: {task.module[:12]}")
    return lines


def _checked(checks: RowChecks | None, unit: str) -> list[str]:
    """Say which rows somebody may want to look at, of each kind with an example."""
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


def _elsewhere(added: RowsAdded) -> list[str]:
    return [
        f"also: {entry.task} {entry.action}, {entry.text}"
        for entry in added.done
        if entry.task != added.task and entry.action in _REFS_MOVED
    ]
