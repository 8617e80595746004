"""Train the modules that ship with the package: ``python -m benchmarks.upstream [NAME ...]``.

A module that is there already is left alone, so a run that was cut short goes on where it was, and
several processes can share the work by names. The one of all tasks at once comes last, where no
names are given. ``--backbone`` names what is specialised, ``--kind adapter`` trains adapters;
``--ship`` writes what is there into the package. ``--renew`` trains nothing: modules that were
trained before, those of the package where none are here, get what they need to answer anew from the
rows that there are now.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.upstream import multitask
from benchmarks.upstream.answers import renew
from benchmarks.upstream.rows import Materials, benchmark_materials
from benchmarks.upstream.ship import ship, shipping
from benchmarks.upstream.tasks import TASKS, UpstreamTask
from benchmarks.upstream.train import SETTINGS, train_upstream
from moma_cl.hub import Hub
from moma_cl.records.records import ModuleKind
from moma_cl.records.refs import RefKind
from moma_store.store import Store

BUILD = Path("build/upstream")


def main(arguments: list[str]) -> int:
    """Train what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upstream", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--backbone", default="chgnet")
    parser.add_argument("--kind", choices=["full", "adapter"], default="full")
    parser.add_argument("--ship", action="store_true")
    parser.add_argument("--renew", action="store_true")
    given = parser.parse_args(arguments)
    hub = BUILD / given.backbone / given.kind
    if not (hub / "hub.toml").exists():
        Hub(hub).init(backbones=[given.backbone], salt="upstream", starter=given.renew)
    torch.set_num_threads(1)
    materials = benchmark_materials()
    tasks = [task for task in TASKS if not given.names or task.name in given.names]
    if given.renew:
        _renew(hub, [task for task in tasks if _is_there(hub, task.name)], materials)
    else:
        _train(hub, tasks, ModuleKind(given.kind), materials)
    if given.kind == "full" and (not given.names or multitask.NAME in given.names):
        _multitask(hub, materials, renew=given.renew)
    if given.ship:
        print(f"shipped: {', '.join(ship(hub))}")
    return 0


def _renew(hub: Path, tasks: Sequence[UpstreamTask], materials: Materials) -> None:
    for task in tasks:
        start = time.perf_counter()
        module = renew(hub, task, materials, SETTINGS.rounded_bits)
        errors = module.answers or {}
        print(
            f"{task.name}: answers are {errors['mae']:.4g} {errors['unit']} off on "
            f"{errors['n_held_out']} held-out rows (median {errors['mae_of_median']:.4g}), "
            f"{time.perf_counter() - start:.0f} s",
            flush=True,
        )


def _train(
    hub: Path, tasks: Sequence[UpstreamTask], kind: ModuleKind, materials: Materials
) -> None:
    for task in tasks:
        if _is_there(hub, task.name):
            continue
        start = time.perf_counter()
        module = train_upstream(hub, task, kind, materials)
        print(
            f"{task.name}: {module.n_train} rows, held-out {module.source['held_out_mae']:.4g} "
            f"{module.unit} (median {module.source['held_out_mae_of_median']:.4g}), "
            f"{time.perf_counter() - start:.0f} s",
            flush=True,
        )


def _multitask(hub: Path, materials: Materials, *, renew: bool) -> None:
    if renew:
        multitask.renew_multitask(hub, materials)
        print(f"{multitask.NAME}: readouts are renewed")
    elif not _is_there(hub, multitask.NAME):
        module = multitask.train_multitask(hub, shipping(hub), materials)
        print(f"{multitask.NAME}: {module.n_train} rows, error {module.validation_mae:.4g}")


def _is_there(hub: Path, name: str) -> bool:
    with Store.open(hub) as store:
        return name in map(RefKind.MODULE.name_in, store.refs(RefKind.MODULE.prefix))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
