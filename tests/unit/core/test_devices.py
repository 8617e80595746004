"""Devices by name, and what records say of them."""

import pytest
import torch

from moma_cl.core import devices
from moma_cl.core.devices import check_device_name, resolve_device
from moma_cl.core.software import made_by, software
from moma_cl.hub import Hub
from moma_store.errors import InvalidInputError


@pytest.fixture
def machine(monkeypatch):
    """Let torch find other devices than this machine has, some of which compute nonsense."""

    def has(*kinds, unsound=()):
        monkeypatch.setattr(devices, "_present", lambda: [*kinds, "cpu"])
        monkeypatch.setattr(devices, "_is_sound", lambda kind: kind not in unsound)

    return has


@pytest.mark.parametrize(
    ("kinds", "unsound", "expected"),
    [
        ([], [], "cpu"),
        (["mps"], [], "mps"),
        (["cuda", "mps"], [], "cuda"),
        (["cuda", "mps"], ["cuda"], "mps"),
        (["mps"], ["mps"], "cpu"),
    ],
)
def test_auto_is_the_best_device_that_computes_correctly(machine, kinds, unsound, expected):
    machine(*kinds, unsound=unsound)
    assert resolve_device("auto") == torch.device(expected)


def test_a_device_that_is_asked_for_is_not_judged(machine):
    machine("mps", unsound=["mps"])
    assert resolve_device("mps") == torch.device("mps")


def test_a_device_that_is_missing_is_refused_with_those_that_are_there(machine):
    machine("mps")
    with pytest.raises(InvalidInputError, match=r"'cuda' was asked for.* finds only mps, cpu here"):
        resolve_device("cuda")


def test_an_unknown_name_is_refused_before_torch_is_asked():
    with pytest.raises(
        InvalidInputError, match="'gpu' is unknown; expected one of auto, cpu, cuda"
    ):
        check_device_name("gpu")
    with pytest.raises(InvalidInputError, match="did you mean 'cuda'"):
        Hub("lab", device="cud")


@pytest.mark.parametrize("wrong", [torch.zeros, RuntimeError])
def test_a_device_that_computes_otherwise_than_the_cpu_is_not_sound(monkeypatch, wrong):
    sample = devices._sample

    def broken(device):
        if device.type == "cpu":
            return sample(device)
        if wrong is RuntimeError:
            raise RuntimeError("no kernel image is available")
        return wrong(12, 4)

    assert devices._is_sound.__wrapped__("cpu")
    monkeypatch.setattr(devices, "_sample", broken)
    assert not devices._is_sound.__wrapped__("mps")


def test_records_tell_a_device_other_than_the_cpu():
    assert made_by(torch.device("cpu")) == software()
    assert made_by(torch.device("mps")) == {**software(), "device": "mps"}
