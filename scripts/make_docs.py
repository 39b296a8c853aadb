"""Writes docs/parameters.md from the notebooks' tagged cells and the two profiles.

.venv/bin/python scripts/make_docs.py

`tests/test_docs.py` fails where the committed file says anything else.
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from hw2_utils import parameters, profiles

OUT = Path(__file__).resolve().parents[1] / "docs" / "parameters.md"
HEAD = """\
# Parameters of the notebooks

Written by `scripts/make_docs.py` from the notebooks' tagged cells: edit those, not this page.

On the command line a parameter is `-p NAME VALUE`, as often as needed. VALUE is JSON where the
default is no text, so quote a list for the shell:

```sh
.venv/bin/python -m hw2_utils run 01_lora_roberta -p seeds "[0, 1]" -p lora_targets '["query"]'
```

In JupyterLab (`make lab`) edit the cell itself. An unknown name, another type or a value out of
range is refused before anything is trained. A path may be relative: on the command line it starts
at the working directory, in a copy in `lab/` at `lab/`. The layouts of data are in
[data/README.md](../data/README.md).

The command line passes `run_dir` itself: `runs/PROFILE/NOTEBOOK`, or `runs/own/NOTEBOOK` where a
parameter gives other numbers than the profile's. `--out DIR` names another folder.
"""
VALUES = """\
## What an empty value stands for

The defaults above stand for these values of the profile (`hw2_utils/config/sample.toml` and
`full.toml`). A *fixed* setting has no parameter.
"""


class Row(NamedTuple):
    """One line of the table: what notebooks that share it declare."""

    name: str
    type: str
    default: str
    takes: str
    meaning: str


def text() -> str:
    """The page, from the notebooks and profiles as they are now."""
    declared: dict[Row, list[str]] = {}
    for notebook in parameters.names():
        for row in rows(notebook):
            declared.setdefault(row, []).append(notebook[:2])
    heads = ("parameter", "type", "default", "takes", "meaning", "notebooks")
    places = {name: n for n, name in enumerate(dict.fromkeys(row.name for row in declared))}
    ordered = sorted(declared.items(), key=lambda item: places[item[0].name])
    lines = [
        (f"`{row.name}`", *row[1:2], f"`{row.default}`", *row[3:], ", ".join(numbers))
        for row, numbers in ordered
    ]
    values = table(("setting", "notebooks", "sample", "full"), settings())
    return "\n".join([HEAD, table(heads, lines), VALUES, values])


def rows(notebook: str) -> Iterator[Row]:
    """The parameters of one notebook in the order of its cell, with what their comments say."""
    source = tagged_cell(notebook)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [(t.start[0], t.string.strip("# ")) for t in tokens if t.type == tokenize.COMMENT]
    last_line = 0
    for node in ast.parse(source).body:
        lines = range(last_line + 1, node.end_lineno + 1)  # a comment above belongs to it too
        last_line = node.end_lineno
        if isinstance(node, ast.AnnAssign):
            meaning = " ".join(comment for line, comment in comments if line in lines)
            name, default = node.target.id, ast.literal_eval(node.value)
            kind = ast.unparse(node.annotation)
            yield Row(name, kind, json.dumps(default), takes(name, default), meaning)


def tagged_cell(notebook: str) -> str:
    """Source of the cell that is tagged `parameters`."""
    cells = nbformat.read(parameters.notebook_path(notebook), as_version=4).cells
    return next(c.source for c in cells if "parameters" in c.metadata.get("tags", []))


def takes(name: str, default: Any) -> str:
    """What `hw2_utils.parameters` accepts, in words; nothing for texts, which may be anything."""
    if name in parameters.CHOICES:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in parameters.CHOICES[name])
    if name == "profile":
        return ", ".join(f"`{json.dumps(profile)}`" for profile in profiles.NAMES)
    if name == "seeds":
        return "whole numbers from 0 on, each once"
    if isinstance(default, list):
        return "names, each once"
    if isinstance(default, bool):
        return "`true`, `false`"
    if isinstance(default, str):
        return ""
    # the numbers that `parameters.check` takes; a test holds them against it
    low, high = parameters.RANGES.get(name, (min(default, 0), 10**9))
    least = f"{default:g}, or {low:g}" if default < low else f"{low:g}"
    return f"{least} to {high:,.0f}"


def settings() -> list[tuple[str, ...]]:
    """Setting, notebooks, value in each profile; notebooks with the same values share a line."""
    notebooks: dict[tuple[str, ...], list[str]] = {}
    for notebook in parameters.names():
        declared = parameters.declared(notebook)
        sample, full = (_own(profile, notebook, declared) for profile in profiles.NAMES)
        for name in sample:
            shown = f"`{name}`" if name in declared else f"`{name}` *fixed*"
            row = (shown, *(f"`{json.dumps(values[name])}`" for values in (sample, full)))
            notebooks.setdefault(row, []).append(notebook[:2])
    lines = [
        (shown, ", ".join(numbers), *values) for (shown, *values), numbers in notebooks.items()
    ]
    return sorted(lines)


def _own(profile: str, notebook: str, declared: dict[str, Any]) -> dict[str, Any]:
    """The profile's values for a notebook, as its file has them."""
    tables = profiles.load(profile)
    data = {name: value for name, value in tables["all"].items() if name in declared}
    return {**data, **tables[notebook]}


def table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    heads = list(heads)
    written = [heads, ["---"] * len(heads), *lines]
    escaped = [[cell.replace("<", "&lt;").replace("|", r"\|") for cell in line] for line in written]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in escaped)


if __name__ == "__main__":
    OUT.write_text(text(), encoding="utf-8")
    print("written:", OUT.relative_to(Path.cwd()) if OUT.is_relative_to(Path.cwd()) else OUT)
