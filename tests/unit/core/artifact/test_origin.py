"""What an artifact names as its parents: the content that was opened, not what lies there when it is finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabel.core.artifact.manifest import Origin, finish_artifact, open_artifact
from fewlabel.core.artifact.unchanged import check_file, check_origin
from fewlabel.core.errors import ArtifactError
from fewlabel.engine.runs import close_run


def make(folder: Path, text: str, kind: str = "prepared") -> Origin:
    folder.mkdir(exist_ok=True)
    (folder / "a.bin").write_text(text)
    return Origin.of(folder, finish_artifact(folder, kind, ["a.bin"]))


def test_a_parent_is_named_as_it_was_opened(tmp_path: Path) -> None:
    origin = make(tmp_path / "p", "one")
    assert make(tmp_path / "p", "two").content_hash != origin.content_hash
    child = tmp_path / "child"
    child.mkdir()
    (child / "b.txt").write_text("b")
    facts = {"settings": {}, "same": {}, "seed": 0, "device": "cpu", "precision": "32", "started": 0.0}
    close_run(child, "encoder", ["b.txt"], parents=[origin], **facts)
    (parent,) = open_artifact(child, check_parents=False).parents
    assert (parent.kind, parent.path, parent.content_hash) == ("prepared", "../p", origin.content_hash)
    with pytest.raises(ArtifactError, match=f"made from it: {origin.content_hash[:12]} then"):
        open_artifact(child)
    make(tmp_path / "p", "one")
    open_artifact(child)


def test_a_parent_may_be_gone_by_the_end(tmp_path: Path) -> None:
    origin = make(tmp_path / "p", "one")
    (tmp_path / "p/manifest.json").unlink()
    (tmp_path / "b.txt").write_text("b")
    made = finish_artifact(tmp_path, "encoder", ["b.txt"], parents=[origin])
    assert made.parents[0].content_hash == origin.content_hash
    open_artifact(tmp_path)


def test_a_bare_folder_is_a_parent_as_it_is_now(tmp_path: Path) -> None:
    now = make(tmp_path / "p", "one").content_hash
    (tmp_path / "b.txt").write_text("b")
    assert finish_artifact(tmp_path, "encoder", ["b.txt"], parents=[tmp_path / "p"]).parents[0].content_hash == now


def test_an_origin_that_was_replaced_or_removed_is_told(tmp_path: Path) -> None:
    origin = make(tmp_path / "p", "one")
    check_origin(origin)
    make(tmp_path / "p", "two")
    with pytest.raises(ArtifactError, match="replaced"):
        check_origin(origin)
    (tmp_path / "p/manifest.json").unlink()
    with pytest.raises(ArtifactError, match="nothing now"):
        check_origin(origin)


def test_a_file_of_any_size_is_held_against_its_hash(tmp_path: Path) -> None:
    make(tmp_path / "p", "one")
    check_file(tmp_path / "p", "a.bin")
    (tmp_path / "p/a.bin").write_text("eno")
    open_artifact(tmp_path / "p")
    with pytest.raises(ArtifactError, match=r"a\.bin has changed since it was made\. Put the old file back, or make"):
        check_file(tmp_path / "p", "a.bin")
    (tmp_path / "p/a.bin").unlink()
    with pytest.raises(ArtifactError, match=r"a\.bin"):
        check_file(tmp_path / "p", "a.bin")
    check_file(tmp_path, "anything")
