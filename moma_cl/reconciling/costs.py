"""Costs: what a derivation is likely to take, from the last ones like it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.records.hub import MemoReads
from moma_cl.records.records import Method

RECENT = 40
"""Latest derivations of a kind that are looked at."""


class _Likeness(NamedTuple):
    kind: DerivationKind
    finetuned: bool  # gradients cost a hundred times what a kernel head does


_EPOCH = 0.3
"""Time of an epoch over that of an estimate, which builds and embeds the graphs of all rows."""

_STARTS = 4  # trainings of a fit, at most
_TRAINING = {
    _Likeness(DerivationKind.PREDICTOR, finetuned=True): "finetune",
    _Likeness(DerivationKind.MODULE, finetuned=False): "module",
}
"""Sections of the recipe that say how long is trained."""


@dataclass(slots=True, kw_only=True)
class Costs:
    """Seconds by kind of derivation and rows."""

    store: MemoReads  # the hub's, or a snapshot of it
    _rates: dict[_Likeness, list[float]] = field(default_factory=dict)  # seconds per row
    _read: set[DerivationKind] = field(default_factory=set)

    def of(self, derivation: Derivation) -> float | None:
        """Estimate the seconds that a derivation takes; none where there was none like it.

        They are the median time per row of the last ones like it, times its rows.
        """
        self._read_kind(derivation.kind)
        rates = self._rates.get(_likeness(derivation))
        return median(rates[-RECENT:]) * self._rows(derivation.inputs["dataset"]) if rates else None

    def foreseen(self, derivation: Derivation) -> float | None:
        """Estimate the seconds of a derivation; of a first training by how long embeddings took."""
        seconds = self.of(derivation)
        section = _TRAINING.get(_likeness(derivation))
        if seconds is not None or section is None:
            return seconds
        epochs = int(derivation.settings[section]["epochs"])
        return self._of_training(derivation.inputs["dataset"], section, epochs)

    def of_fit(self, dataset: str, epochs: int) -> float | None:
        """Estimate the seconds of a fit of whose inputs only the dataset is known yet."""
        self._read_kind(DerivationKind.PREDICTOR)
        rates = self._rates.get(_Likeness(DerivationKind.PREDICTOR, finetuned=True))
        if rates:
            return median(rates[-RECENT:]) * self._rows(dataset)
        return self._of_training(dataset, "finetune", epochs)

    def _of_training(self, dataset: str, section: str, epochs: int) -> float | None:
        self._read_kind(DerivationKind.ESTIMATE)
        rates = self._rates.get(_Likeness(DerivationKind.ESTIMATE, finetuned=False))
        if not rates:
            return None
        trainings = _STARTS if section == "finetune" else 1
        return _EPOCH * median(rates[-RECENT:]) * self._rows(dataset) * epochs * trainings

    def learn(self, derivation: Derivation, seconds: float) -> None:
        """Take a measured time, s, into account."""
        self._read_kind(derivation.kind)
        rate = seconds / self._rows(derivation.inputs["dataset"])
        self._rates.setdefault(_likeness(derivation), []).append(rate)

    def _read_kind(self, kind: DerivationKind) -> None:
        if kind in self._read:
            return
        self._read.add(kind)
        # by time of day, for want of a counter: a wrong clock makes a worse guess, nothing else
        latest = sorted(self.store.memos(f"{kind}:").values(), key=lambda memo: memo.at)[-RECENT:]
        for memo in latest:
            result = self.store.record(memo.result)
            finetuned = Method.FINETUNED.value in result.get("validation_maes", {})
            rows = self._rows(result["dataset"]["$record"])
            self._rates.setdefault(_Likeness(kind, finetuned), []).append(memo.seconds / rows)

    def _rows(self, dataset: str) -> int:
        return max(1, int(self.store.record(dataset)["n_rows"]))


def _likeness(derivation: Derivation) -> _Likeness:
    heads = derivation.inputs.get("heads", ())
    return _Likeness(derivation.kind, Method.FINETUNED.value in heads)


@dataclass(slots=True, kw_only=True)
class Allowance:
    """The time that a pass may take."""

    costs: Costs  # what derivations are likely to take
    seconds: float | None = None  # none where there is no limit
    _start: float = field(default_factory=time.monotonic)

    def admits(self, derivation: Derivation) -> bool:
        """Say whether a derivation is likely to end in time; an unknown cost counts as none."""
        if self.seconds is None:
            return True
        spent = time.monotonic() - self._start
        return spent + (self.costs.of(derivation) or 0.0) < self.seconds
