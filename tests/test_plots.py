"""What readers see and use in a notebook: menus where they can choose, else a static view."""

import warnings

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hw2_utils import plots
from hw2_utils.errors import require

HOSTILE = [
    r"$\input{x}$",
    "$",
    "a_b^c%#&~{}",
    r"\alpha \frac",
    "line\nbreak\ttab",
    "x" * 500,
    "$" + "y" * 500 + "$",
    "שלום עולם مرحبا",
    "中文 😀",
    "nul\0 zero\u200bwidth",
    "ärger",
    "_hidden",
    "<b>&amp;",
    "",
]


def test_a_reader_chooses_from_menus_and_types_texts(monkeypatch):
    monkeypatch.delenv("HW2_RUNNER", raising=False)
    seen, made = [], []
    display = ipywidgets.interaction.display
    monkeypatch.setattr(
        ipywidgets.interaction, "display", lambda thing: (made.append(thing), display(thing))
    )
    plots.explore(lambda kind, text: seen.append((kind, text)), kind=["a", "b"], text="x")
    menu, line, _output = made[0].children
    menu.value, line.value = "b", "y"
    assert seen == [("a", "x"), ("b", "x"), ("b", "y")]
    assert isinstance(line, ipywidgets.Text) and not line.continuous_update


def test_run_without_a_reader_it_shows_the_first_choices_and_no_widget(monkeypatch):
    monkeypatch.setenv("HW2_RUNNER", "1")
    monkeypatch.setattr(
        ipywidgets, "interact", lambda *_, **__: pytest.fail("a widget where nobody can use it")
    )
    seen = []
    plots.explore(lambda kind, text: seen.append((kind, text)), kind=["a", "b"], text="x")
    assert seen == [("a", "x")]


def test_an_explorer_shows_what_is_printed_its_figure_and_a_refusal(monkeypatch, capsys):
    monkeypatch.setenv("HW2_RUNNER", "1")
    displayed = []

    def display(figure: plt.Figure) -> None:
        assert not plt.get_fignums()  # closed: nothing shows it again or draws it at the same time
        displayed.append(figure)

    monkeypatch.setattr(plots, "display", display)

    def show(text: str) -> plt.Figure:
        print("asked", text)
        require(text != "?", "nothing is asked", where="text", todo="type one")
        return plt.figure()

    plots.explore(show, text="x")
    assert "asked x" in capsys.readouterr().out and len(displayed) == 1
    plots.explore(show, text="?")
    assert "text: nothing is asked" in capsys.readouterr().out and len(displayed) == 1


def test_a_token_strip_shows_line_ends_and_dollars_as_they_are():
    figure, axes = plt.subplots()
    plots.token_strip(axes, [(" $a$", 0.9), ("\n", 0.1)], title="$x$")
    figure.canvas.draw()  # a formula would fail or change here
    assert [t.get_text() for t in axes.texts] == [" $a$", "\\n"]
    assert [t.get_color() for t in axes.texts] == ["white", "black"]
    plt.close(figure)


# ---------------------------------------------------------------------------------- names from data
@pytest.fixture
def drawn(tmp_path):
    """Draws a figure as a run keeps it, without a warning; closes it."""
    plots.style()

    def draw(figure):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for suffix in ("png", "pdf"):
                figure.savefig(tmp_path / f"figure.{suffix}")
        with Image.open(tmp_path / "figure.png") as picture:
            assert max(picture.size) < 2000  # long names don't blow it up
        plt.close(figure)

    yield draw
    plt.close("all")


def shown(labels):
    return [label.get_text() for label in labels]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_is_shown_as_it_is_on_one_line(name):
    found = plots.text(name)
    assert len(found) <= 60 * 7 and "\n" not in found and "\0" not in found
    if name.isascii() and name.isprintable() and len(name) < 60:
        assert found == name


def test_codes_stand_for_what_the_font_lacks():
    assert plots.text("中ä🦜\0\ud800") == "U+4E2DäU+1F99CU+0000U+D800"


