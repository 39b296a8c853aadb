"""Every folder of the project, from the package's own place, so that notebooks run from any working directory."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
CONFIG = PACKAGE / "config"
NOTEBOOKS = ROOT / "notebooks"


def _folder(variable: str, default: Path) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().resolve()


DATA = _folder("HW2_DATA", ROOT / "data")
EMBEDDINGS_CACHE = _folder("HW2_EMBEDDINGS_CACHE", ROOT / "embeddings_cache")
RUNS = _folder("HW2_RUNS", ROOT / "runs")
PINS = _folder("HW2_PINS", CONFIG / "pins.toml")


def short(path: Path | str) -> str:
    """The path as records and pages show it: relative to the project where it lies inside, so no home folder leaks."""
    path = Path(path)
    for base, name in ((RUNS, "runs"), (DATA, "data"), (ROOT, "")):
        if path.is_relative_to(base):
            return str(Path(name) / path.relative_to(base))
    return f"…/{path.name}"
