"""Executors: where derivations are computed, other than one by one in the process of the pass.

Light: no torch, and no Dask before a cluster is asked for.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from moma_cl.reconciling.derivation_job import DerivationJob, ExecutorError, compute
from moma_store.errors import InvalidInputError

if TYPE_CHECKING:
    from moma_cl.derivations.derived import Computed


WORKER_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"


class ExecutorKind(StrEnum):
    """Where derivations are computed."""

    IN_PROCESS = "in-process"
    DASK = "dask"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorSettings:
    """Where a pass computes.

    Attributes
    ----------
    kind
        In this process, one by one, or on the workers of a Dask cluster.
    scheduler
        Address of the cluster's scheduler; a cluster of processes here if None.
    workers
        Processes of a cluster here; one per core if None.
    """

    kind: ExecutorKind = ExecutorKind.IN_PROCESS
    scheduler: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.kind == ExecutorKind.IN_PROCESS and (self.scheduler or self.workers):
            raise InvalidInputError("a scheduler and workers are Dask's; add --executor dask")
        if self.scheduler and self.workers:
            raise InvalidInputError("workers are counted by whoever runs the scheduler; name one")


class Executor(Protocol):
    """Computes many derivations at once."""

    def compute(self, jobs: Sequence[DerivationJob]) -> Iterator[Computed]:
        """Compute jobs, and give each result as soon as it is there."""


@contextmanager
def open_executor(settings: ExecutorSettings) -> Iterator[Executor | None]:
    """Start what computes, for as long as the block lasts; none for this process.

    Raises ``InvalidInputError`` if Dask is not installed, and ``ExecutorError`` if the scheduler
    does not answer.
    """
    if settings.kind == ExecutorKind.IN_PROCESS:
        yield None
        return
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise InvalidInputError(
            "dask.distributed is not installed; `pip install 'moma-cl[dask]'` installs it"
        ) from error
    if settings.scheduler is not None:
        with _connected(Client, settings.scheduler) as client:
            yield DaskExecutor(client=client)
        return
    # With Dask's settings workers give memory back after each array, to take it again page by page,
    # which makes them 2.3 times slower.
    environment = dask.config.get(WORKER_ENVIRONMENT).items()
    kept = {name: value for name, value in environment if not name.startswith("MALLOC_")}
    with dask.config.set({WORKER_ENVIRONMENT: kept}):
        cluster = LocalCluster(
            n_workers=settings.workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="localhost:0",  # any port: another pass may have the usual one
            memory_limit=0,
            silence_logs=logging.CRITICAL,  # what goes wrong is told once, by the pass
        )
    with cluster, Client(cluster) as client:
        yield DaskExecutor(client=client)


def _connected(client: Any, address: str) -> Any:
    try:
        return client(address, timeout=30)
    except (OSError, ValueError) as error:
        raise ExecutorError(f"no Dask scheduler answers at {address}: {error}") from error


@dataclass(slots=True, kw_only=True)
class DaskExecutor:
    """Computes on the workers of a Dask cluster.

    A worker that dies costs what it was computing once more, which Dask sees to; a derivation that
    several workers died of fails.
    """

    client: Any  # a `distributed.Client`

    def compute(self, jobs: Sequence[DerivationJob]) -> Iterator[Computed]:
        """Compute jobs, and give each result as soon as it is there.

        Raises ``ExecutorError`` if the cluster is gone.
        """
        from distributed import as_completed

        # Not pure: what an earlier pass computed must not stand in for what is asked for now.
        prefix = f"moma-cl-{uuid.uuid4().hex}"
        futures = self.client.map(compute, jobs, pure=False, key=prefix)
        indices = {future.key: index for index, future in enumerate(futures)}
        completed = as_completed(futures)
        del futures  # else the workers would keep all results until the last is there
        for future in completed:
            yield _ended(indices[future.key], future)


def _ended(index: int, future: Any) -> Computed:
    from moma_cl.derivations.derived import Computed

    try:
        derived, seconds = future.result()
    except CancelledError as error:
        raise ExecutorError(f"the Dask cluster went away during a computation: {error}") from error
    except Exception as error:  # noqa: BLE001  whoever asks for the result gets it
        return Computed(index=index, outcome=error)
    return Computed(index=index, outcome=derived, seconds=seconds)
