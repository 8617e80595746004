"""``set-recipe``: pinning another recipe to a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.automation.one_pass import left_to_another, one_pass
from moma_cl.core.devices import AUTO, DeviceName, resolve_device
from moma_cl.progress import Progress, quiet
from moma_cl.recipe import Recipe
from moma_cl.reconciling.pass_lock import ENDING, PassRunningError, only_pass
from moma_cl.reconciling.plan import Step, plan_steps
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.refs import DEFAULT_RECIPE, RefKind
from moma_cl.records.tasks import task_state
from moma_store.entries import Memo
from moma_store.errors import InvalidInputError, NotFoundError
from moma_store.records import digest
from moma_store.store import Store

if TYPE_CHECKING:
    from moma_cl.reconciling.pass_actions import Done
    from moma_store.catalogue import Snapshot

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeSet:
    """A task's recipe, pinned anew.

    Attributes
    ----------
    task
        The task's name.
    before
        Digest of its recipe before.
    after
        Digest of its recipe now, or of what it would be.
    changes
        Old and new value of each setting that differs, by its dotted name.
    steps
        What the change makes stale.
    done
        What the pass that followed did.
    """

    task: str
    before: str
    after: str
    changes: dict[str, tuple[Any, Any]]
    steps: tuple[Step, ...]
    done: tuple[Done, ...]


def set_recipe(
    path: Path,
    task: str,
    settings: Settings | None,
    *,
    dry_run: bool = False,
    compose: bool = True,
    wait: float = 0.0,
    progress: Progress = quiet,
    device: DeviceName = AUTO,
) -> RecipeSet:
    """Pin another recipe to a task."""
    if dry_run:
        with Store.open(path) as store, store.snapshot() as view:
            return _planned(view, task, settings)[0]
    found = resolve_device(device) if compose else None  # before anything is written
    with Store.open(path) as store:
        with store.writing(wait=wait):
            with store.snapshot() as view:
                planned, document = _planned(view, task, settings)
            if planned.after != planned.before:
                detail = {"task": task, "settings": sorted(planned.changes)}
                with store.transaction(HistoryAction.SET_RECIPE, detail) as transaction:
                    after = transaction.put_record(document)
                    transaction.move_ref(RefKind.RECIPE.of(task), after, expected=planned.before)
        if found is None or planned.after == planned.before:
            return planned
        from moma_cl.reconciling.composer import Composer

        try:
            with only_pass(path, wait=max(wait, ENDING)):
                composer = Composer(store=store, progress=progress, device=found)
                done = one_pass(composer, only=[task])
        except PassRunningError as error:
            done = [left_to_another(task, error)]
        return replace(planned, done=tuple(done))


def overlaid(base: Settings, changes: Settings) -> dict[str, Any]:
    """Lay sections of settings over a recipe's document; the result is not checked yet."""
    merged = dict(base)
    for name, value in changes.items():
        inner = base.get(name)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            merged[name] = {**inner, **value}
        else:
            merged[name] = value
    return merged


def _planned(
    view: Snapshot, task: str, settings: Settings | None
) -> tuple[RecipeSet, dict[str, Any]]:
    """Say what other settings would change, and give the recipe's new document."""
    task_state(view, task)
    name = RefKind.RECIPE.of(task)
    before, default = view.ref(name), view.ref(DEFAULT_RECIPE)
    if before is None or default is None:
        raise NotFoundError(f"the hub lacks {name!r} or {DEFAULT_RECIPE!r}; see `moma-cl log`")
    pinned = view.record(before)
    document = view.record(default) if settings is None else _repinned(pinned, settings)
    changes = _changes(pinned, document)
    if "adapter_width" in changes:
        raise InvalidInputError(
            f"recipe setting 'adapter_width' is {document['adapter_width']}, the hub's is"
            f" {pinned['adapter_width']}; all adapters of a hub are equally wide"
        )
    after = digest(document)
    ahead = _Ahead(view=view, name=name, digest=after, document=document)
    planned = RecipeSet(
        task=task,
        before=before,
        after=after,
        changes=changes,
        steps=tuple(plan_steps(ahead, only=[task])),
        done=(),
    )
    return planned, document


def _repinned(pinned: Settings, changes: Settings) -> dict[str, Any]:
    """Lay settings over a pinned document without adding settings of later releases."""
    merged = overlaid(pinned, changes)
    whole = Recipe.from_doc(merged).to_doc()
    return {
        name: {key: whole[name][key] for key in value}
        if isinstance(value, Mapping)
        else whole[name]
        for name, value in merged.items()
    }


def _changes(before: Settings, after: Settings) -> dict[str, tuple[Any, Any]]:
    flat_before, flat_after = _flat(before), _flat(after)
    names = sorted(flat_before.keys() | flat_after.keys())
    pairs = {name: (flat_before.get(name), flat_after.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flat(document: Settings) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            flat[name] = value
    return flat


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ahead:
    """A snapshot in which one ref names a record that is not stored yet."""

    view: Snapshot
    name: str
    digest: str
    document: dict[str, Any]

    def record(self, digest: str) -> dict[str, Any]:
        """Look up a record."""
        return self.document if digest == self.digest else self.view.record(digest)

    def ref(self, name: str) -> str | None:
        """Look up a ref."""
        return self.digest if name == self.name else self.view.ref(name)

    def refs(self, prefix: str = "") -> dict[str, str]:
        """List refs by name."""
        refs = self.view.refs(prefix)
        return {name: self.digest if name == self.name else refs[name] for name in refs}

    def memo(self, key: str) -> Memo | None:
        """Look up a derivation's result."""
        return self.view.memo(key)

    def memos(self, prefix: str = "") -> dict[str, Memo]:
        """List results by key."""
        return self.view.memos(prefix)
