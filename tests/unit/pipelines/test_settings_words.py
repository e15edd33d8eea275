"""``fewlabel settings``: words and names that nobody knows are faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fewlabel.cli import app
from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.value_syntax import nest
from fewlabel.pipelines import stage_table
from fewlabel.pipelines.settings_reference import PIPELINES, SERVICES, setting_rows
from fewlabel.pipelines.stage_table import STAGES
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
        ("zzz", f"Choose from {', '.join([*STAGES, *PIPELINES, *SERVICES])}"),
    ],
)
def test_unknown_stages_get_the_nearest_or_all_there_are(stage: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as caught:
        setting_rows(stage)
    (fault,) = caught.value.faults
    assert fault.problem == f'Unknown stage "{stage}"'
    assert fault.remedy == remedy


def test_a_pipeline_knows_which_settings_of_the_network_the_user_gave(tmp_path: Path) -> None:
    """A recipe gives way to an encoder, the user's words do not."""
    values = {**nest(["network.depth=4", "finetune.network.norm=instance"]), "data": tmp_path, "out": tmp_path / "run"}
    settings = train_settings(values, "acdc-lite")
    assert settings.user_network == {"depth", "norm"}
    found: Any = plan(settings)
    assert (found["finetune"].network.width, found["pretrain"].network.width) == (16, 16)


@pytest.mark.parametrize("recipe", [None, "acdc-lite"])
def test_a_stage_is_told_which_settings_of_the_network_the_user_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str | None
) -> None:
    told: list[tuple[str, Any, dict[str, Any]]] = []
    monkeypatch.setattr(stage_table, "run_stage", lambda name, settings, **known: told.append((name, settings, known)))
    for name in ("finetune", "pretrain"):
        stage_table.run_values(name, {**nest(["network.depth=4"]), "data": tmp_path, "out": tmp_path / "out"}, recipe)
    (_, tuning, known), (_, _, nothing) = told
    assert known == ({} if recipe is None else {"user_network": {"depth"}})
    assert nothing == {}
    assert (tuning.network.width, tuning.network.depth) == (32 if recipe is None else 16, 4)
