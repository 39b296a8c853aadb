"""The one family of exceptions that people see as a single message."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


class Hw2Error(Exception):
    """A failure that the user can act on (exit code 1): what is wrong, where, what to do next."""

    exit_code = 1

    def __init__(self, what: str, where: object = "", todo: str = "") -> None:
        self.what, self.where, self.todo = what, str(where), todo
        super().__init__(what, self.where, todo)  # what pickle calls it with, from another process

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return place + self.what + (f"\n  What to do: {self.todo}" if self.todo else "")

    def _render_traceback_(self) -> list[str]:
        """What IPython shows below a cell: the message alone (`%debug` still has the frames)."""
        return f"error: {self}".splitlines()


class InputError(Hw2Error):
    """The user's own input is wrong: a parameter, a file, a model folder (exit code 2)."""

    exit_code = 2


def require(holds: object, what: str, *, where: object, todo: str) -> None:
    """Raises InputError unless `holds`."""
    if not holds:
        raise InputError(what, where=where, todo=todo)


@contextmanager
def explained(what: str, *kinds: type[Exception], where: object, todo: str) -> Iterator[None]:
    """Turns an error of a library (of these kinds, or of any) into an InputError.

    It has the first line of that error's reason.
    """
    kinds = kinds or (Exception,)
    try:
        yield
    except kinds as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{what}: {reason}", where=where, todo=todo) from error


@contextmanager
def disk_explained(*places: Path) -> Iterator[None]:
    """One message for a full disk (exit code 1), one for a place that can't be written (2)."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            todo = "free some space, or put the runs elsewhere with HW2_RUNS"
            raise Hw2Error("the disk is full", where=_fullest(places), todo=todo) from error
        if error.errno in CLOSED:
            what = f"this place can't be written: {error.strerror}"
            todo = "choose another place: --out for one run, HW2_RUNS for all"
            raise InputError(what, where=error.filename or places[0], todo=todo) from error
        raise


def _fullest(places: tuple[Path, ...]) -> Path:
    """The one with the least space, of the places that are there."""
    there = [place for place in places if place.is_dir()]
    return min(there, key=lambda place: shutil.disk_usage(place).free, default=places[0])
