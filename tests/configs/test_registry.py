"""A name becomes an object; a wrong name or setting says what there is."""

import dataclasses

import pytest

from configs.loading import load
from configs.registry import Registry, SettingError, UnknownName


@dataclasses.dataclass(frozen=True)
class CupConfig:
    size_ml: int = 200
    colours: tuple[str, ...] = ()


@pytest.fixture
def cups():
    registry = Registry("cup")

    @registry.register("mug", CupConfig)
    class Mug:
        def __init__(self, config):
            self.config = config

    return registry


def test_build_turns_lists_into_tuples(cups):
    assert cups.build("mug", {"colours": ["red"]}).config == CupConfig(colours=("red",))


def test_unknown_name_lists_the_nearest(cups):
    with pytest.raises(UnknownName, match="no cup is called 'mugg'; nearest: mug"):
        cups["mugg"]


def test_unknown_setting_is_refused(cups):
    with pytest.raises(SettingError, match="no setting 'size'; nearest: size_ml"):
        cups.build("mug", {"size": 1})


def test_a_name_is_taken_once(cups):
    with pytest.raises(SettingError, match="two cups"):
        cups.register("mug")(object)


def test_overrides_reach_only_what_is_there(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("model:\n  name: ease\n  l2: 1\n", encoding="utf-8")
    assert load(file, ["model.l2=2.5"])["model"] == {"name": "ease", "l2": 2.5}
    with pytest.raises(SettingError, match=r"no key 'model.l3'"):
        load(file, ["model.l3=1"])
    with pytest.raises(SettingError, match="key.key=value"):
        load(file, ["model.l2"])


@pytest.mark.parametrize("text", ["- 1\n", "a: [1\n", ""])
def test_a_spoilt_file_is_refused(tmp_path, text):
    file = tmp_path / "x.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError, match="x.yaml"):
        load(file)


def test_a_missing_file_says_what_there_is():
    with pytest.raises(FileNotFoundError, match="no settings 'nowhere'"):
        load("nowhere")
