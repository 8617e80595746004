"""An open catalogue: it gives snapshots to whoever reads and transactions to the writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moma_store.catalogue import Snapshot, Writer
from moma_store.environment import DATA_FILE, Environment
from moma_store.errors import FormatError, IntegrityError, StorageError
from moma_store.hub_file import HubFile
from moma_store.records import JsonObject

FORMAT = 1
MAP_SIZE = 64 << 30  # bytes of address space; the file grows only as far as it is filled


def meta_of(hub: HubFile) -> JsonObject:
    """Give what the catalogue itself says of its hub, so that ``hub.toml`` can be checked."""
    return {"format": FORMAT, "id": hub.hub_id}


class Catalogue:
    """An open catalogue; close it.

    Parameters
    ----------
    environment
        The environment, which the catalogue leaves when it is closed.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment: Environment | None = environment

    @staticmethod
    def create(path: Path, hub: HubFile, *, map_size: int = MAP_SIZE) -> None:
        """Make an empty catalogue.

        Parameters
        ----------
        path
            A folder that is empty.
        hub
            The ``hub.toml`` of the hub it belongs to.
        map_size
            Bytes of address space to reserve, the most the catalogue can hold.

        Raises
        ------
        StorageError
            If LMDB cannot make it.
        """
        environment = Environment(path, map_size=map_size, create=True)
        try:
            with environment.begin(write=True) as handles:
                Writer(*handles).put_meta(meta_of(hub))
        finally:
            environment.leave()

    @classmethod
    def open(
        cls, path: Path, hub: HubFile, *, writing: bool = False, map_size: int = MAP_SIZE
    ) -> Catalogue:
        """Open a catalogue.

        Parameters
        ----------
        path
            Its folder.
        hub
            The ``hub.toml`` of the hub it should belong to.
        writing
            Whether the caller is the hub's writer; the last commit is then sure to be there.
        map_size
            As in `create`; ignored if this process has the catalogue open already.

        Returns
        -------
        Catalogue
            The open catalogue.

        Raises
        ------
        IntegrityError
            If it is missing, damaged, or another hub's.
        FormatError
            If a newer version wrote it.
        StorageError
            If LMDB cannot open it.
        """
        catalogue = cls(Environment.share(path, map_size=map_size))
        try:
            if writing:
                catalogue.check_for_writing()
            catalogue._check_meta(path, hub)
        except BaseException:
            catalogue.close()
            raise
        return catalogue

    def close(self) -> None:
        """Let go of the environment; closing twice does nothing."""
        environment, self._environment = self._environment, None
        if environment is not None:
            environment.leave()

    def check_for_writing(self) -> None:
        """See, as the hub's writer, that the last commit is there, and that this is still the file.

        Raises
        ------
        IntegrityError
            If the last commit is lost.
        StorageError
            If the file was replaced since it was opened, as `verify --repair` does.
        """
        from moma_store.pages import check_metas  # readers do without

        environment = self._opened()
        if not environment.is_in_place():
            raise StorageError(
                f"the catalogue {environment.path} was moved or replaced while it was open; run the"
                " command again"
            )
        check_metas(environment.path / DATA_FILE)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Read the catalogue as it is now, whatever is committed meanwhile.

        Yields
        ------
        Snapshot
            The reads.

        Raises
        ------
        StorageError
            If LMDB fails, or this process is a fork of the one that opened the catalogue.
        """
        with self._opened().begin(write=False) as handles:
            yield Snapshot(*handles)

    @contextmanager
    def write(self) -> Iterator[Writer]:
        """Write in one transaction: all of it is durable when the block ends, or none of it.

        Yields
        ------
        Writer
            The writes.

        Raises
        ------
        StorageError
            If LMDB fails; nothing was written, and the environment is opened afresh.
        """
        with self._opened().begin(write=True) as handles:
            yield Writer(*handles)

    def copy(self, descriptor: int) -> None:
        """Write a compact copy of the environment as it is now.

        Parameters
        ----------
        descriptor
            An open, empty file.

        Raises
        ------
        StorageError
            If the copy cannot be written.
        """
        self._opened().copy(descriptor)

    def oldest_reader(self) -> int | None:
        """Give the oldest commit that a living snapshot of any process still sees, if there is one.

        Returns
        -------
        int | None
            As in `Snapshot.transaction`.

        Raises
        ------
        StorageError
            If LMDB fails.
        """
        return min(self._opened().readers(), default=None)

    def _check_meta(self, path: Path, hub: HubFile) -> None:
        with self.snapshot() as snapshot:
            meta = snapshot.meta()
        if meta is None:
            raise IntegrityError(f"{path} is no hub's catalogue; run `moma-cl verify --repair`")
        if meta["format"] > FORMAT:
            raise FormatError(
                f"the catalogue {path} is in format {meta['format']}, this version of moma-cl"
                f" knows up to {FORMAT}; install a newer one"
            )
        if meta["id"] != hub.hub_id:
            raise IntegrityError(
                f"the catalogue {path} belongs to hub {meta['id']}, expected hub {hub.hub_id};"
                " run `moma-cl verify --repair --catalogue PATH` with the folder of its own"
            )

    def _opened(self) -> Environment:
        if self._environment is None:
            raise StorageError("the catalogue is closed; open the hub again")
        return self._environment
