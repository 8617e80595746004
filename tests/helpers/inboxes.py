"""What passes do about the inbox of a small hub, and what is stored of it."""

from moma_cl.automation import deliveries, inbox
from moma_cl.hub import Hub
from moma_cl.progress import quiet
from moma_cl.records.records import Dataset, Segment, SegmentRole
from moma_cl.workspace.dataset_rows import DatasetRows
from moma_store.store import Store
from tests.helpers.hubs import open_workspace


def update(hub):
    return Hub(hub).update(settle=0.0)


def add_delivered(hub):
    """What `update` does about the inbox, and nothing else."""
    with Store.open(hub) as store:
        return deliveries.add_deliveries(
            store, inbox.settled(hub, ["energy"], seconds=0.0), progress=quiet
        )


def stored(hub, task="energy") -> list[str]:
    """Ids of all rows of all segments, dead or alive."""
    with Store.open(hub) as store:
        segments = Dataset.from_doc(store.record(store.ref(f"datasets/{task}"))).segments
        found = {digest: Segment.from_doc(store.record(digest)) for digest in segments}
        rows = [digest for digest, one in found.items() if one.role is SegmentRole.ROWS]
        contents = DatasetRows(store=store)
        return [i for digest in rows for i in contents.segment(digest).ids]


def targets(hub, task="energy"):
    """Target of each live row by its id."""
    with open_workspace(hub) as (store, workspace):
        rows = workspace.rows(store.ref(f"datasets/{task}"))
    return dict(zip(rows.ids, rows.targets.tolist(), strict=True))


def sources(hub, task="energy"):
    with Store.open(hub) as store:
        segments = Dataset.from_doc(store.record(store.ref(f"datasets/{task}"))).segments
        return [Segment.from_doc(store.record(digest)).sources for digest in segments]


def told(done, action):
    return [entry.text for entry in done if entry.action == action]


def names(folder):
    return sorted(path.name for path in folder.iterdir())
