"""`clean`: removes what runs have left, each thing by what it is; all else stays and is named."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from hw2_utils import embedding_cache, folders, parts, paths, report, runs

TABLE = ",".join(runs.METRIC_COLUMNS)  # how a sweep's table began in earlier versions


def clean() -> list[Path]:
    """Removes runs, parts, pages, sweeps' tables and stores of embeddings.

    Returns the files that stay. Raises InputError, with nothing removed, while a run is at work.
    """
    for lock in filter(_is_lock, paths.RUNS.rglob(".*.lock")):
        with folders.hold(lock, "a run is at work", where=lock.parent, todo="wait, or end it"):
            pass
    parts.prune(set())
    if paths.RUNS == paths.ROOT / "runs":
        shutil.rmtree(paths.RUNS / ".snakemake", ignore_errors=True)  # the engine's own notes
    _remove_runs()
    for store in filter(embedding_cache.is_store, paths.EMBEDDINGS_CACHE.glob("*.sqlite")):
        for end in ("", "-wal", "-shm"):
            Path(f"{store}{end}").unlink(missing_ok=True)
    left = [f for place in (paths.RUNS, paths.EMBEDDINGS_CACHE) for f in sorted(place.rglob("*"))]
    files = [f for f in left if f.is_symlink() or not f.is_dir()]
    return [f for f in files if f.name not in ("README.md", ".lock")]


def _remove_runs() -> None:
    """Removes what is ours below `runs/`, then the folders that are empty."""
    for name, _, files in os.walk(paths.RUNS, topdown=False):
        folder = Path(name)
        if folders.is_run(folder):
            shutil.rmtree(folder)
        for file in files:
            if _is_ours(folder / file):
                (folder / file).unlink()
        with suppress(OSError):  # it isn't empty, or gone
            folder.rmdir()


def _is_ours(file: Path) -> bool:
    """Whether a file beside runs is a lock, a page of the report or a sweep's table."""
    text, marks = _text(file), (report.GENERATOR, *report.EARLIER)
    is_page = file.suffix == ".html" and any(mark in text for mark in marks)
    is_table = file.name == "metrics.csv" and text.startswith(TABLE)
    return _is_lock(file) or is_page or is_table


def _is_lock(file: Path) -> bool:
    is_named = file.name.startswith(".") and file.suffix == ".lock"
    return is_named and _text(file).strip().isdigit()


def _text(file: Path) -> str:
    """What a file of text holds; nothing for a link or another file."""
    with suppress(OSError, UnicodeDecodeError):
        return "" if file.is_symlink() else file.read_text(encoding="utf-8")
    return ""
