"""Jobs: a derivation with all that it takes to compute it in another process.

A job carries the documents of the records that the derivation reads, and the folder of the blobs,
which the worker reads by path. The worker returns what it computed; it never opens the catalogue.
Light until something is computed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.core.devices import DeviceName, resolve_device
from moma_cl.derivations.keys import Derivation
from moma_cl.progress import quiet
from moma_store.errors import InvalidInputError, MomaError
from moma_store.files import Files, network_file_system
from moma_store.objects import Objects
from moma_store.records import BlobLink, JsonObject

if TYPE_CHECKING:
    from moma_cl.derivations.derived import Derived
    from moma_cl.workspace.workspace import Workspace
    from moma_store.bases import AnyArray
    from moma_store.blob_reader import Blob
    from moma_store.store import Store


class ExecutorError(MomaError):
    """Nothing can be computed where it should be: no derivation is to blame, the pass ends."""

    code = "executor"
    exit_code = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivationJob:
    """A derivation with all that it takes to compute it in another process."""

    derivation: Derivation  # what to compute
    records: Mapping[str, JsonObject]  # documents of the records it reads, by digest
    objects: str  # folder of the blobs, which workers must see under the same path
    cache: str  # folder of the hub's cache
    pass_id: str  # the same for all jobs of a pass, whose graphs a worker keeps
    software: Mapping[str, str]  # versions by package: others would give other bits
    device: DeviceName  # that the worker's encoders compute on


_FOLLOWED = {
    "dataset": ("segments",),
    "estimate": ("module",),
    "composition": ("backbone", "modules"),
    "learner": ("backbone", "dataset", "composition", "multitask", "origin"),
}
"""Fields whose records are read with one of a kind."""


def job_of(
    store: Store, derivation: Derivation, *, pass_id: str, device: DeviceName
) -> DerivationJob:
    """Make a job of a derivation: collect the records that it reads, and those that they name."""
    from moma_cl.core.software import software

    records: dict[str, JsonObject] = {}
    ahead = [digest for digests in derivation.reads.values() for digest in digests]
    while ahead:
        digest = ahead.pop()
        if digest not in records:
            records[digest] = store.record(digest)
            ahead.extend(_named_in(records[digest]))
    return DerivationJob(
        derivation=derivation,
        records=records,
        objects=str(store.objects.folder),
        cache=str(store.cache_dir),
        pass_id=pass_id,
        software=dict(software()),
        device=device,
    )


def _named_in(doc: JsonObject) -> list[str]:
    """List the records that are read with one: segments of a dataset, modules of an estimate."""
    links = [doc[name] for name in _FOLLOWED.get(doc["kind"], ())]
    listed = [one for link in links for one in (link if isinstance(link, list) else [link])]
    return [link["$record"] for link in listed if link is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStore:
    """The part of a hub's store that a worker reads: the records of jobs, and blobs by path."""

    hub: str  # digest of the record of what all tasks share
    records: dict[str, JsonObject]  # documents by digest
    objects: Objects  # the blobs
    cache_dir: Path  # folder whose contents may be deleted at any time

    def record(self, digest: str) -> JsonObject:
        """Look up a record."""
        return self.records[digest]

    def ref(self, name: str) -> str | None:
        """Look up a ref; the hub's own is the only one a derivation reads."""
        return self.hub if name == "hub" else None

    def blob(self, link: BlobLink, names: Collection[str] | None = None) -> Blob:
        """Read a blob, verified."""
        return self.objects.read(link, names)

    def blob_pieces(self, link: BlobLink, name: str) -> Iterator[AnyArray]:
        """Read one array of a blob piece by piece."""
        with self.objects.open(link.digest) as reader:
            yield from reader.pieces(name)


@dataclass(slots=True)
class _WorkerWorkspace:
    """The workspace of this worker's process: graphs are loaded once in a pass, not each time."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    _pass_id: str | None = None
    _store: JobStore | None = None
    _workspace: Workspace | None = None

    def of(self, job: DerivationJob) -> Workspace:
        from moma_cl.workspace.workspace import Workspace

        if self._workspace is None or self._store is None or self._pass_id != job.pass_id:
            if self._workspace is not None:
                self._workspace.close()
            self._store = _job_store(job)
            device = resolve_device(job.device)
            self._workspace = Workspace(store=self._store, progress=quiet, device=device)
            self._pass_id = job.pass_id
        self._store.records.update(job.records)
        return self._workspace


# One per process, since LMDB allows one opening of the caches per process.
_WORKER = _WorkerWorkspace()


def compute(job: DerivationJob) -> tuple[Derived, float]:
    """Compute the derivation of a job, in a worker; give the result, and how long it took, s.

    A worker that lacks the blobs or the device, or has other software, raises ``ExecutorError``.
    """
    from moma_cl.core.threads import one_by_one
    from moma_cl.derivations.derive import derive

    _check_worker(job)
    # More threads than the recipe's would round differently; other cores have their own workers.
    with _WORKER.lock, one_by_one():
        workspace = _WORKER.of(job)
        start = time.perf_counter()
        derived = derive(workspace, job.derivation)
        return derived, time.perf_counter() - start


def _check_worker(job: DerivationJob) -> None:
    """Refuse a job whose blobs this process cannot read, or whose results would differ here."""
    import platform

    from moma_cl.core.software import software

    if not Path(job.objects).is_dir():
        raise ExecutorError(
            f"the worker on {platform.node()} does not see {job.objects}; hub and workers need"
            " a file system that they share, under the same path"
        )
    try:
        resolve_device(job.device)
    except InvalidInputError as error:
        raise ExecutorError(f"the worker on {platform.node()}: {error.message}") from error
    here = software()
    other = sorted(name for name in here if here[name] != job.software.get(name))
    if other:
        expected = job.software.get(other[0])
        raise ExecutorError(
            f"the worker on {platform.node()} has {other[0]} {here[other[0]]}, expected {expected}:"
            " results would differ; give workers the environment of this process"
        )


def _job_store(job: DerivationJob) -> JobStore:
    import tempfile

    cache = Path(job.cache)
    if not cache.is_dir() or network_file_system(cache) is not None:
        # LMDB shared over a network corrupts; what is built here is built for this pass only
        cache = Path(tempfile.mkdtemp(prefix="moma-cl-"))
    objects = Objects(Path(job.objects), cache, Files())
    hub = job.derivation.inputs["hub"]
    return JobStore(hub=hub, records=dict(job.records), objects=objects, cache_dir=cache)
