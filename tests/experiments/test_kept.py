"""Reports in the home: what was kept is read back whole, what is spoilt is refused, nothing is nothing."""

import json

import numpy as np
import pytest

from configs.home import Home
from experiments import report
from experiments.document import Chart, Column, Document, Section, Table
from experiments.evaluation import Interval
from experiments.figures import means_figure
from experiments.kept import folder, keep, kept
from experiments.result import ResultError
from models.adapter_bank import AdapterBank
from models.adapters import AdapterSpec


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def document(value=0.25, simulated="All of it is generated."):
    table = Table(
        "replay",
        "Rows",
        "What each reaches.",
        (Column("row"), Column("ndcg@10", ".4f"), Column("better")),
        (("live", value, True), ("frozen", None, False)),
    )
    figure = means_figure({"live": Interval(value, 0.2, 0.3, 9)}, "ndcg@10")
    chart = Chart("replay", "Rows", "Means.", "live 0.25", figure)
    return Document("Replay of a world", ("9 people.",), (Section("What", (), (table, chart)),), simulated)


def test_what_is_kept_is_read_back_whole(home):
    made = document()
    keep("replay", "adaptation", made, "world", "mg replay replay/adaptation.yaml", home)
    (found,) = kept("replay", "world", home)
    assert found.tables == tuple(made.tables())
    assert found.pictures[0].svg == made.charts()[0].svg and found.pictures[0].alt == "live 0.25"
    assert (found.title, found.lead, found.simulated) == (made.title, made.lead, made.simulated)
    assert found.command == "mg replay replay/adaptation.yaml" and found.made.endswith("+00:00")
    assert found.table("replay").texts()[1] == ("frozen", "–", "no")
    with pytest.raises(ResultError, match="there are replay"):
        found.table("nothing")


def test_the_same_settings_again_take_the_place_of_what_was_there(home):
    for value in (0.25, 0.28):
        keep("replay", "adaptation", document(value), "world", "mg replay", home)
    (found,) = kept("replay", "world", home)
    assert found.table("replay").rows[0][1] == 0.28
    keep("replay", "../My other, one", document(), "world", "mg replay", home)
    assert {path.name for path in (folder(home, "world") / "replay").iterdir()} == {
        "adaptation.json",
        "my_other_one.json",
    }


def test_kinds_and_graphs_stand_apart(home):
    keep("replay", "one", document(), "world", "mg replay", home)
    assert kept("forgetting", "world", home) == [] and kept("replay", "other", home) == []
    assert len(report.kept_reports("replay", "world", home)) == 1
    with pytest.raises(ResultError, match="reports are kept of replay, forgetting"):
        kept("nothing", "world", home)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told.update(format=2),
        lambda told: told.pop("lead"),
        lambda told: told["tables"][0]["rows"][0].pop(),
        lambda told: told["pictures"][0].update(more=1),
        lambda told: told.update(tables=3),
    ],
)
def test_a_spoilt_file_is_refused(home, spoil):
    path = keep("replay", "one", document(), "world", "mg replay", home)
    told = json.loads(path.read_text())
    spoil(told)
    path.write_text(json.dumps(told))
    with pytest.raises(ResultError, match="run `mg replay` again"):
        kept("replay", "world", home)
    path.write_text('{"format": 1, "tab')
    with pytest.raises(ResultError, match="cannot be read"):
        kept("replay", "world", home)


def test_a_home_that_takes_no_files_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="free space or set MG_HOME"):
        keep("replay", "one", document(), "world", "mg replay", Home(tmp_path / "file"))


def test_banks_are_told_by_what_their_people_learned(home):
    assert report.adapter_banks("world", home) == []
    spec = AdapterSpec(width=4, outputs=2, rank=1, base="abc")
    with AdapterBank(home.adapters("world") / "ease-1", spec, writable=True) as bank:
        records = bank.read(["user:a:1", "user:a:2", "user:a:3"])
        records["events"], records["last_ts"] = [2, 3, 1], [50, 1_700_000_000, 7]
        records["up"] = np.float16(0.5)
        bank.write(["user:a:1", "user:a:2", "user:a:3"], records, applied=9)
        bank.forget("user:a:3")
    (found,) = report.adapter_banks("world", home)
    assert (found.name, found.base, found.users, found.events) == ("ease-1", "abc", 2, 5)
    assert found.last_ts == 1_700_000_000 and found.is_whole and found.applied == 9
    assert found.user_bytes == spec.dtype.itemsize and found.size_bytes > 0


def test_a_bank_that_cannot_be_read_is_a_result_error(home):
    home.adapters("world").mkdir(parents=True)
    (home.adapters("world") / "spec.json").write_text("no json")
    with pytest.raises(ResultError, match="adapters of world cannot be read"):
        report.adapter_banks("world", home)
