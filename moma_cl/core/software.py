"""Versions of the software that computes, and the device, for the provenance of records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from moma_cl.core.devices import CPU, describe_device

if TYPE_CHECKING:
    import torch

PACKAGES = ("moma-cl", "torch", "torch-geometric", "numpy", "scipy", "clarabel")
DEVICE = "device"
"""Names the device beside the packages, in records that were not made on the CPU."""


def software() -> Mapping[str, str]:
    """Look up the versions of the packages that a result depends on.

    Returns
    -------
    Mapping[str, str]
        Version by package.
    """
    from importlib.metadata import version

    return {package: version(package) for package in PACKAGES}


def made_by(device: torch.device) -> Mapping[str, str]:
    """Tell what a result is made by, for its record: versions, and a device other than the CPU.

    Parameters
    ----------
    device
        Where encoders compute.

    Returns
    -------
    Mapping[str, str]
        Version by package, and what the device is called under `DEVICE`.
    """
    if device.type == CPU:
        return software()
    return {**software(), DEVICE: describe_device(device)}
