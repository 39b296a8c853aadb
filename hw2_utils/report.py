"""The HTML report of a profile: one page over all notebooks, each linked as HTML; nothing is loaded from elsewhere."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import jinja2

from hw2_utils import execute, folders, parameters, paths, profiles, runs
from hw2_utils.errors import InputError, explained, require

# what Markdown, highlighted code and the tables of pandas are made of; all else is shown as text, tags and all
TAGS = [
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "p",
    "br",
    "hr",
    "ul",
    "ol",
    "li",
    "blockquote",
    "pre",
    "code",
    "div",
    "span",
    "strong",
    "em",
    "b",
    "i",
    "a",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "math",
    "mrow",
    "mi",
    "mn",
    "mo",
    "mfrac",
    "msub",
    "msup",
    "msubsup",
    "mspace",
    "mtext",
]
STYLE = r"(?is)<style\b.*?</style>"  # pandas puts one before each table
ATTRIBUTES = [
    "class",
    "href",
    "title",
    "colspan",
    "rowspan",
    "scope",
    "display",
    "stretchy",
    "width",
]
FORMULA = r"(?s)`[^`]*`|\$\$(.+?)\$\$|\$([^$\n]+?)\$"  # in Markdown; what is code stays code
MIME_TYPES = ["text/html", "text/markdown", "image/png", "image/jpeg", "text/latex", "text/plain"]
GENERATOR = '<meta name="generator" content="hw2_utils">'
EARLIER = (
    "<title>hw2: runs of the profile",
    "All runs of this profile",
)  # of pages without that mark
TEMPLATE = paths.CONFIG / "notebook.html.j2"


def write(profile: str) -> Path:
    """Writes `runs/<profile>/index.html` and a page in `html/` for each executed notebook; returns the index.

    A notebook whose page is newer than itself is not converted again.
    """
    about, index = profiles.load(profile)["about"], paths.RUNS / profile / "index.html"
    todo = "name a place that can be written in HW2_RUNS"
    with explained("this place can't be written", OSError, where=index.parent, todo=todo):
        index.with_name("html").mkdir(parents=True, exist_ok=True)
        rows = [_row(index.with_name(name)) for name in parameters.names()]
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.CONFIG), autoescape=True, trim_blocks=True
    )
    page = templates.get_template("report.html.j2").render(profile=profile, about=about, rows=rows)
    with explained("this place can't be written", OSError, where=index.parent, todo=todo):
        _put(index, page)
    return index


def _put(page: Path, text: str) -> None:
    """Writes a page in place of an earlier one of ours, whole or not at all. Raises InputError for any other file."""
    there = page.read_text(encoding="utf-8", errors="replace") if page.exists() else GENERATOR
    ours = any(mark in there for mark in (GENERATOR, *EARLIER))
    require(ours, "this file isn't a page of ours", where=paths.short(page), todo="move it")
    beside = page.with_name(f".{page.name}.tmp-{uuid.uuid4().hex}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(page)


def _row(run_dir: Path) -> dict[str, Any]:
    """What the index shows of one notebook; numbers only from a record that still holds."""
    row: dict[str, Any] = {"notebook": run_dir.name, "status": "not run", "page": _page(run_dir)}
    try:
        row["record"] = runs.load(run_dir, notebook=run_dir.name, profile=run_dir.parent.name).data
        changed = row["record"]["run"]["changed"]
        row |= {
            "status": "complete" if not changed else "complete, changed",
            "about": runs.about(run_dir.parent.name, changed) if changed else "",
            "seconds": execute.last_seconds(run_dir),
            "figures": _captions(run_dir),
        }
    except InputError as error:
        if (run_dir / "result.json").is_file():
            row |= {"status": "out of date", "error": error.what}
    failed = run_dir.with_name(f"{run_dir.name}.failed")
    if failed.is_dir() and (
        row["status"] == "not run" or failed.stat().st_mtime > run_dir.stat().st_mtime
    ):
        row |= {"status": "failed", "failed_page": _page(failed)}
        row["error"] = folders.run_field(failed, "error") or "it ended before a record was begun"
    return row


def _captions(run_dir: Path) -> dict[str, str]:
    return {
        path.stem: path.read_text(encoding="utf-8").strip()
        for path in sorted((run_dir / "figures").glob("*.txt"))
    }


def _page(run_dir: Path) -> str | None:
    """Address of a run's notebook as HTML, converted unless the page there is up to date."""
    source, page = run_dir / "notebook.ipynb", run_dir.parent / "html" / f"{run_dir.name}.html"
    try:
        changed = max(path.stat().st_mtime_ns for path in (source, TEMPLATE, Path(__file__)))
        if not page.is_file() or page.stat().st_mtime_ns <= changed:
            _put(page, _as_html(source, run_dir.name))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None  # none, or a broken one: a failed attempt may have ended on a full disk
    return f"html/{page.name}"


def _as_html(source: Path, title: str) -> str:
    """One executed notebook as a page on its own; the imports take seconds, so they wait until here."""
    import nbformat
    from latex2mathml.converter import convert
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors.sanitize import SanitizeHTML

    notebook = nbformat.read(source, as_version=4)
    notebook.metadata.pop(
        "widgets", None
    )  # they need a kernel: the page shows the static views only
    captions = _captions(source.parent)

    def formula(found: re.Match[str]) -> str:  # browsers show MathML without any script
        display = "block" if found[1] else "inline"
        return convert(found[1] or found[2], display=display) if found[0][0] == "$" else found[0]

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(FORMULA, formula, cell.source)
        if "injected-parameters" in cell.metadata.get("tags", []):  # no home folder on a page
            cell.source = re.sub(
                r'"(/[^"]+)"', lambda found: f'"{paths.short(found[1])}"', cell.source
            )
        names = re.findall(r'run\.figure\("(\w+)"', cell.source)
        cell.metadata["alt"] = (
            " ".join(captions.get(name, "") for name in names) or "picture shown by the code above"
        )
    cleaner = SanitizeHTML(tags=TAGS, attributes=ATTRIBUTES)
    exporter = HTMLExporter(
        template_file=str(TEMPLATE),
        sanitize_html=True,
        exclude_anchor_links=True,
        config={"NbConvertBase": {"display_data_priority": MIME_TYPES}},
        filters={
            "clean_html": lambda text: cleaner.sanitize_html_tags(re.sub(STYLE, "", str(text)))
        },
    )
    return exporter.from_notebook_node(notebook, {"metadata": {"name": title}})[0]
