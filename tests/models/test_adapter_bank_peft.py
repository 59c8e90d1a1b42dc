"""A user leaves in PEFT's format, which PEFT loads to the same shift, and what PEFT saves comes in."""

import json
import shutil

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from torch import nn

from models.adapter_bank import AdapterBank, AdapterBankError
from models.adapters import AdapterSpec, shifts

SPEC = AdapterSpec(width=6, outputs=4, rank=2, alpha=3.0, base="abc")


class Head(nn.Module):
    """One linear layer under the name that is adapted."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)


def made() -> np.ndarray:
    draw, records = np.random.default_rng(0), SPEC.fresh(1)
    records["down"], records["up"] = (draw.normal(size=records[name].shape) for name in ("down", "up"))
    records["gathered"], records["events"], records["last_ts"], records["number"] = 0.4, 7, 1_000, 33
    return records


@pytest.fixture
def bank(tmp_path):
    with AdapterBank(tmp_path / "bank", SPEC, writable=True) as bank:
        bank.write(["ann", "bob"], made()[[0, 0]], applied=50)
        bank.export_user("ann", tmp_path / "ann")
        yield bank


def test_peft_loads_it_and_shifts_alike(bank, tmp_path):
    base, x = Head(), torch.randn(5, 6)
    before = base(x).detach()
    found = PeftModel.from_pretrained(base, str(tmp_path / "ann"))(x).detach() - before
    assert_allclose(found.numpy(), shifts(SPEC, made()[[0] * 5], x.numpy()), atol=1e-5)


def test_it_comes_back_to_the_bit_and_under_this_log(bank, tmp_path):
    with AdapterBank(tmp_path / "other", SPEC, writable=True) as other:
        other.import_user("cy", tmp_path / "ann")
        other.commit(applied=9)
        right = made()
        right["number"] = 0
        assert other.read(["cy"]).tobytes() == right.tobytes()
    bank.import_user("cy", tmp_path / "ann")
    assert bank.read(["cy"])["number"][0] == 50 and bank.read(["bob"]).tobytes() == made().tobytes()


def test_what_peft_saves_comes_in(bank, tmp_path):
    config = LoraConfig(r=2, lora_alpha=3.0, target_modules=["head"], init_lora_weights=False)
    model = get_peft_model(Head(), config)
    model.save_pretrained(str(tmp_path / "saved"))
    told = tmp_path / "saved" / "adapter_config.json"  # a model of ours has no name that PEFT could know
    told.write_text(json.dumps({**json.loads(told.read_text()), "base_model_name_or_path": "abc"}))
    bank.import_user("dee", tmp_path / "saved")
    x = torch.randn(3, 6)
    model = PeftModel.from_pretrained(Head(), str(tmp_path / "saved"))
    with model.disable_adapter():
        before = model(x).detach()
    right = model(x).detach() - before
    assert_allclose(shifts(SPEC, bank.read(["dee"] * 3), x.numpy()), right.numpy(), atol=5e-3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"r": 4}, "r 4, not 2"),
        ({"lora_alpha": 8}, "lora_alpha 8, not 3.0"),
        ({"base_model_name_or_path": "abd"}, "base 'abd', not 'abc'"),
        ({"use_dora": True}, "use_dora True, not False"),
        ({"rank_pattern": {"head": 3}}, "a rank_pattern"),
        ({"peft_type": "IA3"}, "peft_type 'IA3', not 'LORA'"),
    ],
)
def test_another_adapter_is_refused_by_name(bank, tmp_path, change, named):
    path = tmp_path / "ann" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(AdapterBankError, match=named):
        bank.import_user("cy", tmp_path / "ann")
    assert not bank.has(["cy"])[0]


def test_strange_weights_and_files_are_refused(bank, tmp_path):
    path = tmp_path / "ann" / "adapter_model.safetensors"
    good, (name, _) = load_file(path), load_file(path)
    for bad, said in (
        (np.full_like(good[name], np.nan), "finite in float16"),
        (np.full_like(good[name], 1e6), "finite in float16"),
        (good[name][:, 1:], "of shape"),
    ):
        save_file({**good, name: np.ascontiguousarray(bad)}, path)
        with pytest.raises(AdapterBankError, match=said):
            bank.import_user("cy", tmp_path / "ann")
    save_file({**good, "base_model.model.tail.lora_A.weight": good[name]}, path)
    with pytest.raises(AdapterBankError, match="nothing besides A and B"):
        bank.import_user("cy", tmp_path / "ann")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(AdapterBankError, match="as PEFT saves them"):
        bank.import_user("cy", tmp_path / "ann")
    shutil.rmtree(tmp_path / "ann")
    with pytest.raises(AdapterBankError, match="as PEFT saves them"):
        bank.import_user("cy", tmp_path / "ann")
    with pytest.raises(AdapterBankError, match="holds nothing of 'nobody'"):
        bank.export_user("nobody", tmp_path / "ann")
