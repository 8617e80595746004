"""Holds: promotions that wait until somebody confirms them.

Light: nothing heavy is imported, so that `status` can ask.
"""

from __future__ import annotations

from moma_cl.derivations.keys import Derivation, DerivationKind
from moma_cl.properties.units import with_unit
from moma_cl.records.hub import MemoReads, Reads
from moma_cl.records.records import Drift, Hold
from moma_cl.records.refs import RefKind

DRIFT_LEVEL = 0.001
"""Probability of calling it drift on a night when there is none."""

_TELLING_RATIO = 3.0  # of values and answers, beyond which another unit is likely


def drift_derivation(task: str, champion: str, dataset: str) -> Derivation:
    """Describe how a champion is measured on the rows of a dataset that it has not learned."""
    return Derivation(
        kind=DerivationKind.DRIFT,
        task=task,
        subject=f"champion {champion[:12]}",
        inputs={"predictor": champion, "dataset": dataset},
        settings={"level": DRIFT_LEVEL},
    )


def drift_of(store: MemoReads, task: str, champion: str, dataset: str) -> Drift | None:
    """Look up how a champion fares on the rows of a dataset; none where it was not measured."""
    memo = store.memo(drift_derivation(task, champion, dataset).key)
    return None if memo is None else Drift.from_doc(store.record(memo.result))


def describe_drift(drift: Drift) -> str:
    """Say in one line what was measured on new rows."""
    text = f"error {with_unit(f'{drift.mae:.4g}', drift.unit)} on {drift.rows:,} new rows"
    if drift.reference_mae is None or drift.p_value is None:
        return f"{text}; there is no measured error to compare it with"
    text = f"{text} against {drift.reference_mae:.4g} promised ({drift.reference})"
    chance, elements = f"p = {drift.p_value:.2g}", _elements(drift)
    if not drift.drifted:
        return f"{text}, {chance}{elements}"
    return f"{text}: drift, {chance}{_source(drift)}{elements}"


def _elements(drift: Drift) -> str:
    names = ", ".join(drift.new_elements)
    return f"; elements that no earlier row has: {names}" if names else ""


def _source(drift: Drift) -> str:
    """Name the delivery that fits least, and the factor by which it might be in another unit."""
    ratio = drift.ratio
    factor = ""
    if ratio is not None and not 1 / _TELLING_RATIO < ratio < _TELLING_RATIO:
        factor = f", values about {ratio:.3g} times what was expected: another unit?"
    if not drift.source or (drift.source_rows == drift.rows and not factor):
        return f", in {drift.source}" if drift.source else ""
    rows = "row" if drift.source_rows == 1 else f"{drift.source_rows:,} rows"
    where = f"{with_unit(f'{drift.source_mae:.4g}', drift.unit)} on the {rows} of {drift.source}"
    return f", most of all {where}{factor}"


def hold_of(store: Reads, task: str) -> Hold | None:
    """Look up the promotion of a task that waits for somebody.

    A hold ends by itself when another champion answers or another predictor is fitted.
    """
    digest = store.ref(RefKind.HOLD.of(task))
    if digest is None:
        return None
    hold = Hold.from_doc(store.record(digest))
    present = (store.ref(RefKind.PREDICTOR.of(task)), store.ref(RefKind.FITTED.of(task)))
    return hold if present == (hold.predictor, hold.fitted) else None
