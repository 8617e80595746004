"""Costs: what a derivation is likely to take, from the last ones like it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.records.hub import MemoReads
from moma_cl.records.records import LearnerMethod

RECENT = 40
"""Latest derivations of a kind that are looked at."""


class _Likeness(NamedTuple):
    kind: DerivationKind
    backbone: str = ""  # digest of its record; none where several take part
    method: str = ""  # of a learner: gradients cost a hundred times what a kernel head does


_EPOCH = 0.3
"""Time of an epoch over that of an estimate, which builds and embeds the graphs of all rows."""

_TRAINING = {
    (DerivationKind.LEARNER, LearnerMethod.FINETUNED.value): "finetune",
    (DerivationKind.LEARNER, LearnerMethod.ADAPTED.value): "finetune",
    (DerivationKind.MODULE, ""): "module",
}
"""Sections of the recipe that say how long is trained, by kind and method."""


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
        likeness = _likeness(derivation)
        section = _TRAINING.get((likeness.kind, likeness.method))
        if seconds is not None or section is None:
            return seconds
        self._read_kind(DerivationKind.ESTIMATE)
        rates = self._rates.get(_Likeness(DerivationKind.ESTIMATE, likeness.backbone))
        if not rates:
            return None
        epochs = int(derivation.settings[section]["epochs"])
        return _EPOCH * median(rates[-RECENT:]) * self._rows(derivation.inputs["dataset"]) * epochs

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
            backbone = result.get("backbone", {}).get("$record", "")
            likeness = _Likeness(kind, backbone, _method(kind, result))
            rows = self._rows(result["dataset"]["$record"])
            self._rates.setdefault(likeness, []).append(memo.seconds / rows)

    def _rows(self, dataset: str) -> int:
        return max(1, int(self.store.record(dataset)["n_rows"]))


def _likeness(derivation: Derivation) -> _Likeness:
    inputs = derivation.inputs
    backbone = str(inputs.get("backbone", ""))
    return _Likeness(derivation.kind, backbone, _method(derivation.kind, inputs))


def _method(kind: DerivationKind, document: Mapping[str, Any]) -> str:
    """Read the method of a learner from its record, or from what it is derived from."""
    if kind is not DerivationKind.LEARNER:
        return ""
    carried = document.get("learner") or document.get("origin")
    return "carried" if carried else str(document["method"])


@dataclass(slots=True, kw_only=True)
class Allowance:
    """The time that a pass may take."""

    costs: Costs  # what derivations are likely to take
    seconds: float | None = None  # none where there is no limit
    cores: int = 1  # that compute at the same time
    _start: float = field(default_factory=time.monotonic)

    def admits(self, derivation: Derivation, beside: Collection[Derivation] = ()) -> bool:
        """Say whether a derivation is likely to end in time; an unknown cost counts as none.

        Those beside it are computed at the same time, as many as there are cores.
        """
        if self.seconds is None:
            return True
        spent = time.monotonic() - self._start
        costs = [self.costs.of(one) or 0.0 for one in (derivation, *beside)]
        at_once = max(1, self.cores // int(derivation.settings["threads"]))
        return spent + max(*costs, sum(costs) / at_once) < self.seconds
