"""A bank that a crash or a bad disk left: repaired where it can be, refused by name where it cannot."""

import numpy as np
import pytest

from apps.bench.adapter_kills import measure
from models.adapter_bank import AdapterBank, AdapterBankError
from models.adapter_bank_folder import BankFolder
from models.adapter_bank_index import named
from models.adapters import AdapterSpec

SPEC = AdapterSpec(width=3, outputs=2, rank=1, base="abc")
USERS = [f"user:world:{number}" for number in range(20)]


def made(count: int, seed: int = 0) -> np.ndarray:
    draw, records = np.random.default_rng(seed), SPEC.fresh(count)
    records["down"], records["up"] = (draw.normal(size=records[name].shape) for name in ("down", "up"))
    records["number"] = draw.integers(1, 99, count)
    return records


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.tobytes() == right.tobytes()


@pytest.fixture
def bank(tmp_path):
    """Twenty people: first records committed, then second ones for the first five."""
    bank = AdapterBank(tmp_path, SPEC, writable=True)
    bank.write(USERS, made(20))
    bank.commit(applied=50)
    bank.write(USERS[:5], made(5, 1))
    yield bank
    bank._folder.close()


def died(bank: AdapterBank) -> None:
    """The process is gone: nothing is committed on the way."""
    bank._folder.close()


