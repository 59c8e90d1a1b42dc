"""Rows as the database holds them: word for word what the plain encoder makes, so that digests never move."""

import hashlib
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kg.large_world import LargeWorld, LargeWorldConfig
from kg.records import Hyperedge, Node
from kg.store.encoding import row_of, said_of


def plainly(record: Node | Hyperedge) -> tuple[str, dict, str]:
    """As rows were first written; stores on disk hold these digests."""
    properties = {
        name: list(value) if isinstance(value, tuple) else value for name, value in record.properties.items()
    }
    if isinstance(record, Hyperedge):
        for name in ("source", "confidence", "start_ts", "end_ts"):
            if (value := getattr(record, name)) is not None:
                properties[name] = value
    properties["id"] = record.id
    said = json.dumps(properties, sort_keys=True, separators=(",", ":"))
    digest = hashlib.blake2b(f"{record.type}{said}".encode(), digest_size=8).hexdigest()
    properties["digest"] = digest
    return record.id, properties, f'{{"digest":"{digest}",{said[1:]}'


def agrees(record: Node | Hyperedge) -> None:
    assert row_of(record) == plainly(record)
    assert said_of(record) == (record.id, plainly(record)[2])


def test_rows_of_a_world():
    for record in LargeWorld(LargeWorldConfig(ratings=200, users=10, contents=60)).records():
        agrees(record)


@given(st.text(max_size=20), st.floats(0, 1), st.integers(0, 2**70), st.lists(st.text(max_size=5)))
def test_rows_of_odd_values(text, share, number, words):
    about = {
        "title": text,
        "imdb_rating": share,
        "vote_count": number,
        "ids": tuple(words),
        "simulated": True,
    }
    agrees(Node("Content", "content:é", about))
    members = {"person": ("person:a",), "content": ("content:b",)}
    said = {"character": text, "billing_order": number, "simulated": False}
    agrees(Hyperedge("ACTED_IN", members, "ü", said, -5, 7, confidence=share))
    agrees(Hyperedge("ACTED_IN", members, "s", confidence=np.float64(share)))


def test_the_id_of_a_fact_stays_what_it_is():
    members = {"user": ("user:a",), "content": ("content:b",)}
    assert Hyperedge("RATED", members, "s", start_ts=3).id == "RATED:65eae785755e00c283144644"
    offered = {"content": ("content:b",), "platform": ("platform:p",), "region": ("region:US", "region:DE")}
    assert Hyperedge("AVAILABLE", offered, "s", {"offer": "rent"}).id == "AVAILABLE:b8eb4ae8e9140cf7c0331d60"
