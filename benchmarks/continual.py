"""Three tasks of the paper with their modules, then a fourth composed over them.

Every record and blob that was there before the fourth task must be the same afterwards.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

from moma_cl.hub import Hub
from moma_cl.views import tasks
from moma_store.records import digest
from moma_store.store import Store

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "paper"
TASKS = {
    "formation_energy_2d": ("jarvis_2d_eform", "formation_energy", "eV/atom"),
    "phonons": ("mp_phonons", "log_last_phdos_peak", "1"),
    "eps_electronic": ("mp_eps_electronic", "log_eps_electronic", "1"),
}
FOURTH = ("exfoliation_2d", ("jarvis_2d_exfoliation", "exfoliation_energy", "meV/atom"))


def run() -> list[dict[str, Any]]:
    """Add three tasks and a fourth; compare what was there before."""
    with tempfile.TemporaryDirectory() as folder:
        hub = Path(folder) / "hub"
        Hub(hub).init(backbones=["chgnet"])
        rows = [_added(hub, name, *source) for name, source in TASKS.items()]
        before = _contents(hub)
        rows.append(_added(hub, FOURTH[0], *FOURTH[1]))
        after = _contents(hub)
        changed = sum(after.get(name) != digest for name, digest in before.items())
        rows.append(
            {
                "name": f"of {len(before)} older records and blobs, changed",
                "ours": changed,
                "theirs": None,
                "unit": "items",
                "ratio": None,
                "bar": "0",
                "holds": changed == 0,
            }
        )
        for task in tasks.tasks(hub):
            (composed,) = task.compositions
            weights = ", ".join(f"{w.module} {w.weight:.2f}" for w in composed.modules)
            rows.append(
                {
                    "name": f"{task.name}: backbone {composed.backbone_weight:.2f} {weights}",
                    "ours": task.held_out_mae,
                    "theirs": None,
                    "unit": task.unit,
                    "ratio": None,
                    "bar": None,
                    "holds": None,
                }
            )
        return rows


def _added(hub: Path, name: str, file: str, target: str, unit: str) -> dict[str, Any]:
    start = time.perf_counter()
    source = DATA / f"{file}.jsonl.gz"
    Hub(hub).add_task(name, [source], target=target, unit=unit, fold_column="fold_0")
    return {
        "name": f"add-task {name}, everything included",
        "ours": time.perf_counter() - start,
        "theirs": None,
        "unit": "s",
        "ratio": None,
        "bar": None,
        "holds": None,
    }


def _contents(hub: Path) -> dict[str, str]:
    """Digest of every record and every blob file."""
    with Store.open(hub) as store, store.snapshot() as view:
        records = {f"record {name}": digest(view.record(name)) for name in view.records()}
    blobs = {
        f"blob {path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (hub / "objects").rglob("*.zip")
    }
    return {**records, **blobs}
