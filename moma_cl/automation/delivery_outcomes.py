"""What became of deliveries, as their reports and the mail say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moma_cl.automation import inbox
from moma_cl.automation.inbox import Delivery
from moma_store.errors import InvalidInputError

if TYPE_CHECKING:
    from moma_cl.datasets.intake import Intake


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a delivery."""

    folder: str  # where it goes
    text: str  # for people
    figures: dict[str, Any]  # for the report
    reasons: tuple[str, ...] = ()  # for which rows were refused, each with an example

    def for_mail(self, delivery: Delivery) -> dict[str, Any]:
        """Give what a mail says: the file, and how many rows of how many were refused and why."""
        refusals = self.figures.get("refusals", {"refused": 0, "counts": {}})
        names = ("rows", "repeated", "replaced", "total")
        return {
            "file": delivery.shown,
            "folder": self.folder,
            **{name: self.figures.get(name, 0) for name in names},
            "refused": refusals["refused"],
            "codes": list(refusals["counts"]),
            "reasons": list(self.reasons),
        }


def of_rows(intake: Intake, *, replaced: int) -> Outcome:
    """Say what becomes of the rows of a delivery."""
    from moma_cl.structures.checks import Quarantine

    added, refused = len(intake.ids), len(intake.refusals)
    quarantine = Quarantine(refusals=intake.refusals)
    counts = {"added": added, "there already": intake.repeats, "refused": refused}
    parts = [f"{count:,} {what}" for what, count in counts.items() if count]
    return Outcome(
        folder=inbox.REFUSED if refused and not added else inbox.DONE,
        text="rows: " + (", ".join(parts) or "none with a fold"),
        figures={
            "rows": added,
            "repeated": intake.repeats,
            "replaced": replaced,
            "left_out": intake.left_out,
            "total": added + intake.repeats + intake.left_out + refused,
            "refusals": quarantine.to_json(),
        },
        reasons=tuple(quarantine.summary()[1:]),
    )


def of_refusal(error: InvalidInputError) -> Outcome:
    """Say why a delivery was refused as a whole."""
    figures = {"rows": 0, "code": error.code, "message": error.message}
    return Outcome(folder=inbox.REFUSED, text=error.message, figures=figures)
