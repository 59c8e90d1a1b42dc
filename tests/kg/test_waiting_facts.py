"""Facts that wait on disk come back as they went, widest first."""

import errno

import numpy as np
import pytest

from kg import schema, waiting_facts
from kg.large_world import LargeWorld, LargeWorldConfig
from kg.records import Hyperedge
from kg.store.base import StoreError
from kg.store.encoding import row_of
from kg.waiting_facts import WaitingFacts

FACTS = [
    record
    for record in LargeWorld(LargeWorldConfig(ratings=120, users=10, contents=40)).records()
    if isinstance(record, Hyperedge)
]


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_they_come_back_as_they_went(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(waiting_facts, "_AT_ONCE", at_once)
    wide = [fact for fact in FACTS if not schema.FACTS[fact.type].is_binary]
    pairs = [fact for fact in FACTS if schema.FACTS[fact.type].is_binary]
    with WaitingFacts(tmp_path) as waiting:
        for fact in FACTS[:-5]:
            waiting.add(fact)
        list(waiting)  # reading leaves the end where it was
        for fact in FACTS[-5:]:
            waiting.add(fact)
        for _ in range(2):
            back = list(waiting)
            assert back == [*wide, *pairs] and waiting.count == len(back) > 100
            assert [row_of(fact) for fact in back] == [row_of(fact) for fact in [*wide, *pairs]]
    assert list(tmp_path.iterdir()) == []


def test_values_of_arrays_come_back_as_plain_ones(tmp_path):
    members = {"user": [np.str_("user:a")], "content": (np.str_("content:a"),)}
    said = {"rating": np.float64(0.5), "simulated": True}
    with WaitingFacts(tmp_path) as waiting:
        waiting.add(Hyperedge("RATED", members, "s", said, 3, confidence=np.float64(0.25)))
        (back,) = waiting
    plain = {"user": ("user:a",), "content": ("content:a",)}
    assert back == Hyperedge("RATED", plain, "s", {"rating": 0.5, "simulated": True}, 3, confidence=0.25)
    assert type(back.properties["rating"]) is type(back.confidence) is float


def test_a_full_disk_says_so(tmp_path, monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(waiting_facts, "TemporaryFile", lambda dir: Full())
    monkeypatch.setattr(waiting_facts, "_AT_ONCE", 10)
    with (
        pytest.raises(StoreError, match="must take the facts that wait .*free some disk"),
        WaitingFacts(tmp_path) as waiting,
    ):
        for fact in FACTS:
            waiting.add(fact)
