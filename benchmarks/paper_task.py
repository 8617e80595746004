"""One task of the paper from a user's point of view: seconds to answers, errors, bytes.

2D formation energy (JARVIS-DFT) with the paper's first split, and 900 phonon rows, from the
datasets beside the repository; default settings.
"""

from __future__ import annotations

import gzip
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from moma_cl.backbones.parameters import ParameterManifest
from moma_cl.hub import Hub
from moma_cl.records.records import BackboneRecord, Module, ModuleKind, Predictor
from moma_store.store import Store

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "paper"


def run() -> list[dict[str, Any]]:
    """Add the tasks and read what came out."""
    with tempfile.TemporaryDirectory() as folder:
        hub = Path(folder) / "hub"
        Hub(hub).init(backbones=["chgnet"])
        return [*_first_answer(hub, Path(folder)), *_formation_energy(hub, Path(folder))]


def _first_answer(hub: Path, folder: Path) -> list[dict[str, Any]]:
    rows = folder / "phonons.jsonl"
    with gzip.open(DATA / "mp_phonons.jsonl.gz", "rt") as stream:
        rows.write_text("".join(next(stream) for _ in range(900)))
    start = time.perf_counter()
    Hub(hub).add_task(
        "phonons",
        [rows],
        target="log_last_phdos_peak",
        unit="1",
        module=ModuleKind.NONE,
        compose=False,
    )
    first = time.perf_counter() - start
    Hub(hub).update()
    everything = time.perf_counter() - start
    Hub(hub).remove_task("phonons")
    return [
        _row("first answer after add-task of 900 rows", first, "s", 45.0),
        _row("the same, fine-tuned predictor included", everything, "s", None),
    ]


def _formation_energy(hub: Path, folder: Path) -> list[dict[str, Any]]:
    Hub(hub).add_task(
        "formation_energy_2d",
        [DATA / "jarvis_2d_eform.jsonl.gz"],
        target="formation_energy",
        unit="eV/atom",
        fold_column="fold_0",
    )
    with Store.open(hub) as store:
        refs = store.refs()
        predictor = Predictor.from_doc(store.record(refs["fitted/formation_energy_2d"]))
        module = Module.from_doc(store.record(refs["modules/formation_energy_2d@chgnet"]))
        manifest = ParameterManifest.from_json(
            BackboneRecord.from_doc(store.record(refs["backbones/chgnet"])).manifest
        )
        vector = store.blob(module.blob).arrays["parameters"]
    errors = predictor.held_out_maes
    bars = {"kernel": 0.080, "finetuned": 0.090, "mean": None}
    rows = [_row(f"2D formation energy, {h}", errors[h], "eV/atom", bars[h]) for h in bars]
    rows.append(_row(f"what answers: {predictor.method}", predictor.held_out_mae, "eV/atom", None))
    plain = folder / "module.safetensors"
    parts = np.split(vector, manifest.offsets[1:-1])
    named = {
        name: part.reshape(shape)
        for name, part, shape in zip(manifest.names, parts, manifest.shapes, strict=True)
    }
    safetensors.numpy.save_file(named, plain)
    theirs = plain.stat().st_size
    ratio = module.blob.n_bytes / theirs
    rows.append(
        {
            "name": "bytes of a full module, against its safetensors file",
            "ours": module.blob.n_bytes,
            "theirs": theirs,
            "unit": "bytes",
            "ratio": ratio,
            "bar": "<= 0.62 x",
            "holds": ratio <= 0.62,
        }
    )
    return rows


def _row(name: str, ours: float | None, unit: str, bar: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "theirs": None,
        "unit": unit,
        "ratio": None,
        "bar": None if bar is None else f"<= {bar}",
        "holds": None if bar is None or ours is None else ours <= bar,
    }
