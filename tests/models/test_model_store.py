import json
import multiprocessing
import os
import pickle
import struct
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from kg.arrays import GraphArrays, from_records
from kg.worlds import checkerboard
from models.interface import ModelFacts, Recommender, Training, Users
from models.item_item import EASE, EASEConfig
from models.popularity import Popularity, PopularityConfig
from models.store import CARD, TRAINING, WEIGHTS, ModelStore, ModelVersion, SaveInfo
from models.verification import MANIFEST, ModelError, digest_of, write_manifest


@pytest.fixture(scope="module")
def graph() -> GraphArrays:
    world = checkerboard(users=12, contents=10)
    return from_records("board", world.nodes, world.hyperedges)


@pytest.fixture(scope="module")
def training(graph: GraphArrays) -> Training:
    users, contents = graph.pairs("RATED")
    shape = graph.size("User"), graph.size("Content")
    positives = sp.csr_array((np.ones(len(users), np.float32), (users, contents)), shape=shape)
    times = sp.csr_array((graph.starts("RATED"), (users, contents)), shape=shape)
    return Training(graph, positives, times, np.arange(shape[1]) != 3, seed=1)


@pytest.fixture(scope="module")
def model(training: Training) -> EASE:
    found = EASE(EASEConfig(regularization=5.0))
    found.fit(training)
    return found


@pytest.fixture
def info(graph: GraphArrays, training: Training) -> SaveInfo:
    return SaveInfo(
        graph="board",
        graph_hash=graph.hash,
        training=training,
        metrics={"ndcg@10": {"value": np.float64(0.25), "low": 0.2, "high": float("nan")}, "users": 12},
        split_hash="abc",
        seeds=(1, 2),
        code_revision="deadbeef",
        licence="CC0",
        note="Trained for a test.",
    )


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def version(store, model, info) -> ModelVersion:
    return store.save("ease", model, info)


def test_a_version_comes_back_as_it_was(store, version, model, graph, training):
    found = store.load("ease/1")
    assert (found.ref, found.model, found.graph, found.graph_hash) == ("ease/1", "ease", "board", graph.hash)
    assert found.config["regularization"] == 5.0 and found.metrics["ndcg@10"]["value"] == 0.25
    assert found.metrics["ndcg@10"]["high"] is None
    users = Users(np.arange(3), training.positives[:3])
    np.testing.assert_array_equal(store.restore(found, graph).score(users), model.score(users))


def test_a_version_knows_what_users_liked(version, training):
    found = version.training()
    np.testing.assert_array_equal(found.positives.toarray(), training.positives.toarray())
    np.testing.assert_array_equal(found.times.toarray(), training.times.toarray())
    assert found.times.dtype == np.int64 and found.positives.dtype == np.float32
    np.testing.assert_array_equal(found.rankable, training.rankable)


def test_the_manifest_says_where_it_comes_from(version):
    told = json.loads((version.folder / MANIFEST).read_text())
    assert {key: told[key] for key in ("split_hash", "seeds", "code_revision", "licence", "number")} == {
        "split_hash": "abc",
        "seeds": [1, 2],
        "code_revision": "deadbeef",
        "licence": "CC0",
        "number": 1,
    }
    assert set(told["files"]) == {WEIGHTS, TRAINING, CARD} and told["facts"]["scores_cold_user"] is True
    card = (version.folder / CARD).read_text()
    for said in (
        "# ease/1",
        "0.2500",
        "CC0",
        "deadbeef",
        "Trained for a test.",
        "no: scores a content that nobody",
    ):
        assert said in card


def test_versions_are_numbered_by_name(store, model, info, version):
    other = store.save("other-name", model, info)
    assert [store.save("ease", model, info).number, other.number] == [2, 1]
    assert [found.ref for found in store.versions()] == ["ease/1", "ease/2", "other-name/1"]


def _save_one(root: str, place: int) -> int:
    board = checkerboard(users=4, contents=6)
    graph = from_records("board", board.nodes, board.hyperedges)
    liked = sp.csr_array(np.ones((4, 6), np.float32))
    training = Training(graph, liked, liked.astype(np.int64), np.ones(6, bool))
    model = Popularity(PopularityConfig())
    model.fit(training)
    return ModelStore(Path(root)).save("popularity", model, SaveInfo("board", graph.hash, training)).number


def test_two_processes_may_save_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        numbers = list(pool.map(_save_one, [str(tmp_path)] * 12, range(12)))
    assert sorted(numbers) == list(range(1, 13))
    assert ModelStore(tmp_path).problems() == []


def test_a_number_that_somebody_is_writing_is_passed_over(store, model, info, version):
    (version.folder.parent / ".2").mkdir()
    assert store.save("ease", model, info).number == 3


def test_a_number_that_was_published_since_it_was_counted_is_passed_over(
    store, model, info, version, monkeypatch
):
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(()))
    number, aside = store._reserve("ease")
    monkeypatch.undo()
    assert number == 2 and sorted(path.name for path in aside.parent.iterdir()) == [".2", "1"]


