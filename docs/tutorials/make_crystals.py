"""Write 312 crystals as CIF files: 300 with a made-up bulk modulus, 12 without."""

import random
from itertools import product
from pathlib import Path

from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii

LATTICES = {"rocksalt": 2.0, "zincblende": 2.31, "cesiumchloride": 1.155}  # a / bond length
CATIONS = ["Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd", "Pb", "Ag"]
ANIONS = ["F", "Cl", "Br", "I", "O", "S", "Se", "Te"]

random.seed(0)
crystals = list(product(LATTICES, CATIONS, ANIONS))
random.shuffle(crystals)
for folder in ("measured", "candidates"):
    Path(folder).mkdir()
with Path("measured/id_prop.csv").open("w") as table:
    print("id,bulk_modulus", file=table)
    for number, (lattice, cation, anion) in enumerate(crystals):
        bond = sum(covalent_radii[atomic_numbers[symbol]] for symbol in (cation, anion))  # Å
        atoms = bulk(cation + anion, lattice, a=LATTICES[lattice] * bond)
        name = f"{cation}{anion}-{lattice}"
        folder = "measured" if number < 300 else "candidates"
        atoms.write(f"{folder}/{name}.cif")
        if number < 300:  # GPa, with an error of 5 %
            print(f"{name},{3000 / bond**4 * random.gauss(1, 0.05):.1f}", file=table)
