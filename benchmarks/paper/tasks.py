"""The nine downstream tasks, and the folder of their files beside the repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moma_cl.properties.transforms import Transform

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "paper"
N_SPLITS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTask:
    """One dataset: file name and folder, column, unit and transform of the target."""

    name: str
    target: str
    unit: str
    folder: Path = DATA
    transform: Transform = Transform.NONE

    @property
    def file(self) -> Path:
        """Where its rows are."""
        return self.folder / f"{self.name}.jsonl.gz"


TASKS = (
    PaperTask(name="jarvis_2d_eform", target="formation_energy", unit="eV/atom"),
    PaperTask(name="mp_phonons", target="log_last_phdos_peak", unit="1"),
    PaperTask(name="mp_poisson_ratio", target="poisson_ratio", unit="1"),
    PaperTask(name="jarvis_2d_exfoliation", target="exfoliation_energy", unit="meV/atom"),
    PaperTask(name="mp_eps_electronic", target="log_eps_electronic", unit="1"),
    PaperTask(name="jarvis_2d_dielectric_opt", target="dielectric_constant", unit="1"),
    PaperTask(name="mp_poly_electronic", target="poly_electronic", unit="1"),
    PaperTask(name="mp_poly_total", target="poly_total", unit="1"),
    PaperTask(name="mp_elastic_anisotropy", target="elastic_anisotropy", unit="1"),
)
