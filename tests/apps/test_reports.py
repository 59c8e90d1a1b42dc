"""Reports from the command line: written whole, read by machines, and wrong use told in a sentence."""

import csv
import json

import pytest

from configs.home import Home
from configs.registry import import_parts
from experiments.run import run
from kg.arrays import from_records
from kg.records import Node
from kg.worlds import WorldConfig, world


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A home with a small world and three runs on it, one of them with another seed."""
    import_parts("models")
    home = Home(tmp_path_factory.mktemp("home"))
    records = world(WorldConfig(users=220, contents=80, groups=4, ratings_per_user=20, seed=1)).records
    graph = from_records(
        "world",
        lambda type: [one for one in records if isinstance(one, Node) and one.type == type],
        lambda type: [one for one in records if not isinstance(one, Node) and one.type == type],
    )
    graph.publish(home.arrays("world"))
    for name, seed in (("popularity", 0), ("random", 0), ("random", 1)):
        run({"name": name, "model": {"name": name}, "seed": seed}, graph, home)
    return home.root


@pytest.fixture
def mg(mg_in, root):
    return mg_in(root, "world")


def test_a_report_of_all_seeds(mg, tmp_path):
    code, out, err = mg("report", "--seeds", "--out", tmp_path / "told", "--json")
    assert code == 0, err
    assert len(json.loads(out)["runs"]) == 3
    rows = {row["model"]: row for row in csv.DictReader((tmp_path / "told" / "leaderboard.csv").open())}
    assert set(rows) == {"popularity", "random"} and rows["random"]["seeds"] == "2"
    front = list(csv.DictReader((tmp_path / "told" / "front.csv").open()))
    assert all(0 < float(row["median ms"]) <= float(row["p99 ms"]) for row in front)
    page = (tmp_path / "told" / "report.html").read_text()
    assert "http" not in page and "made-up world" in page


def test_a_report_without_latency_of_named_runs(mg, root, tmp_path):
    run_id = next(path.name for path in (root / "graphs" / "world" / "runs").iterdir() if "popu" in path.name)
    code, out, _ = mg("report", run_id, "--no-latency", "--out", tmp_path)
    assert code == 0 and "1 runs" in out and "not measured" in (tmp_path / "report.md").read_text()


def test_compare_over_seeds(mg):
    code, out, _ = mg("compare", "--seeds", "--json")
    rows = {row["name"]: row for row in json.loads(out)["rows"]}
    assert code == 0 and rows["random"]["seeds"] == [0, 1] and rows["random"]["sd"] > 0
    assert "(2)" in mg("compare", "--seeds")[1]


def test_reproductions_are_listed(mg):
    code, out, _ = mg("reproduce", "list", "--json")
    assert code == 0 and {"gf_cf_gowalla", "lightgcn_gowalla"} <= {row["name"] for row in json.loads(out)}
    assert "Movielens1M_m1" in mg("reproduce", "list")[1]


def test_a_reproduction_is_shown(mg, tmp_path):
    for name, first in (("train.txt", 0), ("test.txt", 4)):
        width = 4 if first == 0 else 2
        lines = [" ".join(map(str, (user, *range(first, first + width)))) for user in range(20)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    code, out, err = mg("reproduce", "ease_movielens_1m", "tune={}", "--path", tmp_path)
    assert code == 0, err
    assert "NOT the published split" in out and "recall@20" in out and "SimpleX" in out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("reproduce", "gf_cf_gowalla"), 2, "give their folder with --path"),
        (("reproduce", "gf_cf"), 2, "no reproduction is called"),
        (("reproduce", "gf_cf_gowalla", "--path", "nowhere"), 2, "check the path"),
        (("report",), 2, "--out"),
        (("report", "nothing", "--out", "x"), 1, "no run 'nothing'"),
        (("compare", "--split", "nowhere"), 1, "no run on nowhere"),
    ],
)
def test_wrong_use_is_told(mg, words, code, says):
    came, out, err = mg(*words)
    assert came == code and says in out + err and "Traceback" not in out + err
