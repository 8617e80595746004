"""Derivations computed elsewhere: the same records, and nothing else is read."""

import os
import pickle
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from moma_cl.derivations.derived import Computed
from moma_cl.hub import Hub
from moma_cl.progress import quiet
from moma_cl.recipe import EstimateSettings
from moma_cl.reconciling.composer import Composer
from moma_cl.reconciling.derivation_job import ExecutorError, compute
from moma_cl.reconciling.executors import (
    ExecutorKind,
    ExecutorSettings,
    open_executor,
)
from moma_store.errors import InvalidInputError
from moma_store.store import Store
from tests.helpers import hubs
from tests.helpers.hubs import memo_results, refs
from tests.helpers.second_backbone import BOTH

DASK = ExecutorSettings(kind=ExecutorKind.DASK, workers=2)


class Elsewhere:
    """Computes what went through pickle, last job first, with a cache of its own."""

    def __init__(self, cache: Path, change=lambda job: job) -> None:
        self.cache, self.change, self.batches = cache, change, []
        cache.mkdir()

    def compute(self, jobs):
        self.batches.append([job.derivation.kind for job in jobs])
        for index in reversed(range(len(jobs))):
            posted = pickle.loads(pickle.dumps(jobs[index]))
            try:
                derived, seconds = compute(self.change(replace(posted, cache=str(self.cache))))
            except Exception as error:  # noqa: BLE001  as a worker does
                yield Computed(index=index, outcome=error)
            else:
                yield Computed(index=index, outcome=derived, seconds=seconds)


@pytest.fixture(scope="module")
def stale_hub(tmp_path_factory):
    """A hub with three tasks, one of them small, of which only the first answers are known."""
    estimate = EstimateSettings(max_candidates=2, sample_rows=30)
    recipe = hubs.short_recipe(1, estimate=estimate, worth_it=-1.0)
    hub = hubs.make_hub(tmp_path_factory.mktemp("stale") / "hub", recipe)
    for target, n_rows in (("energy", 160), ("gap", 160), ("modulus", 40)):
        hubs.add_task(hub, target, n_rows, compose=False)
    return hub


@pytest.fixture
def hub(stale_hub, tmp_path):
    return Path(shutil.copytree(stale_hub, tmp_path / "hub"))


@pytest.fixture(scope="module")
def in_process(stale_hub, tmp_path_factory):
    hub = Path(shutil.copytree(stale_hub, tmp_path_factory.mktemp("in-process") / "hub"))
    done = Hub(hub).update()
    return memo_results(hub), [(entry.task, entry.action, entry.kind) for entry in done]


def composed(hub, executor):
    with Store.open(hub, write=True) as store:
        return Composer(
            store=store, progress=quiet, device=torch.device("cpu"), executor=executor
        ).run()


def test_what_is_shipped_suffices_and_gives_the_same_records(hub, in_process, tmp_path):
    executor = Elsewhere(tmp_path / "cache")
    done = composed(hub, executor)
    assert memo_results(hub) == in_process[0]
    assert sorted((e.task, e.action, e.kind) for e in done) == sorted(in_process[1])
    assert ["module"] * 3 in executor.batches
    # those that do not need the kernel learner wait for nothing
    assert any(batch.count("learner") >= 4 for batch in executor.batches)
    assert max(map(len, executor.batches)) >= 6  # the estimates of all tasks at once
    assert Hub(hub).update() == []


@pytest.mark.usefixtures("second_backbone")
def test_jobs_of_two_backbones_carry_all_that_they_read(tmp_path):
    recipe = hubs.short_recipe(1, worth_it=-1.0)
    here = hubs.make_hub(tmp_path / "here", recipe, backbones=BOTH)
    for target, n_rows in (("energy", 160), ("gap", 40)):
        hubs.add_task(here, target, n_rows, compose=False)
    there = Path(shutil.copytree(here, tmp_path / "there"))
    Hub(here).update()
    composed(there, Elsewhere(tmp_path / "cache"))
    assert memo_results(there) == memo_results(here)
    assert refs(there) == refs(here)


def test_a_derivation_that_fails_elsewhere_fails_its_task_only(hub, tmp_path):
    def broken(job):
        if job.derivation.task == "gap":
            raise ZeroDivisionError("on purpose")
        return job

    done = composed(hub, Elsewhere(tmp_path / "cache", broken))
    (failure,) = [entry for entry in done if entry.action == "failed"]
    assert failure.task == "gap"
    assert "ZeroDivisionError: on purpose" in failure.text
    with Store.open(hub) as store:
        assert store.ref("modules/energy@cgcnn") is not None
        assert store.ref("modules/gap@cgcnn") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": "/nowhere"}, "does not see /nowhere"),
        ({"software": {"torch": "0.1"}}, "expected None: results would differ"),
        ({"device": "cuda"}, "the worker on .*: device 'cuda' was asked for"),
    ],
)
def test_a_worker_that_would_give_other_results_ends_the_pass(hub, tmp_path, change, message):
    executor = Elsewhere(tmp_path / "cache", lambda job: replace(job, **change))
    with pytest.raises(ExecutorError, match=message):
        composed(hub, executor)
    assert refs(hub, "failures/") == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"scheduler": "tcp://127.0.0.1:1"},
        {"workers": 2},
        {"kind": ExecutorKind.DASK, "scheduler": "tcp://127.0.0.1:1", "workers": 2},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings):
    with pytest.raises(InvalidInputError):
        ExecutorSettings(**settings)


@pytest.mark.fault("a Dask worker that dies")
@pytest.mark.timeout(3000)
def test_two_dask_workers_of_which_one_is_killed_derive_the_same(
    hub, in_process, tmp_path, monkeypatch
):
    pytest.importorskip("distributed")
    begun, killed = tmp_path / "begun", tmp_path / "killed"

    def dying_once(job):
        with begun.open("a") as stream:
            stream.write(job.derivation.key + "\n")
        if job.derivation.kind == "module":
            with suppress(FileExistsError):  # the other worker may come at the same instant
                killed.touch(exist_ok=False)
                time.sleep(1.0)  # what the worker computed before has been fetched by then
                os.kill(os.getpid(), signal.SIGKILL)
        return compute(job)

    before = memo_results(hub)
    monkeypatch.setattr("moma_cl.reconciling.executors.compute", dying_once)
    Hub(hub).update(executor=DASK)
    assert memo_results(hub) == in_process[0]
    keys = begun.read_text().split()
    assert set(keys) == memo_results(hub).keys() - before.keys()
    assert len(keys) == len(set(keys)) + 1


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_named():
    pytest.importorskip("distributed")
    address = "tcp://127.0.0.1:9"
    settings = ExecutorSettings(kind=ExecutorKind.DASK, scheduler=address)
    with pytest.raises(ExecutorError, match=f"answers at {address}"), open_executor(settings):
        pass
