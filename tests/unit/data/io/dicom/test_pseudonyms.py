"""Pseudonyms: one for a patient wherever the key is the same, which reading writes nowhere near the data."""

import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.io.dicom import pseudonyms
from fewlabel.data.io.dicom.pseudonym_tables import merge_scans, write_scans, write_unreadable
from fewlabel.data.io.dicom.pseudonyms import FOLDER, load_pseudonyms


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))


def code(names):
    return names.code("patient", "", "4711")


def test_reading_writes_nothing_into_the_data_and_finds_the_same_key_again(tmp_path):
    below = tmp_path / "data" / "p1"
    below.mkdir(parents=True)
    above = load_pseudonyms(tmp_path / "data")
    assert len(code(above)) == 10
    assert above.home == above.user_folder
    assert above.home.is_relative_to(tmp_path / "own")
    assert "data" not in above.home.name
    assert above.home.stat().st_mode & 0o077 == 0
    assert list((tmp_path / "data").iterdir()) == [below]
    assert code(load_pseudonyms(tmp_path / "data")) == code(load_pseudonyms(below)) == code(above)
    assert above.code("study", "", "4711") != code(above)
    (tmp_path / "other").mkdir()
    assert code(load_pseudonyms(tmp_path / "other")) != code(above)


def test_the_key_moves_beside_the_data_with_its_table(tmp_path, monkeypatch):
    (tmp_path / "data" / "p1").mkdir(parents=True)
    first = load_pseudonyms(tmp_path / "data")
    write_scans([{"scan": "p1"}], first.home, first.user_folder)
    # Started on a part, it moves to the folder that it is of.
    moved = load_pseudonyms(tmp_path / "data" / "p1").beside_the_data()
    assert moved.home == tmp_path / "data" / FOLDER
    assert (moved.home / "scans.csv").read_text().splitlines()[1].startswith("p1,")
    assert list(first.user_folder.iterdir()) == []
    assert code(moved) == code(first)
    # Another user finds it.
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another"))
    again = load_pseudonyms(tmp_path / "data")
    assert (code(again), again.home) == (code(first), moved.home)
    assert again.beside_the_data() == again


def test_read_only_data_keep_their_key_with_the_user(tmp_path, monkeypatch):
    data = tmp_path / "data"
    (data / "p1").mkdir(parents=True)
    data.chmod(0o555)
    try:
        first = load_pseudonyms(data)
        assert first.beside_the_data() == first
        assert [path.name for path in data.iterdir()] == ["p1"]
    finally:
        data.chmod(0o755)
    made = pseudonyms._created

    def refuse(path, key):
        if path.is_relative_to(data):
            raise PermissionError(13, "Permission denied")
        return made(path, key)

    monkeypatch.setattr(pseudonyms, "_created", refuse)
    assert first.beside_the_data() == first
    assert code(load_pseudonyms(data / "p1")) == code(first)


def test_two_keys_of_one_data_set_are_not_mixed(tmp_path, monkeypatch):
    first = load_pseudonyms(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another"))
    load_pseudonyms(tmp_path).beside_the_data()
    with pytest.raises(DataError, match="another key"):
        first.beside_the_data()


def test_without_a_place_for_the_key(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"no place for the key.*XDG_DATA_HOME"):
        load_pseudonyms(tmp_path)


def test_a_damaged_key_is_not_replaced(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "key").write_text("beef")
    with pytest.raises(DataError, match="is no key of pseudonyms"):
        load_pseudonyms(tmp_path)


def test_tables_keep_rows_of_other_data_and_leave_a_table_alone_that_says_it_already(tmp_path):
    home, own = tmp_path / "home", tmp_path / "user"
    rows = [{"scan": "p2", "patient": "4711"}, {"scan": "p1", "folder": "/\udcff"}]
    assert write_scans(rows, home, own) == own / "scans.csv"
    assert write_scans([{"scan": "p3"}], home, own) == own / "scans.csv"
    lines = (own / "scans.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["scan", "p1", "p2", "p3"]
    merge_scans(own / "scans.csv", home / "scans.csv")
    (own / "scans.csv").unlink()
    assert write_scans(rows[:1], home, own) == home / "scans.csv"
    assert not (own / "scans.csv").exists()
    assert write_scans([{"scan": "p2", "patient": "4712"}], home, own) == own / "scans.csv"
    assert "4712" not in (home / "scans.csv").read_text()


def test_the_table_of_damaged_files_goes_with_them(tmp_path):
    table = write_unreadable([(tmp_path / "x", "is cut off")], tmp_path)
    assert table.read_text() == f"file,problem\n{tmp_path / 'x'},is cut off\n"
    assert write_unreadable([], tmp_path) is None
    assert not table.exists()
