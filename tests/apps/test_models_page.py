"""The page Models: what versions, adapters and reports are kept, and what to run where none are."""

from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from experiments.document import Chart, Column, Document, Section, Table
from experiments.evaluation import Interval
from experiments.figures import means_figure
from experiments.kept import keep
from models.adapter_bank import AdapterBank
from models.adapters import AdapterSpec
from models.candidate import Candidate
from models.store import ModelStore, Step
from tests.serve.small_home import GRAPH, small_graph, small_home

PAGE = Path(__file__).parents[2] / "apps" / "streamlit" / "pages" / "models.py"
WAIT_S = 120


@pytest.fixture(scope="module")
def graph():
    return small_graph()


@pytest.fixture
def home(tmp_path, graph):
    return small_home(tmp_path / "home", graph)


@pytest.fixture
def open_page(monkeypatch):
    """Runs the page over a home, with a client of its own."""
    import streamlit as st

    def run(root: Path) -> AppTest:
        monkeypatch.setenv("MG_HOME", str(root))
        monkeypatch.setenv("MG_GRAPH", GRAPH)
        monkeypatch.delenv("MG_URL", raising=False)
        st.cache_resource.clear()
        st.cache_data.clear()
        return AppTest.from_file(str(PAGE), default_timeout=WAIT_S).run()

    return run


def texts(page: AppTest) -> str:
    return "\n".join(one.value for kind in ("markdown", "caption", "info") for one in page.get(kind))


def metrics(page: AppTest) -> dict[str, str]:
    return {one.label: one.value for one in page.metric}


def document(kind: str) -> Document:
    columns = (Column("row"), Column("ndcg@10", ".4f"))
    table = Table(kind, "Rows", "What each reaches.", columns, (("live", 0.109), ("live + instant", 0.118)))
    figure = means_figure({"live": Interval(0.109, 0.1, 0.12, 938)}, "ndcg@10")
    chart = Chart(kind, "Rows", "Means.", "live 0.109", figure)
    return Document(
        f"A {kind} of a world", ("live + instant is better.",), (Section("What", (), (table, chart)),)
    )


def test_without_anything_run_it_says_so_and_names_the_commands(open_page, tmp_path):
    page = open_page(tmp_path / "empty")
    assert not page.exception and not page.error
    said = texts(page)
    for word in (
        "Nothing holds the alias",
        "No version of world",
        "No adapter is kept",
        "No replay of world",
    ):
        assert word in said
    for command in ("mg promote", "mg run", "mg adapters stats", "mg replay", "mg forgetting"):
        assert command in said
    assert metrics(page) == {"Champion": "nobody"}
    assert all(not one.value.startswith("Shown first") for one in page.markdown)


def test_versions_stand_with_metric_interval_and_alias(open_page, home, graph):
    models = ModelStore(home.models)
    held = models.versions()[0]
    page = open_page(home.root)
    assert not page.exception and not page.error
    rows = page.dataframe[0].value.set_index("version")
    assert metrics(page)["Champion"] == held.ref == rows.index[0]
    assert rows.loc[held.ref, "aliases"] == "champion" and rows.loc[held.ref, "answers"] == "yes"
    assert rows.loc["popularity/1", "ndcg@10"] == "0.5000" and rows.loc["popularity/1", "aliases"] == ""
    assert ":orange-badge[simulated]" in texts(page) and "promoted" in texts(page)


def test_a_candidate_is_told_with_its_stage_and_share(open_page, home, graph):
    models = ModelStore(home.models)
    models.try_out(
        GRAPH, "champion", Candidate("popularity/1", "canary", 0.05, "salt", 1.0), Step("canary", "a try")
    )
    page = open_page(home.root)
    assert not page.exception
    shown = metrics(page)
    assert shown["Candidate, canary"] == "popularity/1" and shown["Share"] == "5%"
    assert "tried as canary" in texts(page) and "No candidate" not in texts(page)


def test_adapters_are_counted(open_page, home):
    spec = AdapterSpec(width=16, outputs=16, rank=1, base="feedface")
    with AdapterBank(home.adapters(GRAPH) / "ease-1", spec, writable=True) as bank:
        records = bank.read(["user:a:1", "user:a:2"])
        records["events"], records["last_ts"] = 3, 1_700_000_000
        records["up"] = np.float16(0.25)
        bank.write(["user:a:1", "user:a:2"], records, applied=6)
    page = open_page(home.root)
    shown = metrics(page)
    assert not page.exception and shown["People"] == "2" and shown["Events learned"] == "6"
    assert shown["Bytes each"] == f"{spec.dtype.itemsize:,}"
    assert "2023" in texts(page) and "feedface" in texts(page)
    assert "gray-badge[instant tier off] no head was fitted for ease/1" in texts(page)


def test_what_was_measured_is_shown_as_it_was_kept(open_page, home):
    for kind in ("replay", "forgetting"):
        keep(kind, "tiny", document(kind), GRAPH, f"mg {kind} {kind}/tiny.yaml", home)
    page = open_page(home.root)
    said = texts(page)
    assert not page.exception and not page.error
    for kind in ("replay", "forgetting"):
        assert f"A {kind} of a world" in said and f"`mg {kind} {kind}/tiny.yaml`" in said
    assert "No replay" not in said and "No curve" not in said
    assert page.dataframe[1].value.iloc[1].tolist() == ["live + instant", "0.1180"]
    assert len(page.get("image")) == 2


def test_of_several_reports_one_is_chosen(open_page, home):
    for name in ("one", "two"):
        keep("replay", name, document("replay"), GRAPH, f"mg replay {name}.yaml", home)
    page = open_page(home.root)
    assert len(page.selectbox(key="replay_kept").options) == 2
    before = texts(page)
    page.selectbox(key="replay_kept").set_value(1).run()
    assert not page.exception and texts(page) != before


def test_a_spoilt_report_is_an_error_in_words(open_page, home):
    path = keep("replay", "tiny", document("replay"), GRAPH, "mg replay", home)
    path.write_text("{")
    page = open_page(home.root)
    assert not page.exception and "run \\`mg replay\\` again" in page.error[0].value
