"""A new task on its way into a hub: read and checked first, stored when nothing is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moma_cl.datasets.source_files import source_of
from moma_cl.progress import Progress
from moma_cl.recipe import Recipe
from moma_cl.records.hub import backbones_of
from moma_cl.records.refs import DEFAULT_RECIPE, RefKind
from moma_cl.records.task_spec import TaskSpec
from moma_store.errors import AlreadyExistsError, NotFoundError
from moma_store.store import Store

if TYPE_CHECKING:
    from moma_cl.commands.target_advice import Advice
    from moma_cl.datasets.intake import Intake
    from moma_cl.datasets.segments import SegmentRows
    from moma_cl.readers.memory import Sources
    from moma_cl.readers.rows import Reading, Row
    from moma_cl.records.records import Dataset, Task


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NewTask:
    """A task that can be stored."""

    name: str
    task: Task
    intake: Intake
    rows: SegmentRows
    dataset: Dataset
    recipe: dict[str, Any]  # its settings, as a document
    advice: tuple[Advice, ...]

    @property
    def n_rows(self) -> int:
        """Number of its rows."""
        return len(self.rows.ids)


def prepare(
    store: Store,
    name: str,
    sources: Sources,
    spec: TaskSpec,
    *,
    reading: Reading | None,
    recipe: Recipe | None,
    dry_run: bool,
    progress: Progress,
    rows: Sequence[Row] | None = None,
) -> NewTask:
    """Read and check a task, and store nothing but graphs; ``rows`` are those read already."""
    from moma_cl.commands.target_advice import advice_on_transform
    from moma_cl.datasets import added_rows
    from moma_cl.datasets.cell_growth import check_not_growing

    pinned = recipe.to_doc() if recipe else _default_recipe(store)
    intake = read(
        store,
        sources,
        spec,
        reading,
        appended=False,
        dry_run=dry_run,
        progress=progress,
        rows=rows,
    )
    check_not_growing(intake, spec)
    task = spec.task(name, added_rows.grouping_of(intake))
    segment = added_rows.segment_rows(store, intake, task)
    return NewTask(
        name=name,
        task=task,
        intake=intake,
        rows=segment,
        dataset=added_rows.first_dataset(segment, task),
        recipe=pinned,
        advice=advice_on_transform(spec, intake),
    )


def store_new(
    store: Store,
    new: NewTask,
    *,
    origins: list[dict[str, str]],
    wait: float,
) -> None:
    """Store a task, unless its name was taken while its rows were read."""
    from moma_cl.datasets import added_rows

    with store.writing(wait=wait):
        check_name_free(store, new.name)
        added_rows.store_task(
            store,
            new.task,
            new.rows,
            new.intake,
            dataset=new.dataset,
            recipe=new.recipe,
            origins=origins,
        )


def read(
    store: Store,
    sources: Sources,
    spec: TaskSpec,
    reading: Reading | None,
    *,
    appended: bool,
    dry_run: bool,
    progress: Progress,
    rows: Sequence[Row] | None = None,
) -> Intake:
    """Read and check rows of a task; their graphs are built, and kept unless it is a dry run."""
    from moma_cl.backbones.registry import backbone_class
    from moma_cl.datasets.intake import read_task_rows
    from moma_cl.graphs.cache import ByteCache
    from moma_cl.graphs.checks import check_graphs, known_elements

    backbones = [backbone_class(name) for name in backbones_of(store)]
    with nullcontext() if dry_run else ByteCache(store.cache_dir / "graphs") as cache:
        return read_task_rows(
            sources,
            spec,
            elements=known_elements(backbones),
            check_graphs=lambda crystals: check_graphs(
                crystals,
                backbones,
                cache,
                lambda done: progress("graphs", done, len(crystals) * len(backbones)),
            ),
            reading=reading,
            appended=appended,
            progress=lambda done: progress("reading", done, 0),
            rows=rows,
        )


def origins(sources: Sources) -> list[dict[str, str]]:
    """Say where rows come from: name and digest of each source."""
    from moma_cl.readers.memory import MemoryRows

    if isinstance(sources, MemoryRows):
        return [sources.origin()]
    return [source_of(source) for source in sources]


def check_name_free(store: Store, name: str) -> None:
    """Refuse a name that a task or an added module has."""
    if store.ref(RefKind.TASK.of(name)) is not None:
        hint = "its rows are stored but nothing answers yet: `moma-cl update` goes on with it"
        if store.ref(RefKind.PREDICTOR.of(name)) is not None:
            hint = (
                f"`moma-cl add-data {name}` adds rows to it; `moma-cl update` goes on with what "
                "was interrupted"
            )
        raise AlreadyExistsError(f"task {name!r} exists in hub {store.path}; {hint}")
    if any(RefKind.MODULE.name_in(ref) == name for ref in store.refs(RefKind.MODULE.prefix)):
        raise AlreadyExistsError(
            f"a module {name!r} was added to hub {store.path}; choose another name for the task"
        )


def _default_recipe(store: Store) -> dict[str, Any]:
    digest = store.ref(DEFAULT_RECIPE)
    if digest is None:
        raise NotFoundError(f"the hub has no {DEFAULT_RECIPE!r}; run `moma-cl init` again")
    return store.record(digest)
