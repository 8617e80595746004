"""Several tasks from one table."""

import pytest

from moma_cl.commands.add_tasks import find_targets
from moma_cl.hub import Hub
from moma_cl.readers import dispatch
from moma_cl.readers.memory import sources_of
from moma_cl.records.records import ModuleKind
from moma_store.errors import AlreadyExistsError, InvalidInputError
from tests.helpers.hubs import refs


@pytest.fixture
def rows(made_up):
    """A table with two properties, of which one names its unit, a remark and a flag."""
    return [
        {
            "id": row["id"],
            "structure": row["structure"],
            "gap [meV]": 1000 * row["gap"],
            "bulk_modulus": row["modulus"],
            "remark": "none",
            "seen": True,
            "spin": number,
        }
        for number, row in enumerate(made_up(40))
    ]


def test_columns_with_numbers_are_found_with_their_units(rows):
    rows[0]["bulk_modulus"] = None
    found = find_targets(sources_of(rows))
    assert found == {"gap": "meV", "bulk_modulus": "GPa", "spin": None}


def test_each_column_becomes_a_task_and_rows_are_read_once(hub, rows, monkeypatch):
    readings = []
    read = dispatch.read_rows
    monkeypatch.setattr(
        dispatch, "read_rows", lambda *given, **how: readings.append(given) or read(*given, **how)
    )
    added = Hub(hub).add_tasks(rows, ["gap", "bulk_modulus"], module=ModuleKind.NONE)
    assert len(readings) == 1
    assert [(one.task, one.rows) for one in added.added] == [("gap", 40), ("bulk_modulus", 40)]
    assert [(task.name, task.unit) for task in Hub(hub).tasks()] == [
        ("bulk_modulus", "GPa"),
        ("gap", "meV"),
    ]
    assert {entry.task for entry in added.done} >= {"gap", "bulk_modulus"}
    alike = Hub(hub).predict(["gap", "bulk_modulus"], rows[:3])
    assert [row.unit for row in alike] == ["meV", "GPa"] * 3


def test_the_tasks_are_those_that_add_task_makes(hub, rows, tmp_path):
    from tests.helpers import hubs

    Hub(hub).add_tasks(rows, ["gap", "bulk_modulus"], module=ModuleKind.NONE)
    other = hubs.make_hub(tmp_path / "other", starter=False)
    for name, unit in (("gap", "meV"), ("bulk_modulus", "GPa")):
        Hub(other).add_task(name, rows, target=name, unit=unit, module=ModuleKind.NONE)
    same = [ref for ref in refs(hub) if ref.startswith(("tasks/", "recipes/"))]
    assert len(same) == 4
    assert {ref: refs(hub)[ref] for ref in same} == {ref: refs(other)[ref] for ref in same}


def test_rows_without_a_value_are_refused_for_their_task_alone(hub, rows):
    rows[3]["bulk_modulus"] = None
    added = Hub(hub).add_tasks(rows, ["gap", "bulk_modulus"], compose=False)
    assert [len(one.refusals) for one in added.added] == [0, 1]
    assert [one.rows for one in added.added] == [40, 39]


@pytest.mark.parametrize(
    ("targets", "units", "said"),
    [
        (None, {}, "nothing says in which unit 'spin' are"),
        (["gap", "nothing"], {}, "no row of the data has a column 'nothing'"),
        (["gap", "spin"], {"spin": "bananas"}, "bananas"),
        ([], {}, "no column holds numbers"),
        (["gap", "remark"], {"remark": "1"}, "no row that can be used"),
    ],
)
def test_if_one_task_is_refused_none_is_added(hub, rows, targets, units, said):
    before = refs(hub)
    with pytest.raises(InvalidInputError, match=said):
        Hub(hub).add_tasks(rows, targets, units=units)
    assert refs(hub) == before


def test_a_name_that_is_taken_is_refused_before_anything_is_stored(hub, rows):
    Hub(hub).add_task("gap", rows, target="gap", unit="meV", compose=False)
    before = refs(hub)
    with pytest.raises(AlreadyExistsError):
        Hub(hub).add_tasks(rows, ["bulk_modulus", "gap"])
    assert refs(hub) == before


def test_columns_whose_names_make_one_task_are_refused(hub, rows):
    twins = [{**row, "a b": 1.0 * place, "a_b": 2.0} for place, row in enumerate(rows)]
    with pytest.raises(InvalidInputError, match="would both be task 'a_b'"):
        Hub(hub).add_tasks(twins, ["a b", "a_b"], units={"a b": "1", "a_b": "1"})


def test_a_dry_run_stores_nothing(hub, rows):
    before = refs(hub)
    added = Hub(hub).add_tasks(rows, ["gap", "bulk_modulus"], dry_run=True)
    assert [one.rows for one in added.added] == [40, 40]
    assert refs(hub) == before
