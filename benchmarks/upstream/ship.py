"""Put trained modules into the package, and say in ``docs/modules.md`` what they are."""

from __future__ import annotations

from pathlib import Path

from benchmarks.upstream import multitask
from benchmarks.upstream.tasks import TASKS, UpstreamTask
from moma_cl.commands.archive import export
from moma_cl.properties.units import with_unit
from moma_cl.records.hub import backbones_of
from moma_cl.records.records import Module
from moma_cl.records.refs import RefKind
from moma_cl.starter.modules import archive_of, archives
from moma_store.archived_records import ArchivedRecords
from moma_store.store import Store

PAGE = Path(__file__).resolve().parents[2] / "docs" / "modules.md"
MOST_ERROR = 0.9  # of the median's: what errs more has learned too little to be shipped

_ABOUT = """# Modules that come with moma-cl

`moma-cl init` puts these modules into a new hub, for each of its backbones; `--no-starter` leaves
them out. Each is a backbone, fine-tuned on one property of a public dataset, with a readout of
that property and what it takes to answer by itself: `moma-cl predict --property NAME FILES` needs
no hub ([predictions.md](predictions.md)). Materials whose reduced formula occurs in the nine
benchmark datasets of [results](results.md) were left out of their training (of carbon24, which has
a single formula, the structures), so that the benchmarks judge by materials that no module has
seen. Cells of many atoms were left out where the table of `benchmarks/upstream/tasks.py` says so.

Errors are mean absolute errors on held-out formulas; beside them, the error of always answering the
median. They are those of the head that was trained with the module and thrown away. The errors of
its answers are those of the readout that stayed, in the unit of the answers, on the held-out rows
of the datasets as they are now: some were made smaller after the training. `make modules` trains
the modules anew from the datasets; `python -m benchmarks.upstream --renew --ship` only makes their
readouts, intervals and domains anew.

One more of each backbone, `multitask`, is one encoder trained on many tasks at once, with as many
visits of each row and a head for every task. That of SevenNet-0 was trained on the tasks of its
table; that of CHGNet on those of its table but the refractive index, and on formation energies and
dielectric constants of JARVIS. It is no candidate for compositions: it is
fine-tuned beside the composed encoder ([learning.md](learning.md)). Materials of the benchmarks
were left out of its training too.
"""
_COLUMNS = (
    *("module", "property", "unit", "rows", "held-out", "error", "of the median"),
    *("answers' error", "of the median", "held-out", "data"),
)


def ship(hub: Path) -> list[str]:
    """Export the modules that have learned something, and write the page.

    Parameters
    ----------
    hub
        Where they were trained.

    Returns
    -------
    list[str]
        Names of the modules that ship.
    """
    shipped = [*(task.name for task in shipping(hub)), *({multitask.NAME} & _modules(hub).keys())]
    archive = archive_of(_backbone_of(hub))
    archive.unlink(missing_ok=True)
    export(hub, archive, modules=shipped)
    write_page()
    return shipped


def write_page() -> None:
    """Write the page of the modules of all archives in the package."""
    sections, sources = [], set()
    for path in archives():
        with ArchivedRecords(path) as archive:
            refs = archive.refs(RefKind.MODULE.prefix)
            modules = {
                RefKind.MODULE.name_in(ref): Module.from_doc(archive.record(digest))
                for ref, digest in refs.items()
            }
        tasks = [task for task in TASKS if task.name in modules]
        sources |= {source for task in tasks for source in task.sources}
        sources |= {source for module in modules.values() for source in module.source["data"]}
        rows = [_row(task, modules[task.name]) for task in tasks]
        table = [_COLUMNS, ("---",) * len(_COLUMNS), *rows]
        lines = "".join("| " + " | ".join(line) + " |\n" for line in table)
        sections.append(f"\n## Backbone {path.stem}\n\n{lines}")
    PAGE.write_text(
        _ABOUT
        + "".join(sections)
        + "\n## Data\n\nThe data is not part of the package. Its sources and their licences:\n\n"
        + "".join(f"- {source}\n" for source in sorted(sources))
    )


def shipping(hub: Path) -> list[UpstreamTask]:
    """Choose the tasks whose modules have learned something, and pay for their bytes.

    Parameters
    ----------
    hub
        Where they were trained.

    Returns
    -------
    list[UpstreamTask]
        In the order of the table.
    """
    modules = _modules(hub)
    return [
        task
        for task in TASKS
        if task.name in modules
        and _has_learned(modules[task.name])
        and (task.backbones is None or _backbone_of(hub) in task.backbones)
    ]


def _backbone_of(hub: Path) -> str:
    with Store.open(hub) as store:
        (backbone,) = backbones_of(store)
    return backbone


def _modules(hub: Path) -> dict[str, Module]:
    with Store.open(hub) as store:
        refs = store.refs(RefKind.MODULE.prefix)
        return {
            RefKind.MODULE.name_in(name): Module.from_doc(store.record(digest))
            for name, digest in refs.items()
        }


def _has_learned(module: Module) -> bool:
    source = module.source
    return bool(source["held_out_mae"] < MOST_ERROR * source["held_out_mae_of_median"])


def _row(task: UpstreamTask, module: Module) -> tuple[str, ...]:
    source, answers = module.source, module.answers
    assert answers is not None, f"{task.name} cannot answer: --renew makes it"
    return (
        f"`{task.name}`",
        module.property,
        module.unit,
        f"{module.n_train:,}",
        f"{source['n_held_out']:,}",
        f"{source['held_out_mae']:.3g}",
        f"{source['held_out_mae_of_median']:.3g}",
        with_unit(f"{answers['mae']:.3g}", answers["unit"]),
        f"{answers['mae_of_median']:.3g}",
        f"{answers['n_held_out']:,}",
        ", ".join(task.files),
    )
