"""What every metric reads, and what it is to register one.

u users · n recommendations in a list · i contents · g genres · k cut-off."""

from collections.abc import Callable
from dataclasses import dataclass

import scipy.sparse as sp
from torch import Tensor

from configs.registry import Registry

__all__ = ["Metric", "Ranked", "list_metric", "list_metrics", "metric", "metrics"]


@dataclass(frozen=True)
class Ranked:
    """Lists of recommendations, and what they may be held against; None is what nobody told."""

    hits: Tensor
    """(u, n) bool; hits[j, r] is True when recommendation r of user j is held out."""
    positives: Tensor
    """(u,) int64 or float64 count of held-out contents per user."""
    rows: Tensor | None = None
    """(u, n) int64 rows of recommended contents, best first, -1 where a list is shorter."""
    popularity: Tensor | None = None
    """(i,) float64, how many users liked a content in training; NaN where it may not be ranked."""
    genres: sp.csr_array | None = None
    """(i, g) float32, 1 where a content belongs to a genre."""
    history: sp.csr_array | None = None
    """(u, i) float32, 1 where a user liked a content before being asked."""
    available: Tensor | None = None
    """(u, n) bool: whether the user can watch a recommended content."""
    reachable: Tensor | None = None
    """(u,) int64 count of held-out contents that the user can watch."""

    def first(self, k: int) -> Tensor:
        """(u, k) float64: hits among the first k."""
        return self._cut(self.hits, k).double()

    def shown(self, k: int) -> tuple[Tensor, Tensor]:
        """(u, k) int64 content rows, 0 where a list is shorter, and (u, k) bool: where something stands."""
        rows = self._cut(self.need("rows"), k)
        return rows.clamp(0), rows >= 0

    def watchable(self, k: int) -> Tensor:
        """(u, k) bool of :attr:`available`."""
        return self._cut(self.need("available"), k)

    def need(self, name: str) -> "Tensor | sp.csr_array":
        """What is called ``name``.

        Raises:
            ValueError: nobody told it.
        """
        found = getattr(self, name)
        if found is None:
            raise ValueError(f"this metric reads {name}, which nobody gave: rank on a graph that tells it")
        return found

    def _cut(self, values: Tensor, k: int) -> Tensor:
        n = values.shape[1]
        if not 1 <= k <= n:
            raise ValueError(f"k must lie in 1..{n}, the length of the recommendation lists, got k={k}")
        return values[:, :k]


Measure = Callable[[Ranked, int], Tensor]


@dataclass(frozen=True)
class Metric:
    """A registered function and what is known of it: called as the function is."""

    function: Measure
    needs: tuple[str, ...]
    """Fields of :class:`Ranked` that it reads besides hits and positives."""
    larger_is_better: bool
    counts_hits: bool
    """True if it reads hits: it can be told of a group of contents; a user without positives has none."""

    def __call__(self, ranked: Ranked, k: int) -> Tensor:
        """(u,) or () float64, see the function."""
        return self.function(ranked, k)

    @property
    def meaning(self) -> str:
        """First sentence of the function's docstring."""
        return (self.function.__doc__ or "").strip().splitlines()[0]


metrics: Registry[Metric] = Registry("metric")
list_metrics: Registry[Metric] = Registry("list metric")


def metric(
    name: str, needs: tuple[str, ...] = (), larger_is_better: bool = True, counts_hits: bool = True
) -> Callable[[Measure], Measure]:
    """Registers a function that gives each user a value, (u,) float64; NaN for whom it is not defined."""

    def enter(function: Measure) -> Measure:
        metrics.register(name)(Metric(function, needs, larger_is_better, counts_hits))
        return function

    return enter


def list_metric(name: str) -> Callable[[Measure], Measure]:
    """Registers a function that gives all lists taken together one value, () float64."""

    def enter(function: Measure) -> Measure:
        list_metrics.register(name)(Metric(function, ("rows", "popularity"), True, False))
        return function

    return enter
