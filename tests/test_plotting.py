import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from course_utils.plotting import category_style, plot_bands, plot_embedding, plot_history, set_title


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


class Data:
    def __init__(self, *, is_standin):
        self.is_standin = is_standin


def test_a_title_says_standin_only_of_a_standin():
    ax = plt.subplots()[1]
    set_title(ax, "Degrees", Data(is_standin=False))
    assert ax.get_title() == "Degrees"
    set_title(ax, "Degrees", Data(is_standin=True))
    assert ax.get_title() == "Degrees (stand-in)"


def test_fifty_groups_have_fifty_styles():
    assert len({tuple(category_style(i).items()) for i in range(50)}) == 50


def test_history_is_drawn_and_its_last_value_written():
    history = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.25]})
    ax = plot_history(history, ["loss"])
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [(1, 3), (2, 2), (3, 1.25)])
    assert ax.get_xlabel() == "epoch"
    assert ax.texts[0].get_text() == " loss 1.25"


def test_a_missing_column_is_an_error_that_lists_the_columns():
    with pytest.raises(KeyError, match=r"no column \['accuracy'\]. It has \['epoch', 'loss'\]"):
        plot_history(pd.DataFrame({"epoch": [1], "loss": [2]}), ["accuracy"])


def test_each_group_of_an_embedding_is_named_at_its_middle():
    points = np.array([[0, 0], [0, 2], [0, 1], [5, 5]])
    ax = plot_embedding(points, ["a", "a", "a", "b"])
    assert {(t.get_text(), *t.get_position()) for t in ax.texts} == {("a", 0.0, 1.0), ("b", 5.0, 5.0)}


@pytest.mark.parametrize(("points", "groups"), [(np.zeros((3, 3)), "abc"), (np.zeros((3, 2)), "ab")])
def test_an_embedding_that_is_not_in_the_plane_is_an_error(points, groups):
    with pytest.raises(ValueError, match=r"points must be \(N, 2\) with N names"):
        plot_embedding(points, list(groups))


def test_bands_show_mean_and_spread_of_the_trials():
    table = pd.DataFrame(
        {
            "depth": [4, 2, 2, 4, 2],
            "accuracy": [0.5, 0.7, 0.9, 0.7, float("nan")],  # the last trial failed
            "cure": ["none"] * 5,
        }
    )
    ax = plot_bands(table, "depth", "accuracy")
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [2, 4]
    assert line.get_ydata() == pytest.approx([0.8, 0.6])
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(0.5)  # 0.6 - 0.1
    assert corners[:, 1].max() == pytest.approx(0.9)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_legend()) == ("depth", "accuracy", None)


def test_bands_have_a_line_and_a_name_for_each_group():
    table = pd.DataFrame({"depth": [1, 2] * 2, "accuracy": [1, 2, 3, 4], "cure": ["b", "b", "a", "a"]})
    ax = plot_bands(table, "depth", "accuracy", by="cure")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["b", "a"]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1, 2], [3, 4]]
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in ax.lines}
    assert len({look[0] for look in looks}) == len({look[2] for look in looks}) == 2
    with pytest.raises(KeyError, match=r"no column \['depths'\]\. It has \['depth', 'accuracy', 'cure'\]"):
        plot_bands(table, "depths", "accuracy")
