"""What an artifact names as its parents: the content that was opened, not what lies there when it is finished."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.errors import ArtifactError
from fewlabel.engine.run_folder_state import close_run


def make(folder: Path, text: str, kind: str = "prepared") -> Artifact:
    folder.mkdir(exist_ok=True)
    (folder / "a.bin").write_text(text)
    finish_artifact(folder, kind, ["a.bin"])
    return Artifact.open(folder)


def test_a_parent_is_named_as_it_was_opened(tmp_path: Path) -> None:
    origin = make(tmp_path / "p", "one")
    assert make(tmp_path / "p", "two").content_hash != origin.content_hash
    child = tmp_path / "child"
    child.mkdir()
    (child / "b.txt").write_text("b")
    facts = {
        "settings": SimpleNamespace(record=dict, seed=0, precision="32"),
        "same": {},
        "device": torch.device("cpu"),
        "started": 0.0,
    }
    close_run(child, "encoder", ["b.txt"], parents=[origin], **facts)
    (parent,) = Artifact.open(child, check_parents=False).manifest.parents
    assert (parent.kind, parent.path, parent.content_hash) == ("prepared", "../p", origin.content_hash)
    with pytest.raises(ArtifactError, match=f"made from it: {origin.content_hash[:12]} then"):
        Artifact.open(child)
    make(tmp_path / "p", "one")
    Artifact.open(child)


def test_a_parent_may_be_gone_by_the_end(tmp_path: Path) -> None:
    origin = make(tmp_path / "p", "one")
    (tmp_path / "p/manifest.json").unlink()
    (tmp_path / "b.txt").write_text("b")
    made = finish_artifact(tmp_path, "encoder", ["b.txt"], parents=[origin])
    assert made.parents[0].content_hash == origin.content_hash
    Artifact.open(tmp_path)


def test_a_bare_folder_is_a_parent_as_it_is_now(tmp_path: Path) -> None:
    now = make(tmp_path / "p", "one").content_hash
    (tmp_path / "b.txt").write_text("b")
    assert finish_artifact(tmp_path, "encoder", ["b.txt"], parents=[tmp_path / "p"]).parents[0].content_hash == now


def test_an_origin_that_was_replaced_or_removed_is_told(tmp_path: Path) -> None:
    origin = make(tmp_path / "p", "one")
    origin.check_unchanged()
    make(tmp_path / "p", "two")
    with pytest.raises(ArtifactError, match="replaced"):
        origin.check_unchanged()
    (tmp_path / "p/manifest.json").unlink()
    with pytest.raises(ArtifactError, match="nothing now"):
        origin.check_unchanged()


def test_a_file_of_any_size_is_held_against_its_hash(tmp_path: Path) -> None:
    make(tmp_path / "p", "one")
    Artifact.bare(tmp_path / "p").verified("a.bin")
    (tmp_path / "p/a.bin").write_text("eno")
    Artifact.open(tmp_path / "p")
    with pytest.raises(ArtifactError, match=r"a\.bin has changed since it was made\. Put the old file back, or make"):
        Artifact.bare(tmp_path / "p").verified("a.bin")
    (tmp_path / "p/a.bin").unlink()
    with pytest.raises(ArtifactError, match=r"a\.bin"):
        Artifact.bare(tmp_path / "p").verified("a.bin")
    assert Artifact.bare(tmp_path).verified("anything") == tmp_path / "anything"
