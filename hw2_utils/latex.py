"""The writeup's generated part: what complete runs came to, as LaTeX.

Numbers, tables, figures, sentences and listings.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shutil
import subprocess
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from hw2_utils import folders, parameters, paths, plots, profiles, runs
from hw2_utils.errors import Hw2Error, disk_explained, explained, require

WRITEUP = paths.ROOT / "writeup"
PACKAGES = (
    "texlive-latex-recommended texlive-science texlive-latex-extra texlive-fonts-recommended "
    "latexmk lmodern"
)
ARCHIVE = "overleaf.zip"
MANIFEST = ".files.json"  # in generated/: the names of what was written there
FIRST = rb"\DefineResult{banner}"  # begins numbers.tex
# what a writeup is compiled from, beside generated/
SOURCES = ("*.tex", "*.bib", "latexmkrc", "sections/*")
# what preamble.tex can print as it is
PLAIN = re.compile(r"[A-Za-z0-9 .,:;()=?!@/+À-ÿ–—‘’“”…·°±≥≤≠≈→−]")
BREAK = "\u200b"  # zero-width space: a line may end here
TEX = {**{c: f"\\{c}" for c in "{}$&#%_"}, "\n": r"\LineEnd{} ", "\t": " ", BREAK: r"\allowbreak{}"}
Macro = tuple[tuple[Any, ...], Any, str]  # parts of its name, its value, where that is from


# -------------------------------------------------------------------------------- pieces of LaTeX
def escape(text: str) -> str:
    """Any text as LaTeX that shows it; a word that is long or has joints may break."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
    return "".join(map(_char, re.sub(r"[_+/]|[^\s_+/]{20}", rf"\g<0>{BREAK}", text)))


def _char(char: str) -> str:
    """One character; one that the fonts lack shows its code in a box, and is copied as itself."""
    if char in TEX or PLAIN.match(char):
        return TEX.get(char, char)
    # as a symbol, [ and * can't be taken for an option, nor two hyphens for a dash
    if " " < char <= "~":
        return rf"\symbol{{{ord(char)}}}"
    is_control = unicodedata.category(char)[0] == "C"
    copied = "FFFD" if is_control else char.encode("utf-16-be").hex().upper()
    return rf"\CharBox{{{ord(char):04X}}}{{{copied}}}"


def prose(markdown: str) -> str:
    """One line of Markdown: `code` and **strong** words, which may hold code; all else as it is."""
    return _inline(markdown.strip().removeprefix("- "))


def _inline(text: str) -> str:
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", text)
    return "".join(_code(part) if number % 2 else escape(part) for number, part in enumerate(parts))


def _code(part: str) -> str:
    if part[0] == "`":
        return rf"\texttt{{{escape(part[1:-1])}}}"
    return rf"\textbf{{{_inline(part[2:-2])}}}"


def items(lines: Iterable[str]) -> str:
    """Sentences as a list."""
    shown = "".join(f"\\item {prose(line)}\n" for line in lines)
    return f"\\begin{{itemize}}\n{shown}\\end{{itemize}}\n"


def cell(value: Any) -> str:
    """One value of a table or a macro: text, or a number as the notebooks show it."""
    if isinstance(value, str | bool):
        return escape(str(value))
    return "--" if pd.isna(value) else rf"\num{{{plots.number(value).replace(',', '')}}}"


def table(frame: pd.DataFrame, *, caption: str, label: str) -> str:
    """A table in an environment of `preamble.tex`.

    FitTable floats and fits the line; LongTable, of long texts, breaks them and pages.
    """
    widths = [_width(column) for _, column in frame.items()]
    total = sum(width or 10 for width in widths)
    if sum(widths) > 90:
        kind = "LongTable"
        columns = "".join(f"P{{{0.88 * (width or 10) / total:.3f}}}" for width in widths)
    else:
        kind, columns = "FitTable", "".join("l" if width else "r" for width in widths)
    rows = [tuple(frame), *frame.itertuples(index=False, name=None)]
    head, *body = [" & ".join(map(cell, row)) for row in rows]
    lines = "".join(f"{row}\\\\\n" for row in body)
    start = f"\\begin{{{kind}}}{{{prose(caption)}}}{{tab:{label}}}{{{columns}}}{{{head}}}"
    return f"{start}\n{lines}\\end{{{kind}}}\n"


