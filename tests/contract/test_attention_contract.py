"""Holds every registered attention to its facts; names none but the reference that others are compared with.

b targets · q queries · k neighbours · s source rows · d width · e features of an edge."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from models.attention import Attention, AttentionConfig, Pairs, attentions
from models.attention.base import READS

B, Q, K, S, D, RELATIONS, TYPES, EDGE = 4, 3, 40, 23, 8, 5, 3, 2
NATURES = ("mechanism", "aggregator", "implementation", "operator")
FAMILIES = ("core", "graph", "specialised", "hyperbolic", "extra")
REFERENCE = "multi_head"
PER_KEY = ("key_mask", "age_s", "hop", "relation", "key_type", "key_degree", "edge")
PER_QUERY = ("query_type", "query_degree")
GIVEN = (*PER_KEY, *PER_QUERY)
SETTINGS = {"dim": D, "heads": 2, "relations": RELATIONS, "types": TYPES, "edge_width": EDGE}


def build(part: str | type[Attention], dtype: torch.dtype = torch.float64, seed: int = 0) -> Attention:
    torch.manual_seed(seed)
    made = attentions.build(part, SETTINGS) if isinstance(part, str) else part(AttentionConfig(**SETTINGS))
    return made.to(dtype).eval()


def inputs(seed: int = 1, b: int = B, q: int = Q, k: int = K, dtype: torch.dtype = torch.float64):
    """Query, source, neighbours and pairs; target 0 sees all, each target at least one."""
    draw = torch.Generator().manual_seed(seed)
    key_mask = torch.rand(b, k, generator=draw) < 0.7
    key_mask[:, -1], key_mask[0] = True, True
    pairs = Pairs(
        key_mask,
        age_s=torch.rand(b, k, generator=draw, dtype=dtype).sort(1, descending=True).values * 1e7,
        relation=torch.randint(RELATIONS, (b, k), generator=draw),
        query_type=torch.randint(TYPES, (b, q), generator=draw),
        key_type=torch.randint(TYPES, (b, k), generator=draw),
        query_degree=torch.randint(1, 9, (b, q), generator=draw),
        key_degree=torch.randint(1, 9, (b, k), generator=draw),
        edge=torch.randn(b, k, EDGE, generator=draw, dtype=dtype),
    )
    query = torch.randn(b, q, D, generator=draw, dtype=dtype)
    source = torch.randn(S, D, generator=draw, dtype=dtype)
    return query, source, torch.randint(S, (b, k), generator=draw), pairs


def changed(pairs: Pairs, change, names=PER_KEY) -> Pairs:
    """Pairs with some of what it holds put through a function."""
    found = {name: getattr(pairs, name) for name in names}
    return dataclasses.replace(
        pairs, **{name: change(value) for name, value in found.items() if value is not None}
    )


def permuted(pairs: Pairs, order: Tensor) -> Pairs:
    """The same neighbours in another order, or some of them."""
    return changed(pairs, lambda value: value[:, order])


def rows(pairs: Pairs, at: slice) -> Pairs:
    """Some targets only."""
    return changed(pairs, lambda value: value[at], GIVEN)


def check_facts(part: str | type[Attention]) -> None:
    made = build(part)
    assert made.family in FAMILIES and made.nature in NATURES
    assert made.equals is None or made.equals in attentions
    text = type(made).__doc__ or ""
    assert "Source:" in text and "Cost:" in text


def check_shape(part: str | type[Attention]) -> None:
    for q, k in ((1, 1), (1, K), (Q, K), (K, K), (1, 700)):
        query, source, neighbours, pairs = inputs(q=q, k=k)
        answer = build(part)(query, source, neighbours, pairs)
        assert answer.shape == (B, q, D) and answer.isfinite().all()


def check_gathered_source_gives_the_same(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    # a source row is one node: its type and degree are the same wherever it stands
    pairs = dataclasses.replace(pairs, key_type=(neighbours % TYPES), key_degree=1 + neighbours % 7)
    made = build(part)
    torch.testing.assert_close(
        made(query, source, neighbours, pairs), made(query, source[neighbours], None, pairs)
    )


def check_gradient(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs(b=2, q=2, k=5)
    made = build(part)
    names = [name for name, _ in made.named_parameters()]

    def answer(query: Tensor, source: Tensor, *parameters: Tensor) -> Tensor:
        held = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(made, held, (query, source, neighbours, pairs))

    parameters = [value.detach().requires_grad_() for _, value in made.named_parameters()]
    given = (query.requires_grad_(), source.requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(answer, given, fast_mode=True)


def check_every_parameter_learns(part: str | type[Attention]) -> None:
    made, moved = build(part), set()
    for seed in range(3) if any(True for _ in made.parameters()) else ():
        made.zero_grad()
        made(*inputs(seed, q=K)).square().sum().backward()
        moved |= {
            name for name, value in made.named_parameters() if value.grad is not None and value.grad.any()
        }
    still = {name for name, _ in made.named_parameters()} - moved
    assert not still, f"no gradient reaches {sorted(still)}"


def check_masked_neighbours_change_nothing(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    made, given = build(part), source[neighbours].requires_grad_()
    answer = made(query, given, None, pairs)
    hidden = ~pairs.key_mask
    assert hidden.any()
    torch.testing.assert_close(made(query, given.detach() + 100 * hidden[..., None], None, pairs), answer)
    (gradient,) = torch.autograd.grad(answer.square().sum(), given)
    assert not gradient[hidden].any() and gradient[~hidden].any()


def check_padding_before_changes_nothing(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    made, more = build(part), 7
    longer = changed(pairs, lambda value: torch.cat([value[:, :more], value], 1))
    longer.key_mask[:, :more] = False
    padded = torch.cat([neighbours[:, :more], neighbours], 1)
    torch.testing.assert_close(
        made(query, source, padded, longer), made(query, source, neighbours, pairs), atol=1e-9, rtol=1e-7
    )


def check_no_neighbour_gives_zeros(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    key_mask = pairs.key_mask.clone()
    key_mask[1] = False
    made, source = build(part), source.requires_grad_()
    answer = made(query, source, neighbours, dataclasses.replace(pairs, key_mask=key_mask))
    assert not answer[1].any() and answer[0].any()
    answer.sum().backward()
    assert source.grad.isfinite().all()
    for parameter in made.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    query, source, neighbours, pairs = inputs(k=1)
    nothing = permuted(pairs, torch.empty(0, dtype=torch.int64))
    assert not made(query, source, neighbours[:, :0], nothing).any()


def check_shuffle(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs(q=K)  # order may show only where many ask
    made, order = build(part), torch.randperm(K, generator=torch.Generator().manual_seed(3))
    before = made(query, source, neighbours, pairs)
    after = made(query, source, neighbours[:, order], permuted(pairs, order))
    assert torch.allclose(before, after) == (not made.order_aware), "order_aware is not as stated"


def check_weights(part: str | type[Attention]) -> None:
    """Where weights sum to one, many copies of one neighbour say what one copy says."""
    query, source, _, pairs = inputs(q=1)  # more queries would stand before the one key there is
    made, one = build(part), torch.tensor([0])
    alike = changed(pairs, lambda value: value[:, :1].expand(-1, K, *value.shape[2:]))
    alike = dataclasses.replace(
        alike, key_mask=torch.ones(B, K, dtype=torch.bool), query_degree=torch.full((B, 1), K)
    )
    single = dataclasses.replace(permuted(alike, one), query_degree=torch.ones(B, 1, dtype=torch.int64))
    many = made(query, source, torch.full((B, K), 2), alike)
    same = torch.allclose(many, made(query, source, torch.full((B, 1), 2), single))
    sums_to_one = same
    if hasattr(made, "weights"):
        weights, hidden = made.weights(*inputs()), ~pairs.key_mask[:, None, None]
        assert not weights.masked_select(hidden).any()
        total = weights.sum(-1)
        assert total.any()
        one = (total != 0).to(total.dtype)  # 0 for a query that sees nobody
        sums_to_one = same and torch.allclose(total, one)  # they may also sum to another constant
    assert sums_to_one == made.normalised, "normalised is not as stated"


def check_fields_are_used_as_stated(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    made = build(part)
    before = made(query, source, neighbours, pairs)
    other = {
        "relation": (pairs.relation + 1) % RELATIONS,
        "age_s": pairs.age_s.flip(1) * 3,
        "query_type": (pairs.query_type + 1) % TYPES,
        "key_type": (pairs.key_type + 1) % TYPES,
        "query_degree": pairs.query_degree + 5,
        "key_degree": pairs.key_degree.flip(1) + 5,
        "edge": pairs.edge.flip(1) + 1,
    }
    for fact, fields in READS.items():
        is_used = getattr(made, fact)
        after = [
            made(query, source, neighbours, dataclasses.replace(pairs, **{field: other[field]}))
            for field in fields
        ]
        assert all(torch.allclose(before, one) for one in after) == (not is_used), f"{fact} is not as stated"
        for field in fields if is_used else ():
            with pytest.raises(ValueError, match=type(made).__name__):
                made(query, source, neighbours, dataclasses.replace(pairs, **{field: None}))


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
    for parameter in made.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def check_half_precision(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs(dtype=torch.float32)
    wanted = build(part, torch.float32)(query, source, neighbours, pairs)
    for dtype in (torch.bfloat16, torch.float16):
        half = changed(pairs, lambda value: value.to(dtype), ("edge",))  # noqa: B023
        answer = build(part, dtype)(query.to(dtype), source.to(dtype), neighbours, half)
        assert answer.dtype == dtype and answer.isfinite().all()
        apart = (answer.float() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
        assert apart < 0.15, f"{dtype} is {apart:.2f} of the answer apart from float32"


def check_mixed_precision(part: str | type[Attention]) -> None:
    """Float32 parameters under autocast, as training on a GPU has them."""
    query, source, neighbours, pairs = inputs(dtype=torch.float32)
    made, given = build(part, torch.float32), source.requires_grad_()
    wanted = made(query, given, neighbours, pairs)
    for is_causal in (False, True) if made.causal else (False,):
        with torch.autocast("cpu", torch.bfloat16):
            answer = made(query, given, neighbours, dataclasses.replace(pairs, is_causal=is_causal))
        answer.float().square().sum().backward()
        assert answer.isfinite().all() and given.grad.isfinite().all()
        if not is_causal:
            # rounding may choose other keys where few are chosen
            assert (answer.float() - wanted).square().mean() < 0.25 * wanted.square().mean()


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


def check_causal_equals_reading_each_prefix(part: str | type[Attention]) -> None:
    """Query i of a causal pass hears what it would hear alone, with the keys up to its place."""
    if not build(part).causal:
        return
    query, source, neighbours, pairs = inputs(q=K)
    made = build(part)
    whole = made(query, source, neighbours, dataclasses.replace(pairs, is_causal=True))
    for i in (0, 1, K // 2, K - 1):
        prefix = changed(permuted(pairs, torch.arange(i + 1)), lambda value: value[:, i : i + 1], PER_QUERY)  # noqa: B023
        alone = made(query[:, i : i + 1], source, neighbours[:, : i + 1], prefix)
        torch.testing.assert_close(whole[:, i : i + 1], alone, atol=1e-9, rtol=1e-7)


def check_dense_mask(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    made, mask = build(part), torch.rand(B, Q, K, generator=torch.Generator().manual_seed(2)) < 0.5
    mask[:, -1, -1] = True
    masked = dataclasses.replace(pairs, mask=mask)
    if not made.takes_mask:
        with pytest.raises(ValueError, match=type(made).__name__):
            made(query, source, neighbours, masked)
        return
    last = changed(pairs, lambda value: value[:, -1:], PER_QUERY)  # alone, it stands where it stood
    alone = dataclasses.replace(last, key_mask=pairs.key_mask & mask[:, -1])
    torch.testing.assert_close(
        made(query, source, neighbours, masked)[:, -1:], made(query[:, -1:], source, neighbours, alone)
    )


def check_wrong_input_is_refused(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    made, name = build(part), type(build(part)).__name__
    for wrong in (
        (query, source, neighbours, dataclasses.replace(pairs, key_mask=pairs.key_mask[:, :-1])),
        (query, source, neighbours, dataclasses.replace(pairs, key_mask=pairs.key_mask[:2])),
        (query[..., :-1], source, neighbours, pairs),
        (query, source[:, :-1], neighbours, pairs),
        (query, source, neighbours[:, :-1], pairs),
        (query, source, None, pairs),
        (query, source.clone().index_fill(0, torch.tensor([1]), torch.nan), neighbours, pairs),
        (query.clone().index_fill(1, torch.tensor([1]), torch.inf), source, neighbours, pairs),
    ):
        with pytest.raises(ValueError, match=name):
            made(*wrong)


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
    given = inputs(q=K)
    same = torch.allclose(made(*given), other(*given), atol=1e-9)
    assert same == (made.equals is not None), "equals is not as stated"


class _Exportable(nn.Module):
    """Builds its pairs inside, as an exported program takes tensors."""

    def __init__(self, made: Attention) -> None:
        super().__init__()
        self.made = made

    def forward(self, query, source, neighbours, given):
        return self.made(query, source, neighbours, Pairs(**given))


def check_export(part: str | type[Attention]) -> None:
    query, source, neighbours, pairs = inputs()
    held = {name: getattr(pairs, name) for name in GIVEN if getattr(pairs, name) is not None}
    given = (query, source, neighbours, held)
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
        self.check(query, source, neighbours, pairs)
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


class SumsToMoreThanOne(Honest):
    """Source: a lie. Cost: trust."""

    def weights(self, query, source, neighbours, pairs):
        return 1.1 * self.share(pairs)[:, None, None]


class LikesTheFirst(Honest):
    def share(self, pairs):
        return super().share(pairs) * torch.linspace(2, 1, pairs.key_mask.shape[1])


class CountsPadding(Honest):
    order_aware = True

    def share(self, pairs):
        return super().share(pairs) * (torch.arange(pairs.key_mask.shape[1]) % 3)


class ReadsRelations(Honest):
    def share(self, pairs):
        return super().share(pairs) * (1 + pairs.relation)


class ClaimsAges(Honest):
    uses_age = True


class ClaimsOrder(Honest):
    order_aware = True


class ClaimsCausal(Honest):
    causal = True


class ClaimsMask(Honest):
    takes_mask = True


class MixesTheBatch(Honest):
    def share(self, pairs):
        return super().share(pairs) * len(pairs.key_mask)


class Detaches(Honest):
    def forward(self, query, source, neighbours, pairs):
        return (
            super().forward(query, source, neighbours, pairs) + query.detach() * 0.1 + source.mean().sin() * 0
        )


class NeverLearns(Honest):
    def __init__(self, config):
        super().__init__(config)
        self.used, self.idle = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(3))

    def forward(self, query, source, neighbours, pairs):
        return self.used * super().forward(query, source, neighbours, pairs)


class Overflows(Honest):
    def forward(self, query, source, neighbours, pairs):
        return super().forward(query, source, neighbours, pairs).exp()


class TakesAnything(Honest):
    def check(self, query, source, neighbours, pairs):
        pass


class ClaimsToEqual(Honest):
    equals = REFERENCE


LIES = (
    (LooksBehindTheMask, "masked_neighbours_change_nothing"),
    (LooksBehindTheMask, "no_neighbour_gives_zeros"),
    (LooksBehindTheMask, "padding_before_changes_nothing"),
    (CountsPadding, "padding_before_changes_nothing"),
    (Sums, "weights"),
    (SumsToMoreThanOne, "weights"),
    (LikesTheFirst, "shuffle"),
    (ReadsRelations, "fields_are_used_as_stated"),
    (ClaimsAges, "fields_are_used_as_stated"),
    (ClaimsOrder, "shuffle"),
    (ClaimsCausal, "causal"),
    (ClaimsCausal, "causal_equals_reading_each_prefix"),
    (ClaimsMask, "dense_mask"),
    (MixesTheBatch, "batch_of_one"),
    (Detaches, "gradient"),
    (NeverLearns, "every_parameter_learns"),
    (Overflows, "large_values"),
    (TakesAnything, "wrong_input_is_refused"),
    (ClaimsToEqual, "equals"),
)


@pytest.mark.parametrize(("lie", "check"), LIES)
def test_the_contract_catches_a_planted_lie(lie, check):
    with pytest.raises((AssertionError, RuntimeError, pytest.fail.Exception)):
        CHECKS[check](lie)


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_the_contract_passes_an_honest_part(check):
    CHECKS[check](Honest)
