"""Worker processes of our own, which answer requests over their standard input and output.

A message is its length (eight bytes, big-endian) and as many bytes. What the bytes mean is for the
two ends to agree on; nothing is pickled.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import IO, Self, cast

_LENGTH = struct.Struct(">Q")
_AT_ONCE = 1 << 20  # bytes read in one call

Answer = Callable[[bytes], Iterable[bytes]]
"""What a worker does: the replies to one request."""


class Worker:
    """A process that answers requests; a context manager that kills it.

    Parameters
    ----------
    module
        Name of a module of this package; its ``prepare`` gives the `Answer` of the process.
    *arguments
        Numbers and texts with which ``prepare`` is called.

    Raises
    ------
    OSError
        The process cannot be started.
    """

    def __init__(self, module: str, *arguments: float | str) -> None:
        environment = {
            **os.environ,
            # The same modules as ours, also when they are not installed; -P keeps out the working
            # directory, which belongs to the user.
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            # Each thread would take a core, and address space.
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-c",
                f"from {__name__} import serve; serve{(module, *arguments)}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._requests = cast("IO[bytes]", self.process.stdin)
        self._replies = cast("IO[bytes]", self.process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process."""
        self.process.kill()
        for stream in (self._requests, self._replies):
            with contextlib.suppress(OSError):  # what is still in the buffer has no reader
                stream.close()
        self.process.wait()

    def send(self, request: bytes) -> None:
        """Send a request; an `OSError` says that the process has ended."""
        self._requests.write(_LENGTH.pack(len(request)))
        self._requests.write(request)
        self._requests.flush()

    def receive(self, seconds: float | None = None) -> bytes:
        """Wait for one reply.

        Parameters
        ----------
        seconds
            How long, s; for ever by default.

        Returns
        -------
        bytes
            The reply.

        Raises
        ------
        TimeoutError
            The reply has not come; the process is of no use any more.
        EOFError
            The process has ended.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        return self._read(length, deadline)

    def _read(self, n_bytes: int, deadline: float | None) -> bytes:
        """Read from the pipe below its buffer, since a buffered read could not be timed."""
        descriptor, parts, missing = self._replies.fileno(), [], n_bytes
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        while missing:
            left = None if deadline is None else 1000 * max(0.0, deadline - time.monotonic())
            if left == 0 or not poller.poll(left):
                raise TimeoutError
            part = os.read(descriptor, min(missing, _AT_ONCE))
            if not part:
                raise EOFError
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def serve(module: str, *arguments: float | str) -> None:
    """Answer requests from standard input until it ends; this is what a `Worker` runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, which then ends us
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the replies
    warnings.simplefilter("ignore")
    answer: Answer = import_module(module).prepare(*arguments)
    requests = sys.stdin.buffer
    while len(header := requests.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(header)
        request = requests.read(length)
        if len(request) < length:
            return
        for reply in answer(request):
            replies.write(_LENGTH.pack(len(reply)))
            replies.write(reply)
        replies.flush()
