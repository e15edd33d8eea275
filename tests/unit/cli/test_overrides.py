"""Words and options of a command as nested values."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabel.cli.overrides import collect
from fewlabel.core.errors import SettingsError


def test_options_that_were_not_given_do_not_count() -> None:
    options = {"out": None, "resume": False, "device": "cpu", "flip": True}
    assert collect({"data": "p"}, ["steps=3"], options) == {"steps": 3, "data": "p", "device": "cpu", "flip": True}


def test_options_win_over_words() -> None:
    assert collect({}, ["device=cuda", "method=gcl", "method.k=1"], {"device": "cpu"}) == {
        "device": "cpu",
        "method": {"name": "gcl", "k": 1},
    }


def test_a_setting_in_the_place_of_the_folder_is_a_setting() -> None:
    assert collect({"data": "data=p"}, ["out=e"]) == {"data": "p", "out": "e"}
    assert collect({"model": "model=m", "scans": "scans=s"}, None) == {"model": "m", "scans": "s"}


def test_a_folder_with_an_equals_sign_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1").mkdir()
    assert collect({"data": "lr=1"}, None) == {"data": "lr=1"}
    assert collect({"data": "runs/lr=2"}, None) == {"data": "runs/lr=2"}


def test_words_without_an_equals_sign_are_refused() -> None:
    with pytest.raises(SettingsError, match="key=value"):
        collect({"data": "p"}, ["gcl"])
