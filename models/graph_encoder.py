"""What GraphSAGE learns: node vectors, and layers that hear neighbours through any registered attention.

n nodes · b targets · k neighbours · h heads · s distinct source rows · p distinct pairs of row and relation ·
r relations · d width of a layer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from configs.registry import SettingError, fill
from kg import schema
from models.attention import Attention, AttentionConfig, Pairs, attentions
from models.attention.base import READS
from models.features import FeaturesConfig
from models.losses import LOSSES
from models.negatives import SOURCES
from models.neighbourhood import Block, DGLSampler, Sampler, TorchSampler
from models.relations import RelationGraph

FACTS = (
    "BELONGS_TO",
    "ACTED_IN",
    "DIRECTED",
    "WROTE",
    "PRODUCED",
    "SHOT",
    "HAS_KEYWORD",
    "MADE_BY",
    "MADE_IN",
    "SPOKEN_IN",
    "AWARDED",
    "SEQUEL_OF",
)
EDGE_WIDTH = 2
"""Features of an edge that a mechanism may read: how old its fact is, and whether it has a time at all."""
SAMPLERS: Mapping[str, type[Sampler]] = {"dgl": DGLSampler, "torch": TorchSampler}


@dataclass(frozen=True)
class GraphSAGEConfig:
    """Settings of :class:`GraphSAGE`."""

    widths: tuple[int, ...] = (512, 256, 128, 64)
    """Width of the input, then of each layer; one more than layers."""
    fan_out: tuple[int, ...] = (25, 15, 10)
    """Neighbours per node in all, the layer nearest the target first; -1 takes all."""
    heads: tuple[int, ...] = (8, 4, 2)
    """Heads of the attention in each layer, input layer first; each divides the layer's width."""
    attention: Mapping[str, Any] = field(default_factory=lambda: {"name": "graphsage"})
    """``name`` of a registered attention, and its own settings."""
    bases: int = 4
    """Matrices of a layer that its relations share, >= 1."""
    dropout: float = 0.1
    """Share of a layer's answer that is dropped while training, in [0, 1)."""
    facts: tuple[str, ...] = FACTS
    """Binary facts about contents that are read besides what users liked."""
    least_links: int = 2
    """Contents that a node of another type must link to be read, >= 1."""
    features: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`models.features.FeaturesConfig`."""
    loss: str = "softmax"
    """Sampled softmax with log-Q correction, or BPR."""
    negatives: str = "uniform"
    """Where negatives come from besides the batch itself."""
    negative_count: int = 1024
    """Contents drawn for a batch, for ``uniform`` and ``popularity``."""
    batch: int = 2048
    """Positives of a step."""
    embedded: tuple[str, ...] = tuple(schema.NODES)
    """Types whose nodes each have a learned vector of their own; others start from that of their type."""
    temperature: float = 0.2
    """Cosines are divided by it."""
    is_temperature_learned: bool = False
    """True lets it move from there: it falls until the positives of training are known by heart."""
    embedding_sd: float = 0.1
    """Standard deviation of the learned node vectors at the start."""
    sampler: str = "dgl"
    """Which sampler draws neighbourhoods while training."""
    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto``: cuda where there is one."""

    def __post_init__(self) -> None:
        layers = len(self.widths) - 1
        if not layers == len(self.fan_out) == len(self.heads) >= 1:
            raise ValueError(
                f"widths must hold one number more than fan_out and heads, got {len(self.widths)}, "
                f"{len(self.fan_out)} and {len(self.heads)}: write one fan_out and one heads a layer"
            )
        for name, value, choice in (
            ("loss", self.loss, tuple(LOSSES)),
            ("negatives", self.negatives, SOURCES),
            ("sampler", self.sampler, tuple(SAMPLERS)),
        ):
            if value not in choice:
                raise ValueError(f"{name} must be one of {', '.join(choice)}, got {value!r}")
        if min(self.bases, self.batch, self.negative_count, self.temperature) <= 0:
            raise ValueError(f"bases, batch, negative_count and temperature must be above 0, got {self}")
        self.features_config()
        for layer in range(layers):
            self.attention_config(layer)

    def features_config(self) -> FeaturesConfig:
        """Settings of the content features."""
        return fill(FeaturesConfig, self.features, "features")

    def attention_config(self, layer: int, relations: int = 1, types: int = 1) -> AttentionConfig:
        """Settings of the attention of one layer, 0 nearest the input."""
        width, heads = self.widths[layer + 1], self.heads[layer]
        settings = dict(self.attention)
        name = settings.pop("name", "graphsage")
        given = {"dim": width, "relations": relations, "types": types, "edge_width": EDGE_WIDTH}
        if clash := sorted(settings.keys() & given.keys()):
            raise SettingError(
                f"attention {name!r} gets {', '.join(given)} from its layer and the graph, got {clash[0]!r}: "
                "leave it out"
            )
        settings = {"heads": heads} | given | settings
        config = attentions.config_of(name) or AttentionConfig
        try:
            return fill(config, settings, f"attention {name!r}")
        except SettingError:
            raise
        except ValueError as error:
            raise ValueError(
                f"layer {layer + 1} of {len(self.heads)} (width {width}, heads {heads}): {error}"
            ) from error

    def build_attention(self, layer: int, relations: int, types: int) -> Attention:
        """The attention of one layer."""
        return attentions[self.attention.get("name", "graphsage")](
            self.attention_config(layer, relations, types)
        )


