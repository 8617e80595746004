"""Datasets: what is live after replacements and retractions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moma_cl.datasets.segments import SegmentRows, describe, live_rows, pack_text, unpack_text
from moma_cl.structures.crystals import Crystal, PackedCrystals


def segment(ids, first_target=0.0):
    crystal = Crystal(
        lattice=3.0 * np.eye(3), atomic_numbers=np.array([11]), frac_coords=np.zeros((1, 3))
    )
    n_rows = len(ids)
    return SegmentRows(
        ids=tuple(ids),
        crystals=PackedCrystals.pack([crystal] * n_rows),
        targets=first_target + np.arange(n_rows),
        fingerprints=np.arange(n_rows, dtype=np.uint64),
        folds=np.arange(n_rows, dtype=np.uint8) % 3,
        formulas=("Na1",) * n_rows,
    )


def test_a_later_row_replaces_an_earlier_one_of_its_id():
    live = live_rows([("a", segment(["x", "y"])), ("b", segment(["y", "z"], 10.0))])
    assert live.ids == ("x", "y", "z")
    assert live.targets.tolist() == [0.0, 10.0, 11.0]
    assert [kept.tolist() for kept in live.kept] == [[0], [0, 1]]


def test_a_retracted_row_is_gone_and_may_come_back():
    first, gone = ("a", segment(["x", "y"])), ("b", frozenset({"x"}))
    assert live_rows([first, gone]).ids == ("y",)
    assert live_rows([first, gone, ("c", segment(["x"], 5.0))]).targets.tolist() == [1.0, 5.0]


def test_a_dataset_counts_its_live_rows_by_fold():
    live = live_rows([("a", segment(["x", "y", "z", "w"])), ("b", frozenset({"x"}))])
    dataset = describe(live, ("a", "b"), "previous")
    assert (dataset.n_rows, dataset.n_train, dataset.n_validation, dataset.n_held_out) == (
        3,
        1,
        1,
        1,
    )


def test_a_segment_without_rows_is_no_trouble():
    live = live_rows([("a", segment([])), ("b", segment(["x"]))])
    assert live.ids == ("x",)


def test_segments_survive_their_arrays():
    rows = segment(["ä", "日本", ""], 2.5)
    again = SegmentRows.from_arrays(rows.to_arrays())
    assert again.ids == rows.ids
    assert np.array_equal(again.targets, rows.targets)
    assert len(again.crystals) == 3


@given(st.lists(st.text()))
def test_text_survives_packing(texts):
    assert unpack_text("t", pack_text("t", texts)) == tuple(texts)


@given(
    st.lists(
        st.one_of(
            st.lists(st.sampled_from("abcdef"), unique=True).map(segment),
            st.frozensets(st.sampled_from("abcdef")),
        ),
        max_size=6,
    )
)
def test_live_rows_are_those_of_a_plain_dictionary(contents):
    model = {}
    for position, content in enumerate(contents):
        if isinstance(content, frozenset):
            for row_id in content:
                model.pop(row_id, None)
        else:
            model.update({row_id: (position, row) for row, row_id in enumerate(content.ids)})
    live = live_rows([(str(position), content) for position, content in enumerate(contents)])
    assert dict.fromkeys(live.ids) == dict.fromkeys(sorted(model, key=lambda row_id: model[row_id]))
    pairs = [
        (int(digest), int(row))
        for digest, kept in zip(live.segments, live.kept, strict=True)
        for row in kept
    ]
    assert pairs == sorted(model.values())
