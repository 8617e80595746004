"""Workbooks of spreadsheets (``.xlsx``), whose one sheet is read like a table.

The package openpyxl reads them, values only: no formula is computed, and no macro is run.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

from moma_cl.readers.byte_sources import MAX_RATIO, READ_ERRORS, Place, unreadable
from moma_cl.readers.tables import Record
from moma_store.errors import InvalidInputError

_MOST_UNPACKED = 16  # times the limit on a file
_CUT_OFF = 32_767  # characters that a cell can hold: what was longer ends there


def records(place: Place, limit: int) -> Iterator[Record]:
    """Read the records of a workbook's sheet; the line of each is its row.

    Parameters
    ----------
    place
        The workbook.
    limit
        Bytes that its file may have.

    Yields
    ------
    Record
        Records that are not empty.

    Raises
    ------
    InvalidInputError
        It is no workbook with one sheet, or openpyxl is not installed.
    """
    sheet = _sheet(place, _opened(place, limit))
    number = width = 0
    try:
        for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
            texts = [_text(cell) for cell in cells]
            if any(texts):
                width = width or len(texts)
                texts += [""] * (width - len(texts))  # empty cells at the end may be left out
                yield Record(line=number, cells=tuple(texts), error=_error(texts))
    except Exception as error:
        raise OSError(f"row {number + 1}: {error}") from error


def _opened(place: Place, limit: int) -> Any:
    """Open the workbook, unless it would fill the memory."""
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise InvalidInputError(
            f"{place.label} needs the package openpyxl; `pip install 'moma-cl[excel]'` installs "
            "it, or save the sheet as CSV",
            code="invalid-input.missing-extra",
        ) from error
    try:
        with place.opened() as stream:
            content = stream.read(limit + 1)
    except READ_ERRORS as error:
        raise unreadable(place.label, error) from error
    try:
        unpacked = 0
        if len(content) <= limit:
            with zipfile.ZipFile(io.BytesIO(content)) as parts:
                unpacked = sum(part.file_size for part in parts.infolist())
        most = min(_MOST_UNPACKED * limit, max(limit, MAX_RATIO * len(content)))
        if len(content) > limit or unpacked > most:
            raise InvalidInputError(
                f"{place.label} has more than {limit:,} bytes, or unpacks to far more: save it as "
                "CSV",
                code="invalid-input.too-long",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and other things that are not read
            return load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    except InvalidInputError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"{place.label} is no workbook (.xlsx) that can be read ({error}): save it as .xlsx or "
            "CSV",
            code="invalid-input.unreadable",
        ) from error


def _sheet(place: Place, workbook: Any) -> Any:
    """Find the one sheet that is not empty."""
    sheets = []
    for sheet in workbook.worksheets:
        sheet.reset_dimensions()  # some programs write wrong ones
        if any(cell is not None for row in sheet.iter_rows(values_only=True) for cell in row):
            sheets.append(sheet)
    if len(sheets) != 1:
        names = ", ".join(repr(sheet.title) for sheet in sheets[:8]) or "none"
        raise InvalidInputError(
            f"{place.label} has {len(sheets)} sheets with cells ({names}); expected one: save the "
            "one to be read as a file of its own",
            code="invalid-input.many-sheets",
        )
    return sheets[0]


def _text(cell: object) -> str:
    if isinstance(cell, str):
        from openpyxl.utils.escape import unescape

        text: str = unescape(cell) if "_x" in cell else cell
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return "" if cell is None else str(cell)


def _error(texts: list[str]) -> InvalidInputError | None:
    if max(map(len, texts)) < _CUT_OFF - 1:
        return None
    return InvalidInputError(
        f"a cell has {_CUT_OFF:,} characters, as many as it can hold, so its text may be cut off: "
        "put the structure into a file, and its path into the cell",
        code="invalid-input.truncated",
    )
