"""The router: int8 against torch, the cell against its formula, what is refused, what is kept."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from models.fastgrnn import FastGRNNCell, FastGRNNConfig, QueryClassifier
from models.queries import INTENTS
from models.reading import (
    MOST_FEATURES,
    LinearReader,
    dequantise,
    features_of,
    letters_of,
    quantise,
    runs_of,
    words_of,
)
from models.router import SIZE_BYTES, Calibration, Router, words_from, words_to
from models.slots import Gazetteer
from models.verification import ModelError

TEXTS = ["where can i watch heat", "who directed heat", "a", "", "¿qué está de moda en netflix?", "x " * 40]


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(3)
    return QueryClassifier(FastGRNNConfig(dim=12, state=10, rank=6)).eval()


WORDS = words_to(["watch", "directed", "who"])


def weights_of(module):
    return quantise(module.floats()) | {"words": WORDS}


def linear_weights(seed=0):
    rng = np.random.default_rng(seed)
    heard = [words_of(text) for text in TEXTS[:-1]]
    known = [runs_of(words) for words in heard] + [letters_of(word) for words in heard for word in words]
    hashes = np.unique(np.concatenate([*known, rng.integers(2**32, size=MOST_FEATURES, dtype=np.uint32)]))
    hashes = np.sort(rng.permutation(hashes)[:MOST_FEATURES])
    return {
        "hashes": hashes,
        "linear": rng.integers(-127, 128, (len(hashes), len(INTENTS))).astype(np.int8),
        "linear_scale": rng.random(len(INTENTS)).astype(np.float32) / 100,
        "linear_bias": rng.normal(size=len(INTENTS)).astype(np.float32),
        "idf": rng.integers(1, 256, len(hashes)).astype(np.uint8),
        "idf_scale": np.array([0.03], np.float32),
    }


@pytest.fixture
def router(module):
    return Router(weights_of(module), Calibration(1.5, 0.3, 0.1))


def formula(cell, x, h):
    """The cell as the paper writes it, with W and U multiplied out."""
    w, u = cell.w1 @ cell.w2, cell.u1 @ cell.u2
    z = 1 / (1 + torch.exp(-(x @ w + h @ u + cell.bias_z)))
    candidate = torch.tanh(x @ w + h @ u + cell.bias_h)
    zeta, nu = torch.sigmoid(cell.zeta_raw), torch.sigmoid(cell.nu_raw)
    return (zeta * (1 - z) + nu) * candidate + z * h


def differs(cell):
    """Whether value or any gradient of a cell differs from the formula's."""
    x, h = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    pull = torch.randn(4, 7, dtype=torch.float64)
    shared = [parameter for name, parameter in cell.named_parameters() if name != "gate_w"]
    ours, theirs = cell(x, h), formula(cell, x, h)
    grads = [torch.autograd.grad((value * pull).sum(), shared) for value in (ours, theirs)]
    pairs = [(ours, theirs), *zip(*grads, strict=True)]
    return any(not torch.allclose(first, second, rtol=1e-9, atol=1e-11) for first, second in pairs)


def test_the_cell_and_its_gradient_equal_the_written_formula():
    torch.manual_seed(0)
    assert not differs(FastGRNNCell(5, 7, 3).double())


def test_a_planted_gate_with_a_w_of_its_own_is_caught():
    class TwoMatrices(FastGRNNCell):
        def __init__(self):
            super().__init__(5, 7, 3)
            self.gate_w = nn.Parameter(torch.randn(5, 7))

        def forward(self, x, h):
            both, own = x @ self.w1 @ self.w2 + h @ self.u1 @ self.u2, x @ self.gate_w + h @ self.u1 @ self.u2
            gate, (zeta, nu) = torch.sigmoid(own + self.bias_z), self.zeta_nu
            return (zeta * (1 - gate) + nu) * torch.tanh(both + self.bias_h) + gate * h

    torch.manual_seed(0)
    assert differs(TwoMatrices().double())


def test_the_cell_has_one_w_and_one_u_of_low_rank():
    names = {name: tuple(value.shape) for name, value in FastGRNNCell(5, 7, 3).named_parameters()}
    assert names == {
        "w1": (5, 3), "w2": (3, 7), "u1": (7, 3), "u2": (3, 7), "bias_z": (7,), "bias_h": (7,),
        "zeta_raw": (), "nu_raw": (),
    }  # fmt: skip


