"""``hub.toml``: what a hub is, written once when it is made, readable by people."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moma_store.errors import FormatError, IntegrityError, InvalidInputError, NotFoundError
from moma_store.files import reported

NAME = "hub.toml"
FORMAT = 1
# The first version of moma-cl that reads this format; an older one names it when it refuses.
NEEDS = "0.1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """The contents of ``hub.toml``.

    Attributes
    ----------
    hub_id
        Random name of the hub, which its catalogue carries too.
    catalogue
        The catalogue's folder where it is not in the hub.
    """

    hub_id: str
    catalogue: Path | None

    def to_toml(self) -> bytes:
        """Give the file's text.

        Returns
        -------
        bytes
            TOML, UTF-8.

        Raises
        ------
        InvalidInputError
            If a value is not text that UTF-8 can encode.
        """
        lines = [
            "# Written by `moma-cl init`; only a repair ever changes it.",
            f"format = {FORMAT}",
            f"needs = {_quoted(NEEDS)}",
            f"id = {_quoted(self.hub_id)}",
        ]
        if self.catalogue is not None:
            lines.append(f"catalogue = {_quoted(str(self.catalogue))}")
        try:
            return ("\n".join(lines) + "\n").encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"{NAME} cannot hold text that is not UTF-8: {error}"
            ) from error

    @classmethod
    def read(cls, hub: Path) -> HubFile:
        """Read the file of a hub.

        Parameters
        ----------
        hub
            The hub's folder.

        Returns
        -------
        HubFile
            Its contents.

        Raises
        ------
        NotFoundError
            If the folder is no hub.
        FormatError
            If a newer version made the hub.
        IntegrityError
            If the file is damaged.
        """
        path = hub / NAME
        try:
            with reported("read", path):
                text = path.read_bytes() if path.is_file() else None
            if text is None:
                raise NotFoundError(f"there is no hub at {hub}; {_advice(hub)}")
            return cls._from_toml(path, tomllib.loads(text.decode()))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(
                f"{path} is damaged: {error}; run `moma-cl verify --repair`, with --catalogue PATH"
                " if its catalogue is in another folder"
            ) from error

    @classmethod
    def _from_toml(cls, path: Path, doc: Mapping[str, Any]) -> HubFile:
        if doc["format"] > FORMAT:
            raise FormatError(
                f"{path} is in format {doc['format']}, this version of moma-cl knows up to"
                f" {FORMAT}; install moma-cl {doc.get('needs', 'of a later version')} or newer"
            )
        if doc["format"] < FORMAT:
            raise FormatError(
                f"{path} is in format {doc['format']}, of an earlier version; copy the hub into"
                f" format {FORMAT} with `moma-cl --hub {path.parent} migrate NEW`"
            )
        catalogue = doc.get("catalogue")
        return cls(
            hub_id=doc["id"],
            catalogue=None if catalogue is None else Path(catalogue),
        )


def _advice(hub: Path) -> str:
    if not (hub / "objects").is_dir():
        return f"make one with `moma-cl init {hub}`"
    return (
        f"if one was being made, `moma-cl init {hub}` finishes it; if its {NAME} was lost,"
        " `moma-cl verify --repair` makes that anew, with --catalogue PATH if its catalogue is in"
        " another folder"
    )


def _quoted(text: str) -> str:
    """Quote a string for TOML, whose escapes are JSON's but for DEL, which must be escaped."""
    if not isinstance(text, str):
        raise InvalidInputError(f"{NAME} holds strings only, got {text!r}")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
