"""Archives taken apart, changed and put together again, with digests that agree."""

import hashlib
import json
import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Self

from moma_store import blobs

SUMMARY, RECORDS, HISTORY, MEMOS = (
    "moma-cl.json",
    "records.jsonl",
    "history.jsonl",
    "memos.jsonl",
)


@dataclass(slots=True, kw_only=True)
class TakenApart:
    """The contents of an archive; records keep their first digests as names until it is saved."""

    summary: dict[str, Any]
    records: dict[str, dict[str, Any]]
    memos: list[dict[str, Any]]
    objects: dict[str, bytes] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)  # entries after the one of all refs

    @classmethod
    def load(cls, path: Path) -> Self:
        """Take an archive apart; its history becomes one entry when it is saved."""
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        docs = [json.loads(line) for line in members[RECORDS].splitlines()]
        return cls(
            summary=json.loads(members[SUMMARY]),
            records={_digest(doc): doc for doc in docs},
            memos=[json.loads(line) for line in members.get(MEMOS, b"").splitlines()],
            objects={n: data for n, data in members.items() if n.startswith("objects/")},
        )

    @property
    def refs(self) -> dict[str, str]:
        return self.summary["refs"]

    def named(self, ref: str) -> dict[str, Any]:
        """The record that a ref names."""
        return self.records[self.refs[ref]]

    def put_blob(self, arrays: dict[str, Any], header: dict[str, Any] | None = None) -> dict:
        """Add a blob, stored whole, and give its link."""
        stream = BytesIO()
        manifest = blobs.describe(arrays, header or {"kind": "x", "format": 1})
        blobs.write(stream, arrays, manifest, None)
        data = stream.getvalue()
        self.objects[f"objects/{manifest.digest}.zarr.zip"] = data
        file = hashlib.sha256(data).hexdigest()
        return {"$blob": manifest.digest, "file": file, "bytes": len(data)}

    def save(self, path: Path) -> Path:
        """Write it, with what is named by digests named anew."""
        new: dict[str, str] = {}

        def renamed(digest: Any) -> Any:
            if not isinstance(digest, str):  # a mutation put something else there
                return relinked(digest)
            if digest in self.records and digest not in new:
                new[digest] = ""  # a record cannot name itself
                self.records[digest] = relinked(self.records[digest])
                new[digest] = _digest(self.records[digest])
            return new.get(digest, digest)

        def relinked(value: Any) -> Any:
            if isinstance(value, dict):
                return {
                    key: renamed(one)
                    if key == "$record"
                    else [renamed(digest) for digest in one]
                    if key == "tried" and isinstance(one, list)  # digests as text
                    else relinked(one)
                    for key, one in value.items()
                }
            return [relinked(one) for one in value] if isinstance(value, list) else value

        for digest in list(self.records):
            renamed(digest)
        self.summary["refs"] = {ref: renamed(digest) for ref, digest in self.refs.items()}
        docs = sorted(self.records.values(), key=_digest)
        members = {SUMMARY: [self.summary], RECORDS: docs}
        if self.summary["kind"] == "hub":
            memos = [{**memo, "result": renamed(memo["result"])} for memo in self.memos]
            members |= {HISTORY: self._history(), MEMOS: memos}
        with zipfile.ZipFile(path, "w") as archive:
            for name, lines in members.items():
                archive.writestr(name, b"".join(_line(doc) for doc in lines))
            for name, data in self.objects.items():
                archive.writestr(name, data)
        return path

    def _history(self) -> list[dict[str, Any]]:
        changes = [{"name": n, "old": None, "new": d} for n, d in sorted(self.refs.items())]
        entry = {"action": "init", "detail": {}, "at": "2026-01-01T00:00:00+00:00"}
        chain = [{**entry, "counter": 0, "changes": changes, "previous": None}]
        for more in self.history:
            chain.append(
                {
                    **entry,
                    "counter": len(chain),
                    "changes": [],
                    "previous": _digest(chain[-1]),
                    **more,
                }
            )
        return chain


def _digest(doc: Any) -> str:
    return hashlib.sha256(_line(doc)[:-1]).hexdigest()


def _line(doc: Any) -> bytes:
    # as the store writes documents, but of any depth and without its checks
    text = json.dumps(doc, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"