def _width(column: pd.Series) -> int:
    """Characters that a column of texts is given; 0: numbers."""
    if pd.api.types.is_numeric_dtype(column):
        return 0
    return min(60, max([14, *column.map(len)]))


def listing(source: str, *, caption: str, label: str) -> str:
    """Code as it is; `preamble.tex` breaks its long lines."""
    shown = "".join(
        c if c == "\n" or " " <= c <= "~" and c not in "\\{}" else _char(c) for c in source
    )
    title = f"\\ListingTitle{{{prose(caption)}}}{{lst:{label}}}"
    return f"{title}\n\\begin{{Code}}\n{shown}\n\\end{{Code}}\n"


# -------------------------------------------------------------------------------- from the records
def content(profile: str) -> dict[str, str | bytes]:
    """Every file of `generated/`, from complete runs and `published.csv`; the same each time.

    Raises InputError, naming the notebook, for a run that is absent, incomplete, stale, foreign or
    made by hand.
    """
    records = {name[:2]: _own_run(profile, name) for name in parameters.names()}
    about = "" if profile == "full" else f"Profile {profile}: {profiles.load(profile)['about']}"
    macros = [_macro("banner", about, f"hw2_utils/config/{profile}.toml")]
    for row in pd.read_csv(WRITEUP / "published.csv", dtype=str).itertuples():
        macros.append(_macro(f"published/{row.name}", row.value, f"published.csv: {row.source}"))
    files: dict[str, str | bytes] = {}
    for number, record in records.items():
        frames = _frames(record)
        for parts, value, source in [*_metrics(record), *_cells(frames), *_facts(record)]:
            joined = "/".join([number, *map(str, parts)])
            name = re.sub(r"[^\w+.:/-]+", "-", joined, flags=re.ASCII)
            source = f"run {record.id} of {record.notebook}, {' '.join(source.split())}"
            macros.append(_macro(name, value, source))
        files |= _listings(number, record)
        notes = record.data["run"]["notes"] or ["This run has no notes."]
        for name, lines in {**record.data["sentences"], "notes": notes}.items():
            files[f"sentences/{number}-{name}.tex"] = items(lines)
        for name in record.data["files"]:
            if name.endswith(".txt"):
                files |= _with_caption(number, record, name, frames)
    files["numbers.tex"] = "".join(macros)
    return files


def _macro(name: str, value: Any, source: str) -> str:
    return f"\\DefineResult{{{name}}}{{{cell(value)}}} % {source}\n"


def _own_run(profile: str, notebook: str) -> runs.Record:
    """The profile's run of a notebook; one that was made with other parameters is refused."""
    record = runs.load(paths.RUNS / profile / notebook, notebook=notebook, profile=profile)
    changed = ", ".join(record.data["run"]["changed"])
    todo = f"python -m hw2_utils run {notebook} --profile {profile}"
    what = f"the run of {notebook} isn't the profile's own: changed are {changed}"
    require(not changed, what, where=paths.short(record.folder), todo=todo)
    return record


def _with_caption(
    number: str, record: runs.Record, name: str, frames: Mapping[str, pd.DataFrame]
) -> dict[str, str | bytes]:
    """The table or figure to which a caption's file belongs."""
    kind, _, stem = name.removesuffix(".txt").partition("/")
    label, caption = f"{number}-{stem}", record.files[name].decode()
    if kind == "tables":
        text = table(frames[stem].reset_index(), caption=caption, label=label)
        return {f"tables/{label}.tex": text}
    text = f"\\Figure{{{label}}}{{{prose(caption)}}}\n"
    picture = record.files[f"figures/{stem}.pdf"]
    return {f"figures/{label}.tex": text, f"figures/{label}.pdf": picture}


