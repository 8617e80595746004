"""Small hubs whose trainings take a second, and what is in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.hub import Hub
from moma_cl.progress import Progress, quiet
from moma_cl.recipe import Recipe, TrainingSettings
from moma_store.store import Store
from tests.helpers.rows import made_up_rows, write_rows

if TYPE_CHECKING:
    from moma_cl.commands.add_rows import RowsAdded
    from moma_cl.workspace.encoders import Encoders
    from moma_cl.workspace.workspace import Workspace

Rows = int | Path | list[dict[str, object]]


def short_recipe(epochs: int = 3, **settings: Any) -> Recipe:
    """One thread, and trainings of a second."""
    training = {"epochs": epochs, "batch_size": 32, "patience": epochs}
    return Recipe(
        threads=1,
        finetune=TrainingSettings(**training),
        module=TrainingSettings(**training),
        **settings,
    )


def make_hub(path: Path, recipe: Recipe | None = None, **options: Any) -> Path:
    """Make a hub of the small backbone; its recipe is the short one if none is given."""
    options = {"backbones": ["cgcnn"], **options}
    Hub(path).init(recipe=recipe or short_recipe(), **options)
    return path


def add_task(
    hub: Path,
    name: str,
    rows: Rows,
    *,
    target: str = "",
    unit: str = "1",
    progress: Progress = quiet,
    **options: Any,
) -> "RowsAdded":
    """Add a task of a number of made-up rows, of given rows, or of a file.

    The target is the column that is named like the task if none is given.
    """
    options = {"target": target or name, "unit": unit, **options}
    return Hub(hub, progress=progress).add_task(name, _file(hub, rows), **options)


def add_data(hub: Path, name: str, rows: Rows, **options: Any) -> "RowsAdded":
    """Add rows to a task, as `add_task` takes them."""
    return Hub(hub).add_data(name, _file(hub, rows), **options)


def _file(hub: Path, rows: Rows) -> Path:
    if isinstance(rows, Path):
        return rows
    if isinstance(rows, int):
        rows = made_up_rows(rows)
    return write_rows(hub.with_name("rows.jsonl"), rows)


@contextmanager
def open_workspace(hub: Path, *, write: bool = False) -> "Iterator[tuple[Store, Workspace]]":
    """Open a hub's store and a workspace on it."""
    from moma_cl.workspace.workspace import Workspace  # loads torch

    with Store.open(hub, write=write) as store, Workspace(store=store, progress=quiet) as workspace:
        yield store, workspace


def encoders_of(workspace: "Workspace", backbone: str = "cgcnn") -> "Encoders":
    """Give what a workspace makes of a backbone, by its name."""
    return workspace.encoders(workspace.store.ref(f"backbones/{backbone}"))


def refs(hub: Path, prefix: str = "") -> dict[str, str]:
    """Every ref of a hub whose name begins with a prefix."""
    with Store.open(hub) as store:
        return store.refs(prefix)


def record(hub: Path, ref: str) -> dict[str, Any]:
    """The record that a ref points at."""
    with Store.open(hub) as store:
        return store.record(store.ref(ref))


def memo_results(hub: Path) -> dict[str, str]:
    """The digests of all results by the keys of their derivations."""
    with Store.open(hub) as store:
        return {key: memo.result for key, memo in store.memos().items()}
