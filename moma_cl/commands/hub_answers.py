"""What a hub answers: predictions for structures, and how far they are off where labels are known.

`moma_cl.Hub` has these verbs beside those of tasks, passes and modules.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from moma_cl.commands.hub_maintenance import HubMaintenance
from moma_cl.core.devices import DeviceName, resolve_device
from moma_cl.progress import Progress

if TYPE_CHECKING:
    from moma_cl.commands.evaluate import Evaluation
    from moma_cl.commands.predict import Earlier
    from moma_cl.commands.predictions import PredictedRow, Predictions
    from moma_cl.commands.ranking import Ranking
    from moma_cl.commands.ready_predictor import ReadyPredictor
    from moma_cl.readers.memory import Data
    from moma_cl.readers.rows import Reading

_KEPT_PREDICTORS = 8  # loaded predictors that a hub keeps: those used last


class HubAnswers(HubMaintenance):
    """The verbs of a hub that answer.

    Parameters
    ----------
    path
        The hub's folder.
    wait
        How long a verb that writes or makes a pass waits for another program that does, s.
    progress
        Called with a label, the steps done and the steps planned.
    device
        Name of the device that encoders compute on.
    """

    def __init__(self, path: Path, wait: float, progress: Progress, device: DeviceName) -> None:
        super().__init__(path, wait, progress, device)
        self._predictors: OrderedDict[tuple[str, str, bool], ReadyPredictor] = OrderedDict()
        self._lock = Lock()

    def predict(
        self,
        name: str | Sequence[str],
        structures: Data,
        *,
        level: float | None = None,
        at: str | None = None,
        fast: bool = False,
        explain: bool = False,
        reading: Reading | None = None,
    ) -> Predictions:
        """Predict for structures; a bad one never stops the rest.

        Parameters
        ----------
        name
            The task's name; or the names of several tasks, which all answer each structure.
        structures
            As explained by the class; targets are ignored, and other columns are handed on.
        level
            Coverage of the intervals, between 0 and 1; by default the recipe's.
        at
            Digest of an earlier champion, or its beginning; by default the present one answers.
        fast
            Whether the cheapest learner of the predictor answers alone: several times as many
            structures in the same time, with larger errors and the wider intervals that they need.
        explain
            Whether the rows hold the nearest known rows and the modules behind the predictor.
        reading
            As explained by the class.

        Returns
        -------
        Predictions
            One row for each row of the input, in its order; of several tasks, one for each of them.

        Raises
        ------
        NotFoundError
            If there is no such task or predictor.
        InvalidInputError
            If the level is no coverage, or the data are of no kind that is read.
        ChangedAnswersError
            If the software is another and the predictor answers otherwise than when it was made.
        """
        from moma_cl.commands.predictions import Predictions

        rows = self.iter_predictions(
            name, structures, level=level, at=at, fast=fast, explain=explain, reading=reading
        )
        return Predictions(tuple(rows))

    def iter_predictions(
        self,
        name: str | Sequence[str],
        structures: Data,
        *,
        level: float | None = None,
        at: str | None = None,
        fast: bool = False,
        explain: bool = False,
        reading: Reading | None = None,
        earlier: Earlier | None = None,
    ) -> Iterator[PredictedRow]:
        """Predict as :meth:`predict` does, row by row, for more structures than fit in memory.

        `earlier` names rows that an interrupted run of one task has answered; they are skipped.
        """
        from moma_cl.commands.predict import predict
        from moma_cl.readers.memory import sources_of

        names = [name] if isinstance(name, str) else list(dict.fromkeys(name))
        return predict(
            [self._ready(one, at, fast=fast, explain=explain) for one in names],
            sources_of(structures),
            level=level,
            earlier=earlier,
            reading=reading,
            progress=self._progress,
        )

    def rank(
        self,
        name: str,
        structures: Data,
        ranking: Ranking,
        *,
        level: float | None = None,
        at: str | None = None,
        fast: bool = False,
        explain: bool = False,
        reading: Reading | None = None,
    ) -> Predictions:
        """Predict as :meth:`predict` does, and order the rows for a goal, the best first.

        `ranking` says for which goal, and how many rows are kept; other parameters are those of
        :meth:`predict`. Gives the rows with their scores, and in `left_out` those that are not
        among the best; rows without an answer come last.
        """
        from moma_cl.commands.predict import predict
        from moma_cl.commands.ranked_rows import ranked
        from moma_cl.readers.memory import sources_of

        ready = self._ready(name, at, fast=fast, explain=explain)
        rows = predict(
            [ready],
            sources_of(structures),
            level=level,
            reading=reading,
            progress=self._progress,
        )
        return ranked(ranking, rows, ready.measured.values.tolist())

    def evaluate(
        self,
        name: str,
        data: Data,
        *,
        target: str | None = None,
        level: float | None = None,
        at: str | None = None,
        fast: bool = False,
        reading: Reading | None = None,
    ) -> Evaluation:
        """Predict for rows with labels, and say how far the answers are off.

        `target` names the column with the labels, by default the task's; labels are read as
        :meth:`add_data` reads them. Nothing is learned from them. Other parameters are those of
        :meth:`predict`. Raises `InvalidInputError` if no row has both a label and an answer.
        """
        from moma_cl.commands.evaluate import evaluate
        from moma_cl.readers.memory import sources_of

        return evaluate(
            self.path,
            self._ready(name, at, fast=fast, explain=False),
            sources_of(data),
            target=target,
            level=level,
            reading=reading,
            progress=self._progress,
        )

    def _ready(self, name: str, at: str | None, *, fast: bool, explain: bool) -> ReadyPredictor:
        """Give the predictor that answers now; it is loaded once, and kept."""
        from moma_cl.commands.ready_predictor import answering, ready_predictor, with_rows_of_now
        from moma_store.store import Store

        with self._lock, Store.open(self.path) as store, store.snapshot() as view:
            digest = answering(view, name, at, fast=fast)
            key = name, digest, explain
            ready = self._predictors.get(key)
            if ready is None:
                device = resolve_device(self.device)
                ready = ready_predictor(store, name, digest, explain=explain, device=device)
            ready = self._predictors[key] = with_rows_of_now(store, view, ready)
            self._predictors.move_to_end(key)
            while len(self._predictors) > _KEPT_PREDICTORS:
                self._predictors.popitem(last=False)
            return ready
