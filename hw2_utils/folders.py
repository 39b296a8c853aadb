"""A run's folder: claimed, written beside, swapped in, recovered; what isn't ours stays there."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout

from hw2_utils import paths
from hw2_utils.errors import Hw2Error, InputError, disk_explained, explained, require
from hw2_utils.hub import file_sha256

STAMP = ".done"  # the workflow engine's, made after a run's folder is in place: an empty file
# What a run's folder may hold, where no record with checksums says so more exactly.
_ALWAYS = re.compile(
    r"result\.json(\.tmp-[0-9a-f]+)?|\.done|\.snakemake_timestamp"
    r"|\.ipynb_checkpoints/notebook-checkpoint\.ipynb"
)
_LISTED = re.compile(
    r"notebook\.ipynb|tables/[^/]+\.(csv|txt)|figures/[^/]+\.(pdf|png|txt)"
    r"|predictions/[^/]+\.parquet|models/([^/]+/)?[^/]+\.(safetensors|json)"
)
_FOLDERS = re.compile(r"tables|figures|predictions|\.ipynb_checkpoints|models(/[^/]+)?")
# Only we make these names. The version before this made the short ones, and so may anybody: a date
# has six digits too.
_ASIDE = re.compile(r"\.old-[0-9a-f]{32}")
_EARLIER_ASIDE = re.compile(r"\.old-[0-9a-f]{6}")
_BESIDE = re.compile(r"\.tmp-\d{8}T\d{6}-([0-9a-f]{16}|[0-9a-f]{6})")
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
_SEAL = ',\n "checksum": "'
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)  # of a rename: something is there already
_RENAME_EXCHANGE = 2  # renameat2(2)
_HERE = -100  # AT_FDCWD: relative to the working directory
OTHER_PLACE = "choose another place: --out for one run, HW2_RUNS for all"


# ---------------------------------------------------------------------------------------- checksums
def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its relative name.

    Hidden ones and the record itself are left out.
    """
    files = {f.relative_to(folder).as_posix(): f for f in sorted(folder.rglob("*")) if f.is_file()}
    left_out = (".", "result.json", "part.json")
    return {name: file_sha256(f) for name, f in files.items() if not name.startswith(left_out)}


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a record with the checksum of its own text."""
    plain = {name: value for name, value in record.items() if name != "checksum"}
    text = json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False)
    body = text.removesuffix("\n}").encode("utf-8", "surrogatepass")
    put_file(path, body + _seal(body))


def read_sealed(path: Path) -> tuple[Any, bool]:
    """A sealed record, and whether it is what was written. Raises ValueError for no JSON."""
    text = path.read_bytes()
    body = text.rpartition(_SEAL.encode())[0]
    return json.loads(text.decode("utf-8", "surrogatepass")), text == body + _seal(body)


def _seal(body: bytes) -> bytes:
    return f'{_SEAL}{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def put_file(path: Path, data: bytes) -> None:
    """Writes a file beside its place and renames it: a reader sees the old or the new one."""
    beside = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except BaseException:  # a full disk leaves no half file
        beside.unlink(missing_ok=True)
        raise


# ------------------------------------------------------------------------------------- what is ours
def run_field(folder: Path, name: str) -> Any:
    """A field of the record in a folder, or None where there is no readable one."""
    record = _record(folder)
    return record["run"].get(name) if record else None


def _record(folder: Path) -> dict[str, Any] | None:
    """What the record in a folder says, altered or not; None where there is no record of ours."""
    with suppress(*_UNREADABLE):
        record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if record["run"]["notebook"] and record["run"]["id"]:
            return record
    return None


def notebook_of(folder: Path) -> str | None:
    """The notebook of the run of ours in a folder, also of one that ended before its record."""
    with suppress(*_UNREADABLE):
        notebook = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))
        papermill = notebook["metadata"]["papermill"]
        if "run_dir" in papermill["parameters"]:
            return Path(papermill["input_path"]).stem
    record = _record(folder)
    return str(record["run"]["notebook"]) if record else None


def foreign_files(folder: Path) -> list[str]:
    """The first five files, folders and links in a folder that no run of ours wrote there."""
    record = _record(folder)
    has_ended = record is not None and record["run"].get("status") in ("complete", "failed")
    listed = record.get("files") if has_ended else None
    return list(islice(_foreign(folder, listed if isinstance(listed, dict) else {}), 5))


def _foreign(folder: Path, listed: Mapping[str, str], inside: str = "") -> Iterator[str]:
    """Names that aren't a run's, or that a record with checksums doesn't list."""
    for entry in sorted(os.scandir(folder / inside), key=lambda e: e.name):
        name = f"{inside}{entry.name}"
        if _FOLDERS.fullmatch(name) and entry.is_dir(follow_symlinks=False):
            yield from _foreign(folder, listed, f"{name}/")
        elif not _is_a_runs(name, entry, listed):
            yield name


