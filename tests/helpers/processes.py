"""The program, and code given as text, in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name == "PYTHONPATH" or not name.startswith(("MOMA_CL_", "PYTHON"))
} | {"OMP_NUM_THREADS": "1", "MOMA_CL_DEVICE": "cpu"}


@dataclass(frozen=True)
class Ended:
    """A process that ended."""

    code: int
    out: str
    err: str

    @property
    def envelope(self) -> dict[str, Any]:
        """The one JSON object on stdout; more or less than one fails."""
        return json.loads(self.out)


def moma_cl(*arguments: object, **options: Any) -> Ended:
    """Run the program to its end."""
    ended = subprocess.run(
        [sys.executable, "-m", "moma_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        check=False,
        **options,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


class Program:
    """Calls ``moma-cl`` for one hub."""

    def __init__(self, hub: Path) -> None:
        self.hub = hub

    def command(self, *arguments: object) -> list[str]:
        """The whole command line."""
        return [sys.executable, "-m", "moma_cli", "--hub", str(self.hub), *map(str, arguments)]

    def __call__(self, *arguments: object) -> Ended:
        return moma_cl("--hub", self.hub, *arguments, timeout=120)

    def ok(self, *arguments: object) -> Ended:
        """Call, and insist on success."""
        ended = self(*arguments)
        assert ended.code == 0, ended
        return ended

    def json(self, *arguments: object) -> Any:
        """Call with ``--json``, insist on success, and give the data."""
        return self.ok(*arguments, "--json").envelope["data"]


def run_python(code: str, *arguments: object, **options: Any) -> str:
    """Run code that must succeed, and give what it printed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@contextmanager
def answering(code: str, *arguments: object, **options: Any) -> Iterator[Callable[[object], str]]:
    """Start code that prints "ready" and then one line for each line it reads; give who asks it."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes, **options) as process:
        assert process.stdout.readline() == "ready\n"

        def ask(line: object) -> str:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            return process.stdout.readline()

        yield ask
        process.stdin.close()
    assert process.returncode == 0
