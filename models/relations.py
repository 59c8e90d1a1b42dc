"""The training graph as one set of nodes and directed edges: what users liked, and facts about contents.

n nodes: users first, then contents, then the other nodes that link contents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from kg import schema
from kg.arrays import GraphArrays
from models.interface import Training
from models.neighbourhood import Edges

LIKED = "RATED"


@dataclass(frozen=True)
class RelationGraph:
    """Nodes and edges that a graph model reads; both directions of a fact are relations of their own."""

    edges: Edges
    """What was liked comes first: edge j goes from the content to the user of positive j, edge j + m back."""
    node_type: Tensor
    """(n,) int64 code of each node's type."""
    types: tuple[str, ...]
    """Node type by code."""
    relations: tuple[str, ...]
    """Relation by code; one that ends in ``^`` goes from the last role to the first."""
    users: int
    contents: int
    positives: Tensor
    """(m, 2) int64 nodes, user and content, of what was liked in training."""
    is_core: Tensor
    """(n,) bool, nodes whose messages others read: the rest receives only."""

    @property
    def degree(self) -> Tensor:
        """(n,) float32 number of neighbours of each node, over all relations."""
        return torch.bincount(self.edges.target, minlength=self.edges.nodes).float()

    def hidden(self, positions: Tensor) -> Tensor:
        """Edges of these positives in both directions."""
        return torch.cat([positions, positions + len(self.positives)])


def relation_graph(training: Training, facts: Sequence[str], least_links: int = 2) -> RelationGraph:
    """What training may see, as nodes and edges.

    Contents that may be recommended, or that somebody liked, form the core with the users; all other contents
    receive messages and send none, so no sampled neighbourhood ever reaches them. A node of another type is
    kept where it links ``least_links`` contents of the core: fewer tell no content anything of another.

    Args:
        training: positives, and the graph for everything else.
        facts: binary fact types between contents, or a content and one other node.
        least_links: contents that a node of another type must link, >= 1.

    Raises:
        ValueError: a fact that is not binary, has no content, or is what users did.
    """
    for fact in facts:
        kind = schema.FACTS.get(fact)
        about_content = kind is not None and any("Content" in role.types for role in kind.roles)
        if not about_content or not kind.is_binary or fact in schema.USER_FACTS:
            raise ValueError(
                f"a graph model reads binary facts about contents, got {fact!r}: "
                "leave it out of `facts`; what users liked is read from training.positives"
            )
    users, contents = training.positives.shape
    liked = training.positives.tocoo()
    is_core = training.rankable | (np.bincount(liked.col, minlength=contents) > 0)
    pairs = {fact: _distinct(training.graph.pairs(fact)) for fact in facts}
    places = {"User": np.arange(users), "Content": users + np.arange(contents)}
    types, counts = ["User", "Content"], [users, contents]
    for type, links in _links(training.graph, pairs, is_core).items():
        kept = links >= least_links
        places[type] = np.where(kept, sum(counts) + np.cumsum(kept) - 1, -1)
        types.append(type)
        counts.append(int(kept.sum()))
    sends = np.concatenate(
        [np.bincount(liked.row, minlength=users) > 0, is_core, np.ones(sum(counts[2:]), bool)]
    )
    user, content = liked.row.astype(np.int64), users + liked.col.astype(np.int64)
    parts = [(content, user, 0), (user, content, 1)]
    relations = [f"{LIKED}^", LIKED]
    for fact, (first, second) in pairs.items():
        types_of = [role.types[0] for role in schema.FACTS[fact].roles]
        first, second = places[types_of[0]][first], places[types_of[1]][second]
        inside = (first >= 0) & (second >= 0)
        for name, source, target in ((fact, first, second), (f"{fact}^", second, first)):
            heard = inside & sends[source]
            parts.append((source[heard], target[heard], len(relations)))
            relations.append(name)
    edges = Edges(
        torch.from_numpy(np.concatenate([source for source, _, _ in parts])),
        torch.from_numpy(np.concatenate([target for _, target, _ in parts])),
        torch.from_numpy(np.repeat([code for _, _, code in parts], [len(source) for source, _, _ in parts])),
        len(sends),
        len(relations),
        _starts(training, liked, sum(len(source) for source, _, _ in parts)),
        training.seed,
    )
    node_type = torch.from_numpy(np.repeat(np.arange(len(types)), counts))
    positives = torch.from_numpy(np.stack([user, content], 1))
    return RelationGraph(
        edges, node_type, tuple(types), tuple(relations), users, contents, positives, torch.from_numpy(sends)
    )


def _starts(training: Training, liked: sp.coo_array, edges: int) -> Tensor:
    """(e,) int64 UTC seconds: likes have times and come first, in both directions; all else always holds."""
    starts = torch.zeros(edges, dtype=torch.int64)
    times = training.times.tocsr()[liked.row, liked.col]
    starts[: 2 * liked.nnz] = torch.from_numpy(np.asarray(times, np.int64).ravel()).repeat(2)
    return starts


def _distinct(pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Each pair once: two credits of one kind are one edge."""
    if not len(pairs[0]):
        return pairs
    first, second = np.unique(np.stack(pairs), axis=1)
    return first, second


def _links(
    graph: GraphArrays, pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], is_core: np.ndarray
) -> dict[str, np.ndarray]:
    """How many contents of the core each node of another type is linked to, by type."""
    linked: dict[str, list[np.ndarray]] = {}
    for fact, found in pairs.items():
        kinds = [role.types[0] for role in schema.FACTS[fact].roles]
        if kinds == ["Content", "Content"]:
            continue
        at = kinds.index("Content")
        inside = is_core[found[at]]
        linked.setdefault(kinds[1 - at], []).append(np.stack([found[1 - at][inside], found[at][inside]]))
    return {
        type: np.bincount(np.unique(np.concatenate(rows, 1), axis=1)[0], minlength=graph.size(type))
        for type, rows in sorted(linked.items())
    }
