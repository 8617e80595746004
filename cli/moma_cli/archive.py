"""``export`` and ``import``: a hub, or modules of it, in one archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moma_cli.output import Output, counted
from moma_cli.parameters import Wait
from moma_cli.program import Run, command


@command("export", example="moma-cl export modules.zip --module bulk_modulus")
def export(
    run: Run,
    *,
    archive: Annotated[
        Path, typer.Argument(metavar="FILE", help="The archive to write.", show_default=False)
    ],
    module: Annotated[
        list[str] | None,
        typer.Option(
            "--module",
            metavar="NAME",
            help="Only this module, NAME@BACKBONE for one backbone; may be repeated.",
        ),
    ] = None,
) -> Output:
    """Write the hub, or chosen modules with the data they depend on, into one file."""
    exported = run.hub.export(archive, modules=module or None)
    what = counted(len(exported.refs), "ref") if module is None else counted(len(module), "module")
    contents = f"{counted(exported.records, 'record')}, {counted(exported.blobs, 'blob')}"
    return Output(
        data=exported, text=[f"{exported.path}: {what}, {contents} ({exported.bytes:,} bytes)"]
    )


@command("import", example="moma-cl import modules.zip")
def import_(
    run: Run,
    *,
    archive: Annotated[
        Path, typer.Argument(metavar="FILE", help="What export wrote.", show_default=False)
    ],
    catalogue: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Local folder for the catalogue of a hub that is made."),
    ] = None,
    wait: Wait = 0.0,
) -> Output:
    """Add exported modules, or make the exported hub anew where there is none.

    Everything is verified before anything changes. The hub must have the backbones.
    """
    imported = run.waiting(wait).import_archive(archive, catalogue=catalogue)
    contents = f"{counted(imported.records, 'new record')}, {counted(imported.blobs, 'new blob')}"
    return Output(
        data=imported,
        text=[f"{', '.join(imported.refs) or 'no new refs'}: {contents}"],
        notes=["next: moma-cl update composes every task with it"] if imported.refs else [],
    )