def _frames(record: runs.Record) -> dict[str, pd.DataFrame]:
    """A run's tables by name."""
    frames = {}
    for name, data in record.files.items():
        if name.endswith(".csv"):
            texts = pd.read_csv(io.BytesIO(data), index_col=0, dtype=str, keep_default_na=False)
            frames[Path(name).stem] = texts.apply(_typed).rename_axis(texts.index.name or "")
    return frames


def _typed(column: pd.Series) -> pd.Series:
    """A column as numbers where all of it is; a text such as "true" or "nan" stays what it was."""
    numbers = pd.to_numeric(column, errors="coerce")
    return column if (numbers.isna() & (column != "")).any() else numbers


def _metrics(record: runs.Record) -> Iterator[Macro]:
    """Each metric over seeds."""
    for m in record.metrics[record.metrics["seed"].isna()].itertuples():
        place = [part for part in (m.split, m.group) if part not in ("train", "test", "all")]
        source = f"metric {m.name}, row {m.method} {m.split} {m.group}"
        yield (m.method, m.name, *place), m.value, source


def _cells(frames: Mapping[str, pd.DataFrame]) -> Iterator[Macro]:
    """Each number of the tables."""
    for name, frame in frames.items():
        for column, values in frame.select_dtypes("number").items():
            for row, value in values.items():
                yield (name, row, column), value, f"table {name}, row {row}, column {column}"


def _facts(record: runs.Record) -> Iterator[Macro]:
    """Each setting, version, model and data hash of a run."""
    run, meta = record.data["run"], record.data["meta"]
    models = meta["models"].items()
    facts = {
        "setting": run["settings"],
        "model": {role: model["id"] for role, model in models},
        "version": meta["versions"],
        "pin": {role: f"{str(m['revision'])[:12]}, {m['verified']}" for role, m in models},
        "data": {name: sha256[:12] for name, sha256 in meta["data"].items()},
        "run": {
            "id": run["id"],
            "device": meta["device"],
            "commit": str(meta["git_commit"])[:10],
            "changed": str(meta["git_dirty"]),
        },
    }
    for kind, values in facts.items():
        for name, value in values.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            yield (kind, name), shown, f"{kind} {name}"


def _listings(number: str, record: runs.Record) -> dict[str, str]:
    """The notebook's tagged cells; what is shown is what ran."""
    where = paths.short(record.folder / "notebook.ipynb")
    todo = f"python -m hw2_utils run {record.notebook}"
    by_hand = f"the run of {record.notebook} was made by hand"
    require("notebook.ipynb" in record.files, by_hand, where=where, todo=todo)
    executed = nbformat.reads(record.files["notebook.ipynb"].decode(), as_version=4)
    ran = {code.id: code.source for code in executed.cells}
    files = {}
    for code in nbformat.read(parameters.notebook_path(record.notebook), as_version=4).cells:
        if about := code.metadata.get("listing"):
            stale = f"the run of {record.notebook} is stale: a cell has changed since"
            require(ran.get(code.id) == code.source, stale, where=where, todo=todo)
            source = "\n\n\n".join([code.source, *map(_function, about.get("functions", []))])
            label = f"{number}-{about['name']}"
            files[f"listings/{label}.tex"] = listing(source, caption=about["caption"], label=label)
    return files