class Surroundings(nn.Module):
    """What the graph tells of the pairs in a block, looked up only for a mechanism that states to read it."""

    def __init__(self, graph: RelationGraph) -> None:
        super().__init__()
        edges = graph.edges
        for name, part in {
            "node_type": graph.node_type,
            "degree": graph.degree,
            "age_s": edges.age_s,
            "is_timed": edges.is_timed,
        }.items():
            self.register_buffer(name, part, persistent=False)

    def pairs(self, block: Block, attention: Attention) -> Pairs:
        """Mask and order of the neighbours, and each field that ``attention`` states to read."""
        looked_up = {
            "relation": lambda: block.relation,
            "age_s": lambda: self._age_s(block),
            "query_type": lambda: self.node_type[block.targets][:, None],
            "key_type": lambda: self.node_type[block.source][block.neighbours],
            "query_degree": lambda: self.degree[block.targets][:, None],
            "key_degree": lambda: self.degree[block.source][block.neighbours],
            "edge": lambda: self._edge(block),
        }
        fields = [field for fact, fields in READS.items() if getattr(attention, fact) for field in fields]
        return Pairs(block.key_mask, **{field: looked_up[field]() for field in fields})

    def _age_s(self, block: Block) -> Tensor:
        return self.age_s[block.edge] * block.key_mask

    def _edge(self, block: Block) -> Tensor:
        """(b, k, 2): log(1 + age in days) / 10, and 1 where the fact has a time."""
        age = torch.log1p(self._age_s(block) / 86_400) / 10
        return torch.stack([age, (self.is_timed[block.edge] & block.key_mask).float()], -1)


class Layer(nn.Module):
    """One GraphSAGE layer: W [self ‖ attention over related neighbours], residual, LayerNorm.

    Self is the target at the width of the layer: one matrix narrows it for residual, query and W.
    The matrix of a relation is a mixture of a few shared ones, W_r = Σ_b a_rb V_b. It acts once on each
    distinct source row of that relation; only then is gathered.

    Source: Schlichtkrull et al., "Modeling Relational Data with Graph Convolutional Networks", ESWC
    2018, arXiv:1703.06103, eq. 3.
    """

    def __init__(self, config: GraphSAGEConfig, layer: int, relations: int, types: int) -> None:
        super().__init__()
        width_in, width = config.widths[layer : layer + 2]
        self.relations, self.width = relations, width
        self.bases = nn.Parameter(torch.empty(config.bases, width_in, width))  # V
        nn.init.normal_(self.bases, std=1 / math.sqrt(config.bases * width_in))
        self.mixture = nn.Parameter(1 + torch.randn(relations, config.bases) / 2)  # a: (r, bases)
        self.attention = config.build_attention(layer, relations, types)
        self.own = nn.Identity() if width_in == width else nn.Linear(width_in, width, bias=False)
        self.weight = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, source: Tensor, block: Block, around: Surroundings) -> Tensor:
        """(s, d_in) features of ``block.source`` -> (b, d) of its targets."""
        given = self._given(source, block, around)
        own, heard = given[0][:, 0], self.attention(*given)[:, 0]
        return self.norm(own + self.dropout(nn.functional.gelu(self.weight(torch.cat([own, heard], 1)))))

    def weights(self, source: Tensor, block: Block, around: Surroundings) -> Tensor:
        """(s, d_in) features of ``block.source`` -> (b, h, k) weight of each neighbour.

        Raises:
            ValueError: the attention has no weights of single neighbours.
        """
        if not hasattr(self.attention, "weights"):
            raise ValueError(
                f"weights need an attention that gives each neighbour one, {type(self.attention).__name__} "
                "does not: choose another"
            )
        return self.attention.weights(*self._given(source, block, around))[:, :, 0]

    def _given(
        self, source: Tensor, block: Block, around: Surroundings
    ) -> tuple[Tensor, Tensor, Tensor, Pairs]:
        """What the attention is called with: targets as queries, W_r h once per relation and source row."""
        place, relation, rows = block.distinct(self.relations)
        counts = torch.bincount(relation, minlength=self.relations).tolist()
        matrices = torch.einsum("rb,bio->rio", self.mixture, self.bases)  # W_r
        groups = source.index_select(0, place).split(counts)  # distinct() sorts by relation
        related = torch.cat([group @ matrix for group, matrix in zip(groups, matrices, strict=True)])
        own = self.own(source[: len(block.neighbours)])
        return own[:, None], related, rows, around.pairs(block, self.attention)


