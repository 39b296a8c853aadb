"""The HTML report of a profile: one page over all notebooks, each linked as HTML; nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import os
from pathlib import Path
from typing import Any

import jinja2

from hw2_utils import execute, paths, profiles, runs
from hw2_utils.errors import InputError

# what a table that pandas writes is made of; everything else in an output's HTML is taken out
TAGS = ["table", "caption", "thead", "tbody", "tr", "th", "td", "div", "p", "span", "b", "br", "style"]
ATTRIBUTES = ["class", "id", "border", "colspan", "rowspan", "scope", "title"]


def write(profile: str) -> Path:
    """Writes `runs/<profile>/index.html` and a page in `html/` for each executed notebook; returns the index.

    A notebook whose page was made from this very file is not converted again.
    """
    about, index = profiles.load(profile)["about"], paths.RUNS / profile / "index.html"
    index.with_name("html").mkdir(parents=True, exist_ok=True)
    rows = [_row(index.with_name(path.stem)) for path in sorted(paths.NOTEBOOKS.glob("0*.ipynb"))]
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(paths.CONFIG), autoescape=True, trim_blocks=True)
    page = templates.get_template("report.html.j2").render(profile=profile, about=about, rows=rows)
    index.write_text(page, encoding="utf-8")
    return index


def _row(run_dir: Path) -> dict[str, Any]:
    """What the index shows of one notebook; numbers only from a record that still holds."""
    row: dict[str, Any] = {"notebook": run_dir.name, "status": "not run", "page": _page(run_dir)}
    try:
        row["record"] = runs.load(run_dir, notebook=run_dir.name, profile=run_dir.parent.name).data
        row |= {"status": "complete", "seconds": execute.last_seconds(run_dir)}
        for figure in sorted((run_dir / "figures").glob("*.png"))[:1]:
            row |= {"figure": figure.name, "caption": figure.with_suffix(".txt").read_text(encoding="utf-8").strip()}
    except InputError as error:
        if (run_dir / "result.json").is_file():
            row |= {"status": "out of date", "error": error.what}
    failed = run_dir.with_name(f"{run_dir.name}.failed")
    if failed.is_dir() and (row["status"] == "not run" or failed.stat().st_mtime > run_dir.stat().st_mtime):
        row["status"] = "failed" if row["status"] == "not run" else f"{row['status']}; a later attempt failed"
        row |= {"failed_page": _page(failed), "error": runs._run_field(failed, "error") or "no record was begun"}
    return row


def _page(run_dir: Path) -> str | None:
    """Address of a run's notebook as HTML, converted unless the page there was made from this very file."""
    source, page = run_dir / "notebook.ipynb", run_dir.parent / "html" / f"{run_dir.name}.html"
    try:
        time_ns = source.stat().st_mtime_ns
        if not page.is_file() or page.stat().st_mtime_ns != time_ns:
            page.write_text(_as_html(source, run_dir.name), encoding="utf-8")
            os.utime(page, ns=(time_ns, time_ns))
    except (FileNotFoundError, ValueError):  # none, or a broken one: a failed attempt may have ended on a full disk
        return None
    return f"html/{page.name}"


def _as_html(source: Path, title: str) -> str:
    import nbformat
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors.sanitize import SanitizeHTML

    notebook = nbformat.read(source, as_version=4)
    notebook.metadata.pop("widgets", None)  # they need a kernel: the page shows the static views only
    clean = SanitizeHTML(tags=TAGS, attributes=ATTRIBUTES, strip=True).sanitize_code_outputs
    for cell in (c for c in notebook.cells if c.cell_type == "code"):
        cell.outputs = clean([o for o in cell.outputs if not any("widget" in kind for kind in o.get("data", {}))])
    exporter = HTMLExporter(template_file=str(paths.CONFIG / "notebook.html.j2"), filters={"markdown2html": _markdown})
    return exporter.from_notebook_node(notebook, {"metadata": {"name": title}})[0]


def _markdown(source: str) -> str:
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    renderer = IPythonRenderer(escape=False, exclude_anchor_links=True)
    renderer.inline_math, renderer.block_math = _formula, lambda tex: f"<center>{_formula(tex, size=15)}</center>"
    return MarkdownWithMath(renderer=renderer).render(source)


def _formula(tex: str, size: float = 11) -> str:
    """A formula as a picture inside the page, so that it needs no script; its TeX where matplotlib can't set it."""
    from matplotlib import font_manager, mathtext

    picture, font = io.BytesIO(), font_manager.FontProperties(size=size, math_fontfamily="stix")
    try:
        depth = mathtext.math_to_image(f"${' '.join(tex.split())}$", picture, prop=font, dpi=72, format="svg")
    except ValueError:
        return f"<code>{html.escape(tex)}</code>"
    data = base64.b64encode(picture.getvalue()).decode()
    return f'<img alt="{html.escape(tex)}" style="vertical-align: -{depth}pt" src="data:image/svg+xml;base64,{data}">'
