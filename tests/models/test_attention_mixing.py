"""Fused weighted sums against the gather that they save, forward and backward."""

import pytest
import torch

from models.attention.mixing import mixed

B, K, S, D = 5, 6, 4, 8


def drawn(heads, queries=1, dtype=torch.float64):
    draw = torch.Generator().manual_seed(heads)
    weights = torch.rand(B, heads, queries, K, generator=draw).to(dtype)
    source = torch.randn(S, D, generator=draw).to(dtype)
    return weights.requires_grad_(), source.requires_grad_(), torch.randint(S - 1, (B, K), generator=draw)


def plainly(weights, source, neighbours):
    """One target, query and head at a time."""
    answer = []
    for b in range(B):
        for q in range(weights.shape[2]):
            parts = source[neighbours[b]].chunk(weights.shape[1], -1)
            answer.append(torch.cat([weights[b, h, q] @ part for h, part in enumerate(parts)]))
    return torch.stack(answer).view(B, -1, D)


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("heads", [1, 2, 8])
def test_equals_the_loop_and_so_do_its_gradients(heads, queries):
    weights, source, neighbours = drawn(heads, queries)
    gradient = torch.randn(B, queries, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    answers = [one(weights, source, neighbours) for one in (mixed, plainly)]
    torch.testing.assert_close(*answers)
    ours, loop = (torch.autograd.grad(answer, (weights, source), gradient) for answer in answers)
    torch.testing.assert_close(ours, loop)
    assert not ours[1][S - 1].any()  # a row that nobody reads


def test_gradient_check():
    weights, source, neighbours = drawn(2)
    assert torch.autograd.gradcheck(lambda w, s: mixed(w, s, neighbours), (weights, source))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_learns(dtype):
    weights, source, neighbours = drawn(2, dtype=dtype)
    mixed(weights, source, neighbours).sum().backward()
    wanted, exact = drawn(2)[:2]
    mixed(wanted, exact, neighbours).sum().backward()
    torch.testing.assert_close(source.grad.double(), exact.grad, atol=0.1, rtol=0.1)
    torch.testing.assert_close(weights.grad.double(), wanted.grad, atol=0.1, rtol=0.1)


def test_no_rows_and_no_neighbours():
    assert not mixed(torch.ones(2, 1, 1, 0), torch.ones(3, D), torch.empty(2, 0, dtype=torch.int64)).any()
    assert mixed(torch.ones(0, 1, 1, K), torch.ones(3, D), torch.empty(0, K, dtype=torch.int64)).shape == (
        0,
        1,
        D,
    )
