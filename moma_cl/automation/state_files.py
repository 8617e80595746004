"""State files: small JSON documents for whoever looks; nothing that is computed rests on them."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_state(file: Path, document: dict[str, Any]) -> None:
    """Write a JSON document to a file; if that fails, the file stays as it was."""
    # Of this process alone: two may write the same state.
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="ascii")
        temporary.replace(file)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def read_state(file: Path) -> dict[str, Any] | None:
    """Read a document that :func:`write_state` wrote; none where there is none that can be read."""
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
