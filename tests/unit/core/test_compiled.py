"""Compiled code is kept on disk as long as no file beside it changes."""

import os
import subprocess
import sys

import pytest

FILES = {
    "__init__": "",
    "kernel": """
        from moma_cl.core.compiled import compiled
        from kernels.inner import (
            inner,
        )

        @compiled
        def kernel(number):
            return inner(number) + 1.0
        """,
    "inner": """
        from moma_cl.core.compiled import compiled
        from kernels import constants

        FACTOR = constants.FACTOR

        @compiled
        def inner(number):
            return FACTOR * number
        """,
    "constants": "FACTOR = 2.0",
}
CALL = """
from kernels.kernel import kernel
print(kernel(10.0), sum(kernel.stats.cache_hits.values()))
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "kernels"
    folder.mkdir()
    for name, text in FILES.items():
        lines = [line.removeprefix(" " * 8) for line in text.splitlines()]
        (folder / f"{name}.py").write_text("\n".join(lines))
    return folder


def change(package, name, old, new):
    path = package / f"{name}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def answer(package):
    """Call the kernel in a new process; give its value and whether its code was kept."""
    folders = [str(package.parent), *sys.path]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        "PYTHONDONTWRITEBYTECODE": "1",  # Python's own cache takes a change within a second for none
    }
    command = [sys.executable, "-c", CALL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    value, n_kept = done.stdout.split()
    return float(value), n_kept == "1"


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("inner", "FACTOR * number", "FACTOR - number", -7.0),
        ("constants", "2.0", "3.0", 31.0),
        ("kernel", "1.0", "5.0", 25.0),
    ],
)
def test_a_change_of_a_file_beside_it_renews_code(package, name, old, new, expected):
    assert answer(package) == (21.0, False)
    change(package, name, old, new)
    assert answer(package) == (expected, False)


def test_code_is_kept_while_files_are_the_same(package):
    assert answer(package) == (21.0, False)
    assert answer(package) == (21.0, True)
