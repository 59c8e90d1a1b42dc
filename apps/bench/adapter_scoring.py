"""Scores with adapters beside the same without, and beside PEFT's mixed batches, in turn in one run."""

import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from models.adapters import AdapterSpec, hidden_scores, shifts
from models.heads import BentHead, HeadConfig, Moments, head_of, moment_vectors
from models.instant import InstantConfig, add

SPEC = AdapterSpec(width=64, outputs=64, rank=2, base="bench")
HIDDEN = AdapterSpec(width=64, outputs=32, rank=2, base="bench")
"""Of the non-linear head: a hidden layer of 32 over 64 numbers of a content."""
BATCH, START_TS = 256, 1_700_000_000
"""Users at once, and UTC seconds at which events begin."""


@dataclass(frozen=True)
class Row:
    """One figure, and the bar it is held to."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    is_least: bool = False
    """True where the bar is a least, and not a most."""
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """None where there is no bar."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.is_least else self.value <= self.bar


def scoring(contents: int, draw: np.random.Generator, said: Callable[[str], None]) -> Iterator[Row]:
    """Rows for a linear head, a hidden layer, and the bent head that serves; :data:`BATCH` distinct users.

    Args:
        contents: scored for each user.
        draw: of what is made up.
        said: told what is being done.
    """
    yield from _linear(contents, draw, said)
    yield from _hidden(contents, draw, said)
    yield from _bent(contents, draw, said)


def made_up(spec: AdapterSpec, count: int, draw: np.random.Generator) -> np.ndarray:
    """Adapters of people who learned something, weights about 0.1."""
    records = spec.fresh(count)
    for name in ("down", "up"):
        records[name] = 0.1 * draw.standard_normal(records[name].shape, np.float32)
    return records


class _Head(nn.Module):
    """A linear layer, and what follows it; PEFT adapts the layer."""

    def __init__(self, weight: torch.Tensor, rest: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.head.weight.data = weight
        self.rest = rest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rest(self.head(x))


def _in_peft(
    spec: AdapterSpec, records: np.ndarray, head: nn.Module, said: Callable[[str], None]
) -> PeftModel:
    """A model with one adapter a user, named by place."""
    config = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, target_modules=["head"])
    model = get_peft_model(head, config, "0")
    for number in range(1, len(records)):
        if number % 64 == 0:
            said(f"PEFT takes {number} of {len(records)} adapters")
        model.add_adapter(str(number), config)
    layer = model.base_model.model.head
    for number, record in enumerate(records):
        layer.lora_A[str(number)].weight.data = torch.tensor(record["down"].astype(np.float32))
        layer.lora_B[str(number)].weight.data = torch.tensor(record["up"].astype(np.float32))
    return model.eval()


def _in_turn(sides: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median seconds of each side, all of them run in turn; the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    with torch.no_grad():
        for _ in range(repetitions + 1):
            for name, run in sides.items():
                started = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - started)
    return {name: median(found[1:]) for name, found in times.items()}


def _must_agree(ours: np.ndarray, theirs: torch.Tensor) -> None:
    if not np.allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-3 * float(np.abs(ours).max())):
        raise RuntimeError(
            "both sides must give the same scores, they differ: the comparison is worth nothing"
        )


def _linear(contents: int, draw: np.random.Generator, said: Callable[[str], None]) -> Iterator[Row]:
    said("a linear head beside PEFT")
    records = made_up(SPEC, BATCH, draw)
    users = draw.standard_normal((BATCH, SPEC.width), np.float32)
    table = draw.standard_normal((contents, SPEC.outputs), np.float32)
    weight = draw.standard_normal((SPEC.outputs, SPEC.width), np.float32) / 8
    names = [str(number) for number in range(BATCH)]
    x, columns = torch.tensor(users), torch.tensor(table).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _in_peft(SPEC, records, _Head(torch.tensor(weight), lambda found: found), said)

    def ours() -> np.ndarray:
        return (users @ weight.T + shifts(SPEC, records, users)) @ table.T

    with torch.no_grad():
        _must_agree(ours(), model(x, adapter_names=names) @ columns)
    found = _in_turn({"without": lambda: (users @ weight.T) @ table.T, "ours": ours}, repetitions=40)
    title = f"{BATCH} users × {contents:,} contents, linear head"
    yield _ratio(f"{title}: with adapters over without", found, "ours", "without", 1.3)
    found = _in_turn(
        {
            "ours": ours,
            "step": lambda: shifts(SPEC, records, users),
            "peft_step": lambda: model(x, adapter_names=names),
            "peft": lambda: model(x, adapter_names=names) @ columns,
        },
        repetitions=15,
    )
    yield _ratio("the adapter step alone over PEFT's adapter_names", found, "step", "peft_step", 0.05)
    yield _ratio("with scoring over PEFT's", found, "ours", "peft", 0.25)


