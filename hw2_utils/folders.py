"""A run's folder: claimed, written beside, swapped in, recovered; what this project did not make is never touched."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout

from hw2_utils import paths
from hw2_utils.errors import InputError, explained, require

STAMP = ".done"  # the workflow engine's, made after a run's folder is in place
# What a run's folder may hold, without a checksum in a record that would say so more exactly.
OWN_FILES = re.compile(
    r"result\.json(\.tmp-[0-9a-f]+)?|notebook\.ipynb|\.done|\.snakemake_timestamp"
    r"|\.ipynb_checkpoints/notebook-checkpoint\.ipynb"
    r"|tables/[^/]+\.(csv|txt)|figures/[^/]+\.(pdf|png|txt)|predictions/[^/]+\.parquet"
)
# Only we make these names: 64 random bits and more. The short ones are those of the version before this.
_ASIDE = re.compile(r"\.(old-[0-9a-f]{32}|old-[0-9a-f]{6})")
_BESIDE = re.compile(r"\.tmp-\d{8}T\d{6}-([0-9a-f]{16}|[0-9a-f]{6})")
_RENAME_EXCHANGE = 2  # renameat2(2)


# ---------------------------------------------------------------------------------------------- checksums
def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its relative name; hidden ones and the record itself are left out."""
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    names = [(str(f.relative_to(folder).as_posix()), f) for f in files]
    kept = [(n, f) for n, f in names if not n.startswith((".", "result.json", "part.json"))]
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in kept}


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the checksum of all else that it holds."""
    plain = {k: v for k, v in record.items() if k != "checksum"}
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False)
    return {**plain, "checksum": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()}


def is_sealed(record: Mapping[str, Any]) -> bool:
    """Whether a record is what was written."""
    return record.get("checksum") == sealed(record)["checksum"]


def write_json(path: Path, value: Any) -> None:
    """Writes beside and renames, so that a reader never sees half a file."""
    beside = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:6]}")
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(path)


# ---------------------------------------------------------------------------------------------- what is ours
def run_field(folder: Path, name: str) -> Any:
    """A field of the record in a folder, or None where there is no readable one."""
    try:
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))["run"][name]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def foreign_files(folder: Path) -> list[str]:
    """Files and links in a folder that no run of ours writes."""
    listed = _listed(folder)
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (path.is_file() and not _is_own(name, listed)):
            found.append(name)
        elif path.is_dir() and not any(path.iterdir()) and name not in _FOLDERS:
            found.append(f"{name}/")
    return found


_FOLDERS = ("tables", "figures", "predictions", ".ipynb_checkpoints")


def _listed(folder: Path) -> set[str] | None:
    """The files that the folder's complete record lists; None where there is no such list."""
    try:
        record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        complete = record["run"]["status"] == "complete"
        return set(record["files"]) if complete else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_own(name: str, listed: set[str] | None) -> bool:
    if not OWN_FILES.fullmatch(name):
        return False
    in_a_folder = name.startswith(("tables/", "figures/", "predictions/"))
    return listed is None or not in_a_folder or name in listed


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of ours, finished or not, and holds nothing else."""
    if folder.is_symlink() or not folder.is_dir() or foreign_files(folder):
        return False
    return run_field(folder, "notebook") is not None or _was_executed(folder) or _is_empty(folder)


def _was_executed(folder: Path) -> bool:
    """Whether a notebook was executed by our runner here, and ended before a record was begun."""
    try:
        notebook = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))
        return "run_dir" in notebook["metadata"]["papermill"]["parameters"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but the engine's stamp and our own empty folders."""
    return all(f.name in (STAMP, ".snakemake_timestamp") for f in folder.rglob("*") if f.is_file())


def check_claimable(run_dir: Path) -> None:
    """Refuses a place that holds anything which isn't a run of ours; also one that failed before is looked at.

    Accepted are a place where nothing is, an empty folder, one with the workflow engine's stamp, a run of ours.
    """
    failed = run_dir.with_name(f"{run_dir.name}.failed")
    for place in (run_dir, failed):
        todo = "choose another folder with --out, or move what is there"
        taken = place.is_symlink() or place.exists()
        require(not taken or place.is_dir(), "this is a file, not a folder", where=place, todo=todo)
        others = ", ".join(foreign_files(place)[:5]) if place.is_dir() else ""
        require(
            not others,
            f"the folder holds what no run of ours wrote: {others}",
            where=place,
            todo=todo,
        )
        ours = not taken or is_run(place)
        require(ours, "the folder holds files, and no record of a run", where=place, todo=todo)
    complete = run_field(failed, "status") == "complete"
    todo = "rename it, or choose another folder with --out"
    require(not complete, "this folder holds a complete run", where=failed, todo=todo)