def _is_a_runs(name: str, entry: os.DirEntry[str], listed: Mapping[str, str]) -> bool:
    if not entry.is_file(follow_symlinks=False):
        return False
    if name == STAMP:
        return entry.stat().st_size == 0
    if not _LISTED.fullmatch(name):
        return bool(_ALWAYS.fullmatch(name))
    return not listed or name in listed or file_sha256(Path(entry)) in listed.values()


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of ours, finished or not, and holds nothing else."""
    with suppress(OSError):
        is_plain = folder.is_dir() and not folder.is_symlink() and not foreign_files(folder)
        return is_plain and (notebook_of(folder) is not None or _is_empty(folder))
    return False


def _is_empty(folder: Path) -> bool:
    """Whether a folder without foreign files holds only the engine's stamp and empty folders."""
    stamps = (STAMP, ".snakemake_timestamp")
    return all(f.is_dir() or f.name in stamps for f in folder.rglob("*"))


def _is_vacant(place: Path) -> bool:
    """Whether nothing is at a run's place, or only what the workflow engine makes for its stamp."""
    if not os.path.lexists(place):
        return True
    return is_run(place) and notebook_of(place) is None


def failed_place(run_dir: Path) -> Path:
    """Where a failed attempt is kept."""
    return run_dir.with_name(f"{run_dir.name}.failed")


# ------------------------------------------------------------------------------------------- claims
def claim(run_dir: Path, notebook: str) -> AcquireReturnProxy:
    """The run folder's lock: two runs never write into one folder; a killed run gives it free.

    Refuses a place that holds anything but a run of this notebook, and one that can't be written.
    Accepted are a place where nothing is, an empty folder, one with the workflow engine's stamp.
    Moves nothing.
    """
    home = Path(os.path.expanduser("~"))
    shared = (home, paths.ROOT, paths.RUNS, paths.RUNS / "parts", paths.EMBEDDINGS_CACHE)
    above = any(place.is_relative_to(run_dir) for place in shared)
    require(not above, "a run can't take this folder's place", where=run_dir, todo=OTHER_PLACE)
    failed = failed_place(run_dir)
    for place in (run_dir, failed):
        _check_place(place, notebook)
    todo = "rename it, or choose another folder with --out"
    is_complete = run_field(failed, "status") == "complete"
    require(not is_complete, "this folder holds a complete run", where=failed, todo=todo)
    check_writable(paths.RUNS / "parts")
    lock = run_dir.with_name(f".{run_dir.name}.lock")
    todo = "wait for it, or choose another folder with --out"
    return hold(lock, "another run is writing into this folder", where=run_dir, todo=todo)


def _check_place(place: Path, notebook: str) -> None:
    """Refuses a place that holds what no run of this notebook has left there."""
    if not os.path.lexists(place):
        return
    todo = "choose another folder with --out, or move what is there"
    is_folder = place.is_dir() and not place.is_symlink()
    require(is_folder, "this is no folder, but a file or a link", where=place, todo=todo)
    require(not place.is_mount(), "a run can't replace a mounted folder", where=place, todo=todo)
    with explained("the folder can't be read", OSError, where=place, todo=todo):
        others = ", ".join(foreign_files(place))
    what = f"the folder holds what no run of ours wrote: {others}"
    require(not others, what, where=place, todo=todo)
    owner = notebook_of(place)
    what = "the folder holds files, and no record of a run"
    require(owner or _is_empty(place), what, where=place, todo=todo)
    what = f"the folder holds a run of {owner}"
    require(owner in (None, notebook), what, where=place, todo=todo)


def hold(file: Path, taken: str, *, where: Path, todo: str) -> AcquireReturnProxy:
    """Locks a file at once, until the `with` block or the process ends, or says who holds it."""
    with _writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        is_file = file.is_file() and not file.is_symlink()
        holder = file.read_text(encoding="utf-8", errors="replace").strip() if is_file else ""
    ours = not os.path.lexists(file) or is_file and (holder.isdigit() or not holder)
    move = "move it: a lock of that name belongs there"
    require(ours, "this file isn't a lock of ours", where=file, todo=move)
    with _writing(file.parent):
        try:
            held = FileLock(file).acquire(timeout=0)
        except Timeout:
            what = f"{taken} (process {holder})"
            raise InputError(what, where=paths.short(where), todo=todo) from None
        file.write_text(f"{os.getpid()}\n")
    return held