def _function(name: str) -> str:
    """Source of a function of the package that a listed cell calls."""
    module, function = name.split(".")
    text = (paths.PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    node = next(n for n in ast.parse(text).body if getattr(n, "name", None) == function)
    return f"# hw2_utils/{module}.py\n{ast.get_source_segment(text, node)}"


# -------------------------------------------------------------------------------- building
def _earlier(files: Iterable[str]) -> set[str]:
    """Names of what earlier writeups have written, by the list that they left, if any."""
    generated, known = WRITEUP / "generated", set()
    with suppress(OSError, ValueError):
        known = set(json.loads((generated / MANIFEST).read_text(encoding="utf-8")))
    numbers = generated / "numbers.tex"
    if not known and numbers.is_file() and numbers.read_bytes().startswith(FIRST):
        known = set(files)
    with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(WRITEUP / ARCHIVE) as archive:
        known |= {ARCHIVE} if "generated/numbers.tex" in archive.namelist() else set()
    return known


def _check_places(files: Iterable[str], earlier: set[str]) -> None:
    """Refuses to write where anything lies that no writeup has written."""
    places = {name: WRITEUP / "generated" / name for name in files} | {ARCHIVE: WRITEUP / ARCHIVE}
    for name, place in places.items():
        ours = name in earlier and place.is_file() and not place.is_symlink()
        what = "no writeup has written this file"
        free = not os.path.lexists(place)
        require(free or ours, what, where=paths.short(place), todo="move it")


def _fill(generated: Path, files: Mapping[str, bytes], earlier: set[str]) -> None:
    """Writes `generated/` anew; the list first, so that what a killed writeup wrote is known."""
    with explained("this place can't be written", FileExistsError, where=generated, todo="move it"):
        for place in {generated, *((generated / name).parent for name in files)}:
            place.mkdir(parents=True, exist_ok=True)
    listed = json.dumps(sorted({*earlier, *files} - {ARCHIVE}), indent=1)
    folders.put_file(generated / MANIFEST, listed.encode())
    for name in earlier - files.keys() - {ARCHIVE}:
        place = generated / name
        if place.is_file() and place.resolve().is_relative_to(generated.resolve()):
            place.unlink()
    for name, data in files.items():
        folders.put_file(generated / name, data)
    folders.put_file(generated / MANIFEST, json.dumps(sorted(files), indent=1).encode())


def _pack(files: Iterable[str]) -> bytes:
    """Everything that the writeup is compiled from, for Overleaf; the same bytes each time."""
    sources = [path for pattern in SOURCES for path in sorted(WRITEUP.glob(pattern))]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for path in [*sources, *(WRITEUP / "generated" / name for name in sorted(files))]:
            name = path.relative_to(WRITEUP).as_posix()
            target.writestr(zipfile.ZipInfo(name), path.read_bytes())
    return packed.getvalue()


def build(profile: str) -> None:
    """Fills `generated/`, writes `overleaf.zip`, and compiles `main.pdf` where TeX is installed.

    Raises InputError for a run that doesn't hold and for a file in the way, Hw2Error where LaTeX
    stops or the disk is full.
    """
    files = {
        name: data if isinstance(data, bytes) else data.encode()
        for name, data in content(profile).items()
    }
    archive, earlier = WRITEUP / ARCHIVE, _earlier(files)
    _check_places(files, earlier)
    with disk_explained(WRITEUP):
        _fill(WRITEUP / "generated", files, earlier)
        folders.put_file(archive, _pack(files))
        _compile(archive)


def _compile(archive: Path) -> None:
    if not shutil.which("latexmk"):
        on_debian = f"on Debian: apt-get install {PACKAGES}"
        print(f"no TeX here: upload {paths.short(archive)} to Overleaf, or {on_debian}")
        return
    command = ["latexmk", "main.tex"]
    if subprocess.run(command, cwd=WRITEUP, check=False, capture_output=True).returncode:
        log = (WRITEUP / "main.log").read_text(encoding="utf-8", errors="replace")
        error = re.search(r"(?m)^\S+:\d+: .+", log)
        what = error[0] if error else "LaTeX stopped"
        raise Hw2Error(what, where="writeup/main.log", todo="look into that file")
    pdf = paths.short(WRITEUP / "main.pdf")
    print("writeup:", pdf, "· for Overleaf:", paths.short(archive))
