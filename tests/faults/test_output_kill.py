"""A program that writes an output file is killed at any moment: who reads the file sees it whole."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moma_cli.output_file import write_file

KILLS = 60
ROWS = 20_000

# Writes the file again and again, row by row; each time with another number in all rows.
WRITER = f"""
import sys
from pathlib import Path
from moma_cli.output_file import published

print("ready", flush=True)
for number in range(10**9):
    with published(Path(sys.argv[1]), keep=True) as path, path.open("w") as stream:
        for _ in range({ROWS}):
            stream.write(f"{{number}}\\n")
            stream.flush()
"""


def is_whole(file: Path) -> bool:
    """Tell whether a file has all rows of one run, or is not there yet."""
    try:
        rows = file.read_text().splitlines()
    except FileNotFoundError:
        return True
    return len(rows) == ROWS and len(set(rows)) == 1


@pytest.mark.fault("kill -9 while an output file is written")
def test_a_reader_never_sees_half_a_file(tmp_path, reached):
    file, draft = tmp_path / "rows.txt", tmp_path / "rows.txt.unfinished"
    moments, looks, cut_off = random.Random(0), 0, 0
    for _ in range(KILLS):
        command = [sys.executable, "-c", WRITER, str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "ready\n"
            end = time.monotonic() + moments.uniform(0.0, 0.2)
            while (whole := is_whole(file)) and time.monotonic() < end:
                looks += 1
            writer.kill()
        assert whole
        assert is_whole(file)
        cut_off += not is_whole(draft)
    assert file.exists()
    assert looks > KILLS
    assert cut_off > KILLS // 10  # else the kills have tried nothing
    write_file(file, "last\n")  # no lock, and no row, of the killed is in the way
    assert file.read_text() == "last\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.txt"]
    reached(f"output files: {KILLS} kills, {cut_off} within a file; {looks} looks, all whole")
