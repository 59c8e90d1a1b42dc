"""Sets words right that are one slip from a word of a small list."""

from collections.abc import Iterable

from models.slots import edits

SHORTEST = 4
"""Letters of a word that is set right."""


class Speller:
    """Words that a reader knows, found from words with one slip: lost, doubled, changed or swapped letters.

    Args:
        words: the commonest first; of two that are as near, the first is meant.

    Source: deletions of both sides meet (Garbe's SymSpell, 2012), then the distance is counted.

    Cost: O(letters) look-ups a word, and O(letters) entries a word of the list.

    Example:
        >>> Speller(["watch", "who"]).right("wacth"), Speller(["watch"]).right("harbour")
        ('watch', 'harbour')
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(dict.fromkeys(words))
        self._rank = {word: place for place, word in enumerate(self.words)}
        self._met: dict[str, list[str]] = {}
        for word in self.words:
            if len(word) >= SHORTEST:
                for piece in _deletions(word):
                    self._met.setdefault(piece, []).append(word)

    def right(self, word: str) -> str:
        """The known word that is one slip away, or the word itself."""
        if word in self._rank or len(word) < SHORTEST or not word.isalpha():
            return word
        close = {known for piece in _deletions(word) for known in self._met.get(piece, ())}
        near = [known for known in close if edits(word, known, 1) <= 1]
        return min(near, key=self._rank.__getitem__) if near else word


def _deletions(word: str) -> set[str]:
    """The word, and it without each one of its letters."""
    return {word, *(word[:at] + word[at + 1 :] for at in range(len(word)))}
