import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional

from moma_cl.backbones.chgnet.kernels import gated, gathered_sum, padded, product

WIDTH = 6


def random(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def norms():
    pair = nn.LayerNorm(WIDTH).double(), nn.LayerNorm(WIDTH).double()
    for seed, norm in enumerate(pair):
        norm.weight.data = random(WIDTH, seed=seed).detach()
        norm.bias.data = random(WIDTH, seed=seed + 5).detach()
    return pair


def centered_rows(seed):
    rows = random(9, WIDTH, seed=seed).detach()
    return (rows - rows.mean(1, keepdim=True)).requires_grad_()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [None, 3, WIDTH])
def test_gradients_of_a_product_are_exact(bias, width):
    inputs = random(7, 4), random(WIDTH, 4), random(WIDTH) if bias else None
    assert gradcheck(lambda *given: product(*given, centered=width), inputs)


def test_a_centered_product_has_no_mean():
    result = product(random(7, 4), random(2 * WIDTH, 4), random(2 * WIDTH), centered=WIDTH)
    assert result.view(7, 2, WIDTH).mean(2).abs().max() < 1e-15


@pytest.mark.parametrize("n_rows", [0, 5, 300])
def test_a_product_of_many_rows_is_that_of_torch(n_rows):
    rows, weight, bias = (random(*s, dtype=torch.float32) for s in [(n_rows, 64), (64, 64), (64,)])
    ours, theirs = product(rows, weight, bias), functional.linear(rows, weight, bias)
    assert torch.allclose(ours, theirs, atol=1e-5)
    upstream = torch.ones_like(theirs)
    gradients = (torch.autograd.grad(out, (rows, weight, bias), upstream) for out in (ours, theirs))
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(*gradients, strict=True))


def test_gradients_of_gathered_sums_are_exact():
    index = torch.tensor([[0, 1, 2], [2, 2, 2], [3, 0, 1], [0, 0, 4]])
    assert gradcheck(lambda t, s: gathered_sum(t, index, s), (random(5, 3), random(4, 3)))
    assert gradcheck(lambda t: gathered_sum(t, index), (random(5, 3),))
    assert torch.allclose(gathered_sum(random(5, 3), index), random(5, 3)[index].sum(1))


@pytest.mark.parametrize("factors", [True, False])
def test_gating_is_layer_norms_and_their_gradients(factors):
    pair = norms()
    core, gate = centered_rows(1), centered_rows(2)
    weights = random(9, WIDTH, seed=3) if factors else None
    result = gated(core, gate, pair, weights)
    expected = functional.silu(pair[0](core)) * torch.sigmoid(pair[1](gate))
    expected = expected if weights is None else expected * weights
    assert torch.allclose(result, expected, atol=1e-14)
    inputs = [core, gate, *(p for norm in pair for p in norm.parameters())]
    inputs += [] if weights is None else [weights]
    upstream = random(9, WIDTH, seed=4).detach()
    ours, theirs = (torch.autograd.grad(out, inputs, upstream) for out in (result, expected))
    for one, other in zip(ours[2:], theirs[2:], strict=True):
        assert torch.allclose(one, other, atol=1e-13)
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        # they differ by what a mean that is always zero cannot use
        assert torch.allclose(*(rows - rows.mean(1, keepdim=True) for rows in (one, other)))


def test_gating_without_gradients_gives_the_same():
    pair, core, gate, weights = norms(), centered_rows(1), centered_rows(2), random(9, WIDTH)
    expected = gated(core, gate, pair, weights)
    with torch.no_grad():
        result = gated(core.clone(), gate.clone(), pair, weights)
    assert torch.allclose(result, expected, atol=1e-15)


def test_frozen_parameters_cost_no_gradients():
    pair = norms()
    for norm in pair:
        norm.requires_grad_(requires_grad=False)
    core, gate = centered_rows(1), centered_rows(2)
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
