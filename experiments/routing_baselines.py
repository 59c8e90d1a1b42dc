"""What costs next to nothing beside the router: key words."""

from collections.abc import Mapping

import numpy as np

from models.queries import INTENTS

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


def key_words(text: str) -> np.ndarray:
    """(c,) logits: 1 for the first class of which a key word stands in the text, else for the fallback."""
    logits, spoken = np.zeros(len(INTENTS)), f"{text.lower()} "
    for intent, words in _WORDS.items():
        if any(word in spoken for word in words):
            logits[INTENTS.index(intent)] = 1.0
            return logits
    logits[0] = 1.0
    return logits
