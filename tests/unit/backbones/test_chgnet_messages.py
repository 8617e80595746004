"""The compiled kernel of messages has the values and gradients of the formula."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from moma_cl.backbones.chgnet import layers, messages
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone, _middle
from moma_cl.backbones.chgnet.messages import (
    Layers,
    Messages,
    Tables,
    add_messages,
    plain_messages,
)
from moma_cl.core.openmp import in_torch_threads
from moma_cl.graphs.batching import collate
from moma_cl.testing.crystals import example_crystals, isolated_atom

WIDTH = 64
# None, one, a block, one more, several, enough for the kernel where no gradient is computed.
N_MESSAGES = [0, 1, 48, 49, 320, 1100]
# In float32 a sum of a thousand terms of size 1 rounds by some 1e-5 of the largest.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 5e-5}
PRECISIONS = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
N_PAIRS, N_SINGLES, N_CHANGES, N_RECEIVERS = 20, 30, 7, 10
# what atom convolutions, the first of them, bond convolutions and angle updates are made of
KINDS = {
    "atoms": {"second", "changes", "factors", "bias"},
    "first atoms": {"second", "factors"},
    "bonds": {"second", "features", "factors"},
    "angles": {"features"},
}


class Case:
    """Random messages, tables and layers."""

    def __init__(self, n_messages, parts, dtype=torch.float64, scale=1.0):
        self.generator = torch.Generator().manual_seed(n_messages)
        self.dtype = dtype
        limits = [N_PAIRS, N_PAIRS, N_SINGLES, N_CHANGES + 1, N_SINGLES, N_RECEIVERS]
        index = torch.stack([self._numbers(limit, n_messages) for limit in limits])
        index[3] -= 1
        counts = 1.0 + self._numbers(3, n_messages).to(dtype)
        self.messages = Messages(index=index, counts=counts, cut=0)
        self.tables = Tables(
            pairs=self._rows(N_PAIRS, 2 * WIDTH, scale=scale),
            singles=self._rows(N_SINGLES, 2 * WIDTH),
            changes=self._rows(N_CHANGES, 2 * WIDTH) if "changes" in parts else None,
            factors=self._rows(N_SINGLES, WIDTH) if "factors" in parts else None,
            features=self._rows(n_messages, WIDTH) if "features" in parts else None,
        )
        self.start = self._rows(N_RECEIVERS, WIDTH)
        linear, norm = self._linear, self._norm
        self.layers = Layers(
            norms=(norm(), norm()),
            features=linear(2 * WIDTH) if "features" in parts else None,
            bias=self._rows(2 * WIDTH) if "bias" in parts else None,
            second=(linear(WIDTH), linear(WIDTH)) if "second" in parts else None,
        )

    def inputs(self):
        tables = self.tables
        rows = [tables.pairs, tables.singles, tables.changes, tables.factors, tables.features]
        modules = [self.layers.features, *(self.layers.second or ()), *self.layers.norms]
        parameters = [p for module in modules if module is not None for p in module.parameters()]
        biases = [] if self.layers.bias is None else [self.layers.bias]
        return [self.start, *(one for one in rows if one is not None), *biases, *parameters]

    def answers(self, function):
        """Give the value and all gradients."""
        result = function(self.messages, self.tables, self.layers, self.start)
        upstream = torch.linspace(-1.0, 2.0, result.numel(), dtype=self.dtype).view_as(result)
        return [result.detach(), *torch.autograd.grad(result, self.inputs(), upstream)]

    def _numbers(self, limit, count):
        return torch.randint(limit, (count,), generator=self.generator)

    def _rows(self, *shape, scale=1.0):
        rows = torch.randn(*shape, generator=self.generator, dtype=self.dtype) * scale
        return rows.requires_grad_()

    def _linear(self, n_outputs):
        layer = nn.Linear(WIDTH, n_outputs).to(self.dtype)
        return self._filled(layer, 1.0 / math.sqrt(WIDTH))

    def _norm(self):
        return self._filled(nn.LayerNorm(WIDTH).to(self.dtype), 1.0)

    def _filled(self, module, scale):
        for parameter in module.parameters():
            parameter.data = self._rows(*parameter.shape).detach() * scale
        return module


def agree(answers, expected, tolerance):
    return all(
        one.shape == other.shape
        and torch.allclose(one, other, rtol=0.0, atol=tolerance * _largest(other))
        for one, other in zip(answers, expected, strict=True)
    )


def _largest(tensor):
    return float(tensor.abs().max()) if tensor.numel() else 0.0


@PRECISIONS
@pytest.mark.parametrize("n_messages", N_MESSAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_has_the_values_and_gradients_of_the_formula(dtype, n_messages, kind):
    case = Case(n_messages, KINDS[kind], dtype)
    answers = case.answers(add_messages)
    assert agree(answers, case.answers(plain_messages), TOLERANCES[dtype])
    with torch.no_grad():
        value = add_messages(case.messages, case.tables, case.layers, case.start)
    assert agree([value], answers[:1], TOLERANCES[dtype])


@pytest.mark.parametrize("kind", KINDS)
def test_parts_may_have_rows_in_common(kind):
    case = Case(320, KINDS[kind])
    case.messages = replace(case.messages, cut=150, apart=False)
    assert agree(case.answers(add_messages), case.answers(plain_messages), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_formula_are_those_of_finite_differences(kind):
    case = Case(5, KINDS[kind])
    assert torch.autograd.gradcheck(
        lambda *_: plain_messages(case.messages, case.tables, case.layers, case.start),
        case.inputs(),
        fast_mode=True,
    )


@PRECISIONS
@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e4])
def test_the_kernels_exponential_is_right_far_from_nought(dtype, scale):
    """SiLU of numbers in the thousands is nought or the number itself."""
    case = Case(100, KINDS["atoms"], dtype, scale)
    assert agree(case.answers(add_messages), case.answers(plain_messages), TOLERANCES[dtype])


@pytest.mark.parametrize("place", [0, WIDTH])
def test_what_is_no_number_stays_none(place):
    case = Case(3, KINDS["angles"])
    with torch.no_grad():
        case.tables.pairs[case.messages.index[0, 0], place] = math.nan
    value, *_ = case.answers(add_messages)
    assert value[case.messages.index[5, 0]].isnan().all()


def test_tables_may_be_views():
    case = Case(60, KINDS["atoms"])
    wide = torch.randn(N_PAIRS, 5 * WIDTH, dtype=torch.float64)
    expected = Tables(pairs=wide[:, 3:131].clone(), singles=case.tables.singles)
    given = Tables(pairs=wide[:, 3:131], singles=case.tables.singles)
    values = [add_messages(case.messages, t, case.layers, case.start) for t in (given, expected)]
    assert torch.equal(*values)


def test_frozen_parameters_cost_no_gradients():
    case = Case(60, KINDS["bonds"])
    expected = torch.autograd.grad(
        add_messages(case.messages, case.tables, case.layers, case.start).sum(), case.inputs()[:5]
    )
    parameters = case.inputs()[5:]
    for parameter in parameters:
        parameter.requires_grad_(requires_grad=False)
    add_messages(case.messages, case.tables, case.layers, case.start).sum().backward()
    assert all(parameter.grad is None for parameter in parameters)
    for row, gradient in zip(case.inputs()[:5], expected, strict=True):
        assert torch.equal(row.grad, gradient)


@pytest.mark.parametrize("kind", KINDS)
def test_any_parameter_may_be_frozen_alone(kind):
    case = Case(60, KINDS[kind])
    inputs = case.inputs()
    expected = case.answers(add_messages)[1:]
    for frozen in (one for one in inputs if one.is_leaf):
        frozen.requires_grad_(requires_grad=False)
        rest = [one for one in inputs if one is not frozen]
        value = add_messages(case.messages, case.tables, case.layers, case.start)
        upstream = torch.linspace(-1.0, 2.0, value.numel(), dtype=case.dtype).view_as(value)
        gradients = iter(torch.autograd.grad(value, rest, upstream))
        frozen.requires_grad_()
        for one, gradient in zip(inputs, expected, strict=True):
            assert one is frozen or torch.equal(next(gradients), gradient)


@PRECISIONS
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_row_receives_does_not_depend_on_other_messages(dtype, kind):
    case = Case(200, KINDS[kind], dtype)
    index, counts = case.messages.index, case.messages.counts
    chosen = (index[5] % 3 == 1).nonzero().flatten()
    alone = Messages(index=index[:, chosen], counts=counts[chosen], cut=0)
    features = case.tables.features
    tables = replace(case.tables, features=None if features is None else features[chosen])
    with torch.no_grad():
        whole = add_messages(case.messages, case.tables, case.layers, case.start)
        part = add_messages(alone, tables, case.layers, case.start)
    assert torch.equal(whole[1::3], part[1::3])


@pytest.fixture
def graphs():
    return CHGNetBackbone.to_graphs([*example_crystals().values(), isolated_atom()])


def features_and_gradients(graphs, dtype=torch.float64):
    encoder = CHGNetBackbone.pretrained().to(dtype)
    features = encoder(collate(graphs))
    sum(block.square().sum() for block in features).backward()
    gradients = [parameter.grad for parameter in encoder.parameters()]
    return [block.detach() for block in features] + gradients


def test_the_encoder_has_the_features_and_gradients_of_the_formulas(graphs, monkeypatch):
    answers = features_and_gradients(graphs)
    monkeypatch.setattr(layers, "add_messages", plain_messages)
    assert agree(answers, features_and_gradients(graphs), 1e-9)


@pytest.mark.parametrize("structures", [slice(None), slice(1)], ids=["many", "one"])
def test_bits_do_not_depend_on_the_number_of_threads(graphs, structures, monkeypatch):
    """Messages are cut at the same place, however many threads compute the parts."""
    parts = []

    def recorded(calls):
        parts.append(len(calls))
        in_torch_threads(calls)

    monkeypatch.setattr(messages, "in_torch_threads", recorded)
    answers = []
    for n_threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        answers.append(features_and_gradients(graphs[structures], torch.float32))
    assert max(parts) == 2
    assert all(torch.equal(one, other) for one, other in zip(*answers, strict=True))


def test_messages_are_cut_between_structures(graphs):
    batch = collate(graphs)
    owners = batch.batch[batch.edge_index[1]]
    cut, apart = _middle(batch, batch.edge_index[1])
    assert apart
    assert 0 < cut < len(owners)
    assert owners[cut - 1] < owners[cut]
    assert int(owners[:cut].max()) < int(owners[cut:].min())


def test_messages_of_one_large_structure_are_cut_in_the_middle(graphs):
    batch = collate(graphs[:1])
    assert _middle(batch, batch.edge_index[1]) == (batch.num_edges // 2, False)


def test_the_encoder_keeps_to_the_device_of_its_graphs(graphs):
    encoder, batch = CHGNetBackbone.pretrained().to("meta"), collate(graphs).to("meta")
    sum(block.sum() for block in encoder(batch)).backward()
    assert all(parameter.grad.device.type == "meta" for parameter in encoder.parameters())
