"""The HTML report over records made by the package: what a parser and a browser see."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat import v4

from hw2_utils import folders, parameters, paths, report, runs
from hw2_utils.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
CAPTION = 'Two bars, "quoted" & <b>bold</b>.'
HOSTILE = """<p>HARMLESS-TEXT</p><script>window.canary = 1</script>
<img src="http://example.invalid/a.png" onerror="window.canary = 2">
<a href="javascript:window.canary = 3" id="link">LINK-TEXT</a>\
<iframe src="http://example.invalid/b"></iframe>
<meta http-equiv="refresh" content="0; url=http://example.invalid/c">\
<svg onload="window.canary = 4"></svg>
<style>@import url("http://example.invalid/d.css"); body { display: none }</style>
<form action="http://example.invalid/e"></form>
<link rel="stylesheet" href="http://example.invalid/f.css"><base href="http://example.invalid/">
<div style="position: fixed">x</div>"""


def executed_notebook(png):
    """As papermill leaves one: Markdown with a formula, an output of each kind that could harm."""
    kinds = ("text/html", "text/markdown", "text/plain", "text/latex")
    display = [v4.new_output("display_data", {kind: HOSTILE}) for kind in kinds]
    script = {"application/javascript": "window.canary = 5", "text/plain": "SCRIPT-AS-TEXT"}
    display += [
        v4.new_output("stream", text=HOSTILE),
        v4.new_output("display_data", script),
        v4.new_output("error", ename="E", evalue="x", traceback=[HOSTILE]),
        v4.new_output(
            "display_data",
            {
                "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
                "text/html": pd.DataFrame({"column": [1]}).to_html(notebook=True),
            },
        ),
        v4.new_output("display_data", {"image/png": png}),
    ]
    cells = [
        v4.new_markdown_cell(
            "# Title\n\nIt trains $A < B$, in code `$A$`, and [a](javascript:window.canary=6)\n\n"
            "![p](http://example.invalid/g.png)\n\n$$\\frac{r}{d}$$"
        ),
        v4.new_code_cell(
            'run_dir = "/home/somebody/runs"',
            metadata={"tags": ["injected-parameters"]},
            execution_count=0,
        ),
        v4.new_code_cell(
            'run.figure(\n    "bars", figure, caption="...")', outputs=display, execution_count=1
        ),
    ]
    state = {
        "application/vnd.jupyter.widget-state+json": {
            "state": {},
            "version_major": 2,
            "version_minor": 0,
        }
    }
    return v4.new_notebook(
        cells=cells, metadata={"widgets": state, "language_info": {"name": "python"}}
    )


def make_run(name, folder, *, profile="sample"):
    """A complete run of a committed notebook: 3 of 4 test answers right."""
    values = {
        **parameters.declared(name),
        "profile": profile,
        "run_dir": str(folder),
        "device": "cpu",
    }
    run = runs.start(name, values)
    frame = pd.DataFrame(
        {
            "id": [f"test/{i}" for i in range(4)],
            "split": "test",
            "method": "full",
            "seed": 0,
            "label": list("aabb"),
            "prediction": list("aaba"),
            "log_probs": None,
        }
    )
    run.add_predictions(frame, file="test", classes=["a", "b"])
    run.add_metrics(
        [
            {"method": "full", "name": "accuracy", "value": 0.75, "low": 0.25, "high": 1.0, "n": 4},
            {"method": "full", "name": "accuracy", "value": 0.5, "seed": 0},
        ]
    )
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.bar([0, 1], [3, 1])
    run.figure("bars", figure, caption=CAPTION)
    plt.close(figure)
    run.finish()
    png = base64.b64encode((folder / "figures" / "bars.png").read_bytes()).decode()
    nbformat.write(executed_notebook(png), folder / "notebook.ipynb")
    runs.add_notebook(folder)


def change_record(folder, **values):
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    record["run"].update(values)
    folders.write_sealed(folder / "result.json", record)


@pytest.fixture(scope="module")
def profile_dir(tmp_path_factory):
    """01 complete, 02 out of date, 03 failed after a complete run.

    04 failed before a record began, the others not run.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", tmp_path_factory.mktemp("runs with blanks"))
        patch.delenv("HW2_RUNNER", raising=False)
        folder = paths.RUNS / "sample"
        for name in ("01_lora_roberta", "02_lora_tinybert", "03_vqa_resnet_sbert"):
            make_run(name, folder / name)
        change_record(folder / "02_lora_tinybert", key="of older code")
        failed = folder / "03_vqa_resnet_sbert.failed"
        shutil.copytree(folder / "03_vqa_resnet_sbert", failed)
        change_record(failed, status="failed", error=f"ValueError: {HOSTILE}")
        (folder / "04_vqa_clip.failed").mkdir()
        (folder / "04_vqa_clip.failed" / "notebook.ipynb").write_text('{"cut off', encoding="utf-8")
        os.utime(failed, (2e9, 2e9))
        report.write("sample")
        yield folder


