"""The errors of the project, one tree, divided by what a handler would do about them.

::

    MomaError                 not meant to be raised itself
    ├── NotFoundError         not-found        3   name something that exists, or create it
    ├── AlreadyExistsError    already-exists   4   choose another name
    ├── InvalidInputError     invalid-input    4   correct the input
    ├── BusyError             busy             5   try again later
    │   └── ConflictError     busy.conflict    5   read again, then try again
    ├── IntegrityError        integrity        6   stop; stored data differs from what was written
    ├── FormatError           format           7   install a version that knows the format
    ├── BackboneError         backbone         4   supply the backbone the hub was made with
    └── StorageError          storage          1   mend the disk or the machine; nothing was written

``code`` is stable and meant for machines; ``exit_code`` is what a command line returns.
"""

from __future__ import annotations

__all__ = [
    "AlreadyExistsError",
    "BackboneError",
    "BusyError",
    "ConflictError",
    "FormatError",
    "IntegrityError",
    "InvalidInputError",
    "MomaError",
    "NotFoundError",
    "StorageError",
]


class MomaError(Exception):
    """Root of every error the project raises on purpose.

    Parameters
    ----------
    message
        What happened, to which id or path, what was found against what was expected, and the
        next step.

    Attributes
    ----------
    code
        Stable name of the kind of error.
    exit_code
        Exit status of a command that ends with this error.
    """

    code: str = "error"
    exit_code: int = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotFoundError(MomaError):
    """A hub, record, ref or file that was named does not exist."""

    code = "not-found"
    exit_code = 3


class AlreadyExistsError(MomaError):
    """The name or path to be created is taken."""

    code = "already-exists"
    exit_code = 4


class InvalidInputError(MomaError):
    """Input that no retry can make acceptable.

    Parameters
    ----------
    message
        As in `MomaError`.
    code
        A narrower code below ``invalid-input``, such as ``invalid-input.overlapping-atoms``.
    """

    code = "invalid-input"
    exit_code = 4

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class BusyError(MomaError):
    """Another process holds what this one needs."""

    code = "busy"
    exit_code = 5


class ConflictError(BusyError):
    """A ref has moved since the caller read it."""

    code = "busy.conflict"


class IntegrityError(MomaError):
    """Stored data is damaged: it differs from what was written or cannot be read back."""

    code = "integrity"
    exit_code = 6


class FormatError(MomaError):
    """The data is in a format version this program does not know."""

    code = "format"
    exit_code = 7


class BackboneError(MomaError):
    """The backbone does not match the one the data was made with, or cannot be loaded."""

    code = "backbone"
    exit_code = 4


class StorageError(MomaError):
    """The operating system or the database refused to read or write.

    Parameters
    ----------
    message
        As in `MomaError`.
    errno
        The operating system's error number, where there is one.
    """

    code = "storage"
    exit_code = 1

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno
