"""A place read with its own beginning hears what it hears within the whole, and is told what held then."""

import pytest
import torch
from torch import Tensor

from models import prefixes
from models.attention import Attention, AttentionConfig, Pairs, attentions
from models.attention.base import gather
from models.prefixes import Places, read

B, LENGTH, WIDTH, DAY_S = 3, 7, 8, 86_400
CAUSAL = [name for name in attentions if attentions[name].causal]


class Witness(Attention):
    """Remembers what it was told; answers the query."""

    family, nature, order_aware = "extra", "mechanism", True
    uses_relation = uses_age = uses_type = uses_degree = uses_edge = True

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        self.check(query, source, neighbours, pairs)
        self.heard = getattr(self, "heard", []) + [(source, neighbours, pairs)]
        return query.clone()


def witness() -> Witness:
    return Witness(AttentionConfig(1, relations=1, types=2, edge_width=2))


def somewhere(seed: int = 0) -> tuple[Tensor, Places]:
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(B, LENGTH, WIDTH, generator=draw, dtype=torch.float64)
    is_there = torch.arange(LENGTH) >= torch.tensor([[0], [3], [6]])
    degree = torch.randint(1, 9, (B, LENGTH), generator=draw)
    time_s = torch.randint(0, 99 * DAY_S, (B, LENGTH), generator=draw).sort(1).values
    return hidden, Places(is_there, time_s * is_there, degree)


def made(name: str) -> Attention:
    torch.manual_seed(4)
    told = {"dim": WIDTH, "heads": 2, "relations": 1, "types": 2, "edge_width": 2}
    return attentions.build(name, told).double()


def both(layer: Attention, hidden: Tensor, places: Places) -> tuple[Tensor, Tensor, Tensor]:
    """Answer, and gradients for what came in and all that is learned."""
    hidden = hidden.clone().requires_grad_()
    answer = read(layer, hidden, places)
    weight = torch.linspace(-1, 1, answer.numel(), dtype=answer.dtype).view_as(answer)
    learned = [part for part in layer.parameters()]
    gradients = torch.autograd.grad((answer * weight).sum(), [hidden, *learned], allow_unused=True)
    flat = [torch.zeros(1) if part is None else part.flatten() for part in gradients[1:]]
    return answer.detach(), gradients[0], torch.cat(flat) if flat else torch.zeros(0)


@pytest.mark.parametrize("name", CAUSAL)
def test_apart_equals_whole_where_an_attention_hides_what_comes_later(name, monkeypatch):
    layer, (hidden, places) = made(name), somewhere()
    whole = both(layer, hidden, places)
    monkeypatch.setattr(type(layer), "causal", False)
    for found, wanted in zip(both(layer, hidden, places), whole, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("at_once", "kept"), [(1, 1), (100, 2**24), (500, 1)])
@pytest.mark.parametrize("name", list(attentions))
def test_parts_change_nothing(name, at_once, kept, monkeypatch):
    layer, (hidden, places) = made(name), somewhere(1)
    whole = both(layer, hidden, places)
    monkeypatch.setattr(prefixes, "AT_ONCE", at_once)
    monkeypatch.setattr(prefixes, "KEPT", kept)
    for found, wanted in zip(both(layer, hidden, places), whole, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_what_is_kept_for_the_gradient_stays_within_its_bound(monkeypatch):
    layer, (hidden, places) = made("multi_head"), somewhere(1)
    monkeypatch.setattr(type(layer), "causal", False)

    def kept() -> int:
        """Numbers that wait for the gradient."""
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda part: sizes.append(part.numel()), lambda _: None
        ):
            read(layer, hidden.clone().requires_grad_(), places)
        return sum(sizes)

    whole = kept()
    assert whole > 2 * B * LENGTH * WIDTH
    monkeypatch.setattr(prefixes, "KEPT", 1)
    assert kept() < whole / 4


def test_what_is_gathered_at_once_stays_within_its_bound(monkeypatch):
    monkeypatch.setattr(prefixes, "AT_ONCE", 40)
    layer = witness()
    read(layer, torch.zeros(9, 11, 1), Places(torch.ones(9, 11, dtype=torch.bool), None, torch.ones(9, 11)))
    sizes = [neighbours.numel() for _, neighbours, _ in layer.heard]
    assert max(sizes) <= 40 and sum(len(neighbours) for _, neighbours, _ in layer.heard) == 99


def test_a_place_is_told_what_held_at_its_own_time(monkeypatch):
    monkeypatch.setattr(prefixes, "STRETCHES", 1)
    there = torch.tensor([[False, True, True, True]])
    times = torch.tensor([[0, 2, 2, 5]]) * DAY_S
    layer, hidden = witness(), torch.tensor([[[9.0], [1.0], [2.0], [3.0]]])
    heard = read(layer, hidden, Places(there, times, torch.tensor([[0, 30, 10, 20]])))
    assert heard.flatten().tolist() == [0, 1, 2, 3]
    ((source, neighbours, pairs),) = layer.heard
    told = source[neighbours][:, :, 0] * pairs.key_mask
    assert told.tolist() == [[0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3]]
    assert (pairs.age_s / DAY_S).tolist() == [[0] * 4, [0] * 4, [0, 3, 3, 0]]
    assert pairs.query_degree.tolist() == [[1], [2], [3]]
    assert (pairs.key_degree * pairs.key_mask).tolist() == [[0, 0, 0, 30], [0, 0, 30, 10], [0, 30, 10, 20]]
    assert not pairs.query_type.any() and (pairs.key_type == 1).all() and not pairs.relation.any()
    torch.testing.assert_close(pairs.edge[..., 0], (pairs.age_s / DAY_S + 1).log() / 10)
    assert (pairs.edge[..., 1] == 1).all() and not pairs.is_causal


def test_nobody_told_when(monkeypatch):
    monkeypatch.setattr(prefixes, "STRETCHES", 1)
    layer = witness()
    there = torch.tensor([[True, True]])
    read(layer, torch.ones(1, 2, 1), Places(there, None, torch.ones(1, 2)))
    ((_, _, pairs),) = layer.heard
    assert not pairs.age_s.any() and not pairs.edge.any()


def test_the_last_place_is_told_what_all_of_it_was_told(monkeypatch):
    monkeypatch.setattr(prefixes, "STRETCHES", 1)
    hidden, places = somewhere(2)
    layer, alone = witness(), witness()
    read(layer, hidden[..., :1], places)
    read(alone, hidden[..., :1], places, only_last=True)
    ((_, _, whole),), ((_, _, last),) = layer.heard, alone.heard
    at = torch.tensor([LENGTH - 1, LENGTH + 3, LENGTH + 4])  # rows have 7, 4 and 1 places
    for field in ("age_s", "edge", "query_degree", "query_type", "key_type", "relation", "key_mask"):
        torch.testing.assert_close(getattr(last, field), getattr(whole, field)[at])
    seen = last.key_mask
    assert torch.equal(last.key_degree[seen], whole.key_degree[at][seen])


class Ahead(Attention):
    """States that it hides what comes later, and does not."""

    family, nature, causal = "extra", "mechanism", True

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        return gather(source, neighbours).mean(1, keepdim=True).expand_as(query)


def test_reading_apart_shows_who_looks_ahead(monkeypatch):
    hidden, places = somewhere(3)
    layer = Ahead(AttentionConfig(WIDTH))
    whole = read(layer, hidden, places)
    monkeypatch.setattr(Ahead, "causal", False)
    assert (read(layer, hidden, places)[0, 0] - whole[0, 0]).abs().max() > 0.1
