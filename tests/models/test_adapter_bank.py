"""A bank of adapters: what is written is read, others keep every bit, strange records are refused."""

import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.registry import SettingError
from models import adapter_bank_files, adapter_bank_index
from models.adapter_bank import AdapterBank, AdapterBankError
from models.adapters import AdapterSpec, shifts

SPEC = AdapterSpec(width=5, outputs=3, rank=2, alpha=4.0, base="abc")


def made(count: int, seed: int = 0, spec: AdapterSpec = SPEC) -> np.ndarray:
    """Records with something in every field."""
    draw, records = np.random.default_rng(seed), spec.fresh(count)
    records["down"], records["up"] = (draw.normal(size=records[name].shape) for name in ("down", "up"))
    records["gathered"], records["events"] = draw.random(count), draw.integers(1, 99, count)
    records["last_ts"], records["number"] = draw.integers(1, 10**9, count), draw.integers(1, 10**6, count)
    return records


def names(count: int, first: int = 0) -> list[str]:
    return [f"user:world:{number}" for number in range(first, first + count)]


def bits(folder) -> bytes:
    """All bytes of all files of a bank."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.tobytes() == right.tobytes()


def test_what_is_written_is_read_by_all_and_a_stranger_is_fresh(tmp_path):
    records = made(3)
    with AdapterBank(tmp_path, SPEC, writable=True) as bank:
        reader = AdapterBank(tmp_path)
        bank.write(names(3), records)
        asked = ["user:world:2", "nobody", "user:world:0", "user:world:2"]
        for one in (bank, reader):
            found = one.read(asked)
            assert same(found[[0, 2, 3]], records[[2, 0, 2]]) and same(found[1:2], SPEC.fresh(1))
            assert one.has(asked).tolist() == [True, False, True, True] and not len(one.read([]))
        bank.write(["user:world:0"], records[1:2])
        assert same(reader.read(names(2)), records[[1, 1]])
    assert same(AdapterBank(tmp_path, SPEC).read(names(3)), records[[1, 1, 2]])
    assert list(reader.users()) == names(3)


def test_a_reader_follows_growth_compaction_and_a_bank_that_comes_later(tmp_path):
    reader = AdapterBank(tmp_path, SPEC)
    assert (
        same(reader.read(names(2)), SPEC.fresh(2)) and not reader.has(["x"])[0] and reader.stats().users == 0
    )
    assert list(reader.users()) == [] and reader.applied == 0
    with AdapterBank(tmp_path, SPEC, writable=True) as bank:
        for first in range(0, 3_000, 500):
            bank.write(names(500, first), made(500, first), applied=first + 1)
            assert same(reader.read(names(500, first)), made(500, first))
            assert same(reader.read(names(500)), made(500))
        assert bank.forget("user:world:7") and bank.compact() > 0
        assert reader.read(["user:world:7"])["events"][0] == 0
        assert same(reader.read(names(500, 500)), made(500, 500))
        assert reader.applied == 2_501 and reader.stats().users == bank.stats().users == 2_999


def test_ids_of_any_length_are_told_apart(tmp_path):
    long = ["é" * 40, "é" * 40 + "a", "x" * 47, "x" * 48, "x" * 48 + "\0", "x\0", "x", "日本"]
    with AdapterBank(tmp_path, SPEC, writable=True) as bank:
        bank.write(long, made(len(long)))
        assert same(bank.read(long), made(len(long)))
        assert len(list(bank.users())) == len(long)
        with pytest.raises(ValueError, match="needs an id"):
            bank.read([""])


def test_people_whose_tags_meet_are_told_apart_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(adapter_bank_index, "digests", lambda words, _: np.full(len(words), 7, np.uint64))
    records = made(40)
    with AdapterBank(tmp_path, SPEC, writable=True) as bank:
        bank.write(names(20), records[:20])
        bank.write(names(20, 20), records[20:])
        assert same(bank.read(names(40)), records)
        assert bank.forget("user:world:3") and not bank.forget("user:world:3")
        kept = [number for number in range(40) if number != 3]
        assert same(bank.read(names(40))[kept], records[kept]) and not bank.has(["user:world:3"])[0]
        bank.write(["user:world:3"], records[3:4])
        bank.compact()
        assert same(bank.read(names(40)), records)


def test_ten_thousand_updates_of_one_leave_every_bit_of_the_others(tmp_path):
    records, inputs = made(64), np.random.default_rng(1).normal(size=(64, 5)).astype(np.float32)
    with AdapterBank(tmp_path, SPEC, writable=True) as bank:
        bank.write(names(64), records)
        one, others = bank.read(names(1, 5)), [number for number in range(64) if number != 5]
        before = shifts(SPEC, bank.read(names(64)), inputs)
        for number in range(10_000):
            one["up"] = number % 100
            one["number"] = number
            bank.write(names(1, 5), one)
        after = bank.read(names(64))
        assert same(after[others], records[others]) and same(after[5:6], one)
        assert same(shifts(SPEC, after, inputs)[others], before[others])
    assert same(AdapterBank(tmp_path).read(names(64))[others], records[others])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.sets(st.integers(0, 30), min_size=1), st.integers(0, 99)),
            st.tuples(st.sampled_from(["forget"]), st.integers(0, 30)),
            st.tuples(st.sampled_from(["commit", "compact", "reopen"])),
        ),
        max_size=15,
    )
)
def test_any_course_of_things_equals_a_plain_dict(tmp_path_factory, steps):
    folder, known = tmp_path_factory.mktemp("bank"), {}
    bank = AdapterBank(folder, SPEC, writable=True)
    for step in steps:
        if step[0] == "write":
            people = [f"user:world:{number}" for number in sorted(step[1])]
            records = made(len(people), step[2])
            bank.write(people, records)
            known.update(zip(people, records, strict=True))
        elif step[0] == "forget":
            assert bank.forget(f"user:world:{step[1]}") == (
                known.pop(f"user:world:{step[1]}", None) is not None
            )
        elif step[0] == "reopen":
            bank.close()
            bank = AdapterBank(folder, writable=True)
        else:
            getattr(bank, step[0])()
        found = bank.read(names(31))
        for number in range(31):
            right = known.get(f"user:world:{number}", SPEC.fresh(1)[0])
            assert found[number].tobytes() == right.tobytes()
    assert sorted(bank.users()) == sorted(known) and bank.stats(look=True).users == len(known)
    assert bank.stats(look=True).damaged == bank.stats(look=True).torn == 0 and not bank.damaged
    bank.close()


def test_whoever_is_forgotten_is_in_no_byte_of_any_file(tmp_path):
    with AdapterBank(tmp_path, SPEC, writable=True) as bank:
        bank.write(names(50, 100), made(50))
        bank.write(names(3, 110), made(3, 2))
        bank.commit()
        bank.write(names(3, 110), made(3, 3))
        files = bank._folder.mine()
        tag = files.index.tags(adapter_bank_index.named(["user:world:111"])).tobytes()
        traces = [b"user:world:111", tag]
        traces += [made(3, seed)[1][field].tobytes() for seed in (2, 3) for field in ("down", "up")]
        assert all(trace in bits(tmp_path) for trace in traces)
        assert bank.forget("user:world:111") and not bank.forget("user:world:111")
        assert not any(trace in bits(tmp_path) for trace in traces)
        others = [number for number in range(50) if number not in (10, 11, 12)]
        assert same(bank.read(names(50, 100))[others], made(50)[others])
        assert bank.stats().forgotten == 1
        bank.compact()
        assert bank.stats().forgotten == 0 and bank.stats().users == 49
        assert not any(trace in bits(tmp_path) for trace in traces)
        assert {path.name for path in tmp_path.iterdir()} == {
            ".lock", "head.bin", "spec.json", "rows-2.bin", "index-2.bin"
        }  # fmt: skip


@pytest.mark.parametrize("field", ["down", "up", "gathered"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_nothing_is_written(tmp_path, field, value):
    with AdapterBank(tmp_path, SPEC, writable=True) as bank:
        bank.write(names(2), made(2))
        records = made(2, 1)
        records[field][1] = value
        with pytest.raises(AdapterBankError, match=f"'{field}' of user:world:1 is not"):
            bank.write(names(2), records)
        assert same(bank.read(names(2)), made(2))


def test_records_that_do_not_fit_are_refused(tmp_path):
    with AdapterBank(tmp_path, SPEC, writable=True) as bank:
        with pytest.raises(AdapterBankError, match="records of this base"):
            bank.write(names(1), AdapterSpec(4, 3).fresh(1))
        with pytest.raises(AdapterBankError, match="records of this base"):
            bank.write(names(2), SPEC.fresh(1))
        with pytest.raises(AdapterBankError, match="somebody twice"):
            bank.write(["a", "a"], SPEC.fresh(2))
        assert bank.stats().users == 0


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (AdapterSpec(6, 3, 2, 4.0, "abc"), "width 5, not 6"),
        (AdapterSpec(5, 2, 2, 4.0, "abc"), "outputs 3, not 2"),
        (AdapterSpec(5, 3, 1, 4.0, "abc"), "rank 2, not 1"),
        (AdapterSpec(5, 3, 2, 2.0, "abc"), "alpha 4.0, not 2.0"),
        (AdapterSpec(5, 3, 2, 4.0, "abd"), "base 'abc', not 'abd'"),
    ],
)
def test_another_base_is_refused_by_name(tmp_path, other, named):
    AdapterBank(tmp_path, SPEC, writable=True).close()
    for writable in (False, True):
        with pytest.raises(AdapterBankError, match=named):
            AdapterBank(tmp_path, other, writable)
    with pytest.raises(AdapterBankError, match="packing 'float16', not 'int8'"):
        AdapterBank(tmp_path, SPEC, packing="int8")
    with pytest.raises(SettingError, match="packed as float16 or int8"):
        AdapterBank(tmp_path / "new", SPEC, writable=True, packing="int4")


def test_one_writes_and_a_reader_does_not(tmp_path):
    with AdapterBank(tmp_path, SPEC, writable=True) as bank:
        with pytest.raises(AdapterBankError, match="another one holds"):
            AdapterBank(tmp_path, SPEC, writable=True)
        reader = AdapterBank(tmp_path, SPEC)
        for refused in (
            lambda: reader.write(names(1), made(1)),
            reader.commit,
            reader.compact,
            lambda: reader.forget("user:world:1"),
        ):
            with pytest.raises(AdapterBankError, match="opened to read"):
                refused()
        bank.write(names(1), made(1))
    AdapterBank(tmp_path, writable=True).close()
    with pytest.raises(AdapterBankError, match="opened to read"):
        bank.write(names(1), made(1))


def test_what_is_no_bank_is_named(tmp_path):
    with pytest.raises(AdapterBankError, match="holds no bank"):
        AdapterBank(tmp_path)
    (tmp_path / "spec.json").write_text('{"format": "poem", "version": 1}')
    with pytest.raises(AdapterBankError, match="poem"):
        AdapterBank(tmp_path)


def no_room(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_and_what_was_committed_stands(tmp_path, monkeypatch):
    bank = AdapterBank(tmp_path, SPEC, writable=True)
    bank.write(names(200), made(200))
    bank.commit()
    with monkeypatch.context() as patch:
        patch.setattr(adapter_bank_files.os, "posix_fallocate", no_room)
        with pytest.raises(AdapterBankError, match="No space left.*free space"):
            bank.write(names(5_000, 200), made(5_000, 1))
        with pytest.raises(AdapterBankError, match="No space left"):
            bank.compact()
        assert same(bank.read(names(200)), made(200)) and not bank.has(["user:world:200"])[0]
        bank.write(names(3), made(3, 2))  # room that is there is used
    with monkeypatch.context() as patch:
        patch.setattr(adapter_bank_files.os, "pwrite", no_room)
        with pytest.raises(AdapterBankError, match="No space left"):
            bank.write(names(1), made(1, 3))
        with pytest.raises(AdapterBankError, match="No space left"):
            bank.commit()
    assert same(bank.read(names(3)), made(3, 2)) and same(bank.read(names(197, 3)), made(200)[3:])
    bank.write(names(5_000, 200), made(5_000, 1))
    assert bank.compact() is not None
    bank.close()
    again = AdapterBank(tmp_path)
    assert same(again.read(names(5_000, 200)), made(5_000, 1)) and same(again.read(names(3)), made(3, 2))
    assert len([*tmp_path.iterdir()]) == 5 and again.stats(look=True).damaged == 0


def test_eight_bits_stay_within_half_a_step(tmp_path):
    spec = AdapterSpec(width=64, outputs=64, rank=2, base="abc")
    records = made(500, spec=spec)
    records["down"][0], records["up"][1, :, 1] = 0, 0
    with AdapterBank(tmp_path, spec, writable=True, packing="int8") as bank:
        bank.write(names(500), records)
        found = bank.read(names(500))
        assert bank.stats().record_bytes < 0.6 * spec.dtype.itemsize
    for field, axis in (("down", 2), ("up", 1)):
        step = np.abs(records[field].astype(float)).max(axis=axis, keepdims=True) / 127
        rounding = np.abs(records[field].astype(float)) * 2**-10  # back in float16
        assert (np.abs(found[field].astype(float) - records[field]) <= step / 2 + rounding + 1e-4).all()
    for field in ("gathered", "events", "last_ts", "number"):
        assert same(found[field], records[field])
    assert same(AdapterBank(tmp_path, spec).read(names(500)), found)
