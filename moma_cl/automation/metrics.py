"""Metrics: the state of a hub in a file that Prometheus reads through node_exporter.

References
----------
Prometheus, "Exposition formats"; node_exporter, "Textfile collector".

"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from moma_cl.automation.last_pass import PassOutcome
from moma_cl.automation.status import HubStatus, InboxStatus, TaskStatus

Labels = dict[str, str]
Sample = tuple[str, Labels, float]

_HELP = {
    "daemon_running": "Whether a daemon watches the hub.",
    "last_pass_timestamp_seconds": "When the last pass began.",
    "last_pass_duration_seconds": "How long the last pass took.",
    "last_pass_failed": "Whether the last pass, or a task in it, failed.",
    "task_rows": "Live rows of the task.",
    "task_error": "Error that the champion promises, in the task's unit.",
    "task_champions": "How many champions the task has had.",
    "task_drift": "Whether the champion errs on new rows beyond its promise.",
    "task_promotion_held": "Whether a promotion waits for somebody.",
    "task_steps": "Derivations that a pass would do or leave, by status.",
    "inbox_deliveries": "Deliveries in the inbox, by task and state.",
    "inbox_unclaimed": "Folders of the inbox that no task has the name of.",
}


def metrics_text(status: HubStatus) -> str:
    """Write the metrics of a hub in Prometheus' text format."""
    hub = {"hub": status.hub}
    samples = [*_pass_samples(status), *_inbox_samples(status.inbox)]
    for task in status.tasks:
        samples += _task_samples(task)
    lines = []
    for name, text in _HELP.items():
        values = [(labels, value) for sample, labels, value in samples if sample == name]
        if values:
            lines += [f"# HELP moma_cl_{name} {text}", f"# TYPE moma_cl_{name} gauge"]
        lines += [f"moma_cl_{name}{_written({**hub, **own})} {value:.12g}" for own, value in values]
    return "\n".join(lines) + "\n"


def _pass_samples(status: HubStatus) -> Iterator[Sample]:
    yield "daemon_running", {}, float(status.daemon.running)
    last = status.last_pass
    if last is not None:
        yield "last_pass_timestamp_seconds", {}, datetime.fromisoformat(last.at).timestamp()
        yield "last_pass_duration_seconds", {}, last.seconds
        yield "last_pass_failed", {}, float(last.outcome == PassOutcome.FAILED)


def _task_samples(task: TaskStatus) -> Iterator[Sample]:
    name = {"task": task.name}
    yield "task_rows", name, float(task.rows)
    yield "task_champions", name, float(task.version)
    yield "task_drift", name, float(task.drifted)
    yield "task_promotion_held", name, float(task.held is not None)
    if task.held_out_mae is not None and task.error_from is not None:
        yield "task_error", {**name, "unit": task.unit, "from": task.error_from}, task.held_out_mae
    for step, count in task.steps.items():
        yield "task_steps", {**name, "status": str(step)}, float(count)


def _inbox_samples(inbox: InboxStatus) -> Iterator[Sample]:
    counts: dict[tuple[str, str], int] = {}
    for state, deliveries in (("waiting", inbox.waiting), ("unfinished", inbox.unfinished)):
        for delivery in deliveries:
            place = delivery.partition("/")[0], state
            counts[place] = counts.get(place, 0) + 1
    counts |= {(task, "refused"): len(files) for task, files in inbox.refused.items()}
    counts |= {(task, "done"): count for task, count in inbox.done.items()}
    for (task, state), count in counts.items():
        yield "inbox_deliveries", {"task": task, "state": state}, float(count)
    yield "inbox_unclaimed", {}, float(len(inbox.unclaimed))


def _written(labels: Labels) -> str:
    """Write labels, with what the format escapes."""
    pairs = (
        (name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in pairs) + "}"
