"""The one family of exceptions that people see as a single message."""

from collections.abc import Iterator
from contextlib import contextmanager


class Hw2Error(Exception):
    """A failure that the user can act on: what is wrong, where, and what to do next (exit code 1)."""

    exit_code = 1

    def __init__(self, what: str, *, where: object = "", todo: str = "") -> None:
        self.what, self.where, self.todo = what, str(where), todo
        super().__init__(what, self.where, todo)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return place + self.what + (f"\n  What to do: {self.todo}" if self.todo else "")


class InputError(Hw2Error):
    """The user's own input is wrong: a parameter, a file, a model folder (exit code 2)."""

    exit_code = 2


def require(holds: object, what: str, *, where: object, todo: str) -> None:
    """Raises InputError unless `holds`."""
    if not holds:
        raise InputError(what, where=where, todo=todo)


@contextmanager
def explained(what: str, *kinds: type[Exception], where: object, todo: str) -> Iterator[None]:
    """Turns an error of a library (of these kinds, or of any) into an InputError with the first line of its reason."""
    kinds = kinds or (Exception,)
    try:
        yield
    except kinds as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{what}: {reason}", where=where, todo=todo) from error
