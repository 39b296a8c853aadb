"""Parts: one training or one scoring each, computed once for all that enters it, kept and checked when read."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hw2_utils import folders, keys, paths
from hw2_utils.errors import Hw2Error

SCHEMA = 2  # of part.json; parts of earlier versions are never read


def part(
    label: str,
    function: Callable[..., dict[str, Any]],
    inputs: Mapping[str, Any],
    *,
    measured_on: Any = None,
) -> dict[str, Any]:
    """`function(**inputs)`, computed once for all that enters it and kept under `runs/parts/`.

    The key holds the content of the inputs, the code of `function` and of what it reads, and the libraries' versions;
    a part whose times or memory are reported also names the machine (`measured_on`). `function` returns a dict of
    plain values and frames; the result also has the part's name as `part`. `HW2_FRESH=1` computes it again.
    Raises Hw2Error, naming it, for an input that can't be hashed.
    """
    key = {"function": function, "inputs": dict(inputs), "measured on": measured_on}
    name = keys.digest({**key, "versions": keys.versions(), "schema": SCHEMA})[:32]
    folder = paths.RUNS / "parts" / name
    fresh = os.environ.get("HW2_FRESH") == "1"
    found = None if fresh else _read_or_set_aside(folder)
    result = found or _compute(label, function, inputs, folder, replace=fresh)
    print(f"{'reused  ' if found else 'computed'} {label} (part {name[:8]})")
    return result


def read(folder: Path) -> dict[str, Any]:
    """A kept part, every file held against its checksum.

    Raises Hw2Error for a part that is damaged or of an earlier version, FileNotFoundError where there is none.
    """
    import pandas as pd

    about = _about(folder)
    frames = {}
    for file, sha256 in about["files"].items():
        data = (folder / file).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Hw2Error(f"{file} isn't what was written", where=folder)
        frames[Path(file).stem] = pd.read_parquet(io.BytesIO(data))
    return {**about["values"], **frames, "part": folder.name}


def _about(folder: Path) -> dict[str, Any]:
    try:
        about, whole = folders.read_sealed(folder / "part.json")
    except ValueError as error:
        raise Hw2Error("part.json is damaged", where=folder) from error
    if not isinstance(about, dict) or about.get("schema") != SCHEMA:
        raise Hw2Error("it was kept by another version", where=folder)
    if not whole:
        raise Hw2Error("part.json isn't what was written", where=folder)
    return about


def _read_or_set_aside(folder: Path) -> dict[str, Any] | None:
    """The kept part, or None: a damaged one is named and put aside, so that it is computed again."""
    try:
        return read(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not folder.exists():
            return None
        what = f"{Path(error.filename or folder).name} is missing"
    except Hw2Error as error:
        what = error.what
    aside = folder.with_name(f"{folder.name}.damaged-{uuid.uuid4().hex}")
    with suppress(OSError):  # another process has just done the same
        folder.rename(aside)
    print(
        f"note: part {folder.name[:8]} is damaged ({what}): set aside as {aside.name}, computed again"
    )
    return None


def _compute(
    label: str,
    function: Callable[..., dict[str, Any]],
    inputs: Mapping[str, Any],
    folder: Path,
    *,
    replace: bool,
) -> dict[str, Any]:
    result = function(**inputs)
    beside = folder.with_name(f"{folder.name}.tmp-{uuid.uuid4().hex}")
    beside.mkdir(parents=True)
    frames = {name: value for name, value in result.items() if hasattr(value, "to_parquet")}
    for name, frame in frames.items():
        frame.to_parquet(beside / f"{name}.parquet", index=False)
    values = {name: value for name, value in result.items() if name not in frames}
    about = {"schema": SCHEMA, "label": label, "values": values, "files": folders.checksums(beside)}
    folders.write_sealed(beside / "part.json", about)
    result = read(
        beside
    )  # as a later run will read it, so that a reused part can't differ from a fresh one
    result["part"] = folder.name
    if not folders.put_in_place(beside, folder, ours=_is_part if replace else _never):
        shutil.rmtree(beside)  # another process was faster, or what is there isn't a part
    return result


def _never(folder: Path) -> bool:
    return False


# ---------------------------------------------------------------------------------------------- upkeep
def list_parts() -> list[dict[str, Any]]:
    """One row a kept part: name, label, size in bytes, status ("kept", "damaged" or "older version")."""
    rows = []
    for folder in sorted((paths.RUNS / "parts").glob("*")):
        if not folder.is_dir():
            continue
        label, status = "", "kept"
        try:
            label = _about(folder)["label"]
            read(folder)
        except (Hw2Error, OSError) as error:
            older = isinstance(error, Hw2Error) and "another version" in error.what
            status = "older version" if older else "damaged"
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        rows.append({"part": folder.name, "label": label, "bytes": size, "status": status})
    return rows


def prune(used: set[str]) -> dict[str, int]:
    """Removes the parts that no record uses (`used`: names), older versions and what was set aside; name -> bytes.

    A folder that holds other files than a part's stays.
    """
    removed = {}
    for row in list_parts():
        folder = paths.RUNS / "parts" / row["part"]
        if row["part"] in used or not _is_part(folder):
            continue
        shutil.rmtree(folder)
        removed[row["part"]] = row["bytes"]
    return removed


def _is_part(folder: Path) -> bool:
    """Whether a folder's name and files are those of a part (also a damaged, an interrupted or an older one)."""
    name, _, rest = folder.name.partition(".")
    named = (
        len(name) == 32
        and set(name) <= set("0123456789abcdef")
        and rest[:4] in ("", "tmp-", "old-", "dama")
    )
    return named and all(
        file.is_file() and (file.name.startswith("part.json") or file.suffix == ".parquet")
        for file in folder.iterdir()
    )
