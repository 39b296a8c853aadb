"""Every folder of the project, from the package's own place, and the environment's variables."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
CONFIG = PACKAGE / "config"
NOTEBOOKS = ROOT / "notebooks"

# Beside the folders below; docs/environment.md says what each is for.
FRESH = "HW2_FRESH"  # "1": every part is computed again
RUNNER = "HW2_RUNNER"  # "1": a notebook runs without a reader
RUN_ID = "HW2_RUN_ID"
SWEEP = "HW2_SWEEP"  # the sweep file, for the workflow engine
WEIGHTS_URL = "HW2_WEIGHTS_URL"  # a mirror's folder with torchvision's weights


def _folder(variable: str, default: Path) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().resolve()


DATA = _folder("HW2_DATA", ROOT / "data")
EMBEDDINGS_CACHE = _folder("HW2_EMBEDDINGS_CACHE", ROOT / "embeddings_cache")
RUNS = _folder("HW2_RUNS", ROOT / "runs")
PINS = _folder("HW2_PINS", CONFIG / "pins.toml")


def under_runner() -> bool:
    """Whether the strict runner executes this notebook, so that nobody reads along."""
    return os.environ.get(RUNNER) == "1"


def short(path: Path | str) -> str:
    """The path as records and pages show it: relative to the project, so that no home folder leaks.

    A path outside the project is its last name alone.
    """
    path = Path(path)
    for base, name in ((RUNS, "runs"), (DATA, "data"), (ROOT, "")):
        if path.is_relative_to(base):
            return str(Path(name) / path.relative_to(base))
    return f"…/{path.name}"


def whole(shortened: str) -> Path:
    """The path that `short` made this of, or one of that name in the project."""
    first, _, rest = shortened.partition("/")
    bases = {"runs": RUNS, "data": DATA}
    return bases[first] / rest if first in bases else ROOT / shortened
