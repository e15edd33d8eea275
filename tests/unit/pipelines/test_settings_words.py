"""``fewlabel settings``: words and names that nobody knows are faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fewlabel.cli import app
from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.config import given
from fewlabel.core.settings.values import nest
from fewlabel.pipelines.settings import setting_rows
from fewlabel.pipelines.stages import STAGES, stage_settings
from fewlabel.pipelines.train import plan, train_settings


@pytest.mark.parametrize(
    ("words", "where", "remedy"),
    [
        (("pretrain", "metod=gcl"), "metod", "Did you mean method?"),
        (("pretrain", "method.temprature=1"), "method.temprature", "Did you mean temperature?"),
        (("pretrain", "network.widht=1"), "network.widht", "Did you mean width?"),
        (("pretrain", "xyz=1"), "xyz", "Choose from"),
        (("pretrain", "steps=abc"), "steps", ""),
        (("train", "stesp=1"), "stesp", "Did you mean steps?"),
        (("train", "pretrain.metod=gcl"), "pretrain.metod", "Did you mean method?"),
        (("demo", "patiens=4"), "patiens", "Did you mean patients?"),
        (("demo", "finetune.stepz=4"), "finetune.stepz", "Did you mean steps?"),
    ],
)
def test_unknown_words_are_faults(words: tuple[str, ...], where: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as caught:
        setting_rows(words[0], nest(words[1:]))
    (fault,) = caught.value.faults
    assert fault.where == where
    assert remedy in fault.remedy
    assert CliRunner().invoke(app, ["settings", *words]).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("pretrain", "method=gcl", "method.temperature=0.2", "network.width=8"),
        ("finetune", "regime=arco", "encoder=e"),
        ("train", "pretrain.method=gcl", "steps=3", "data=d", "out=o"),
        ("demo", "patients=7", "labelled=1", "finetune.steps=3"),
        ("prepare", "reader=acdc", "size=[32,32]"),
        ("report",),
    ],
)
def test_known_words_are_fine(words: tuple[str, ...]) -> None:
    assert setting_rows(words[0], nest(words[1:]))


@pytest.mark.parametrize(
    ("stage", "remedy"),
    [
        ("trian", "Did you mean train?"),
        ("zzz", f"Choose from {', '.join(STAGES)}, train, demo"),
    ],
)
def test_unknown_stages_get_the_nearest_or_all_there_are(stage: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as caught:
        setting_rows(stage)
    (fault,) = caught.value.faults
    assert fault.problem == f'Unknown stage "{stage}"'
    assert fault.remedy == remedy


def test_words_reach_the_stages_of_a_pipeline_as_words(tmp_path: Path) -> None:
    """A recipe gives way to an encoder, the user's words do not."""
    words = nest(["network.depth=4", "finetune.network.norm=instance"])
    own = {"data": tmp_path / "data", "out": tmp_path / "run"}
    found: Any = plan(train_settings({**words, **own}, "acdc-lite"))
    assert given(found["finetune"].network) == {"depth", "norm"}
    assert given(found["pretrain"].network) == {"depth"}
    assert (found["finetune"].network.width, found["pretrain"].network.width) == (16, 16)
    settings: Any = stage_settings("finetune", {**nest(["network.depth=4"]), **own}, "acdc-lite")
    assert given(settings.network) == {"depth"}
    assert settings.network.width == 16
