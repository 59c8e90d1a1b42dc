"""Attention over a graph of many kinds: the types at both ends and the relation choose the parameters.

| name | answer | source | cost |
|---|---|---|---|
| heterogeneous | Σ softmax(μ_r K W_r Q / √c) V M_r, K, Q, V by type | Hu et al. 2020 | O(p d c + b k d) |
| bipartite | a user reads all but users, all else reads users | Lu et al. 2019, section 3.1 | O(b k d) |
| message_passing | GRU(Σ α_ij MLP([h_i ‖ h_j ‖ x_ij]), h_i) | Gilmer et al. 2017, eq. 1–2 | O(b q k d) |
| sheaf | W mean F_iᵀ F_j h_j, F learned rotations | Bodnar et al. 2022 | O(b k d) |

b targets in the batch · q queries per target · k neighbours · s distinct source rows · p distinct pairs of
row and code · d feature width · h heads · c = d // h · e features of an edge."""

import math

import torch
from torch import Tensor, nn

from models.attention.base import (
    Attention,
    AttentionConfig,
    Pairs,
    attentions,
    gather,
    masked_softmax,
    seen,
    split_heads,
)
from models.attention.mixing import mixed

USER = 0
"""Code of the type that is a user."""


@attentions.register("heterogeneous", AttentionConfig)
class Heterogeneous(Attention):
    """Projections for each node type, and matrices and a prior for each relation between them.

    Score μ_r (K_t(j) h_j) W_r (Q_t(i) h_i) / √c, message (V_t(j) h_j) M_r, both per head; the answer is
    A_t(i) gelu(Σ α message). Projections act once per distinct row, matrices of relations once per distinct
    row and relation.

    Source: Hu, Dong, Wang, Sun, "Heterogeneous Graph Transformer", WWW 2020, arXiv:2003.01332, section 3. The
    prior is one of a relation and head (a relation fixes the types at its ends), as in the authors' code; the
    residual is left to the encoder.

    Cost: O(s d² + p d c + b q k d) time for p distinct pairs of row and relation, O(b h q k + p d) memory;
    4 d² parameters a type and 2 d c a relation.

    Example:
        >>> layer, source = Heterogeneous(AttentionConfig(dim=1)), torch.tensor([[2.0], [4.0]])
        >>> for part in layer.parameters():
        ...     _ = part.data.fill_(1.0)
        >>> code = torch.zeros(1, 2, dtype=torch.int64)
        >>> of = {"relation": code, "query_type": code[:, :1], "key_type": code}
        >>> pairs = Pairs(torch.ones(1, 2, dtype=torch.bool), **of)
        >>> layer.weights(torch.zeros(1, 1, 1), source, torch.tensor([[0, 1]]), pairs).tolist()
        [[[[0.5, 0.5]]]]
    """

    family = "graph"
    nature = "mechanism"
    causal = True
    takes_mask = True
    uses_relation = True
    uses_type = True

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        width = config.dim // config.heads
        self.of_query = _matrices(config.types, config.dim, config.dim)
        self.of_source = _matrices(config.types, config.dim, 2 * config.dim)  # keys and values
        self.out = _matrices(config.types, config.dim, config.dim)
        self.match = _matrices(config.relations, config.heads, width, width)  # W_r
        self.message = _matrices(config.relations, config.heads, width, width)  # M_r
        self.prior = nn.Parameter(torch.ones(config.relations, config.heads))  # μ

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        weights, values, place = self._parts(query, source, neighbours, pairs)
        answer = mixed(weights, values, place)
        return _by_code(nn.functional.gelu(answer), pairs.query_type, self.out)

    def weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, h, q, k) weight of each neighbour, 0 where it may not be seen."""
        return self._parts(query, source, neighbours, pairs)[0]

    def _parts(
        self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(b, h, q, k) weights, (p, d) values and (b, k) rows of these."""
        self.check(query, source, neighbours, pairs)
        heads = self.config.heads
        source, place = _rows(source, neighbours)
        row, kind, place = distinct(place, pairs.key_type, source.shape[0], self.config.types)
        both = _by_code(source.index_select(0, row), kind, self.of_source)
        row, relation, place = distinct(place, pairs.relation, both.shape[0], self.config.relations)
        both = both.index_select(0, row).unflatten(-1, (2 * heads, -1))  # (p, 2 h, c)
        matrices = torch.cat([self.prior[..., None, None] * self.match, self.message], 1)
        key, value = _by_code(both, relation, matrices).chunk(2, 1)  # (p, h, c)
        query = split_heads(_by_code(query, pairs.query_type, self.of_query), heads)
        weights = _dot_product(query, split_heads(gather(key.flatten(1), place), heads), pairs)
        return weights, value.flatten(1), place


