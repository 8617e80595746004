"""Parameters that several commands have, and the files that some of them name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from moma_cl.core.devices import DeviceName
from moma_cl.core.limits import LONGEST

if TYPE_CHECKING:
    from moma_cl.readers.rows import Reading
    from moma_cl.recipe import Recipe

TaskName = Annotated[str, typer.Argument(metavar="NAME", help="The task.", show_default=False)]
Sources = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA",
        help="JSON lines, CSV, XLSX, JSON, XYZ, ASE databases; folders or archives of CIF files; "
        "patterns; - for standard input.",
        show_default=False,
    ),
]
FormatName = Literal[
    "jsonl", "json", "csv", "tsv", "xlsx", "cif", "poscar", "xyz", "ase-db", "archive"
]
InputFormatChoice = Annotated[
    FormatName | None,
    typer.Option("--input-format", help="Of the files; by default as their names say."),
]
StructureColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Column with the structures, or paths of them."),
]
IdColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column with the ids.")]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        max=LONGEST,
        help="How long to wait for a writer, or for a pass where one is made.",
    ),
]
Settle = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        max=LONGEST,
        help="How long a delivery must be unchanged before it is read.",
    ),
]
Device = Annotated[
    DeviceName,
    typer.Option(
        "--device",
        envvar="MOMA_CL_DEVICE",
        help="Where encoders compute; auto takes a GPU if there is one. Equal bits on cpu only.",
    ),
]
NoUpdate = Annotated[
    bool,
    typer.Option(
        "--no-update", help="Only store the rows and answer at once; leave the rest to `update`."
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write all refused rows here, as JSON."),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE", help="Settings that differ, as TOML or JSON."),
]


def reading_of(
    input_format: FormatName | None, structure_column: str | None, id_column: str | None
) -> Reading:
    """Turn the options about files into the library's `Reading`."""
    from moma_cl.readers.formats import InputFormat
    from moma_cl.readers.rows import Reading

    return Reading(
        format=InputFormat(input_format) if input_format else None,
        structure_column=structure_column,
        id_column=id_column,
    )


def read_recipe(file: Path, base: Mapping[str, Any]) -> Recipe:
    """Read a recipe file, whose settings are laid over those of `base`.

    Raises `NotFoundError` if there is no such file, `InvalidInputError` if it is neither TOML nor
    JSON, or a setting is unknown.
    """
    from moma_cl.commands.set_recipe import overlaid
    from moma_cl.recipe import Recipe

    return Recipe.from_doc(overlaid(base, read_settings(file)))


def read_settings(file: Path) -> dict[str, Any]:
    """Read a recipe file, JSON by its suffix or else TOML, without checking its settings."""
    import json
    import tomllib

    from moma_store.errors import InvalidInputError, NotFoundError

    try:
        text = file.read_text(encoding="utf-8")
        settings = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError as error:
        raise NotFoundError(f"the recipe {file} does not exist") from error
    except RecursionError as error:
        raise InvalidInputError(f"the recipe {file} is nested too deeply") from error
    except ValueError as error:  # what both parsers, and the decoder, raise
        raise InvalidInputError(f"the recipe {file} cannot be parsed: {error}") from error
    if not isinstance(settings, dict):
        raise InvalidInputError(f"the recipe {file} holds no sections; expected an object")
    return settings
