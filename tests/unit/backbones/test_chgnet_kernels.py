"""Each kernel gives the values and gradients of its formula, and runs on CPUs only."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional

from moma_cl.backbones.chgnet import backbone, kernels, layers
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.backbones.chgnet.kernels import gated, gathered_sum, padded, product
from moma_cl.graphs.batching import collate
from moma_cl.testing.crystals import example_crystals, isolated_atom

WIDTH = 64
# Enough for oneDNN's product, few enough for the default one, one, none.
N_ROWS = [0, 1, 7, 320]
# In float32 a sum of 320 terms of size 1 rounds by some 1e-5.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-4}
PRECISIONS = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


def random(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def norms(width, dtype=torch.float64):
    pair = nn.LayerNorm(width).to(dtype), nn.LayerNorm(width).to(dtype)
    for seed, norm in enumerate(pair):
        norm.weight.data = random(width, seed=seed, dtype=dtype).detach()
        norm.bias.data = random(width, seed=seed + 5, dtype=dtype).detach()
    return pair


def centered_rows(n_rows, width, seed, dtype=torch.float64):
    rows = random(n_rows, width, seed=seed, dtype=dtype).detach()
    return (rows - rows.mean(1, keepdim=True)).requires_grad_()


def agree(kernel, formula, inputs, parameters=(), *, tolerance):
    """Say whether values, with and without gradients, and all gradients are equal."""
    result, expected = kernel(*inputs), formula(*inputs)
    upstream = torch.randn(expected.shape, dtype=expected.dtype)
    learned = [*inputs, *parameters]
    ours, theirs = (torch.autograd.grad(out, learned, upstream) for out in (result, expected))
    with torch.no_grad():
        # copies, since kernels may overwrite their inputs
        in_place = kernel(*(tensor.clone() for tensor in inputs))
    pairs = [(result, expected), (in_place, expected), *zip(ours, theirs, strict=True)]
    return all(
        one.shape == other.shape and torch.allclose(one, other, rtol=tolerance, atol=tolerance)
        for one, other in pairs
    )


@PRECISIONS
@pytest.mark.parametrize("n_rows", N_ROWS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [None, WIDTH // 2, WIDTH])
def test_a_product_is_its_formula(dtype, n_rows, bias, width):
    inputs = [random(n_rows, 31, dtype=dtype), random(WIDTH, 31, dtype=dtype)]
    inputs += [random(WIDTH, dtype=dtype)] if bias else []
    assert agree(
        lambda *tensors: product(*tensors, centered=width),
        lambda *tensors: kernels.plain_product(*tensors, centered=width),
        inputs,
        tolerance=10 * TOLERANCES[dtype],
    )


@PRECISIONS
@pytest.mark.parametrize(("n_rows", "n_table"), [(0, 0), (0, 5), (1, 1), (7, 5), (320, 40)])
@pytest.mark.parametrize("start", [True, False])
def test_a_gathered_sum_is_its_formula(dtype, n_rows, n_table, start):
    index = torch.randint(max(n_table, 1), (n_rows, 3))
    inputs = [random(n_table, WIDTH, dtype=dtype)]
    inputs += [random(n_rows, WIDTH, dtype=dtype)] if start else []
    assert agree(
        lambda table, *rest: gathered_sum(table, index, *rest),
        lambda table, *rest: kernels.plain_gathered_sum(table, index, *rest),
        inputs,
        tolerance=TOLERANCES[dtype],
    )


@PRECISIONS
@pytest.mark.parametrize("n_rows", N_ROWS)
@pytest.mark.parametrize("factors", [True, False])
def test_gating_is_its_formula(dtype, n_rows, factors):
    pair = norms(WIDTH, dtype)
    inputs = [centered_rows(n_rows, WIDTH, seed, dtype) for seed in (1, 2)]
    inputs += [random(n_rows, WIDTH, seed=3, dtype=dtype)] if factors else []
    parameters = [parameter for norm in pair for parameter in norm.parameters()]
    assert agree(
        lambda core, gate, scale=None: gated(core, gate, pair, scale),
        lambda core, gate, scale=None: kernels.plain_gated(core, gate, pair, scale),
        inputs,
        parameters,
        tolerance=10 * TOLERANCES[dtype],
    )


def test_gradients_are_those_of_finite_differences():
    rows, weight, bias = random(7, 4), random(6, 4), random(6)
    assert gradcheck(lambda *tensors: product(*tensors, centered=3), (rows, weight, bias))
    index = torch.tensor([[0, 1, 2], [2, 2, 2], [3, 0, 1], [0, 0, 4]])
    assert gradcheck(lambda t, s: gathered_sum(t, index, s), (random(5, 3), random(4, 3)))


@pytest.mark.parametrize("factors", [True, False])
def test_a_gated_layer_is_that_of_the_textbook(factors):
    """Products without centring, and layer normalisation that subtracts the mean."""
    pair = norms(6)
    rows, weights, biases = random(9, 4), random(2, 6, 4), random(2, 6)
    scale = random(9, 6, seed=3) if factors else None
    branches = (product(rows, w, b, centered=6) for w, b in zip(weights, biases, strict=True))
    result = gated(*branches, pair, scale)
    core, gate = (functional.linear(rows, w, b) for w, b in zip(weights, biases, strict=True))
    expected = functional.silu(pair[0](core)) * torch.sigmoid(pair[1](gate))
    expected = expected if scale is None else expected * scale
    assert torch.allclose(result, expected, atol=1e-13)
    inputs = [rows, weights, biases, *(p for norm in pair for p in norm.parameters())]
    upstream = random(9, 6, seed=4).detach()
    ours, theirs = (torch.autograd.grad(out, inputs, upstream) for out in (result, expected))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_kernels_run_on_cpus_and_formulas_on_other_devices(device, monkeypatch):
    run = []
    # every kernel goes through one of these where gradients are computed
    monkeypatch.setattr(kernels, "_applied", lambda function, first, *_: run.append(1) or first)
    rows, index = torch.zeros(300, 6, device=device), torch.zeros(300, 3, dtype=int, device=device)
    pair = nn.LayerNorm(6).to(device), nn.LayerNorm(6).to(device)
    assert product(rows, torch.zeros(6, 6, device=device), centered=3).shape == (300, 6)
    assert gathered_sum(rows, index, rows).shape == (300, 6)
    assert gated(rows, rows, pair, rows).shape == (300, 6)
    assert len(run) == (3 if device == "cpu" else 0)
    assert len(padded(index[:, 0])) == (320 if device == "cpu" else 300)


@pytest.fixture
def graphs():
    return CHGNetBackbone.to_graphs([*example_crystals().values(), isolated_atom()])


def test_the_encoder_has_the_features_and_gradients_of_the_formulas(graphs, monkeypatch):
    answers = []
    for plain in (False, True):
        if plain:
            for module, name in [
                (backbone, "product"),
                *((layers, name) for name in ("product", "gathered_sum", "gated")),
            ]:
                monkeypatch.setattr(module, name, getattr(kernels, f"plain_{name}"))
        encoder = CHGNetBackbone.pretrained().double()
        features = encoder(collate(graphs))
        sum(block.square().sum() for block in features).backward()
        gradients = [parameter.grad for parameter in encoder.parameters()]
        answers.append([block.detach() for block in features] + gradients)
    for ours, theirs in zip(*answers, strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-9 * float(theirs.abs().max())


def test_the_encoder_keeps_to_the_device_of_its_graphs(graphs):
    encoder, batch = CHGNetBackbone.pretrained().to("meta"), collate(graphs).to("meta")
    sum(block.sum() for block in encoder(batch)).backward()
    assert all(parameter.grad.device.type == "meta" for parameter in encoder.parameters())


def test_frozen_parameters_cost_no_gradients():
    pair = norms(6)
    for norm in pair:
        norm.requires_grad_(requires_grad=False)
    core, gate = centered_rows(9, 6, 1), centered_rows(9, 6, 2)
    gated(core, gate, pair, None).sum().backward()
    assert core.grad is not None
    assert all(p.grad is None for norm in pair for p in norm.parameters())


@pytest.mark.parametrize("n_rows", [0, 1, 255, 256, 257, 1000, 1024, 4097, 100_000])
def test_padding_adds_at_most_an_eighth(n_rows):
    values = torch.arange(n_rows)
    result = padded(values, 7)
    assert torch.equal(result[:n_rows], values)
    assert (result[n_rows:] == 7).all()
    assert len(result) <= n_rows * 9 / 8 + 1


def test_padded_sizes_come_again():
    sizes = {len(padded(torch.zeros(n))) for n in range(4096, 8192)}
    assert len(sizes) == 9
