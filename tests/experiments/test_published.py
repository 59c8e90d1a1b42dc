"""Published splits: one split in every form is one split to us; what is spoilt is mended, counted or told."""

import json

import numpy as np
import pytest

from configs.registry import SettingError
from experiments.published import PublishedConfig, published
from experiments.split_files import MissingSplitError, SplitFileError, read_split

USERS, CONTENTS = 30, 40


@pytest.fixture(scope="module")
def pairs():
    """User -> (training contents, test contents); every content occurs."""
    rng = np.random.default_rng(1)
    made = {}
    for user in range(USERS):
        contents = rng.permutation(CONTENTS)[: rng.integers(6, 20)]
        made[user] = contents[2:].tolist(), contents[:2].tolist()
    made[0] = list(range(CONTENTS)), []
    return made


def as_lines(folder, pairs):
    for place, name in enumerate(("train.txt", "test.txt")):
        lines = [" ".join(map(str, (user, *both[place]))) for user, both in pairs.items() if both[place]]
        (folder / name).write_text("\n".join(lines) + "\n")


def as_inter(folder, pairs):
    for place, name in enumerate(("toy.train.inter", "toy.test.inter")):
        lines = [f"{user}\t{content}" for user, both in pairs.items() for content in both[place]]
        (folder / name).write_text("\n".join(("user_id:token\titem_id:token", *lines)) + "\n")


def as_csv(folder, pairs):
    for place, name in enumerate(("train.csv", "test.csv")):
        lines = [f"{content},{user},1" for user, both in pairs.items() for content in both[place]]
        (folder / name).write_text("\n".join(("item_id,user_id,label", *lines)) + "\n")


def as_json(folder, pairs):
    for place, name in enumerate(("train_data.json", "test_data.json")):
        (folder / name).write_text(json.dumps([both[place] for both in pairs.values()]))


FORMS = {"lines": as_lines, "recbole": as_inter, "reczoo csv": as_csv, "reczoo json": as_json}


@pytest.mark.parametrize("form", FORMS)
def test_one_split_in_every_form(form, pairs, tmp_path):
    first, other = tmp_path / "first", tmp_path / "other"
    for folder, write in ((first, as_lines), (other, FORMS[form])):
        folder.mkdir()
        write(folder, pairs)
    expected, found = published("toy", first), published("toy", other)
    assert found.split.hash == expected.split.hash and form.startswith(found.form)
    assert (found.users, found.contents) == (USERS, CONTENTS)
    assert found.training_pairs == sum(len(train) for train, _ in pairs.values())
    assert found.test_pairs == sum(len(test) for _, test in pairs.values())