def check_writable(folder: Path) -> None:
    """Refuses a folder in which no file can be made, before anything is computed for it."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    what = "this place can't be written"
    with explained(what, OSError, where=place, todo=OTHER_PLACE), disk_explained(place):
        yield


# -------------------------------------------------------------------------------------------- swaps
def swap_in(folder: Path, run_dir: Path) -> None:
    """Puts a finished run in its place, after what killed runs left there is put right.

    Raises Hw2Error where something else has come there meanwhile: both stay, side by side.
    """
    recover(run_dir, but=folder)
    if not put_in_place(folder, run_dir, ours=is_run):
        kept = run_dir.with_name(f"{run_dir.name}.complete-{uuid.uuid4().hex}")
        folder.rename(kept)
        what = "while the run was at work, something else came into its place"
        raise Hw2Error(what, where=run_dir, todo=f"move it; the finished run is in {kept.name}")


def put_in_place(folder: Path, place: Path, *, ours: Callable[[Path], bool]) -> bool:
    """Moves a folder to its place; only what is `ours` is replaced. False where something stays.

    A reader sees the old or the new one at any moment, where the system can exchange two names
    (Linux); elsewhere it finds the old one aside for an instant.
    """
    while True:
        try:
            folder.rename(place)  # nothing is there, or an empty folder
            return True
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        if place.is_symlink() or not ours(place):
            return False
        aside = place.with_name(f"{place.name}.old-{uuid.uuid4().hex}")
        if _exchange(folder, place):
            folder.rename(aside)  # what it was; its own name says so if this process ends here
            _remove(aside, ours)
            return True
        moved = _by_two_renames(folder, place, aside)
        _remove(aside, ours)
        if moved:
            return True


def _by_two_renames(folder: Path, place: Path, aside: Path) -> bool:
    """Where names can't be exchanged; False where another process came between the two."""
    with suppress(FileNotFoundError):  # another process has just moved it
        place.rename(aside)
    try:
        folder.rename(place)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        with suppress(OSError):
            aside.rename(place)  # the old one comes back
        raise
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two names in one step (Linux's renameat2); False where that can't be done."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename) and rename(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE) == 0


def _remove(folder: Path, ours: Callable[[Path], bool]) -> None:
    """Deletes a folder if it is still `ours`; what came into it meanwhile stays with it."""
    if os.path.lexists(folder) and ours(folder):
        shutil.rmtree(folder, ignore_errors=True)


def recover(run_dir: Path, *, but: Path | None = None) -> None:
    """Finishes an interrupted swap, and removes what killed runs left beside the folder.

    Only the claim's holder may. What the version before this set aside may be anybody's, by its
    name: it is read, never moved or deleted.
    """
    aside = _siblings(run_dir, _ASIDE)
    beside = [folder for folder in _siblings(run_dir, _BESIDE) if folder != but]
    was_interrupted = aside or _siblings(run_dir, _EARLIER_ASIDE)
    if was_interrupted and _is_vacant(run_dir):
        if complete := _complete([*aside, *beside]):
            _remove(run_dir, _is_vacant)  # an empty one: the engine makes it for its stamp
            complete[-1].rename(run_dir)
    for left in [*aside, *beside]:
        _remove(left, _holds_only_a_runs_files)


def _siblings(run_dir: Path, kind: re.Pattern[str]) -> list[Path]:
    """Folders beside a run's that bear names of this kind and hold nothing but a run's files."""
    start = f"{run_dir.name}."
    with suppress(OSError):
        names = sorted(n for n in os.listdir(run_dir.parent) if n.startswith(start))
        ours = [run_dir.with_name(n) for n in names if kind.fullmatch(n[len(run_dir.name) :])]
        return [folder for folder in ours if _holds_only_a_runs_files(folder)]
    return []


def _holds_only_a_runs_files(folder: Path) -> bool:
    """Whether all names in a folder are a run's, be they in its record or not."""
    with suppress(OSError):
        return not folder.is_symlink() and not any(_foreign(folder, {}))
    return False


def readable(run_dir: Path) -> Path:
    """Where a run is to be read: its place, or where an interrupted swap left it. Moves nothing."""
    if (run_dir / "result.json").is_file():
        return run_dir
    place = run_dir.resolve()
    aside = [*_siblings(place, _EARLIER_ASIDE), *_siblings(place, _ASIDE)]
    complete = _complete(aside)
    return complete[-1] if complete else run_dir


def _complete(places: Iterable[Path]) -> list[Path]:
    return [place for place in places if run_field(place, "status") == "complete"]


def identity(place: Path) -> tuple[int, ...] | None:
    """What tells a file or folder from another one that comes into its place; None without one."""
    with suppress(OSError):
        stat = place.stat()
        return stat.st_dev, stat.st_ino, stat.st_ctime_ns, stat.st_mtime_ns
    return None


def keep_failed(folder: Path, run_dir: Path) -> None:
    """Keeps a failed attempt as `<run_dir>.failed/`, in place of an earlier one.

    One that has written nothing is removed.
    """
    if notebook_of(folder) is None:
        _remove(folder, _holds_only_a_runs_files)
        return
    failed = failed_place(run_dir)
    if run_field(failed, "status") != "complete":
        _remove(failed, is_run)
    if os.path.lexists(failed):  # it came while this run was at work, and isn't ours
        failed = run_dir.with_name(f"{failed.name}-{uuid.uuid4().hex}")
    folder.rename(failed)
