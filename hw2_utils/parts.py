"""Parts: one training or scoring each, computed once for all that enters it, checked when read."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from hw2_utils import folders, keys, paths
from hw2_utils.errors import Hw2Error, explained

SCHEMA = 2  # of part.json; parts of earlier versions are never read
OLDER = "older version"
# A part's folder, or one beside it that is being written, was set aside or was replaced.
_NAME = re.compile(r"[0-9a-f]{32}(\.(tmp|damaged|old)-[0-9a-f]{8,32})?")
_LOOKS = 3  # at a part that seems damaged: it may just be replaced
_WRITING_S = 3600.0  # so long what is being written is left alone


def part(
    label: str,
    function: Callable[..., dict[str, Any]],
    inputs: Mapping[str, Any],
    *,
    measured_on: Any = None,
) -> dict[str, Any]:
    """`function(**inputs)`, computed once for all that enters it and kept under `runs/parts/`.

    The key holds the content of the inputs, the code of `function` and of what it reads, and the
    libraries' versions; a part whose times or memory are reported also names the machine
    (`measured_on`). `function` returns a dict of plain values, frames and bytes (such as weights);
    the result also has the part's name as `part`. `HW2_FRESH=1` computes it again.
    Raises Hw2Error for an input that can't be hashed, naming it, and where nothing can be written.
    """
    key = {
        "function": keys.digest(function, label),
        "inputs": keys.digest(inputs, "input"),
        "measured on": measured_on,
        "versions": keys.versions(),
        "schema": SCHEMA,
    }
    folder = paths.RUNS / "parts" / keys.digest(key)[:32]
    fresh = os.environ.get(paths.FRESH) == "1"
    kept = None if fresh else _read_or_set_aside(folder)
    result = kept or _compute(label, lambda: function(**inputs), folder, replace=fresh)
    print(f"{'reused  ' if kept else 'computed'} {label} (part {folder.name[:8]})")
    return result


def read(folder: Path) -> dict[str, Any]:
    """A kept part, every file held against its checksum.

    Raises Hw2Error for a part that is damaged or of an older version, OSError where there is none.
    """
    import pandas as pd

    about = _about(folder)
    beside = {}
    for file, sha256 in about["files"].items():
        data = (folder / file).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Hw2Error(f"{file} isn't what was written", where=folder)
        is_frame = file.endswith(".parquet")
        beside[Path(file).stem] = pd.read_parquet(io.BytesIO(data)) if is_frame else data
    return {**about["values"], **beside, "part": folder.name}


def _about(folder: Path) -> dict[str, Any]:
    """What part.json says, held against its checksum."""
    about, whole = None, False
    with suppress(ValueError):
        about, whole = folders.read_sealed(folder / "part.json")
    if whole and about["schema"] == SCHEMA:
        return about
    had_no_seal_yet = isinstance(about, dict) and not about.keys() & {"schema", "checksum"}
    what = OLDER if whole or had_no_seal_yet else "part.json isn't what was written"
    raise Hw2Error(what, where=folder)


def _read_or_set_aside(folder: Path) -> dict[str, Any] | None:
    """The kept part, or None: a damaged one is named and put aside, and so computed again."""
    for look in range(_LOOKS):
        time.sleep(0.05 * look)
        try:
            return read(folder)
        except OSError as error:
            if not os.path.lexists(folder):
                return None
            what = f"{Path(error.filename or folder).name}: {error.strerror}"
        except Hw2Error as error:
            what = error.what
    aside = folder.with_name(f"{folder.name}.damaged-{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):  # another process has just done the same
        folder.rename(aside)
        print(f"note: part {folder.name[:8]} is damaged ({what}), and set aside as {aside.name}")
    return None


# ------------------------------------------------------------------------------------------ writing
def _compute(
    label: str, compute: Callable[[], dict[str, Any]], folder: Path, *, replace: bool
) -> dict[str, Any]:
    beside = folder.with_name(f"{folder.name}.tmp-{uuid.uuid4().hex}")
    with _writing(folder):  # said before hours of training, not after
        beside.mkdir(parents=True)
        beside.rmdir()
    result = compute()
    with _writing(folder):
        try:
            _write(label, result, beside)
            # as a later run will read it, so that a reused part can't differ from a fresh one
            result = {**read(beside), "part": folder.name}
            folders.put_in_place(beside, folder, ours=is_part if replace else _never)
        finally:  # something failed, or another process was faster, or what is there isn't a part
            shutil.rmtree(beside, ignore_errors=True)
    return result


def _write(label: str, result: Mapping[str, Any], beside: Path) -> None:
    beside.mkdir()
    frames = {name: value for name, value in result.items() if hasattr(value, "to_parquet")}
    for name, frame in frames.items():
        frame.to_parquet(beside / f"{name}.parquet", index=False)
    contents = {name: value for name, value in result.items() if isinstance(value, bytes)}
    for name, content in contents.items():
        (beside / f"{name}.bin").write_bytes(content)
    values = {n: value for n, value in result.items() if n not in frames and n not in contents}
    about = {"schema": SCHEMA, "label": label, "values": values, "files": folders.checksums(beside)}
    folders.write_sealed(beside / "part.json", about)


def _writing(folder: Path) -> AbstractContextManager[None]:
    todo = "free disk space, check permissions, or choose another place: HW2_RUNS"
    todo = f"{todo} (now {paths.RUNS})"
    return explained("the part can't be written", OSError, where=folder.parent, todo=todo)


def _never(folder: Path) -> bool:
    return False


# ------------------------------------------------------------------------------------------ upkeep
def list_parts() -> list[dict[str, Any]]:
    """One row a folder of ours: name, label, size in bytes, status.

    The status is "kept", "damaged", "older version", "set aside", "unfinished" or "replaced".
    """
    return [_row(folder) for folder in sorted((paths.RUNS / "parts").glob("*")) if is_part(folder)]


def _row(folder: Path) -> dict[str, Any]:
    kinds = {".tmp-": "unfinished", ".damaged-": "set aside", ".old-": "replaced"}
    status = next((status for mark, status in kinds.items() if mark in folder.name), "kept")
    row = {"part": folder.name, "label": "", "bytes": 0, "status": status}
    try:
        row["bytes"] = sum(file.stat().st_size for file in folder.iterdir())
        row["label"] = _about(folder)["label"]
        read(folder)
    except (Hw2Error, OSError) as error:
        if getattr(error, "what", "") == OLDER:
            row["status"] = OLDER
        elif status == "kept":
            row["status"] = "damaged"
    return row


def prune(used: set[str]) -> dict[str, int]:
    """Removes the parts that no record uses (`used`: names), older versions and what was set aside.

    Returns the bytes that each had. A folder with other files than a part's stays, and so does one
    that a process may be writing.
    """
    removed = {}
    for row in list_parts():
        folder = paths.RUNS / "parts" / row["part"]
        if row["part"] in used and row["status"] == "kept":
            continue
        with suppress(FileNotFoundError):  # another process has just removed it
            if not _is_being_written(folder) and is_part(folder):
                shutil.rmtree(folder)
                removed[row["part"]] = row["bytes"]
    return removed


def _is_being_written(folder: Path) -> bool:
    return ".tmp-" in folder.name and time.time() - folder.stat().st_mtime < _WRITING_S


def is_part(folder: Path) -> bool:
    """Whether a folder's name and files are those of a part, also of a damaged or an older one."""
    if not _NAME.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
        return False
    with suppress(FileNotFoundError):  # another process has just moved it
        files = list(folder.iterdir())
        kinds = (".parquet", ".bin")
        named = all(f.name.startswith("part.json") or f.suffix in kinds for f in files)
        return named and all(f.is_file() and not f.is_symlink() for f in files)
    return False
