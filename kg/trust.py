"""How far a content or an offer is to be believed: five parts and their weighted mean.

Counted from a moment that is given, never from the clock on the wall."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.registry import import_parts
from kg.arrays import GraphArrays
from kg.sources import sources

DAY_S = 86_400
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"source": 0.25, "metadata": 0.25, "availability": 0.20, "corroboration": 0.15, "freshness": 0.15}
)
UNKNOWN_SOURCE = 0.20
"""Reliability of a source that no part of the house reads: that of a user's report."""
LEAST_TRUST, LEAST_AVAILABILITY = 0.6, 0.5
"""A ranking that is asked to drops contents below the first; below the second an offer is unverified."""
_KNOWN = ("title", "kind", "release_year", "runtime_minutes", "synopsis")
_TOLD = (("BELONGS_TO",), ("DIRECTED", "WROTE", "ACTED_IN"), ("MADE_IN", "SPOKEN_IN"))


@dataclass(frozen=True)
class Trust:
    """The five parts, each 0 to 1."""

    source: float
    """Reliability of the best source."""
    metadata: float
    """Accuracy of what is known: the share of the main things about a title that are told and well-formed."""
    availability: float
    """Confidence that it can be watched: reliability x confidence of the best window, 0 without one."""
    corroboration: float | None
    """Share of what several sources tell that is not contested; None where there is one source."""
    freshness: float

    @property
    def value(self) -> float:
        """The weighted mean; with one source corroboration leaves it and the weights are rescaled.

        Example:
            >>> round(Trust(0.7, 1.0, 0.7, None, 1.0).value, 4)  # (.175 + .25 + .14 + .15) / .85
            0.8412
        """
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        counted = {name: value for name, value in parts.items() if value is not None}
        weight = sum(WEIGHTS[name] for name in counted)
        return sum(WEIGHTS[name] * value for name, value in counted.items()) / weight

    @property
    def is_verified(self) -> bool:
        """False where its availability is to be marked as unverified."""
        return self.availability >= LEAST_AVAILABILITY


def freshness(days: float) -> float:
    """How much of a telling is left after ``days``: ``max(.5, exp(-.01 days))``.

    Example:
        >>> freshness(0), round(freshness(30), 3), freshness(400), freshness(-3)
        (1.0, 0.741, 0.5, 1.0)
    """
    return max(0.5, float(np.exp(-0.01 * max(0.0, days))))


def reliabilities() -> dict[str, float]:
    """Reliability of every source that the house reads, by the name that its facts carry."""
    import_parts("kg.sources")
    return {sources[name].name: sources[name].reliability for name in sources}


def latest(graph: GraphArrays) -> int:
    """The last moment of which the graph tells: that of its export, or of the last thing that was seen.

    Made-up windows run ahead and do not count; a graph without any time gives 0.
    """
    if graph.as_of is not None:
        return graph.as_of
    seen = [0]
    if graph.size("Content"):
        seen.append(pc.max(graph.nodes["Content"]["observed_ts"]).as_py() or 0)
    for type, table in graph.facts.items():
        if type == "AVAILABLE":
            table = table.filter(pc.invert(pc.fill_null(table["simulated"], False)))
        seen.append((pc.max(table["start_ts"]).as_py() if table.num_rows else 0) or 0)
    return max(seen)


