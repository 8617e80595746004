"""The account that the demo gives, in lines of at most 100 columns."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from moma_cl.commands.add_rows import RowsAdded
from moma_cl.commands.init import HubMade
from moma_cl.commands.predictions import PredictedRow
from moma_cl.demo.data import MEASURED, Elements, Measured
from moma_cl.demo.gains import BACKBONE, Gain, TaskSummary, three_digits
from moma_cl.derivations.keys import DerivationKind
from moma_cl.predictors.domain import Applicability
from moma_cl.reconciling.pass_actions import Done, PassAction

WIDTH = 98
_UNITS = {measured.task: measured.unit for measured in MEASURED}  # as a keyboard writes them
_PLURALS = {
    "estimate": "estimates",
    "composition": "compositions",
    "learner": "learners",
    "predictor": "predictors",
    "module": "modules",
}
_REACH: dict[str, str] = {
    "": "",
    Applicability.INSIDE: "within reach of what it has seen",
    Applicability.EDGE: "at the edge of what it has seen",
    Applicability.OUTSIDE: "outside of what it has seen",
}


def command(*words: str | Path) -> list[str]:
    """Write a command for a shell, over several lines where it is long.

    `words` follow ``moma-cl``; every option among them has a value.
    """
    lines = ["  $ moma-cl"]
    for part in _with_values(words):
        if len(lines[-1]) + len(part) + 3 > WIDTH:
            lines[-1] += " \\"
            lines.append("     ")
        lines[-1] += f" {part}"
    return lines


def introduction(elements: Elements, contradictory: Sequence[str]) -> list[str]:
    """Say what the data is, and which elements were left out of all tasks, and of the moduli."""
    left_out = [
        (f"{len(elements.not_built)} that need more than a lattice", elements.not_built),
        ("cell without the measured molar volume", elements.other_phase),
        ("moduli that contradict each other (left out of those tasks)", contradictory),
    ]
    text = [
        f"Crystals of {len(elements.crystals)} elements: lattices from ASE's reference states,",
        "measured properties from pymatgen's periodic table. Left out:",
    ]
    for reason, symbols in left_out:
        text += _wrapped(f"  {reason}: ", symbols)
    return text


def hub_made(made: HubMade) -> list[str]:
    """Say which hub was made."""
    backbones = ", ".join(
        f"backbone {one.name} {one.version}, {one.parameters:,} parameters"
        for one in made.backbones
    )
    return [f"  hub {made.path}: {backbones}"]


def heading(number: int, measured: Measured) -> list[str]:
    """Announce a task, by its number in the order they are added."""
    return ["", f"Task {number} of {len(MEASURED)}: {measured.task.replace('_', ' ')}"]


def step(added: RowsAdded, summaries: dict[str, TaskSummary], modules_before: int) -> list[str]:
    """Say what adding a task has changed; `modules_before` counts the modules before it."""
    new = summaries[added.task]
    fields = [("rows", f"{added.rows} added, {len(added.refusals)} refused")]
    fields += [("computed", _computed(added.done))]
    fields += _others(added, summaries, modules_before)
    fields += [("weights", _weights(new))]
    fields += [("barred", f"{name}: it reveals the answers") for name in new.excluded]
    if new.gain is not None:
        unit = _UNITS[new.task]
        alone = (
            f"{three_digits(new.gain.error_without)} {unit}; there is no module yet that could help"
        )
        composed = any(name != BACKBONE for name in new.weights)
        fields.append(("error", _gain(new.gain, unit) if composed else alone))
    failures = [entry for entry in added.done if entry.action == PassAction.FAILED]
    fields += [("failed", f"{entry.task}: {entry.text}") for entry in failures]
    return [line for name, content in fields for line in _field(name, content)]


def summary(tasks: Iterable[TaskSummary]) -> list[str]:
    """Tabulate errors with and without modules, once all tasks are added."""
    head = ("task", "unit", "without", "with", "change", "95 % interval", "answering")
    rows = [_summary_row(task, task.gain) for task in tasks if task.gain is not None]
    return [
        "",
        "Mean absolute error, cross-validated, without and with the modules of the other tasks:",
        *_aligned([head, *rows]),
        "  Where the interval includes 0, so few rows show no difference. The weights, and the",
        "  learning rate of the modules, were chosen on the same rows, which favours the modules.",
        "  A predictor answers until one with a smaller error is fitted: the last column.",
    ]


def asking() -> list[str]:
    """Announce the predictions."""
    return [
        "",
        "Crystals built by space group. All rows were pure elements, so a compound lies outside.",
        "85 % of the known structures lie within a distance of 1 from their neighbours.",
    ]


def predictions(rows: Sequence[PredictedRow]) -> list[str]:
    """Tabulate predictions, and how far each structure lies from the known rows."""
    table = [("structure", "value", "90 % interval", "unit", "distance", "")]
    for row in rows:
        if row.value is None or row.lower is None or row.upper is None or row.distance is None:
            table.append((row.id, row.status, "", "", "", row.message[:40]))
            continue
        table.append(
            (
                row.id,
                three_digits(row.value),
                f"{three_digits(row.lower)} to {three_digits(row.upper)}",
                _UNITS[row.task],
                f"{row.distance:.1f}",
                _REACH[row.applicability or ""],
            )
        )
    text = _aligned(table)
    if any(row.applicability == Applicability.OUTSIDE for row in rows):
        text += [
            "  Outside, a value is little more than the mean of all known values, and the interval",
            "  promises nothing.",
        ]
    return text


def unchanged(n_records: int, n_files: int, n_changed: int) -> list[str]:
    """Say whether the last task has changed anything older.

    There were `n_records` records and `n_files` blob files before it, of which `n_changed` are
    removed or differ.
    """
    verdict = "unchanged, bit for bit" if n_changed == 0 else f"with {n_changed} CHANGED"
    return [
        "",
        f"The last task left {n_records} older records and {n_files} older blobs {verdict}.",
    ]


def _with_values(words: Sequence[str | Path]) -> Iterator[str]:
    """Quote words for a shell, each option together with its value."""
    quoted = iter([shlex.quote(str(word)) for word in words])
    for word in quoted:
        yield f"{word} {next(quoted)}" if word.startswith("--") else word


def _field(name: str, content: str) -> list[str]:
    return textwrap.wrap(f"  {name:<11} {content}", WIDTH, subsequent_indent=" " * 14)


def _wrapped(label: str, words: Sequence[str]) -> list[str]:
    return textwrap.wrap(label + " ".join(words), WIDTH, subsequent_indent="    ")


def _computed(done: Sequence[Done]) -> str:
    counts = Counter(entry.kind for entry in done if entry.action == PassAction.DERIVED)
    named = [_counted(counts[kind], kind) for kind in _PLURALS if counts[kind]]
    seconds = sum(entry.seconds for entry in done)
    return f"{', '.join(named)}, in {seconds:.1f} s"


def _counted(count: int, kind: str) -> str:
    return f"{count} {kind if count == 1 else _PLURALS[kind]}"


def _others(
    added: RowsAdded, summaries: dict[str, TaskSummary], modules_before: int
) -> list[tuple[str, str]]:
    """Say what changed for the tasks that were added before."""
    fitted = {entry.task for entry in added.done if _is_fit(entry)} - {added.task}
    anew = [
        ("fitted anew", f"{entry.task}: {entry.action}, {entry.text.partition(', difference')[0]}")
        for entry in added.done
        if entry.task in fitted and entry.action in {PassAction.PROMOTED, PassAction.KEPT_BESIDE}
    ]
    same = [name for name in summaries if name not in fitted and name != added.task]
    kept = _counted(modules_before, "module") if modules_before else ""
    if same:
        kept += f", {_counted(len(same), 'predictor')} ({', '.join(same)})"
    return [*anew, ("left alone", kept)] if kept else anew


def _is_fit(entry: Done) -> bool:
    return entry.action == PassAction.DERIVED and entry.kind == DerivationKind.PREDICTOR


def _weights(task: TaskSummary) -> str:
    return ", ".join(f"{name} {100 * weight:.0f} %" for name, weight in task.weights.items())


def _gain(gain: Gain, unit: str) -> str:
    low, high = (100 * end for end in gain.change_interval)
    after, before = three_digits(gain.error_with), three_digits(gain.error_without)
    return (
        f"{after} {unit} with modules, {before} without: "
        f"{100 * gain.change:+.1f} % [{low:+.1f}, {high:+.1f}]"
    )


def _summary_row(task: TaskSummary, gain: Gain) -> tuple[str, ...]:
    low, high = (100 * end for end in gain.change_interval)
    return (
        task.task,
        _UNITS[task.task],
        three_digits(gain.error_without),
        three_digits(gain.error_with),
        f"{100 * gain.change:+.1f} %",
        f"[{low:+.1f}, {high:+.1f}]",
        three_digits(task.error_answering),
    )


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