def test_a_save_that_breaks_off_leaves_nothing(store, model, info):
    @dataclass(frozen=True)
    class Config: ...

    class Broken(Recommender):
        facts = ModelFacts(True, True, ())

        def arrays(self):
            return {"names": np.array(["a"])}

        def fit(self, training): ...
        def score(self, users): ...
        def restore(self, arrays, graph): ...

    with pytest.raises(ModelError, match="only a registered recommender"):
        store.save("broken", Broken(Config()), info)
    spoilt = EASE(EASEConfig())
    spoilt._contents, spoilt._size, spoilt._weights = np.array(["a"]), 1, np.zeros((1, 1))
    with pytest.raises(ModelError, match="'contents' is <U1"):
        store.save("ease", spoilt, info)
    assert list(store.root.glob("versions/*/*")) + list(store.root.glob("versions/*/.*")) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path, model, info):
    (tmp_path / "models").write_text("a file stands where the folder should")
    with pytest.raises(ModelError, match=r"cannot|place that can be written.*nothing was changed"):
        ModelStore(tmp_path / "models").save("ease", model, info)


def test_restoring_needs_the_graph_it_was_saved_for(store, version, graph):
    with pytest.raises(ModelError, match=f"{graph.hash}, got board 0000"):
        store.restore(version, replace(graph, hash="0000"))


@pytest.mark.parametrize("file", [WEIGHTS, TRAINING, CARD, MANIFEST])
def test_any_flipped_bit_is_found(store, version, graph, file):
    path = version.folder / file
    whole = path.read_bytes()
    for place in np.linspace(0, len(whole) - 1, 40).astype(int):
        for bit in (0, 5):
            spoilt = bytearray(whole)
            spoilt[place] ^= 1 << bit
            path.write_bytes(spoilt)
            with pytest.raises(ModelError, match=file.replace(".", r"\.")):
                store.load("ease/1")
    with pytest.raises(ModelError, match=file.replace(".", r"\.")):
        store.restore(version, graph)
    with pytest.raises(ModelError, match=file.replace(".", r"\.")):
        version.training()
    assert len(store.problems()) == 1


@pytest.mark.parametrize("file", [WEIGHTS, TRAINING, CARD, MANIFEST])
def test_a_missing_or_cut_off_file_is_found(store, version, file):
    path = version.folder / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=file.replace(".", r"\.")):
        store.load("ease/1")
    path.unlink()
    with pytest.raises(ModelError, match=f"{file} is missing"):
        store.load("ease/1")


def rewritten(version: ModelVersion, **changes) -> None:
    """A manifest whose own checksum is right, as somebody would write it who means harm."""
    manifest = {key: value for key, value in version.manifest.items() if key != "sha256"}
    write_manifest(version.folder, manifest | changes)


@pytest.mark.parametrize(
    "name", ["../../../outside.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ""]
)
def test_a_path_that_leaves_the_folder_is_refused(store, version, name):
    rewritten(version, files=dict(version.manifest["files"]) | {name: {"sha256": "", "size_bytes": 0}})
    with pytest.raises(ModelError, match="leaves the folder"):
        store.load("ease/1")


def test_a_link_out_of_the_folder_is_refused(store, version, tmp_path):
    weights = version.folder / WEIGHTS
    weights.rename(tmp_path / "elsewhere.safetensors")
    os.symlink(tmp_path / "elsewhere.safetensors", weights)
    with pytest.raises(ModelError, match="leaves the folder"):
        store.load("ease/1")


def test_an_oversized_header_is_refused(store, version):
    path = version.folder / WEIGHTS
    for length in (2**60, 2**63, (1 << 20) + 1, 0):
        path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
        rewritten(version, files=dict(version.manifest["files"]) | {WEIGHTS: digest_of(path)})
        with pytest.raises(ModelError, match=rf"{WEIGHTS} must begin with a header.*says {length}"):
            store.load("ease/1")


def test_a_header_that_is_no_header_is_refused(store, version, graph):
    path = version.folder / WEIGHTS
    path.write_bytes(struct.pack("<Q", 16) + b"\xff" * 64)
    rewritten(version, files=dict(version.manifest["files"]) | {WEIGHTS: digest_of(path)})
    with pytest.raises(ModelError, match=f"{WEIGHTS} must be a safetensors file"):
        store.restore(store.load("ease/1"), graph)


def test_a_pickle_is_refused_listed_or_not(store, version):
    extra = version.folder / "weights.pkl"
    extra.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelError, match=r"weights\.pkl is not in the manifest"):
        store.load("ease/1")
    rewritten(version, files=dict(version.manifest["files"]) | {"weights.pkl": digest_of(extra)})
    with pytest.raises(ModelError, match=r"weights\.pkl is none of .safetensors, .md"):
        store.load("ease/1")


def test_a_manifest_of_another_place_is_refused(store, version, model, info):
    second = store.save("ease", model, info)
    for path in version.folder.iterdir():
        (second.folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="belongs to ease/1"):
        store.load("ease/2")


