"""Figures that read in print, in grey and by colour-blind people."""

from __future__ import annotations

import functools
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import clear_output, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from hw2_utils import paths
from hw2_utils.errors import InputError
from hw2_utils.pictures import open_image

# Okabe and Ito 2008, "Color Universal Design", ordered so that neighbours differ in lightness too
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH_IN = 6.3


def style() -> None:
    """Figures as wide as a text column, fonts that a PDF embeds; tables' numbers for people."""
    pd.set_option("display.float_format", number)
    plt.rcdefaults()  # whatever the user's own matplotlibrc says
    plt.rcParams.update(
        {
            "text.parse_math": False,  # a class or a topic may hold a dollar sign
            "figure.figsize": (WIDTH_IN, 3.2),
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "pdf.fonttype": 42,
            "legend.frameon": False,
        }
    )


def number(value: float) -> str:
    """A number for a table: 1,234 or 0.123, and 1.2e-04 for a tiny one."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.1e}"


def text(line: object, longest: int = 60) -> str:
    """Any text on one line of a figure: a long one is cut, what the font lacks shows its code."""
    plain = re.sub(r"[^\S ]+", " ", str(line))
    plain = plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
    return "".join(c if ord(c) in _glyphs() else f"U+{ord(c):04X}" for c in plain)


@functools.cache
def _glyphs() -> frozenset[int]:
    """The characters of the font that comes with matplotlib, which `style` chooses."""
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def intervals(
    axes: Axes,
    rows: pd.DataFrame,
    *,
    label: str = "method",
    offset: float = 0.0,
    colour: int = 0,
    name: str | None = None,
    seeds: pd.DataFrame | None = None,
    seeds_below: float = 0.22,
) -> None:
    """One point with its 95 % interval for each row (columns `label`, value, low, high).

    Rows run from top to bottom. Small open circles, `seeds_below` (in rows) each point, are the
    `seeds`' own values: the rows of that frame (same columns) that have a seed.
    """
    y = np.arange(len(rows))[::-1] - offset
    value = rows["value"].to_numpy(float)
    low = value - rows["low"].fillna(rows["value"]).to_numpy(float)
    high = rows["high"].fillna(rows["value"]).to_numpy(float) - value
    axes.errorbar(
        value,
        y,
        xerr=np.clip([low, high], 0, None),
        fmt=MARKERS[colour],
        color=COLOURS[colour],
        capsize=3,
        markersize=5,
        label=name,
    )
    if seeds is not None:
        places = dict(zip(rows[label], y - seeds_below, strict=True))
        _seed_points(axes, seeds, places, label, colour)
    axes.set_yticks(np.arange(len(rows))[::-1], [*map(text, rows[label])])
    axes.grid(axis="x", alpha=0.3)


def _seed_points(
    axes: Axes, rows: pd.DataFrame, place: dict[str, float], label: str, colour: int
) -> None:
    each = rows[rows["seed"].notna() & rows[label].isin(place)]
    points = {"s": 9, "facecolors": "none", "edgecolors": COLOURS[colour], "linewidths": 0.7}
    axes.scatter(each["value"], each[label].map(place), **points)


def curves(axes: Axes, frame: pd.DataFrame, *, x: str, y: str, by: str, smooth: int = 1) -> None:
    """One line for each value of `by`: the mean over seeds, the seeds' range shaded."""
    for i, (name, group) in enumerate(frame.groupby(by, sort=False)):
        wide = (
            group.pivot_table(index=x, columns="seed", values=y)
            .rolling(smooth, min_periods=1)
            .mean()
        )
        axes.plot(
            wide.index,
            wide.mean(axis=1),
            color=COLOURS[i % 7],
            linestyle=("-", "--", ":", "-.")[i % 4],
            label=text(name),
        )
        axes.fill_between(
            wide.index,
            wide.min(axis=1),
            wide.max(axis=1),
            color=COLOURS[i % 7],
            alpha=0.15,
            linewidth=0,
        )
    axes.set_xlabel(x.replace("_", " "))
    axes.set_ylabel(y.replace("_", " "))
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize="small"
    )  # above: curves go anywhere


