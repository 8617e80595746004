"""Notices: the mail about a pass, which says what somebody should know and nothing else.

A pass that nobody need read of has none. Light: it is made of what the pass has noted.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from moma_cl.automation.delivery_batches import KIND
from moma_cl.core.printable import printable
from moma_cl.reconciling.pass_actions import FIRST_PREDICTOR, Done, PassAction

FAILED, REFUSED, DRIFT, SET_ASIDE = 1, 8, 9, 10
"""Exit codes of a pass: what it has news of, the gravest first: 1, 10, 9, 8."""

_SUBJECT_PARTS = 3
_DELIVERIES = 20  # of a task that are told one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A mail about a pass.

    Attributes
    ----------
    subject
        Which hub on which machine, and the gravest news.
    hub
        The hub's folder.
    host
        The machine's name.
    at
        When it was written, UTC, ISO 8601.
    exit_code
        How the pass exits.
    lines
        What it says.
    """

    subject: str
    hub: str
    host: str
    at: str
    exit_code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The mail in full, with its subject as the first line."""
        return "\n".join((self.subject, "", *self.lines))


def notice_of(hub: Path, done: Sequence[Done]) -> Notice | None:
    """Write the mail about a pass; none where there is no news."""
    news = [entry for entry in done if is_news(entry)]
    if not news:
        return None
    host, at = socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds")
    told = "; ".join(_headlines(news)[:_SUBJECT_PARTS])
    lines = [f"hub {hub.absolute()} on {host}, {at[:16].replace('T', ' ')} UTC"]
    for task in dict.fromkeys(entry.task for entry in news):
        lines += ["", task or "inbox"]
        lines += [f"  {line}" for line in _task_lines(task, news, done)]
    return Notice(
        subject=printable(f"moma-cl {hub.absolute().name} on {host}: {told}"),
        hub=str(hub.absolute()),
        host=host,
        at=at,
        exit_code=exit_code(done),
        lines=tuple(map(printable, lines)),
    )


def exit_code(done: Sequence[Done]) -> int:
    """Tell success from failures, work set aside, drift and refusals.

    Parameters
    ----------
    done
        What a pass did.

    Returns
    -------
    int
        0 without news; `FAILED` also while something that failed waits for another try.
    """
    actions = {entry.action for entry in done if is_news(entry)}
    if any(entry.action in {PassAction.FAILED, PassAction.WAITING} for entry in done):
        return FAILED
    if PassAction.SET_ASIDE in actions:
        return SET_ASIDE
    if actions & {PassAction.DRIFT, PassAction.HELD}:
        return DRIFT
    refused = any(is_news(entry) and _is_refusal(entry) for entry in done)
    return REFUSED if refused else 0


def is_news(entry: Done) -> bool:
    """Say whether somebody should read of something that a pass did, and has not before."""
    if entry.told:
        return False
    figures = entry.figures
    if entry.action == PassAction.ADDED:
        return bool(figures.get("refused") or figures.get("replaced") or not figures.get("rows"))
    if entry.action == PassAction.MEASURED:
        return bool(figures.get("new_elements"))
    return entry.action in _WRITTEN


def what_to_do(entry: Done) -> str:
    """Say what somebody can do about something that a pass did."""
    if entry.figures.get("refused"):
        return _about_refused_rows(entry)
    if entry.figures.get("closed"):
        return "let the user that moma-cl runs as read it, or remove it"
    advice = _ADVICE.get(entry.action, "")
    return advice.format(task=entry.task)


def _about_refused_rows(entry: Done) -> str:
    inbox, codes = f"inbox/{entry.task}", entry.figures.get("codes", ())
    stored = "already-stored" in codes
    parts = []
    if not stored or len(codes) > 1:
        parts.append("correct these rows and deliver them again")
    if stored:
        parts.append(f"if stored rows shall be replaced, put the file into {inbox}/replace/")
    parts.append(f"the report in {inbox}/{entry.figures['folder']}/ names every row")
    return "; ".join(parts)


def _is_refusal(entry: Done) -> bool:
    always = {PassAction.REFUSED, PassAction.UNCLAIMED, PassAction.UNFINISHED}
    return entry.action in always or bool(entry.figures.get("refused"))


def _headlines(news: Sequence[Done]) -> list[str]:
    """Say in a few words what happened, the gravest first."""
    headlines: list[str] = []
    for action, words in _GRAVE.items():
        tasks = sorted({entry.task for entry in news if entry.action == action})
        if tasks and (action != PassAction.DRIFT or not headlines):
            headlines.append(f"{', '.join(tasks)}: {words}")
    rows = sum(entry.figures.get("refused", 0) for entry in news)
    files = sum(e.action == PassAction.REFUSED and not e.figures.get("refused") for e in news)
    alone = {PassAction.UNCLAIMED, PassAction.UNFINISHED}
    left = sum(entry.action in alone for entry in news)
    counts = (
        (rows, "row", "refused"),
        (files, "file", "refused"),
        (left, "delivery", "left alone"),
    )
    headlines += [f"{_counted(n, noun)} {verb}" for n, noun, verb in counts if n]
    if not headlines:
        headlines = [f"{', '.join(sorted({entry.task for entry in news}))}: noted"]
    return headlines


def _task_lines(task: str, news: Sequence[Done], done: Sequence[Done]) -> list[str]:
    """Say what happened to a task."""
    own = [entry for entry in news if entry.task == task]
    held = any(entry.action == PassAction.HELD for entry in own)
    deliveries = [entry for entry in own if entry.kind == KIND]
    lines = []
    for entry in deliveries[:_DELIVERIES]:
        lines += _entry_lines(entry)
    if len(deliveries) > _DELIVERIES:
        lines.append(f"and {len(deliveries) - _DELIVERIES:,} more deliveries; `moma-cl status`")
    for entry in own:
        if entry.kind != KIND and not (held and entry.action == PassAction.DRIFT):
            lines += _entry_lines(entry)
    if any(entry.action not in {PassAction.UNCLAIMED, PassAction.UNFINISHED} for entry in own):
        lines.append(_champion_line(task, done))
    return lines


def _champion_line(task: str, done: Sequence[Done]) -> str:
    """Say whether the champion of a task has changed, and by how much."""
    promoted = [e for e in done if e.task == task and e.action == PassAction.PROMOTED]
    if not promoted:
        return "champion unchanged"
    if promoted[-1].text == FIRST_PREDICTOR:
        return "champion: the first predictor of the task"
    return f"champion changed: {promoted[-1].text}"


def _entry_lines(entry: Done) -> list[str]:
    writer = _WRITTEN.get(entry.action)
    lines = writer(entry) if writer is not None else [entry.text]
    todo = what_to_do(entry)
    return [*lines, *([f"  do: {todo}"] if todo else [])]


def _delivery_lines(entry: Done) -> list[str]:
    """Say how many rows of a file were refused and why."""
    figures = entry.figures
    refused, total = figures.get("refused", 0), figures.get("total", 0)
    if not refused and not figures.get("rows"):
        return [entry.text]
    counts = [f"{refused:,} of {_counted(total, 'row')} refused"] if refused else []
    counts += [f"{figures['rows']:,} added"] if figures.get("rows") else []
    replaced = figures.get("replaced")
    counts += [f"{_counted(replaced, 'stored row')} replaced"] if replaced else []
    return [
        f"{figures['file']}: {', '.join(counts)}",
        *(f"  {reason}" for reason in figures.get("reasons", ())),
    ]


def _plain(prefix: str) -> Callable[[Done], list[str]]:
    return lambda entry: [f"{prefix}{entry.text}"]


_WRITTEN: dict[PassAction, Callable[[Done], list[str]]] = {
    PassAction.FAILED: _plain("failed: "),
    PassAction.SET_ASIDE: _plain("set aside: "),
    PassAction.HELD: _plain("promotion held: "),
    PassAction.DRIFT: _plain(""),
    PassAction.REFUSED: _delivery_lines,
    PassAction.ADDED: _delivery_lines,
    PassAction.MEASURED: _plain(""),
    PassAction.UNCLAIMED: _plain(""),
    PassAction.UNFINISHED: _plain(""),
}

_RIGHT_OR_WRONG = (
    "if the rows are right, `moma-cl confirm {task}`; if not, `moma-cl retract {task} IDS`, or put "
    "corrected rows into inbox/{task}/replace/"
)

_ADVICE = {
    PassAction.HELD: _RIGHT_OR_WRONG,
    PassAction.DRIFT: _RIGHT_OR_WRONG,
    PassAction.SET_ASIDE: "`moma-cl update --retry` tries again once the cause is mended",
    PassAction.UNFINISHED: "deliver the whole file under the same name, or remove it",
    PassAction.REFUSED: "correct the file and deliver it again",
    PassAction.FAILED: "the next pass tries again; `moma-cl plan` shows what waits",
}

_GRAVE = {
    PassAction.FAILED: "failed",
    PassAction.SET_ASIDE: "set aside",
    PassAction.HELD: "promotion held",
    PassAction.DRIFT: "drift",
}


def _counted(number: int, noun: str) -> str:
    plural = noun if number == 1 else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"
