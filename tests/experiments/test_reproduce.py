"""Published results run again on a generated split: every file builds, ours stands beside theirs."""

import math

import numpy as np
import pytest
import torch
import yaml

from configs.loading import ROOT
from configs.registry import SettingError, UnknownName, fill
from experiments import metrics, reproduce
from experiments.published import PublishedConfig
from models.interface import recommenders


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tastes: users of one half like contents of one half."""
    made, rng = tmp_path_factory.mktemp("toy"), np.random.default_rng(0)
    train, test = [], []
    for user in range(40):
        liked = rng.permutation(np.arange(30) + 30 * (user % 2))[:15]
        train.append(" ".join(map(str, (user, *liked[3:]))))
        test.append(" ".join(map(str, (user, *liked[:3]))))
    (made / "train.txt").write_text("\n".join(train) + "\n")
    (made / "test.txt").write_text("\n".join(test) + "\n")
    return made


@pytest.mark.parametrize("name", reproduce.names())
def test_every_reproduction_builds(name):
    told, card = reproduce.reproduction(name)
    assert told.name == name and card.name == told.split
    settings = dict(told.model)
    recommenders.build(settings.pop("name"), settings)
    fill(PublishedConfig, card.load)
    assert (
        card.users > 0 and card.where and all(metric in row for row in card.rows for metric in card.metrics)
    )
    assert {str(path.stem) for path in (ROOT / "published").glob("*.yaml")} >= {told.split}


def test_the_methods_that_must_be_there():
    told = [reproduce.reproduction(name)[0] for name in reproduce.names()]
    pairs = {(one.method, one.split) for one in told}
    assert {
        ("EASE", "movielens_1m_ultragcn"),
        ("GF-CF", "gowalla_lightgcn"),
        ("LightGCN", "gowalla_lightgcn"),
        ("LightGCN", "movielens_1m_ultragcn"),
        ("SASRec", "movielens_1m_last"),
    } <= pairs


def test_ours_stands_beside_the_papers_and_another_split_is_told(folder):
    found = reproduce.reproduce("gf_cf_gowalla", folder, ["tune={model.alpha: [0.0, 0.3]}", "model.axes=4"])
    assert not found.is_same_split and any("another split" in note for note in found.notes)
    assert [one.metric for one in found.beside] == ["recall@20", "ndcg@20"]
    recall = found.beside[0]
    assert recall.paper == 0.1849 and recall.difference is None and recall.is_inside is None
    assert recall.ours.value > 0.9  # 18 of a user's 30 contents are left, 20 are shown
    assert found.trials == 2 and found.settings["alpha"] in (0.0, 0.3) and found.test_users == 40
    assert set(found.seconds) == {"read", "tune", "fit", "measure"} and found.machine["cores"]


def test_the_right_split_is_told_to_be_right(folder, monkeypatch, tmp_path):
    for kind in ("published", "reproduce"):
        (tmp_path / kind).mkdir()
    card = yaml.safe_load((ROOT / "published" / "gowalla_lightgcn.yaml").read_text())
    card |= {"users": 40, "contents": 60, "pairs": 600}
    told = yaml.safe_load((ROOT / "reproduce" / "gf_cf_gowalla.yaml").read_text())
    told |= {"tune": {}, "model": {**told["model"], "axes": 4}}
    (tmp_path / "published" / "gowalla_lightgcn.yaml").write_text(yaml.safe_dump(card))
    (tmp_path / "reproduce" / "gf_cf_gowalla.yaml").write_text(yaml.safe_dump(told))
    monkeypatch.setattr("configs.loading.ROOT", tmp_path)
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    found = reproduce.reproduce("gf_cf_gowalla", folder)
    assert found.is_same_split and not any("another split" in note for note in found.notes)
    recall = found.beside[0]
    assert recall.paper == 0.1849 and recall.difference == pytest.approx(recall.ours.value - 0.1849)
    assert recall.is_inside == (recall.ours.low <= 0.1849 <= recall.ours.high)
    again = reproduce.reproduce("gf_cf_gowalla", folder)
    assert again.beside == found.beside and again.split_hash == found.split_hash


def test_without_the_files_it_says_where_they_are(tmp_path):
    with pytest.raises(
        SettingError, match="data/gowalla of LightGCN's own code.*give their folder with --path"
    ):
        reproduce.reproduce("gf_cf_gowalla", None)
    with pytest.raises(SettingError, match="an empty folder.*Movielens1M_m1"):
        reproduce.reproduce("ease_movielens_1m", tmp_path)
    with pytest.raises(UnknownName, match="nearest: gf_cf_gowalla"):
        reproduce.reproduce("gf_cf_gowala", None)
    with pytest.raises(SettingError, match="no key 'model.alhpa'"):
        reproduce.reproduce("gf_cf_gowalla", tmp_path, ["model.alhpa=1"])


def lightgcn_ndcg(hits, positives, k):
    """As the code beside the LightGCN paper computes it: the best gain is that of min(k, held out) hits."""
    gain = sum(1 / math.log2(rank + 2) for rank in range(k) if hits[rank])
    best = sum(1 / math.log2(rank + 2) for rank in range(min(k, positives)))
    return gain / best if best else 0.0


def test_our_metrics_are_those_of_the_papers():
    rng = np.random.default_rng(0)
    hits = rng.random((200, 20)) < 0.1
    positives = hits.sum(1) + rng.integers(0, 40, 200)
    known = positives > 0
    lists = metrics.Ranked(torch.from_numpy(hits), torch.from_numpy(positives))
    ours = metrics.measure(("ndcg@20", "recall@20"), lists)
    ndcg = [lightgcn_ndcg(row, count, 20) for row, count in zip(hits[known], positives[known], strict=True)]
    np.testing.assert_allclose(ours["ndcg@20"].numpy()[known], ndcg, atol=1e-12)
    recall = hits[known].sum(1) / positives[known]
    np.testing.assert_allclose(ours["recall@20"].numpy()[known], recall, atol=1e-12)
