"""A recommender whose base is frozen and whose adapters learn what is newer, in the one training loop.

u users · b users asked for · p likes of training · r rank."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.base_tier import (
    ADAPTER,
    BASE,
    HASH,
    PARAMETER,
    RANKS,
    SERVED,
    LoRA,
    base_of,
    hash_of,
    inject,
    is_adapter,
    is_of_base,
    plain,
    served_of,
    sites,
    weights,
)
from models.continual import Anchors, EWCConfig, held, look
from models.interface import Recommender, Trainable, Training, Users, recommenders

EPOCHS = "epochs_done"


@dataclass(frozen=True)
class AdaptedConfig:
    """Settings of :class:`Adapted`."""

    base: Mapping[str, Any] = field(default_factory=lambda: {"name": "sasrec"})
    """``name`` of a model that can be adapted, and its settings as it was trained."""
    version: str = ""
    """``name/number`` of the base, or of an adapted one over it to go on from; '' grows a base first, in the
    same training."""
    folder: str = ""
    """Where that version lies; read while fitting, never when it comes back."""
    base_hash: str = ""
    """What :func:`hash_of` its arrays must be; '' takes any."""
    base_epochs: int = 8
    """Epochs that a base without ``version`` learns older likes before it is frozen, 0 or more."""
    since_s: int | None = None
    """UTC seconds after which a like is newer; None takes the latest ``newer_share``."""
    newer_share: float = 0.2
    """Part of the likes that the adapter learns, above 0 and at most 1."""
    rank: int = 8
    """r, 4 to 16."""
    alpha: float = 16.0
    """α, above 0; what the adapter adds is scaled by α / r."""
    dropout: float = 0.0
    """Share of what enters an adapter that is dropped while training, in [0, 1)."""
    targets: tuple[str, ...] = ()
    """Last names of the projections that are adapted; () takes those that the base states."""
    cohorts: tuple[int, ...] = ()
    """Lengths of history, rising, at which the next cohort begins; each cohort has an adapter of its own."""
    strength: float = 0.0
    """λ of EWC++ on the adapter, 0 or more."""
    memory: float = 0.99
    """γ of EWC++, in [0, 1)."""
    examples: int = 200
    """Older likes that EWC++ looks at before newer ones are learned, 1 or more."""

    def __post_init__(self) -> None:
        if self.rank not in RANKS or not self.alpha > 0 or not 0 <= self.dropout < 1:
            raise SettingError(
                "a base tier needs a rank of 4 to 16, alpha above 0 and dropout in [0, 1), "
                f"got {self.rank}, {self.alpha} and {self.dropout}"
            )
        if self.base_epochs < 0 or not 0 < self.newer_share <= 1 or bool(self.version) != bool(self.folder):
            raise SettingError(
                "a base tier needs base_epochs of 0 or more, newer_share above 0 and at most 1, and version "
                f"and folder together or neither, got {self.base_epochs}, {self.newer_share}, "
                f"{self.version!r} and {self.folder!r}"
            )
        if list(self.cohorts) != sorted({int(edge) for edge in self.cohorts if edge > 0}):
            raise SettingError(f"cohorts begin at rising lengths above 0, got {self.cohorts}")
        self.ewc()
        if not hasattr(self.kind(), "adapts"):
            raise SettingError(
                f"a base must be a model whose projections can be adapted, got {self.base.get('name')!r}: "
                "choose sasrec or graphsage"
            )
        if self.cohorts and not hasattr(self.kind(), "reads_history"):
            raise SettingError(
                f"cohorts need a base that scores each history anew, {self.base['name']!r} keeps one vector "
                "of each content for all: leave cohorts out"
            )

    def kind(self) -> type[Recommender]:
        """The class of the base."""
        if "name" not in self.base:
            raise SettingError("a base tier must name its base: write base: {name: sasrec}")
        return recommenders[self.base["name"]]

    def ewc(self) -> EWCConfig:
        """Settings of EWC++."""
        return EWCConfig(self.strength, self.memory, self.examples)

    def made(self) -> Any:
        """A base as its settings say, nothing learned."""
        return recommenders.build(
            self.base["name"], {key: value for key, value in self.base.items() if key != "name"}
        )

    def lora(self) -> LoRA:
        """Settings of the adapters."""
        return LoRA(self.rank, self.alpha, self.dropout, tuple(self.targets), len(self.cohorts) + 1)


@recommenders.register("adapted", AdaptedConfig)
class Adapted(Trainable):
    """A frozen base and what PEFT adds to its projections, W' = W + (α / r) B A, learned on newer likes.

    At the start B is 0 and the base answers to the bit. Kept are the adapter, the hash of the base and what
    serving needs of the base; an adapter is refused on another base.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv:2106.09685.
    Ours may first grow the base on older likes, within the same training.

    Cost: r (in + out) numbers a projection and cohort; a step costs about what one of the base costs.
    """

    config: AdaptedConfig

    def __init__(self, config: AdaptedConfig) -> None:
        super().__init__(config)
        self.base, self._names = config.made(), config.lora().names
        self.facts = self.base.facts
        self._start: Mapping[str, np.ndarray] | None = None
        self._kept: dict[str, np.ndarray] = {}

    @property
    def module(self) -> nn.Module:
        """Base and adapters; only what may move has gradients."""
        return self.base.module

    def stand_on(self, arrays: Mapping[str, np.ndarray]) -> "Adapted":
        """Takes the arrays of a base, or of an adapted one to go on from, before ``fit``.

        Raises:
            ValueError: they are of another base than ``base_hash`` says.
        """
        base = base_of(arrays)
        self._must_be(hash_of(base))
        self._start = dict(arrays)
        return self

    def fit(self, training: Training) -> None:
        if self._start is None and self.config.folder:
            self.stand_on(weights(Path(self.config.folder)))
        if self._start is None:
            self.base.fit(training)
        else:
            self.base.follow(base_of(self._start), training)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            inject(self.module, self.config.lora(), type(self.base).adapts)
        if self._start is not None:
            self._take_adapter(self._start)
        self._sites = dict(sites(self.module))
        self._split_likes(training)
        self.module.register_buffer(EPOCHS, torch.zeros((), dtype=torch.int64))
        self._anchors = Anchors(self._adapter(), self.config.ewc()) if self.config.strength else None
        if self._anchors is not None:
            self.module.add_module("anchors", self._anchors)
        self._kept = {}

    def _split_likes(self, training: Training) -> None:
        """Which likes of training are newer, and whose they are."""
        times = training.times.tocsr().data
        since = self.config.since_s
        if since is None and len(times):
            since = np.quantile(times, 1 - self.config.newer_share, method="lower")
            since -= self.config.newer_share == 1  # all of them
        self._is_newer = times > (0 if since is None else since)
        lengths = np.diff(training.positives.tocsr().indptr)
        self._cohort = np.repeat(self._cohorts(lengths), lengths)  # (p,)

    def _cohorts(self, lengths: np.ndarray) -> np.ndarray:
        """(b,) number of the cohort of each length of history."""
        return np.searchsorted(np.asarray(self.config.cohorts, np.int64), lengths, side="right")

    def steps(self, generator: torch.Generator) -> Iterator[Callable[[], Tensor]]:
        """One epoch: of the base over older likes while it grows, then of the adapters over newer ones."""
        done = int(getattr(self.module, EPOCHS))
        grows = self.config.base_epochs if self._start is None else 0
        getattr(self.module, EPOCHS).add_(1)
        if done < grows:
            self._let_move(base=True)
            if not self._is_newer.all():
                self.base.learn(~self._is_newer)
            yield from self.base.steps(generator)
            return
        self._let_move(base=False)
        self._turn: int | None = None
        if self._anchors is not None and done == grows and not self._is_newer.all():
            self._look_back(generator)
        yield from held(self._newer(generator), self._anchors, self._adapter())

    def _newer(self, generator: torch.Generator) -> Iterator[Callable[[], Tensor]]:
        for number in range(len(self._names)):
            mine = self._is_newer & (self._cohort == number)
            if not mine.any():
                continue
            self.base.learn(mine)
            for loss in self.base.steps(generator):
                yield lambda loss=loss, number=number: self._in_turn(number, loss)

    def _in_turn(self, number: int, loss: Callable[[], Tensor]) -> Tensor:
        """A loss of one cohort, with its adapter and its likes: a team may take steps ahead of their turn."""
        if self._turn != number and len(self._names) > 1:
            self.base.learn(self._is_newer & (self._cohort == number))
            self._turn = number
        self._activate(self._names[number])
        return loss()

    def _look_back(self, generator: torch.Generator) -> None:
        """Lets EWC++ see what the adapters, as they start, mean for older likes."""
        self._anchors.settle(self._adapter())
        for number, name in enumerate(self._names):
            mine = ~self._is_newer & (self._cohort == number)
            if not mine.any():
                continue
            self._activate(name)
            self.base.learn(mine)
            looked = {key: value for key, value in self._adapter().items() if f".{name}." in key}
            look(self._anchors, self.base.examples(generator, self.config.examples), self.module, looked)

    def _let_move(self, base: bool) -> None:
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(base if not is_adapter(name) else not base)

    def _activate(self, name: str) -> None:
        for layer in self._sites.values():
            layer.set_adapter(name)

    def _adapter(self) -> dict[str, nn.Parameter]:
        """All parameters of all adapters."""
        return {name: value for name, value in self.module.named_parameters() if is_adapter(name)}

    def freeze(self) -> None:
        self._kept = {}
        self._settle()
        self.base.freeze()

    def _settle(self) -> None:
        """Makes the base score to the bit as it did alone; steps freeze it again."""
        for parameter in self.module.parameters():
            parameter.requires_grad_(
                True
            )  # torch multiplies strided inputs in another order for frozen weights

    def score(self, users: Users) -> np.ndarray:
        if not self.config.cohorts:
            return self.base.score(users)
        cohort = self._cohorts(np.diff(users.history.indptr))
        scores = np.zeros(users.history.shape, np.float32)
        for number in np.unique(cohort):
            rows = np.flatnonzero(cohort == number)
            self._activate(self._names[number])
            times = None if users.times is None else users.times[rows]
            scores[rows] = self.base.score(Users(users.rows[rows], users.history[rows], times))
        return scores

    def contributions(self, users: Users, content_row: int) -> np.ndarray:
        if self.config.cohorts:
            length = np.diff(users.first().history.indptr)
            self._activate(self._names[int(self._cohorts(length)[0])])
        return self.base.contributions(users, content_row)

    def arrays(self) -> dict[str, np.ndarray]:
        """``adapter.<name>``, ``base_hash`` and what serving needs.

        That is ``base.<name>`` of the base, and ``served.<name>`` where it scores from vectors that adapters
        have moved.
        """
        if self._kept:
            return dict(self._kept)
        served = self.base.arrays()
        self._switch(False)
        base = {plain(name): value for name, value in self.base.arrays().items() if is_of_base(name)}
        self._switch(True)
        found = {f"{BASE}{name}": value for name, value in base.items()}
        for name, value in served.items():
            if is_adapter(name):
                found[ADAPTER + name.removeprefix(PARAMETER)] = value
            elif not name.startswith(PARAMETER) and not np.array_equal(value, base[name]):
                found[SERVED + name] = value
        found[HASH] = np.frombuffer(bytes.fromhex(hash_of(base)), np.uint8).copy()
        self._kept = found
        return dict(found)

    def _switch(self, is_on: bool) -> None:
        """Lets the adapters speak or not."""
        for layer in self._sites.values():
            layer.enable_adapters(is_on)
        self._settle()
        with torch.no_grad():
            self.base.freeze()

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        base = base_of(arrays)
        self._must_be(hash_of(base))
        self._must_fit(arrays, hash_of(base))
        self.base = self.config.made()
        self.base.restore(base | served_of(arrays), graph)
        self._kept = dict(arrays)
        if getattr(self.base, "module", None) is not None:
            inject(self.module, self.config.lora(), type(self.base).adapts)
            self._sites = dict(sites(self.module))
            self._take_adapter(arrays)
            self._settle()
            self.module.eval()

    def _take_adapter(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Values of an adapter as :meth:`arrays` gave it; none there is a fresh one."""
        given = {name: value for name, value in arrays.items() if name.startswith(ADAPTER)}
        wanted = {f"{ADAPTER}{name}": value for name, value in self._adapter().items()}
        if not given:
            return
        shapes = {name: tuple(value.shape) for name, value in given.items()}
        if shapes != {name: tuple(value.shape) for name, value in wanted.items()}:
            raise ValueError(
                f"an adapter must have rank {self.config.rank} on the projections of its config, got "
                f"{len(given)} tensors for {len(wanted)}, such as {next(iter(shapes.items()))}: take the "
                "settings it was learned with"
            )
        with torch.no_grad():
            for name, value in wanted.items():
                value.copy_(torch.from_numpy(np.array(given[name])))

    def load_adapter(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Puts another adapter of the same base in; after it ``freeze`` where the base keeps vectors.

        Raises:
            ValueError: it was learned on another base, or has another rank.
        """
        self._must_fit(arrays, hash_of(base_of(self.arrays())))
        self._take_adapter(arrays)
        self._kept = {}

    def adapter(self) -> dict[str, np.ndarray]:
        """The adapter alone with the hash of its base: what :meth:`load_adapter` takes."""
        return {
            name: value for name, value in self.arrays().items() if name == HASH or name.startswith(ADAPTER)
        }

    def bare(self, graph: GraphArrays) -> Recommender:
        """The base without any adapter, as it was."""
        found = self.config.made()
        found.restore(base_of(self.arrays()), graph)
        return found

    def _must_be(self, hash: str) -> None:
        if self.config.base_hash and hash != self.config.base_hash:
            raise ValueError(
                f"an adapter stands on one base, {self.config.version or 'this one'} is "
                f"{self.config.base_hash}, got {hash}: give it the base that it was learned on"
            )

    def _must_fit(self, arrays: Mapping[str, np.ndarray], hash: str) -> None:
        told = np.asarray(arrays.get(HASH, np.zeros(0, np.uint8))).tobytes().hex()
        if told != hash:
            raise ValueError(
                f"an adapter stands on one base, this one was learned on {told or 'nothing named'}, got "
                f"{hash}: give it the base that it was learned on"
            )
