"""Where answers go: a file that appears when it is complete, standard output, or the envelope."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from moma_cli.output_file import final_path, is_special, published
from moma_cli.prediction_formats import (
    SUFFIXES,
    WRITERS,
    FormatChoice,
    document,
    require_parquet,
    write_parquet,
)
from moma_cli.resume import RESUMABLE, unfinished_file
from moma_store.errors import InvalidInputError

if TYPE_CHECKING:
    from moma_cl.commands.predict import Earlier
    from moma_cl.commands.predictions import PredictedRow
    from moma_cli.prediction_formats import Answer


class Ask(Protocol):
    """Answers all rows but those that an earlier run has answered."""

    def __call__(self, *, earlier: Earlier | None) -> Iterable[PredictedRow]:
        """Give the answers, row by row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the rows go, and how they are written."""

    layout: FormatChoice
    file: Path | None
    resumed: bool
    columns: tuple[str, ...]

    def write(self, ask: Ask, *, as_json: bool) -> list[dict[str, object]] | None:
        """Write the rows to the file, else to stdout; or give them, for the JSON envelope."""
        if self.file is not None:
            self._write_file(ask, final_path(self.file))
        elif as_json:
            return [document(row, self.columns) for row in ask(earlier=None)]
        else:
            WRITERS[self.layout](ask(earlier=None), sys.stdout, columns=self.columns)
        return None

    def _write_file(self, ask: Ask, file: Path) -> None:
        if self.resumed and is_special(file):
            raise InvalidInputError(f"{file} is no plain file; only a plain one can go on")
        with published(file, keep=self.layout in RESUMABLE) as path:
            resumed = unfinished_file(file, self.layout, self.columns) if self.resumed else None
            write_rows(
                ask(earlier=resumed.earlier if resumed else None),
                path,
                self.layout,
                self.columns,
                mode="w" if resumed is None and path != file else "a",
                header=resumed is None or resumed.n_bytes == 0,
            )


def write_rows(
    rows: Iterable[Answer],
    path: Path,
    layout: FormatChoice,
    columns: Sequence[str],
    *,
    mode: str = "w",
    header: bool = True,
) -> None:
    """Write rows to a file, or after those that it holds."""
    if layout == "parquet":
        write_parquet(rows, path, columns=columns)
        return
    with path.open(mode, encoding="utf-8", newline="") as stream:
        WRITERS[layout](rows, stream, columns=columns, header=header)


def target_of(
    layout: FormatChoice | None,
    output: Path | None,
    resume: Path | None,
    columns: tuple[str, ...],
) -> Target:
    """Decide where rows go, and in which layout: the one named, or that of the file's suffix."""
    if output is not None and resume is not None:
        raise typer.BadParameter("it names the output file itself", param_hint="--resume")
    file = output if resume is None else resume
    chosen = layout or _layout_of(file)
    if resume is not None and chosen not in RESUMABLE:
        raise typer.BadParameter(f"a {chosen} cannot be continued", param_hint="--resume")
    if chosen == "parquet":
        if file is None:
            raise typer.BadParameter("parquet needs --output FILE", param_hint="--format")
        require_parquet()
    return Target(layout=chosen, file=file, resumed=resume is not None, columns=columns)


def _layout_of(file: Path | None) -> FormatChoice:
    """Choose the layout by the suffix: a table for none, and for ``.txt``."""
    suffix = file.suffix.lower() if file is not None else ""
    if suffix in {"", ".txt"}:
        return "table"
    if suffix not in SUFFIXES:
        raise typer.BadParameter(
            f"the suffix {suffix!r} is none of {', '.join(SUFFIXES)} and .txt; --format names a "
            "layout for any",
            param_hint="--output",
        )
    return SUFFIXES[suffix]
