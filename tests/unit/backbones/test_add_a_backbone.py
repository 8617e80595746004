"""The example of docs/add-a-backbone.md keeps the contract, and a hub can be made of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "add-a-backbone.md"


@pytest.fixture
def package(tmp_path):
    """A folder with the files of the example, as an installed package has them."""
    blocks = re.findall(r"```\w+\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    backbone, contract, entry_point, command = blocks
    information = tmp_path / "mynet-1.dist-info"
    information.mkdir()
    (tmp_path / "mynet.py").write_text(backbone)
    (tmp_path / "test_mynet.py").write_text(contract)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mynet\nVersion: 1\n")
    group, name = re.fullmatch(
        r'\[project\.entry-points\."(.*)"\]\nmynet = "(.*)"\n', entry_point
    ).groups()
    (information / "entry_points.txt").write_text(f"[{group}]\nmynet = {name}\n")
    assert command.startswith("moma-cl init HUB")
    return tmp_path, command.split()[1:]


def run(folder, *arguments):
    path = os.pathsep.join([str(folder), *sys.path])
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_the_example_keeps_the_contract(package):
    folder, _ = package
    answer = run(folder, "pytest", "-q", "test_mynet.py")
    assert answer.returncode == 0, answer.stdout
    assert " passed" in answer.stdout


def test_a_hub_can_be_made_of_the_example(package):
    folder, arguments = package
    answer = run(folder, "moma_cli", *arguments)
    assert answer.returncode == 0, answer.stderr
    assert (folder / "HUB" / "hub.toml").exists()
