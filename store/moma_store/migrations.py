"""Hubs of earlier formats: brought up to date step by step, on a copy.

One function leads from each format to the next and changes a copy in place; a hub of format N goes
through all from N on. The original is only read. What the copy holds is verified before it gets its
final name.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from moma_store import hub_file, hub_layout
from moma_store.clock import utc_now
from moma_store.errors import (
    AlreadyExistsError,
    FormatError,
    IntegrityError,
    NotFoundError,
)
from moma_store.files import Files, reported
from moma_store.locking import writer_lock
from moma_store.verification import verify

Migration = Callable[[Path], None]
"""Changes the hub in a folder from one format to the next."""

MIGRATIONS: Mapping[int, Migration] = {}
"""By the format they start from; empty as long as the first format is the present one."""

_LEFT_BEHIND = (hub_layout.CACHE, hub_layout.TMP, hub_layout.BACKUPS)


def format_of(path: Path) -> int:
    """Tell the format of a hub, whichever it is.

    Parameters
    ----------
    path
        The hub's folder.

    Returns
    -------
    int
        The format.

    Raises
    ------
    NotFoundError
        If there is no hub.
    IntegrityError
        If ``hub.toml`` is damaged.
    """
    file = path / hub_file.NAME
    if not file.is_file():
        raise NotFoundError(f"there is no hub at {path}")
    try:
        with reported("read", file):
            return int(tomllib.loads(file.read_bytes().decode())["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{file} is damaged: {error}") from error


def migrate(
    source: Path,
    target: Path,
    *,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    files: Files | None = None,
) -> int:
    """Copy a hub of an earlier format into the present one.

    Parameters
    ----------
    source
        The hub; it is left as it is.
    target
        The copy; absent. Its catalogue is inside it.
    migrations
        The steps.
    files
        The file system.

    Returns
    -------
    int
        How many steps were taken.

    Raises
    ------
    NotFoundError
        If there is no hub.
    AlreadyExistsError
        If there is something at the target.
    FormatError
        If a newer version made the hub, or no step leads on from its format.
    IntegrityError
        If the copy does not verify.
    StorageError
        If the disk refuses.
    """
    files = files or Files()
    steps = _steps(source, migrations)
    if target.exists():
        raise AlreadyExistsError(f"{target} exists; name a folder that is absent")
    draft = target.with_name(f".{target.name}.migrating")
    shutil.rmtree(draft, ignore_errors=True)
    _copy_locked(source, draft)
    for number in steps:
        migrations[number](draft)
    _publish(draft, target, files)
    return len(steps)


def _steps(source: Path, migrations: Mapping[int, Migration]) -> list[int]:
    """List the formats that lead from a hub's to the present one."""
    number = format_of(source)
    steps = list(range(number, hub_file.FORMAT))
    if number > hub_file.FORMAT or any(step not in migrations for step in steps):
        raise FormatError(
            f"{source} is in format {number}, from which nothing leads to {hub_file.FORMAT};"
            " install a version of moma-cl that knows it"
        )
    return steps


def _copy_locked(source: Path, draft: Path) -> None:
    """Copy a hub while nobody may write to it."""
    lock = writer_lock(source, wait=0.0, now=utc_now())
    try:
        with reported("copy", source):
            _copy(source, draft)
    finally:
        lock.release()


def _publish(draft: Path, target: Path, files: Files) -> None:
    """Verify a copy, force it to disk and give it its name."""
    problems = verify(draft, deep=True).problems
    if problems:
        raise IntegrityError(
            f"the copy {draft} does not verify: {problems[0].subject}: {problems[0].text}"
        )
    for path in sorted(draft.rglob("*")):
        files.sync_path(path)
    with reported("name", target):
        files.rename(draft, target)
    files.sync_path(target.parent)


def _copy(source: Path, draft: Path) -> None:
    ignored = shutil.ignore_patterns("lock.mdb", hub_layout.WRITER_LOCK)
    shutil.copytree(source, draft, ignore=ignored)
    for name in _LEFT_BEHIND:
        shutil.rmtree(draft / name, ignore_errors=True)
        (draft / name).mkdir()
    elsewhere = tomllib.loads((source / hub_file.NAME).read_text("utf-8")).get("catalogue")
    if elsewhere is not None:
        # The copy must not share the original's catalogue.
        ignored = shutil.ignore_patterns("lock.mdb", hub_layout.CACHE)
        shutil.copytree(elsewhere, draft / hub_layout.CATALOGUE, ignore=ignored)
        lines = (draft / hub_file.NAME).read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith("catalogue = ")]
        (draft / hub_file.NAME).write_text("".join(kept), "utf-8")
