"""The records of a hub: immutable documents that name each other, and blobs, by digest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar

from moma_cl.properties.transforms import Transform
from moma_cl.records.base import Record
from moma_store.records import BlobLink


class ModuleKind(StrEnum):
    """What of a backbone a module specialises."""

    FULL = "full"  # every parameter
    ADAPTER = "adapter"  # a bottleneck after each block, the backbone frozen
    MULTITASK = "multitask"  # every parameter, on several properties at once; never composed
    NONE = "none"  # the task trains no module

    @classmethod
    def of_tasks(cls) -> tuple[ModuleKind, ...]:
        """Name the kinds that a task may ask for; a multitask module comes with an archive."""
        return (cls.FULL, cls.ADAPTER, cls.NONE)

    @property
    def composed(self) -> ModuleKind:
        """The kind that a task composes: full where it trains none itself."""
        return ModuleKind.FULL if self is ModuleKind.NONE else self


class Grouping(StrEnum):
    """What decides the fold of a row."""

    FORMULA = "formula"  # a hash of the reduced formula
    STRUCTURE = "structure"  # a hash of the structure's fingerprint
    COLUMN = "column"  # a column of the user's


class SegmentRole(StrEnum):
    """What a segment does to the rows before it."""

    ROWS = "rows"  # adds rows; one whose id is stored replaces the earlier row
    RETRACTION = "retraction"  # takes rows away by id


class LearnerMethod(StrEnum):
    """How a learner answers."""

    KERNEL = "kernel"  # a kernel head on embeddings
    FINETUNED = "finetuned"  # a whole encoder was trained, with a fresh head
    ADAPTED = "adapted"  # adapters round a frozen encoder were, with a fresh head


class StartKind(StrEnum):
    """What the encoder of a learner started from."""

    COMPOSITION = "composition"
    MULTITASK = "multitask"
    BACKBONE = "backbone"


class Method(StrEnum):
    """Which learners of a predictor answer."""

    KERNEL = "kernel"
    FINETUNED = "finetuned"
    MEAN = "mean"  # of the two


class Calibration(StrEnum):
    """Where the intervals of a predictor come from."""

    HELD_OUT = "held-out"  # errors on rows that decided nothing
    CROSS_VALIDATION = "cross-validation"  # CV+, for few rows
    RANGE = "range"  # the range of the labels, for very few


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRecord(Record):
    """What every task of a hub shares."""

    kind: ClassVar[str] = "hub"

    salt: str  # of the fold hash


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneRecord(Record):
    """A pretrained encoder that modules of a hub are trained from."""

    kind: ClassVar[str] = "backbone"
    blob_fields: ClassVar[frozenset[str]] = frozenset({"parameters", "adapter"})

    name: str  # in the entry-point group
    version: str
    manifest: dict[str, Any]  # of the backbone's parameter vector
    parameters: BlobLink  # the backbone's parameters
    adapter_manifest: dict[str, Any]
    adapter: BlobLink  # the adapter that all adapter modules start from
    adapter_width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Record):
    """A property to predict, as the user added it."""

    kind: ClassVar[str] = "task"
    words = MappingProxyType({"module": ModuleKind, "grouping": Grouping})

    name: str
    property: str  # canonical name of the property
    target: str  # column of the data
    unit: str
    transform: str  # of the target before learning: none, log10, log
    module: ModuleKind
    grouping: Grouping
    fold_column: str | None
    per_atom: bool = False  # values are of whole cells, and divided by the number of atoms

    def to_doc(self) -> dict[str, Any]:
        """Write as other records; what is not divided is not mentioned."""
        doc = Record.to_doc(self)
        if not self.per_atom:
            del doc["per_atom"]
        return doc


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment(Record):
    """Rows that were added together, or the retraction of earlier ones."""

    kind: ClassVar[str] = "segment"
    words = MappingProxyType({"role": SegmentRole})
    blob_fields: ClassVar[frozenset[str]] = frozenset({"blob"})

    role: SegmentRole
    blob: BlobLink
    n_rows: int
    # name and SHA-256 of each file; the number of its rows where many deliveries came together
    sources: tuple[dict[str, Any], ...]
    refused: int  # rows that were not added


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Record):
    """An ordered list of segments, and what of it is live."""

    kind: ClassVar[str] = "dataset"
    record_fields: ClassVar[frozenset[str]] = frozenset({"segments", "previous"})

    segments: tuple[str, ...]
    previous: str | None  # the dataset without the last segment
    n_rows: int  # live rows
    n_train: int
    n_validation: int
    n_held_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Module(Record):
    """Encoder parameters specialised to one task; never changed."""

    kind: ClassVar[str] = "module"
    words = MappingProxyType({"module": ModuleKind, "transform": Transform})
    record_fields: ClassVar[frozenset[str]] = frozenset({"backbone", "dataset"})
    blob_fields: ClassVar[frozenset[str]] = frozenset({"blob"})

    backbone: str  # that it was trained from
    module: ModuleKind
    property: str
    dataset: str | None  # None: its data is not in this hub
    # parameters, fingerprints of the structures it was trained on, and what it takes to answer
    blob: BlobLink
    n_train: int
    n_validation: int
    validation_mae: float  # in the unit
    unit: str
    epochs: int
    settings: dict[str, Any]  # of the training
    made_by: dict[str, str]  # software versions
    source: dict[str, Any]  # where data or weights came from, with licences
    target: str = ""  # column of the data it was trained on
    transform: Transform = Transform.NONE  # of the target before learning
    # unit of its own answers, and their error on held-out rows; none where it cannot answer
    answers: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(Record):
    """How well one module's embedding predicts one task's rows from their neighbours."""

    kind: ClassVar[str] = "estimate"
    record_fields: ClassVar[frozenset[str]] = frozenset({"backbone", "module", "dataset"})
    blob_fields: ClassVar[frozenset[str]] = frozenset({"blob"})

    backbone: str
    module: str | None  # None: the backbone, module zero
    dataset: str
    blob: BlobLink | None  # leave-one-out predictions; None where the module is excluded
    mae: float | None  # of normalised targets
    excluded: str | None  # why the module is no candidate here


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition(Record):
    """Weights over modules of one backbone for one task."""

    kind: ClassVar[str] = "composition"
    words = MappingProxyType({"module": ModuleKind})
    record_fields: ClassVar[frozenset[str]] = frozenset({"backbone", "dataset", "modules"})

    backbone: str
    dataset: str
    module: ModuleKind
    modules: tuple[str, ...]  # candidates with a weight above zero, by digest
    weights: tuple[float, ...]  # one for each of them
    backbone_weight: float  # module zero's
    objective: float  # of the convex program, in var(y)
    backbone_objective: float | None  # with the backbone alone; none where it has no estimate
    duality_gap: float  # before pruning, in var(y)
    n_candidates: int  # the backbone included
    excluded: dict[str, str]  # module digest: reason

    def heaviest_first(self) -> list[tuple[str, float]]:
        """List modules with their weights."""
        pairs = zip(self.modules, self.weights, strict=True)
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def learner_name(method: LearnerMethod, start: StartKind) -> str:
    """Name a learner among those of its task that have the same backbone."""
    if method is LearnerMethod.KERNEL:
        return method.value if start is StartKind.COMPOSITION else f"{method} on {start}"
    return f"{method} from {start}" if method is LearnerMethod.FINETUNED else f"{method} {start}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner(Record):
    """One fitted way to answer for a task; predictors join several."""

    kind: ClassVar[str] = "learner"
    words = MappingProxyType({"method": LearnerMethod, "start": StartKind})
    record_fields: ClassVar[frozenset[str]] = frozenset(
        {"backbone", "task", "dataset", "composition", "multitask", "origin"}
    )
    blob_fields: ClassVar[frozenset[str]] = frozenset({"blob"})

    backbone: str
    task: str
    dataset: str
    method: LearnerMethod
    start: StartKind
    composition: str | None  # where it started from one
    multitask: str | None  # the module, where it started from one
    blob: BlobLink  # what was fitted, and its answers to rows that it has not seen
    readouts: bool  # whether it uses what modules predict of their own properties
    n_train: int
    validation_mae: float  # on the rows that decide, in the task's unit
    held_out_mae: float | None  # on rows that decide nothing, in the task's unit
    settings: dict[str, Any]  # the sections of the recipe it depends on
    made_by: dict[str, str]
    origin: str | None = None  # the learner whose encoder it keeps, although rows came since

    @property
    def name(self) -> str:
        """What it is called among the learners of its task that have the same backbone."""
        return learner_name(self.method, self.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor(Record):
    """What answers for a task: learners that answer together, and their calibration."""

    kind: ClassVar[str] = "predictor"
    words = MappingProxyType({"method": Method, "calibration": Calibration})
    record_fields: ClassVar[frozenset[str]] = frozenset(
        {"task", "dataset", "compositions", "learners", "multitasks", "fast"}
    )
    blob_fields: ClassVar[frozenset[str]] = frozenset({"blob"})

    task: str
    dataset: str
    # of each backbone, the first of which has learners that answer: its encoder gives the domain
    compositions: tuple[str, ...]
    learners: tuple[str, ...]  # those that answer, kernel learners first
    blob: BlobLink  # calibration, domain, and the answers that decided
    method: Method
    n_train: int
    calibration: Calibration
    validation_mae: float  # of the method that answers, in the task's unit
    validation_maes: dict[str, float]  # of every method, and of every learner
    held_out_mae: float | None  # of the method that answers
    held_out_maes: dict[str, float]  # of the same; they decide nothing
    settings: dict[str, Any]  # the sections of the recipe it depends on
    made_by: dict[str, str]
    multitasks: tuple[str, ...] = ()  # modules that learners started from beside compositions
    fast: str | None = None  # the predictor that asks the cheapest learner alone, if another
    # digests of all learners that were to be joined, now or in a later fit: text, so that they keep
    # none from `gc`
    tried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Record):
    """A derivation that went wrong, and how often; kept by its key until it succeeds."""

    kind: ClassVar[str] = "failure"

    key: str  # of the derivation: other inputs are another derivation
    task: str
    subject: str  # what was derived, for people
    tries: int
    wait: int  # passes that leave it alone before the next try
    code: str  # of the last error
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift(Record):
    """How a champion fares on rows that came after it was fitted, before they are learned.

    What it names is text rather than links, so that it keeps no old champion from `gc`.
    """

    kind: ClassVar[str] = "drift"

    predictor: str  # digest of the champion
    dataset: str  # digest of the dataset with the new rows
    unit: str
    rows: int  # new ones, whose structures the champion's dataset did not have
    mae: float  # on them, in the unit
    reference: str  # where the promised error was measured, a calibration
    reference_mae: float | None  # the promised error, in the unit
    p_value: float | None  # none where nothing was promised
    drifted: bool
    source: str  # the delivery whose rows fit least
    source_rows: int  # new ones, in that delivery
    source_mae: float  # on them, in the unit
    ratio: float | None  # median of their targets divided by the answers, where all are positive
    new_elements: tuple[str, ...]  # that occur in new rows, and in none that the champion learned

    @property
    def figures(self) -> dict[str, Any]:
        """What the history remembers."""
        names = ("predictor", "rows", "mae", "reference_mae", "p_value", "drifted", "source")
        return {name: getattr(self, name) for name in names}


class HoldReason(StrEnum):
    """Why a promotion is held."""

    DRIFT = "drift"  # the champion errs on the new rows beyond its promise
    WORSE = "worse"  # the new rows make the answers to earlier rows worse


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Record):
    """A promotion that waits until somebody confirms it, or takes the rows back.

    It holds as long as the same champion answers and the same predictor was fitted last. What it
    names is text rather than links, as in `Drift`.
    """

    kind: ClassVar[str] = "hold"
    words = MappingProxyType({"reason": HoldReason})

    predictor: str  # digest of the champion
    fitted: str  # digest of the predictor that would take its place
    reason: HoldReason
    because: str  # for people
