"""A run opened again: its saved model on the split that measured it; and lists measured as a model is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from configs.home import Home
from configs.registry import fill, import_parts
from experiments.result import ResultError, RunResult
from experiments.splits import Split, SplitConfig, split
from kg.arrays import GraphArrays
from models.interface import ModelFacts, Recommender, Training, Users
from models.store import ModelStore


@dataclass(frozen=True)
class Saved:
    """A run, ready to be asked more."""

    run: RunResult
    model: Recommender
    split: Split


def reopen(run: RunResult, graph: GraphArrays, home: Home) -> Saved:
    """The model of a run and the split it was measured on.

    Raises:
        ResultError: ``graph`` is not the one of the run.
        ModelError: the saved version is gone or not what was written.
    """
    import_parts("models")
    found = split(graph, fill(SplitConfig, run.config.get("split") or {}, "split"))
    if found.hash != run.split_hash:
        raise ResultError(
            f"run {run.run_id} was split from graph {run.graph_hash}, got {graph.hash}: open that export"
        )
    store = ModelStore(home.models)
    return Saved(run, store.restore(store.load(run.version), graph), found)


class Listed(Recommender):
    """Lists that somebody else made, as scores: what is evaluated is then exactly these lists."""

    facts = ModelFacts(scores_cold_user=False, scores_cold_content=False, draws_on=())

    def __init__(self, users: np.ndarray, lists: np.ndarray, contents: int) -> None:
        """Takes (u,) user rows, ascending, (u, n) content rows, -1 is none, and the number of contents."""
        super().__init__(None)
        self._users, self._lists, self._contents = users, lists, contents

    def fit(self, training: Training) -> None:
        """Nothing is learned."""

    def score(self, users: Users) -> np.ndarray:
        lists = self._lists[np.searchsorted(self._users, users.rows)]  # (b, n)
        scores = np.zeros((len(lists), self._contents), np.float32)
        places = np.broadcast_to(np.arange(lists.shape[1], 0, -1, np.float32), lists.shape)
        there = lists >= 0
        scores[np.nonzero(there)[0], lists[there]] = places[there]
        return scores

    def arrays(self) -> dict[str, np.ndarray]:
        return {"users": self._users, "lists": self._lists}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        self._users, self._lists = arrays["users"], arrays["lists"]
