"""Setting words right: one slip is found whatever it is, nothing else is touched."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.slots import edits
from models.spelling import SHORTEST, Speller

WORDS = ["watch", "who", "directed", "stream", "streams", "trending", "film", "filme"]
LETTERS = st.text("abdeimrstw", min_size=1, max_size=9)


def naive(words, said):
    """The first word of the list one slip away, by looking at all of them."""
    if said in words or len(said) < SHORTEST or not said.isalpha():
        return said
    near = [word for word in words if len(word) >= SHORTEST and edits(said, word, 1) <= 1]
    return near[0] if near else said


@given(st.lists(LETTERS, max_size=12, unique=True), LETTERS)
def test_found_is_what_looking_at_all_words_finds(words, said):
    assert Speller(words).right(said) == naive(words, said)


def test_every_slip_of_a_long_word_is_set_right():
    speller, rng = Speller(WORDS), np.random.default_rng(0)
    for at in range(1, 7):
        letter = "qxz"[int(rng.integers(3))]
        slips = ("trending"[:at] + rest for rest in ("trending"[at + 1 :], letter + "trending"[at:]))
        assert {speller.right(slip) for slip in slips} == {"trending"}


def test_known_short_and_numbered_words_stay():
    speller = Speller(WORDS)
    for word in ("streams", "films2", "wh", "whu", "2049", "harbour", ""):
        assert speller.right(word) == word
