"""CIF files are read with all they say about themselves, or refused with a reason."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from moma_cl.readers.cif.operations import parse_operations
from moma_cl.readers.cif.space_groups import all_settings, named, operations_of
from moma_cl.readers.cif.structure import read_cif
from moma_cl.structures.fingerprints import fingerprint
from moma_store.errors import InvalidInputError

TAGS = "label type_symbol fract_x fract_y fract_z occupancy"
NACL = ("Na1 Na1+ 0 0 0 1.", "Cl1 Cl1- 0.5 0.5 0.5 1.0(0)")
NAMED = "_symmetry_space_group_name_H-M 'F m -3 m'\n"


def cif(symmetry, sites, cell=(5.64, 5.64, 5.64, 90, 90, 90), formula="", tags=TAGS):
    """A CIF; `formula` is the sum formula and Z, such as "Cl Na/4"."""
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x"]
    if formula:
        amounts, _, units = formula.partition("/")
        lines += [f"_chemical_formula_sum '{amounts}'", f"_cell_formula_units_Z {units or '?'}"]
    lines += [f"_cell_{name} {value}" for name, value in zip(names, cell, strict=True)]
    lines += [symmetry.strip(), "loop_", *(f"_atom_site_{tag}" for tag in tags.split()), *sites]
    return "\n".join(lines) + "\n"


def salt(symmetry=NAMED, sites=NACL, formula="Cl Na/4", **options):
    return cif(symmetry, sites, formula=formula, **options)


NA_PLACES = ("0 0 0", "0 0.5 0.5", "0.5 0 0.5", "0.5 0.5 0")
CL_PLACES = ("0.5 0 0", "0 0.5 0", "0 0 0.5", "0.5 0.5 0.5")
SALT_P1 = cif(
    "_symmetry_space_group_name_H-M 'P 1'",
    [*(f"Na Na {p} 1" for p in NA_PLACES), *(f"Cl Cl {p} 1" for p in CL_PLACES)],
)


def code_of(text):
    with pytest.raises(InvalidInputError) as caught:
        read_cif(text)
    assert len(caught.value.message) > 20
    return caught.value.code.removeprefix("invalid-input.")


def check_salt(text):
    crystal = read_cif(text)
    assert crystal.n_atoms == 8
    assert fingerprint(crystal) == fingerprint(read_cif(SALT_P1))


@pytest.mark.parametrize(
    "symmetry",
    [
        NAMED,
        "_symmetry_space_group_name_H-M 'F 4/m -3 2/m'",
        "_symmetry_space_group_name_H-M 'F m 3 m'",
        "_symmetry_space_group_name_H-M Fm3m",
        "_symmetry_space_group_name_H-M 'f m -3 m'",
        "_symmetry_space_group_name_H-M FM-3M",
        "_SYMMETRY_SPACE_GROUP_NAME_H-M 'F m -3 m'",
        "_space_group_name_H-M_alt 'F m -3 m'",
        "_space_group.name_H-M_full 'F 4/m -3 2/m'",
        "_symmetry_space_group_name_H-M 'F m -3 m (225)'",
        "_symmetry_space_group_name_Hall '-F 4 2 3'",
        "_space_group_name_Hall '-f 4 2 3'",
        "_space_group_IT_number 225",
        "_symmetry_Int_Tables_number 225",
    ],
)
@pytest.mark.parametrize("formula", ["Cl Na/4", ""])
def test_a_named_space_group_multiplies_the_sites(symmetry, formula):
    check_salt(salt(symmetry, formula=formula))


def test_dotted_and_upper_case_tags_are_the_same_tags():
    dotted = salt()
    for part in ("_cell", "_atom_site", "_chemical_formula"):
        dotted = dotted.replace(f"{part}_", f"{part}.")
    check_salt(dotted)
    check_salt(salt().replace("_atom_site_fract_x", "_ATOM_SITE_FRACT_X").replace("loop_", "LOOP_"))


@pytest.mark.parametrize(
    ("symmetry", "code"),
    [
        (NAMED.replace("F m -3 m", "P 1") + "_symmetry_Int_Tables_number 225", "cif-symmetry"),
        (NAMED + "_space_group_name_Hall '-P 4 2 3'", "cif-symmetry"),
        (NAMED.replace("-3 m", "-3 q"), "cif-symmetry"),
        (NAMED.replace("F m -3 m", "?"), "cif-composition"),
        (NAMED.replace("F m -3 m", "P m -3 m"), "cif-composition"),
        (NAMED.replace("F m -3 m", "P 6/m m m"), "cif-symmetry"),
        (NAMED.replace("F m -3 m", "F m -3 c"), "cif-composition"),
        (NAMED + "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z", "cif-symmetry"),
        (NAMED + "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\ny,z,x", "cif-symmetry"),
        (
            NAMED.replace("F m -3 m", "P -1")
            + "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,1/2-z",
            "cif-symmetry",
        ),  # its centre is not at the origin
        ("_space_group_symop_operation_xyz 'x,y,z,w'", "cif-symmetry"),
        ("_space_group_symop_operation_xyz 'x,y+0.1,z'", "cif-symmetry"),
    ],
)
def test_contradictions_about_the_symmetry_are_refused(symmetry, code):
    assert code_of(salt(symmetry)) == code


def test_an_unknown_space_group_is_no_p1():
    assert code_of(salt("_symmetry_space_group_name_H-M ?", formula="")) == "cif-symmetry"


SILICON = (5.43, 5.43, 5.43, 90, 90, 90)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("F d -3 m", "0 0 0"),
        ("F d -3 m", "0.125 0.125 0.125"),
        ("F d -3 m :1", "0 0 0"),
        ("F d -3 m:2", "0.125 0.125 0.125"),
        ("F d -3 m S", "0 0 0"),
        ("F d -3 m Z", "0.125 0.125 0.125"),
        ("Fd-3mz", "0.125 0.125 0.125"),
        ("F 41/d -3 2/m :1", "0 0 0"),
    ],
)
def test_the_origin_is_named_or_follows_from_the_formula(name, place):
    symmetry = f"_symmetry_space_group_name_H-M '{name}'"
    crystal = read_cif(cif(symmetry, [f"Si Si {place} 1"], SILICON, "Si/8"))
    places = ["0 0 0", *NA_PLACES[1:], *(f"{p}" for p in _shifted())]
    plain = cif("_symmetry_space_group_name_H-M 'P 1'", [f"Si Si {p} 1" for p in places], SILICON)
    assert fingerprint(crystal) == fingerprint(read_cif(plain))


def _shifted():
    return ["0.25 0.25 0.25", "0.25 0.75 0.75", "0.75 0.25 0.75", "0.75 0.75 0.25"]


def test_an_origin_that_cannot_be_known_is_refused():
    symmetry = "_symmetry_space_group_name_H-M 'F d -3 m'"
    assert code_of(cif(symmetry, ["Si Si 0 0 0 1"], SILICON)) == "cif-symmetry"
    wrong = symmetry.replace("m'", "m :2'")
    assert code_of(cif(wrong, ["Si Si 0 0 0 1"], SILICON, "Si/8")) == "cif-composition"


@pytest.mark.parametrize("suffix", ["", " :H", " H", ":h"])
def test_the_axes_of_a_rhombohedral_group_follow_from_the_cell(suffix):
    symmetry = f"_symmetry_space_group_name_H-M 'R -3 m{suffix}'"
    hexagonal = (4.546, 4.546, 11.862, 90, 90, 120)
    rhombohedral = (4.746, 4.746, 4.746, 57.23, 57.23, 57.23)
    place = "Bi Bi 0.2339 0.2339 0.2339 1"
    assert read_cif(cif(symmetry, ["Bi Bi 0 0 0.2339 1"], hexagonal)).n_atoms == 6
    if suffix:
        assert code_of(cif(symmetry, [place], rhombohedral)) == "cif-symmetry"
    else:
        assert read_cif(cif(symmetry, [place], rhombohedral)).n_atoms == 2


BRUCITE = (3.142, 3.142, 4.766, 90, 90, 120)
BRUCITE_NAME = "_symmetry_space_group_name_H-M 'P -3 m 1'"


def brucite(*sites, tags="label fract_x fract_y fract_z", formula="H2 Mg O2/1"):
    return cif(BRUCITE_NAME, sites, BRUCITE, formula, tags)


def test_sites_that_the_formula_names_are_there_or_the_file_is_refused():
    metal, oxygen = "Mg 0 0 0", "O 0.333333 0.666667 0.2203"
    hydrogen = "0.333333 0.666667 0.4303"
    for label in ("H", "H1", "HO1"):
        assert read_cif(brucite("MG1 0 0 0", oxygen, f"{label} {hydrogen}")).n_atoms == 5
    assert code_of(brucite(metal, oxygen)) == "cif-composition"
    assert code_of(brucite(metal, oxygen.replace("O", "OH"))) == "cif-composition"
    for label in ("OH", "Wat", "HO1", "O-H", "Va", "7Li", "CO1"):
        refused = code_of(brucite(metal, oxygen, f"{label} {hydrogen}", formula=""))
        assert refused in {"cif-site", "unknown-element", "isotope"}
    attached = brucite(
        f"{metal} 0", f"{oxygen} 1", tags="label fract_x fract_y fract_z attached_hydrogens"
    )
    assert code_of(attached) == "cif-site"


@pytest.mark.parametrize(
    ("symbol", "code"),
    [
        ("7Li", "isotope"),
        ("D", "isotope"),
        ("T+", "isotope"),
        ("Va", "unknown-element"),
        ("X", "dummy-species"),
        ("OH", "cif-site"),
        ("CO", "cif-site"),
        ("Wat", "unknown-element"),
        ("O-H", "unknown-element"),
        ("0.8Nb+0.2Zr", "unknown-element"),
    ],
)
def test_symbols_that_are_no_element_are_refused(symbol, code):
    assert code_of(salt(sites=(*NACL, f"Q1 {symbol} 0.25 0.25 0.25 1"))) == code


@pytest.mark.parametrize("occupancy", [".", "?", "1", "1.00(2)"])
def test_an_occupancy_that_is_not_given_is_one(occupancy):
    check_salt(salt(sites=(f"Na1 Na1+ 0 0 0 {occupancy}", NACL[1])))


@pytest.mark.parametrize("occupancy", ["0", "0.5", "0.98(2)", "2"])
def test_other_occupancies_are_refused(occupancy):
    assert code_of(salt(sites=(f"Na1 Na1+ 0 0 0 {occupancy}", NACL[1]))) == "disordered"


def test_blocks_without_atoms_are_passed_over():
    before = "data_global\n_journal_name_full 'A Journal'\n_note\n;\ndata_no\n# no comment\n;\n"
    after = "data_refl\nloop_\n_refln_index_h\n_refln_index_k\n1 2\n3 4\n"
    form = "data_form\nloop_\n_atom_site_label\n_atom_site_fract_x\n? ?\n"
    check_salt(before + salt() + after + form)
    assert code_of(before + after) == "parse-error"
    assert code_of(salt() + salt()) == "many-structures"


@pytest.mark.parametrize(
    "thirds", ["0.33333 0.66667", "0.3333 0.6667", "0.333 0.667", "0.333 0.666", ".33(1) .67(1)"]
)
def test_thirds_of_few_digits_stay_one_site(thirds):
    symmetry = "_symmetry_space_group_name_H-M 'P 63/m m c'"
    cell = (2.504, 2.504, 6.661, 90, 90, 120)
    sites = (f"B1 B {thirds} 0.25 1", f"N1 N {thirds} 0.75 1")
    crystal = read_cif(cif(symmetry, sites, cell, "B N/2"))
    exact = "0.3333333333333 0.6666666666667"
    sites = (f"B1 B {exact} 0.25 1", f"N1 N {exact} 0.75 1")
    assert crystal.n_atoms == 4
    assert fingerprint(crystal) == fingerprint(read_cif(cif(symmetry, sites, cell)))


def test_a_volume_or_multiplicity_that_is_not_true_is_refused():
    assert code_of(salt(NAMED + "_cell_volume 100")) == "cif-cell"
    check_salt(salt(NAMED + "_cell_volume 179.4(2)"))
    tags = f"{TAGS} symmetry_multiplicity"
    check_salt(salt(sites=tuple(f"{site} 4" for site in NACL), tags=tags))
    assert code_of(salt(sites=tuple(f"{site} 8" for site in NACL), tags=tags)) == "cif-symmetry"


@pytest.mark.parametrize("formula", ["Na4 Cl4/4", "NaCl/4", "NA CL/4", "Na4 Cl4/1", "Cl Na"])
def test_the_formula_may_be_that_of_the_cell(formula):
    check_salt(salt(formula=formula))


def test_pymatgen_does_not_reduce_the_formulas_of_peroxides():
    # K2O2, whose cell of K4 O4 holds two
    places = "0 0 0", "0.5 0.5 0", "0.5 0 0.5", "0 0.5 0.5"
    oxygen = "0.5 0.5 0.5", "0 0 0.5", "0 0.5 0", "0.5 0 0"
    sites = [*(f"K K {p} 1" for p in places), *(f"O O {p} 1" for p in oxygen)]
    named = "_symmetry_space_group_name_H-M 'P 1'"
    assert read_cif(cif(named, sites, formula="K4 O4/2")).n_atoms == 8


@pytest.mark.parametrize("formula", ["Na4 Cl4/2", "Na Cl2/4", "K Cl/4", "Na Cl/8"])
def test_a_formula_that_the_sites_do_not_make_is_refused(formula):
    assert code_of(salt(formula=formula)) == "cif-composition"


def test_all_settings_are_groups_and_found_by_their_names():
    assert len(all_settings()) == 530
    for setting in all_settings()[::7]:
        operations = operations_of(setting.hall_number)
        assert operations.space_group_number() == setting.number
        for name in setting.names:
            assert setting in named(name)


def test_operations_are_read_in_all_their_spellings():
    plain = parse_operations(("x,y,z", "-x,y+1/2,-z+1/2"))
    for second in ("1/2-Z", "0.5 - z", "-z-1/2", "-1*z+.5", "+1/2-z"):
        assert plain.same_as(parse_operations(("X, Y, Z", f"-x,1/2+y,{second}")))


def test_atoms_on_top_of_each_other_are_refused():
    sites = (*NACL, "K1 K 0.01 0 0 1")
    assert code_of(salt(sites=sites, formula="")) == "cif-overlap"
    assert code_of(salt(sites=(*NACL, NACL[0]), formula="")) == "cif-overlap"


def test_a_setting_is_not_excluded_because_its_atoms_are_near():
    # In the first origin choice these general positions nearly coincide; nothing says it is wrong.
    symmetry = "_symmetry_space_group_name_H-M 'F d -3 m'"
    place = "Si Si 0.12 0.125 0.125 1"
    assert code_of(cif(symmetry, [place], SILICON)) in {"cif-overlap", "cif-symmetry"}


@pytest.mark.parametrize(("n_atoms", "units"), [(1, 0), (5, 2), (4, 2)])
@pytest.mark.filterwarnings("ignore")
def test_pymatgen_counts_the_formula_units_of_gases_as_molecules(n_atoms, units):
    sites = [[0.1 + 0.19 * place, 0.3, 0.4] for place in range(n_atoms)]
    text = str(CifWriter(Structure(Lattice.cubic(9.0), ["O"] * n_atoms, sites)))
    assert f"_cell_formula_units_Z   {units}\n" in text
    assert read_cif(text).n_atoms == n_atoms
    wrong = text.replace(f"_units_Z   {units}\n", f"_units_Z   {units + 3}\n")
    assert code_of(wrong) == "cif-composition"


def test_atoms_near_in_a_setting_that_nothing_states_are_told_as_such():
    # At right angles b or c may be the axis of the group; with c, the two atoms nearly meet.
    sites = ("Mg Mg 0.1513 0 0.1628 1", "Zn Zn 0.1368 0 0.8408 1")
    symbol = "_symmetry_space_group_name_H-M 'P 2/m'"
    with pytest.raises(InvalidInputError) as caught:
        read_cif(cif(symbol, sites, (12.1, 8.56, 48.4, 90, 90, 90)))
    assert caught.value.code == "invalid-input.cif-overlap"
    assert "0.25 Å" in caught.value.message
    assert "in one of the 3 settings" in caught.value.message
    with pytest.raises(InvalidInputError) as stated:
        read_cif(salt(sites=(*NACL, "K1 K 0.01 0 0 1"), formula=""))
    assert "settings" not in stated.value.message


def test_a_symbol_of_earlier_editions_stands_for_its_setting_alone():
    def choices(symbol):
        return {setting.choice for setting in named(symbol)}

    assert choices("C c c a:2") == {"2"}
    assert "2ba-c" in choices("C c c b:2")  # with others: only the cell or formula may decide
    assert choices("P n c b:2") == {"2cab"}
    assert choices("F d -3 m:2") == {"2"}
