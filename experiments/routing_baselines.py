"""What stands beside the router: a logistic regression over n-grams of letters, and key words."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from models.queries import INTENTS, Query

_WORDS: Mapping[str, tuple[str, ...]] = {
    "comparison": (
        " vs",
        "versus",
        "compar",
        "better than",
        "difference",
        "besser",
        "mejor que",
        "meilleur",
        "vergleich",
    ),
    "trending": (
        "trend",
        "popular",
        "most watched",
        "top ",
        "charts",
        "hits",
        "beliebt",
        "más vist",
        "plus vus",
        "moda",
    ),
    "availability_check": (
        "where",
        "stream",
        "available",
        "leaving",
        "rent",
        "verfügbar",
        "dónde",
        "disponib",
        "où ",
    ),
    "metadata_lookup": (
        "who ",
        "when ",
        "how long",
        "cast",
        "director",
        "wer ",
        "wann",
        "quién",
        "cuánto",
        "qui ",
        "quand",
    ),
    "personal_recommendation": (
        "recommend",
        "suggest",
        "for me",
        "should i",
        "my ",
        "empfiehl",
        "recom",
        "conseille",
    ),
}
"""Class -> beginnings of words that speak for it; the first class that is spoken for wins."""


def linear(train: Sequence[Query], features: int = 60_000) -> Callable[[str], np.ndarray]:
    """A logistic regression over TF-IDF of 2 to 5 letters within words.

    Args:
        train: queries with their classes.
        features: n-grams that are kept, the most frequent.

    Returns:
        Logits (c,) of a text.
    """
    texts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), max_features=features, sublinear_tf=True)
    matrix = texts.fit_transform([query.text.lower() for query in train]).astype(np.float32)
    model = LogisticRegression(C=10.0, max_iter=200, tol=1e-3)
    model.fit(matrix, [INTENTS.index(query.intent) for query in train])
    return lambda text: model.decision_function(texts.transform([text.lower()]))[0]


def key_words(text: str) -> np.ndarray:
    """(c,) logits: 1 for the first class of which a key word stands in the text, else for the fallback."""
    logits, spoken = np.zeros(len(INTENTS)), f"{text.lower()} "
    for intent, words in _WORDS.items():
        if any(word in spoken for word in words):
            logits[INTENTS.index(intent)] = 1.0
            return logits
    logits[0] = 1.0
    return logits
