"""What readers see and use in a notebook: menus where they can choose, a static view where they can't."""

import ipywidgets
import matplotlib.pyplot as plt
import pytest

from hw2_utils import plots


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


def test_a_token_strip_shows_line_ends_and_dollars_as_they_are():
    figure, axes = plt.subplots()
    plots.token_strip(axes, [(" $a$", 0.9), ("\n", 0.1)], title="$x$")
    figure.canvas.draw()  # a formula would fail or change here
    assert [t.get_text() for t in axes.texts] == [" $a$", "\\n"]
    assert [t.get_color() for t in axes.texts] == ["white", "black"]
    plt.close(figure)
