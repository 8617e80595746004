"""Notifying: a notice goes to a command, or as JSON to a web address.

A command is a list of arguments that its owner wrote, started without a shell; the notice is its
standard input. Nothing that comes from data is executed, or can become an option.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import urllib.request
from dataclasses import asdict

from moma_cl.automation.notices import Notice
from moma_store.errors import InvalidInputError, MomaError

SUBJECT = "{subject}"
"""The argument of a command in whose place the subject stands."""

TIMEOUT = 60.0
"""How long a command or a server may take, s."""


class NotifyError(MomaError):
    """A notice could not be delivered."""

    code = "notify"
    exit_code = 1


def check_target(target: str) -> None:
    """Refuse what is neither a web address nor a command line, before a pass is made."""
    if not _is_address(target):
        _arguments(target)


def notify(target: str, notice: Notice) -> None:
    """Send a notice.

    Parameters
    ----------
    target
        An address that begins with ``http://`` or ``https://``, to which JSON is posted; else a
        command line, whose argument ``{subject}`` is replaced by the subject.
    notice
        The notice.

    Raises
    ------
    NotifyError
        If the command fails or the server does not accept it.
    """
    try:
        if _is_address(target):
            _post(target, notice)
        else:
            _run(_arguments(target), notice)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise NotifyError(
            f"nobody was notified through {target!r}: {error}; the next pass tells what lasts again"
        ) from error


def _is_address(target: str) -> bool:
    return target.startswith(("http://", "https://"))


def _arguments(target: str) -> list[str]:
    try:
        arguments = shlex.split(target)
    except ValueError as error:
        raise InvalidInputError(f"{target!r} is no command line: {error}") from error
    if not arguments:
        raise InvalidInputError("nobody to notify; expected a command or an http(s) address")
    return arguments


def _run(arguments: list[str], notice: Notice) -> None:
    words = [notice.subject if word == SUBJECT else word for word in arguments]
    text = ("\n".join(notice.lines) if SUBJECT in arguments else notice.text) + "\n"
    ended = subprocess.run(
        words, input=text.encode(), capture_output=True, timeout=TIMEOUT, check=False
    )
    if ended.returncode != 0:
        said = ended.stderr.decode(errors="replace").strip()[-200:]
        raise OSError(f"it exited {ended.returncode}{f': {said}' if said else ''}")


def _post(address: str, notice: Notice) -> None:
    body = json.dumps({**asdict(notice), "text": notice.text}).encode()
    request = urllib.request.Request(  # noqa: S310  the scheme was checked
        address, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310
        pass
