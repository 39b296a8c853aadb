"""JupyterLab on copies of the notebooks: what a reader tries out changes no run of the chain."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hw2_utils import execute, keys, parameters, paths
from hw2_utils.errors import explained

FOLDER = paths.ROOT / "lab"  # git ignores it
MARK = "hw2_utils_copied"  # in a copy's metadata: the digest of its cells as they were copied
PLACE = (
    "lab/ holds copies of the notebooks. A relative path in a copy starts at lab/"
    " (../data/sample); its run lies in runs/interactive/."
)


def start(arguments: Sequence[str]) -> None:
    """Opens JupyterLab on this machine, in place of this process; `arguments` are handed on."""
    for line in [*copies(), PLACE]:
        print(line, flush=True)
    os.execve(sys.executable, [*command(), *arguments], environment())


def copies() -> list[str]:
    """Copies the notebooks to `lab/`; says which copies have edits, and so stay as they are.

    A copy that nobody edited is brought up to date; one that is so already keeps its outputs.
    """
    todo = "copy the project to a folder that you can write to"
    with explained("this place can't be written", OSError, where=FOLDER, todo=todo):
        FOLDER.mkdir(exist_ok=True)
        return [line for name in parameters.names() for line in _copy(name)]


def _copy(name: str) -> Iterator[str]:
    notebook = json.loads(parameters.notebook_path(name).read_text(encoding="utf-8"))
    copy, cells = FOLDER / f"{name}.ipynb", _cells(notebook)
    try:
        there = json.loads(copy.read_text(encoding="utf-8"))
        cells_there, cells_copied = _cells(there), there["metadata"].get(MARK)
    except FileNotFoundError:
        cells_there = cells_copied = None
    except (ValueError, LookupError, TypeError, AttributeError):
        cells_there, cells_copied = "broken", None
    if cells_there == cells_copied != cells:
        marked = {**notebook, "metadata": {**notebook["metadata"], MARK: cells}}
        copy.write_text(json.dumps(marked, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    elif cells_there != cells:
        yield f"{paths.short(copy)} has edits and stays; for a fresh copy, rename or delete it"


def _cells(notebook: Mapping[str, Any]) -> str:
    """Digest of what a notebook's cells say, outputs aside."""
    return keys.digest([[c["cell_type"], "".join(c["source"])] for c in notebook["cells"]])


def command() -> list[str]:
    """JupyterLab of this interpreter, on loopback only, in `lab/` with the project in sight."""
    root = ["--allow-root"] if os.geteuid() == 0 else []
    places = [f"--ServerApp.root_dir={paths.ROOT}", f"--ServerApp.preferred_dir={FOLDER}"]
    return [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", *places, *root]


def environment() -> dict[str, str]:
    """That of a run's kernel, without the runner's marks; other interpreters' kernels come last."""
    dropped = ("JUPYTER_PATH", paths.RUNNER, paths.RUN_ID)
    kept = {k: v for k, v in execute.page_environment().items() if k not in dropped}
    return {**kept, "JUPYTER_PREFER_ENV_PATH": "1"}
