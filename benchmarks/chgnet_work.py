"""What ``chgnet`` has to compute per structure, and how fast this machine can at best.

Operations are multiplications and additions of the matrix products of one forward pass; a
training step takes three times as many. Ceilings are those of one thread.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.structures import DATA, crystal_of, evenly
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.backbones.chgnet.graph import CHGNetGraph
from moma_cl.backbones.chgnet.layers import FEATURE_DIM, N_ANGULAR, N_RADIAL

SETS = ("paper/mp_phonons", "paper/jarvis_2d_eform", "upstream/mp_36k")
N_STRUCTURES = 300
ROWS = 2048

SQUARE = 2 * FEATURE_DIM * FEATURE_DIM  # a product with a 64 × 64 matrix, one row
OPERATIONS = {
    "edges": 4 * 2 * SQUARE,
    "bonds": 2 * N_RADIAL * 9 * FEATURE_DIM,
    "angles": 3 * 4 * SQUARE + 2 * 2 * SQUARE + 2 * (2 * N_ANGULAR + 1) * FEATURE_DIM,
    "short bonds": (3 + 2) * 4 * SQUARE + (4 + 2) * SQUARE + 4 * N_RADIAL * FEATURE_DIM,
    "atoms": 4 * (4 + 1) * SQUARE + (3 + 2) * 2 * SQUARE,
}


def run() -> list[dict[str, Any]]:
    """Count members and operations with and without the quotient, and measure ceilings."""
    warnings.filterwarnings("ignore", module="pymatgen")
    rows = []
    for name in SETS:
        crystals = [crystal_of(one) for one in evenly(DATA / f"{name}.jsonl.gz", N_STRUCTURES)]
        merged = _counts(CHGNetBackbone.to_graphs(crystals))
        full = _counts([CHGNetBackbone.to_graph(one, quotient=False) for one in crystals])
        rows += [_row(f"{name}: {kind}", merged[kind], full[kind], "each") for kind in OPERATIONS]
        work, plain = (
            sum(OPERATIONS[kind] * counts[kind] for kind in OPERATIONS) / 1e6
            for counts in (merged, full)
        )
        rows.append(_row(f"{name}: operations of a forward pass", work, plain, "million"))
    return rows + _ceilings()


def _counts(graphs: list[CHGNetGraph]) -> dict[str, float]:
    """Mean number of members of each kind."""
    attributes = {
        "edges": "edge_weight",
        "bonds": "bond_length",
        "angles": "angle",
        "short bonds": "short_bond",
        "atoms": "node_weight",
    }
    return {
        kind: float(np.mean([len(graph[attribute]) for graph in graphs]))
        for kind, attribute in attributes.items()
    }


def _ceilings() -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    rows = torch.randn(ROWS, FEATURE_DIM)
    weight = torch.randn(FEATURE_DIM, FEATURE_DIM)
    work = ROWS * SQUARE / 1e9
    onednn = torch.ops.mkldnn._linear_pointwise
    large = torch.randn(1 << 24)
    target = torch.empty_like(large)
    onednns = work / _seconds(lambda: onednn(rows, weight, None, "none", [], ""))
    torchs = work / _seconds(lambda: functional.linear(rows, weight))
    bandwidth = 2 * large.nbytes / 1e9 / _seconds(lambda: target.copy_(large), 20)
    element_wise = {
        "SiLU": lambda: functional.silu(rows),
        "layer norm": lambda: functional.layer_norm(rows, (FEATURE_DIM,)),
        "multiplication": lambda: rows * rows,
    }
    return [
        _row(f"product of {ROWS} × 64 by 64 × 64, oneDNN against MKL", onednns, torchs, "GFLOP/s"),
        _row("copy of 64 MiB", bandwidth, None, "GB/s"),
        *(
            _row(f"{name} of {ROWS} × 64", 1e6 * _seconds(step), None, "μs")
            for name, step in element_wise.items()
        ),
    ]


def _seconds(step: Callable[[], object], repeats: int = 300) -> float:
    """Lower quartile, since other work on the machine only ever adds."""
    measured = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        measured.append(time.perf_counter() - start)
    return statistics.quantiles(measured, n=4)[0]


def _row(name: str, ours: float, theirs: float | None, unit: str) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "theirs": theirs,
        "unit": unit,
        "ratio": None if theirs is None else theirs / ours,
        "bar": None,
        "holds": None,
    }