@attentions.register("bipartite", AttentionConfig)
class Bipartite(Attention):
    """Cross attention between users and all else, in both directions with parameters of their own.

    A user reads only neighbours that are no users, anything else reads only users; neighbours of its own
    kind are not seen.

    Source: the two cross attentions between the sides of a graph of users and items, as the co-attention of
    Lu et al., "ViLBERT", NeurIPS 2019, arXiv:1908.02265, section 3.1, between two modalities: queries of one
    side, keys and values of the other. One layer, without its feed-forward blocks.

    Cost: O(s d² + b q k d) time, O(b h q k) memory; 8 d² parameters.

    Example:
        >>> layer, source = Bipartite(AttentionConfig(dim=1)), torch.tensor([[2.0], [4.0]])
        >>> of = {"query_type": torch.tensor([[0]]), "key_type": torch.tensor([[0, 1]])}
        >>> pairs = Pairs(torch.ones(1, 2, dtype=torch.bool), **of)
        >>> layer.weights(torch.zeros(1, 1, 1), source, torch.tensor([[0, 1]]), pairs).tolist()
        [[[[0.0, 1.0]]]]
    """

    family = "graph"
    nature = "mechanism"
    causal = True
    takes_mask = True
    uses_type = True

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        self.of_query = _matrices(2, config.dim, config.dim)  # of a user, of anything else
        self.of_source = _matrices(2, config.dim, 2 * config.dim)  # keys and values, in the same order
        self.out = _matrices(2, config.dim, config.dim)

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        weights, values, place = self._parts(query, source, neighbours, pairs)
        return _by_code(mixed(weights, values, place), (pairs.query_type != USER).long(), self.out)

    def weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, h, q, k) weight of each neighbour, 0 where it may not be seen."""
        return self._parts(query, source, neighbours, pairs)[0]

    def _parts(
        self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(b, h, q, k) weights, (p, d) values and (b, k) rows of these."""
        self.check(query, source, neighbours, pairs)
        heads = self.config.heads
        of_query, of_key = (pairs.query_type != USER).long(), (pairs.key_type != USER).long()
        source, place = _rows(source, neighbours)
        row, side, place = distinct(place, of_key, source.shape[0], 2)
        key, value = _by_code(source.index_select(0, row), side, self.of_source).chunk(2, -1)  # (p, d)
        query = split_heads(_by_code(query, of_query, self.of_query), heads)
        is_across = of_query[..., None] != of_key[:, None]  # (b, q, k)
        weights = _dot_product(query, split_heads(gather(key, place), heads), pairs, is_across)
        return weights, value, place


