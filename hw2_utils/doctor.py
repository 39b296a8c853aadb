"""What a profile needs on this machine: one line a check, each with what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import tomllib
from collections.abc import Callable

from hw2_utils import hub, paths, profiles
from hw2_utils.errors import Hw2Error

try:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
except ImportError as error:
    raise Hw2Error("the packages are not installed", todo="make venv, then use .venv/bin/python") from error

FREE_GIB = {"sample": 2, "full": 30}  # models, cache and runs
LOCKS = ("requirements.txt", "requirements-sample-models.txt")


def check(profile: str) -> int:
    """Prints a line for each check; 0 when the profile can run here, else 1. Fetches nothing, writes nothing."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's client is imported
    tables, version = profiles.load(profile), platform.python_version()
    models = sorted({t[k] for t in tables.values() if isinstance(t, dict) for k in profiles.MODEL_PARAMETERS if k in t})
    wanted = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    wrong, runs_disk = _not_as_locked(), next(p for p in (paths.RUNS, *paths.RUNS.parents) if p.exists())
    free_gib = shutil.disk_usage(runs_disk).free / 2**30
    needed = [
        (version in SpecifierSet(wanted), f"Python {version}, needed {wanted}", "use such a Python"),
        (not wrong, f"packages not as locked: {', '.join(wrong) or 'none'}", "make venv"),
        *(_found(f"model {name}", lambda name=name: hub.model(name).path) for name in models),
        *(_found(f"data {v}", lambda v=v: paths.ROOT / hub.data_path(v)) for v in tables["all"].values()),
        (free_gib > FREE_GIB[profile], f"disk: {free_gib:.0f} GiB free, needed {FREE_GIB[profile]}", "free some space"),
    ]
    useful = [_gpu(), (shutil.which("latexmk"), "TeX (latexmk)", "only for the PDF: install TeX Live, see README.md")]
    for word, rows in (("MISSING", needed), ("absent", useful)):
        for good, text, todo in rows:
            print(f"{'ok' if good else word:8}{text}" + ("" if good else f"\n        What to do: {todo}"))
    return 0 if all(row[0] for row in needed) else 1


def _found(text: str, find: Callable[[], os.PathLike[str]]) -> tuple[bool, str, str]:
    try:
        return os.path.exists(find()), text, "see data/README.md"
    except Hw2Error as error:
        return False, f"{text}: {error.what}", error.todo
    except ImportError as error:
        return False, f"{text}: {error}", "make venv"


def _gpu() -> tuple[bool, str, str]:
    try:
        import torch
    except ImportError as error:
        return False, f"GPU: {error}", "make venv"
    found = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if found else "none"
    return found, f"GPU: {name}", "nothing for the sample; full takes hours without"


def _not_as_locked() -> list[str]:
    """The locked packages that this platform needs and that are absent or of another version."""
    lock = "".join((paths.ROOT / name).read_text(encoding="utf-8") for name in LOCKS)
    pins = map(Requirement, re.findall(r"^(\w\S+==.+?) *(?:\\|--hash)", lock, re.MULTILINE))
    found = {re.sub(r"[-_.]+", "-", d.name).lower(): d.version for d in importlib.metadata.distributions()}
    return [f"{pin.name} {pin.specifier} (here {found.get(pin.name, 'none')})" for pin in pins
            if (pin.marker is None or pin.marker.evaluate()) and found.get(pin.name) not in pin.specifier]
