"""The whole program is killed at any moment, and at any file-system call: nothing is damaged.

What is run again gets there.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from moma_cl.commands import archive, maintenance
from moma_cl.hub import Hub
from moma_cl.views import modules, tasks
from tests.helpers import hubs
from tests.helpers.hubs import memo_results
from tests.helpers.processes import answering
from tests.helpers.rows import write_rows

# Forks the program for each line: its arguments, after how many seconds it is killed, and at which
# of its file-system calls. The answer is its exit code, none if it was killed, and how long it took.
NURSERY = """
import json, os, select, signal, sys, time
import moma_cl.derivations.predictor, moma_cl.derivations.promotion, moma_cl.commands.archive, moma_cl.commands.add_rows, moma_cl.reconciling.composer
from moma_store import blobs, blob_reader, importing, collection, store
from moma_store.testing import FaultyFiles
from moma_cli.app import main

print("ready", flush=True)
for line in sys.stdin:
    arguments, after, call = json.loads(line)
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0), os.dup2(null, 1)
            if call is not None:
                counted = FaultyFiles(errno=None, at=(call,))
                store.Files = lambda: counted
            code = main(arguments)
        finally:
            os._exit(code)
    if after is not None:
        ended, _, _ = select.select([os.pidfd_open(child)], [], [], after)
        if not ended:
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    print(json.dumps([code, time.monotonic() - start]), flush=True)
"""


@dataclass(frozen=True)
class Material:
    """A new hub, and the steps of its life with their durations and what each begins with."""

    new: Path
    steps: list[tuple[list[str], float]]
    before: list[Path]


@pytest.fixture(scope="module")
def nursery():
    """Runs commands of the program, to their end or to a kill."""
    with answering(NURSERY, stderr=subprocess.DEVNULL) as ask:

        def run(hub: Path, arguments: list[str], after=None, call=None):
            return json.loads(ask(json.dumps([["--hub", str(hub), *arguments], after, call])))

        yield run


@pytest.fixture(scope="module")
def material(nursery, tmp_path_factory, made_up) -> Material:
    folder = tmp_path_factory.mktemp("program")
    for name in ("new", "other"):
        hubs.make_hub(folder / name, hubs.short_recipe(1))
    first, unit = str(write_rows(folder / "first.jsonl", made_up(40))), ["--unit", "eV/atom"]
    more = str(write_rows(folder / "more.jsonl", made_up(8, first=40)))
    energy = ["add-task", "energy", first, "--target", "energy", *unit, "--no-update"]
    gap = ["add-task", "gap", first, "--target", "gap", *unit]
    assert nursery(folder / "other", gap)[0] == 0
    archive.export(folder / "other", folder / "gap.zip", modules=["gap"])
    steps = [
        energy,
        ["update"],
        ["add-data", "energy", more, "--no-update"],
        ["import", str(folder / "gap.zip")],
        ["update"],
        ["gc"],
    ]
    undisturbed = Path(shutil.copytree(folder / "new", folder / "undisturbed"))
    took, before = [], []
    for number, step in enumerate(steps):
        before.append(Path(shutil.copytree(undisturbed, folder / f"before-{number}")))
        code, seconds = nursery(undisturbed, step)
        assert code == 0
        took.append((step, seconds))
    return Material(new=folder / "new", steps=took, before=[*before, undisturbed])


def rows_and_modules(hub: Path) -> tuple[dict[str, int], set[str]]:
    return (
        {task.name: task.rows for task in tasks.tasks(hub)},
        {module.name for module in modules.modules(hub)},
    )


def live_and_die(nursery, material: Material, hub: Path, rng: random.Random) -> int:
    """Take a new hub through its life, killing each step once; count the kills."""
    shutil.copytree(material.new, hub)
    n_killed = 0
    for step, seconds in material.steps:
        before = rows_and_modules(hub)
        code, _ = nursery(hub, step, after=rng.uniform(0, 1) * seconds)
        n_killed += code is None
        assert maintenance.verify(hub, deep=True).problems == ()
        between = rows_and_modules(hub)
        code, _ = nursery(hub, step)
        # A task that was added before the kill came is not added again.
        assert code == 0 or (step[0] == "add-task" and code == 4 and "energy" in between[0])
        after = rows_and_modules(hub)
        for found in between[0].items() - before[0].items():
            assert found in after[0].items()
        assert before[1] <= between[1] <= after[1]
    assert rows_and_modules(hub) == ({"energy": 48}, {"energy", "gap"})
    assert Hub(hub).plan() == [] or {p.status for p in Hub(hub).plan()} == {"not-worth-it"}
    found = maintenance.verify(hub, deep=True)
    assert (found.problems, found.strays) == ((), ())
    assert not list((hub / "tmp").iterdir())
    shutil.rmtree(hub)
    return n_killed


def kill(nursery, material, tmp_path, n_kills: int, *, seed: int = 0) -> int:
    rng, total, life = random.Random(seed), 0, 0
    while total < n_kills:
        total += live_and_die(nursery, material, tmp_path / f"{seed}-{life}", rng)
        life += 1
    return total


def test_a_killed_program_loses_nothing(nursery, material, tmp_path, reached):
    total = kill(nursery, material, tmp_path, 3)
    reached(f"{total} kills of the whole program: nothing lost")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_killed_program_loses_nothing_many_times(nursery, material, tmp_path, reached):
    total = kill(nursery, material, tmp_path, 50, seed=1)
    reached(f"{total} kills of the whole program: nothing lost")


def run_again(nursery, hub: Path, step: list[str]) -> None:
    """Finish what was killed, as its user would."""
    code, _ = nursery(hub, step)
    if step[0] == "add-task" and code == 4:
        # It was added before the kill came; its first predictor comes with the next update.
        assert "energy" in rows_and_modules(hub)[0]
        code, _ = nursery(hub, ["update"])
    assert code == 0


def kill_at(nursery, material: Material, tmp_path, number: int, call: int) -> bool:
    """Kill one step at one file-system call and finish it; tell whether the kill came."""
    step, _ = material.steps[number]
    old, *news = material.before[number:]
    hub = Path(shutil.copytree(old, tmp_path / f"{number}-{call}"))
    code, _ = nursery(hub, step, call=call)
    assert code in (None, 0)
    if code is None:
        assert maintenance.verify(hub, deep=True).problems == ()
        assert rows_and_modules(hub) in (rows_and_modules(old), rows_and_modules(news[0]))
        run_again(nursery, hub, step)
    assert any(outcome(hub) == outcome(new) for new in news[:2])
    shutil.rmtree(hub)
    return code is None


def outcome(hub: Path) -> tuple[object, dict[str, str]]:
    """What there is, and what was derived from it."""
    return rows_and_modules(hub), memo_results(hub)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_program_killed_at_any_file_system_call_loses_nothing(
    nursery, material, tmp_path, reached
):
    for number, (step, _) in enumerate(material.steps):
        kills = 0
        while kill_at(nursery, material, tmp_path, number, kills):
            kills += 1
        assert kills > 10
        reached(f"{step[0]}, the whole program, killed at each of {kills} file-system calls")
