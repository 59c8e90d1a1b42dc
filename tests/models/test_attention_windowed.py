"""Windowed mechanisms against their definition, query by query and key by key."""

import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.attention import Pairs, attentions

B, S, D, H = 4, 11, 4, 2
C = D // H
SHAPES = [(1, 1), (1, 5), (1, 25), (3, 3), (5, 23), (19, 19), (18, 40), (40, 40)]
SETTINGS = [
    ("sliding_window", {"window": 0}),
    ("sliding_window", {"window": 3}),
    ("sliding_window", {"window": 8}),
    ("sliding_window", {"window": 60}),
    ("local", {"block": 1}),
    ("local", {"block": 7}),
    ("local", {"block": 16}),
    ("chunked", {"chunk": 1}),
    ("chunked", {"chunk": 5}),
    ("chunked", {"chunk": 8}),
    ("dilated", {"window": 2, "rate": 3}),
    ("dilated", {"window": 8, "rate": 2}),
    ("strided", {"stride": 3}),
    ("strided", {"stride": 8}),
    ("global", {"tokens": 1}),
    ("global", {"tokens": 4}),
    ("longformer", {"window": 2, "tokens": 1}),
    ("longformer", {"window": 8, "tokens": 2}),
    ("big_bird", {"window": 1, "tokens": 3, "draws": 5}),
    ("big_bird", {"window": 8, "tokens": 2, "draws": 3}),
]
NAMES = sorted({name for name, _ in SETTINGS})


def scattered(place: int, draw: int) -> int:
    mixed = (place * 0x9E3779B1 + draw * 0x5851F42D) % 2**32
    for _ in range(2):
        mixed = ((mixed ^ (mixed >> 16)) * 0x7FEB352D) % 2**32
    return mixed ^ (mixed >> 15)


