"""A learner taken out of the store: its record, and what its blob holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from moma_cl.predictors.learner_artifact import LearnerArtifact
from moma_cl.records.records import Learner
from moma_cl.workspace.readable import Readable


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StoredLearner:
    """A learner by its digest."""

    digest: str
    record: Learner
    artifact: LearnerArtifact

    @classmethod
    def load(cls, store: Readable, digest: str) -> Self:
        """Take a learner out of the store, by the digest of its record."""
        record = Learner.from_doc(store.record(digest))
        artifact = LearnerArtifact.from_arrays(store.blob(record.blob).arrays)
        if record.origin is not None:
            artifact = artifact.fitted_as(cls.load(store, record.origin).artifact)
        return cls(digest=digest, record=record, artifact=artifact)
