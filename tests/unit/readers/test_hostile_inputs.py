"""Texts made to keep a parser busy: time must grow with their length, not with its square."""

import json
import time

import pytest

from moma_cl.datasets.target_column import split_header
from moma_cl.readers.dispatch import read_rows

N = 400_000  # characters; the square of it would take minutes
ATOM = "\nH 0 0 0\n"

HOSTILE = {
    "repeated-key.jsonl": "{" + "".join(f'"a{i}":0,' for i in range(N // 8)) + '"a49999":1}',
    "repeated-key.json": "[{" + "".join(f'"a{i}":0,' for i in range(N // 8)) + '"a49999":1}]',
    "line-breaks.jsonl": json.dumps({"structure": "\n" * N + "x"}),
    "blanks.jsonl": json.dumps({"structure": " " * N + "x"}),
    "nested.jsonl": "[" * N,
    "nested.json": "[" * N,
    "unfinished.json": '["' + "a" * N,
    "digits.jsonl": '{"structure": {"lattice": [[1.' + "1" * N + "]]}}",
    "cells.csv": "id,structure\n" + "," * N + "\n",
    "quoted-cells.csv": "id,structure\n" + '"",' * (N // 3) + "\n",
    "columns.csv": "structure" + ",a" * (N // 2) + "\n" + "x\n" * 20,
    "open-quotes.csv": "id,structure\n" + '"a\n' + '""x\n' * (N // 20),
    "open-braces.xyz": "1\n" + "a={" * (N // 3) + ATOM,
    "open-quotes.xyz": "1\n" + "a=' b=\"" * (N // 7) + ATOM,
    "keys.xyz": "1\n" + "a = " * (N // 4) + ATOM,
    "blanks.xyz": "1\n=a" + " " * N + ATOM,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_made_to_take_long_does_not(name, tmp_path):
    path = tmp_path / name
    path.write_text(HOSTILE[name])
    began = time.process_time()
    for row in read_rows([path]):
        assert (row.crystal is None) == (row.error is not None)
    assert time.process_time() - began < 10.0


def test_a_header_made_to_take_long_has_no_unit():
    header = "a " + "(" * N
    assert split_header(header) == (header, None)
