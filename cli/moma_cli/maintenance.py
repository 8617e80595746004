"""``verify``, ``gc``, ``migrate``, ``pin`` and ``unpin``: checking and tidying a hub."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moma_cli.output import Output, Problem, counted
from moma_cli.parameters import Wait
from moma_cli.program import Run, command

if TYPE_CHECKING:
    from moma_cl.commands.maintenance import Pinned
    from moma_store.verification import Verification

_DAMAGED = 6  # exit code of stored data that is damaged
_SHOWN_DIGITS = 12

RecordName = Annotated[
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
            help="With --repair: the catalogue's folder, if a damaged hub.toml does not name it.",
        ),
    ] = None,
    wait: Wait = 0.0,
) -> Output:
    """Check that everything in the hub is as it was written.

    Exits 6 if something is damaged that was not repaired.
    """
    return _verify_output(run.waiting(wait).verify(deep=deep, repair=repair, catalogue=catalogue))


@command("gc", example="moma-cl gc --dry-run")
def gc(
    run: Run,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    wait: Wait = 0.0,
) -> Output:
    """Remove what nothing needs any more.

    Kept are what tasks, modules and pins need, and the last five predictors of each task.
    """
    removed = run.waiting(wait).gc(dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    text = f"{verb} {counted(removed.records, 'record')} and {counted(removed.blobs, 'file')}"
    waiting = f"{counted(removed.waiting, 'file')} must wait until older readers have ended"
    return Output(
        data=removed,
        text=[f"{text} ({removed.bytes:,} bytes)"],
        notes=[f"{waiting}: run gc again"] if removed.waiting else [],
    )


@command("migrate", example="moma-cl migrate new-hub")
def migrate(
    run: Run,
    target: Annotated[
        Path, typer.Argument(metavar="NEW", help="The copy to make.", show_default=False)
    ],
) -> Output:
    """Copy a hub of an earlier format into the present one.

    The original is left as it is; the copy is verified before it gets its name.
    """
    copy = run.hub.migrate(target)
    return Output(
        data=copy,
        text=[f"{copy.path}: copied from format {copy.before} to {copy.after}"],
        notes=[f"next: moma-cl --hub {shlex.quote(str(copy.path))} tasks"],
    )


@command("pin", example="moma-cl pin bulk_modulus")
def pin(run: Run, name: RecordName, wait: Wait = 0.0) -> Output:
    """Keep a record and all it needs, whatever becomes of its task."""
    return _pin_output(run.waiting(wait).pin(name), "pinned")


@command("unpin", example="moma-cl unpin bulk_modulus")
def unpin(run: Run, name: RecordName, wait: Wait = 0.0) -> Output:
    """Let gc remove a record again."""
    return _pin_output(run.waiting(wait).unpin(name), "unpinned")


def _verify_output(verification: Verification) -> Output:
    problems = [
        Problem(code=f"integrity.{p.kind}", message=_problem_text(p.subject, p.text, p.repaired))
        for p in verification.problems
    ]
    spare = counted(verification.unreachable_files, "file")
    notes = [f"{spare} ({verification.unreachable_bytes:,} bytes) that nothing needs: moma-cl gc"]
    return Output(
        data=verification,
        text=[_summary(verification)],
        notes=notes if verification.unreachable_files else [],
        errors=problems,
        exit_code=_DAMAGED if verification.damaged else 0,
    )


def _summary(verification: Verification) -> str:
    checked = (
        f"{counted(verification.blobs, 'blob')} ({verification.bytes:,} bytes), "
        f"{counted(verification.records, 'record')}, {counted(verification.refs, 'ref')}, "
        f"{verification.entries:,} history entries"
    )
    if not verification.problems:
        return f"whole: {checked}"
    unrepaired = sum(problem.repaired is None for problem in verification.problems)
    return f"{counted(len(verification.problems), 'problem')}, {unrepaired} not repaired: {checked}"


def _problem_text(subject: str, text: str, repaired: str | None) -> str:
    return f"{subject}: {text}" + (f" [repaired: {repaired}]" if repaired else "")


def _pin_output(pinned: Pinned, verb: str) -> Output:
    already = "" if pinned.changed else " already"
    text = f"{pinned.kind} {pinned.digest[:_SHOWN_DIGITS]} {verb}{already}"
    return Output(data=pinned, text=[text])