@attentions.register("message_passing", AttentionConfig)
class MessagePassing(Attention):
    """Messages by a small network of query, neighbour and edge, summed into a GRU whose state is the query.

    m_i = Σ α_ij MLP([h_i ‖ h_j ‖ x_ij]), answer GRU(m_i, h_i); α is softmax of scaled dot products. The first
    layer of the MLP is a sum of three parts, that of h_j once per source row; the second acts on the sum of
    all messages, which is the same because it is linear and the weights sum to one.

    Source: Gilmer et al., "Neural Message Passing for Quantum Chemistry", ICML 2017, arXiv:1704.01212,
    eq. 1–2, with the GRU of its section 2 (Li et al. 2016). Weights α are ours: the paper's are all one. A
    query that sees no neighbour gets zeros, not its own state.

    Cost: O(b q k d + b k e d + (b q + s) d²) time, O(b q k d) memory.

    Example:
        >>> layer, source = MessagePassing(AttentionConfig(dim=1)), torch.tensor([[2.0]])
        >>> for part in layer.parameters():
        ...     _ = part.data.fill_(1.0)
        >>> pairs = Pairs(torch.tensor([[True]]), edge=torch.tensor([[[3.0]]]))  # relu(1 + 2 + 3 + 1) + 1
        >>> layer.messages(torch.ones(1, 1, 1), source, torch.tensor([[0]]), pairs).item()
        8.0
    """

    family = "graph"
    nature = "mechanism"
    causal = True
    takes_mask = True
    uses_edge = True

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        d = config.dim
        self.ask, self.answer = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.of_query = nn.Linear(d, d)
        self.of_key = nn.Linear(d, d, bias=False)
        self.of_edge = nn.Linear(config.edge_width, d, bias=False)
        self.second = nn.Linear(d, d)
        self.cell = nn.GRUCell(d, d)

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        self.check(query, source, neighbours, pairs)
        message = self.messages(query, source, neighbours, pairs)
        answer = self.cell(message.flatten(0, 1), query.flatten(0, 1)).view_as(query)
        return answer * seen(pairs, query.shape[1]).any(-1, keepdim=True)

    def weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, h, q, k) weight of each neighbour, 0 where it may not be seen."""
        self.check(query, source, neighbours, pairs)
        return self._weights(query, source, neighbours, pairs)

    def messages(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, q, d) weighted sum of the messages to each query."""
        fixed = gather(self.of_key(source), neighbours) + self.of_edge(pairs.edge)  # (b, k, d)
        hidden = (self.of_query(query)[:, :, None] + fixed[:, None]).relu()  # (b, q, k, d)
        weights = self._weights(query, source, neighbours, pairs)
        summed = torch.einsum("bhqk,bqkhc->bqhc", weights, hidden.unflatten(-1, (self.config.heads, -1)))
        return self.second(summed.flatten(2))

    def _weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        heads = self.config.heads
        key = split_heads(gather(self.answer(source), neighbours), heads)
        return _dot_product(split_heads(self.ask(query), heads), key, pairs)


@attentions.register("sheaf", AttentionConfig)
class Sheaf(Attention):
    """Neighbours are carried into the frame of the query before their mean is taken: W mean_j F_iᵀ F_j h_j.

    F is an orthogonal map of a node into the frame of an edge: in each head a rotation of pairs of
    features by a learned angle π tanh(u . h_node + v . h_other). All weights are alike; what is learned is
    how a neighbour must be turned so that differing ones can agree.

    Source: Bodnar et al., "Neural Sheaf Diffusion: A Topological Perspective on Heterophily and Oversmoothing
    in GNNs", NeurIPS 2022, arXiv:2202.04579: one step of diffusion by the normalised sheaf Laplacian with
    orthogonal maps of width 2, here rotations alone. Its own term h_i is left to the encoder; the channels of
    a head share their map.

    Cost: O(s d h + b q k d) time: two weighted sums, by cosine and sine of the angle between the frames.

    Example:
        >>> layer, source = Sheaf(AttentionConfig(dim=2)), torch.tensor([[2.0, 5.0], [4.0, 7.0]])
        >>> layer.own.data, layer.out.weight.data = torch.zeros(1, 2), torch.eye(2)
        >>> layer.other.data = torch.zeros(1, 2)  # no turn: the mean
        >>> pairs = Pairs(torch.tensor([[True, True]]))
        >>> layer(torch.zeros(1, 1, 2), source, torch.tensor([[0, 1]]), pairs).tolist()
        [[[3.0, 6.0]]]
    """

    family = "extra"
    nature = "mechanism"
    causal = True
    takes_mask = True

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        if config.dim // config.heads % 2:
            raise ValueError(
                f"a head needs an even width to turn, got dim={config.dim} and heads={config.heads}: "
                "change one of them"
            )
        self.own = _matrices(config.heads, config.dim)  # u
        self.other = _matrices(config.heads, config.dim)  # v
        self.out = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        self.check(query, source, neighbours, pairs)
        angle = self.angles(query, source, neighbours)
        visible = seen(pairs, query.shape[1])[:, None].to(query.dtype)
        share = visible / visible.sum(-1, keepdim=True).clamp(min=1)  # (b, 1, q or 1, k)
        straight = mixed(share * angle.cos(), source, neighbours)
        across = mixed(share * angle.sin(), source, neighbours)
        first, second = across.unflatten(-1, (-1, 2)).unbind(-1)
        return self.out(straight + torch.stack([-second, first], -1).flatten(-2))

    def angles(self, query: Tensor, source: Tensor, neighbours: Tensor | None) -> Tensor:
        """(b, h, q, k) by which each neighbour is turned on its way to the query, radians."""
        own, other = self.own.T, self.other.T  # (d, h)
        of_query = torch.tanh(
            (query @ own).transpose(1, 2)[..., None]
            + gather(source @ other, neighbours).transpose(1, 2)[:, :, None]
        )
        of_key = torch.tanh(
            (query @ other).transpose(1, 2)[..., None]
            + gather(source @ own, neighbours).transpose(1, 2)[:, :, None]
        )
        return math.pi * (of_key - of_query)


