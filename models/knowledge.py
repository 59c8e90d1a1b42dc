"""Attention over the collaborative knowledge graph: each node hears its neighbours by what relates them.

n nodes: users first, then contents, then the others · e edges · r relations · p distinct pairs of tail and
relation · q distinct pairs of head and relation · d width of a vector · c width of a relation's space."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.interface import ModelFacts, Training, recommenders
from models.neighbourhood import Edges
from models.relations import RelationGraph, relation_graph
from models.whole_graph import Spread, WholeGraphConfig, WholeGraphRecommender, csr


@dataclass(frozen=True)
class KnowledgeConfig(WholeGraphConfig):
    """Settings of :class:`KnowledgeAttention`; facts must be binary."""

    relation_width: int = 16
    """Width c of the space of a relation, in which attention is measured, > 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relation_width < 1:
            raise ValueError(f"relation_width must be 1 or more, got {self.relation_width}")


class Hearing(nn.Module):
    """Edges sorted by who hears (the head of a triple); the source of an edge is its tail.

    A vector that depends on node and relation is made once per distinct pair, not once per edge.
    """

    def __init__(self, edges: Edges) -> None:
        super().__init__()
        order = torch.argsort(edges.target * edges.relations + edges.relation, stable=True)
        head, tail, relation = edges.target[order], edges.source[order], edges.relation[order]
        self.nodes, self.relations = edges.nodes, edges.relations
        tails, tail_pair = torch.unique(relation * edges.nodes + tail, return_inverse=True)
        heads, head_pair = torch.unique(relation * edges.nodes + head, return_inverse=True)
        back = torch.argsort(tail_pair, stable=True)
        kept = {
            "head": head,
            "tail_pair": tail_pair,
            "head_pair": head_pair,
            "tail_node": tails % edges.nodes,
            "tail_relation": tails // edges.nodes,
            "head_node": heads % edges.nodes,
            "head_relation": heads // edges.nodes,
            "back": back,
            "row_start": _starts(head, edges.nodes),
            "back_start": _starts(tail_pair, len(tails)),
        }
        for name, part in kept.items():
            self.register_buffer(name, part, persistent=False)

    def weighted(self, weight: Tensor, message: Tensor) -> Tensor:
        """(e,) weights, (p, d) messages -> (n, d): each head's sum of what it hears."""
        return _WeightedSum.apply(weight, message, self)

    def normalised(self, score: Tensor) -> Tensor:
        """(e,) scores -> (e,) softmax over the edges of each head."""
        most = score.new_full((self.nodes,), -torch.inf)
        most = most.scatter_reduce(0, self.head, score.detach(), "amax")
        weight = (score - most[self.head]).exp()
        total = weight.new_zeros(self.nodes).index_add(0, self.head, weight)
        return weight / total[self.head]


def _starts(group: Tensor, count: int) -> Tensor:
    """(count + 1,) where each group begins among sorted members."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(group, minlength=count).cumsum(0)])


class _WeightedSum(torch.autograd.Function):
    """Sparse times dense, where the entries of the sparse matrix are learned too."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, message: Tensor, hearing: Hearing) -> Tensor:
        ctx.save_for_backward(weight, message)
        ctx.hearing = hearing
        shape = (hearing.nodes, len(message))
        return csr(hearing.row_start, hearing.tail_pair, weight, shape) @ message

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (weight, message), hearing = ctx.saved_tensors, ctx.hearing
        shape = (len(message), hearing.nodes)
        back = hearing.back
        to_message = csr(hearing.back_start, hearing.head[back], weight[back], shape) @ gradient
        to_weight = (
            _dots(gradient, hearing.head, message, hearing.tail_pair) if ctx.needs_input_grad[0] else None
        )
        return to_weight, to_message, None


def _dots(first: Tensor, row: Tensor, second: Tensor, column: Tensor, chunk: int = 1 << 15) -> Tensor:
    """(e,) first[row] · second[column], in chunks that stay in the cache."""
    parts = [
        (first.index_select(0, at) * second.index_select(0, to)).sum(1)
        for at, to in zip(row.split(chunk), column.split(chunk), strict=True)
    ]
    return torch.cat(parts) if parts else first.new_empty(0)


