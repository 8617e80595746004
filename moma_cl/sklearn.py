"""A scikit-learn estimator on the ground of `moma_cl.Hub`: crystal structures in, predictions out.

scikit-learn is an optional dependency; nothing else of moma-cl imports this file. As the
interface of scikit-learn goes, errors of the target are its own `ValueError`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from moma_cl.arraytypes import FloatArray
from moma_cl.core.devices import AUTO, DeviceName, resolve_device
from moma_cl.hub import Hub
from moma_cl.readers.memory import MemoryRows
from moma_cl.readers.rows import STRUCTURE_NAMES, Reading, first_of
from moma_cl.recipe import Recipe
from moma_cl.reconciling.pass_actions import PassAction
from moma_cl.records.hub import backbones_of, hub_of
from moma_cl.records.refs import DEFAULT_RECIPE, RefKind, backbone_in
from moma_store.errors import InvalidInputError
from moma_store.store import Store

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import (
        check_array,
        check_consistent_length,
        check_is_fitted,
        column_or_1d,
    )
except ImportError as error:
    raise ImportError(
        "scikit-learn is not installed; `pip install 'moma-cl[sklearn]'` installs it"
    ) from error

if TYPE_CHECKING:
    from moma_cl.commands.predictions import PredictedRow
    from moma_cl.commands.ready_predictor import ReadyPredictor

__all__ = ["MomaRegressor"]

_TARGET = "target"  # column of the targets, and the property where none is named
_TOLD = 5  # rows whose messages an error gives; it names all others by position


class MomaRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Predict a property of crystal structures, with an interval for each prediction.

    :meth:`fit` makes a hub of its own in a temporary folder, adds one task, keeps the hub as an
    archive in memory and removes the folder. So a fitted estimator leaves no files behind, and it
    can be copied and pickled. The same data and parameters give the same predictions: there is no
    random state, since the seeds of all trainings are settings of the recipe.

    Structures (`X` below) are a list, an object array of shape ``(n_structures,)`` or
    ``(n_structures, 1)``, a pandas Series, or a pandas table with a column of structures. Each one
    is a pymatgen ``Structure``, ASE ``Atoms``, the text of a CIF or POSCAR file, or a dictionary
    as `moma_cl.Hub` takes it; other columns and ids are ignored.

    Parameters
    ----------
    unit
        Unit of the targets and of the predictions, ``"1"`` for a number; the empty string stands
        for the canonical unit of the property.
    property
        What is measured, such as ``bulk_modulus``. It need not be named, but only by its name is
        a module recognised that was trained on the same property, and kept from judging itself.
    target_transform
        What happens to targets before learning: ``none``, ``log10`` or ``log``. It is the
        `transform` of `TaskSpec`; scikit-learn takes what has an attribute of that name for a
        transformer.
    intensive
        States that targets do not grow with the cell. Where they seem to, :meth:`fit` refuses them
        otherwise: divide them by the number of atoms.
    backbones
        Names of the pretrained models it starts from; by default those of `hub`, or of a new hub.
    module
        Whether a module is trained for the task, too: ``full``, ``adapter``, or ``none``.
    recipe
        Settings of the learning; by default those of `hub`, or else those of a new hub.
    hub
        Folder of a hub whose modules may help, in place of the modules that come with moma-cl.
        The hub is only read. A module may have been trained on structures by which a
        cross-validation judges the estimator; then the score is better than it would be for new
        structures.
    compose
        Whether modules are composed and encoders are trained, where there are rows enough for it.
        Otherwise the first predictor of the task answers, which takes seconds to fit.
    device
        Where encoders compute, as for :class:`Hub`; on ``cpu`` fits are the same to the last bit.

    Attributes
    ----------
    archive_
        The fitted hub as :meth:`Hub.export` writes it. Written to a file, it can be opened with
        :meth:`Hub.import_archive`.
    task_
        Name of the task in that hub.
    unit_
        Canonical name of the unit.
    n_structures_
        Number of structures that the estimator was fitted on.
    calibration_
        Where the intervals come from; ``range`` (very few structures) promises no coverage.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from moma_cl.sklearn import MomaRegressor
    >>> def rocksalt(edge):
    ...     sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    ...     return Structure.from_spacegroup("Fm-3m", Lattice.cubic(edge), ["Mg", "O"], sites)
    >>> structures = [rocksalt(4.0 + 0.05 * step) for step in range(12)]
    >>> densities = [float(structure.density) for structure in structures]
    >>> regressor = MomaRegressor(unit="g/cm^3", property="density", compose=False)
    >>> regressor.fit(structures, densities).predict(structures[:3]).shape
    (3,)
    >>> regressor.score(structures, densities) > 0.99
    True
    >>> lower, upper = regressor.predict_interval(structures, level=0.8)
    >>> bool((lower <= upper).all())
    True
    """

    def __init__(
        self,
        *,
        unit: str = "1",
        property: str = "",  # noqa: A002  the name that TaskSpec has for it
        target_transform: str = "none",
        intensive: bool = False,
        backbones: Sequence[str] | None = None,
        module: str = "none",
        recipe: Recipe | None = None,
        hub: str | Path | None = None,
        compose: bool = True,
        device: DeviceName = AUTO,
    ) -> None:
        self.unit = unit
        self.property = property
        self.target_transform = target_transform
        self.intensive = intensive
        self.backbones = backbones
        self.module = module
        self.recipe = recipe
        self.hub = hub
        self.compose = compose
        self.device = device

    def fit(self, X: Any, y: ArrayLike) -> Self:  # noqa: N803  scikit-learn's name
        """Learn from structures and their targets.

        Parameters
        ----------
        X
            Structures, ``n_structures`` of them.
        y
            Targets, shape ``(n_structures,)``, in the unit.

        Returns
        -------
        MomaRegressor
            The estimator itself.

        Raises
        ------
        ValueError
            If targets are no finite numbers, or not as many as there are structures.
        InvalidInputError
            If a structure or target cannot be used, with the positions of such rows, from 0; if
            all targets are equal; or if a parameter has no such value.
        BackboneError
            If there is no such backbone.
        NotFoundError
            If `hub` is no hub.
        """
        targets = column_or_1d(y, warn=True)
        targets = check_array(targets, ensure_2d=False, dtype=np.float64, input_name="y")
        structures = _structures(X)
        check_consistent_length(structures, targets)
        rows = _rows(structures, targets)
        with TemporaryDirectory(prefix="moma-cl-") as folder:
            hub = self._new_hub(Path(folder))
            self.task_ = self._add_task(hub, rows)
            if self.compose:
                _update(hub)
            archive = Path(folder) / "hub.moma"
            hub.export(archive)
            self.archive_ = archive.read_bytes()
            self._loaded = _ready_predictor(hub, self.task_)
        self.unit_ = self._loaded.unit
        self.calibration_ = self._loaded.predictor.calibration
        self.n_structures_ = len(structures)
        return self

    def predict(self, X: Any) -> FloatArray:  # noqa: N803  scikit-learn's name
        """Predict for structures.

        Parameters
        ----------
        X
            Structures, ``n_structures`` of them.

        Returns
        -------
        FloatArray
            Predictions, shape ``(n_structures,)``, in the unit.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        InvalidInputError
            If a structure cannot be used, with the positions of all such rows, from 0.
        """
        return np.array([row.value for row in self._answers(X)], dtype=np.float64)

    def predict_interval(
        self,
        X: Any,  # noqa: N803  scikit-learn's name
        level: float = 0.9,
    ) -> tuple[FloatArray, FloatArray]:
        """Predict the intervals in which the true values should lie.

        Parameters
        ----------
        X
            Structures, ``n_structures`` of them.
        level
            Share of the true values that should lie in their intervals, between 0 and 1.

        Returns
        -------
        lower
            Lower ends, shape ``(n_structures,)``, in the unit.
        upper
            Upper ends, shape ``(n_structures,)``, in the unit.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        InvalidInputError
            If the level is no coverage, or as for :meth:`predict`.
        """
        rows = self._answers(X, level)
        lower = np.array([row.lower for row in rows], dtype=np.float64)
        return lower, np.array([row.upper for row in rows], dtype=np.float64)

    def _new_hub(self, folder: Path) -> Hub:
        """Make the hub to learn in, with the modules of the given hub if there is one."""
        if self.hub is None:
            return Hub.create(
                folder / "hub", backbones=self.backbones, recipe=self.recipe, device=self.device
            )
        with Store.open(Path(self.hub)) as store:
            salt, refs = hub_of(store).salt, store.refs(RefKind.MODULE.prefix)
            backbones = self.backbones or list(backbones_of(store))
        recipe = Hub(self.hub).show(DEFAULT_RECIPE).document
        # With the same salt a formula is in the fold that it was in when the modules were trained.
        hub = Hub.create(
            folder / "hub",
            backbones=backbones,
            recipe=Recipe.from_doc(recipe),
            salt=salt,
            starter=False,
            device=self.device,
        )
        names = [RefKind.MODULE.full_name_in(ref) for ref in refs if backbone_in(ref) in backbones]
        if names:
            Hub(self.hub).export(folder / "modules.moma", modules=names)
            hub.import_archive(folder / "modules.moma")
        return hub

    def _add_task(self, hub: Hub, rows: MemoryRows) -> str:
        """Add the task under a name that no module has; refuse all rows if one is bad."""
        name = "task"
        while name in {module.name for module in hub.modules()}:
            name += "_"
        added = hub.add_task(
            name,
            rows,
            target=_TARGET,
            unit=self.unit,
            property=self.property,
            transform=self.target_transform,
            intensive=self.intensive,
            module=self.module,
            recipe=self.recipe,
            compose=False,
        )
        if added.refusals:
            messages = {row.id: row.message for row in added.refusals}
            raise _unusable_rows(messages, len(rows.items))
        return name

    def _answers(self, X: Any, level: float | None = None) -> list[PredictedRow]:  # noqa: N803
        """Predict for every structure, or raise."""
        from moma_cl.commands.predict import predict
        from moma_cl.commands.predictions import OK

        check_is_fitted(self)
        rows = list(predict([self._predictor()], _rows(_structures(X)), level=level))
        messages = {row.id: row.message for row in rows if row.status != OK}
        if messages:
            raise _unusable_rows(messages, len(rows))
        return rows

    def _predictor(self) -> ReadyPredictor:
        """Give the predictor; a copy of a fitted estimator loads it when it is first asked."""
        if self._loaded is None:
            with TemporaryDirectory(prefix="moma-cl-") as folder:
                archive = Path(folder) / "hub.moma"
                hub = Hub(Path(folder) / "hub", device=self.device)
                archive.write_bytes(self.archive_)
                hub.import_archive(archive)
                self._loaded = _ready_predictor(hub, self.task_)
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {**state, "_loaded": None} if "_loaded" in state else state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.input_tags.dict = True
        return tags


