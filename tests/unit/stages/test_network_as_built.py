"""The architecture that is recorded is the one that was built; other words are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.value_syntax import nest
from fewlabel.stages import finetune, pretrain
from kit.stores import make_store
from kit.tiny import NETWORK, finetune_settings, pretrain_settings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("built") / "prepared", subjects=8, depth=3, size=(16, 16), phases=1)


@pytest.fixture(scope="module")
def encoder(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain.run(
        pretrain_settings(store, tmp_path_factory.mktemp("encoders") / "encoder", steps=2, method="simclr")
    )


def recorded(folder: Path) -> tuple[Any, Any]:
    settings = read_json(folder / "manifest.json")["settings"]
    return settings["network"], settings["identity"]["network"]


def test_a_word_that_the_encoder_contradicts_is_refused(store: Path, encoder: Path, tmp_path: Path) -> None:
    over = nest(["network.width=32", "network.depth=3", "network.norm=group"])
    with pytest.raises(SettingsError) as caught:
        finetune.run(finetune_settings(store, tmp_path / "out", encoder=encoder, control=True, **over))
    faults = {fault.where: fault for fault in caught.value.faults}
    assert set(faults) == {"network.width", "network.norm"}
    assert faults["network.width"].problem == f"is 32, but the encoder {encoder} has 4"
    assert faults["network.width"].remedy
    assert not (tmp_path / "out").exists()


def test_defaults_and_recipes_give_way_to_the_encoder_and_the_record_says_so(
    store: Path, encoder: Path, tmp_path: Path, said: list[str]
) -> None:
    built = {**read_json(encoder / "encoder.json")["architecture"]}
    assert built["width"] == 4
    cases = {"default": {"network": {}}, "recipe": {"network": {"width": 32, "depth": 3}}}
    for name, over in cases.items():
        said.clear()
        out = tmp_path / name
        finetune.run(finetune_settings(store, out, encoder=encoder, control=True, labelled=1, **over), {"depth"})
        for folder in (out, finetune.control_folder(out)):
            assert read_json(folder / "segmenter.json")["architecture"] == built
            assert recorded(folder) == (built, built)
        told = [line for line in said if "network" in line]
        assert told == ([f"network: that of {encoder}, width=4 (not 32)."] if name == "recipe" else [])


def test_words_equal_to_the_encoder_are_fine(store: Path, encoder: Path, tmp_path: Path) -> None:
    over = nest(["network.width=4", "network.depth=3", "network.in_channels=1"])
    finetune.run(finetune_settings(store, tmp_path / "out", encoder=encoder, labelled=1, **over))


def test_without_an_encoder_the_words_count(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finetune.run(finetune_settings(store, out, labelled=1, **nest(["network.width=8", "network.depth=2"])))
    built = read_json(out / "segmenter.json")["architecture"]
    assert (built["width"], built["depth"]) == (8, 2)
    assert recorded(out) == (built, built)


def test_channels_are_those_of_the_data(store: Path, tmp_path: Path) -> None:
    for network in ({**NETWORK, "in_channels": 3}, nest(["network.in_channels=3"])["network"]):
        for stage, make in ((pretrain, pretrain_settings), (finetune, finetune_settings)):
            with pytest.raises(SettingsError, match=r"network\.in_channels: is 3, but the data in .* have 1"):
                stage.run(make(store, tmp_path / "out", network=network))  # type: ignore[attr-defined]
            assert not (tmp_path / "out").exists()


def test_channels_by_default_are_those_of_the_data(tmp_path: Path) -> None:
    two = make_store(tmp_path / "two", subjects=4, depth=3, size=(16, 16), phases=1, channels=2)
    out = pretrain.run(pretrain_settings(two, tmp_path / "out", steps=2, method="simclr"))
    built = read_json(out / "encoder.json")["architecture"]
    assert built["in_channels"] == 2
    assert recorded(out) == (built, built)
    with pytest.raises(SettingsError, match=r"network\.in_channels: is 1, but the data in .* have 2"):
        pretrain.run(pretrain_settings(two, tmp_path / "other", method="simclr", network={**NETWORK, "in_channels": 1}))


def test_patches_make_the_network_3d_unless_it_is_to_be_2d(store: Path, tmp_path: Path) -> None:
    patch = {"patch": [4, 8, 8], "labelled": 1}
    with pytest.raises(SettingsError, match=r"network\.ndim"):
        finetune.run(finetune_settings(store, tmp_path / "a", **patch, network={**NETWORK, "ndim": 2}))
    out = finetune.run(finetune_settings(store, tmp_path / "b", **patch, steps=2))
    assert recorded(out)[0]["ndim"] == 3
