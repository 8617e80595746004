"""``init`` and ``add-backbone`` are killed at file-system calls: run again, they get there."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from moma_cl.commands import maintenance
from moma_cl.records.hub import is_hub
from tests.helpers import hubs
from tests.helpers.processes import answering
from tests.helpers.second_backbone import BOTH, SECOND

# Forks for each line: a hub's folder, and the file-system call at which the process is killed. It
# makes a hub of both backbones, or adds one to a hub; the answer is whether it was killed.
NURSERY = """
import json, os, signal, sys
from pathlib import Path
import moma_cl.derivations.predictor
from moma_cl.hub import Hub
from moma_cl.records.hub import is_hub
from moma_store import store
from moma_store.testing import FaultyFiles
from tests.helpers.hubs import make_hub

print("ready", flush=True)
for line in sys.stdin:
    folder, call = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 99
        try:
            counted = FaultyFiles(errno=None, at=(call,))
            store.Files = lambda: counted
            if is_hub(Path(folder)):
                Hub(folder).add_backbone("second")
            else:
                make_hub(Path(folder), backbones=["cgcnn", "second"])
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    print(json.dumps(killed if killed or status == 0 else "failed"), flush=True)
"""

EVERY = 6  # calls between two kills

pytestmark = pytest.mark.usefixtures("second_backbone")


@pytest.fixture(scope="module")
def killed_at(second_backbone):
    """Run either command up to a file-system call, and tell whether that was reached."""
    with answering(NURSERY, stderr=subprocess.DEVNULL) as ask:
        yield lambda hub, call: json.loads(ask(json.dumps([str(hub), call])))


def test_a_killed_init_of_two_backbones_is_finished_by_the_next(killed_at, tmp_path, reached):
    whole = hubs.refs(hubs.make_hub(tmp_path / "whole", backbones=BOTH))
    call, between = 0, set()
    while killed_at(hub := tmp_path / str(call), call) is True:
        if (hub / "hub.toml").exists():
            between |= {frozenset(hubs.refs(hub))}
        if not (hub.exists() and is_hub(hub)):
            hubs.make_hub(hub, backbones=BOTH)
        assert hubs.refs(hub) == whole
        assert maintenance.verify(hub, deep=True).problems == ()
        call += EVERY
    assert frozenset({"backbones/cgcnn"}) in between  # it was killed between the two
    assert hubs.refs(hub) == whole
    reached(f"init of two backbones killed at {call // EVERY} file-system calls")


def test_a_killed_add_backbone_is_finished_by_the_next(killed_at, tmp_path, reached):
    first = hubs.make_hub(tmp_path / "first")
    before = hubs.refs(first)
    whole = hubs.refs(hubs.make_hub(tmp_path / "whole", backbones=BOTH))
    call = 0
    while killed_at(hub := shutil.copytree(first, tmp_path / str(call)), call) is True:
        assert hubs.refs(hub) in (before, whole)
        assert maintenance.verify(hub, deep=True).problems == ()
        if f"backbones/{SECOND}" not in hubs.refs(hub):
            assert killed_at(hub, 10_000) is False
        assert hubs.refs(hub) == whole
        call += EVERY
    assert call > 2 * EVERY
    reached(f"add-backbone killed at {call // EVERY} file-system calls")
