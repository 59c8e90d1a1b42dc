"""Losses over the candidates of a batch: functions of scores, for every model trained on positives.

m positives of a batch · v its distinct users · c candidates."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def sampled_softmax(
    scores: Tensor, user: Tensor, column: Tensor, liked: Tensor, log_chance: Tensor
) -> Tensor:
    """Cross entropy of each positive among the candidates, corrected for how often a candidate is drawn.

    Args:
        scores: (v, c) of the distinct users and candidates of a batch.
        user: (m,) row of each positive.
        column: (m,) candidate of each positive.
        liked: (v, c) bool, True where a candidate is a positive of the user: such are no negatives.
        log_chance: (c,) log chance that a candidate is in the batch.

    Returns:
        () mean over the positives.

    Source: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations",
    RecSys 2019, eq. 3; false negatives are left out besides.
    """
    corrected = scores - log_chance
    others = corrected.masked_fill(liked, -torch.inf).logsumexp(1)  # (v,)
    positive = corrected[user, column]
    return (torch.logaddexp(positive, others[user]) - positive).mean()


def bpr(scores: Tensor, user: Tensor, column: Tensor, liked: Tensor, log_chance: Tensor) -> Tensor:
    """−log σ(positive − negative), mean over all candidates of a batch that the user did not like.

    Arguments as in :func:`sampled_softmax`; ``log_chance`` is not read: it would only shift how often a
    negative is met.

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, eq. 4.
    """
    gap = scores[user, column][:, None] - scores[user]  # (m, c)
    is_negative = ~liked[user]
    return (nn.functional.softplus(-gap) * is_negative).sum() / is_negative.sum().clamp(min=1)


Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
LOSSES: Mapping[str, Loss] = {"softmax": sampled_softmax, "bpr": bpr}
