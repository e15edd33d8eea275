"""The key of a copy that was given away is never overwritten by that of a later one."""

from pathlib import Path

from fewlabel.pipelines.share.identifying_names import Names
from fewlabel.pipelines.share.key_files import is_key, write_key


def names(*cases: str) -> Names:
    numbered = {case: f"case-{number:03d}" for number, case in enumerate(cases, start=1)}
    return Names(numbered, {}, {}, {}, frozenset())


def test_each_key_that_differs_is_kept(tmp_path: Path) -> None:
    first = write_key(tmp_path, names("a", "c"))
    before = first.read_bytes()
    second = write_key(tmp_path, names("a", "b", "c"))
    assert (first.name, second.name) == ("share-key.csv", "share-key-2.csv")
    assert first.read_bytes() == before
    assert second.read_text().splitlines()[2] == "case,case-002,b"
    assert second.stat().st_mode & 0o077 == 0
    assert write_key(tmp_path, names("a", "c")) == first
    assert write_key(tmp_path, names("a", "b", "c")) == second
    assert write_key(tmp_path, names("b")).name == "share-key-3.csv"
    assert all(is_key(path.name) for path in tmp_path.iterdir())


def test_what_cannot_be_read_is_kept(tmp_path: Path) -> None:
    (tmp_path / "share-key.csv").mkdir()
    (tmp_path / "share-key-2.csv").symlink_to(tmp_path / "nowhere")
    assert write_key(tmp_path, names("a")).name == "share-key-3.csv"
    assert not is_key("share-key-of-mine.csv")
