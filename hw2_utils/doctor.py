"""What a profile needs on this machine: one line a check, each with what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from hw2_utils import hub, paths, profiles, references, timing
from hw2_utils.errors import Hw2Error

LOCKS = ("requirements.txt", "requirements-sample-models.txt")


def check(profile: str) -> int:
    """Prints a line for each check; 0 when the profile can run here, else 1.

    Fetches nothing, writes nothing.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's client is imported
    complete = True
    print(f"{profile} takes {profiles.load(profile)['needs']['about']}")
    for good, text, todo, *useful in _checks(profile):
        print(f"{'ok' if good else 'absent' if useful else 'MISSING':8}{text}", flush=True)
        if not good:
            print(f"        What to do: {todo}")
        complete = complete and bool(good or useful)
    return 0 if complete else 1


def _checks(profile: str) -> Iterator[tuple]:
    """Whether something holds, in words, and what to do where it doesn't.

    A fourth value marks what is useful only.
    """
    tables, version = profiles.load(profile), platform.python_version()
    needs = tables["needs"]
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["requires-python"]
    yield version in SpecifierSet(wanted), f"Python {version}, needed {wanted}", "use such a Python"
    wrong = _not_as_locked()
    yield not wrong, f"packages not as locked: {', '.join(wrong) or 'none'}", "make venv"
    yield from _files(tables)
    place = next(path for path in (paths.RUNS, *paths.RUNS.parents) if path.exists())
    disk, needed = shutil.disk_usage(place).free / 2**30, needs["disk_gib"]
    yield disk > needed, f"disk: {disk:.0f} GiB free, needed {needed}", "free some space"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    needed, todo = needs["memory_gib"], "use a larger machine, or a smaller batch_size"
    yield memory > needed, f"memory: {memory:.0f} GiB, needed {needed}", todo
    device = timing.resolve_device("auto")
    todo = "nothing for the sample; full takes hours without"
    yield device == "cuda", f"GPU: {timing.device_name(device)}", todo, "useful"
    todo = "only for the PDF: install TeX Live, see docs/full.md"
    yield shutil.which("latexmk"), "TeX (latexmk)", todo, "useful"


def _files(tables: Mapping[str, Any]) -> Iterator[tuple]:
    """A profile's models, each with what is known of its public reference outputs, and data."""
    read = [t for t in tables.values() if isinstance(t, dict)]
    models = {value for t in read for name, value in t.items() if profiles.is_model(name)}
    for name in sorted(models):
        model = None
        try:
            model = hub.fetch_model(name)
            yield True, f"model {name}", ""
        except Hw2Error as error:
            yield False, f"model {name}: {error.what}", error.todo
        yield True, f"reference outputs of {name}: {references.state(name, model)}", ""
    for value in tables["all"].values():
        try:
            path = paths.ROOT / hub.data_path(value)
            yield path.exists(), f"data {value}", "see data/README.md"
        except Hw2Error as error:
            yield False, f"data {value}: {error.what}", error.todo


def _not_as_locked() -> list[str]:
    """The locked packages that this platform needs and that are absent or of another version."""
    lock = "".join((paths.ROOT / name).read_text(encoding="utf-8") for name in LOCKS)
    pins = map(Requirement, re.findall(r"^(\w\S+==.+?) *(?:\\|--hash)", lock, re.MULTILINE))
    installed = {canonicalize_name(d.name): d.version for d in importlib.metadata.distributions()}
    return [
        f"{pin.name} {pin.specifier} (here {installed.get(pin.name, 'none')})"
        for pin in pins
        if (pin.marker is None or pin.marker.evaluate())
        and installed.get(pin.name) not in pin.specifier
    ]
