"""Records: to documents and back."""

import pytest

from moma_cl.records.decoding import KINDS, decoded
from moma_cl.records.records import (
    Composition,
    Grouping,
    Learner,
    LearnerMethod,
    ModuleKind,
    Predictor,
    Segment,
    SegmentRole,
    StartKind,
    Task,
)
from moma_store.errors import FormatError, InvalidInputError
from moma_store.records import BlobLink, links

DIGESTS = [c * 64 for c in "0123456789abcdef"]
BLOB = BlobLink(digest=DIGESTS[9], file=DIGESTS[10], n_bytes=7)

RECORDS = [
    Task(
        name="t",
        property="band_gap",
        target="gap",
        unit="eV",
        transform="none",
        module=ModuleKind.ADAPTER,
        grouping=Grouping.COLUMN,
        fold_column="fold",
    ),
    Segment(role=SegmentRole.RETRACTION, blob=BLOB, n_rows=3, sources=({"name": "x"},), refused=1),
    Composition(
        backbone=DIGESTS[4],
        dataset=DIGESTS[0],
        module=ModuleKind.FULL,
        modules=(DIGESTS[1], DIGESTS[2]),
        weights=(0.25, 0.5),
        backbone_weight=0.25,
        objective=0.1,
        backbone_objective=0.2,
        duality_gap=0.0,
        n_candidates=4,
        excluded={DIGESTS[3]: "why"},
    ),
    Learner(
        backbone=DIGESTS[4],
        task=DIGESTS[0],
        dataset=DIGESTS[1],
        method=LearnerMethod.FINETUNED,
        start=StartKind.COMPOSITION,
        composition=DIGESTS[2],
        multitask=None,
        blob=BLOB,
        readouts=True,
        n_train=100,
        validation_mae=0.1,
        held_out_mae=None,
        settings={},
        made_by={},
    ),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.kind)
def test_a_record_survives_its_document(record):
    assert type(record).from_doc(record.to_doc()) == record


def test_a_document_names_what_it_depends_on():
    records, blobs = links(RECORDS[2].to_doc())
    assert records == {*DIGESTS[:3], DIGESTS[4]}
    assert blobs == set()
    assert links(RECORDS[1].to_doc())[1] == {BLOB}


def test_every_link_field_is_a_field():
    for record in KINDS.values():
        assert record.record_fields | record.blob_fields <= set(record.__dataclass_fields__)


def test_words_come_back_as_what_they_are():
    task = Task.from_doc(RECORDS[0].to_doc())
    assert task.module is ModuleKind.ADAPTER
    assert task.grouping is Grouping.COLUMN


def test_a_document_without_a_field_is_of_another_version():
    document = RECORDS[0].to_doc()
    del document["unit"]
    with pytest.raises(FormatError, match="'task' lacks 'unit'"):
        Task.from_doc(document)


def test_a_document_from_before_a_field_takes_its_default():
    doc = RECORDS[0].to_doc() | {"later": 1}
    assert Task.from_doc(doc) == RECORDS[0]
    predictor = {name: None for name in Predictor.__dataclass_fields__ if name != "multitasks"}
    doc = predictor | {"kind": "predictor", "format": 1}
    assert Predictor.from_doc(doc).multitasks == ()
    with pytest.raises(FormatError, match="'dataset'"):
        Predictor.from_doc({name: value for name, value in doc.items() if name != "dataset"})


@pytest.mark.parametrize(
    ("method", "start", "name"),
    [
        ("kernel", "composition", "kernel"),
        ("finetuned", "multitask", "finetuned from multitask"),
        ("adapted", "backbone", "adapted backbone"),
    ],
)
def test_a_learner_is_called_by_its_method_and_start(method, start, name):
    doc = RECORDS[3].to_doc() | {"method": method, "start": start}
    assert Learner.from_doc(doc).name == name


@pytest.mark.parametrize(
    "change",
    [
        {"start": "backbone"},  # and it names a composition
        {"composition": None},
        {"multitask": {"$record": DIGESTS[3]}},
        {"method": "kernel", "start": "multitask"},  # and it names a composition
        {"method": "guess"},
    ],
)
def test_a_learner_from_outside_names_what_it_started_from(change):
    assert decoded(RECORDS[3].to_doc()) == RECORDS[3]
    with pytest.raises(InvalidInputError, match="'learner' is malformed"):
        decoded(RECORDS[3].to_doc() | change)