def test_every_pair_stands_where_it_was_written(pairs, tmp_path):
    as_lines(tmp_path, pairs)
    found = published("toy", tmp_path)
    split, graph = found.split, found.split.full.graph
    assert graph.ids("User")[7] == "user:toy:07" and graph.row_of("content:toy:39") == 39 and not graph.facts
    for user, (train, test) in pairs.items():
        assert sorted(train) == sorted(split.full.positives[[user]].indices)
        assert sorted(test) == sorted(split.test.held_out[[user]].indices)
        fitted, chosen = split.fit.positives[[user]].indices, split.validation.held_out[[user]].indices
        assert sorted(train) == sorted([*fitted, *chosen])
        assert len(chosen) == max(len(train) // 10, int(len(train) >= 3))
    assert split.test.training.rankable.all() and split.warm_users == USERS - 1


def test_validation_depends_on_the_seed_and_never_on_test(pairs, tmp_path):
    as_lines(tmp_path, pairs)
    first = published("toy", tmp_path).split
    assert published("toy", tmp_path, PublishedConfig(seed=1)).split.hash != first.hash
    changed = {user: (train, test[:1]) for user, (train, test) in pairs.items()}
    as_lines(tmp_path, changed)
    again = published("toy", tmp_path).split
    assert again.hash != first.hash
    assert (again.fit.positives != first.fit.positives).nnz == 0


def test_a_validation_file_is_taken_as_it_is(pairs, tmp_path):
    as_json(tmp_path, pairs)
    held = [[(both[0] + both[1])[0]] if user else [] for user, both in pairs.items()]
    trained = [[content for content in both[0] if content not in held[user]] for user, both in pairs.items()]
    (tmp_path / "train_data.json").write_text(json.dumps(trained))
    (tmp_path / "validation_data.json").write_text(json.dumps(held))
    found = published("toy", tmp_path)
    assert found.files == ("train_data.json", "validation_data.json", "test_data.json")
    assert found.validation_pairs == USERS - 1
    assert found.split.full.positives.nnz == sum(len(train) for train, _ in pairs.values())


def test_the_last_of_each_is_for_test_where_one_file_holds_all(tmp_path):
    rows = [
        (user, content, 100 * user + 10 * place)
        for user in range(5)
        for place, content in enumerate(range(6))
    ]
    rows = [(user, (content + user) % 6, at) for user, content, at in rows]
    text = "\n".join(f"{user}\t{content}\t5\t{at}" for user, content, at in reversed(rows))
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (tmp_path / "toy.inter").write_text(head + text + "\n")
    split = published("toy", tmp_path).split
    for user in range(5):
        assert split.test.held_out[[user]].indices.tolist() == [(5 + user) % 6]
        assert split.validation.held_out[[user]].indices.tolist() == [(4 + user) % 6]
    (tmp_path / "toy.inter").unlink()
    (tmp_path / "toy.txt").write_text("\n".join(f"{user} {content}" for user, content, _ in rows) + "\n")
    again = published("toy", tmp_path)
    assert again.form == "sequence"
    assert (again.split.test.held_out != split.test.held_out).nnz == 0


def test_rare_users_and_contents_leave_where_the_paper_says_so(tmp_path):
    rows = [(user, content) for user in range(6) for content in range(6)] + [(6, 0), (0, 6)]
    (tmp_path / "toy.txt").write_text("\n".join(f"{user} {content}" for user, content in rows) + "\n")
    assert (published("toy", tmp_path).users, published("toy", tmp_path).contents) == (7, 7)
    cored = published("toy", tmp_path, PublishedConfig(core=5))
    assert (cored.users, cored.contents, cored.training_pairs + cored.test_pairs) == (6, 6, 36)


def test_ids_that_are_words(tmp_path):
    (tmp_path / "train.csv").write_text("user,item\nann,b\nann,a\nann,c\nbob,a\nbob,b\nbob,c\n")
    (tmp_path / "test.csv").write_text("user,item\nann,d\nbob,d\n")
    graph = published("toy", tmp_path).split.full.graph
    assert graph.ids("User") == ["user:toy:ann", "user:toy:bob"] and graph.size("Content") == 4


@pytest.mark.parametrize(
    ("train", "repair", "count"),
    [
        ("0 1 2 3\r\n1 4 5\r\n2 0 6 7\r\n", "lines that end as in Windows", 3),
        ("0 1 2 3\n\n1 4 5\n2 0 6 7\n\n", "blank lines, left out", 2),
        ("0 1 2\n1 4 5\n0 3\n2 0 6 7\n", "users on several lines, joined", 1),
        ("0 1 2 3\n1 4 5\n2 0 6 7\n3\n", "users without items, left out", 1),
        ("0 1 2 3 3\n1 4 5\n2 0 6 7\n", "training pairs told twice, kept once", 1),
        ("0 1 2 3\n1 4 5\n2 0 6 7", "last line without an end, it may be cut off", 1),
        ("0 1 2 3 8\n1 4 5\n2 0 6 7\n", "test pairs that are learned from, left out", 1),
    ],
)
def test_what_can_be_mended_is_mended_and_counted(train, repair, count, tmp_path):
    (tmp_path / "test.txt").write_text("0 8 9\n1 8\n2 9\n")
    (tmp_path / "train.txt").write_text("0 1 2 3\n1 4 5\n2 0 6 7\n")
    clean = published("toy", tmp_path)
    (tmp_path / "train.txt").write_bytes(train.encode())
    found = published("toy", tmp_path)
    assert found.repairs == {repair: count} and clean.repairs == {}
    if "test pairs" not in repair:
        assert (found.split.full.positives != clean.split.full.positives).nnz == 0
    else:
        assert found.test_pairs == clean.test_pairs - 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("train.txt", "0 1 2\n1 x 3\n", r"train.txt, line 2: ids are whole numbers from 0, got 'x'"),
        ("train.txt", "0 1 2\n1 -4\n", r"line 2: .* got '-4'"),
        ("train.txt", "0 1 2\n1 1_0\n", r"line 2: .* got '1_0'"),
        ("train.txt", "0 1 2\n1 1.5\n", r"line 2: .* got '1.5'"),
        ("train.txt", "\n\n", "at least one interaction, got none"),
        ("train.csv", "user_id,item_id\n0,1\n1,2,3\n", r"train.csv, line 3: a line has 2 columns.*got 3"),
        ("train.csv", "user_id,item_id\n0,1\n\n1\n", r"train.csv, line 4: a line has 2 columns.*got 1"),
        ("train.csv", "user_id,item_id\n0,1\n,2\n", r"train.csv, line 3: every line has a user"),
        ("train.csv", "a,b\n0,1\n", r"line 1: the first line names a column user_id"),
        ("train.csv", "user_id,item_id\n", "at least one interaction"),
        ("train.csv", "user_id,item_id,timestamp\n0,1,noon\n", r"line 2: a time is a number, got 'noon'"),
        ("train_data.json", "[[1, 2], [3", r"train_data.json, line 1: a JSON list of lists"),
        ("train_data.json", '[[1, 2], ["a"]]', r"items of user 1 are whole numbers, got \['a'\]"),
        ("train_data.json", "[[1, 2], [-1]]", "items of user 1"),
        ("train_data.json", "{}", "a JSON list of lists, got dict"),
    ],
)
def test_what_cannot_be_mended_is_told_by_file_and_line(name, text, said, tmp_path):
    (tmp_path / name).write_text(text)
    test = {"train.txt": ("test.txt", "0 3\n"), "train.csv": ("test.csv", "user_id,item_id\n0,3\n")}
    other, content = test.get(name, ("test_data.json", "[[3], [4]]"))
    (tmp_path / other).write_text(content)
    with pytest.raises(SplitFileError, match=said):
        published("toy", tmp_path)


def test_a_line_of_a_sequence_that_is_no_pair(tmp_path):
    (tmp_path / "toy.txt").write_text("0 1\n0 1 2\n")
    with pytest.raises(SplitFileError, match="toy.txt, line 2: a line is a user and an item"):
        read_split(tmp_path)


def test_files_that_are_not_there_and_parts_that_are_empty(tmp_path):
    with pytest.raises(MissingSplitError, match="lies in a folder"):
        published("toy", tmp_path / "none")
    with pytest.raises(MissingSplitError, match="an empty folder"):
        published("toy", tmp_path)
    (tmp_path / "toy.train.inter").write_text("user_id:token\titem_id:token\n0\t1\n")
    with pytest.raises(MissingSplitError, match="has toy.test.inter, got only toy.train.inter"):
        published("toy", tmp_path)
    (tmp_path / "toy.test.inter").write_text("user_id:token\titem_id:token\n0\t1\n")
    with pytest.raises(SettingError, match="leaves no pair for validation"):
        published("toy", tmp_path)
    with pytest.raises(SettingError, match="validation_share above 0"):
        PublishedConfig(validation_share=1.0)