class Encoder(nn.Module):
    """Node vectors and layers: everything that is learned."""

    def __init__(self, config: GraphSAGEConfig, graph: RelationGraph, features: np.ndarray) -> None:
        super().__init__()
        width = config.widths[0]
        embedded = torch.tensor([type in config.embedded for type in graph.types])
        is_embedded = graph.is_core & embedded[graph.node_type]
        self.node_vector = nn.Embedding(int(is_embedded.sum()) + 1, width, padding_idx=0)
        nn.init.normal_(self.node_vector.weight, std=config.embedding_sd)
        self.type_vector = nn.Embedding(len(graph.types), width)
        nn.init.normal_(self.type_vector.weight, std=config.embedding_sd)
        with torch.no_grad():
            self.node_vector.weight[0] = 0
        self.content = nn.Linear(features.shape[1], width, bias=False)
        layers = range(len(config.widths) - 1)
        sizes = len(graph.relations), len(graph.types)
        self.layers = nn.ModuleList(Layer(config, layer, *sizes) for layer in layers)
        self.around = Surroundings(graph)
        self.log_scale = nn.Parameter(
            torch.tensor(-math.log(config.temperature)), requires_grad=config.is_temperature_learned
        )
        self.contents = slice(graph.users, graph.users + graph.contents)
        slot = torch.where(is_embedded, torch.cumsum(is_embedded, 0), 0)  # 0: no vector of its own
        self.register_buffer("slot", slot, persistent=False)
        self.register_buffer("features", torch.from_numpy(features), persistent=False)

    def start(self, nodes: Tensor) -> Tensor:
        """(s,) nodes -> (s, widths[0]): vectors learned for node and type, and what a content is like."""
        vectors = self.node_vector(self.slot[nodes]) + self.type_vector(self.around.node_type[nodes])
        at = ((nodes >= self.contents.start) & (nodes < self.contents.stop)).nonzero().flatten()
        described = self.content(self.features[nodes[at] - self.contents.start])
        return vectors.index_add(0, at, described.to(vectors.dtype))  # half precision: products only

    def forward(self, blocks: Sequence[Block]) -> Tensor:
        """Blocks, input layer first -> (b, d) unit vectors of the last block's targets."""
        hidden = self.start(blocks[0].source)
        for layer, block in zip(self.layers, blocks, strict=True):
            hidden = layer(hidden, block, self.around)
        return nn.functional.normalize(hidden, dim=1)

    def everywhere(self, blocks: Sequence[Block], nodes: int) -> Tensor:
        """(n, d) unit vectors with all neighbours, layer by layer; ``blocks`` cover every node."""
        hidden = self.start(torch.arange(nodes, device=self.slot.device))
        for layer in self.layers:
            after = hidden.new_empty(nodes, layer.width)
            for block in blocks:
                after[block.targets] = layer(hidden[block.source], block, self.around)
            hidden = after
        return nn.functional.normalize(hidden, dim=1)

    def weights(self, blocks: Sequence[Block]) -> Tensor:
        """Blocks, input layer first -> (b, h, k) weights in the last layer of the last block's neighbours."""
        hidden = self.start(blocks[0].source)
        for layer, block in zip(self.layers[:-1], blocks[:-1], strict=True):
            hidden = layer(hidden, block, self.around)
        return self.layers[-1].weights(hidden, blocks[-1], self.around)

    @property
    def scale(self) -> Tensor:
        """() what cosines are multiplied by, at most 100."""
        return self.log_scale.clamp(max=math.log(100)).exp()
