import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from experiments.evaluation import Interval
from experiments.mechanism_table import Cost, Quality, Row, Table, TaskNote
from experiments.mechanisms import bench_home
from models.head_files import FittedHead, HeadSettings, save_head
from models.instant import InstantConfig
from models.store import ModelStore
from serve.client import LocalClient
from tests.serve.small_home import GRAPH, small_graph, small_home, training_of

PAGES = Path(__file__).parents[2] / "apps" / "streamlit" / "pages"
WAIT_S = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return small_home(tmp_path_factory.mktemp("explorer") / "home", small_graph())


@pytest.fixture
def open_page(home, monkeypatch):
    """Runs a page over the small world, with a client of its own."""
    import streamlit as st

    def run(page: str, root: Path = home.root) -> AppTest:
        monkeypatch.setenv("MG_HOME", str(root))
        monkeypatch.setenv("MG_GRAPH", GRAPH)
        monkeypatch.delenv("MG_URL", raising=False)
        st.cache_resource.clear()
        st.cache_data.clear()
        return AppTest.from_file(str(PAGES / page), default_timeout=WAIT_S).run()

    return run


def texts(page: AppTest) -> str:
    return "\n".join(
        element.value for kind in ("markdown", "caption", "success", "info") for element in page.get(kind)
    )


def cards(page: AppTest) -> list[str]:
    return [line.value for line in page.markdown if line.value.startswith("#### ")]


def test_tonight_shows_what_the_client_says(open_page, home):
    page = open_page("tonight.py")
    assert not page.exception and not page.error
    with LocalClient(home, GRAPH) as client:
        user = client.users(n=1).users[0].user_id
        reply = client.recommend({"user_id": user, "region": "US", "n": 5})
    assert [line.split(". ", 1)[1] for line in cards(page)] == [
        f"{content.title} ({content.year})" for content in reply.contents
    ]
    shown = texts(page)
    assert ":orange-badge[simulated]" in shown and "Because you liked" in shown
    assert all(offer.platform.replace("+", "\\+") in shown for offer in reply.contents[0].offers)
    assert "until 20" in shown or "end not known" in shown


def test_feedback_on_tonight_changes_the_next_answer_and_says_so(open_page):
    page = open_page("tonight.py")
    before = cards(page)
    next(button for button in page.button if button.label == "Not for me").click().run()
    assert not page.exception
    after = cards(page)
    gone = before[0].split(". ", 1)[1]
    assert all(gone not in line for line in after)
    assert "is recorded" in page.success[0].value and "Gone:" in page.success[0].value
    assert "gray-badge[instant tier off] no head was fitted for ease/1" in texts(page)


def test_tonight_shows_before_and_now_and_which_step_moved_what(open_page, home, tmp_path, monkeypatch):
    settings = tmp_path / "on.yaml"
    settings.write_text("instant_tier: true\nmust_be_shown: false\n")
    monkeypatch.setenv("MG_ADAPTATION", str(settings))
    head = HeadSettings(width=16, weight=0.1, gap_s=604_800.0).fitted(training_of(small_graph()))
    version = ModelStore(home.models).load("ease/1")
    save_head(home.head(GRAPH, "ease/1"), FittedHead(head, InstantConfig()), version)
    page = open_page("tonight.py")
    before = cards(page)
    next(button for button in page.button if button.label == "Like").click().run()
    assert not page.exception and not page.error
    lines = [line.value for line in page.markdown]
    first, second = lines.index("**Before**"), lines.index("**Now**")
    assert "~~" in lines[first + 1] and before[0].split(". ", 1)[1].split(" (")[0] in lines[first + 1]
    now = lines[second + 1 : second + 6]
    shown = [line.split(". ", 1)[1].rsplit(" (", 1)[0] for line in cards(page)]
    assert [title in line for title, line in zip(shown, now, strict=True)] == [True] * 5
    assert "violet-badge[instant tier" in "".join(now) and "blue-badge[live history" in "".join(now)
    assert "your own feedback lifted it" in texts(page)
    assert "violet-badge[instant tier on] an adapter of" in texts(page)


