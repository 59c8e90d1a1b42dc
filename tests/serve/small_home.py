"""A small world with models saved in a home of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from configs.home import Home
from configs.registry import import_parts
from kg.arrays import GraphArrays, from_records
from kg.worlds import WorldConfig, world
from models.interface import Training, recommenders
from models.store import ModelStore, ModelVersion, SaveInfo

GRAPH = "world"
USER = "user:world:00003"


def small_graph() -> GraphArrays:
    """40 users, 60 contents, three tastes, windows in many countries."""
    made = world(WorldConfig(users=40, contents=60, groups=3, duplicate_share=0.0))
    return from_records(GRAPH, made.nodes, made.hyperedges)


def training_of(graph: GraphArrays, share: float = 0.8) -> Training:
    """The first ratings of each user that are 8 or more; the rest counts as held out."""
    users, contents = graph.pairs("RATED")
    ratings, times = graph.fact_numbers("RATED", "rating"), graph.starts("RATED")
    kept = np.zeros(len(users), bool)
    for user in range(graph.size("User")):
        places = np.flatnonzero(users == user)
        kept[places[np.argsort(times[places])][: int(len(places) * share)]] = True
    kept &= ratings >= 8
    shape = (graph.size("User"), graph.size("Content"))
    positives = sp.csr_array((np.ones(kept.sum(), np.float32), (users[kept], contents[kept])), shape=shape)
    positives.data[:] = 1
    moments = sp.csr_array((times[kept], (users[kept], contents[kept])), shape=shape)
    rankable = np.zeros(shape[1], bool)
    rankable[contents] = True
    return Training(graph.keep({"RATED": kept}), positives, moments, rankable)


def save(home: Home, graph: GraphArrays, name: str, settings: dict[str, Any] | None = None) -> ModelVersion:
    """Fits a registered model and saves it as a version."""
    import_parts("models")
    training = training_of(graph)
    model = recommenders.build(name, settings)
    model.fit(training)
    info = SaveInfo(graph.name, graph.hash, training, metrics={"ndcg@10": 0.5})
    return ModelStore(home.models).save(name, model, info)


def small_home(root: Path, graph: GraphArrays) -> Home:
    """EASE is the champion, popularity another version."""
    home = Home(root)
    graph.publish(home.arrays(GRAPH))
    version = save(home, graph, "ease")
    save(home, graph, "popularity")
    ModelStore(home.models).set_alias(GRAPH, "champion", version, "test")
    return home
