"""A second small backbone, as an installed package brings one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

import pytest
import torch

from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.recipe import PredictorSettings

CGCNN, SECOND = "cgcnn", "second"
BOTH = [CGCNN, SECOND]
BOTH_TUNED = PredictorSettings(finetuned_backbones=2)


class SecondBackbone(CGCNNBackbone):
    """CGCNN with fewer and other parameters, for lighter elements."""

    name: ClassVar[str] = SECOND
    version: ClassVar[str] = "7"
    feature_dim: ClassVar[int] = 32
    n_blocks: ClassVar[int] = 2
    elements: ClassVar[frozenset[int]] = frozenset(range(1, 84))

    @classmethod
    def pretrained(cls) -> Self:
        """Draw other parameters than those of CGCNN."""
        backbone = super().pretrained()
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.mul_(-0.8)
        return backbone


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Announce the backbone in an entry point, here and in programs that are started."""
    information = folder / "second-7.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: second\nVersion: 7\n")
    (information / "entry_points.txt").write_text(
        f"[moma_cl.backbones]\n{SECOND} = {__name__}:{SecondBackbone.__name__}\n"
    )
    root = str(Path(__file__).parents[2])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        found = [str(folder), root, *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(found))
        yield