def accuracy_and_curves(
    rows: pd.DataFrame, curves_frame: pd.DataFrame, *, x: str, y: str, smooth: int = 1
) -> Figure:
    """Left the methods' test accuracy (tidy `rows` of a run), right their learning curves."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.8))
    accuracy = rows.query("name == 'accuracy' and split == 'test' and group == 'all'")
    intervals(left, accuracy[accuracy["seed"].isna()], seeds=accuracy)
    left.set_xlabel("test accuracy (circles: seeds)")
    curves(right, curves_frame, x=x, y=y, by="method", smooth=smooth)
    figure.tight_layout()
    return figure


def costs_and_accuracy(table: pd.DataFrame, costs: dict[str, str]) -> Figure:
    """Accuracy over each of the `costs` (row of `table`: axis label); a column is a method."""
    figure, panels = plt.subplots(1, len(costs), figsize=(WIDTH_IN, 2.4), sharey=True)
    for axes, (cost, label) in zip(panels, costs.items(), strict=True):
        for i, method in enumerate(table.columns):
            if pd.notna(table.loc[cost, method]):
                point = table.loc[cost, method], table.loc["accuracy", method]
                axes.plot(*point, MARKERS[i], color=COLOURS[i], label=text(method))
        axes.set(xlabel=label, xlim=(0, 1.1 * table.loc[cost].max()))
    panels[0].set_ylabel("test accuracy")
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def sweep(tables: Sequence[pd.DataFrame]) -> Figure:
    """The runs of some sweeps (`sweep_tables`): their difference to `full`, and their costs.

    Filled squares are the Pareto front: no run that costs less is as accurate. A line parts sweeps.
    """
    points = pd.concat([table.rename_axis("label").reset_index() for table in tables])
    points = points.rename(columns={"minus full": "value"}).reset_index(drop=True)
    costs = [cost for cost in ("peak MiB", "training, s") if cost in points]
    size = (WIDTH_IN, 0.7 + 0.24 * len(points))
    widths = (3, *(2 for _ in costs))
    figure, (left, *panels) = plt.subplots(
        1, 1 + len(costs), figsize=size, sharey=True, width_ratios=widths
    )
    intervals(left, points, label="label")
    left.axvline(0, color="grey", lw=0.8)
    left.set_xlabel("accuracy minus full's")
    left.tick_params(axis="y", labelsize=7)
    height = np.arange(len(points))[::-1]
    for axes, cost in zip(panels, costs, strict=True):
        known = points[points[cost].notna()]
        best_first = known.sort_values([cost, "value"], ascending=[True, False])
        front = best_first["value"].cummax().drop_duplicates().index
        axes.plot(points[cost], height, "s", color=COLOURS[1], mfc="none")
        axes.plot(points[cost][front], height[front], "s", color=COLOURS[1])
        axes.set(xlabel=cost, xlim=(0, 1.1 * points[cost].max()))
    for edge in np.cumsum([len(table) for table in tables])[:-1]:
        for axes in (left, *panels):
            axes.axhline(len(points) - edge - 0.5, color="grey", lw=0.5)
    figure.tight_layout()
    return figure


def confusion(
    axes: Axes, labels: Sequence[str], predictions: Sequence[str], classes: Sequence[str]
) -> None:
    """Shares of each true class's predictions [n_classes, n_classes], rows are the truth."""
    table = pd.crosstab(
        pd.Categorical(labels, classes),
        pd.Categorical(predictions, classes),
        dropna=False,
        normalize="index",
    )
    axes.imshow(
        table.reindex(index=classes, columns=classes, fill_value=0), cmap="Greys", vmin=0, vmax=1
    )
    names = [text(name) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=90, fontsize=6)
    axes.set_yticks(range(len(classes)), names, fontsize=6)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def reliability(axes: Axes, frame: pd.DataFrame, *, name: str, colour: int = 0) -> None:
    """How often the likeliest answer is right, by ten bins of its probability.

    On the diagonal a probability means what it says.
    """
    confidence = np.exp(np.stack(frame["log_probs"]).max(axis=1))
    bins = pd.DataFrame(
        {"p": confidence, "right": frame["label"].to_numpy() == frame["prediction"].to_numpy()}
    )
    found = bins.groupby(np.minimum((confidence * 10).astype(int), 9)).agg(
        p=("p", "mean"), right=("right", "mean"), n=("p", "size")
    )
    axes.plot([0, 1], [0, 1], color="grey", lw=0.8)
    axes.scatter(
        found["p"],
        found["right"],
        s=4 + 200 * found["n"] / len(frame),
        color=COLOURS[colour],
        marker=MARKERS[colour],
        label=name,
        alpha=0.8,
    )
    axes.set(xlabel="probability of the likeliest answer", ylabel="share that is right")