def test_classes_of_any_name_are_ticks_of_a_confusion(drawn):
    figure, axes = plt.subplots(figsize=(plots.WIDTH_IN, plots.WIDTH_IN))
    plots.confusion(axes, HOSTILE, HOSTILE[::-1], HOSTILE)
    assert shown(axes.get_yticklabels()) == shown(axes.get_xticklabels())
    assert shown(axes.get_yticklabels())[0] == HOSTILE[0]
    drawn(figure)


def test_methods_and_groups_of_any_name_are_ticks_and_legends(drawn):
    rows = pd.DataFrame({"method": HOSTILE, "value": 0.5, "low": 0.4, "high": 0.6})
    steps = {"step": [0, 1] * len(HOSTILE), "loss": 1.0, "seed": 0}
    frame = pd.DataFrame({**steps, "method": np.repeat(HOSTILE, 2)})
    figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH_IN, 2.8))
    plots.intervals(left, rows, name=HOSTILE[0])
    left.legend()
    kept = frame[~frame["method"].isin(["_hidden", ""])]  # a legend leaves those out
    plots.curves(right, kept, x="step", y="loss", by="method")
    assert shown(left.get_yticklabels())[0] == HOSTILE[0]
    assert HOSTILE[0] in shown(right.get_legend().get_texts())
    figure.tight_layout()
    drawn(figure)


@pytest.mark.parametrize("columns", [2, 3])
def test_a_long_question_stands_above_its_picture_as_a_whole(tmp_path, columns):
    file = tmp_path / "picture.png"
    Image.new("RGB", (8, 6)).save(file)
    question = "what is on the left side of the white night stand close to the window of the room"
    figure = plots.pictures([file] * columns, [f"{question}\ntrue: a"] * columns, columns=columns)
    figure.canvas.draw()
    title = figure.axes[0]._left_title
    assert title.get_text().replace("\n", " ") == f"{question} true: a"
    assert title.get_window_extent().width < figure.bbox.width / columns
    plt.close(figure)


def test_texts_above_pictures_and_tokens_are_shown(drawn, tmp_path):
    file = tmp_path / "picture.png"
    Image.new("RGB", (8, 6)).save(file)
    figure = plots.pictures([file] * len(HOSTILE), [f"{name}\ntrue: {name}" for name in HOSTILE])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == f"{HOSTILE[0]}\ntrue: {HOSTILE[0]}"
    drawn(figure)
    figure, axes = plt.subplots()
    plots.token_strip(axes, [(name, 0.5) for name in HOSTILE], title=HOSTILE[6])
    drawn(figure)
    shares = pd.DataFrame({"lora": 1 / len(HOSTILE)}, index=HOSTILE)
    for drops in (shares, shares.head(0)):  # a text may have no tokens but special ones
        figure = plots.occlusions(shares, drops, title=HOSTILE[0])
        assert shown(figure.axes[0].get_xticklabels())[0] == HOSTILE[0]
        drawn(figure)


def test_seeds_stand_as_open_circles_below_their_own_point():
    rows = pd.DataFrame({"method": ["a", "b"], "value": [0.5, 0.7], "low": [0.4, 0.6]})
    rows["high"] = rows["value"] + 0.1
    each = pd.DataFrame(
        {
            "method": ["b", "a", "a", "c", "a"],
            "value": [0.71, 0.49, 0.51, 0.9, 0.5],
            "seed": [0, 0, 1, 0, None],  # the last one is the mean over seeds
        }
    )
    figure, axes = plt.subplots()
    plots.intervals(axes, rows, offset=0.1, seeds=each, seeds_below=0.2)
    circles = axes.collections[-1]
    assert np.allclose(circles.get_offsets(), [[0.71, -0.3], [0.49, 0.7], [0.51, 0.7]])
    assert len(circles.get_facecolors()) == 0  # open
    plt.close(figure)