def spoil(bank: AdapterBank, row: int, slots: tuple[int, ...], byte: int = 20) -> None:
    """Turns a bit of a slot over, as a write that was cut off would leave it."""
    file = bank._folder.mine().rows.file
    for slot in slots:
        place = 48 + slot * (file.dtype["slots"].itemsize // 2) + byte
        told = file.view[row].tobytes()[place]
        file.write_bytes(row, place, bytes([told ^ 1]))


def test_what_was_not_committed_outlives_the_process(bank, tmp_path):
    bank.write(["new"], made(1, 2))
    died(bank)
    with AdapterBank(tmp_path, writable=True) as again:
        assert same(again.read(USERS[:5]), made(5, 1)) and same(again.read(USERS[5:]), made(20)[5:])
        assert same(again.read(["new"]), made(1, 2)) and again.applied == 50 and again.stats().users == 21


@pytest.mark.parametrize("byte", [0, 4, 8, 20, 39])
def test_a_write_that_was_cut_off_leaves_what_was_committed(bank, tmp_path, byte):
    spoil(bank, 2, (1,), byte)
    died(bank)
    reader = AdapterBank(tmp_path)
    right = np.concatenate([made(5, 1)[:2], made(20)[2:3], made(5, 1)[3:], made(20)[5:]])
    assert same(reader.read(USERS), right) and reader.stats(look=True).torn == 1 and not reader.damaged
    with AdapterBank(tmp_path, writable=True) as again:
        assert same(again.read(USERS), right)
        again.write(USERS[2:3], made(1, 3))  # over the slot that is cut off, not over the one that stands
        spoil(again, 2, (1,))
        assert same(again.read(USERS), right)
        again.write(USERS[2:3], made(1, 3))
        assert same(again.read(USERS[2:3]), made(1, 3)) and again.stats(look=True).torn == 0


def test_a_row_of_which_nothing_is_whole_is_told_and_can_be_learned_again(bank, tmp_path):
    spoil(bank, 2, (0, 1))
    assert same(bank.read(USERS)[2:3], SPEC.fresh(1)) and bank.damaged == {USERS[2]}
    assert same(bank.read(USERS)[3:], np.concatenate([made(5, 1)[3:], made(20)[5:]]))
    assert bank.stats(look=True).damaged == 1
    bank.compact()
    assert bank.stats(look=True).damaged == 1 and bank.has(USERS).all()
    bank.write(USERS[2:3], made(1, 3))
    assert same(bank.read(USERS[2:3]), made(1, 3)) and not bank.damaged


def test_a_new_row_that_was_cut_off_is_blanked_and_those_beside_it_stand(bank, tmp_path):
    bank.write(["a", "b", "c"], made(3, 2))
    spoil(bank, 21, (0,))
    died(bank)
    with AdapterBank(tmp_path, writable=True) as again:
        assert again.has(["a", "b", "c"]).tolist() == [True, False, True]
        assert same(again.read(["a", "c"]), made(3, 2)[[0, 2]])
        assert again.stats().users == 22 and again.stats().forgotten == 1 and list(again.users())[-1] == "c"
        again.write(["b"], made(1, 4))
        again.compact()
        assert same(again.read(["a", "b", "c"]), np.concatenate([made(3, 2)[:1], made(1, 4), made(3, 2)[2:]]))
    assert b"user:world" in (tmp_path / "rows-2.bin").read_bytes()


def test_people_that_the_index_did_not_hear_of_are_entered(bank, tmp_path, monkeypatch):
    monkeypatch.setattr(bank._folder.mine().index, "add", lambda tags, rows: None)
    bank.write(["a", "b"], made(2, 2))
    assert not bank.has(["a"])[0]
    died(bank)
    with AdapterBank(tmp_path, writable=True) as again:
        assert same(again.read(["a", "b"]), made(2, 2)) and again.stats().users == 22


def test_a_process_killed_amid_a_compaction_leaves_the_old_files(bank, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    for name in ("rows-9.bin", "index-9.bin"):
        (tmp_path / name).write_bytes(b"half")
    monkeypatch.setattr(BankFolder, "_become", killed)
    with pytest.raises(KeyboardInterrupt):
        bank._folder.compact()
    monkeypatch.undo()
    died(bank)
    with AdapterBank(tmp_path, writable=True) as again:
        assert same(again.read(USERS[:5]), made(5, 1)) and same(again.read(USERS[5:]), made(20)[5:])
    assert {path.name for path in tmp_path.glob("*-*.bin")} == {"rows-1.bin", "index-1.bin"}


def test_a_process_killed_amid_making_a_bank_leaves_none(tmp_path):
    (tmp_path / "head.bin").write_bytes(b"half")
    (tmp_path / "rows-1.bin").write_bytes(b"half" * 999)
    with AdapterBank(tmp_path, SPEC, writable=True) as bank:
        bank.write(USERS, made(20))
    assert same(AdapterBank(tmp_path).read(USERS), made(20))


def test_forgetting_that_was_cut_off_is_finished_when_asked_again(bank, tmp_path):
    files = bank._folder.mine()
    tag = files.index.tags(named(USERS[7:8])).tobytes()
    files.rows.blank(7)
    assert not bank.forget(USERS[7]) and tag not in (tmp_path / "index-1.bin").read_bytes()
    assert same(bank.read(USERS[8:]), made(20)[8:])


@pytest.mark.parametrize("half", [0, 1])
def test_one_cut_off_copy_of_the_head_is_passed_over(bank, tmp_path, half):
    died(bank)
    head = bytearray((tmp_path / "head.bin").read_bytes())
    head[half * len(head) // 2 + 3] ^= 1
    (tmp_path / "head.bin").write_bytes(head)
    with AdapterBank(tmp_path, writable=True) as again:
        assert again.read(USERS)["events"].shape == (20,) and again.has(USERS).all()
    head[:] = b"\0" * len(head)
    (tmp_path / "head.bin").write_bytes(head)
    for writable in (False, True):
        with pytest.raises(AdapterBankError, match="replay the log"):
            AdapterBank(tmp_path, writable=writable).read(USERS)


@pytest.mark.parametrize("name", ["rows-1.bin", "index-1.bin", "head.bin", "spec.json"])
@pytest.mark.parametrize("share", [0.0, 0.02])
def test_a_bank_cut_off_in_the_middle_is_refused(bank, tmp_path, name, share):
    died(bank)
    told = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(told[: int(share * len(told))])
    for writable in (True, False):
        with pytest.raises(AdapterBankError, match="put (a whole copy|it).* back"):
            AdapterBank(tmp_path, SPEC, writable).read(USERS)
    (tmp_path / name).write_bytes(told)
    assert same(AdapterBank(tmp_path).read(USERS[5:]), made(20)[5:])  # nothing was changed on the way


def test_a_stream_killed_at_random_moments_loses_nothing():
    found = measure(kills=3, seed=1)
    assert found.is_met and found.acknowledged >= 3 and found.recorded >= found.acknowledged, found
