"""Parameters that several commands have, and the files that some of them name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from moma_cl.recipe import Recipe

TaskName = Annotated[str, typer.Argument(metavar="NAME", help="The task.", show_default=False)]
Sources = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA",
        help="JSON lines (.jsonl, .jsonl.gz), or folders of CIF and POSCAR files with id_prop.csv.",
        show_default=False,
    ),
]
Wait = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for a writer.")
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


def read_recipe(file: Path, base: Mapping[str, Any]) -> Recipe:
    """Read a recipe file.

    Parameters
    ----------
    file
        TOML, or JSON by its suffix; sections with settings.
    base
        Document with the settings that the file leaves out.

    Returns
    -------
    Recipe
        The recipe.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidInputError
        If it is neither TOML nor JSON, or a setting is unknown.
    """
    import json
    import tomllib

    from moma_cl.recipe import Recipe
    from moma_store.errors import InvalidInputError, NotFoundError

    try:
        text = file.read_text(encoding="utf-8")
        given = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError as error:
        raise NotFoundError(f"the recipe {file} does not exist") from error
    except ValueError as error:  # what both parsers, and the decoder, raise
        raise InvalidInputError(f"the recipe {file} cannot be parsed: {error}") from error
    if not isinstance(given, dict):
        raise InvalidInputError(f"the recipe {file} holds no sections; expected an object")
    return Recipe.from_doc(_overlaid(base, given))


def _overlaid(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in given.items():
        inner = base.get(name)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            merged[name] = {**inner, **value}
        else:
            merged[name] = value
    return merged
