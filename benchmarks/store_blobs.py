"""What the store costs: commits, verified reads and merges against plain files."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from moma_cl.backbones.parameters import manifest_of, to_vector
from moma_cl.backbones.registry import backbone_class
from moma_cl.learning.merge import merge
from moma_cl.records.records import ModuleKind
from moma_cl.records.refs import RefKind
from moma_store.records import BlobLink
from moma_store.store import Store
from moma_store.verification import verify

N_MODULES = 18
REPEATS = 15
LARGE = 160_000_000  # parameters
MOVED = 1e-3  # how far fine-tuning moves a parameter

Vector = NDArray[np.float32]


def run() -> list[dict[str, Any]]:
    """Measure medians, ours and theirs in turn."""
    with tempfile.TemporaryDirectory() as folder:
        rows = _commits_and_merge(Path(folder))
    return rows + _large()


def _commits_and_merge(folder: Path) -> list[dict[str, Any]]:
    manifest, backbone = _chgnet()
    tensors = dict(zip(manifest.names, manifest.shapes, strict=True))
    with Store.create(folder / "hub") as store:
        base = store.put_blob({"parameters": backbone}, {})
        _commit(store, _tuned(backbone, 99), base, 99)  # warm up
        ours, theirs, links = [], [], []
        for n in range(N_MODULES):
            vector = _tuned(backbone, n)
            start = time.perf_counter()
            links.append(_commit(store, vector, base, n))
            ours.append(time.perf_counter() - start)
            theirs.append(_plain(folder, vector, tensors, manifest.offsets))
        rows = [
            _row(
                "commit of a CHGNet module, against safetensors, fsync, rename",
                *map(statistics.median, (ours, theirs)),
                unit="s",
                bar=2.0,
            ),
            _row(
                "its bytes, against the parameters' own",
                statistics.median(link.n_bytes for link in links),
                backbone.nbytes,
                unit="bytes",
                bar=0.62,
            ),
            _merging(store, links),
            _twice(store, backbone, base),
        ]
    return [*rows, _verifying(folder / "hub")]


def _commit(store: Store, vector: Vector, base: BlobLink, n: int) -> BlobLink:
    link = store.put_blob({"parameters": vector}, {}, base=base)
    with store.transaction("add") as transaction:
        doc = {"kind": "module", "format": 1, "n": n, "blob": link.to_json()}
        transaction.move_ref(RefKind.MODULE.of(n), transaction.put_record(doc), expected=None)
    return link


def _plain(folder: Path, vector: Vector, shapes: Any, offsets: tuple[int, ...]) -> float:
    parts = np.split(vector, offsets[1:-1])
    tensors = {
        name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
    start = time.perf_counter()
    save_file(tensors, folder / "draft")
    with (folder / "draft").open("rb+") as stream:
        os.fsync(stream.fileno())
    (folder / "draft").replace(folder / "module.safetensors")
    return time.perf_counter() - start


def _merging(store: Store, links: list[BlobLink]) -> dict[str, Any]:
    weight, size = 1.0 / len(links), len(store.blob(links[0]).arrays["parameters"])

    def read_all() -> None:
        for link in links:
            store.blob(link)

    def merge_all() -> None:
        streams = (store.blob_pieces(link, "parameters") for link in links)
        merge(size, ((weight, stream) for stream in streams))

    ours, theirs = _alternating(merge_all, read_all)
    name = f"merge of {len(links)} CHGNet modules, against their verified reads"
    return _row(name, ours, theirs, unit="s", bar=1.3)


def _twice(store: Store, vector: Vector, base: BlobLink) -> dict[str, Any]:
    before = _size(store.path / "objects")
    store.put_blob({"parameters": _tuned(vector, 0)}, {}, base=base)
    grown = _size(store.path / "objects") - before
    return {
        "name": "the same content again",
        "ours": grown,
        "theirs": None,
        "unit": "bytes",
        "ratio": None,
        "bar": "0",
        "holds": grown == 0,
    }


def _verifying(hub: Path) -> dict[str, Any]:
    """Verify against ``sha256sum``, on some hundred MB of modules."""
    with Store.open(hub, write=True) as store:
        for n in range(24):
            array = np.random.default_rng(n).integers(0, 255, 12_000_000, dtype="u1")
            link = store.put_blob({"x": array}, {})
            with store.transaction("add") as transaction:
                doc = {"kind": "x", "format": 1, "blob": link.to_json()}
                transaction.move_ref(f"x/{n}", transaction.put_record(doc), expected=None)
    files = [str(path) for path in (hub / "objects").rglob("*.zip")]

    def sums() -> None:
        subprocess.run(["sha256sum", *files], capture_output=True, check=True)

    ours, theirs = _alternating(lambda: verify(hub), sums, repeats=5)
    size = sum(Path(file).stat().st_size for file in files)
    return {
        "name": "verify, against sha256sum of the same files",
        "ours": size / ours / 1e9,
        "theirs": size / theirs / 1e9,
        "unit": "GB/s",
        "ratio": theirs / ours,
        "bar": ">= 0.8 x",
        "holds": theirs / ours >= 0.8,
    }


LARGE_CODE = """
import resource, sys, time
from pathlib import Path
import numpy as np
from benchmarks.store_blobs import LARGE, step
step(sys.argv[1], Path(sys.argv[2]))
"""


def _large() -> list[dict[str, Any]]:
    """One module of 160 million parameters, each step in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("make", "commit", "read", "merge"):
            command = [sys.executable, "-c", LARGE_CODE, name, folder]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            if name == "make":
                continue
            more, seconds = map(float, said.split())
            rows.append(
                _bounded(f"160 M parameters, {name}: memory beyond the arrays", more, "MB", 64.0)
            )
            if name == "read":
                speed = 4 * LARGE / seconds / 1e9
                rows.append(
                    {
                        "name": "160 M parameters, verified read",
                        "ours": speed,
                        "theirs": None,
                        "unit": "GB/s",
                        "ratio": None,
                        "bar": ">= 0.3",
                        "holds": speed >= 0.3,
                    }
                )
    return rows


