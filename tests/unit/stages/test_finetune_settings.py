"""What settings of fine-tuning must agree in: views and patches with the network that is built, all faults at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.pipelines.train import plan, train_settings
from fewlabel.stages import finetune
from fewlabel.stages.finetune import FinetuneSettings
from kit.stores import make_store


def faults(**values: Any) -> dict[str, str]:
    """Setting → what is wrong with it."""
    with pytest.raises(SettingsError) as caught:
        FinetuneSettings.parse({"data": "prepared", "out": "out", **values}, where="finetune.")
    return {fault.where.removeprefix("finetune."): fault.problem for fault in caught.value.faults}


def settings(store: Path, out: Path, **values: Any) -> FinetuneSettings:
    common = {"data": store, "out": out, "steps": 2, "batch": 2, "labelled": 1, "validation": "none", "device": "cpu"}
    return FinetuneSettings.parse({**common, **values})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("small") / "prepared", subjects=6, depth=2, size=(48, 40), phases=1)


class TestViews:
    def test_a_view_is_held_against_the_network_that_is_built(self, small: Path, tmp_path: Path) -> None:
        """48x40 pixels make four levels, whose stride is 8."""
        fit = finetune.begin(settings(small, tmp_path / "a", view=[24, 24], network={"width": 4}))
        assert fit.model.network.config.depth == 4
        assert fit.view == (24, 24)
        with pytest.raises(SettingsError, match=r"multiples of 8 for a network of depth 4.*\[20, 20\].*view=\[24,24\]"):
            finetune.begin(settings(small, tmp_path / "b", view=[20, 20], network={"width": 4}))

    def test_slices_and_views_are_told_at_once(self, small: Path, tmp_path: Path) -> None:
        given = settings(small, tmp_path / "c", network={"width": 4}, view=[20, 20])
        deep = given.model_copy(update={"network": type(given.network)(width=4, depth=5)})
        with pytest.raises(SettingsError) as caught:
            finetune.begin(deep)
        assert [fault.where for fault in caught.value.faults] == [str(small), "view"]

    def test_what_no_network_can_halve_is_refused_by_the_settings(self) -> None:
        assert faults(view=[30, 32]) == {"view": "sides must be multiples of 16 for a network of depth 5, not [30, 32]"}
        assert faults(view=[24, 24], network={"depth": 5}).keys() == {"view"}

    def test_train_holds_it_against_the_size_it_is_told(self, tmp_path: Path) -> None:
        def planned(size: list[int], view: list[int]) -> Any:
            values = {"data": tmp_path, "out": tmp_path / "run", "pretraining": False, "budget": "off"}
            return plan(train_settings({**values, "prepare": {"size": size}, "finetune": {"view": view}}))

        assert planned([48, 40], [24, 24])["finetune"].view == (24, 24)
        with pytest.raises(SettingsError, match=r"finetune\.view: .*multiples of 16 for a network of depth 5"):
            planned([160, 160], [24, 24])


class TestAllAtOnce:
    def test_views_and_patches_are_told_with_what_else_is_wrong(self) -> None:
        assert faults(steps=0, view=[8, 8, 8]).keys() == {"steps", "view"}
        assert faults(steps=0, view=[32, 32], patch=[16, 32, 32]).keys() == {"steps", "view"}
        assert faults(network={"widht": 8}, patch=[15, 16, 16], optimiser={"lr": -1}).keys() == {
            "network.widht",
            "patch",
            "optimiser.lr",
        }
        assert faults(batch=0, draw=2).keys() == {"batch", "draw"}
        found = faults(regime={"name": "supervised", "lr": 1}, network={"ndim": 3})
        assert found.keys() == {"regime.lr", "network.ndim"}

    def test_rules_about_a_setting_that_is_wrong_itself_are_passed_over(self) -> None:
        assert faults(view=["a", 8], patch=[16, 32, 32]).keys() == {"view.0"}
        assert faults(labelled=0, draw=2).keys() == {"labelled"}
        assert faults(patch="no", network={"ndim": 3}).keys() == {"patch"}

    def test_what_is_missing_is_told_with_them(self) -> None:
        with pytest.raises(SettingsError) as caught:
            FinetuneSettings.parse({"view": [8, 8, 8]})
        assert {fault.where for fault in caught.value.faults} == {"data", "out", "view"}