@functools.cache
def drawn(i: int, length: int, window: int, tokens: int, draws: int) -> set[int]:
    """One key of each of r equal stretches of what query i sees neither in its window nor as a token."""
    left = [j for j in range(tokens, length) if abs(i - j) > window]
    cuts = [len(left) * draw // draws for draw in range(draws + 1)]
    stretches = [left[start:stop] for start, stop in zip(cuts, cuts[1:], strict=False)]
    return {part[scattered(i, draw) % len(part)] for draw, part in enumerate(stretches) if part}


def sees(name: str, settings: dict[str, int], i: int, j: int, length: int) -> bool:
    """Whether query i may see key j among ``length`` places, 0 that of the first neighbour there is."""
    w, g = settings.get("window"), settings.get("tokens")
    match name:
        case "sliding_window":
            return abs(i - j) <= w
        case "local":
            return i // settings["block"] == j // settings["block"]
        case "chunked":
            return i // settings["chunk"] - j // settings["chunk"] in (0, 1)
        case "dilated":
            return any(j == i + settings["rate"] * t for t in range(-w, w + 1))
        case "strided":
            return abs(i - j) < settings["stride"] or (i - j) % settings["stride"] == 0
        case "global":
            return 0 <= i < g or j < g or i == j
        case "longformer":
            return 0 <= i < g or j < g or abs(i - j) <= w
        case "big_bird":
            return 0 <= i < g or j < g or abs(i - j) <= w or j in drawn(i, length, w, g, settings["draws"])


def visible(name: str, settings: dict[str, int], pairs: Pairs, queries: int) -> np.ndarray:
    """(b, q, k) bool by the definition."""
    mask = pairs.key_mask.numpy()
    keys, found = mask.shape[1], np.zeros((len(mask), queries, mask.shape[1]), bool)
    for b, q, place in np.argwhere(np.broadcast_to(mask[:, None], found.shape)).tolist():
        first = int(mask[b].argmax())
        i, j = keys - queries + q - first, place - first
        length = i + 1 if pairs.is_causal else keys - first
        found[b, q, place] = j < length and sees(name, settings, i, j, length)
    return found


def reference(made, name: str, settings: dict[str, int], given) -> tuple[np.ndarray, np.ndarray]:
    """(b, q, d) answers and (b, h, q, k) weights: one target, head and query at a time, in float64."""
    query, source, neighbours, pairs = given
    query, features = query.double().numpy(), source[neighbours].double().numpy()
    state = {key: value.double().numpy() for key, value in made.state_dict().items()}
    may_see, first = visible(name, settings, pairs, query.shape[1]), pairs.key_mask.long().argmax(1)
    answer, weights = np.zeros(query.shape), np.zeros((B, H, *may_see.shape[1:]))
    for b, h, q in np.ndindex(B, H, query.shape[1]):
        i = may_see.shape[2] - query.shape[1] + q - first[b]
        group = (
            "global_projections" if name == "longformer" and 0 <= i < settings["tokens"] else "projections"
        )
        head = slice(h * C, (h + 1) * C)
        of_query, of_key, of_value = (
            state[f"{group}.{role}.weight"][head] for role in ("query", "key", "value")
        )
        seen = may_see[b, q]
        if seen.any():
            scores = features[b] @ of_key.T @ (of_query @ query[b, q]) / math.sqrt(C)
            share = np.where(seen, np.exp(scores - scores[seen].max()), 0)
            weights[b, h, q] = share / share.sum()
            answer[b, q, head] = weights[b, h, q] @ (features[b] @ of_value.T)
    return answer @ state["out.weight"].T, weights


def given_for(q: int, k: int, is_causal: bool = False, dtype: torch.dtype = torch.float64):
    """Target 0 sees all, 1 is padded before, 2 has holes, 3 nobody."""
    draw = torch.Generator().manual_seed(100 * q + k)
    key_mask = torch.ones(B, k, dtype=torch.bool)
    key_mask[1, : k // 3] = False
    key_mask[2] = torch.rand(k, generator=draw) < 0.6
    key_mask[3] = False
    query, source = (torch.randn(*shape, D, generator=draw).to(dtype) for shape in ((B, q), (S,)))
    return query, source, torch.randint(S, (B, k), generator=draw), Pairs(key_mask, is_causal)


def build(name: str, settings: dict[str, int], dtype: torch.dtype = torch.float64):
    torch.manual_seed(0)
    made = attentions.build(name, {"dim": D, "heads": H, **settings}).to(dtype)
    if name == "longformer":  # they start equal, which would hide that they are two
        torch.nn.init.normal_(made.global_projections["query"].weight)
        torch.nn.init.normal_(made.global_projections["key"].weight)
        torch.nn.init.normal_(made.global_projections["value"].weight)
    return made


def check_definition(made, name: str, settings: dict[str, int], given, atol: float) -> None:
    answer, weights = reference(made, name, settings, given)
    np.testing.assert_allclose(made(*given).detach().numpy(), answer, atol=atol)
    np.testing.assert_allclose(made.weights(*given).detach().numpy(), weights, atol=atol)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_it_equals_its_definition(name, settings, is_causal):
    made = build(name, settings)
    for q, k in SHAPES:
        check_definition(made, name, settings, given_for(q, k, is_causal), 1e-9)


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_it_equals_its_definition_in_single_precision(name, settings):
    made = build(name, settings, torch.float32)
    check_definition(made, name, settings, given_for(19, 19, dtype=torch.float32), 1e-5)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(
    ("name", "settings", "off"),
    [(*case, off) for case in SETTINGS for off in case[1] if case[1][off] < 40],
)
def test_an_off_by_one_is_caught(name, settings, off, is_causal):
    made = build(name, {**settings, off: settings[off] + 1})
    with pytest.raises(AssertionError):
        check_definition(made, name, settings, given_for(40, 40, is_causal), 1e-9)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("name", "settings"), [case for case in SETTINGS if case[0] != "longformer"])
def test_gradients_equal_those_of_dense_attention_under_the_same_mask(name, settings, is_causal):
    query, source, neighbours, pairs = given_for(18, 40, is_causal)
    made, dense = build(name, settings), build("multi_head", {})
    dense.load_state_dict(made.state_dict())
    mask = torch.from_numpy(visible(name, settings, pairs, 18))
    gradients = []
    for layer, given in ((made, pairs), (dense, dataclasses.replace(pairs, mask=mask))):
        leaves = [query.clone().requires_grad_(), source.clone().requires_grad_()]
        answer = layer(*leaves, neighbours, given)
        gradients.append(torch.autograd.grad(answer.square().sum(), [*leaves, *layer.parameters()]))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sliding_window", {"window": 24}),
        ("local", {"block": 25}),
        ("chunked", {"chunk": 13}),
        ("dilated", {"window": 24, "rate": 1}),
        ("strided", {"stride": 1}),
        ("global", {"tokens": 25}),
        ("longformer", {"window": 24}),
        ("big_bird", {"window": 4, "tokens": 4, "draws": 16}),
    ],
)
def test_it_is_dense_attention_once_all_is_in_reach(name, settings):
    given = given_for(1, 25)
    made, dense = build(name, settings), build("multi_head", {})
    dense.load_state_dict({key: value for key, value in made.state_dict().items() if "global" not in key})
    torch.testing.assert_close(made(*given)[:2], dense(*given)[:2])


