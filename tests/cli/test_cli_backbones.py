"""The program with hubs of several backbones."""

import pytest

from moma_cli.app import main
from tests.helpers import hubs

pytestmark = pytest.mark.usefixtures("second_backbone")


def test_init_takes_several_backbones_and_says_what_each_brings(tmp_path, capsys):
    hub = tmp_path / "hub"
    named = ("--backbone", "second", "--backbone", "cgcnn", "--backbone", "second")
    assert main(["init", str(hub), *named]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"hub {hub}: 1 thread"
    assert [line.split(":")[0] for line in lines] == ["backbone cgcnn 1", "backbone second 7"]
    assert all(line.endswith("parameters, 0 modules to start from") for line in lines)
    assert set(hubs.refs(hub, "backbones/")) == {"backbones/cgcnn", "backbones/second"}


def test_add_backbone_says_what_comes_next_and_is_done_once(tmp_path, capsys):
    hub = hubs.make_hub(tmp_path / "hub")
    add = ["--hub", str(hub), "add-backbone"]
    assert main([*add, "second"]) == 0
    ended = capsys.readouterr()
    assert ended.out.startswith("second 7: ")
    assert ended.out.endswith("parameters, 0 modules to start from\n")
    assert "moma-cl update composes and fits every task on it" in ended.err
    assert main([*add, "second"]) == 4
    assert "has the backbone 'second' already" in capsys.readouterr().err
    assert main([*add, "secnd"]) == 4
    assert "did you mean 'second'" in capsys.readouterr().err
    assert main(["--hub", str(hub), "log", "-n", "1"]) == 0
    assert "add-backbone" in capsys.readouterr().out
