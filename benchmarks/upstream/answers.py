"""What an upstream module needs to answer in its unit: normaliser, intervals and domain.

A training adds it. `renew` makes it anew for modules that were trained before, from the rows that
there are now: readouts are fitted again, parameters stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.upstream.rows import Materials, UpstreamRows, parts_of, upstream_rows
from benchmarks.upstream.tasks import UpstreamTask
from moma_cl.backbones.base import Backbone
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.lookup import graphs_of
from moma_cl.learning.embedding import Embeddings, embed, moment_columns
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.readout import Readout, fit_readout
from moma_cl.predictors.module_answers import (
    ModuleAnswers,
    ModuleRows,
    answer_errors,
    sample,
)
from moma_cl.progress import quiet
from moma_cl.properties.units import canonical_unit
from moma_cl.recipe import EmbeddingSettings
from moma_cl.records.records import Module
from moma_cl.records.refs import RefKind
from moma_cl.workspace.workspace import Workspace
from moma_store.errors import NotFoundError
from moma_store.store import Store

GRAPHS = Path("build/upstream/graphs")

Indices = NDArray[np.int64]


def fit_answers(
    rows: UpstreamRows,
    embedded: Embeddings,
    readout: Readout,
    normaliser: Normaliser,
    feature_dim: int,
) -> ModuleAnswers:
    """Calibrate a module on its held-out rows.

    Parameters
    ----------
    rows
        The rows of its task.
    embedded
        Their embeddings by its encoder, shape ``(n_rows, n_features)``.
    readout, normaliser
        The module's.
    feature_dim
        Width of the backbone's node features.

    Returns
    -------
    ModuleAnswers
        What its blob holds besides parameters and fingerprints.
    """
    training, validation, held_out = folds_of(rows)
    split = sample(training, validation, held_out)
    learned = np.concatenate([training, validation])
    return ModuleAnswers.fit(
        readout,
        normaliser,
        ModuleRows(
            split=split,
            embeddings=embedded,
            feature_dim=feature_dim,
            targets=normaliser.forward(rows.values),
            fingerprints=rows.fingerprints,
            learned=[rows.crystals[row] for row in learned],
            points=[rows.crystals[row] for row in (*split.train, *split.validation)],
        ),
    )


def errors_of(
    task: UpstreamTask, rows: UpstreamRows, embedded: Embeddings, answers: ModuleAnswers
) -> dict[str, Any]:
    """Measure how far answers are off on held-out rows, for the module's record.

    Parameters
    ----------
    task
        The module's task.
    rows
        Its rows.
    embedded
        Their embeddings by the module, shape ``(n_rows, n_features)``.
    answers
        How the module answers.

    Returns
    -------
    dict[str, Any]
        What `answer_errors` gives.
    """
    training, _, held_out = folds_of(rows)
    predicted = answers.normaliser.inverse(answers.readout.predict(embedded[held_out]))
    unit = canonical_unit(task.unit)
    return answer_errors(unit, rows.values[training], rows.values[held_out], predicted)


def folds_of(rows: UpstreamRows) -> tuple[Indices, Indices, Indices]:
    """List the rows of training, validation and held-out fold."""
    parts = parts_of(rows)
    training, validation, held_out = (np.flatnonzero(parts == part) for part in range(3))
    return training, validation, held_out


def renew(hub: Path, task: UpstreamTask, materials: Materials) -> Module:
    """Add to a trained module what it needs to answer, or make that anew.

    Parameters
    ----------
    hub
        The hub with the module.
    task
        Its task.
    materials
        What it must not have seen.

    Returns
    -------
    Module
        The new record, which has the module's name from now on.
    """
    name = RefKind.MODULE.of(task.name)
    with Store.open(hub) as store, Workspace(store=store, progress=quiet) as workspace:
        digest = store.ref(name)
        if digest is None:
            raise NotFoundError(f"hub {hub} has no module {task.name!r} to renew")
        record = Module.from_doc(store.record(digest))
        rows = upstream_rows(task, workspace.backbone.elements, materials)
        kept = store.blob(record.blob, ["parameters", "fingerprints"]).arrays
        encoder = workspace.encoder(record.module, workspace.parameters(digest, record.module))
        answers, errors = _renewed(task, rows, encoder)
        base = workspace.base(record.module)
    record = replace(record, target=task.column, transform=task.transform, answers=errors)
    with Store.open(hub, write=True, wait=3600.0) as store:
        header = {"kind": "module-arrays", "format": 1}
        link = store.put_blob({**kept, **answers.to_arrays()}, header, base=base)
        with store.transaction("module", {"module": task.name}) as transaction:
            new = transaction.put_record(record.with_blob(link).to_doc())
            transaction.move_ref(name, new, expected=digest)
    return record


def _renewed(
    task: UpstreamTask, rows: UpstreamRows, encoder: Backbone
) -> tuple[ModuleAnswers, dict[str, Any]]:
    training, validation, _ = folds_of(rows)
    known = np.concatenate([training, validation])
    with ByteCache(GRAPHS) as cache:
        graphs = graphs_of(rows.crystals, type(encoder), cache)
    embedded = embed(encoder, graphs, EmbeddingSettings())
    normaliser = Normaliser.fit(rows.values[training], task.transform)
    targets = normaliser.forward(rows.values)
    columns = moment_columns(embedded.shape[1], encoder.feature_dim)
    readout = fit_readout(embedded[known], targets[known], len(training), columns=columns)
    answers = fit_answers(rows, embedded, readout, normaliser, encoder.feature_dim)
    return answers, errors_of(task, rows, embedded, answers)
