"""The rows of a hub's datasets, read once and kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from moma_cl.datasets.segments import LiveRows, SegmentRows, content_of, live_rows
from moma_cl.records.records import Dataset, Segment
from moma_cl.structures.crystals import Crystal
from moma_cl.workspace.readable import Readable
from moma_store.errors import IntegrityError


@dataclass(slots=True, kw_only=True)
class DatasetRows:
    """Rows of datasets, and of the segments that they are made of."""

    store: Readable
    _rows: dict[str, LiveRows] = field(init=False, default_factory=dict)
    _segments: dict[str, SegmentRows | frozenset[str]] = field(init=False, default_factory=dict)

    def of(self, dataset: str) -> LiveRows:
        """Read the live rows of a dataset, by the digest of its record."""
        if dataset not in self._rows:
            segments = Dataset.from_doc(self.store.record(dataset)).segments
            self._rows[dataset] = live_rows([(d, self._content(d)) for d in segments])
        return self._rows[dataset]

    def crystals(self, rows: LiveRows, indices: Iterable[int]) -> list[Crystal]:
        """Give the structures of some live rows."""
        places = [
            (digest, int(row))
            for digest, kept in zip(rows.segments, rows.kept, strict=True)
            for row in kept
        ]
        chosen = [places[index] for index in indices]
        return [self.segment(digest).crystals[row] for digest, row in chosen]

    def segment(self, digest: str) -> SegmentRows:
        """Read the rows of a segment."""
        content = self._content(digest)
        if isinstance(content, frozenset):
            raise IntegrityError(f"segment {digest} is a retraction; expected rows")
        return content

    def _content(self, digest: str) -> SegmentRows | frozenset[str]:
        if digest not in self._segments:
            segment = Segment.from_doc(self.store.record(digest))
            self._segments[digest] = content_of(segment, self.store.blob(segment.blob).arrays)
        return self._segments[digest]
