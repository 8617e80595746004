"""Devices: which processor the encoders compute on, by a name that a user can give.

Only encoders and their heads move to a device: they are trained there, and embed and predict there.
Graphs are built, kernel heads are fitted and everything is stored on the CPU. Equal bits are
promised for the CPU only, since other devices sum in an order that may differ from run to run.

Light: torch is imported when a name is resolved.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from moma_cl.core.suggestions import did_you_mean
from moma_store.errors import InvalidInputError

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
"""``auto`` is the first of ``cuda``, ``mps`` and ``cpu`` that is there and computes correctly."""

AUTO: DeviceName = "auto"
CPU: DeviceName = "cpu"

_TOLERANCE = 1e-4  # of a result of order one; a device that computes at all is far below it


def check_device_name(name: str) -> None:
    """Refuse what is no name of a device; whether the device is there is not looked up."""
    names = get_args(DeviceName)
    if name not in names:
        raise InvalidInputError(
            f"device {name!r} is unknown; expected one of {', '.join(names)}"
            f"{did_you_mean(name, names)}"
        )


def resolve_device(name: str) -> torch.device:
    """Find the device of a name.

    Parameters
    ----------
    name
        One of `DeviceName`.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    InvalidInputError
        If there is no such name, or the device is not there.
    """
    import torch

    check_device_name(name)
    present = _present()
    if name == AUTO:
        return torch.device(next(kind for kind in present if kind == CPU or _is_sound(kind)))
    if name not in present:
        raise InvalidInputError(
            f"device {name!r} was asked for, but torch {torch.__version__} finds only "
            f"{', '.join(present)} here; name one of these, or auto"
        )
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """Name a device for records: its kind, and the model of a GPU where torch knows it."""
    import torch

    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return device.type


def in_turn_off_the_cpu(device: torch.device) -> AbstractContextManager[None]:
    """Make the calls of `side_by_side` in turn on a device that one computation fills.

    Threads that share a GPU gain nothing, need its memory at the same time, and Apple's is not made
    for them.
    """
    from moma_cl.core.threads import one_by_one

    return nullcontext() if device.type == CPU else one_by_one()


def _present() -> list[str]:
    """List the kinds of devices that are there, the one that ``auto`` prefers first."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [*(kind for kind, found in there.items() if found), CPU]


@lru_cache(maxsize=4)
def _is_sound(kind: str) -> bool:
    """Say whether a device computes what encoders need: drivers may be too old for the torch."""
    import torch

    try:
        result = _sample(torch.device(kind)).cpu()
    except (RuntimeError, AssertionError):
        return False
    return bool(torch.allclose(result, _sample(torch.device(CPU)), atol=_TOLERANCE))


def _sample(device: torch.device) -> torch.Tensor:
    """Compute a product, a gather, sums and extremes by index, and a gradient of them."""
    import torch

    rows = torch.linspace(-1.0, 1.0, 24).reshape(6, 4).to(device).requires_grad_()
    index = torch.tensor([0, 2, 1, 0, 2, 2]).to(device)
    messages = torch.nn.functional.silu(rows @ rows.T @ rows).index_select(0, index)
    total = torch.zeros_like(rows[:3]).index_add(0, index, messages)
    extremes = total.scatter_reduce(
        0, index[:, None].expand_as(messages), messages, "amax", include_self=False
    )
    (gradient,) = torch.autograd.grad((total * extremes).sum(), rows)
    return torch.cat([total.detach(), extremes.detach(), gradient])
