"""What importing graphs costs, and that nothing is lost by it."""

import subprocess
import sys

LATER = """
import sys
import {first}
loaded = [name for name in ("pandas", "sympy", "torch._dynamo.utils") if name in sys.modules]
assert not loaded, loaded
assert not any(type(finder).__name__ == "_Finder" for finder in sys.meta_path), sys.meta_path
import torch_geometric
assert issubclass(torch_geometric.datasets.Planetoid, torch_geometric.data.Dataset)
"""


def test_compiler_and_data_sets_are_loaded_when_they_are_used():
    command = LATER.format(first="moma_cl.commands.predict")
    subprocess.run([sys.executable, "-W", "ignore", "-c", command], check=True)
