"""The errors that a caller of moma-cl can act on, one tree; `moma_store.errors` draws it."""

from moma_store.errors import (
    AlreadyExistsError,
    BackboneError,
    BusyError,
    ConflictError,
    FormatError,
    IntegrityError,
    InvalidInputError,
    MomaError,
    NotFoundError,
    StorageError,
)

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
