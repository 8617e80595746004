"""What a small hub derives, pinned: names of files and functions must not show in keys or records.

Rows, recipes and the keys that depend on them alone are equal on every machine. What is computed
with floating-point numbers, and every key that names it, has equal bits only under equal software
and an equal instruction set, which the pinned file names.

``python tests/unit/derivations/test_pinned_digests.py`` writes the pinned file anew, after a change that is
meant to change keys or records.
"""

import json
import platform
import tempfile
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from moma_cl.hub import Hub
from moma_cl.recipe import Recipe, TrainingSettings
from moma_store.store import Store

PINNED = Path(__file__).parents[2] / "data" / "pinned_digests.json"
EXACT_KINDS = ("recipe", "task", "segment", "dataset")
PACKAGES = ("torch", "torch-geometric", "numpy", "scipy", "clarabel", "pymatgen", "zarr", "moma-cl")


def environment() -> dict[str, str]:
    """What equal bits depend on."""
    packages = {name: version(name) for name in PACKAGES}
    capability = torch.backends.cpu.get_cpu_capability()
    return {**packages, "machine": platform.machine(), "instructions": capability}


def make_hub(folder: Path, made_up) -> Path:
    """Make a hub of three tasks with more data, a correction, a retraction and an update."""
    hub = folder / "hub"
    training = TrainingSettings(epochs=3, batch_size=32, patience=3)
    recipe = Recipe(
        threads=1, finetune=training, module=TrainingSettings(epochs=3, batch_size=32, patience=3)
    )

    def rows(name: str, first: int, number: int, **changes) -> list[Path]:
        path = folder / name
        lines = [json.dumps({**row, **changes}) + "\n" for row in made_up(number, first=first)]
        path.write_text("".join(lines))
        return [path]

    Hub(hub).init(backbones=["cgcnn"], recipe=recipe)
    Hub(hub).add_task("energy", rows("a.jsonl", 0, 160), target="energy", unit="1")
    Hub(hub).add_task("gap", rows("b.jsonl", 20, 60), target="gap", unit="1")
    Hub(hub).add_task("modulus", rows("c.jsonl", 0, 150), target="modulus", unit="1", compose=False)
    Hub(hub).add_data("gap", rows("d.jsonl", 80, 12), compose=False)
    Hub(hub).add_data("energy", rows("e.jsonl", 3, 2, energy=0.5), replace=True, compose=False)
    Hub(hub).retract("gap", ["row-25", "row-26"], compose=False)
    Hub(hub).update()
    return hub


def digests(hub: Path) -> dict[str, dict[str, list[str]]]:
    """Digests of all records by kind, and keys of all derivations by kind."""
    records, keys = defaultdict(list), defaultdict(list)
    with Store.open(hub) as store, store.snapshot() as view:
        for digest in view.records():
            records[view.record(digest)["kind"]].append(digest)
        for key in view.memos():
            keys[key.partition(":")[0]].append(key)
    return {
        "records": {kind: sorted(found) for kind, found in sorted(records.items())},
        "keys": {kind: sorted(found) for kind, found in sorted(keys.items())},
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory, made_up):
    return digests(make_hub(tmp_path_factory.mktemp("pinned"), made_up))


@pytest.fixture(scope="module")
def pinned():
    return json.loads(PINNED.read_text())


def test_rows_and_recipes_have_the_pinned_digests(measured, pinned):
    for kind in EXACT_KINDS:
        assert measured["records"][kind] == pinned["records"][kind]


def test_every_key_and_record_is_pinned(measured, pinned):
    if environment() != pinned["environment"]:
        pytest.skip("pinned under other software or another instruction set")
    assert measured["keys"] == pinned["keys"]
    assert measured["records"] == pinned["records"]


if __name__ == "__main__":
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from conftest import made_up_rows

    with tempfile.TemporaryDirectory() as folder:
        found = digests(make_hub(Path(folder), made_up_rows))
    PINNED.write_text(json.dumps({"environment": environment(), **found}, indent=1) + "\n")
