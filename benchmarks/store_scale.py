"""A hub of ten thousand small modules: what looking at it costs, and collecting nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from moma_cl.hub import Hub
from moma_cl.records.records import Module, ModuleKind
from moma_cl.records.refs import RefKind
from moma_store.store import Store

N_MODULES = 10_000
AT_ONCE = 100  # modules in one commit while the hub is made
REPEATS = 7
BARE = ["-c", "pass"]


def run() -> list[dict[str, Any]]:
    """Measure medians, ours and a bare start of Python in turn."""
    with tempfile.TemporaryDirectory() as folder:
        hub = Path(folder) / "hub"
        make(hub)
        return [
            _more_than_bare("open", ["-c", f"{OPEN}({str(hub)!r})).close()"], 0.3),
            _more_than_bare("modules", _command(hub, "modules", "--quiet"), 0.3),
            _more_than_bare("log -n 20", _command(hub, "log", "-n", "20"), 0.3),
            _more_than_bare("gc with nothing to do", _command(hub, "gc"), 1.0),
        ]


OPEN = "from pathlib import Path; from moma_store.store import Store; Store.open(Path"


def make(hub: Path, n_modules: int = N_MODULES) -> None:
    """Make a hub with many modules, each a blob and a record of its own."""
    Hub(hub).init(backbones=["cgcnn"])
    with Store.open(hub, write=True) as store:
        hub_digest = store.refs()["hub"]
        for start in range(0, n_modules, AT_ONCE):
            records = [
                _module(store, hub_digest, n) for n in range(start, min(start + AT_ONCE, n_modules))
            ]
            with store.transaction("module", {"n": start}) as transaction:
                for name, record in records:
                    digest = transaction.put_record(record.to_doc())
                    transaction.move_ref(RefKind.MODULE.of(name), digest, expected=None)


def _module(store: Store, hub: str, n: int) -> tuple[str, Module]:
    arrays = {"parameters": np.full(8, n, dtype="f4"), "fingerprints": np.zeros(0, "u8")}
    record = Module(
        hub=hub,
        module=ModuleKind.FULL,
        property="band gap",
        dataset=None,
        blob=store.put_blob(arrays, {"kind": "module-arrays", "format": 1}),
        n_train=n,
        n_validation=n,
        validation_mae=0.1,
        unit="eV",
        epochs=1,
        settings={"epochs": 1, "encoder_learning_rate": 1e-3, "patience": 10},
        made_by={"moma-cl": "0.1.0", "numpy": np.__version__},
        source={},
    )
    return f"module-{n}", record


def _command(hub: Path, *arguments: str) -> list[str]:
    return ["-m", "moma_cli", "--hub", str(hub), *arguments]


def _more_than_bare(name: str, arguments: list[str], bar: float) -> dict[str, Any]:
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS):
        for command, measured in zip((arguments, BARE), seconds, strict=True):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True, check=True)
            measured.append(time.perf_counter() - start)
    ours, bare = map(statistics.median, seconds)
    return {
        "name": f"{N_MODULES:,} modules: {name}, more than a bare start",
        "ours": ours,
        "theirs": bare,
        "unit": "s",
        "ratio": ours - bare,
        "bar": f"<= {bar} s more",
        "holds": ours - bare <= bar,
    }
