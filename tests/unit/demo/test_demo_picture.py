"""The picture of weights and errors."""

from dataclasses import replace

import numpy as np

from moma_cl.demo.gains import Gain, TaskSummary
from moma_cl.demo.picture import OTHERS, _matrix, weights_picture


def rows():
    gain = Gain(error_without=20.0, error_with=18.0, interval=(-3.0, -1.0))
    common = {"unit": "10⁻⁶ K⁻¹", "rows": 50, "error_answering": 18.0}
    return [
        TaskSummary(task="first", weights={"backbone": 1.0}, excluded={}, gain=gain, **common),
        TaskSummary(
            task="second_of_them",
            weights={"first": 0.996, "backbone": 0.004},
            excluded={"first": "why"},
            gain=None,
            **common,
        ),
    ]


def test_equal_hubs_give_equal_pictures(tmp_path):
    for name in ("a.png", "b.png"):
        weights_picture(rows(), tmp_path / name, title="A title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_picture_shows_the_weights(tmp_path):
    weights_picture(rows(), tmp_path / "picture.svg", title="A title")
    weights_picture(rows()[:1], tmp_path / "other.svg", title="A title")
    texts = (tmp_path / "picture.svg").read_text()
    # matplotlib leaves the text of each label in a comment beside its outlines
    assert all(f"<!-- {word} -->" in texts for word in ("100", "own", "barred", "&lt;1", "A title"))
    assert "barred -->" not in (tmp_path / "other.svg").read_text().split("own:")[0]


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    weights_picture(rows(), tmp_path / "picture.png", title="A title")
    assert dict(mpl.rcParams) == before


def test_weights_of_modules_that_are_no_tasks_are_shown_together(tmp_path):
    first, second = rows()
    mixed = replace(second, weights={"first": 0.4, "mp_band_gap": 0.35, "slabs": 0.25})
    shown = _matrix([first, mixed], ["backbone", "first", "second_of_them", OTHERS])
    assert np.allclose(shown, [[1, 0, 0, 0], [0, 0.4, 0, 0.6]])
    weights_picture([first, mixed], tmp_path / "wide.png", title="A title")
    weights_picture([first, second], tmp_path / "narrow.png", title="A title")
    assert (tmp_path / "wide.png").read_bytes() != (tmp_path / "narrow.png").read_bytes()
