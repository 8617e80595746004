"""Run the benchmarks, print a table and write ``benchmarks/results/NAME.json``.

``python -m benchmarks`` runs all, ``python -m benchmarks NAME`` one of them.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def names() -> list[str]:
    """List the benchmarks: every module with a function ``run``."""
    return sorted(file.stem for file in HERE.glob("*.py") if "\ndef run(" in file.read_text())


def main(arguments: list[str]) -> int:
    """Run what is asked for; the status is 1 if a bar does not hold."""
    wanted = arguments or names()
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    holds = True
    for name in wanted:
        rows: list[dict[str, Any]] = importlib.import_module(f"benchmarks.{name}").run()
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
        print(table(name, rows), flush=True)
        holds = holds and all(row["holds"] is not False for row in rows)
    return 0 if holds else 1


def table(name: str, rows: list[dict[str, Any]]) -> str:
    """Lay the rows of one benchmark out in columns."""
    columns = ("name", "ours", "theirs", "unit", "ratio", "bar", "holds")
    cells = [columns, *(tuple(_text(row[column]) for column in columns) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)) for line in cells]
    return "\n".join([f"== {name}", *lines, ""])


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
