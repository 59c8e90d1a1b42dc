"""GraphSAGE over the hypergraph: users and contents as points on a sphere, made from sampled
neighbourhoods.

n nodes · b targets · k neighbours · h heads · d width of a layer · u users · i contents
· v distinct users and c candidates of a batch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.features import content_features
from models.graph_encoder import FACTS, SAMPLERS, Encoder, GraphSAGEConfig
from models.interface import ModelFacts, Training, recommenders
from models.losses import LOSSES
from models.negatives import Candidates
from models.neighbourhood import EVERY, TorchSampler, whole
from models.relations import relation_graph
from models.vectors import VectorRecommender, device_of


@dataclass(frozen=True)
class Listening:
    """The titles that a user liked in training as the last layer hears them, oldest first; k of them."""

    content_rows: np.ndarray
    """(k,) int64."""
    age_s: np.ndarray
    """(k,) float32 seconds from each like to the latest fact of training."""
    weights: np.ndarray
    """(h, k) float32 weight that each head gives each of them."""


@recommenders.register("graphsage", GraphSAGEConfig)
class GraphSAGE(VectorRecommender):
    """Learned vectors and content features, spread over sampled neighbourhoods; scores are dot products.

    Somebody whom training did not know is placed at the mean of the contents of the history, and at the mean
    of all users without one; a user whom training knew keeps the vector learned then, whatever the history
    says now.

    Source: Hamilton, Ying, Leskovec, "Inductive Representation Learning on Large Graphs", NeurIPS 2017,
    arXiv:1706.02216. Ours adds relations, learned node vectors, residual and LayerNorm; the loss is one of
    :mod:`models.losses`.

    Cost: a step reads at most batch · Π fan_out nodes; memory is O(n · widths[0]) for the node vectors.
    """

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=True, draws_on=FACTS)
    adapts = ("content", "own", "weight", "query", "key", "value", "out")
    config: GraphSAGEConfig

    def __init__(self, config: GraphSAGEConfig) -> None:
        super().__init__(config)
        self.facts = ModelFacts(scores_cold_user=True, scores_cold_content=True, draws_on=config.facts)
        self.device = device_of(config.device)

    def fit(self, training: Training) -> None:
        config = self.config
        self._liked = training.positives.astype(bool).tocsr()
        self._graph = relation_graph(training, config.facts, config.least_links)
        self._learned = torch.arange(len(self._graph.positives))
        features = content_features(training.graph, training.rankable, config.features_config())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.module = Encoder(config, self._graph, features).to(self.device)
        self._sampler = SAMPLERS[config.sampler](self._graph.edges)
        every = torch.arange(self._graph.edges.nodes)
        self._whole = [block.to(self.device) for block in whole(self._graph.edges, every)]
        counts = np.bincount(self._liked.indices, minlength=self._graph.contents)
        self._candidates = Candidates(
            counts, training.rankable, config.batch, config.negatives, config.negative_count
        )

    def follow(self, arrays: Mapping[str, np.ndarray], training: Training) -> None:
        """Makes ready to go on learning from saved parameters, on other likes.

        Raises:
            ValueError: the graph of this training has other nodes than that of the parameters.
        """
        self.fit(training)
        named = self.module.state_dict()
        state = {name: torch.from_numpy(np.array(arrays[f"parameter.{name}"])) for name in named}
        if other := [name for name, value in state.items() if value.shape != named[name].shape]:
            raise ValueError(
                f"parameters must be of a graph with the nodes of this one, {other[0]} is "
                f"{tuple(state[other[0]].shape)} for {tuple(named[other[0]].shape)}: fit the model anew"
            )
        self.module.load_state_dict(state)

    def learn(self, is_learned: np.ndarray) -> None:
        """Lets steps ask for these likes alone, (p,) bool as training's stand; the others are still heard."""
        self._learned = torch.from_numpy(np.flatnonzero(is_learned))

    def examples(self, generator: torch.Generator, count: int) -> Iterator[Callable[[], Tensor]]:
        """Callables, each giving the () loss of one like that :meth:`learn` lets in."""
        self._sampler.seed(int(torch.randint(2**31, (), generator=generator)))
        drawn = self._learned[torch.randint(len(self._learned), (count,), generator=generator)]
        for position in drawn.split(1):
            yield lambda position=position: self._loss(position, generator)

    def steps(self, generator: torch.Generator) -> Iterator[Callable[[], Tensor]]:
        """One epoch over all positives in random order; dropout draws from torch's own generator."""
        self.module.train()
        self._sampler.seed(int(torch.randint(2**31, (), generator=generator)))
        order = self._learned[torch.randperm(len(self._learned), generator=generator)]
        for positions in order.split(self.config.batch):
            yield lambda positions=positions: self._loss(positions, generator)

    def freeze(self) -> None:
        was_training = self.module.training
        self.module.eval()
        with torch.no_grad():
            vectors = self.module.everywhere(self._whole, self._graph.edges.nodes)
            scale = self.module.scale.item()
        self.module.train(was_training)
        users, contents = vectors[: self._graph.users], vectors[self.module.contents]
        kept = (users * scale).cpu().numpy(), contents.cpu().numpy(), np.diff(self._liked.indptr) > 0
        self._keep(*kept, length=scale)

    def listening(self, user_row: int) -> Listening:
        """How much the last layer hears of each title that a user liked in training.

        Raises:
            ValueError: the model is not trained in this process, the user liked nothing in training, or the
                attention has no weights of single neighbours.
        """
        if getattr(self, "module", None) is None or not self._liked[[user_row]].nnz:
            raise ValueError(
                f"listening needs a model trained in this process and a user it knows, got row {user_row}: "
                "fit it, and choose a user with likes in training"
            )
        targets, edges = torch.tensor([user_row]), self._graph.edges
        blocks = TorchSampler(edges).sample(targets, [EVERY] * len(self.module.layers))
        was_training = self.module.training
        self.module.eval()
        with torch.no_grad():
            weights = self.module.weights([block.to(self.device) for block in blocks])[0].cpu()
        self.module.train(was_training)
        last = blocks[-1]
        nodes = last.source[last.neighbours[0]]
        return Listening(
            (nodes - self._graph.users).numpy(), edges.age_s[last.edge[0]].numpy(), weights.numpy()
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Vectors that scoring needs, and each parameter as ``parameter.<name>`` for who looks into it."""
        module = getattr(self, "module", None)
        if module is None:
            return super().arrays()
        learned = {
            f"parameter.{name}": value.detach().cpu().numpy() for name, value in module.state_dict().items()
        }
        return super().arrays() | learned

    def _loss(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        graph = self._graph
        users, user = torch.unique(graph.positives[positions, 0], return_inverse=True)
        liked = graph.positives[positions, 1].contiguous() - graph.users
        contents, log_chance = self._candidates.draw(liked, generator)
        targets = torch.cat([users, contents + graph.users])
        blocks = self._sampler.sample(targets, self.config.fan_out, graph.hidden(positions))
        vectors = self.module([block.to(self.device) for block in blocks])
        scores = self.module.scale * vectors[: len(users)] @ vectors[len(users) :].T  # (v, c)
        is_liked = torch.from_numpy(self._liked[users.numpy()][:, contents.numpy()].toarray())
        column = torch.searchsorted(contents, liked)
        given = (user, column, is_liked, log_chance)
        return LOSSES[self.config.loss](scores, *(part.to(self.device) for part in given))
