"""What an upstream module needs to answer in its unit: normaliser, intervals and domain.

A training adds it. `renew` makes it anew for modules that were trained before, from the rows that
there are now: readouts are fitted again, parameters stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.upstream.rows import Materials, UpstreamRows, parts_of, upstream_rows
from benchmarks.upstream.tasks import UpstreamTask
from benchmarks.upstream.upstream_hub import put_module, the_encoders
from moma_cl.backbones.base import Backbone
from moma_cl.backbones.parameters import rounded
from moma_cl.core.pyg import Data
from moma_cl.graphs.cache import ByteCache
from moma_cl.graphs.lookup import graphs_of
from moma_cl.learning.embedding import embed
from moma_cl.learning.normaliser import Normaliser
from moma_cl.learning.readout import module_readout
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


def trained_answers(
    task: UpstreamTask, rows: UpstreamRows, encoder: Backbone, graphs: Sequence[Data]
) -> tuple[ModuleAnswers, dict[str, Any]]:
    """Let a trained module answer, calibrated on its held-out rows.

    Parameters
    ----------
    task
        The module's task.
    rows
        Its rows.
    encoder
        The module's encoder.
    graphs
        The graph of each row.

    Returns
    -------
    tuple[ModuleAnswers, dict[str, Any]]
        What its blob holds besides parameters and fingerprints, and how far answers are off on
        held-out rows, as `answer_errors` gives it.
    """
    training, validation, held_out = folds_of(rows)
    embedded = embed(encoder, graphs, EmbeddingSettings())
    normaliser = Normaliser.fit(rows.values[training], task.transform)
    targets = normaliser.forward(rows.values)
    readout = module_readout(embedded, targets, training, validation, encoder.feature_dim)
    split = sample(training, validation, held_out)
    answers = ModuleAnswers.fit(
        readout,
        normaliser,
        ModuleRows(
            split=split,
            embeddings=embedded,
            feature_dim=encoder.feature_dim,
            targets=targets,
            fingerprints=rows.fingerprints,
            learned=[rows.crystals[row] for row in (*training, *validation)],
            points=[rows.crystals[row] for row in (*split.train, *split.validation)],
        ),
    )
    predicted = normaliser.inverse(readout.predict(embedded[held_out]))
    unit = canonical_unit(task.unit)
    return answers, answer_errors(unit, rows.values[training], rows.values[held_out], predicted)


def folds_of(rows: UpstreamRows) -> tuple[Indices, Indices, Indices]:
    """List the rows of training, validation and held-out fold."""
    parts = parts_of(rows)
    training, validation, held_out = (np.flatnonzero(parts == part) for part in range(3))
    return training, validation, held_out


def renew(hub: Path, task: UpstreamTask, materials: Materials, bits: int) -> Module:
    """Add to a trained module what it needs to answer, or make that anew.

    Parameters
    ----------
    hub
        The hub with the module.
    task
        Its task.
    materials
        What it must not have seen.
    bits
        Last places of the parameters that are not worth storing.

    Returns
    -------
    Module
        The new record, which has the module's name from now on.
    """
    with Store.open(hub) as store, Workspace(store=store, progress=quiet) as workspace:
        encoders = the_encoders(workspace)
        digest = store.ref(RefKind.MODULE.on(task.name, encoders.record.name))
        if digest is None:
            raise NotFoundError(f"hub {hub} has no module {task.name!r} to renew")
        record = Module.from_doc(store.record(digest))
        rows = upstream_rows(task, encoders.backbone.elements, materials)
        kept = store.blob(record.blob, ["parameters", "fingerprints"]).arrays
        kind, base = record.module, encoders.parameters(None, record.module)
        parameters = rounded(encoders.parameters(digest, kind), base, bits)
        encoder = encoders.encoder(kind, parameters)
        with ByteCache(GRAPHS) as cache:
            graphs = graphs_of(rows.crystals, encoders.backbone, cache)
        answers, errors = trained_answers(task, rows, encoder, graphs)
    settings = {**record.settings, "module": {**record.settings["module"], "rounded_bits": bits}}
    record = replace(
        record,
        target=task.column,
        transform=task.transform,
        answers=errors,
        settings=settings,
    )
    return put_module(
        hub, task.name, record, {**kept, "parameters": parameters, **answers.to_arrays()}, encoders
    )
