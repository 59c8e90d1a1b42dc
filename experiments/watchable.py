"""What each user can watch, for metrics and tasks of availability, and what stands where, for groups.

t users that are asked · i contents · m distinct masks · n recommendations in a list."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from configs.registry import SettingError
from kg import schema
from kg.arrays import GraphArrays
from kg.availability import AvailabilityIndex


@dataclass(frozen=True)
class Watchable:
    """Which contents each user can watch in a region at a moment."""

    masks: np.ndarray
    """(m, i) bool."""
    of_user: np.ndarray
    """(t,) int64: which mask is whose."""
    moment: int
    """UTC seconds."""

    def has(self, rows: np.ndarray) -> np.ndarray:
        """(t, n) bool: whether each user can watch the contents ``rows`` (t, n), -1 is none."""
        return self.masks[self.of_user[:, None], np.maximum(rows, 0)] & (rows >= 0)

    def keep(self, liked: sp.csr_array) -> sp.csr_array:
        """(t, i) csr of those of ``liked`` (t, i) that their user can watch."""
        users = np.repeat(np.arange(liked.shape[0]), np.diff(liked.indptr))
        kept = self.masks[self.of_user[users], liked.indices]
        return sp.csr_array((liked.data[kept], (users[kept], liked.indices[kept])), shape=liked.shape)


def watchable(
    graph: GraphArrays,
    users: np.ndarray,
    region: str = "",
    moment: int | None = None,
    own_subscriptions: bool = False,
) -> Watchable:
    """What ``users`` can watch.

    Args:
        graph: with the facts of availability.
        users: (t,) int64 rows.
        region: ISO code for all; '' takes each user's own and, where nobody told, the one with most contents.
        moment: UTC seconds; None takes the first moment at which most windows hold.
        own_subscriptions: only platforms that a user pays for count, where they are known.

    Raises:
        SettingError: the graph has no fact of availability, or does not know the region.
    """
    if not graph.fact_count("AVAILABLE"):
        raise SettingError(
            f"availability is asked for, {graph.name} has no AVAILABLE fact: add a source that tells it, or "
            "leave availability and regret out of the metrics and take the task known"
        )
    if region and graph.row_of(f"region:{region}") is None:
        known = ", ".join(one.partition(":")[2] for one in graph.ids("Region"))
        raise SettingError(f"{graph.name} does not know the region {region!r}; it knows {known}")
    moment = busiest_moment(graph) if moment is None else moment
    main = next(iter(_most(graph, "region", "Region", 1)), "region:").partition(":")[2]
    regions, paid = graph.texts("User", "region"), graph.nodes["User"]["subscriptions"].to_pylist()
    places = [
        (region or regions[user] or main, tuple(paid[user] or ()) if own_subscriptions else ())
        for user in users
    ]
    distinct = list(dict.fromkeys(places))
    index, number = AvailabilityIndex(graph), {place: at for at, place in enumerate(distinct)}
    masks = [index.mask(where, moment, platforms or None) for where, platforms in distinct]
    return Watchable(
        np.array(masks, bool).reshape(len(distinct), graph.size("Content")),
        np.array([number[place] for place in places], np.int64),
        moment,
    )


def busiest_moment(graph: GraphArrays) -> int:
    """UTC seconds of the first moment at which the most windows of availability hold."""
    starts, ends = np.sort(graph.starts("AVAILABLE")), np.sort(graph.ends("AVAILABLE"))
    begun = np.searchsorted(starts, starts, side="right")
    return int(starts[np.argmax(begun - np.searchsorted(ends, starts, side="right"))])


def contents_by_place(graph: GraphArrays, regions: int, platforms: int) -> dict[str, np.ndarray]:
    """Group -> (i,) bool contents ever available there, for the regions and platforms with most of them."""
    found = {}
    for role, type, most in (("region", "Region", regions), ("platform", "Platform", platforms)):
        for node_id, mask in _most(graph, role, type, most).items():
            found[f"{role} {node_id.partition(':')[2]} contents"] = mask
    return found


def _most(graph: GraphArrays, role: str, type: str, most: int) -> Mapping[str, np.ndarray]:
    """Node id -> (i,) bool contents available there, of the ``most`` nodes with most contents, ties by id."""
    facts, places = graph.incidence("AVAILABLE", role)
    if not len(facts) or not most:
        return {}
    contents = graph.incidence("AVAILABLE", "content")[1][facts]
    held = sp.csr_array(
        (np.ones(len(facts), bool), (places, contents)), (graph.size(type), graph.size("Content"))
    )
    held.sum_duplicates()
    counts, ids = np.diff(held.indptr), graph.ids(type)
    order = [
        row for row in np.argsort(-counts, kind="stable") if counts[row] and ids[row] != schema.SOMEWHERE
    ]
    masks = {}
    for row in order[:most]:
        masks[ids[row]] = np.zeros(graph.size("Content"), bool)
        masks[ids[row]][held.indices[held.indptr[row] : held.indptr[row + 1]]] = True
    return masks
