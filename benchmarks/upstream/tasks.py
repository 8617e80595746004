"""The upstream tasks: which column of which files, where they come from, how long to train.

The files lie beside the repository; `shared/data/README.md` there describes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from moma_cl.properties.transforms import Transform

MATERIALS_PROJECT = "Materials Project (Jain et al., APL Mater. 1, 011002, 2013), CC BY 4.0"
MEGNET = "labels of the MEGNet 2018 set (Chen et al., Chem. Mater. 31, 3564, 2019), BSD-3"
CASTELLI = "Castelli et al., Energy Environ. Sci. 5, 9034, 2012; by txie-93/cdvae, MIT"
CARBON = "Pickard, AIRSS carbon at 10 GPa, 2020, CC BY 4.0; by txie-93/cdvae, MIT"
SUPERCON = "3DSC (Sommer et al., Sci. Data 10, 816, 2023), CC BY 4.0"
CLEAVAGE = "Palizhati et al., J. Chem. Inf. Model. 59, 4742, 2019; by GNscSHI/SE-CGCNN, MIT"
SURFACES = "Tran et al., Sci. Data 3, 160080, 2016, and GNscSHI/SE-CGCNN, MIT"
JARVIS = "JARVIS-DFT (Choudhary et al., npj Comput. Mater. 6, 173, 2020), NIST"
ALEXANDRIA = "Alexandria phonons by materialsvirtuallab/matcalc, BSD-3"
DIELECTRICS = "as collected by janosh/dielectrics, MIT"
MATCALC = "by materialsvirtuallab/matcalc, BSD-3"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTask:
    """One property to specialise the backbone to.

    Attributes
    ----------
    name
        Name of the module.
    files
        Files of ``shared/data/upstream``, without their ending; where two have a structure with
        the same id, the first counts.
    column
        Column of the values; its canonical name is the module's property.
    unit
        Unit of the values, after the division by the number of atoms if there is one.
    sources
        Where structures and values come from, with their licences.
    transform
        Of the values before they are learned.
    per_atom
        Whether values are of the whole cell and to be divided by its number of atoms.
    epochs
        Visits of each row.
    max_rows
        Rows beyond which a fixed sample is taken.
    max_atoms
        Atoms in a cell beyond which a row is left out: most benchmark cells are smaller, and the
        time for one large cell trains on several small ones.
    backbones
        Backbones whose module of it pays for its bytes in the package; all if none is named.
    one_formula
        Whether all structures share a formula, so that benchmark materials are left out by
        structure rather than by formula.
    """

    name: str
    files: tuple[str, ...]
    column: str
    unit: str
    sources: tuple[str, ...]
    transform: Transform = Transform.NONE
    per_atom: bool = False
    epochs: int
    max_rows: int = 18_000
    max_atoms: int = 24
    backbones: tuple[str, ...] | None = None
    one_formula: bool = False


_MP = ("mp_36k", "mp_extra_46k")
_ELASTIC = ("mp_elastic_3k", "mp_binary_elastic")
_SURFACES = ("surf_mg_intermetallics", "surf_elemental")

TASKS = (
    UpstreamTask(
        name="mp_log_bulk_modulus",
        files=_ELASTIC,
        column="log10_bulk_modulus_vrh",
        unit="log10(GPa)",
        sources=(MATERIALS_PROJECT, MATCALC),
        epochs=25,
    ),
    UpstreamTask(
        name="mp_formation_energy",
        files=_MP,
        column="formation_energy_per_atom",
        unit="eV/atom",
        sources=(MATERIALS_PROJECT, MEGNET),
        epochs=8,
    ),
    UpstreamTask(
        name="mp_band_gap_pbe",
        files=_MP,
        column="band_gap_pbe",
        unit="eV",
        sources=(MATERIALS_PROJECT, MEGNET),
        epochs=8,
    ),
    UpstreamTask(
        name="mp_log_shear_modulus",
        files=_ELASTIC,
        column="log10_shear_modulus_vrh",
        unit="log10(GPa)",
        sources=(MATERIALS_PROJECT, MATCALC),
        epochs=25,
    ),
    UpstreamTask(
        name="mp_band_gap_hse",
        files=_MP,
        column="band_gap_hse",
        unit="eV",
        sources=(MATERIALS_PROJECT, MEGNET),
        epochs=20,
    ),
    UpstreamTask(
        name="mp_band_gap_gllbsc",
        files=_MP,
        column="band_gap_gllbsc",
        unit="eV",
        sources=(MATERIALS_PROJECT, MEGNET),
        epochs=30,
    ),
    UpstreamTask(
        name="alexandria_heat_capacity",
        files=("alexandria_cv300",),
        column="heat_capacity_300K",
        unit="J/(mol K)",
        sources=(ALEXANDRIA,),
        per_atom=True,
        epochs=40,
        backbones=("chgnet",),
    ),
    UpstreamTask(
        name="castelli_heat_of_formation",
        files=("castelli_perovskites",),
        column="heat_of_formation",
        unit="eV/f.u.",
        sources=(CASTELLI,),
        epochs=10,
    ),
    UpstreamTask(
        name="jarvis_dielectric_constant",
        files=("jarvis_1k",),
        column="epsx",
        unit="1",
        sources=(JARVIS,),
        transform=Transform.LOG10,
        epochs=40,
        backbones=(),
    ),
    UpstreamTask(
        name="mp_refractive_index",
        files=("mp_refractive_index",),
        column="refractive_index",
        unit="1",
        sources=(MATERIALS_PROJECT, DIELECTRICS),
        transform=Transform.LOG10,
        epochs=30,
    ),
    UpstreamTask(
        name="jarvis_formation_energy",
        files=("jarvis_1k",),
        column="formation_energy_peratom",
        unit="eV/atom",
        sources=(JARVIS,),
        epochs=40,
        backbones=(),
    ),
    UpstreamTask(
        name="jarvis_seebeck",
        files=("jarvis_1k",),
        column="n_Seebeck",
        unit="μV/K",
        sources=(JARVIS,),
        epochs=40,
    ),
    UpstreamTask(
        name="3dsc_log_tc",
        files=("supercon_3dsc",),
        column="tc",
        unit="K",
        sources=(SUPERCON, MATERIALS_PROJECT),
        transform=Transform.LOG10,
        epochs=20,
        max_atoms=60,
        backbones=("chgnet",),
    ),
    UpstreamTask(
        name="carbon24_energy",
        files=("carbon24",),
        column="energy_per_atom",
        unit="eV/atom",
        sources=(CARBON,),
        epochs=15,
        one_formula=True,
    ),
    UpstreamTask(
        name="castelli_band_gap",
        files=("castelli_perovskites",),
        column="direct_band_gap",
        unit="eV",
        sources=(CASTELLI,),
        epochs=10,
    ),
    UpstreamTask(
        name="slabs_cleavage_energy",
        files=("surf_cleavage",),
        column="cleavage_energy",
        unit="eV/Å²",
        sources=(CLEAVAGE,),
        epochs=8,
        max_atoms=40,
        backbones=("chgnet",),
    ),
    UpstreamTask(
        name="slabs_surface_energy",
        files=_SURFACES,
        column="surface_energy",
        unit="eV/Å²",
        sources=(SURFACES,),
        epochs=6,
        max_atoms=40,
    ),
    UpstreamTask(
        name="slabs_work_function",
        files=_SURFACES,
        column="work_function",
        unit="eV",
        sources=(SURFACES,),
        epochs=6,
        max_atoms=40,
        backbones=("chgnet",),
    ),
    UpstreamTask(
        name="mp_magnetization",
        files=("mp_36k",),
        column="total_magnetization",
        unit="μB/atom",
        sources=(MATERIALS_PROJECT,),
        per_atom=True,
        epochs=6,
        max_rows=12_000,
    ),
)
