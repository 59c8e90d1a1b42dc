"""What was seen before is known, in memory and in the file, as a set knows it."""

import hashlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.seen import Seen


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(st.binary(min_size=12, max_size=12), st.sampled_from([bytes(12), b"\0" * 11 + b"\1"]))
    ),
    st.integers(0, 5),
)
def test_it_is_a_set(tmp_path_factory, digests, in_memory):
    known = set()
    with Seen(tmp_path_factory.getbasetemp(), in_memory) as seen:
        for digest in (*digests, *digests):
            assert seen.add(digest) == (digest not in known)
            known.add(digest)


@pytest.mark.parametrize("trail", [b"", b"\0\0"])
def test_many_double_the_table(tmp_path, trail):
    digests = [hashlib.blake2b(b"%d" % n, digest_size=12 - len(trail)).digest() + trail for n in range(6_000)]
    with Seen(tmp_path, in_memory=100) as seen:
        assert all([seen.add(digest) for digest in digests])
        assert seen._bits > 6
        assert not any([seen.add(digest) for digest in digests])
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_half_of_a_write_is_told(tmp_path, monkeypatch):
    whole = os.pwrite
    with Seen(tmp_path, in_memory=1) as seen:
        seen.add(b"a" * 12), seen.add(b"b" * 12)
        monkeypatch.setattr(
            os, "pwrite", lambda file, data, place: whole(file, data[: len(data) // 2], place)
        )
        with pytest.raises(OSError, match="No space left"):
            seen.add(b"c" * 12)
