"""Holds every registered attention to its facts; names none but the reference that others are compared with.

b targets · q queries · k neighbours · s source rows · d width."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from models.attention import Attention, AttentionConfig, Pairs, attentions

B, Q, K, S, D, RELATIONS = 4, 3, 6, 9, 8, 5
NATURES = ("mechanism", "aggregator", "implementation", "operator")
FAMILIES = ("core", "graph", "specialised", "hyperbolic", "extra")
REFERENCE = "multi_head"


def build(part: str | type[Attention], dtype: torch.dtype = torch.float64, seed: int = 0) -> Attention:
    torch.manual_seed(seed)
    settings = {"dim": D, "heads": 2, "relations": RELATIONS}
    made = attentions.build(part, settings) if isinstance(part, str) else part(AttentionConfig(**settings))
    return made.to(dtype).eval()


def inputs(seed: int = 1, b: int = B, q: int = Q, k: int = K, dtype: torch.dtype = torch.float64):
    """Query, source, neighbours and pairs; target 0 sees all, each target at least one."""
    draw = torch.Generator().manual_seed(seed)
    key_mask = torch.rand(b, k, generator=draw) < 0.7
    key_mask[:, 0], key_mask[0] = True, True
    pairs = Pairs(
        key_mask,
        age_s=torch.rand(b, k, generator=draw, dtype=dtype) * 1e7,
        relation=torch.randint(RELATIONS, (b, k), generator=draw),
        query_type=torch.randint(3, (b, q), generator=draw),
        key_type=torch.randint(3, (b, k), generator=draw),
        query_degree=torch.randint(1, 9, (b, q), generator=draw),
        key_degree=torch.randint(1, 9, (b, k), generator=draw),
        edge=torch.randn(b, k, 2, generator=draw, dtype=dtype),
    )
    query = torch.randn(b, q, D, generator=draw, dtype=dtype)
    source = torch.randn(S, D, generator=draw, dtype=dtype)
    return query, source, torch.randint(S, (b, k), generator=draw), pairs


def permuted(pairs: Pairs, order: Tensor) -> Pairs:
    """The same neighbours in another order."""
    per_key = ("key_mask", "positions", "age_s", "relation", "key_type", "key_degree", "edge")
    found = {name: getattr(pairs, name) for name in per_key}
    return dataclasses.replace(
        pairs, **{name: value[:, order] for name, value in found.items() if value is not None}
    )


def rows(pairs: Pairs, at: slice) -> Pairs:
    """Some targets only."""
    found = {field.name: getattr(pairs, field.name) for field in dataclasses.fields(pairs)}
    return Pairs(**{name: value[at] if isinstance(value, Tensor) else value for name, value in found.items()})


def check_facts(part: str | type[Attention]) -> None:
    made = build(part)
    assert made.family in FAMILIES and made.nature in NATURES
    assert made.equals is None or made.equals in attentions
    text = type(made).__doc__ or ""
    assert "Source:" in text and "Cost:" in text


def check_shape(part: str | type[Attention]) -> None:
    for q in (1, Q):
        query, source, neighbours, pairs = inputs(q=q)
        assert build(part)(query, source, neighbours, pairs).shape == (B, q, D)


def check_gathered_source_gives_the_same(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    made = build(part)
    torch.testing.assert_close(
        made(query, source, neighbours, pairs), made(query, source[neighbours], None, pairs)
    )


def check_gradient(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs(b=2, q=2, k=3)
    made = build(part)
    names = [name for name, _ in made.named_parameters()]

    def answer(query: Tensor, source: Tensor, *parameters: Tensor) -> Tensor:
        held = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(made, held, (query, source, neighbours, pairs))

    parameters = [value.detach().requires_grad_() for _, value in made.named_parameters()]
    given = (query.requires_grad_(), source.requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(answer, given, fast_mode=True)


def check_masked_neighbours_change_nothing(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    made, given = build(part), source[neighbours].requires_grad_()
    answer = made(query, given, None, pairs)
    hidden = ~pairs.key_mask
    assert hidden.any()
    torch.testing.assert_close(made(query, given.detach() + 100 * hidden[..., None], None, pairs), answer)
    (gradient,) = torch.autograd.grad(answer.square().sum(), given)
    assert not gradient[hidden].any() and gradient[~hidden].any()


def check_no_neighbour_gives_zeros(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    key_mask = pairs.key_mask.clone()
    key_mask[1] = False
    made, source = build(part), source.requires_grad_()
    answer = made(query, source, neighbours, dataclasses.replace(pairs, key_mask=key_mask))
    assert not answer[1].any() and answer[0].any()
    answer.sum().backward()
    assert source.grad.isfinite().all()
    query, source, neighbours, pairs = inputs(k=1)
    nothing = permuted(pairs, torch.empty(0, dtype=torch.int64))
    assert not made(query, source, neighbours[:, :0], nothing).any()


def check_shuffle(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    made, order = build(part), torch.tensor([3, 0, 5, 1, 4, 2])
    before = made(query, source, neighbours, pairs)
    after = made(query, source, neighbours[:, order], permuted(pairs, order))
    assert torch.allclose(before, after) == (not made.order_aware), "order_aware is not as stated"


def check_weights(part: str | type[Attention]) -> None:
    """Where weights sum to one, many copies of one neighbour say what one copy says."""
    query, source, _, pairs = inputs()
    made = build(part)
    alike = dataclasses.replace(
        pairs,
        key_mask=torch.ones(B, K, dtype=torch.bool),
        relation=pairs.relation[:, :1].expand(-1, K),
        age_s=pairs.age_s[:, :1].expand(-1, K),
        key_type=pairs.key_type[:, :1].expand(-1, K),
        key_degree=pairs.key_degree[:, :1].expand(-1, K),
        edge=pairs.edge[:, :1].expand(-1, K, -1),
    )
    many = made(query, source, torch.full((B, K), 2), alike)
    one = made(query, source, torch.full((B, 1), 2), permuted(alike, torch.tensor([0])))
    assert torch.allclose(many, one) == made.normalised, "normalised is not as stated"
    if hasattr(made, "weights") and made.normalised:
        total = made.weights(*inputs()).sum(-1)
        torch.testing.assert_close(total, torch.ones_like(total))


def check_relation_and_age(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    made = build(part)
    before = made(query, source, neighbours, pairs)
    for column, is_used, other in (
        ("relation", made.uses_relation, (pairs.relation + 1) % RELATIONS),
        ("age_s", made.uses_age, pairs.age_s.flip(1) * 3),
    ):
        after = made(query, source, neighbours, dataclasses.replace(pairs, **{column: other}))
        assert torch.allclose(before, after) == (not is_used), f"uses_{column} is not as stated"
        if is_used:
            with pytest.raises(ValueError, match=type(made).__name__):
                made(query, source, neighbours, dataclasses.replace(pairs, **{column: None}))


def check_batch_of_one(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    made = build(part)
    alone = [
        made(query[i : i + 1], source, neighbours[i : i + 1], rows(pairs, slice(i, i + 1))) for i in range(B)
    ]
    torch.testing.assert_close(torch.cat(alone), made(query, source, neighbours, pairs))


def check_large_values(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs(dtype=torch.float32)
    made, given = build(part, torch.float32), (1e3 * source).requires_grad_()
    answer = made(1e3 * query, given, neighbours, pairs)
    answer.sum().backward()
    assert answer.isfinite().all() and given.grad.isfinite().all()


def check_causal(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    made, pairs = build(part), dataclasses.replace(pairs, is_causal=True)
    if not made.causal:
        with pytest.raises(ValueError, match=type(made).__name__):
            made(query, source, neighbours, pairs)
        return
    before = made(query, source, neighbours, pairs)
    later = neighbours.clone()
    later[:, K - 2 :] = (
        later[:, K - 2 :] + 1
    ) % S  # query i stands at K − Q + i: the first sees none of these
    after = made(query, source, later, pairs)
    torch.testing.assert_close(after[:, : Q - 2], before[:, : Q - 2])
    assert not torch.allclose(after[:, -1], before[:, -1])


def check_equals(part: str | type[Attention]) -> None:
    """With the parameters it shares with the mechanism it equals, or with the reference, held alike."""
    made = build(part)
    if part == REFERENCE:
        return
    other = build(made.equals or REFERENCE, seed=7)
    mine = made.state_dict()
    other.load_state_dict(
        {**other.state_dict(), **{n: v for n, v in mine.items() if n in other.state_dict()}}
    )
    same = torch.allclose(made(*inputs()), other(*inputs()), atol=1e-9)
    assert same == (made.equals is not None), "equals is not as stated"


class _Exportable(nn.Module):
    """Builds its pairs inside, as an exported program takes tensors."""

    def __init__(self, made: Attention) -> None:
        super().__init__()
        self.made = made

    def forward(self, query, source, neighbours, key_mask, relation, age_s):
        return self.made(query, source, neighbours, Pairs(key_mask, relation=relation, age_s=age_s))


def check_export(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    given = (query, source, neighbours, pairs.key_mask, pairs.relation, pairs.age_s)
    module = _Exportable(build(part))
    exported = torch.export.export(module, given)
    torch.testing.assert_close(exported.module()(*given), module(*given))


CHECKS = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", list(attentions))
def test_attention(name, check):
    CHECKS[check](name)


class Honest(Attention):
    """Mean, as a ground for lies. Source: this file. Cost: none."""

    family, nature = "extra", "aggregator"

    def forward(self, query, source, neighbours, pairs):
        self.check(pairs)
        given = source if neighbours is None else source[neighbours]
        share = self.share(pairs).to(given.dtype)
        return torch.einsum("bk,bkd->bd", share, given)[:, None].expand(-1, query.shape[1], -1)

    def share(self, pairs):
        return pairs.key_mask / pairs.key_mask.sum(1, keepdim=True).clamp(min=1)


class LooksBehindTheMask(Honest):
    def share(self, pairs):
        return torch.full(pairs.key_mask.shape, 1 / max(pairs.key_mask.shape[1], 1))


class Sums(Honest):
    def share(self, pairs):
        return pairs.key_mask


class LikesTheFirst(Honest):
    def share(self, pairs):
        return super().share(pairs) * torch.linspace(2, 1, pairs.key_mask.shape[1])


class ReadsRelations(Honest):
    def share(self, pairs):
        return super().share(pairs) * (1 + pairs.relation)


class ClaimsAges(Honest):
    uses_age = True


class ClaimsOrder(Honest):
    order_aware = True


class ClaimsCausal(Honest):
    causal = True


class MixesTheBatch(Honest):
    def share(self, pairs):
        return super().share(pairs) * len(pairs.key_mask)


class Detaches(Honest):
    def forward(self, query, source, neighbours, pairs):
        return (
            super().forward(query, source, neighbours, pairs) + query.detach() * 0.1 + source.mean().sin() * 0
        )


class Overflows(Honest):
    def forward(self, query, source, neighbours, pairs):
        return super().forward(query, source.exp(), neighbours, pairs)


LIES = (
    (LooksBehindTheMask, "masked_neighbours_change_nothing"),
    (LooksBehindTheMask, "no_neighbour_gives_zeros"),
    (Sums, "weights"),
    (LikesTheFirst, "shuffle"),
    (ReadsRelations, "relation_and_age"),
    (ClaimsAges, "relation_and_age"),
    (ClaimsOrder, "shuffle"),
    (ClaimsCausal, "causal"),
    (MixesTheBatch, "batch_of_one"),
    (Detaches, "gradient"),
    (Overflows, "large_values"),
)


@pytest.mark.parametrize(("lie", "check"), LIES)
def test_the_contract_catches_a_planted_lie(lie, check):
    with pytest.raises((AssertionError, RuntimeError)):
        CHECKS[check](lie)


@pytest.mark.parametrize("check", sorted(set(CHECKS)))
def test_the_contract_passes_an_honest_part(check):
    CHECKS[check](Honest)