def _hidden(contents: int, draw: np.random.Generator, said: Callable[[str], None]) -> Iterator[Row]:
    said("a non-linear head beside PEFT")
    records = made_up(HIDDEN, BATCH, draw)
    table = draw.standard_normal((contents, HIDDEN.width), np.float32)
    weight = draw.standard_normal((HIDDEN.outputs, HIDDEN.width), np.float32) / 8
    users = draw.standard_normal((BATCH, HIDDEN.outputs), np.float32)
    out = draw.standard_normal(HIDDEN.outputs, np.float32)
    names, told, last = (
        [str(number) for number in range(BATCH)],
        torch.tensor(users)[:, None],
        torch.tensor(out),
    )
    x = torch.tensor(table).expand(BATCH, -1, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head = _Head(torch.tensor(weight), lambda found: torch.relu(found.add_(told)) @ last)
        model = _in_peft(HIDDEN, records, head, said)

    def ours() -> np.ndarray:
        return hidden_scores(HIDDEN, records, table, table @ weight.T, users, out)

    with torch.no_grad():
        _must_agree(ours(), model(x, adapter_names=names))
    said("a non-linear head beside PEFT, in turn")
    found = _in_turn(
        {"without": lambda: _bare_hidden(table @ weight.T, users, out), "ours": ours}, repetitions=15
    )
    title = f"{BATCH} users × {contents:,} contents, hidden layer of {HIDDEN.outputs}"
    yield _ratio(f"{title}: with adapters over without", found, "ours", "without", 1.3)
    found = _in_turn({"ours": ours, "peft": lambda: model(x, adapter_names=names)}, repetitions=3)
    yield _ratio("with scoring over PEFT's, the layer adapted", found, "ours", "peft", 0.7)


def _bent(contents: int, draw: np.random.Generator, said: Callable[[str], None]) -> Iterator[Row]:
    """The non-linear head that serves, content and moment in one layer of which adapters bend all."""
    said("the bent head beside PEFT")
    width = 2 * SPEC.width - len(BentHead.rests) - BentHead.moment_width
    met = draw.standard_normal((contents, width), np.float32) / 8
    head = head_of("bent", HeadConfig(SPEC.width), {"left": met, "met": met, "outer": np.ones(4, np.float32)})
    records = made_up(head.spec, BATCH, draw)
    records["events"], records["last_ts"] = 1, START_TS
    moments = Moments(np.full(BATCH, START_TS))
    base = draw.standard_normal((BATCH, contents), np.float32)
    x = torch.empty(BATCH, contents, head.spec.width)
    x[:, :, :width], x[:, :, width:] = torch.tensor(met), torch.tensor(moment_vectors(moments))[:, None]
    weight = torch.zeros(head.spec.outputs, head.spec.width)
    weight[:, width] = torch.tensor(BentHead.rests)  # the moment's 1: where each unit rests
    at_rest, scores = torch.tanh(torch.tensor(BentHead.rests)), torch.tensor(base)
    names = [str(number) for number in range(BATCH)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rest = _Head(weight, lambda found: scores + (found.tanh_() - at_rest).sum(dim=2))
        model = _in_peft(head.spec, records, rest, said)

    def ours() -> np.ndarray:
        return add(head, InstantConfig(), base, records, moments)

    with torch.no_grad():
        _must_agree(ours(), model(x, adapter_names=names))
    said("the bent head beside PEFT, in turn")
    found = _in_turn({"ours": ours, "peft": lambda: model(x, adapter_names=names)}, repetitions=3)
    yield _ratio(f"{BATCH} users × {contents:,} contents, bent head: over PEFT's", found, "ours", "peft", 0.7)


def _bare_hidden(hidden: np.ndarray, users: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The same scores without adapters, in blocks of the same size."""
    scores = np.empty((len(users), len(hidden)), np.float32)
    for first, start in itertools.product(range(0, len(hidden), 512), range(0, len(users), 16)):
        bent = np.ascontiguousarray(hidden[first : first + 512].T) + users[start : start + 16, :, None]
        np.maximum(bent, 0, out=bent)
        scores[start : start + 16, first : first + 512] = np.matmul(out, bent)
    return scores


def _ratio(what: str, found: dict[str, float], ours: str, reference: str, bar: float) -> Row:
    note = f"{1e3 * found[ours]:.2f} ms over {1e3 * found[reference]:.2f} ms"
    return Row(what, found[ours] / found[reference], "×", bar, note=note)
