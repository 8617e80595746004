"""``verify``, ``gc``, ``migrate``, ``pin``, ``export``, ``import``, ``add-module``: upkeep."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moma_cli.arriving import counted
from moma_cli.output import Answer, Problem
from moma_cli.parameters import Wait
from moma_cli.program import Run, command

if TYPE_CHECKING:
    from moma_cl.commands.maintenance import Pinned
    from moma_store.verification import Verification

_DAMAGED = 6  # exit code of stored data that is damaged
_SHOWN_DIGITS = 12

Kept = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A task, for its champion; a ref; or six or more digits of a digest.",
        show_default=False,
    ),
]


@command("verify", example="moma-cl verify --deep")
def verify(
    run: Run,
    *,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also decode and check every array.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Put damaged blobs into quarantine, restore a damaged catalogue or hub.toml.",
        ),
    ] = False,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="With --repair: the catalogue's folder, where a damaged hub.toml cannot tell it.",
        ),
    ] = None,
    wait: Wait = 0.0,
) -> Answer:
    """Check that everything in the hub is as it was written.

    Exits 6 if something is damaged that was not repaired.
    """
    found = run.waiting(wait).verify(deep=deep, repair=repair, catalogue=catalogue)
    problems = [
        Problem(code=f"integrity.{p.kind}", message=_told(p.subject, p.text, p.repaired))
        for p in found.problems
    ]
    spare = counted(found.unreachable_files, "file")
    notes = [f"{spare} ({found.unreachable_bytes:,} bytes) that nothing needs: moma-cl gc"]
    return Answer(
        data=found,
        text=[_summary(found)],
        notes=notes if found.unreachable_files else [],
        errors=problems,
        exit_code=_DAMAGED if found.damaged else 0,
    )


@command("gc", example="moma-cl gc --dry-run")
def gc(
    run: Run,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    wait: Wait = 0.0,
) -> Answer:
    """Take away what nothing needs any more.

    Kept are what tasks, modules and pins need, and the last five predictors of each task.
    """
    gone = run.waiting(wait).gc(dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    text = f"{verb} {counted(gone.records, 'record')} and {counted(gone.blobs, 'file')}"
    waiting = f"{counted(gone.waiting, 'file')} must wait until older readers have ended"
    return Answer(
        data=gone,
        text=[f"{text} ({gone.bytes:,} bytes)"],
        notes=[f"{waiting}: run gc again"] if gone.waiting else [],
    )


@command("migrate", example="moma-cl migrate new-hub")
def migrate(
    run: Run,
    target: Annotated[
        Path, typer.Argument(metavar="NEW", help="The copy to make.", show_default=False)
    ],
) -> Answer:
    """Copy a hub of an earlier format into the present one.

    The original is left as it is; the copy is verified before it gets its name.
    """
    done = run.hub.migrate(target)
    return Answer(
        data=done,
        text=[f"{done.path}: copied from format {done.before} to {done.after}"],
        notes=[f"next: moma-cl --hub {shlex.quote(str(done.path))} tasks"],
    )


@command("pin", example="moma-cl pin bulk_modulus")
def pin(run: Run, name: Kept, wait: Wait = 0.0) -> Answer:
    """Keep a record and all it needs, whatever becomes of its task."""
    return _pin_answer(run.waiting(wait).pin(name), "pinned")


@command("unpin", example="moma-cl unpin bulk_modulus")
def unpin(run: Run, name: Kept, wait: Wait = 0.0) -> Answer:
    """Let gc take a record again."""
    return _pin_answer(run.waiting(wait).unpin(name), "unpinned")


@command("export", example="moma-cl export modules.zip --module bulk_modulus")
def export(
    run: Run,
    *,
    archive: Annotated[
        Path, typer.Argument(metavar="FILE", help="The archive to write.", show_default=False)
    ],
    module: Annotated[
        list[str] | None,
        typer.Option("--module", metavar="NAME", help="Only this module; may be repeated."),
    ] = None,
) -> Answer:
    """Write the hub, or chosen modules with the data they depend on, into one file."""
    done = run.hub.export(archive, modules=module or None)
    what = counted(len(done.refs), "ref") if module is None else counted(len(module), "module")
    inside = f"{counted(done.records, 'record')}, {counted(done.blobs, 'blob')}"
    return Answer(data=done, text=[f"{done.path}: {what}, {inside} ({done.bytes:,} bytes)"])


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
) -> Answer:
    """Add exported modules, or make the exported hub anew where there is none.

    Everything is verified before anything changes. The backbone must be the same.
    """
    done = run.waiting(wait).import_archive(archive, catalogue=catalogue)
    inside = f"{counted(done.records, 'new record')}, {counted(done.blobs, 'new blob')}"
    return Answer(
        data=done,
        text=[f"{', '.join(done.refs) or 'no new refs'}: {inside}"],
        notes=["next: moma-cl update composes every task with it"] if done.refs else [],
    )


@command(
    "add-module",
    example="moma-cl add-module gaps --weights gaps.safetensors --property 'band gap' --unit eV "
    "--validation-mae 0.21",
)
def add_module(
    run: Run,
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the module.", show_default=False)
    ],
    weights: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Safetensors file with all parameters of the backbone, or of its adapter.",
            show_default=False,
        ),
    ],
    property_name: Annotated[
        str,
        typer.Option(
            "--property", metavar="NAME", help="What it was trained on.", show_default=False
        ),
    ],
    unit: Annotated[str, typer.Option(help="Unit of that.", show_default=False)],
    validation_mae: Annotated[
        float,
        typer.Option(
            min=0, help="Its error on rows it was not trained on, in UNIT.", show_default=False
        ),
    ],
    rows: Annotated[int, typer.Option(min=0, help="Rows it was trained on, if known.")] = 0,
    trained_on: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATA",
            help="All structures it was trained on; may be repeated. Without them no task of the "
            "same property composes it, lest it has seen the answers.",
        ),
    ] = None,
    source: Annotated[
        str, typer.Option(help="Where it comes from, for people.", show_default=False)
    ] = "",
    licence: Annotated[
        str, typer.Option("--license", help="Its licence.", show_default=False)
    ] = "",
    wait: Wait = 0.0,
) -> Answer:
    """Take in a module that was trained elsewhere from this hub's backbone.

    Names and shapes of its tensors must be exactly the backbone's.
    """
    from moma_cl.commands.add_module import Weights

    given = Weights(
        file=weights,
        property=property_name,
        unit=unit,
        validation_mae=validation_mae,
        n_train=rows,
        trained_on=tuple(trained_on or ()),
        source=source,
        licence=licence,
    )
    added = run.waiting(wait).add_module(name, given)
    return Answer(
        data=added,
        text=[f"{name}: {added.kind} module, {added.parameters:,} parameters"],
        notes=["next: moma-cl update composes every task with it"],
    )


def _summary(found: Verification) -> str:
    checked = (
        f"{counted(found.blobs, 'blob')} ({found.bytes:,} bytes), "
        f"{counted(found.records, 'record')}, {counted(found.refs, 'ref')}, "
        f"{found.entries:,} history entries"
    )
    if not found.problems:
        return f"whole: {checked}"
    left = sum(problem.repaired is None for problem in found.problems)
    return f"{counted(len(found.problems), 'problem')}, {left} not repaired: {checked}"


def _told(subject: str, text: str, repaired: str | None) -> str:
    return f"{subject}: {text}" + (f" [repaired: {repaired}]" if repaired else "")


def _pin_answer(done: Pinned, verb: str) -> Answer:
    already = "" if done.changed else " already"
    return Answer(data=done, text=[f"{done.kind} {done.digest[:_SHOWN_DIGITS]} {verb}{already}"])