def test_int8_in_numpy_equals_the_rounded_weights_in_torch(module, router):
    from experiments.router_fit import logits_of, rounded

    ours = np.stack([router.logits(text) for text in TEXTS if words_of(text)])
    theirs = logits_of(rounded(module), [router.words(text) for text in TEXTS if words_of(text)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    off = weights_of(module)
    off["w1"] = off["w1"] + np.int8(1) * (off["w1"] < 100)  # planted: another rounding
    assert np.abs(Router(off).logits(TEXTS[0]) - theirs[0]).max() > 1e-4


def naive_linear(weights, words):
    """Logits of the regression by sums over every n-gram, letter by letter."""
    import zlib
    from collections import Counter

    letters, runs = Counter(), Counter()
    for word in words:
        marked = f"<{word}>"
        grams = {marked} | {
            marked[at : at + size] for size in range(2, 6) for at in range(len(marked) - size + 1)
        }
        letters.update(zlib.crc32(gram.encode()) for gram in grams)
    marked = ["^", *words, "$"]
    for size in (1, 2, 3):
        for at in range(len(marked) - size + 1):
            if size > 1 or 0 < at < len(marked) - 1:
                runs[zlib.crc32(f"_{' '.join(marked[at : at + size])}".encode())] += 1
    for at, first in enumerate(marked):
        for other in marked[at + 2 : at + 6]:
            if other != "$" and at < len(words):
                runs[zlib.crc32(f"~{first}|{other}".encode())] += 1
    place = {int(known): at for at, known in enumerate(weights["hashes"])}
    logits = weights["linear_bias"].astype(float)
    for counted in (letters, runs):
        rows = {place[known]: n for known, n in counted.items() if known in place}
        value = {row: (1 + np.log(n)) * weights["idf"][row] for row, n in rows.items()}
        length = np.sqrt(sum(one**2 for one in value.values()))
        for row, one in value.items():
            logits = logits + one / length * weights["linear"][row] * weights["linear_scale"]
    return logits


def test_the_regression_equals_sums_written_out():
    weights = linear_weights()
    for text in TEXTS:
        if words := words_of(text):
            ours = LinearReader(weights).logits(words)
            np.testing.assert_allclose(ours, naive_linear(weights, words), rtol=1e-3, atol=1e-3)
    other = weights | {"idf": weights["idf"] // 2 + 60}  # planted: another idf
    assert np.abs(LinearReader(other).logits(["watch"]) - naive_linear(weights, ["watch"])).max() > 1e-2


def test_letters_and_runs_weigh_alike():
    hashes = linear_weights()["hashes"]
    rows, values = features_of(["watch", "heat"], hashes, np.ones(len(hashes), np.float32))
    assert float(values @ values) == pytest.approx(2.0, rel=1e-5) and len(rows) == len(values)


def test_features_that_training_did_not_keep_are_not_read():
    hashes = np.sort(np.concatenate([letters_of("watch"), runs_of(["watch"])]))
    rows, values = features_of(["zzz", "qqq"], hashes, np.ones(len(hashes), np.float32))
    assert len(rows) == len(values) == 0
    weights = linear_weights()
    none = weights | {"hashes": np.arange(len(weights["hashes"]), dtype=np.uint32)}
    assert np.array_equal(LinearReader(none).logits(["zzz"]), none["linear_bias"])


def test_pairs_have_one_to_four_words_between():
    import zlib

    pair = zlib.crc32(b"~a|g")
    for between in range(6):
        assert (pair in runs_of(["a", *"xyzuvw"[:between], "g"])) == (1 <= between <= 4)
    assert len(set(runs_of(list("abcdef")).tolist())) == 6 + 7 + 6 + 4 * 6 - 10


@pytest.mark.parametrize("order", [slice(None, None, -1), slice(0, 0)])
def test_hashes_that_do_not_rise_are_refused(order):
    weights = linear_weights()
    wrong = weights | {name: weights[name][order] for name in ("hashes", "linear", "idf")}
    with pytest.raises(ModelError, match="hashes must rise"):
        LinearReader(wrong)


def test_both_together_add_their_logits(module, router):
    both = weights_of(module) | linear_weights() | {"blend": np.array([0.5, 2.0], np.float32)}
    linear = Router(linear_weights() | {"words": WORDS})
    text = "who directed heat"
    expected = 0.5 * router.logits(text) + 2.0 * linear.logits(text)
    np.testing.assert_allclose(Router(both).logits(text), expected, rtol=1e-5)
    for wrong in ({"blend": np.array([0.5], np.float32)}, {"blend": np.array([np.nan, 1], np.float32)}):
        with pytest.raises(ModelError, match="blend"):
            Router(both | wrong)
    with pytest.raises(ModelError, match="a router has the weights"):
        Router({"words": WORDS})


def test_a_router_of_both_is_small_enough_to_save(tmp_path):
    module = QueryClassifier(FastGRNNConfig())
    both = weights_of(module) | linear_weights() | {"blend": np.ones(2, np.float32)}
    assert Router(both).save(tmp_path / "router") <= SIZE_BYTES - 60_000


def test_words_are_kept_and_slips_set_right(router):
    assert words_from(WORDS) == ["watch", "directed", "who"]
    assert router.words("Wacth whoo direcetd?") == ["watch", "whoo", "directed"]  # "who" is too short
    assert router.words("harbour") == ["harbour"]


def test_rounding_moves_no_weight_by_more_than_half_a_step(module):
    floats, weights = module.floats(), quantise(module.floats())
    for name, value in dequantise(weights).items():
        step = weights.get(f"{name}_scale", np.array([1e-6]))[0]
        assert np.abs(value - floats[name]).max() <= step / 2 * 1.001, name


def test_a_router_works_without_torch():
    code = "import sys, models.router; sys.exit(bool({'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_saved_and_loaded_is_the_same_and_small(router, tmp_path):
    assert router.save(tmp_path / "router", {"a": 1}) <= SIZE_BYTES
    again = Router.load(tmp_path / "router")
    assert again.calibration == router.calibration
    assert all(np.array_equal(again.logits(text), router.logits(text)) for text in TEXTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["router"]


def test_a_flipped_bit_and_a_missing_router_are_refused(router, tmp_path):
    router.save(tmp_path / "router")
    path = tmp_path / "router" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelError, match="SHA-256"):
        Router.load(tmp_path / "router")
    with pytest.raises(ModelError, match="missing"):
        Router.load(tmp_path / "none")


def test_too_large_a_router_is_refused_and_leaves_nothing(tmp_path):
    big = QueryClassifier(FastGRNNConfig(dim=100, state=64, rank=8))
    with pytest.raises(ModelError, match="800,000"):
        Router(weights_of(big)).save(tmp_path / "router")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("words", None),
        ("words", np.zeros(3)),
        ("w1", None),
        ("w1", np.zeros((12, 6), np.float32)),
        ("bias_z", np.full(10, np.nan, np.float32)),
    ],
)
def test_weights_that_do_not_fit_are_refused(module, name, value):
    weights = weights_of(module)
    weights.pop(name) if value is None else weights.update({name: value})
    with pytest.raises(ModelError):
        Router(weights)


@pytest.mark.parametrize("text", ["", "   ", "?!…", "\x00"])
def test_no_word_is_the_fallback(router, text):
    route = router.route(text)
    assert route.intent == INTENTS[0] == "content_discovery" and route.is_fallback


@pytest.mark.parametrize("text", [None, 3, b"heat"])
def test_what_is_no_text_is_refused(router, text):
    with pytest.raises(TypeError, match="a query is text"):
        router.route(text)


def test_a_router_abstains_below_its_threshold(module):
    weights = weights_of(module)
    sure, unsure = Router(weights, Calibration(threshold=0.0)), Router(weights, Calibration(threshold=1.0))
    assert not sure.classify("who directed heat").is_fallback
    route = unsure.classify("who directed heat")
    assert route.is_fallback and route.intent == "content_discovery"
    assert set(sure.classify("heat").likely) == set(INTENTS)  # a border of 0 leaves nobody out


def test_a_long_query_is_read_to_its_bound(router):
    assert len(words_of("word " * 10_000)) == 24
    assert np.isfinite(router.logits("ab" * 100_000)).all()


def test_known_names_are_read_as_their_kind(module):
    router = Router(weights_of(module), gazetteer=Gazetteer({"title": [("Toy Story", "content:1")]}))
    assert router.words("Who made Toy Story?") == ["who", "made", "xtitle"]
    assert np.array_equal(router.logits("who made toy story"), router.logits("who made xtitle"))