# ---------------------------------------------------------------------------------------------- claims
def claim(run_dir: Path) -> AcquireReturnProxy:
    """The run folder's lock: two runs never write into one folder, and a killed run gives it free.

    Refuses a folder that isn't ours (`check_claimable`) and one that can't be written. Nothing is moved here.
    """
    check_claimable(run_dir)
    lock = run_dir.with_name(f".{run_dir.name}.lock")
    todo = "wait for it, or choose another folder with --out"
    return hold(lock, "another run is writing into this folder", where=run_dir, todo=todo)


def hold(file: Path, taken: str, *, where: Path, todo: str) -> AcquireReturnProxy:
    """Locks a file at once, until the `with` block or the process ends, or says who holds it."""
    unwritable = f"choose another place: --out for one run, HW2_RUNS for all (now {paths.RUNS})"
    with explained("this place can't be written", OSError, where=file.parent, todo=unwritable):
        file.parent.mkdir(parents=True, exist_ok=True)
        holder = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    move = "move it: a lock of that name belongs there"
    require(holder.isdigit() or not holder, "this file isn't a lock of ours", where=file, todo=move)
    with explained("this place can't be written", OSError, where=file.parent, todo=unwritable):
        try:
            held = FileLock(file).acquire(timeout=0)
        except Timeout:
            what = f"{taken} (process {holder})"
            raise InputError(what, where=paths.short(where), todo=todo) from None
        file.write_text(f"{os.getpid()}\n")
    return held


# ---------------------------------------------------------------------------------------------- swaps
def swap_in(folder: Path, run_dir: Path) -> None:
    """Puts a finished run in its place, after what killed runs left there is put right."""
    recover(run_dir, but=folder)
    put_in_place(folder, run_dir, replace=True)


def put_in_place(folder: Path, place: Path, *, replace: bool) -> None:
    """Moves a folder to its place: where one is already, it is exchanged and deleted, or (not `replace`) it stays.

    A reader sees the old or the new one at any moment, where the system can exchange two names (Linux); elsewhere it
    finds the old one aside for an instant.
    """
    while folder.exists():
        with suppress(OSError):  # something is there, or another process was faster
            folder.rename(place)
            return
        if not replace:
            shutil.rmtree(folder, ignore_errors=True)
            return
        aside = place.with_name(f"{place.name}.old-{uuid.uuid4().hex}")
        if _exchange(folder, place):
            folder.rename(aside)  # what it was; its own name says so if this process ends here
        else:
            with suppress(FileNotFoundError):
                place.rename(aside)
            with suppress(OSError):
                folder.rename(place)
        shutil.rmtree(aside, ignore_errors=True)
        if not folder.exists():
            return


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two names in one step (Linux's renameat2); False where that can't be done."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    here = -100  # AT_FDCWD: relative to the working directory
    return rename(here, os.fsencode(one), here, os.fsencode(other), _RENAME_EXCHANGE) == 0


def recover(run_dir: Path, *, but: Path | None = None) -> None:
    """Finishes an interrupted swap, and removes what killed runs left beside the folder; only the claim's holder may."""
    aside, beside = (sorted(_siblings(run_dir, kind)) for kind in (_ASIDE, _BESIDE))
    beside = [folder for folder in beside if folder != but]
    if run_field(run_dir, "status") is None and (not run_dir.exists() or _is_empty(run_dir)):
        whole = [*aside, *(f for f in beside if run_field(f, "status") == "complete")]
        if whole:
            shutil.rmtree(
                run_dir, ignore_errors=True
            )  # an empty one: the engine makes it for its stamp
            whole[-1].rename(run_dir)
    for left in [*aside, *beside]:
        shutil.rmtree(left, ignore_errors=True)


def _siblings(run_dir: Path, kind: re.Pattern[str]) -> list[Path]:
    """Folders beside a run's that only we name so and that hold a run of ours, or nothing."""
    with suppress(OSError):
        names = [f.name for f in run_dir.parent.iterdir() if f.name.startswith(f"{run_dir.name}.")]
        found = [run_dir.with_name(n) for n in names if kind.fullmatch(n[len(run_dir.name) :])]
        return [folder for folder in found if is_run(folder)]
    return []


def readable(run_dir: Path) -> Path:
    """Where a run is to be read: its place, or, while a swap is interrupted, where the swap left it. Moves nothing."""
    if (run_dir / "result.json").is_file():
        return run_dir
    aside = [f for f in _siblings(run_dir, _ASIDE) if run_field(f, "status") == "complete"]
    return aside[-1] if aside else run_dir


def keep_failed(folder: Path, run_dir: Path) -> Path:
    """Keeps a failed attempt as `<run_dir>.failed/`, in place of an earlier one."""
    failed = run_dir.with_name(f"{run_dir.name}.failed")
    if failed.exists() and is_run(failed):
        shutil.rmtree(failed)
    if failed.exists():  # came while this run was at work, and isn't ours
        failed = run_dir.with_name(f"{run_dir.name}.failed-{uuid.uuid4().hex}")
    folder.rename(failed)
    return failed