def parsed(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def sections(page):
    return {s.h2.get_text(): s for s in page.find_all("section")}


def test_index_tells_the_state_of_each_notebook(profile_dir):
    page = parsed(profile_dir / "index.html")
    found = sections(page)
    assert list(found) == sorted(p.stem for p in (ROOT / "notebooks").glob("0*.ipynb"))
    status = {name[:2]: s.p.strong.get_text() for name, s in found.items()}
    assert status == {
        "01": "complete",
        "02": "out of date",
        "03": "failed",
        "04": "failed",
        "05": "not run",
        "06": "not run",
    }
    chain = page.find("table").tbody.find_all("tr")
    assert [row.td.get_text() for row in chain] == list(status.values())
    assert " min " in chain[0].find_all("td")[1].get_text()
    assert "code, settings, pins or versions have changed" in found["02_lora_tinybert"].get_text()
    assert found["02_lora_tinybert"].find("a", string=re.compile("executed notebook"))
    assert "window.canary = 1" in found["03_vqa_resnet_sbert"].find(class_="error").get_text()
    assert "before a record" in found["04_vqa_clip"].get_text()


def test_index_shows_the_accuracy_of_current_records_only(profile_dir):
    found = sections(parsed(profile_dir / "index.html"))
    rows = found["01_lora_roberta"].find("table").tbody.find_all("tr")
    cells = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in rows]
    assert cells == [["full", "0.750", "0.250 to 1.000", "4"]]
    assert (
        found["02_lora_tinybert"].find("table") is None
        and found["05_question_types"].find("table") is None
    )


def test_index_says_that_sample_models_are_stand_ins(profile_dir):
    assert "stand-in" in parsed(profile_dir / "index.html").find(class_="banner").get_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", profile_dir.parent)
        assert parsed(report.write("full")).find(class_="banner") is None


@pytest.mark.parametrize("name", ["index.html", "html/01_lora_roberta.html"])
def test_pages_hold_nothing_that_acts_or_loads(profile_dir, name):
    page = parsed(profile_dir / name)
    assert page.html["lang"] == "en" and page.title.get_text() and len(page.find_all("h1")) == 1
    policy = page.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    assert "default-src 'none'" in policy and "script-src" not in policy
    assert not page.find_all(["script", "iframe", "object", "embed", "form", "base", "link"])
    assert [m.get("http-equiv") for m in page.find_all("meta") if m.get("http-equiv")] == [
        "Content-Security-Policy"
    ]
    for tag in page.find_all(True):
        assert not [a for a in tag.attrs if a.startswith("on")], tag
        address = tag.get("src") or tag.get("href") or ""
        if address and not address.startswith(("#", "data:image/png;base64,")):
            assert ":" not in address and (profile_dir / name).parent.joinpath(address).exists(), (
                tag
            )
    styles = "".join(style.get_text() for style in page.find_all("style"))
    assert not re.search(
        r"@import|url\(\s*['\"]?(?!data:|#)", styles
    )  # addresses in comments are not fetched


