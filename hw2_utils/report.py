"""The HTML report of a profile: one page over all notebooks, each linked as HTML.

Nothing is loaded from elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2

from hw2_utils import execute, folders, parameters, paths, profiles, runs
from hw2_utils.errors import InputError, disk_explained, require

# what Markdown, highlighted code and the tables of pandas are made of; all else is shown as text,
# tags and all
TAGS = (
    "h1 h2 h3 h4 h5 h6 p br hr ul ol li blockquote pre code div span strong em b i a table "
    "caption thead tbody tr th td math mrow mi mn mo mfrac msub msup msubsup mspace mtext"
).split()
STYLE = r"(?is)<style\b.*?</style>"  # pandas puts one before each table
ATTRIBUTES = "class href title colspan rowspan scope display stretchy width".split()
FORMULA = r"(?s)`[^`]*`|\$\$(.+?)\$\$|\$([^$\n]+?)\$"  # in Markdown; what is code stays code
MIME_TYPES = ["text/html", "text/markdown", "image/png", "image/jpeg", "text/latex", "text/plain"]
GENERATOR = '<meta name="generator" content="hw2_utils">'
# of pages without that mark
EARLIER = ("<title>hw2: runs of the profile", "All runs of this profile")
TEMPLATE = paths.CONFIG / "notebook.html.j2"


def write(profile: str) -> Path:
    """Writes `runs/<profile>/index.html`, and a page in `html/` for each executed notebook.

    Returns the index. A notebook whose page was made from the same is not converted again. Raises
    InputError for a place that can't be written or holds another file, Hw2Error for a full disk.
    """
    about, index = profiles.load(profile)["about"], paths.RUNS / profile / "index.html"
    check_pages(profile)
    loader = jinja2.FileSystemLoader(paths.CONFIG)
    templates = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    with disk_explained(index.parent):
        index.with_name("html").mkdir(parents=True, exist_ok=True)
        rows = [_row(index.with_name(name)) for name in parameters.names()]
        template = templates.get_template("report.html.j2")
        page = template.render(profile=profile, about=about, rows=rows, own=_own_runs(profile))
        folders.put_file(index, page.encode())
    return index


def _own_runs(profile: str) -> list[dict[str, str]]:
    """The complete runs with other data, models or sizes than the profile's; how they differ."""
    own_runs = []
    for folder in (paths.RUNS / "own" / name for name in parameters.names()):
        given = folders.run_field(folder, "parameters") or {}
        if runs.status_of(folder) == "complete" and given.get("profile") == profile:
            about = runs.about(profile, folders.run_field(folder, "changed"))
            own_runs.append({"notebook": folder.name, "about": about})
    return own_runs


def check_pages(profile: str) -> None:
    """Refuses to write where files are that aren't pages of ours, before any is written."""
    folder = paths.RUNS / profile
    names = [f"{name}{kind}.html" for name in parameters.names() for kind in ("", ".failed")]
    html, todo = folder / "html", "move it: the report's pages lie there"
    is_folder = not os.path.lexists(html) or html.is_dir()
    require(is_folder, "this is no folder", where=paths.short(html), todo=todo)
    for page in (folder / "index.html", *(html / name for name in names)):
        if os.path.lexists(page):
            is_file = page.is_file() and not page.is_symlink()
            text = page.read_text(encoding="utf-8", errors="replace") if is_file else ""
            ours = any(mark in text for mark in (GENERATOR, *EARLIER))
            require(ours, "this isn't a page of ours", where=paths.short(page), todo=todo)


def _row(run_dir: Path) -> dict[str, Any]:
    """What the index shows of one notebook; numbers only from a record that still holds."""
    row: dict[str, Any] = {"notebook": run_dir.name, "status": "not run"}
    try:
        record = runs.read(run_dir, notebook=run_dir.name, profile=run_dir.parent.name)
        row["page"] = _page(run_dir, record.files)
        runs.check_current(record)
        row |= _complete(record)
    except runs.Damaged as error:
        row |= {"status": "damaged", "error": error.what}
    except InputError as error:
        if runs.status_of(run_dir):
            row |= {"status": "out of date", "error": error.what}
    failed = folders.failed_place(run_dir)
    times = [place.stat().st_mtime for place in (run_dir, failed) if place.is_dir()]
    if failed.is_dir() and (row["status"] == "not run" or times[-1] > times[0]):
        row |= {"status": "failed", "failed_page": _page(failed, _left_by(failed))}
        row["error"] = folders.run_field(failed, "error") or "it ended before a record was begun"
    return row