def test_a_new_person_starts_with_what_is_popular(open_page):
    page = open_page("tonight.py")
    page.segmented_control(key="who").set_value("New person").run()
    assert not page.exception
    assert "people liked it" in texts(page) and "rate or like a few" in texts(page)
    next(button for button in page.button if button.label == "Like").click().run()
    assert "Because you liked" in texts(page)


def test_an_id_that_nobody_has_is_said(open_page):
    page = open_page("tonight.py")
    page.text_input(key="part").set_value("nobody at all").run()
    assert not page.exception and "Nobody's id" in page.warning[0].value


def test_title_shows_people_windows_and_sources(open_page, home):
    page = open_page("title.py")
    assert not page.exception and not page.error
    with LocalClient(home, GRAPH) as client:
        hit = client.contents().contents[0]
        content = client.content(hit.content_id)
    assert page.header[0].value.startswith(content.title)
    shown = texts(page)
    assert content.people[-1].names[0].replace("-", "\\-") in shown
    assert "Sources" in shown and "Where and when" in [one.value for one in page.subheader]
    assert ":orange-badge[simulated]" in shown


def test_title_finds_by_words_and_says_when_there_is_none(open_page):
    page = open_page("title.py")
    page.text_input(key="wanted").set_value("storm harbour").run()
    assert not page.exception and "Storm" in page.header[0].value and "Harbour" in page.header[0].value
    page.text_input(key="wanted").set_value("no such words").run()
    assert not page.exception and "No title has" in page.warning[0].value


@pytest.mark.parametrize("page", ["tonight.py", "title.py"])
def test_without_a_champion_a_page_says_what_to_do(open_page, tmp_path, page):
    shown = open_page(page, tmp_path)
    assert not shown.exception and "mg demo" in shown.error[0].value


def test_the_first_paint_waits_for_no_heavy_import():
    code = (
        "import sys, streamlit, apps.streamlit.connection\n"
        "heavy = {'torch', 'ray', 'dgl'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PAGES.parents[2], timeout=WAIT_S
    )
    assert done.returncode == 0, done.stderr


def test_text_of_a_source_is_never_markup():
    from apps.streamlit.connection import plain, sentence

    assert plain("M*A*S*H [REC] $9.99 :red[x]") == "M\\*A\\*S\\*H \\[REC\\] \\$9\\.99 \\:red\\[x\\]"
    assert sentence("you liked *Heat* :red[$1]") == "you liked *Heat* \\:red\\[\\$1\\]"


def test_attention_says_what_to_run_where_nothing_was_measured(open_page):
    page = open_page("attention.py")
    assert not page.exception
    assert "No table of mechanisms" in texts(page) and "mg bench attention" in texts(page)


def test_attention_shows_the_table_that_was_measured_last(open_page, home):
    quality = Quality(value=Interval(0.15, 0.14, 0.16, 30), seed_values=(0.14, 0.16), sd=0.014, fit_s=4.0)
    cost = Cost(k=256, forward_s=0.01, train_s=0.02, forward_bytes=1000, train_bytes=2000, repetitions=3)
    note = TaskNote("split", (0, 1), (0.003,), {"name": "sasrec"}, {"epochs": 6}, 30, ("abc",))
    table = Table(
        title="Attention on a world",
        graph=GRAPH,
        graph_hash="hash",
        metric="ndcg@10",
        tasks={"history": note},
        rows=(Row("gat", "graph", "mechanism", {"history": quality}, (cost,)),),
        command="mg bench attention",
        code_revision="abc",
        machine={},
        made="2026-01-01T00:00:00+00:00",
        simulated="All of it is generated.",
    )
    table.save(bench_home(home).searches(GRAPH).parent)
    page = open_page("attention.py")
    assert not page.exception
    shown = texts(page)
    assert "Attention on a world" in shown and ":orange-badge[simulated]" in shown
    assert [tab.label for tab in page.tabs] == ["history", "cost"]
    assert page.dataframe[0].value.iloc[0]["mechanism"] == "gat"
    assert "0.15" in page.dataframe[0].value.iloc[0]["history ± sd"]