def calibration(predictions: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """`reliability` of some methods (columns method, label, prediction, log_probs)."""
    figure, axes = plt.subplots(figsize=(3.2, 3))
    for i, method in enumerate(methods):
        reliability(axes, predictions[predictions["method"] == method], name=method, colour=i)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def pictures(files: Sequence[Path], texts: Sequence[str], *, columns: int = 3) -> Figure:
    """A grid of picture files, each with its text above it (a dollar sign starts no formula)."""
    n_rows, width = -(-len(files) // columns), 105 // columns  # of a line, in characters
    figure, axes = plt.subplots(n_rows, columns, figsize=(WIDTH_IN, 2.3 * n_rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, file, title in zip(axes.flat, files, texts, strict=False):
        ax.imshow(open_image(file))
        known = [text(line, 120) for line in title.split("\n")]
        lines = [part for line in known for part in textwrap.wrap(line, width)]
        ax.set_title("\n".join(lines), fontsize=7, loc="left", parse_math=False)
    figure.tight_layout()
    return figure


def answered(
    predictions: pd.DataFrame,
    questions: pd.Series,
    image_paths: Mapping[str, Path],
    *,
    most: int = 6,
) -> Figure:
    """Questions drawn at random, each with its picture, the true answer and the method's.

    `questions`: texts by example id.
    """
    drawn = predictions.sample(min(most, len(predictions)), random_state=0)
    titles = [
        f"{questions[row.id]}\ntrue: {row.label}   {row.method}: {row.prediction}"
        for row in drawn.itertuples()
    ]
    return pictures([image_paths[i] for i in drawn["image_id"]], titles)


def answer_bars(file: Path, answers: pd.Series, *, title: str) -> Figure:
    """A picture, and beside it the probability of each answer (`answers`: likeliest first)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, 2), layout="constrained")
    left.imshow(open_image(file))
    left.axis("off")
    right.barh([*map(text, answers.index[::-1])], answers[::-1], color=COLOURS[0])
    right.set(xlim=(0, 1), xlabel="probability")
    figure.suptitle(text(title, 110), fontsize=8, parse_math=False)
    return figure


def occlusions(probabilities: pd.DataFrame, drops: pd.DataFrame, *, title: str) -> Figure:
    """Above the classes' probabilities, below the tokens' drops; a column of each is a method."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH_IN, 3.6))
    bars = {"rot": 0, "ylim": (0, 1), "ylabel": "probability"}
    names = {method: text(f"{method}: {top}", 30) for method, top in probabilities.idxmax().items()}
    probabilities.rename(text).rename(columns=names).plot.bar(ax=above, **bars)
    above.legend(loc="upper left", bbox_to_anchor=(1, 1))
    if len(drops):
        tokens = [text(repr(token)[1:-1], 20) for token in drops.index]
        drops.set_axis(tokens).plot.bar(ax=below, legend=False, ylabel="drop without it")
        below.tick_params(axis="x", labelsize=6)
    lines = "\n".join(text(line, 120) for line in textwrap.wrap(title, 110))
    figure.suptitle(lines, fontsize=8, parse_math=False)
    figure.tight_layout()
    return figure


def token_strip(axes: Axes, tokens: Sequence[tuple[str, float]], *, title: str) -> None:
    """Tokens side by side, each on its probability's grey (black = 1)."""
    axes.imshow([[p for _, p in tokens] or [0.0]], cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for i, (token, p) in enumerate(tokens):
        axes.text(
            i,
            0,
            text(repr(token)[1:-1]),
            rotation=90,
            ha="center",
            va="center",
            fontsize=6,
            parse_math=False,
            color="white" if p > 0.5 else "black",
        )
    axes.set_title(text(title, 110), fontsize=8, loc="left", parse_math=False)
    axes.axis("off")


def explore(show: Callable[..., Figure | None], **choices: Sequence[str]) -> None:
    """Shows the figure that `show` draws for what a reader chooses, and what it prints.

    A reader gets a menu for a list and a line to type in for a text. Under the strict runner, where
    nobody can choose, the first choices are shown once: a static view.
    """
    import ipywidgets

    if paths.under_runner():
        firsts = {name: v if isinstance(v, str) else v[0] for name, v in choices.items()}
        _show_answer(show, firsts)
        return
    typed = {"continuous_update": False, "layout": {"width": "95%"}}  # a tweet is read as a whole
    controls = {
        name: ipywidgets.Text(value, **typed) if isinstance(value, str) else value
        for name, value in choices.items()
    }

    def answer(**chosen: str) -> None:
        print("working…")
        _show_answer(show, chosen)

    ipywidgets.interact(answer, **controls)


def _show_answer(show: Callable[..., Figure | None], chosen: Mapping[str, str]) -> None:
    """Closes the figure before it is displayed.

    JupyterLab handles a widget's later messages in other threads, and pyplot's hook after each of
    them draws every open figure: two drawings of one figure at a time leave it blank or half drawn.
    """
    printed, figure = io.StringIO(), None
    try:
        with plt.ioff(), redirect_stdout(printed):
            figure = show(**chosen)
            if figure is not None:
                plt.close(figure)
    except InputError as error:  # of what was typed: the reader tries again
        print(error, file=printed)
    clear_output(wait=True)
    print(printed.getvalue(), end="")
    if figure is not None:
        display(figure)
