"""Reports: golden tables, pages that need no network, CSV that parses back, seeds that become a spread."""

import csv
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from configs.loading import load
from configs.registry import SettingError
from experiments.compare import by_seed, compare, entries
from experiments.document import Chart, Column, Table
from experiments.evaluation import EvaluationConfig, intervals
from experiments.figures import importance_figure
from experiments.front import Point, front, latency_of
from experiments.html import inline, page
from experiments.report import (
    Evidence,
    comparison_lines,
    leaderboard_figure,
    leaderboard_rows,
    learning_curve_figure,
    ranks_of,
    report,
    search_figure,
    simulated_in,
    write,
)
from experiments.result import ResultError, RunResult, per_user
from experiments.studies import SearchResult, SearchTrial
from experiments.tables import repeat_command
from experiments.training import Epoch
from experiments.tuning import Trial

USERS = 300


def made(parent, name, shift, seed=0, split="a" * 32, config=None, curve=()):
    """A run whose users' values are known, saved and read back."""
    rng = np.random.default_rng(7)
    base = rng.random(USERS) * 0.2
    noise = np.random.default_rng(seed + 100 * len(name)).normal(0, 0.02, USERS)
    values = {"ndcg@10": np.clip(base + shift + noise, 0, 1), "recall@20": np.clip(base + shift, 0, 1)}
    summary = intervals(values, EvaluationConfig(resamples=200))
    cold = intervals({key: one[:40] for key, one in values.items()}, EvaluationConfig(resamples=200))
    nobody = intervals({"ndcg@10": np.array([np.nan])}, EvaluationConfig(resamples=200))
    run = RunResult(
        run_id=f"{name}-{seed}",
        name=name,
        model=name.partition("_")[0],
        config=config or {"name": name, "seed": seed},
        settings={"regularization": 200.0},
        graph="toy",
        graph_hash="b" * 32,
        split_name="last_fifth",
        split_hash=split,
        seed=seed,
        validation=float(values["ndcg@10"].mean()) - 0.01,
        metrics=summary,
        lists={"coverage@10": 0.25, "gini@10": 0.5},
        groups={"cold users": cold, "region XX": nobody},
        trials=(Trial({"model.regularization": 200.0}, 0.1, 1.5),),
        curve=curve,
        audit={"one": 1},
        warm_users=USERS,
        unreachable=3,
        floor="popularity",
        version=f"{name}/1",
        size_bytes=2**20,
        code_revision="abc",
        machine={"system": "Linux", "cores": 2, "memory_bytes": 2**34, "python": "3.11"},
        started=f"2026-01-0{seed + 1}T00:00:00",
        seconds=12.5,
        stages={},
        peak_bytes=2**20,
    )
    return run.save(parent, per_user(np.arange(USERS), values, {}, {}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    parent = tmp_path_factory.mktemp("runs")
    curve = (Epoch(1, 2.0, 0.1, 1.0), Epoch(2, 1.5, 0.2, 1.0), Epoch(3, 1.4, 0.15, 1.0))
    return [
        made(parent, "ease", 0.10),
        made(parent, "popularity", 0.0),
        made(parent, "bpr", 0.12, seed=0, curve=curve),
        made(parent, "bpr", 0.12, seed=1, curve=curve),
        made(parent, "bpr", 0.12, seed=2, curve=curve),
    ]


@pytest.fixture(scope="module")
def search():
    trials = (
        SearchTrial(0, {"model.width": 8}, (0.1, 3.0), "complete", 1.0),
        SearchTrial(1, {"model.width": 16}, (0.3, 5.0), "complete", 1.0),
        SearchTrial(2, {"model.width": 32}, (), "failed", 0.5, "out of memory <here>"),
        SearchTrial(3, {"model.width": 64}, (), "pruned", 0.5),
    )
    importances = {"model.width": 0.9, "train.learning_rate": 0.1}
    goals = ("ndcg@10", "seconds"), ("max", "min")
    return SearchResult("wide", "toy", "b" * 32, "a" * 32, *goals, trials, (0, 1), importances, 3.0, {})


@pytest.fixture(scope="module")
def document(runs, search):
    said = "All of it is made up."
    return report(Evidence(tuple(runs), (search,), lambda run: (1.0 + len(run.name), 9.0), said))


# compare over seeds


def test_seeds_become_mean_and_spread(runs):
    found = compare(runs)
    row = next(row for row in found.rows if row.name == "bpr")
    means = [run.metrics["ndcg@10"].value for run in runs if run.name == "bpr"]
    assert row.seeds == (0, 1, 2) and row.value.value == pytest.approx(np.mean(means))
    assert row.sd == pytest.approx(np.std(means, ddof=1)) and row.seconds == 37.5
    assert [row.name for row in found.rows] == ["bpr", "ease", "popularity"] and found.rows[1].sd is None
    test = found.between("bpr", "ease").paired
    per = np.mean([run.values("ndcg@10") for run in runs if run.name == "bpr"], axis=0)
    assert test.difference == pytest.approx((per - runs[0].values("ndcg@10")).mean())
    columns, rows = leaderboard_rows(found)
    assert "± sd (seeds)" in columns and any("(3)" in cell for cell in rows[0]) and "one seed" in rows[1]
    assert "d to best" in columns and any("d = " in line for line in comparison_lines(found))


def test_a_seed_given_twice_is_refused_and_the_latest_of_each_is_found(runs, tmp_path):
    with pytest.raises(SettingError, match="each experiment and seed once, got bpr"):
        compare([*runs, runs[-1]])
    later = made(tmp_path, "ease", 0.1, seed=4)
    chosen = by_seed([*runs, later, made(tmp_path, "item_knn", 0, split="c" * 32)], "a" * 32)
    assert len(chosen) == 6 and {entry.name for entry in entries(chosen)} == {"ease", "popularity", "bpr"}


# tables


def test_a_golden_table():
    table = Table(
        "t",
        "T",
        "c",
        (Column("model"), Column("ndcg@10", ".4f"), Column("gain", "+.1%"), Column("better")),
        (("a|b", 0.15534, 0.0512, True), ("c", None, float("nan"), False)),
    )
    assert table.markdown() == (
        "| model | ndcg@10 | gain | better |\n|---|---:|---:|---|\n"
        "| a\\|b | 0.1553 | +5.1% | yes |\n| c | – | – | no |"
    )
    assert table.csv() == "model,ndcg@10,gain,better\na|b,0.15534,0.0512,True\nc,,nan,False\n"


def test_csv_parses_back_to_the_same_numbers(document, runs, tmp_path):
    write(document, tmp_path, runs)
    for table in document.tables():
        rows = list(csv.reader(io.StringIO((tmp_path / f"{table.name}.csv").read_text())))
        assert rows[0] == [column.name for column in table.columns] and len(rows) == len(table.rows) + 1
        for told, row in zip(rows[1:], table.rows, strict=True):
            for text, value in zip(told, row, strict=True):
                expected = "" if value is None else str(value)
                assert float(text) == value if isinstance(value, float) else text == expected


def test_groups_are_long_in_the_file_and_wide_on_the_page(document):
    table = next(table for table in document.tables() if table.name == "groups")
    assert ("ease", "region XX", 0, None, None, None) in table.rows and len(table.rows) == 6
    assert table.shown.texts()[0][:2] == ("cold users", "40") and table.shown.texts()[1][2:] == (
        "–",
        "–",
        "–",
    )


def test_every_run_has_a_command_that_repeats_it(runs, tmp_path):
    ease = {**load("experiments/ease.yaml"), "seed": 3}
    run = made(tmp_path, "ease", 0.1, config=ease)
    assert repeat_command(run) == "mg run experiments/ease.yaml --data toy seed=3"
    wider = load("experiments/ease.yaml", ["split.settings.share=0.3"])
    grid = made(tmp_path, "ease", 0.1, seed=1, config=wider)
    assert repeat_command(grid) == "mg run experiments/ease.yaml --data toy split.settings.share=0.3"
    assert repeat_command(runs[0]) == "mg run configs/ease-0.yaml --data toy"
    files = write(report(Evidence((runs[0], runs[1]))), tmp_path, runs[:1])
    assert tmp_path / "configs" / "ease-0.yaml" in files
    assert load(tmp_path / "configs" / "ease-0.yaml") == {"name": "ease", "seed": 0}


# front


def test_the_front_in_three_costs():
    points = [
        Point("best", 0.3, 9.0, 9.0, 9.0),
        Point("fast", 0.2, 1.0, 1.0, 9.0),
        Point("small", 0.1, 9.0, 9.0, 1.0),
        Point("beaten", 0.1, 9.0, 9.0, 9.0),
        Point("not timed", 0.25, None, None, 8.0),
        Point("not timed, worse", 0.2, None, None, 8.5),
    ]
    assert front(points) == [True, True, True, False, True, False]


# page


class Checked(HTMLParser):
    """Open tags, ids, and whatever could lead out of the page."""

    def __init__(self):
        super().__init__()
        self.open, self.outside, self.images, self.ids, self.targets = [], [], 0, set(), set()

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag not in {"meta", "link", "br", "img", "path", "use"}:
            self.open.append(tag)
        self.images += tag == "svg" and bool(named.get("aria-label"))
        self.ids.add(named.get("id"))
        for key in ("src", "href", "xlink:href", "data", "srcset"):
            value = named.get(key)
            if value and value.startswith("#"):
                self.targets.add(value[1:])
            elif value:
                self.outside.append(value)
        self.outside += [tag] if tag in {"script", "link", "iframe", "object", "img"} else []

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_a_page_leads_nowhere_and_describes_each_figure(document):
    text = page(document)
    found = Checked()
    found.feed(text)
    assert found.outside == [] and "http" not in text and "url(//" not in text and "@import" not in text
    assert found.images == len(document.charts()) >= 6
    assert all(chart.alt and chart.caption for chart in document.charts())
    assert found.targets <= found.ids and found.open == []
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert "All of it is made up." in text and "out of memory &lt;here&gt;" in text


def test_figures_take_the_colours_of_the_page(document):
    for chart in document.charts():
        svg = inline(chart.svg, chart.alt)
        assert "var(--ink)" in svg and "var(--paper)" in svg
        assert not re.findall(r"#(?:1b1f24|1f5a99|b4540a|fefefe)", svg)


def test_equal_figures_give_equal_texts(runs):
    drawn = [Chart("a", "b", "c", "d", leaderboard_figure(compare(runs))).svg for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_a_report_says_what_it_depends_on(document, runs, tmp_path):
    text = document.markdown()
    for told in ("a" * 32, "b" * 32, "seeds 0, 1, 2", "code abc", "2 cores", "is made up", "mg report"):
        assert told in text
    assert "is better than popularity" in text and "Critical-difference diagram" in text
    assert "Search wide" in text and "Learning curve of bpr" in text
    names = {path.name for path in write(document, tmp_path, runs)}
    assert {
        "report.md",
        "report.html",
        "leaderboard.csv",
        "critical_difference.svg",
        "search_wide.csv",
    } <= names
    for file in re.findall(r"\]\(([^)]+)\)", text):
        assert (tmp_path / file).is_file(), file


def test_a_search_on_another_split_and_a_latency_that_nobody_took_are_left_out(runs, search):
    other = SearchResult(**{**vars(search), "split_hash": "c" * 32})
    told = report(Evidence(tuple(runs[:2]), (other,)))
    assert "Search wide" not in told.markdown() and "Latency was not measured" in told.markdown()
    assert told.simulated == "" and "Simulated" not in page(told)


def test_one_run_alone_makes_a_report(runs):
    told = report(Evidence((runs[1],)))
    assert "not shown to be better than any other" in told.markdown()


def test_a_folder_that_cannot_be_written(document, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="choose another with --out"):
        write(document, tmp_path / "file")


def test_figures_stand_alone(runs, search):
    assert len(search_figure(search).axes) == 1 and len(importance_figure(search.importances).axes) == 1
    assert len(learning_curve_figure(runs[2]).axes) == 2
    assert ranks_of(runs).names[0] == "bpr" and ranks_of(runs).users == USERS


def test_what_is_simulated_is_said(busy, tasteful):
    assert simulated_in(busy) == "" and "made-up world" in simulated_in(tasteful)


def test_latency_is_taken_from_the_saved_model(tasteful, tmp_path):
    from configs.home import Home
    from experiments.run import run

    home = Home(tmp_path)
    found = run({"name": "popularity", "model": {"name": "popularity"}}, tasteful, home)
    median, p99 = latency_of(home, tasteful, users=20)(found)
    assert 0 < median <= p99
