"""Windows as they hold, a row a country: where several speak of the same offer, what their conflict leaves.

See :func:`kg.intervals.settle` for who holds; what one source alone tells settles itself."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from kg import rights
from kg.arrays import GraphArrays
from kg.intervals import Settled


@dataclass(frozen=True)
class SettledWindows:
    """w windows, in no order; f facts AVAILABLE."""

    fact: np.ndarray
    """(w,) int64 row of the fact that holds, the heaviest of those that agree."""
    region: np.ndarray
    """(w,) int64"""
    start: np.ndarray
    """(w,) int64 UTC seconds, the smallest int64 where open."""
    end: np.ndarray
    """(w,) int64 UTC seconds, the largest int64 where open."""
    joined: Mapping[int, tuple[Settled, bool]]
    """Place of a window that several facts told of -> what they agree on, and whether one is made up."""
    contested: tuple[rights.ContestedWindow, ...]
    """What does not hold, each with the reason."""


def settle_windows(
    graph: GraphArrays, facts: np.ndarray, regions: np.ndarray, codes: Mapping[str, int], as_of: int
) -> SettledWindows:
    """What holds of windows that are unfolded to countries.

    Args:
        graph: whose windows.
        facts: (w,) int64 rows in the table of AVAILABLE.
        regions: (w,) int64 rows of countries.
        codes: ISO code -> row of a country.
        as_of: UTC seconds from which the age of a telling counts against it; later ones are new.

    Cost: sorts the windows once, and settles those offers one by one that more than one fact tells of.
    """
    starts, ends = graph.starts("AVAILABLE"), graph.ends("AVAILABLE")
    shared = _shared(graph, facts, regions)
    alone = ~np.isin(facts, shared)
    kept, at = facts[alone], regions[alone]
    if not len(shared):
        return SettledWindows(kept, at, starts[kept], ends[kept], {}, ())
    told = rights.windows(graph, as_of, rows=shared)
    known = {one.fact_id: one for one in told}
    rows, joined = [], {}
    for (_, _, code, _), (held, _) in rights.settled(told).items():
        for one in held:
            heaviest = known[one.claims[0]]
            if len(one.claims) > 1:
                joined[len(kept) + len(rows)] = one, any(known[claim].simulated for claim in one.claims)
            rows.append((heaviest.fact_row, codes[code], *_bounds(one)))
    found = np.array(rows, np.int64).reshape(-1, 4)
    columns = (kept, at, starts[kept], ends[kept])
    merged = [np.concatenate([whole, part]) for whole, part in zip(columns, found.T, strict=True)]
    return SettledWindows(*merged, joined, tuple(rights.contested(told)))


def _shared(graph: GraphArrays, facts: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Rows of the facts that tell of an offer of which another fact tells too, ascending."""
    if not len(facts):
        return facts
    offers = pc.dictionary_encode(graph.facts["AVAILABLE"]["offer"].combine_chunks())
    parts = (
        graph.incidence("AVAILABLE", "content")[1][facts],
        graph.incidence("AVAILABLE", "platform")[1][facts],
        regions,
        offers.indices.fill_null(len(offers.dictionary)).to_numpy().astype(np.int64)[facts],
    )
    keys = np.ravel_multi_index(parts, [int(part.max()) + 1 for part in parts])
    _, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.unique(facts[counts[places] > 1])


def _bounds(one: Settled) -> tuple[int, int]:
    limits = np.iinfo(np.int64)
    start_ts, end_ts = one.span.start_ts, one.span.end_ts
    return limits.min if start_ts is None else start_ts, limits.max if end_ts is None else end_ts
