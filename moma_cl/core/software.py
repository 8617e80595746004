"""Versions of the software that computes, for the provenance of records."""

from __future__ import annotations

from collections.abc import Mapping

PACKAGES = ("moma-cl", "torch", "torch-geometric", "numpy", "scipy", "clarabel")


def software() -> Mapping[str, str]:
    """Look up the versions of the packages that a result depends on.

    Returns
    -------
    Mapping[str, str]
        Version by package.
    """
    from importlib.metadata import version

    return {package: version(package) for package in PACKAGES}