def test_pictures_speak_their_caption(profile_dir):
    index, notebook = (
        parsed(profile_dir / "index.html"),
        parsed(profile_dir / "html/01_lora_roberta.html"),
    )
    assert [i["alt"] for i in index.find_all("img")] == [
        CAPTION,
        CAPTION,
    ]  # 01, and the last complete run of 03
    assert [i["alt"] for i in notebook.find_all("img")] == [CAPTION]


def test_notebook_page_keeps_what_is_harmless(profile_dir):
    page = parsed(profile_dir / "html/01_lora_roberta.html")
    text = page.get_text()
    inline, block = (formula.get_text() for formula in page.find_all("math"))
    assert inline == "A<B" and block == "rd" and page.find("mfrac") and "$A$" in text
    assert text.count("HARMLESS-TEXT") == 6 and "SCRIPT-AS-TEXT" in text
    assert "/home" not in text and '"…/runs"' in text
    assert page.find("th", string="column") and "vertical-align: middle" not in page.main.get_text()


def test_pages_up_to_date_are_not_converted_again(profile_dir):
    page, source = (
        profile_dir / "html/01_lora_roberta.html",
        profile_dir / "01_lora_roberta/notebook.ipynb",
    )
    source_text = source.read_text(encoding="utf-8")

    def replace(text):
        source.write_text(text, encoding="utf-8")
        runs.add_notebook(source.parent)
        os.utime(source, (1e9, 1e9))  # a copied run keeps its times: they say nothing

    code = (
        "import sys; from hw2_utils import report; report.write('sample'); "
        "print('nbconvert' in sys.modules)"
    )

    def write():
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "HW2_RUNS": str(profile_dir.parent)},
        ).stdout.strip()

    # the broken notebook of 04 has no page and is tried each time; without it nothing is left to do
    shutil.rmtree(profile_dir / "04_vqa_clip.failed")
    before = page.read_bytes()
    assert write() == "False" and page.read_bytes() == before
    replace(source_text.replace("HARMLESS-TEXT", "OTHER-TEXT"))
    assert write() == "True" and "OTHER-TEXT" in page.read_text(encoding="utf-8")
    replace(source_text)
    write()


# --------------------------------------------------------------------------------- what is believed
@pytest.fixture
def one_run(tmp_path, monkeypatch):
    """A profile's folder with a run of 01."""
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.delenv("HW2_RUNNER", raising=False)
    run_dir = paths.RUNS / "sample" / "01_lora_roberta"
    make_run(run_dir.name, run_dir)
    return run_dir


def shown_as(run_dir):
    """What the index says of a run: its whole section."""
    return sections(parsed(report.write("sample")))[run_dir.name]


@pytest.mark.parametrize(
    "name",
    ["predictions/test.parquet", "figures/bars.txt", "figures/bars.png", "notebook.ipynb"]
    + ["result.json"],
)
def test_a_damaged_run_is_shown_as_such_and_not_as_numbers(one_run, name):
    assert shown_as(one_run).p.strong.get_text() == "complete"
    data = (one_run / name).read_bytes()
    (one_run / name).write_bytes(data.replace(b"5", b"6", 1) if b"5" in data else data + b" ")
    found = shown_as(one_run)
    assert found.p.strong.get_text() == "damaged"
    assert not found.find(["table", "img", "a"]) and "0.750" not in found.get_text()
    assert (name if name != "result.json" else "record") in found.find(class_="error").get_text()


def test_figures_that_the_record_does_not_list_are_not_shown(one_run):
    shutil.copy(one_run / "figures" / "bars.png", one_run / "figures" / "mine.png")
    (one_run / "figures" / "mine.txt").write_text("90 points better")
    assert "90 points" not in str(shown_as(one_run))


