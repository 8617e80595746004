"""The graph of a plan in Graphviz's language: what would be derived, and from what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moma_cl.reconciling.plan import Step
from moma_cl.reconciling.reasons import StepStatus

STYLES = {
    StepStatus.STALE: "solid",
    StepStatus.AFTER: "dashed",
    StepStatus.WAITING: "dotted",
    StepStatus.NOT_WORTH_IT: "dotted",
    StepStatus.SET_ASIDE: "bold",
    StepStatus.FAILED: "bold",
}


def to_dot(steps: Sequence[Step], refs: Mapping[str, str]) -> str:
    """Write a plan as a directed graph in the DOT language.

    Boxes are steps, ellipses the records that they read, under the names of the hub's refs; an
    arrow leads from what is read to what reads it, and from the stale steps of a task to those that
    follow from them.
    """
    names = {digest: name for name, digest in sorted(refs.items(), reverse=True)}
    lines = ["digraph plan {", "  rankdir=LR;"]
    read = {digest: kind for step in steps for kind, digest in step.inputs}
    for digest, kind in sorted(read.items(), key=lambda item: (item[1], item[0])):
        label = f"{names.get(digest, kind)}\n{digest[:12]}"
        lines.append(f"  {_quoted(digest)} [shape=ellipse, label={_quoted(label)}];")
    for number, step in enumerate(steps):
        lines.append(f"  step{number} [shape=box, {_described(step)}];")
        lines.extend(f"  {_quoted(digest)} -> step{number};" for _, digest in step.inputs)
    lines.extend(f"  step{before} -> step{after};" for before, after in _followed(steps))
    return "\n".join([*lines, "}"])


def _described(step: Step) -> str:
    cost = "" if step.seconds is None else f"\n{step.seconds:.1f} s"
    subject = f": {step.subject}" if step.subject else ""
    label = f"{step.task}\n{step.kind}{subject}{cost}"
    tip = f"{step.status}: {step.why}"
    return f"style={STYLES[step.status]}, label={_quoted(label)}, tooltip={_quoted(tip)}"


def _followed(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """Pair each step that follows from others with the stale ones of its task before it."""
    return [
        (before, after)
        for after, step in enumerate(steps)
        if step.status == StepStatus.AFTER
        for before in range(after)
        if steps[before].task == step.task and steps[before].status == StepStatus.STALE
    ]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
