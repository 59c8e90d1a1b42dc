"""The kept index: the same answers, refused where it is broken, gone when somebody is forgotten."""

import numpy as np
import pytest

from models.index import IndexConfig, VectorIndex
from models.memory import MemoryConfig, ReasoningBank, Verdict
from models.memory_index import IndexFile

CONFIG = IndexConfig(kind="hnsw", device="cpu", build_effort=40)


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)


@pytest.fixture
def file(tmp_path, vectors):
    made = IndexFile(tmp_path, writes=True)
    index = VectorIndex(8, CONFIG)
    index.add(vectors)
    made.keep(index, vectors)
    return made


def test_a_kept_index_answers_as_the_one_it_was(file, vectors):
    index = VectorIndex(8, CONFIG)
    index.add(vectors)
    loaded = file.load(vectors, CONFIG)
    assert len(loaded) == 300 and not loaded.is_exact
    for ours, theirs in zip(loaded.search(vectors[:20], 5), index.search(vectors[:20], 5), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    loaded.add(vectors[:3])
    assert len(loaded) == 303


def test_an_index_of_others_is_refused(file, vectors):
    other = vectors.copy()
    other[7, 3] += 1e-3  # planted: one number of one vector
    assert file.load(other, CONFIG) is None
    assert file.load(vectors[::-1], CONFIG) is None
    assert file.load(vectors, IndexConfig(kind="hnsw", device="cpu", build_effort=41)) is None


@pytest.mark.parametrize("at", [0, 40, -1, None])
def test_a_broken_index_is_refused(file, vectors, at):
    read = bytearray(file.path.read_bytes())
    if at is None:
        read = read[: len(read) // 2]
    else:
        read[at] ^= 1
    file.path.write_bytes(read)
    assert file.load(vectors, CONFIG) is None


def test_a_reader_keeps_nothing(tmp_path, vectors):
    index = VectorIndex(8, CONFIG)
    index.add(vectors)
    IndexFile(tmp_path, writes=False).keep(index, vectors)
    assert not list(tmp_path.iterdir())


def test_a_bank_opens_with_its_kept_index_and_forgets_it_with_a_user(tmp_path, vectors):
    config = MemoryConfig(create_positives=1)
    with ReasoningBank(tmp_path, config, CONFIG, writes=True) as bank:
        for place, vector in enumerate(vectors[:30]):
            bank.learn(vector, (f"s{place}",), {}, Verdict(f"user:world:{place % 3}", True, place + 1))
        bank.forget_user("user:world:2")  # writes a snapshot
        asked = bank.lookup(vectors[0], {}, at_ts=40)
    with ReasoningBank(tmp_path, config, CONFIG, writes=True) as bank:  # builds the index, keeps it
        assert (tmp_path / "index.bin").is_file()
        assert _told(bank.lookup(vectors[0], {}, at_ts=40)) == _told(asked)
    with ReasoningBank(tmp_path, config, CONFIG, writes=True) as bank:  # takes it
        assert _told(bank.lookup(vectors[0], {}, at_ts=40)) == _told(asked)
        bank.forget_user("user:world:1")
        gone = [vector / np.linalg.norm(vector) for vector in vectors[1:30:3]]
        for path in tmp_path.iterdir():
            read = path.read_bytes()
            assert not any(vector.astype(np.float32).tobytes()[:12] in read for vector in gone), path.name
    (tmp_path / "index.bin").write_bytes(b"no index")
    with ReasoningBank(tmp_path, config, CONFIG) as bank:
        assert len(bank.patterns()) == 10


def _told(matches):
    return [(match.pattern.pattern_id, round(match.similarity, 5)) for match in matches]
