"""Parsing CIF and POSCAR text in a process that can be killed.

Parsers of such formats can be made to run for ever, to fill the memory or to crash. One process
serves many texts; it starts with the first, and again after it had to be killed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np

from moma_cl.core.worker_process import Worker
from moma_cl.readers import text_parser_worker
from moma_cl.readers.formats import InputFormat
from moma_cl.readers.rows import Limits
from moma_cl.structures.crystals import Crystal
from moma_store.errors import InvalidInputError, StorageError

_START_SECONDS = 120.0  # importing pymatgen from a slow network disk
_WORKER_ERRORS = (OSError, EOFError)  # a timeout among them


class StructureParser:
    """Owner of the process that parses; a context manager that kills it.

    Parameters
    ----------
    limits
        What one text may cost.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process, if there is one."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def parse(self, text: str, text_format: InputFormat) -> Crystal:
        """Parse the text of a CIF or POSCAR file, in the cell of the file.

        A text that is no fully ordered structure, or takes more than the limits allow, is
        refused; the code of the error says why. A `StorageError` says that the process did not
        start.
        """
        reply = self._reply({"format": text_format.value, "text": text})
        return Crystal(
            lattice=np.array(reply["lattice"], dtype=np.float64),
            atomic_numbers=np.array(reply["atomic_numbers"], dtype=np.int64),
            frac_coords=np.array(reply["frac_coords"], dtype=np.float64).reshape(-1, 3),
        )

    def database_rows(self, path: Path, after: int, count: int) -> list[dict[str, Any]]:
        """Read rows of a database of ASE, as `moma_cl.readers.ase_db.read_batch` does."""
        limit = self.limits.text_bytes
        request = {"path": str(path), "after": after, "count": count, "max_bytes": limit}
        rows: list[dict[str, Any]] = self._reply(
            {"format": text_parser_worker.DATABASE, **request}
        )["rows"]
        return rows

    def _reply(self, request: dict[str, object]) -> dict[str, Any]:
        """Send a request and wait for its reply."""
        worker = self._worker or self._start()
        try:
            reply = _exchange(worker, request, self.limits.parse_seconds)
        except _WORKER_ERRORS as error:
            self.close()
            raise _failure(error, self.limits) from error
        except BaseException:
            self.close()  # an interrupt: a late reply must not answer the next text
            raise
        if reply.get("code") == text_parser_worker.OUT_OF_MEMORY:
            self.close()
        if "code" in reply:
            code = str(reply["code"]).removeprefix("invalid-input.")
            raise InvalidInputError(str(reply["message"]), code=f"invalid-input.{code}")
        return reply

    def _start(self) -> Worker:
        """Start the process and wait until it has imported what it needs."""
        limits = self.limits
        try:
            self._worker = worker = Worker(
                text_parser_worker.__name__, limits.parse_seconds, limits.parse_bytes
            )
            _exchange(worker, {"format": text_parser_worker.NOTHING}, _START_SECONDS)
        except BaseException as error:
            self.close()
            if not isinstance(error, _WORKER_ERRORS):
                raise
            raise StorageError(
                "the process that parses CIF and POSCAR files did not start: check with "
                f"`{sys.executable} -c 'import pymatgen.io.vasp.inputs'`"
            ) from error
        return worker


def _exchange(worker: Worker, request: dict[str, object], seconds: float) -> dict[str, Any]:
    worker.send(json.dumps(request).encode())
    reply: dict[str, Any] = json.loads(worker.receive(seconds))
    return reply


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
