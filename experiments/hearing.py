"""What several attentions weigh in one real neighbourhood: the small encoder of the bench, trained with each.

k titles that one user liked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from configs.loading import load
from configs.registry import SettingError, fill, import_parts
from experiments.splits import SplitConfig, split
from experiments.tuning import fitted, lay_over
from kg.arrays import GraphArrays
from models.graphsage import GraphSAGE

EXPERIMENT = "experiments/attention_neighbourhood.yaml"
DAY_S = 86_400


@dataclass(frozen=True)
class Heard:
    """One user's likes in training, oldest first, and what each attention gives them."""

    user_id: str
    titles: tuple[str, ...]
    age_days: np.ndarray
    """(k,) float64 from each like to the latest fact of training."""
    weights: Mapping[str, np.ndarray]
    """Attention -> (k,) float64 mean over its heads."""


def heard(names: Sequence[str], graph: GraphArrays, likes: int = 12, overrides: Sequence[str] = ()) -> Heard:
    """Trains the encoder with each attention, and asks what it hears of the same user's likes.

    Args:
        names: registered attentions that weigh each neighbour.
        graph: whole, as exported.
        likes: the user is the first in the graph with this many in training, or the next more.
        overrides: ``key=value`` over the experiment of the bench, ``train.epochs=2`` say.

    Raises:
        SettingError: nobody has that many likes.
        ValueError: an attention has no weights of single neighbours.
    """
    import_parts("models")
    experiment = load(EXPERIMENT, overrides)
    training = split(graph, fill(SplitConfig, experiment["split"], "split")).test.training
    counts = np.diff(training.positives.indptr)
    enough = counts[counts >= likes]
    if not len(enough):
        raise SettingError(
            f"hearing needs a user with {likes} likes in training, the most is {counts.max(initial=0)}: ask "
            "for fewer"
        )
    user_row = int(np.flatnonzero(counts == enough.min())[0])
    found, told = {}, None
    for name in names:
        settings = lay_over(experiment["model"], experiment["train"], {"model.attention.name": name})
        model, _, _ = fitted(*settings, training, None, experiment["train"]["epochs"])
        if not isinstance(model, GraphSAGE):
            raise SettingError(f"{EXPERIMENT} must be of graphsage, it is of {experiment['model']['name']}")
        told = model.listening(user_row)
        found[name] = told.weights.mean(0).astype(np.float64)
    if told is None:
        raise SettingError("hearing needs the name of one attention or more, got none")
    titles = graph.texts("Content", "title")
    return Heard(
        graph.ids("User")[user_row],
        tuple(titles[row] or graph.ids("Content")[row] for row in told.content_rows),
        told.age_s.astype(np.float64) / DAY_S,
        found,
    )
