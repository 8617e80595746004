"""A few weeks of nights in which everything goes wrong end where undisturbed ones do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "nights",
    [
        8,
        pytest.param(20, marks=pytest.mark.slow),
        pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_disturbed_nights_derive_what_undisturbed_ones_do(nights, reached):
    command = [sys.executable, "-m", "benchmarks.simulated_year", "--nights", str(nights)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["kills"] >= nights // 4
    assert found["derived"] > 2 * nights
    wrong = ("only_undisturbed", "only_disturbed", "different", "rows_wrong", "left_in_inbox")
    assert {name: found[name] for name in wrong} == dict.fromkeys(wrong, 0)
    reached(f"{nights} nights with {found['kills']} kills derived what undisturbed ones do")