def distinct(place: Tensor, code: Tensor, rows: int, codes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Each pair of row and code once, for what depends on both.

    Args:
        place: (b, k) int64 rows 0..rows−1.
        code: (b, k) int64 codes 0..codes−1.
        rows: of the source.
        codes: that there are.

    Returns:
        (p,) int64 rows, (p,) int64 codes, and (b, k) int64 which of these stands where.

    Example:
        >>> row, code, place = distinct(torch.tensor([[0, 2, 0]]), torch.tensor([[1, 0, 1]]), 3, 2)
        >>> row.tolist(), code.tolist(), place.tolist()
        ([2, 0], [0, 1], [[1, 0, 1]])
    """
    pair = code * rows + place
    is_there = torch.zeros(codes * rows, dtype=torch.bool, device=place.device)
    is_there[pair.flatten()] = True
    found_code, found_row = is_there.view(codes, rows).nonzero().unbind(1)
    return found_row, found_code, (is_there.cumsum(0) - 1)[pair]


def _rows(source: Tensor, neighbours: Tensor | None) -> tuple[Tensor, Tensor]:
    """(s, d) rows and (b, k) places, whichever way a source was handed in."""
    if neighbours is not None:
        return source, neighbours
    b, k, d = source.shape
    return source.reshape(b * k, d), torch.arange(b * k, device=source.device).view(b, k)


def _by_code(features: Tensor, code: Tensor, matrices: Tensor) -> Tensor:
    """(…, d) or (…, h, c) features, each by the one of (codes, d, e) or (codes, h, c, c) that (…,) names."""
    order = code.flatten().argsort()
    found = torch.searchsorted(code.flatten()[order], torch.arange(len(matrices) + 1, device=code.device))
    parts = features.flatten(0, code.ndim - 1).index_select(0, order).split(found.diff().tolist())
    chosen = [torch.einsum("n...c,...ce->n...e", *pair) for pair in zip(parts, matrices, strict=True)]
    answer = torch.cat(chosen).index_select(0, order.argsort())
    return answer.view(*features.shape[:-1], matrices.shape[-1])


def _dot_product(query: Tensor, key: Tensor, pairs: Pairs, is_open: Tensor | None = None) -> Tensor:
    """(b, h, q, k) softmax of scaled dot products over the keys that a query sees, and (b, q, k) are open."""
    visible = seen(pairs, query.shape[2])
    if is_open is not None:
        visible = visible & is_open
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
    return masked_softmax(scores, visible)


def _matrices(*shape: int) -> nn.Parameter:
    """Learned matrices, uniform within 1 / √c of zero for c inputs, as ``nn.Linear`` starts."""
    bound = 1 / math.sqrt(shape[-2])
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))
