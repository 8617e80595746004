"""Refusing blobs of an archive that do not hold what the records that name them promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moma_cl.backbones.parameters import ParameterManifest
from moma_cl.backbones.registry import backbone_class
from moma_cl.datasets.segments import HELD_OUT, SegmentRows, content_of
from moma_cl.learning.embedding import N_STATISTICS
from moma_cl.learning.head import head_size
from moma_cl.learning.readout import READOUTS, Readout
from moma_cl.predictors.artifact import PredictorArtifact
from moma_cl.predictors.calibration_arrays import ALIKE
from moma_cl.predictors.learner_artifact import LearnerArtifact
from moma_cl.predictors.module_answers import ModuleAnswers
from moma_cl.properties.transforms import Transform
from moma_cl.recipe import Recipe
from moma_cl.records.decoding import Decoded
from moma_cl.records.records import (
    BackboneRecord,
    Composition,
    Dataset,
    Estimate,
    Learner,
    LearnerMethod,
    Module,
    ModuleKind,
    Predictor,
    Segment,
    SegmentRole,
    Task,
)
from moma_store.blob_reader import BlobReader
from moma_store.errors import InvalidInputError, MomaError
from moma_store.importing import Contents
from moma_store.records import BlobLink

Arrays = Mapping[str, NDArray[Any]]
Records = Mapping[str, Decoded]

_HEAVIEST = 118  # atomic number


def check_blob(digest: str, record: Decoded, records: Records, contents: Contents) -> None:
    """Refuse a blob that does not hold what its record promises.

    Parameters
    ----------
    digest
        Of the record.
    record
        The record; of kinds without blobs nothing is checked.
    records
        All records of the archive, whose links are known to be of the right kinds.
    contents
        What the archive holds.

    Raises
    ------
    InvalidInputError
        If the blob holds anything else.
    """
    check = _CHECKS.get(type(record))
    if check is None:
        return
    try:
        check(record, records, contents)
    except MomaError:
        raise
    except Exception as error:  # arrays that somebody made up make numpy raise almost anything
        raise _refused(record, digest, repr(error)[:200]) from error


def _backbone(record: BackboneRecord, _: Records, contents: Contents) -> None:
    full, adapter = (
        ParameterManifest.from_json(manifest)
        for manifest in (record.manifest, record.adapter_manifest)
    )
    for link, size in ((record.parameters, full.size), (record.adapter, adapter.size)):
        with contents.open_blob(link.digest) as reader:
            _check_vector(record, link, reader, size)


def _module(record: Module, records: Records, contents: Contents) -> None:
    backbone = _backbone_of(record, records)
    with contents.open_blob(record.blob.digest) as reader:
        _check_vector(record, record.blob, reader, _size(backbone, record.module))
        others = [name for name in reader.manifest.arrays if name != "parameters"]
        arrays = reader.read(others).arrays
    seen = arrays["fingerprints"]
    right = seen.dtype == np.uint64 and seen.ndim == 1 and _finite(arrays)
    readout = Readout.from_arrays(arrays)
    if readout is not None:
        right = right and len(readout.centre) == _n_features(backbone)
        answers = readout.predict(np.zeros((1, len(readout.centre)), dtype=np.float32))
        right = right and answers.shape == (1,)
    if READOUTS in arrays:
        right = right and arrays[READOUTS].shape[1:] == (_n_features(backbone) + 1,)
    answering = ModuleAnswers.from_arrays(arrays, record.transform)
    if answering is not None:
        right = right and answering.fits(arrays, backbone_class(backbone.name).feature_dim)
    if not right or record.module is ModuleKind.NONE:
        raise _refused(record, record.blob.digest, "its arrays do not fit together")


def _segment(record: Segment, _: Records, contents: Contents) -> None:
    rows = content_of(record, _all(contents, record.blob))
    if isinstance(rows, SegmentRows):
        right = record.role is SegmentRole.ROWS and _are_rows(rows)
        n_rows = len(rows.ids)
    else:
        right, n_rows = True, len(rows)
    if not right or n_rows != record.n_rows:
        raise _refused(record, record.blob.digest, f"it does not hold {record.n_rows:,} rows")


def _are_rows(rows: SegmentRows) -> bool:
    """Tell whether the columns of some rows fit together, and every row is a crystal."""
    n_rows, crystals = len(rows.ids), rows.crystals
    n_atoms, offsets = len(crystals.atomic_numbers), crystals.offsets
    shapes = (rows.targets.shape, rows.fingerprints.shape, rows.folds.shape, (len(rows.formulas),))
    return bool(
        len(set(rows.ids)) == n_rows
        and set(shapes) == {(n_rows,)}
        and crystals.lattices.shape == (n_rows, 3, 3)
        and crystals.frac_coords.shape == (n_atoms, 3)
        and offsets.shape == (n_rows + 1,)
        and offsets[0] == 0
        and offsets[-1] == n_atoms
        and (np.diff(offsets) > 0).all()
        and ((crystals.atomic_numbers >= 1) & (crystals.atomic_numbers <= _HEAVIEST)).all()
        and (rows.folds <= HELD_OUT).all()
        and all(np.isfinite(a).all() for a in (rows.targets, crystals.frac_coords))
        and np.isfinite(crystals.lattices).all()
        and (abs(np.linalg.det(crystals.lattices)) > 0).all()
    )


def _estimate(record: Estimate, records: Records, contents: Contents) -> None:
    if record.blob is None:
        return
    dataset = records[record.dataset]
    arrays = _all(contents, record.blob)
    predictions = arrays["predictions"].astype(np.float64)
    most = dataset.n_rows if isinstance(dataset, Dataset) else 0
    if set(arrays) != {"predictions"} or predictions.ndim != 1 or len(predictions) > most:
        raise _refused(record, record.blob.digest, "it is not one prediction for a row")


def _learner(record: Learner, records: Records, contents: Contents) -> None:
    task, dataset = records[record.task], records[record.dataset]
    assert isinstance(task, Task)  # noqa: S101  links have been checked
    assert isinstance(dataset, Dataset)  # noqa: S101
    arrays = _all(contents, record.blob)
    artifact = LearnerArtifact.from_arrays(arrays)
    answered = (artifact.validation.rows, artifact.held_out.rows)
    carried = record.origin is not None  # what was fitted is in the blob of another
    right = all((np.diff(rows) > 0).all() and rows.min(initial=0) >= 0 for rows in answered)
    right = right and all(rows.max(initial=0) < dataset.n_rows for rows in answered)
    right = right and (artifact.readout_scale is not None) == (record.readouts and not carried)
    right = right and _alike(arrays) and _finite(arrays)
    kernel, finetuned = artifact.kernel, artifact.finetuned
    backbone = _backbone_of(record, records)
    right = right and (kernel is not None) == (record.method is LearnerMethod.KERNEL)
    right = right and (finetuned is None) == (record.method is LearnerMethod.KERNEL or carried)
    if kernel is not None:
        right = right and kernel.support.shape[1:] == kernel.centre.shape
        right = right and len(kernel.centre) == _n_features(backbone)
        right = right and kernel.offsets.shape == kernel.duals.shape[1:]
    if finetuned is not None:
        adapted = record.method is LearnerMethod.ADAPTED
        kind = ModuleKind.ADAPTER if adapted else task.module.composed
        encoder, width = (
            backbone_class(backbone.name),
            Recipe.from_doc(record.settings).finetune.head_width,
        )
        n_head = head_size(encoder.feature_dim, encoder.n_blocks, width)
        right = right and finetuned.parameters.shape == (_size(backbone, kind),)
        right = right and finetuned.head.shape == (n_head,)
    if not right:
        raise _refused(record, record.blob.digest, "its arrays do not fit together")


def _predictor(record: Predictor, records: Records, contents: Contents) -> None:
    task = records[record.task]
    assert isinstance(task, Task)  # noqa: S101  links have been checked
    arrays = _all(contents, record.blob)
    artifact = PredictorArtifact.from_arrays(arrays, Transform(task.transform))
    first = records[record.compositions[0]]
    assert isinstance(first, Composition)  # noqa: S101  links have been checked
    encoder = backbone_class(_backbone_of(first, records).name)
    domain, extremes = artifact.calibrated.domain, 2 * encoder.feature_dim
    right = domain.points.shape[1:] == domain.centre.shape == (extremes,)
    right = right and domain.neighbours > 0 and _alike(arrays)
    if artifact.golden is not None:
        right = right and artifact.golden.answers.shape == (4, len(artifact.golden.crystals))
    if not right or not _finite({n: a for n, a in arrays.items() if n != "domain_reach"}):
        raise _refused(record, record.blob.digest, "its arrays do not fit together")


_ALIKE = (
    ("kernel_centre", "kernel_spread"),
    ("kernel_support", "kernel_duals"),
    ("kernel_support", "kernel_readouts"),
    ("readout_centre", "readout_spread"),
    ("validation_rows", "validation_answers"),
    ("held_out_rows", "held_out_answers"),
    ("cv_residuals", "cv_groups"),
    *ALIKE,
    ("decided_rows", "decided_answers"),
)
"""Arrays of a learner or a predictor that have one number for each of the same things."""


def _alike(arrays: Arrays) -> bool:
    """Tell whether arrays that belong together are of one length."""
    lengths = {name: array.shape[:1] for name, array in arrays.items()}
    return all(
        lengths[first] == lengths[second]
        for first, second in _ALIKE
        if first in arrays and second in arrays
    )


_CHECKS: Mapping[type, Callable[[Any, Records, Contents], None]] = {
    BackboneRecord: _backbone,
    Module: _module,
    Segment: _segment,
    Estimate: _estimate,
    Learner: _learner,
    Predictor: _predictor,
}


def _all(contents: Contents, link: BlobLink) -> Arrays:
    with contents.open_blob(link.digest) as reader:
        return reader.read().arrays


def _backbone_of(record: Module | Learner | Composition, records: Records) -> BackboneRecord:
    backbone = records[record.backbone]
    assert isinstance(backbone, BackboneRecord)  # noqa: S101  links have been checked
    return backbone


def _n_features(backbone: BackboneRecord) -> int:
    """Count the features of an embedding."""
    encoder = backbone_class(backbone.name)
    return encoder.n_blocks * N_STATISTICS * encoder.feature_dim


def _size(backbone: BackboneRecord, kind: ModuleKind) -> int:
    """Count the parameters of modules of a kind."""
    adapter = kind is ModuleKind.ADAPTER
    manifest = backbone.adapter_manifest if adapter else backbone.manifest
    return ParameterManifest.from_json(manifest).size


def _check_vector(
    record: BackboneRecord | Module, link: BlobLink, reader: BlobReader, size: int
) -> None:
    """Refuse parameters of another number or type, or that are not finite."""
    spec = reader.manifest.arrays.get("parameters")
    if spec is None or (spec.dtype, spec.shape) != ("float32", (size,)):
        raise _refused(record, link.digest, f"it does not hold {size:,} parameters")
    if not all(np.isfinite(piece).all() for piece in reader.pieces("parameters")):
        raise _refused(record, link.digest, "its parameters are not finite")


def _finite(arrays: Arrays) -> bool:
    return all(np.isfinite(array).all() for array in arrays.values())


def _refused(record: Decoded, digest: str, reason: str) -> InvalidInputError:
    kind = getattr(record, "kind", "recipe")
    return InvalidInputError(
        f"the archive is refused: blob {digest[:12]} is not that of a {kind}: {reason}",
        code="invalid-input.archive",
    )