def step(name: str, folder: Path) -> None:
    """Do one step with large modules and print MB beyond the arrays it needs, and seconds."""
    if name == "make":
        Store.create(folder / "hub").close()
    # What is imported at first use is no part of what an array of this size takes.
    with Store.create(folder / f"warm-{name}") as warm:
        small = np.ones(1000, "f4")
        _commit(warm, small * 2, warm.put_blob({"parameters": small}, {}), 0)
        warm.blob(BlobLink.from_json(warm.record(warm.refs()["modules/0"])["blob"]))
    with Store.open(folder / "hub", write=True) as store:
        vectors = [_ramp(0)] if name == "make" else [_ramp(1)] if name == "commit" else []
        # What imports took at their peak and gave back is there to be used again.
        before, start = _resident(), time.perf_counter()
        if name == "make":
            _commit(store, vectors[0], store.put_blob({"parameters": vectors[0]}, {}), 0)
        elif name == "commit":
            _commit(store, vectors[0], _link(store, 0), 1)
        elif name == "read":
            vectors = [store.blob(_link(store, 1)).arrays["parameters"]]
        else:
            streams = (store.blob_pieces(_link(store, n), "parameters") for n in (0, 1))
            vectors = [merge(LARGE, ((0.5, stream) for stream in streams))]
        seconds = time.perf_counter() - start
    needed = {"read": 1, "merge": 1}.get(name, 0) * 4 * LARGE
    # The peak of the step itself, unless the imports' was higher.
    print((_peak() - before - needed) / 1e6, seconds)


def _link(store: Store, n: int) -> BlobLink:
    return BlobLink.from_json(store.record(store.refs()[RefKind.MODULE.of(n)])["blob"])


def _ramp(seed: int) -> Vector:
    vector = np.empty(LARGE, dtype="f4")
    for start in range(0, LARGE, 1 << 20):
        part = vector[start : start + (1 << 20)]
        part[:] = np.random.default_rng(start).standard_normal(len(part), dtype="f4")
        if seed:
            rng = np.random.default_rng(start + seed)
            part += np.float32(MOVED) * rng.standard_normal(len(part), dtype="f4")
    return vector


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * resource.getpagesize())


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _chgnet() -> tuple[Any, Vector]:
    encoder = backbone_class("chgnet").pretrained()
    manifest = manifest_of(encoder, ModuleKind.FULL)
    return manifest, to_vector(encoder, manifest)


def _tuned(vector: Vector, seed: int) -> Vector:
    """Move all parameters alike, as AdamW does."""
    rng = np.random.default_rng(seed)
    return vector + np.float32(MOVED) * rng.standard_normal(len(vector), dtype="f4")


def _alternating(
    ours: Callable[[], object], theirs: Callable[[], object], *, repeats: int = REPEATS
) -> tuple[float, float]:
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for work, measured in zip((ours, theirs), seconds, strict=True):
            start = time.perf_counter()
            work()
            measured.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def _row(name: str, ours: float, theirs: float, *, unit: str, bar: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "theirs": theirs,
        "unit": unit,
        "ratio": ours / theirs,
        "bar": f"<= {bar} x",
        "holds": ours <= bar * theirs,
    }


def _bounded(name: str, ours: float, unit: str, bar: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "theirs": None,
        "unit": unit,
        "ratio": None,
        "bar": f"<= {bar}",
        "holds": ours <= bar,
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
