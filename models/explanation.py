"""Why a content is recommended: the reason follows the model that ranked.

What the model read is a *because*; a path that it did not read is a *connection*, never a because."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from kg.arrays import GraphArrays
from models.interface import Recommender, Users
from models.paths import GraphPaths, Path
from models.phrases import listed, quoted


@dataclass(frozen=True)
class Cause:
    """A content of the history for which the model ranked another one high."""

    content_row: int
    title: str
    text: str
    """In words, without an id: "you liked *Heat*", or the path that a graph model reads."""
    share: float | None
    """Part of all that spoke for the content, in (0, 1]; None where the model does not tell parts."""


@dataclass(frozen=True)
class Connection:
    """What a content has in common with one of the history, though the model did not read it."""

    content_row: int
    title: str
    text: str
    """In words, without an id: "shares two actors and the director with *Heat*"."""
    surprise: float
    """Σ −log(share of contents that have what is shared): larger says more."""
    facts: tuple[str, ...]
    """Fact types that the path goes through."""


@dataclass(frozen=True)
class Explanation:
    """All that can be said for one recommended content."""

    because: tuple[Cause, ...]
    connections: tuple[Connection, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """Because first, then one sentence a connection."""
        liked = [quoted(cause.title) for cause in self.because if cause.share is not None]
        read = [f"because it {cause.text}, which you liked" for cause in self.because if cause.share is None]
        first = [f"because you liked {listed(liked)}"] if liked else []
        return (*first, *read, *(connection.text for connection in self.connections))


def explain(
    model: Recommender, users: Users, content_row: int, graph: GraphArrays | GraphPaths, n: int = 3
) -> Explanation:
    """Why ``model`` ranks a content high for the first of ``users``.

    A model that tells its :meth:`Recommender.reasons` is explained by them. For one that tells none, paths
    through the fact types it states to read (``facts.draws_on``) are the because.

    Args:
        model: the one that ranked.
        users: whom it ranked for, with the history it read.
        content_row: the recommended content.
        graph: the graph, or its paths made ready: whoever explains more than one title hands in those.
        n: how many causes and connections at most.
    """
    paths = graph if isinstance(graph, GraphPaths) else GraphPaths(graph)
    history = users.first().history.indices
    reasons = model.reasons(users, content_row, n)
    if reasons:
        because = [
            _liked(paths.title(reason.content_row), reason.content_row, reason.share) for reason in reasons
        ]
        return Explanation(tuple(because), _connections(paths.between(history, content_row, n=n)))
    read = set(model.facts.draws_on)
    found = paths.between(history, content_row, tuple(read), n) if read else []
    unread = paths.between(history, content_row, tuple(paths.facts - read), n)
    because = [Cause(path.content_row, path.title, path.text, None) for path in found]
    return Explanation(tuple(because), _connections(unread))


def without(users: Users, contents: np.ndarray) -> Users:
    """The first user as if ``contents`` had not been liked: a faithful reason's score falls with it."""
    first = users.first()
    kept = ~np.isin(first.history.indices, contents)
    places = np.array([0, kept.sum()])

    def of(matrix: sp.csr_array) -> sp.csr_array:
        return sp.csr_array((matrix.data[kept], matrix.indices[kept], places), shape=matrix.shape)

    return Users(first.rows, of(first.history), None if first.times is None else of(first.times))


def _liked(title: str, content_row: int, share: float) -> Cause:
    return Cause(content_row, title, f"you liked {quoted(title)}", share)


def _connections(paths: list[Path]) -> tuple[Connection, ...]:
    return tuple(
        Connection(path.content_row, path.title, path.text, path.surprise, tuple(sorted(path.facts)))
        for path in paths
    )