def _complete(record: runs.Record) -> dict[str, Any]:
    """What the index shows of a run that holds."""
    run = record.data["run"]
    about = runs.about(run["parameters"]["profile"], run["changed"]) if run["changed"] else ""
    return {
        "status": "complete, changed" if about else "complete",
        "about": about,
        "record": record.data,
        "seconds": execute.seconds(run["start"], run["end"]),
        "figures": _captions(record.files),
    }


def _left_by(failed: Path) -> dict[str, bytes]:
    """What a failed attempt has left of its notebook and its figures' captions."""
    with suppress(OSError):  # it is replaced this moment
        captions = sorted((failed / "figures").glob("*.txt"))
        files = [*captions, *failed.glob("notebook.ipynb")]
        return {file.relative_to(failed).as_posix(): file.read_bytes() for file in files}
    return {}


def _captions(files: Mapping[str, bytes]) -> dict[str, str]:
    texts = {n: data for n, data in files.items() if re.fullmatch(r"figures/.+\.txt", n)}
    return {Path(name).stem: data.decode().strip() for name, data in sorted(texts.items())}


def _page(run_dir: Path, files: Mapping[str, bytes]) -> str | None:
    """Address of a run's notebook as HTML, converted unless its page was made from the same."""
    page = run_dir.parent / "html" / f"{run_dir.name}.html"
    notebook, captions = files.get("notebook.ipynb"), _captions(files)
    made_of = [notebook or b"", json.dumps(captions).encode()]
    made_of += [path.read_bytes() for path in (TEMPLATE, Path(__file__))]
    mark = f'<meta name="source" content="{hashlib.sha256(b"".join(made_of)).hexdigest()}">'
    if notebook is None:
        return None
    if not page.is_file() or mark not in page.read_text(encoding="utf-8", errors="replace"):
        try:
            text = _as_html(notebook.decode(), run_dir.name, captions)
        except ValueError:
            return None  # a broken one: a failed attempt may have ended on a full disk
        folders.put_file(page, text.replace("<head>", f"<head>{GENERATOR}{mark}", 1).encode())
    return f"html/{page.name}"


def _as_html(source: str, title: str, captions: Mapping[str, str]) -> str:
    """One executed notebook as a page on its own."""
    import nbformat  # these take seconds, so they wait until here
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors.sanitize import SanitizeHTML

    notebook = nbformat.reads(source, as_version=4)
    # they need a kernel: the page shows the static views only
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(FORMULA, _formula, cell.source)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = re.sub(r'"(/[^"]+)"', _short_path, cell.source)
        names = re.findall(r'run\.figure\(\s*"(\w+)"', cell.source)
        caption = " ".join(captions.get(name, "") for name in names)
        cell.metadata["alt"] = caption or "picture shown by the code above"
    cleaner = SanitizeHTML(tags=TAGS, attributes=ATTRIBUTES)

    def clean(text: object) -> str:
        return cleaner.sanitize_html_tags(re.sub(STYLE, "", str(text)))

    exporter = HTMLExporter(
        template_file=str(TEMPLATE),
        sanitize_html=True,
        exclude_anchor_links=True,
        config={"NbConvertBase": {"display_data_priority": MIME_TYPES}},
        filters={"clean_html": clean},
    )
    return exporter.from_notebook_node(notebook, {"metadata": {"name": title}})[0]


def _formula(match: re.Match[str]) -> str:
    """A formula as MathML, which browsers show without any script; code stays code."""
    from latex2mathml.converter import convert

    display = "block" if match[1] else "inline"
    return convert(match[1] or match[2], display=display) if match[0][0] == "$" else match[0]


def _short_path(match: re.Match[str]) -> str:
    """No home folder on a page."""
    return f'"{paths.short(match[1])}"'
