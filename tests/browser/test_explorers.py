"""A notebook in JupyterLab, as a reader has it in a browser: Run All, then its explorers.

A page of the browser is driven, not the kernel: what is seen is what a reader sees.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hw2_utils import paths

pytestmark = pytest.mark.slow

NAME = "03_vqa_resnet_sbert"
SMALL = "seeds = [0]; epochs = 2; max_train_examples = 300"
# Drawn slowly, so that the browser's answer to "working…" arrives meanwhile, in another thread:
# pyplot's hook after each message drew the figure there at the same time, and it was blank or half.
MENU = """
import threading
import time

threads = set()


class Witness(plt.Line2D):
    def draw(self, renderer):
        threads.add(threading.get_ident())
        time.sleep(0.3)


def browse(kind, name):
    print(f"{kind}; drawn so far by {len(threads)} at a time")
    threads.clear()
    files = list(data.image_paths.values())
    figure = plots.pictures(files[:6] if kind == "one" else files[6:12], [name] * 6)
    figure.axes[0].add_artist(Witness([], []))
    return figure


plots.explore(browse, kind=["one", "other"], name="a picture")
"""
IDLE = "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
NOTEBOOK = "jupyterapp.shell.currentWidget.content"
TO_LAST_CELL = f"{NOTEBOOK}.activeCellIndex = {NOTEBOOK}.widgets.length - 1"


# ------------------------------------------------------------------------------ the real things
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    system = shutil.which("chromium") or shutil.which("google-chrome")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=system, args=options)
        except sync_api.Error as error:
            pytest.skip(f"no Chromium here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab on copies of a project of its own, with little training."""
    root = tmp_path_factory.mktemp("browser") / "hw2"
    for folder in ("hw2_utils", "data", "workflow"):
        shutil.copytree(paths.ROOT / folder, root / folder)
    (root / "notebooks").mkdir()
    notebook = json.loads(paths.NOTEBOOKS.joinpath(f"{NAME}.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            cell["source"] += [f"\n{SMALL}"]
    menu = {"cell_type": "code", "id": "menu", "metadata": {}, "outputs": [], "source": MENU}
    notebook["cells"].append(menu | {"execution_count": None})
    (root / "notebooks" / f"{NAME}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")

    kept = {name: value for name, value in os.environ.items() if not name.startswith("HW2_")}
    said = root / "said.txt"
    words = ["lab", "--", "--no-browser", "--LabApp.expose_app_in_browser=True"]
    with said.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "hw2_utils", *words],
            cwd=root,
            env={**kept, "JUPYTER_CONFIG_DIR": str(root / "jupyter"), "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield address(said, server)
    finally:
        server.terminate()
        server.wait(timeout=60)


def address(said: Path, server: subprocess.Popen) -> str:
    """Of the copy of the notebook, as soon as the server has said where it runs."""
    end = time.monotonic() + 120
    while not (place := re.search(r"(http://127\.0\.0\.1:\d+/lab)\?(token=\w+)", said.read_text())):
        assert server.poll() is None and time.monotonic() < end, said.read_text()
        time.sleep(0.2)
    return f"{place[1]}/tree/lab/{NAME}.ipynb?{place[2]}&reset"


@pytest.fixture(scope="module")
def page(browser: Any, lab: str) -> Iterator[Any]:
    """The notebook, opened and run as a whole."""
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(60_000)
    page.goto(lab)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(IDLE)
    page.success = page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(IDLE)
    yield page
    page.close()


# ------------------------------------------------------------------------------- what is seen
def explorer(page: Any, number: int) -> Any:
    """The cell of an explorer, scrolled to: JupyterLab draws what is in sight."""
    page.evaluate(f"{TO_LAST_CELL}; {NOTEBOOK}.scrollToItem({NOTEBOOK}.widgets.length - 1, 'end')")
    cell = page.locator(".jp-Notebook .jp-Cell").filter(has=page.locator(".widget-interact"))
    cell = cell.nth(number)
    cell.scroll_into_view_if_needed()
    return cell


def figure(cell: Any) -> str:
    return cell.locator(".widget-output img").get_attribute("src") or ""


def next_figure(page: Any, cell: Any, before: str) -> str:
    """The one that comes after another."""
    end = time.monotonic() + 60
    while not (n_shown := cell.locator(".widget-output img").count()) or figure(cell) == before:
        assert time.monotonic() < end, f"no new figure; {n_shown} shown"
        page.wait_for_timeout(100)
    return figure(cell)


def is_drawn(source: str, rows: int, columns: int) -> bool:
    """Whether each field of a figure's grid has something other than white in its middle."""
    data = base64.b64decode(source.split(",")[1])
    grey = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    fields = [f for row in np.array_split(grey, rows) for f in np.array_split(row, columns, axis=1)]
    return all((field[field.shape[0] // 3 :] < 250).mean() > 0.2 for field in fields)


def keep(page: Any, name: str) -> None:
    """A screenshot for people, where they ask for them."""
    if folder := os.environ.get("HW2_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_run_all_ends_well_and_shows_no_error(page):
    assert page.success
    cells = page.evaluate(f"{NOTEBOOK}.model.sharedModel.toJSON().cells")
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"] == []
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")


def test_the_first_choices_of_a_menu_show_whole_figures(page):
    cell = explorer(page, 1)
    shown = figure(cell)
    assert is_drawn(shown, 2, 3)
    for choice in ("other", "one", "other"):
        cell.locator("select").select_option(label=choice)
        shown = next_figure(page, cell, shown)
        keep(page, f"menu_{choice}")
        assert is_drawn(shown, 2, 3), choice
        page.wait_for_function(IDLE)
        assert "by 1 at a time" in cell.locator(".widget-output pre").inner_text()


def test_a_typed_question_is_answered(page):
    cell = explorer(page, 0)
    shown = figure(cell)
    question = cell.locator("input").nth(1)
    question.fill("what is on the left side of the bed?")
    question.press("Enter")
    assert is_drawn(next_figure(page, cell, shown), 1, 1)
    keep(page, "question")


@pytest.mark.parametrize(
    ("field", "typed", "sentence"),
    [(0, "no such", "there is no picture 'no such'"), (1, " ", "nothing is asked")],
)
def test_what_cannot_be_answered_is_a_sentence(page, field, typed, sentence):
    cell = explorer(page, 0)
    line = cell.locator("input").nth(field)
    before = line.input_value()
    line.fill(typed)
    line.press("Enter")
    cell.locator(".widget-output pre", has_text=sentence).wait_for()
    keep(page, f"refused_{field}")
    assert cell.locator(".widget-output img").count() == 0
    assert "Traceback" not in cell.inner_text()
    line.fill(before)
    line.press("Enter")
    cell.locator(".widget-output img").wait_for()
