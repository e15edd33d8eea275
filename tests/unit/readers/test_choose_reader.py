import pytest

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.core.registry import plugin_names
from fewlabel.readers.acdc import AcdcReader
from fewlabel.readers.base import Match, choose_reader, read_catalog
from kit.scans import nnunet_folder


def test_the_best_match_is_taken_and_says_why(tmp_path):
    choice = choose_reader(nnunet_folder(tmp_path))
    assert choice.name == "nnunet"
    assert choice.match.score == 1
    assert "dataset.json" in choice.match.reasons


def test_a_reader_can_be_forced_by_id_or_with_settings(tmp_path):
    root = nnunet_folder(tmp_path)
    for reader in ("table", {"name": "table"}):
        choice = choose_reader(root, reader)
        assert choice.name == "table"
        assert choice.match.reasons[0] == "chosen by the user"
    with pytest.raises(SettingsError, match="Did you mean nnunet"):
        choose_reader(root, "nnunett")
    with pytest.raises(SettingsError, match="unknown setting"):
        choose_reader(root, {"name": "table", "colour": 1})


def test_no_match_is_one_fault_with_every_reader_and_its_reasons(tmp_path):
    with pytest.raises(DataError) as error:
        choose_reader(tmp_path)
    (fault,) = error.value.faults
    assert fault.problem.startswith("Unknown layout. Tried ")
    for name in plugin_names("fewlabel.readers"):
        assert f"{name} (no" in fault.problem
    assert "nnunet (no images in imagesTr; no dataset.json)" in fault.problem
    with pytest.raises(DataError, match=r"gone does not exist\. Check the path"):
        choose_reader(tmp_path / "gone")


@pytest.mark.parametrize(("score", "ambiguous"), [(0.95, True), (0.91, True), (0.9, False), (0.5, False)])
def test_two_matches_within_a_tenth_are_ambiguous(tmp_path, monkeypatch, score, ambiguous):
    root = nnunet_folder(tmp_path)
    monkeypatch.setattr(AcdcReader, "match", classmethod(lambda cls, root: Match(score, ("looks like it",))))
    if ambiguous:
        with pytest.raises(DataError, match=rf"nnunet \(score 1\.00: .*\), acdc \(score {score:.2f}: looks like it\)"):
            choose_reader(root)
        assert choose_reader(root, "nnunet").name == "nnunet"
    else:
        assert choose_reader(root).name == "nnunet"


def test_just_below_the_threshold_is_no_match(tmp_path, monkeypatch):
    monkeypatch.setattr(AcdcReader, "match", classmethod(lambda cls, root: Match(0.49, ("nearly",))))
    with pytest.raises(DataError, match=r"Tried acdc \(nearly\), "):
        choose_reader(tmp_path)


def test_catalog_paths_are_absolute(tmp_path, monkeypatch):
    nnunet_folder(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    _, catalog = read_catalog(Path("data"))
    assert all(path.is_absolute() for case in catalog.cases for path in case.images)
