"""Readers beside a writer in another process: whole records, never older ones than before."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from models.adapter_bank import AdapterBank
from models.adapters import AdapterSpec

SPEC = AdapterSpec(width=60, outputs=60, rank=2)
ROOT = Path(__file__).resolve().parents[2]
_WRITER = """
import sys
from pathlib import Path
from models.adapter_bank import AdapterBank
with AdapterBank(Path(sys.argv[1]), writable=True, commit_every=500) as bank:
    users = [f"user:world:{number}" for number in range(8)]
    for number in range(1, 801):
        records = bank.spec.fresh(8)
        for name in records.dtype.names:
            records[name] = number
        bank.write(users, records)
        if number % 160 == 0:
            bank.write([f"user:later:{number}-{one}" for one in range(400)], bank.spec.fresh(400))
            bank.forget(f"user:later:{number}-3")
            bank.compact()
"""


def test_a_reader_sees_whole_records_that_only_get_newer(tmp_path):
    AdapterBank(tmp_path, SPEC, writable=True).close()
    users, reader = [f"user:world:{number}" for number in range(8)], AdapterBank(tmp_path, SPEC)
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], cwd=ROOT)
    newest, seen = np.zeros(8), set()
    try:
        while newest.min() < 800:
            assert writer.poll() in (None, 0)
            records = reader.read(users)
            numbers = records["number"].astype(np.float16)
            assert (records["down"] == numbers[:, None, None]).all()
            assert (records["up"] == numbers[:, None, None]).all()
            assert (records["events"] == records["number"]).all()
            assert (records["number"] >= newest).all()
            newest = records["number"]
            seen.add(int(newest[0]))
        assert writer.wait() == 0
    finally:
        writer.kill()
        writer.wait()
    assert len(seen) > 10 and not reader.damaged
    assert reader.stats().users == 8 + 5 * 399