class RelationalAttention(Spread):
    """Learned node vectors, spread by attention; the answer is the mean over all layers."""

    def __init__(self, config: KnowledgeConfig, graph: RelationGraph) -> None:
        super().__init__()
        self.users, self.contents, self.layers = graph.users, graph.contents, config.layers
        self.dropout = config.dropout
        nodes, relations, width = graph.edges.nodes, graph.edges.relations, config.width
        core = graph.is_core.nonzero().flatten()
        self.nodes = nodes
        self.node_vector = nn.Parameter(torch.randn(len(core), width) * config.embedding_sd)
        self.relation_message = nn.Parameter(1 + torch.randn(relations, width) * config.embedding_sd)
        self.relation_vector = nn.Parameter(
            torch.randn(relations, config.relation_width) * config.embedding_sd
        )
        self.relation_matrix = nn.Parameter(torch.empty(relations, width, config.relation_width))  # W_r
        nn.init.normal_(self.relation_matrix, std=width**-0.5)
        self.to_core = Hearing(_into(graph.edges, graph.is_core))
        self.to_all = self.to_core if graph.is_core.all() else Hearing(graph.edges)
        self.register_buffer("core", core, persistent=False)

    def forward(self) -> Tensor:
        return self._spread(self.to_core)

    def everywhere(self) -> Tensor:
        return self._spread(self.to_all)

    def attention(self, hearing: Hearing) -> Tensor:
        """(e,) weight of each edge of ``hearing``; those into one head sum to one."""
        start = self._start()
        tail = self._related(start, hearing.tail_node, hearing.tail_relation)  # (p, c)
        head = self._related(start, hearing.head_node, hearing.head_relation)  # (q, c)
        head = torch.tanh(head + self.relation_vector[hearing.head_relation])
        score = (head.index_select(0, hearing.head_pair) * tail.index_select(0, hearing.tail_pair)).sum(1)
        return hearing.normalised(score)

    def _start(self) -> Tensor:
        """(n, d) vectors before anything is heard; who only receives has none."""
        vectors = self.node_vector.new_zeros(self.nodes, self.node_vector.shape[1])
        return vectors.index_copy(0, self.core, self.node_vector)

    def _related(self, vectors: Tensor, node: Tensor, relation: Tensor) -> Tensor:
        """W_r e for each pair, sorted by relation: (p, c)."""
        counts = torch.bincount(relation, minlength=len(self.relation_matrix)).tolist()
        groups = vectors.index_select(0, node).split(counts)
        return torch.cat([group @ matrix for group, matrix in zip(groups, self.relation_matrix, strict=True)])

    def _spread(self, hearing: Hearing) -> Tensor:
        weight = self.attention(hearing)
        if self.training and self.dropout:
            weight = nn.functional.dropout(weight, self.dropout)
        message = self.relation_message[hearing.tail_relation]  # (p, d)
        hidden = summed = self._start()
        for _ in range(self.layers):
            hidden = hearing.weighted(weight, hidden.index_select(0, hearing.tail_node) * message)
            summed = summed + hidden
        return summed / (self.layers + 1)


def _into(edges: Edges, is_target: Tensor) -> Edges:
    """Only the edges into these nodes."""
    kept = is_target[edges.target]
    parts = (part[kept] for part in (edges.source, edges.target, edges.relation))
    return Edges(*parts, edges.nodes, edges.relations)


@recommenders.register("knowledge", KnowledgeConfig)
class KnowledgeAttention(WholeGraphRecommender):
    """Learned vectors, spread over what users liked and what is known of contents, by relation.

    The weight of a neighbour is softmax over a head's edges of (W_r e_tail) · tanh(W_r e_head + e_r); the
    message is e_r ⊙ e_tail, so that a relation says which sides of a neighbour count.

    Source: attention of Wang et al., "KGAT", KDD 2019, arXiv:1905.07854, eq. 4 and 5; message and sum of
    layers of Wang et al., "Learning Intents behind Interactions" (KGIN), WWW 2021, arXiv:2102.07057, eq. 7
    to 10. Ours learns attention by the loss of recommendation alone (KGAT adds TransR), measures it once a
    step on the vectors before the first layer, and has no intents of users.

    Cost: O(e (d · layers + c)) a step, and O(e) memory besides the vectors.
    """

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=True, draws_on=WholeGraphConfig.facts)
    config: KnowledgeConfig

    def __init__(self, config: KnowledgeConfig) -> None:
        super().__init__(config)
        self.facts = ModelFacts(scores_cold_user=True, scores_cold_content=True, draws_on=config.facts)

    def _spread(self, training: Training) -> RelationalAttention:
        graph = relation_graph(training, self.config.facts, self.config.least_links)
        return RelationalAttention(self.config, graph)
