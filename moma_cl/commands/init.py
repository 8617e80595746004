"""``init``: making a hub with its backbones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moma_cl.commands.add_backbone import BackboneAdded, store_backbone
from moma_cl.recipe import Recipe
from moma_cl.records.history_actions import HistoryAction
from moma_cl.records.hub import backbones_of, is_hub
from moma_cl.records.records import HubRecord
from moma_cl.records.refs import DEFAULT_RECIPE, HUB
from moma_store.errors import AlreadyExistsError, InvalidInputError
from moma_store.store import Store

DEFAULT_SALT = "moma-cl"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubMade:
    """A hub that was made."""

    path: str
    backbones: tuple[BackboneAdded, ...]
    threads: int

    @property
    def modules(self) -> int:
        """How many modules it starts with."""
        return sum(backbone.modules for backbone in self.backbones)


def init(
    path: Path,
    *,
    backbones: Sequence[str] | None,
    catalogue: Path | None,
    salt: str | None,
    recipe: Recipe | None,
    starter: bool,
) -> HubMade:
    """Make a hub, or finish one whose making was cut short."""
    if is_hub(path):
        raise AlreadyExistsError(f"there is a hub at {path}; `moma-cl tasks --hub {path}` lists it")
    from moma_cl.backbones.registry import DEFAULT_BACKBONES, backbone_class

    names = sorted(set(DEFAULT_BACKBONES if backbones is None else backbones))
    if not names:
        raise InvalidInputError("a hub needs a backbone; name one, such as 'chgnet'")
    for name in names:  # before anything is made
        backbone_class(name)
    recipe = recipe or Recipe()
    with _opened(path, catalogue) as store:
        other = sorted(backbones_of(store).keys() - {*names})
        if other:
            raise AlreadyExistsError(
                f"an interrupted `moma-cl init` has put the backbone {other[0]!r} into {path}; "
                "name it, too, or make the hub elsewhere"
            )
        added = [
            store_backbone(store, name, recipe.adapter_width, starter=starter) for name in names
        ]
        hub = HubRecord(salt=DEFAULT_SALT if salt is None else salt)
        # the ref HUB comes last: it says that the making was not cut short
        with store.transaction(HistoryAction.INIT, {"backbones": names}) as transaction:
            transaction.move_ref(
                DEFAULT_RECIPE, transaction.put_record(recipe.to_doc()), expected=None
            )
            transaction.move_ref(HUB, transaction.put_record(hub.to_doc()), expected=None)
    return HubMade(path=str(path), backbones=tuple(added), threads=recipe.threads)


def _opened(path: Path, catalogue: Path | None) -> Store:
    try:
        return Store.create(path, catalogue=catalogue)
    except AlreadyExistsError:
        if not (path / "hub.toml").exists():
            raise
        store = Store.open(path, write=True)
        if store.ref(HUB) is None:
            return store
        store.close()
        raise
