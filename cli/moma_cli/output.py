"""What a command prints: one JSON envelope, or text, on stdout and nothing else."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TextIO

from moma_cl.core.printable import printable, printable_lines
from moma_cl.properties.units import with_unit
from moma_cli.standard_streams import flush_or_discard

SCHEMA = "moma-cl/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that went wrong, for machines by its code and for people by its message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells under column names; columns in `numeric` are aligned to the right."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a command prints, and the status it exits with.

    Attributes
    ----------
    data
        The result, for ``--json``: dataclasses, and whatever JSON can hold.
    text
        The result for people and pipes: lines and tables on stdout.
    notes
        Hints for people: lines on stderr, which ``--quiet`` leaves out.
    errors
        Problems that left a result all the same: in the envelope, or on stderr.
    exit_code
        Status of the process.
    """

    data: Any = None
    text: Sequence[str | Table] = ()
    notes: Sequence[str] = ()
    errors: Sequence[Problem] = ()
    exit_code: int = 0


def print_output(command: str, output: Output, *, as_json: bool, quiet: bool) -> None:
    """Print a command's output, as an envelope, or without its notes if it should be quiet."""
    if as_json:
        print_envelope(command, output.data, output.errors, output.exit_code)
        return
    for part in output.text:
        if isinstance(part, Table):
            print_table(part, sys.stdout)
        else:
            say(part, sys.stdout)
    # Before what follows on stderr, so that a terminal shows both in order.
    sys.stdout.flush()
    for problem in output.errors:
        say(f"[{problem.code}] {problem.message}", sys.stderr)
    for note in () if quiet else output.notes:
        say(note, sys.stderr)


def say(text: str, stream: TextIO) -> None:
    """Write lines for people; control characters in them do not reach the terminal."""
    try:
        stream.write(printable_lines(text) + "\n")
    except OSError:
        if stream is not sys.stderr:
            raise
        flush_or_discard(stream)  # work goes on although nobody can be told


def print_envelope(
    command: str | None, data: Any, errors: Sequence[Problem], exit_code: int
) -> None:
    """Print the one JSON object that a command prints.

    Parameters
    ----------
    command
        Name of the command; none where not even that could be made out.
    data
        The result.
    errors
        What went wrong: ``status`` is ``ok`` without any, ``partial`` if the command succeeded
        all the same, ``error`` if not.
    exit_code
        Status of the process.
    """
    status = "error" if exit_code else "partial" if errors else "ok"
    envelope = {
        "schema": SCHEMA,
        "command": command,
        "status": status,
        "exit_code": exit_code,
        "data": data,
        "errors": errors,
    }
    sys.stdout.write(json_line(envelope))


def json_line(value: Any) -> str:
    """Write a value as one line of JSON, in ASCII, which survives every locale."""
    import json

    return json.dumps(jsonable(value), allow_nan=False) + "\n"


def jsonable(value: Any) -> Any:
    """Turn dataclasses, mappings, sequences, paths, enums and numbers into what JSON can hold.

    Numbers that are not finite become none.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: jsonable(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)


def print_table(table: Table, stream: TextIO) -> None:
    """Print a table: laid out by rich on a terminal, else as aligned text.

    Control characters in its cells do not reach the terminal.
    """
    rows = [
        row if "".join(row).isprintable() else [printable(cell) for cell in row]
        for row in table.rows
    ]
    if not stream.isatty():
        stream.writelines(line + "\n" for line in _aligned(table, rows))
        return
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    laid_out = RichTable(box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        laid_out.add_column(
            column,
            justify="right" if column in table.numeric else "left",
            no_wrap=column == table.columns[0],  # names are copied into commands
            overflow="fold",  # rather than cut
        )
    for row in rows:
        laid_out.add_row(*map(Text, row))
    Console(file=stream).print(laid_out)


def figure(value: float | None, unit: str = "") -> str:
    """Write a number with four significant digits and its unit; a dash for none."""
    if value is None:
        return "-"
    return with_unit(f"{value:.4g}", unit)


def counted(number: int, noun: str) -> str:
    """Write a number of things, such as ``1,204 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def outline(document: Mapping[str, Any], *, depth: int = 0) -> Iterable[str]:
    """Lay a JSON document out as indented lines, indented by `depth` steps."""
    indent = "  " * depth
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from outline(value, depth=depth + 1)
        elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
            yield f"{indent}{name}:"
            numbered = {f"[{place}]": inner for place, inner in enumerate(value)}
            yield from outline(numbered, depth=depth + 1)
        else:
            yield printable(f"{indent}{name}: {_scalar(value)}")


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_scalar, value)) or "-"
    return "-" if value is None or value == {} else str(value)


def _aligned(table: Table, rows: Sequence[Sequence[str]]) -> Iterable[str]:
    columns = []
    for cells in zip(table.columns, *rows, strict=True):
        width = max(map(len, cells))
        pad = str.rjust if cells[0] in table.numeric else str.ljust
        columns.append([pad(cell, width) for cell in cells])
    for cells in zip(*columns, strict=True):
        yield "  ".join(cells).rstrip()