@pytest.mark.parametrize("text", ["", "null", "[]", '{"a":' * 5000, '{"name": "ease"}', " " * (5 << 20)])
def test_a_manifest_that_is_none_is_refused(store, version, text):
    (version.folder / MANIFEST).write_text(text)
    with pytest.raises(ModelError, match=MANIFEST):
        store.load("ease/1")
    assert store.versions() == [] and len(store.problems()) == 1


@pytest.mark.parametrize(
    "ref", ["ease", "ease/0", "ease/x", "../ease/1", "ease/1/2", "Ease/1", "", "ease/01"]
)
def test_a_ref_is_a_name_and_a_number(store, version, ref):
    with pytest.raises(ModelError, match="name/number"):
        store.load(ref)


def test_what_is_not_there_is_told_with_what_is(store, version):
    with pytest.raises(ModelError, match="no version 'ease/7'.*there are: ease/1"):
        store.load("ease/7")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "Ease", ".hidden", "x" * 65])
def test_names_that_could_leave_the_folder_are_refused(store, model, info, name):
    with pytest.raises(ModelError, match="is named in a-z"):
        store.save(name, model, info)
    with pytest.raises(ModelError, match="is named in a-z"):
        store.alias(name or "..", "champion")


def test_an_alias_moves_and_keeps_its_history(store, model, info, version):
    assert store.alias("board", "champion") is None and store.history("board", "champion") == []
    with pytest.raises(ModelError, match="nothing holds the alias 'board@champion'"):
        store.load("board@champion")
    second = store.save("ease", model, info)
    store.set_alias("board", "champion", version, "first")
    store.set_alias("board", "shadow", "ease/2", "try it")
    move = store.set_alias("board", "champion", second, "better")
    assert (move.previous, move.version) == ("ease/1", "ease/2")
    assert store.load("board@champion").ref == store.alias("board", "champion").ref == "ease/2"
    assert [entry.reason for entry in store.history("board", "champion")] == ["first", "better"]
    assert store.set_alias("board", "champion", second, "again") is None
    assert len(store.history("board", "champion")) == 2


def test_an_alias_is_for_its_own_graph_and_for_whole_versions(store, version):
    with pytest.raises(ModelError, match="ease/1 was fitted on board"):
        store.set_alias("streaming", "champion", version, "why not")
    (version.folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=WEIGHTS):
        store.set_alias("board", "champion", version, "why not")
    assert not (store.root / "audit.jsonl").exists()


def test_a_line_that_a_crash_cut_off_is_passed_over(store, model, info, version):
    store.set_alias("board", "champion", version, "first")
    with (store.root / "audit.jsonl").open("ab") as log:
        log.write(b'{"graph": "boa')
    assert [entry.reason for entry in store.history("board", "champion")] == ["first"]
    store.set_alias("board", "champion", store.save("ease", model, info), "second")
    assert [entry.reason for entry in store.history("board", "champion")] == ["first", "second"]


def test_a_log_that_somebody_changed_is_told(store, version):
    store.set_alias("board", "champion", version, "first")
    log = store.root / "audit.jsonl"
    log.write_text("nonsense\n" + log.read_text())
    with pytest.raises(ModelError, match=r"line 1 of .*audit\.jsonl"):
        store.history("board", "champion")


def test_an_alias_file_that_is_spoilt_is_told(store, version):
    store.set_alias("board", "champion", version, "first")
    path = store.root / "aliases" / "board" / "champion.json"
    for text in ("", "[]", "{}"):
        path.write_text(text)
        with pytest.raises(ModelError, match=r"champion\.json must name a version"):
            store.load("board@champion")
    path.write_text('{"version": "../../ease/1"}')
    with pytest.raises(ModelError, match="name/number"):
        store.load("board@champion")


def _move_often(root: str, refs: list[str]) -> int:
    store, moved = ModelStore(Path(root)), 0
    for ref in refs:
        moved += store.set_alias("board", "champion", ref, "race") is not None
    return moved


def test_moves_of_two_processes_come_one_after_another(store, model, info, version):
    second = store.save("ease", model, info)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        moved = sum(pool.map(_move_often, [str(store.root)] * 3, [[version.ref, second.ref] * 5] * 3))
    history = store.history("board", "champion")
    assert len(history) == moved
    assert all(
        later.previous == earlier.version for earlier, later in zip(history, history[1:], strict=False)
    )
    assert store.alias("board", "champion").ref == history[-1].version


def test_arrays_in_any_order_come_back_right(store, info, graph):
    model = EASE(EASEConfig())
    weights = np.asfortranarray(np.arange(100, dtype=np.float32).reshape(10, 10))
    model._contents, model._size, model._weights = np.arange(10), 10, weights
    version = store.save("ease", model, info)
    np.testing.assert_array_equal(store.restore(version, graph).arrays()["weights"], weights)


def test_times_must_stand_where_positives_stand(store, model, info):
    elsewhere = sp.csr_array(info.training.times.toarray()[:, ::-1])
    with pytest.raises(ModelError, match="same places"):
        store.save("ease", model, replace(info, training=replace(info.training, times=elsewhere)))
