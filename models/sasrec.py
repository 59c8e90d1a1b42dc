"""SASRec: what comes next, by attention over what somebody liked so far, in order.

b users asked for · l places of a sequence · d width · i contents · t contents with a token ·
m positives · c candidates of a batch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from configs.registry import fill
from kg.arrays import GraphArrays
from models.attention import AttentionConfig, attentions
from models.interface import ModelFacts, Training, Users, recommenders
from models.losses import sampled_softmax
from models.negatives import SOURCES, Candidates
from models.prefixes import EDGE_WIDTH, RELATIONS, TYPES, Places, read
from models.sequences import FIRST, PAD, START, Sequences, aligned, sequences
from models.vectors import VectorRecommender, device_of

PARAMETER = "parameter."
BLOCK = 256
"""Histories that are read at once when scoring."""
LOSSES = ("softmax", "sampled_softmax")


@dataclass(frozen=True)
class SASRecConfig:
    """Settings of :class:`SASRec`."""

    width: int = 64
    """Of all vectors, > 0."""
    blocks: int = 2
    """Layers of attention, >= 1."""
    heads: int = 2
    """Of each attention; must divide ``width``."""
    attention: Mapping[str, Any] = field(default_factory=lambda: {"name": "multi_head"})
    """``name`` of a registered attention, and its own settings."""
    places: bool = True
    """True if each place adds a learned vector, as in the paper; False leaves order to the attention."""
    max_length: int = 100
    """Places of a sequence, the latest likes, >= 1."""
    dropout: float = 0.2
    """Share of a layer's answer that is dropped while training, in [0, 1)."""
    loss: str = "softmax"
    """``softmax`` over all contents, or ``sampled_softmax`` over those of the batch and some drawn besides,
    corrected for how often each is met."""
    negatives: str = "uniform"
    """Where contents are drawn from besides the batch itself; read with ``sampled_softmax``."""
    negative_count: int = 1024
    """Contents drawn for a batch, for ``uniform`` and ``popularity``, >= 0."""
    batch: int = 64
    """Users of a step."""
    embedding_sd: float = 0.05
    """Standard deviation of all vectors at the start."""
    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto``: cuda where there is one."""

    def __post_init__(self) -> None:
        if min(self.width, self.blocks, self.max_length, self.batch) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                "width, blocks, max_length and batch must be 1 or more, dropout 0 or more and below 1, got "
                f"{self}"
            )
        if self.loss not in LOSSES or self.negatives not in SOURCES or self.negative_count < 0:
            raise ValueError(
                f"loss must be one of {LOSSES}, negatives one of {SOURCES} and negative_count 0 or more, got "
                f"{self.loss!r}, {self.negatives!r} and {self.negative_count}"
            )
        self.attention_config()
        device_of(self.device)

    def attention_config(self) -> AttentionConfig:
        """Settings of the attention of a block."""
        told = {"relations": RELATIONS, "types": TYPES, "edge_width": EDGE_WIDTH}
        settings = {"dim": self.width, "heads": self.heads} | told | dict(self.attention)
        name = settings.pop("name", "multi_head")
        return fill(attentions.config_of(name) or AttentionConfig, settings, f"attention {name!r}")


class Block(nn.Module):
    """Attention over earlier places, then two layers for each place; both normalised before and added.

    Source: Kang and McAuley 2018, section 3.2; the residual stays as it is, where the paper's code adds
    the normalised query (Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture").
    """

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        name = config.attention.get("name", "multi_head")
        self.first_norm, self.second_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = attentions[name](config.attention_config())
        self.wide = nn.Linear(config.width, config.width)
        self.narrow = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, places: Places, only_last: bool = False) -> Tensor:
        """(b, l, d) -> (b, l, d), or (b, 1, d) of the last place."""
        heard = read(self.attention, self.first_norm(hidden), places, only_last)
        hidden = (hidden[:, -1:] if only_last else hidden) + self.dropout(heard)
        bent = self.dropout(torch.relu(self.wide(self.second_norm(hidden))))
        return hidden + self.dropout(self.narrow(bent))


class Sequence(nn.Module):
    """Tokens and places in, for each place the vector of what should come next out."""

    def __init__(self, config: SASRecConfig, tokens: int) -> None:
        super().__init__()
        self.token_vector = nn.Embedding(tokens, config.width, padding_idx=PAD)
        nn.init.normal_(self.token_vector.weight, std=config.embedding_sd)
        self.place_vector = nn.Embedding(config.max_length, config.width) if config.places else None
        if self.place_vector is not None:
            nn.init.normal_(self.place_vector.weight, std=config.embedding_sd)
        with torch.no_grad():
            self.token_vector.weight[PAD] = 0
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        if any(block.attention.uses_degree for block in self.blocks):
            self.register_buffer("degree", torch.zeros(tokens))  # (t,) likes of each token in training
        else:
            self.degree = None

    def forward(self, tokens: Tensor, time_s: Tensor | None = None, only_last: bool = False) -> Tensor:
        """What is expected after each place.

        Args:
            tokens: (b, l) int64, the latest last and ``PAD`` before the first.
            time_s: (b, l) int64 UTC seconds; None where nobody told when.
            only_last: True spares the last block all places but one.

        Returns:
            (b, l, d), or (b, 1, d) of the last place.
        """
        if self.place_vector is not None and tokens.shape[1] > self.place_vector.num_embeddings:
            raise ValueError(
                f"a sequence must fit into max_length {self.place_vector.num_embeddings}, got "
                f"{tokens.shape[1]} places: keep the latest, or set places to False"
            )
        hidden = self.token_vector(tokens) * self.token_vector.embedding_dim**0.5
        if self.place_vector is not None:
            hidden = hidden + self.place_vector.weight[-tokens.shape[1] :]
        hidden = self.dropout(hidden)
        places = Places(tokens != PAD, time_s, None if self.degree is None else self.degree[tokens])
        for number, block in enumerate(self.blocks, 1):
            hidden = block(hidden, places, only_last and number == len(self.blocks))
        return self.norm(hidden)


@recommenders.register("sasrec", SASRecConfig)
class SASRec(VectorRecommender):
    """Reads a history in order and says what comes next; everybody is scored on the history at hand.

    Without times a history is read as it is given. Contents without any positive have no vector and score
    below all others. Any registered attention reads: :mod:`models.prefixes` says how.

    Source: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, arXiv:1808.09781. Ours
    begins each history with a token of its own, so that nobody is without one, and takes the softmax over all
    contents, or over a corrected sample of them, for one sampled negative: Klenitskiy and Vasilev, "Turning
    Dross Into Gold Loss: is BERT4Rec really better than SASRec?", RecSys 2023, arXiv:2309.07602. Likes of one
    second have no order: training draws one anew each epoch.

    Cost: O(u l (l d + d² + t d)) an epoch, besides what the attention takes; memory O(batch · l · t) for the
    softmax over t contents, c for t when sampled.
    """

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=False, draws_on=())
    adapts = ("query", "key", "value", "out")
    reads_history = True
    config: SASRecConfig

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__(config)
        self.device = device_of(config.device)
        self._latest: tuple[bytes, np.ndarray] | None = None

    def fit(self, training: Training) -> None:
        self._take(training)
        counts = np.bincount(self._positives.indices, minlength=self._positives.shape[1])
        self._contents = np.flatnonzero(counts)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self._ready(len(counts))
        if self.module.degree is not None:
            self.module.degree[START] = len(self._readers)
            self.module.degree[FIRST:] = torch.from_numpy(counts[self._contents])

    def follow(self, arrays: Mapping[str, np.ndarray], training: Training, grows: bool = False) -> None:
        """Makes ready to go on learning from saved parameters, on other likes.

        Args:
            arrays: what :meth:`arrays` gave, in the rows of this graph.
            training: what it learns from now on.
            grows: True gives contents that are new here a token with a vector as drawn; else they have none.
        """
        self.restore(arrays, training.graph)
        self._take(training)
        if grows:
            self._grow(training.seed)

    def _take(self, training: Training) -> None:
        self._positives, self._times = training.positives.tocsr(), training.times.tocsr()
        self.learn(np.ones(self._positives.nnz, bool))

    def learn(self, is_learned: np.ndarray) -> None:
        """Lets steps ask for these likes alone, (p,) bool as training's stand; the others are still read."""
        whole = self._positives
        learned = sp.csr_array((is_learned, whole.indices, whole.indptr), shape=whole.shape)
        self._learned = None if is_learned.all() else learned
        users = np.repeat(np.arange(whole.shape[0]), np.diff(whole.indptr))
        self._readers = torch.from_numpy(np.unique(users[is_learned]))

    def _grow(self, seed: int) -> None:
        """Tokens for contents that have none yet, after those that have."""
        known, contents = self.module.state_dict(), self._positives.shape[1]
        self._contents = np.r_[self._contents, np.setdiff1d(self._positives.indices, self._contents)]
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            self._ready(contents)
            for name, value in self.module.state_dict().items():
                value[: len(known[name])].copy_(known[name]) if value.ndim else value.copy_(known[name])

    def examples(self, generator: torch.Generator, count: int) -> Iterator[Callable[[], Tensor]]:
        """Callables, each giving the () negative log-likelihood of one like that :meth:`learn` lets in."""
        drawn = torch.randint(len(self._readers), (count,), generator=generator)
        for row in self._readers[drawn].tolist():
            tie = torch.rand(len(self._positives[[row]].data), generator=generator).numpy()
            place = torch.rand((), generator=generator)
            yield lambda row=row, tie=tie, place=place: self._example(row, tie, place)

    def _example(self, row: int, tie: np.ndarray, place: Tensor) -> Tensor:
        expected, wanted = self._asked(np.array([row]), tie)
        if not len(wanted):
            return 0 * expected.sum()
        at = int(place * len(wanted))
        vectors = self.module.token_vector.weight[FIRST:]
        return nn.functional.cross_entropy(expected[at : at + 1] @ vectors.T, wanted[at : at + 1])

    def _ready(self, contents: int) -> None:
        """A module with a token for each of ``self._contents``, parameters as drawn."""
        self._token = np.zeros(contents, np.int64)
        self._token[self._contents] = FIRST + np.arange(len(self._contents))
        self.module = Sequence(self.config, FIRST + len(self._contents)).to(self.device)
        self._latest = None

    def steps(self, generator: torch.Generator) -> Iterator[Callable[[], Tensor]]:
        """One epoch over all users; dropout draws from torch's own generator."""
        self.module.train()
        batches = self._batches(generator)
        tie = torch.rand(self._positives.nnz, generator=generator).numpy()
        drawn = sp.csr_array(
            (tie, self._positives.indices, self._positives.indptr), shape=self._positives.shape
        )
        for rows in batches:
            yield lambda rows=rows: self._loss(rows, drawn[rows].data, generator)

    def _batches(self, generator: torch.Generator) -> list[np.ndarray]:
        """Rows of users, batches in random order; those of a batch are alike in length: little is padded."""
        order = self._readers[torch.randperm(len(self._readers), generator=generator)]
        lengths = torch.from_numpy(np.diff(self._positives.indptr))[order]
        batches = order[torch.argsort(lengths, stable=True)].split(self.config.batch)
        return [
            batches[place].numpy() for place in torch.randperm(len(batches), generator=generator).tolist()
        ]

    def _loss(self, rows: np.ndarray, tie: np.ndarray, generator: torch.Generator) -> Tensor:
        expected, wanted = self._asked(rows, tie)  # (m, d), (m,)
        vectors = self.module.token_vector.weight[FIRST:]  # (t, d)
        if not len(wanted):  # what is learned lies before the latest places
            return 0 * expected.sum()
        if self.config.loss == "sampled_softmax":
            return self._sampled(expected, vectors, wanted, generator)
        return nn.functional.cross_entropy(expected @ vectors.T, wanted)

    def _asked(self, rows: np.ndarray, tie: np.ndarray) -> tuple[Tensor, Tensor]:
        """(m, d) expected at the places of these users that are learned, (m,) next token less FIRST."""
        most = self.config.max_length + 1
        found = sequences(self._positives[rows], self._times[rows].data, self._token, most, tie)
        tokens, time_s = self._tensors(found)  # (b, l + 1)
        read, next_token = tokens[:, :-1], tokens[:, 1:]
        if not read.shape[1]:  # nobody here liked a content that has a token
            return torch.zeros(
                0, self.config.width, device=self.device, requires_grad=True
            ), next_token.flatten()
        is_asked = read != PAD
        if self._learned is not None:
            is_asked = is_asked & self._is_learned(rows, found.tokens[:, 1:]).to(self.device)
        expected = self.module(read, None if time_s is None else time_s[:, :-1])[is_asked]
        return expected, next_token[is_asked] - FIRST

    def _is_learned(self, rows: np.ndarray, tokens: np.ndarray) -> Tensor:
        """(b, l) bool: whether the like of each token is one to learn."""
        learned = self._learned[rows].toarray()[:, self._contents]  # (b, t)
        is_content = tokens >= FIRST
        found = np.take_along_axis(learned, np.where(is_content, tokens - FIRST, 0), axis=1)
        return torch.from_numpy(found & is_content)

    def _sampled(
        self, expected: Tensor, vectors: Tensor, wanted: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Loss of (m, d) expected among (t, d) vectors, where (m,) ``wanted`` came next."""
        every = np.bincount(self._positives.indices, minlength=self._positives.shape[1])
        counts, config = every[self._contents], self.config
        # for the size of this very batch: those of long histories meet a content more often
        candidates = Candidates(
            counts, np.ones(len(counts), bool), len(wanted), config.negatives, config.negative_count
        )
        drawn, log_chance = (part.to(self.device) for part in candidates.draw(wanted.cpu(), generator))
        column = torch.searchsorted(drawn, wanted)
        is_own = nn.functional.one_hot(column, len(drawn)).bool()  # (m, c); other likes do count against it
        user = torch.arange(len(wanted), device=self.device)
        return sampled_softmax(expected @ vectors[drawn].T, user, column, is_own, log_chance)

    def _tensors(self, found: Sequences) -> tuple[Tensor, Tensor | None]:
        """(b, l) tokens and their times on the device."""
        tokens, time_s = torch.from_numpy(found.tokens), found.time_s
        return tokens.to(self.device), None if time_s is None else torch.from_numpy(time_s).to(self.device)

    def freeze(self) -> None:
        self._latest = None
        contents = self._positives.shape[1]
        vectors = np.zeros((contents, self.config.width), np.float32)
        vectors[self._contents] = self.module.token_vector.weight.detach().cpu().numpy()[FIRST:]
        nobody = np.zeros((0, self.config.width), np.float32)
        self._keep(nobody, vectors, np.zeros(0, bool), length=1.0, is_scored=self._token > 0)

    def vectors(self, users: Users) -> np.ndarray:
        """(b, d) float32 what each history asks for next."""
        self._frozen()
        times = None if users.times is None else aligned(users.times, users.history)
        return self._expected(sequences(users.history, times, self._token, self.config.max_length))

    def _expected(self, found: Sequences) -> np.ndarray:
        """(b, d) float32 at the last place."""
        was_training = self.module.training
        self.module.eval()
        tokens, time_s = self._tensors(found)
        expected = np.empty((len(tokens), self.config.width), np.float32)
        with torch.no_grad():
            for start in range(0, len(tokens), BLOCK):
                some = slice(start, start + BLOCK)
                when = None if time_s is None else time_s[some]
                expected[some] = self.module(tokens[some], when, only_last=True)[:, 0].cpu().numpy()
        self.module.train(was_training)
        return expected

    def contributions(self, users: Users, content_row: int) -> np.ndarray:
        """How much lower the score is when one content of the history is left out, for each of them."""
        first = users.first()
        whole, left = self._without_each(first)
        return ((whole - left) @ self._frozen()["content_vectors"][content_row]).astype(np.float64)

    def _without_each(self, first: Users) -> tuple[np.ndarray, np.ndarray]:
        """(1, d) of the whole history, (h, d) without each of its contents; kept for the next title."""
        times = None if first.times is None else aligned(first.times, first.history)
        key = first.history.indices.tobytes() + (b"" if times is None else times.tobytes())
        if self._latest is None or self._latest[0] != key:
            many = first.history.nnz
            places = np.concatenate([np.delete(np.arange(many), [gone]) for gone in range(many)] or [[]])
            places = np.concatenate([np.arange(many), places]).astype(np.int64)
            bounds = np.concatenate([[0], many + max(many - 1, 0) * np.arange(many + 1)])
            history = sp.csr_array(
                (first.history.data[places], first.history.indices[places], bounds),
                shape=(many + 1, first.history.shape[1]),
            )
            when = None if times is None else times[places]
            found = sequences(history, when, self._token, self.config.max_length)
            self._latest = key, self._expected(found)
        expected = self._latest[1]
        return expected[:1], expected[1:]

    def arrays(self) -> dict[str, np.ndarray]:
        """Content vectors, which contents have a token, and each parameter as ``parameter.<name>``."""
        state = self.module.state_dict()
        learned = {f"{PARAMETER}{name}": value.detach().cpu().numpy() for name, value in state.items()}
        return super().arrays() | learned | {"contents": self._contents}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        super().restore(arrays, graph)
        self._contents = np.asarray(arrays["contents"])
        self._ready(len(arrays["content_vectors"]))
        state = {
            name.removeprefix(PARAMETER): torch.from_numpy(np.array(value))
            for name, value in arrays.items()
            if name.startswith(PARAMETER)
        }
        self.module.load_state_dict(state)
        self.module.eval()
