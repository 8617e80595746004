"""Parsing CIF and POSCAR text in a process that can be killed.

Parsers of such formats can be made to run for ever, to fill the memory or to crash. One process
serves many texts; it starts with the first, and again after it had to be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from moma_cl.core.worker_process import start_worker
from moma_cl.readers import text_parser_worker
from moma_cl.structures.crystals import Crystal
from moma_store.errors import InvalidInputError, StorageError

_START_SECONDS = 120.0  # importing pymatgen from a slow network disk
_COMMAND = f"from {text_parser_worker.__name__} import main; main()"


class TextFormat(StrEnum):
    """Text formats that are parsed in the other process."""

    CIF = "cif"
    POSCAR = "poscar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one row may cost.

    Attributes
    ----------
    text_bytes
        Longest line or record of a table, or largest structure file, bytes when uncompressed.
    document_bytes
        Longest JSON document of one row, characters; it is read in this process, where its
        objects take some thirty times as much.
    parse_seconds
        Time for parsing one CIF or POSCAR, s.
    parse_bytes
        Address space the parser may use beyond what it needs to start, bytes; enforced on Linux.
    """

    text_bytes: int = 32 << 20
    document_bytes: int = 16 << 20
    parse_seconds: float = 10.0
    parse_bytes: int = 1 << 30


class _WorkerEndedError(Exception):
    """The process has closed its end of the pipe."""


class StructureParser:
    """Owner of the process that parses; a context manager that ends it.

    Parameters
    ----------
    limits
        What one text may cost.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            # What is still in the buffer has no reader.
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        process.wait()

    def parse(self, text: str, text_format: TextFormat) -> Crystal:
        """Parse one structure.

        Parameters
        ----------
        text
            The text of a CIF or POSCAR file.
        text_format
            Which of the two it is.

        Returns
        -------
        Crystal
            The structure, in the cell of the file.

        Raises
        ------
        InvalidInputError
            The text is not a fully ordered structure, or parsing it takes more than the limits
            allow; the code says which.
        StorageError
            The process could not be started.
        """
        reply = self._asked({"format": text_format.value, "text": text})
        return Crystal(
            lattice=np.array(reply["lattice"], dtype=np.float64),
            atomic_numbers=np.array(reply["atomic_numbers"], dtype=np.int64),
            frac_coords=np.array(reply["frac_coords"], dtype=np.float64).reshape(-1, 3),
        )

    def database_rows(self, path: Path, after: int, count: int) -> list[dict[str, Any]]:
        """Read some rows of a database of ASE.

        Parameters
        ----------
        path
            The database.
        after
            Rows up to this one are left out.
        count
            How many to read at most.

        Returns
        -------
        list[dict[str, Any]]
            As `moma_cl.readers.ase_db.read_batch` gives them.

        Raises
        ------
        InvalidInputError
            It is no such database, or reading it takes more than the limits allow.
        StorageError
            The process could not be started.
        """
        request = {
            "format": "ase-db",
            "path": str(path),
            "after": after,
            "count": count,
            "max_bytes": self.limits.text_bytes,
        }
        rows: list[dict[str, Any]] = self._asked(request)["rows"]
        return rows

    def _asked(self, request: dict[str, object]) -> dict[str, Any]:
        """Send a request and wait for its reply."""
        process = self._process or self._start()
        try:
            _send(process, request)
            reply = _receive(process, self.limits.parse_seconds)
        except (TimeoutError, _WorkerEndedError, OSError) as error:
            self.close()
            raise _failure(error, self.limits) from error
        except BaseException:
            self.close()  # an interrupt: a late reply must not answer the next text
            raise
        if reply.get("code") == text_parser_worker.MEMORY:
            self.close()
        if "code" in reply:
            code = str(reply["code"]).removeprefix("invalid-input.")
            raise InvalidInputError(str(reply["message"]), code=f"invalid-input.{code}")
        return reply

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the process and wait until it has imported what it needs."""
        process = start_worker(_COMMAND)
        self._process = process
        settings = {
            "parse_seconds": self.limits.parse_seconds,
            "parse_bytes": self.limits.parse_bytes,
        }
        try:
            _send(process, settings)
            _receive(process, _START_SECONDS)
        except (TimeoutError, _WorkerEndedError, OSError) as error:
            self.close()
            raise StorageError(
                "the process that parses CIF and POSCAR files did not start: check with "
                f"`{sys.executable} -c 'import pymatgen.io.cif'`"
            ) from error
        return process


def _failure(error: Exception, limits: Limits) -> InvalidInputError:
    """Describe a text that has made the process hang or crash."""
    if isinstance(error, TimeoutError):
        return InvalidInputError(
            f"parsing was stopped after {limits.parse_seconds:g} s: simplify the file",
            code="invalid-input.parse-timeout",
        )
    return InvalidInputError(
        "the parser crashed on this text: simplify the file", code="invalid-input.parse-crash"
    )


def _send(process: subprocess.Popen[bytes], message: object) -> None:
    if process.stdin is None:
        raise _WorkerEndedError
    body = json.dumps(message).encode()
    process.stdin.write(text_parser_worker.LENGTH.pack(len(body)) + body)
    process.stdin.flush()


def _receive(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    """Wait for one message."""
    deadline = time.monotonic() + seconds
    header = _read_exactly(process, text_parser_worker.LENGTH.size, deadline)
    body = _read_exactly(process, text_parser_worker.LENGTH.unpack(header)[0], deadline)
    message: dict[str, Any] = json.loads(body)
    return message


def _read_exactly(process: subprocess.Popen[bytes], n_bytes: int, deadline: float) -> bytes:
    """Read from the pipe, below its buffer, for a buffered read could not be timed."""
    if process.stdout is None:
        raise _WorkerEndedError
    descriptor, parts, missing = process.stdout.fileno(), [], n_bytes
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while missing:
        left = deadline - time.monotonic()
        if left <= 0 or not poller.poll(1000 * left):
            raise TimeoutError
        part = os.read(descriptor, min(missing, 1 << 20))
        if not part:
            raise _WorkerEndedError
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