def _structures(given: Any) -> list[Any]:
    """Give structures one by one, each in a form that a row may hold."""
    is_one = hasattr(given, "sites") or hasattr(given, "get_atomic_numbers")
    is_table = hasattr(given, "columns")
    if not is_table and (is_one or isinstance(given, (str, Path, Mapping))):
        raise InvalidInputError(
            f"X is one object of type {type(given).__name__}; expected a list, an array or a "
            "column of structures"
        )
    if is_table:
        names = list(given.columns)
        name = names[0] if len(names) == 1 else first_of(STRUCTURE_NAMES, names)
        if name is None:
            raise InvalidInputError(
                f"X is a table without a column of structures; expected a single column, or one "
                f"that is called {', '.join(STRUCTURE_NAMES)}"
            )
        given = given[name]
    if getattr(given, "ndim", 1) == 2 and given.shape[1] == 1:
        given = given[:, 0]
    return [row.structure for row in MemoryRows(tuple(given)).rows(Reading())]


def _rows(structures: list[Any], targets: FloatArray | None = None) -> MemoryRows:
    """Make rows whose ids are their positions."""
    rows = [{"id": str(place), "structure": one} for place, one in enumerate(structures)]
    if targets is not None:
        rows = [
            {**row, _TARGET: target} for row, target in zip(rows, targets.tolist(), strict=True)
        ]
    return MemoryRows(tuple(rows))


def _unusable_rows(messages: Mapping[str, str], n_rows: int) -> InvalidInputError:
    """Name rows that cannot be used."""
    told = "; ".join(f"{row}: {message}" for row, message in islice(messages.items(), _TOLD))
    more = f"; also {', '.join(islice(messages, _TOLD, None))}" if len(messages) > _TOLD else ""
    return InvalidInputError(
        f"{len(messages)} of {n_rows} rows cannot be used; by position, from 0: {told}{more}"
    )


def _update(hub: Hub) -> None:
    """Make a pass; what fails leaves the first predictor, and the user is told."""
    for done in hub.update():
        if done.action is PassAction.FAILED:
            warnings.warn(
                f"the predictor is made without a step that failed: {done.text}",
                RuntimeWarning,
                stacklevel=3,
            )


def _ready_predictor(hub: Hub, task: str) -> ReadyPredictor:
    """Load the predictor of a task; it answers without the hub's folder."""
    from moma_cl.commands.ready_predictor import champion, ready_predictor

    with Store.open(hub.path) as store, store.snapshot() as view:
        digest = champion(view, task, None)
        device = resolve_device(hub.device)
        return ready_predictor(store, task, digest, explain=False, device=device)
