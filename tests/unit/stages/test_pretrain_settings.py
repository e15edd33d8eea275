"""What pre-training refuses before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.nets.unet import UNetConfig
from fewlabel.stages.pretrain import PretrainSettings


def test_a_network_of_volumes_is_refused_beside_all_other_faults(tmp_path: Path) -> None:
    """Pre-training works on slices."""
    values = {"data": tmp_path, "out": tmp_path / "encoder", "network": {"ndim": 3}}
    with pytest.raises(SettingsError) as caught:
        PretrainSettings.parse({**values, "batch": 1, "method": {"name": "gcl", "temperature": -1.0}})
    faults = {fault.where: fault for fault in caught.value.faults}
    assert set(faults) == {"network.ndim", "batch", "method.temperature"}
    fault = faults["network.ndim"]
    assert fault.problem.startswith("pre-training works on slices, so its network is 2D")
    assert "patch=[DEPTH,HEIGHT,WIDTH]" in fault.problem
    assert fault.problem.endswith("(given 3)")
    assert fault.remedy


def test_the_same_in_a_pipeline_names_the_stage(tmp_path: Path) -> None:
    values = {"data": tmp_path, "out": tmp_path / "encoder", "network": {"ndim": 3, "depht": 4}}
    with pytest.raises(SettingsError) as caught:
        PretrainSettings.parse(values, where="pretrain.")
    assert [fault.where for fault in caught.value.faults] == ["pretrain.network.ndim", "pretrain.network.depht"]


def test_the_architecture_is_otherwise_that_of_any_network(tmp_path: Path) -> None:
    settings = PretrainSettings.parse({"data": tmp_path, "out": tmp_path, "network": {"width": 8}})
    assert settings.network.record() == UNetConfig(width=8).record()
    given = PretrainSettings.parse({"data": tmp_path, "out": tmp_path, "network": UNetConfig(width=8)})
    assert given.network.record() == UNetConfig(width=8).record()
    with pytest.raises(SettingsError, match=r"network\.ndim|works on slices"):
        PretrainSettings.parse({"data": tmp_path, "out": tmp_path, "network": UNetConfig(ndim=3)})
