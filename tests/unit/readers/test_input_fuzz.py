"""Mutated files of every format: no crash, no hang, each row with a status."""

from collections import Counter

import pytest

from moma_cl.readers.dispatch import Reader, Reading
from moma_cl.readers.text_parser import Limits, StructureParser
from moma_cl.structures.checks import check_crystal
from moma_cl.testing.input_files import mutants, valid_files


@pytest.fixture(scope="module")
def reader():
    with StructureParser(Limits()) as parser:
        yield Reader(parser, Reading())


def statuses(reader, folder, files):
    """Status of every row; by name, the files that hold none."""
    found, silent = Counter(), Counter()
    for name, content in files:
        path = folder / name
        path.write_bytes(content)
        rows = 0
        for row in reader.rows([path]):
            assert (row.crystal is None) == (row.error is not None)
            problem = row.error or check_crystal(row.crystal)
            found[problem.code if problem else "ok"] += 1
            rows += 1
        silent[path.suffix] += rows == 0
        path.unlink()
        assert not list(folder.iterdir())
    return found, silent


def test_the_files_that_are_spoiled_are_good(reader, tmp_path):
    found, silent = statuses(reader, tmp_path, [(f"a{s}", c) for s, c in valid_files().items()])
    assert set(found) == {"ok"}
    assert silent.total() == 0


@pytest.mark.parametrize("count", [390, pytest.param(50_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(7200)
def test_mutated_files_never_end_the_run(reader, tmp_path, count, capsys):
    found, silent = statuses(reader, tmp_path, mutants(0, count))
    with capsys.disabled():
        print(f"\n{count:,} mutated files, {found.total():,} rows: {dict(found.most_common())}")  # noqa: T201  promised count
    assert found["ok"] > 0.3 * count
    assert len(found) > 8
    assert silent.total() < 0.02 * count
