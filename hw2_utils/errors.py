"""The one family of exceptions that people see as a single message."""


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