def test_a_report_moves_and_deletes_nothing_in_and_beside_a_run(one_run):
    for name in ("old-" + "0" * 32, "tmp-20240501T100000-" + "0" * 16, "old-abcdef"):
        shutil.copytree(one_run, one_run.with_name(f"{one_run.name}.{name}"))

    def there():
        return {
            p: p.stat().st_mtime_ns for p in one_run.parent.rglob("*") if one_run.name in str(p)
        }

    before = there()
    report.write("sample")
    assert {p: t for p, t in there().items() if "html" not in p.parts} == before


@pytest.mark.parametrize(
    "name", ["index.html", "html/01_lora_roberta.html", "html/06_prompting.html"]
)
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_page_of_ours_stays_and_nothing_is_written(one_run, tmp_path, name, kind):
    page = one_run.parent / name
    page.parent.mkdir(exist_ok=True)
    (tmp_path / "mine.html").write_text("<title>mine</title>")
    if kind == "file":
        page.write_text("<title>mine</title>")
    elif kind == "folder":
        page.mkdir()
    else:
        page.symlink_to(tmp_path / "mine.html")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="isn't a page of ours") as error:
        report.write("sample")
    assert page.name in str(error.value.where) and sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "mine.html").read_text() == "<title>mine</title>"
    assert kind != "file" or page.read_text() == "<title>mine</title>"


def test_a_foreign_file_named_html_stays(one_run):
    (one_run.parent / "html").write_text("mine")
    with pytest.raises(InputError, match="is no folder"):
        report.write("sample")
    assert (one_run.parent / "html").read_text() == "mine"


@pytest.mark.slow
def test_a_report_on_a_full_or_closed_disk_is_one_message(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(tmp_path)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here")

    def write():
        return subprocess.run(
            [sys.executable, "-m", "hw2_utils", "report"],
            cwd=ROOT,
            env={**os.environ, "HW2_RUNS": str(tmp_path / "runs")},
            capture_output=True,
            text=True,
            check=False,
        )

    try:
        (tmp_path / "fill").write_bytes(b"x" * 1024 * 32)
        full = write()
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        closed = write()
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
    assert full.returncode == 1 and "the disk is full" in full.stderr, full.stderr
    assert closed.returncode == 2 and "can't be written" in closed.stderr, closed.stderr
    assert str(tmp_path) in full.stderr and "HW2_RUNS" in closed.stderr
    assert "Traceback" not in full.stderr + closed.stderr


# --------------------------------------------------------------------------------- in a browser
@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    with sync_api.sync_playwright() as playwright:
        system = (
            shutil.which("chromium")
            or shutil.which("chromium-browser")
            or shutil.which("google-chrome")
        )
        try:
            browser = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


def opened(browser, path, width=1200):
    """The page, and the addresses other than files and data that it asked for."""
    page, remote = browser.new_page(viewport={"width": width, "height": 900}), []
    page.on("request", lambda request: remote.append(request.url))
    page.goto(path.as_uri())
    for link in page.locator("a", has_text="LINK-TEXT").all():
        link.dispatch_event("click")
    page.wait_for_timeout(300)  # ms: a refresh or an error handler would have acted by now
    return page, [address for address in remote if not address.startswith(("file:", "data:"))]


@pytest.mark.slow
def test_browser_sees_the_harm_where_nothing_prevents_it(browser, tmp_path):
    """The control: without our page around it, the same text does run and does load."""
    (tmp_path / "page.html").write_text(HOSTILE.replace("<meta", "<span"), encoding="utf-8")
    page, remote = opened(browser, tmp_path / "page.html")
    assert page.evaluate("window.canary") and remote


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 390])  # px: a desktop, a phone
@pytest.mark.parametrize(
    "name", ["index.html", "html/01_lora_roberta.html", "html/03_vqa_resnet_sbert.failed.html"]
)
def test_browser_runs_nothing_loads_nothing_and_fits(browser, profile_dir, name, width):
    page, remote = opened(browser, profile_dir / name, width)
    assert page.evaluate("window.canary") is None and remote == []
    assert page.url == (profile_dir / name).as_uri()
    assert page.evaluate("document.images.length > 0")
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt)")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.locator("h1").is_visible()