@pytest.mark.parametrize("name", NAMES)
def test_it_differs_from_dense_attention_on_a_neighbourhood_of_25(name):
    given = given_for(1, 25)
    made, dense = build(name, {}), build("multi_head", {})
    dense.load_state_dict({key: value for key, value in made.state_dict().items() if "global" not in key})
    assert not torch.allclose(made(*given)[0], dense(*given)[0], atol=1e-3)


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor held that any operation made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        answer = function(*args, **(kwargs or {}))
        for part in answer if isinstance(answer, tuple | list) else (answer,):
            if isinstance(part, torch.Tensor):
                self.numbers = max(self.numbers, part.untyped_storage().nbytes() // part.element_size())
        return answer


def largest(name: str, k: int, is_causal: bool) -> int:
    """Numbers in the largest tensor of a pass forward and back over k places."""
    made, events = attentions.build(name, {"dim": D}), torch.randn(1, k, D, requires_grad=True)
    with Largest() as seen:
        made(events, events, None, Pairs(torch.ones(1, k, dtype=torch.bool), is_causal)).sum().backward()
    return seen.numbers


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_it_builds_no_tensor_of_queries_by_keys(name, is_causal):
    few, many = largest(name, 256, is_causal), largest(name, 1024, is_causal)
    if name == "strided":  # q (l + k / l) numbers, l = 8
        assert many <= 1024 * (2 * 16 + 1024 / 8)
    else:
        assert many <= 4.1 * few and many <= 1024 * 1024 / 16


def test_a_tensor_of_queries_by_keys_would_be_noticed():
    events = torch.randn(512, D)
    with Largest() as seen:
        events @ events.T
    assert seen.numbers == 512 * 512


def test_longformer_starts_with_one_set_of_projections_and_reads_tokens_by_the_other():
    given = given_for(19, 19)
    made = attentions.build("longformer", {"dim": D, "window": 2, "tokens": 3}).double()
    for role, layer in made.projections.items():
        torch.testing.assert_close(made.global_projections[role].weight, layer.weight, rtol=0, atol=0)
        assert made.global_projections[role].weight.data_ptr() != layer.weight.data_ptr()
    before = made(*given)
    made.global_projections["value"].weight.data.add_(1)
    moved = (made(*given) != before).any(-1)
    assert moved[0].tolist() == [True] * 3 + [False] * 16
    assert moved[1].tolist() == [False] * 6 + [True] * 3 + [False] * 10  # 6 places of padding before


@pytest.mark.parametrize("is_causal", [False, True])
def test_big_bird_draws_evenly_and_never_what_is_seen_anyhow(is_causal):
    k, w, g, r = 600, 4, 2, 3
    made = attentions.build("big_bird", {"dim": D, "window": w, "tokens": g, "draws": r})
    events = torch.zeros(1, k, D)
    weights = made.weights(events, events, None, Pairs(torch.ones(1, k, dtype=torch.bool), is_causal))[0, 0]
    shares = []
    for i in range(100, k):
        found = [j for j in weights[i].nonzero()[:, 0].tolist() if j >= g and abs(i - j) > w]
        assert len(found) == r
        torch.testing.assert_close(weights[i].max(), weights[i][weights[i] > 0].min())  # none counts twice
        shares += [j / (i if is_causal else k) for j in found]
    counts, _ = np.histogram(shares, 10, (0, 1))  # 1,500 draws in ten bins: 150 ± 12 each
    assert abs(counts - 150).max() < 50


@pytest.mark.parametrize(
    ("name", "field", "wrong"),
    [
        ("sliding_window", "window", -1),
        ("local", "block", 0),
        ("chunked", "chunk", 0),
        ("dilated", "window", -1),
        ("dilated", "rate", 0),
        ("strided", "stride", 0),
        ("global", "tokens", 0),
        ("longformer", "window", -1),
        ("longformer", "tokens", 0),
        ("big_bird", "tokens", 0),
        ("big_bird", "draws", 0),
    ],
)
def test_a_setting_too_small_is_refused(name, field, wrong):
    with pytest.raises(ValueError, match=f"{field} must be"):
        attentions.build(name, {"dim": D, field: wrong})
    with pytest.raises(ValueError, match="heads must divide dim"):
        attentions.build(name, {"dim": D, "heads": 3})