class TrustTable:
    """Trust of every content of a graph at a moment, as arrays; i contents, f facts AVAILABLE."""

    def __init__(
        self,
        graph: GraphArrays,
        as_of: int,
        contested: np.ndarray | None = None,
        reliability: Mapping[str, float] | None = None,
    ) -> None:
        """Reads the columns once.

        Args:
            graph: whose contents.
            as_of: UTC seconds from which age is counted; windows that start later are not known yet.
            contested: (f,) bool, windows that do not hold; None says that none is.
            reliability: source -> 0 to 1; None takes what the sources say of themselves.
        """
        self._graph, self.as_of = graph, as_of
        self._reliability = reliabilities() if reliability is None else reliability
        count = graph.fact_count("AVAILABLE")
        self._contested = np.zeros(count, bool) if contested is None else contested
        self._window_content = graph.incidence("AVAILABLE", "content")[1]

    def values(self) -> np.ndarray:
        """(i,) float64 of :attr:`Trust.value`."""
        weights = np.array([WEIGHTS[name] for name in WEIGHTS])
        parts = np.column_stack(
            [self.source, self.metadata, self.availability, self.corroboration, self.freshness]
        )
        counted = ~np.isnan(parts)  # (i, 5)
        return np.where(counted, parts, 0.0) @ weights / (counted @ weights)

    def of(self, content_row: int) -> Trust:
        """Trust of one content, with its parts."""
        corroboration = float(self.corroboration[content_row])
        return Trust(
            float(self.source[content_row]),
            float(self.metadata[content_row]),
            float(self.availability[content_row]),
            None if np.isnan(corroboration) else corroboration,
            float(self.freshness[content_row]),
        )

    def offer(self, fact_row: int) -> Trust:
        """Trust of one window: that of its source, and of those that tell of the same content."""
        content = int(self._window_content[fact_row])
        whole = self.of(content)
        seen_ts = int(self._window_seen[fact_row])
        return Trust(
            float(self._window_source[fact_row]),
            whole.metadata,
            float(self._window_weight[fact_row]),
            None if whole.corroboration is None else float(not self._contested[fact_row]),
            freshness((self.as_of - seen_ts) / DAY_S),
        )

    @cached_property
    def source(self) -> np.ndarray:
        """(i,) reliability of the best source that tells of a content."""
        best = np.zeros(self._graph.size("Content"))
        rows, names = self._tellers
        np.maximum.at(best, rows, self._reliable(names))
        return best

    @cached_property
    def metadata(self) -> np.ndarray:
        """(i,) share of title, kind, year, runtime, plot, genre, people and place that is told."""
        table = self._graph.nodes.get("Content")
        if table is None:
            return np.empty(0)
        known = [pc.is_valid(table[name]).to_numpy() for name in _KNOWN]
        for types in _TOLD:
            has = np.zeros(self._graph.size("Content"), bool)
            for type in types:
                has[self._graph.incidence(type, "content")[1]] = True
            known.append(has)
        stated = self._graph.numbers("Content", "completeness")
        return np.where(np.isnan(stated), np.mean(known, axis=0), stated)

    @cached_property
    def availability(self) -> np.ndarray:
        """(i,) weight of the best window that holds and is not contested, 0 without one."""
        best = np.zeros(self._graph.size("Content"))
        starts, ends = self._graph.starts("AVAILABLE"), self._graph.ends("AVAILABLE")
        holds = (starts <= self.as_of) & (self.as_of < ends) & ~self._contested
        np.maximum.at(best, self._window_content[holds], self._window_weight[holds])
        return best

    @cached_property
    def corroboration(self) -> np.ndarray:
        """(i,) share of the windows that are not contested; NaN where one source tells of the content."""
        size = self._graph.size("Content")
        rows, names = self._tellers
        tellers = np.bincount(np.unique(np.column_stack([rows, names.codes]), axis=0)[:, 0], minlength=size)
        told = np.bincount(self._window_content, minlength=size)
        lost = np.bincount(self._window_content[self._contested], minlength=size)
        return np.where(tellers > 1, 1 - lost / np.maximum(told, 1), np.nan)

    @cached_property
    def last_seen(self) -> np.ndarray:
        """(i,) UTC seconds of the last time a content was verified, counted or on a platform; -inf: never."""
        size = self._graph.size("Content")
        seen = np.full(size, -np.inf)
        for column in ("last_verified_ts", "observed_ts"):
            times = self._graph.numbers("Content", column)
            seen = np.fmax(seen, np.where(times <= self.as_of, times, np.nan))
        known = self._window_seen <= self.as_of
        np.maximum.at(seen, self._window_content[known], self._window_seen[known])
        return seen

    @cached_property
    def freshness(self) -> np.ndarray:
        """(i,) by the last time that a content was seen."""
        return np.maximum(0.5, np.exp(-0.01 * (self.as_of - self.last_seen) / DAY_S))

    @cached_property
    def _window_seen(self) -> np.ndarray:
        return self._graph.starts("AVAILABLE").astype(np.float64)  # (f,)

    @cached_property
    def _window_source(self) -> np.ndarray:
        return self._reliable(_Names.of(self._column("AVAILABLE", "source")))  # (f,)

    @cached_property
    def _window_weight(self) -> np.ndarray:
        return self._window_source * self._graph.fact_numbers("AVAILABLE", "confidence")  # (f,)

    @cached_property
    def _tellers(self) -> tuple[np.ndarray, "_Names"]:
        """Rows of contents, and who tells of them: by the node itself and by its windows."""
        windows = self._column("AVAILABLE", "source")
        if not self._graph.size("Content"):
            return np.empty(0, np.int64), _Names.of(windows)
        column = self._graph.nodes["Content"]["sources"].combine_chunks()
        rows = pc.list_parent_indices(column).to_numpy().astype(np.int64)
        told = pa.concat_arrays([pc.list_flatten(column), windows])
        return np.concatenate([rows, self._window_content]), _Names.of(told)

    def _column(self, type: str, name: str) -> pa.Array:
        table = self._graph.facts.get(type)
        return pa.array([], pa.string()) if table is None else table[name].combine_chunks()

    def _reliable(self, names: "_Names") -> np.ndarray:
        known = np.array([self._reliability.get(name, UNKNOWN_SOURCE) for name in names.distinct])
        return known[names.codes] if len(known) else np.empty(0)


@dataclass(frozen=True)
class _Names:
    """A text column as codes into its distinct values."""

    codes: np.ndarray
    distinct: list[str]

    @classmethod
    def of(cls, column: pa.Array) -> "_Names":
        encoded = column.dictionary_encode()
        return cls(encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist())
