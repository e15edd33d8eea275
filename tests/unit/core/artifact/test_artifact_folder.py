"""Artifact folders: whole or not there, and honest about where they come from."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fewlabel.core.artifact import artifact_folder, files
from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact, is_artifact
from fewlabel.core.artifact.files import MANIFEST, building, read_json, write_bytes, write_json, write_text
from fewlabel.core.artifact.manifest_fields import SCHEMA_VERSION
from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.core.errors import ArtifactError


def make(folder: Path, kind: str = "prepared", text: str = "a", parents: tuple[Path, ...] = ()) -> Path:
    with building(folder) as partial:
        write_text(partial / "a.txt", text)
        (partial / "sub").mkdir()
        write_text(partial / "sub" / "b.txt", "b")
        finish_artifact(partial, kind, ["sub/b.txt", "a.txt"], parents=parents, final_folder=folder, seed=3)
    return folder


def fault_of(folder: Path, kind: str | None = None) -> str:
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(folder, kind)
    return str(caught.value)


def rewrite(folder: Path, **values: object) -> None:
    write_sealed(folder / MANIFEST, {**read_json(folder / MANIFEST), **values})


def test_a_manifest_says_what_the_folder_holds(tmp_path: Path) -> None:
    manifest = Artifact.open(make(tmp_path / "p"), "prepared").manifest
    assert manifest.files == {
        "a.txt": hashlib.sha256(b"a").hexdigest(),
        "sub/b.txt": hashlib.sha256(b"b").hexdigest(),
    }
    assert manifest.seed == 3
    assert manifest.versions["torch"]
    assert manifest.machine["cores"] >= 1
    assert manifest.machine["threads"] >= 1
    assert manifest.precision == ""
    assert manifest.schema_version == SCHEMA_VERSION


def test_the_content_hash_follows_content_and_kind_only(tmp_path: Path) -> None:
    def content(name: str, kind: str = "prepared", text: str = "a") -> str:
        return Artifact.open(make(tmp_path / name, kind, text)).content_hash

    first = content("one")
    assert content("two") == first
    assert content("three", text="c") != first
    assert content("four", kind="encoder") != first


def test_a_build_that_fails_leaves_the_old_folder_and_no_rest(tmp_path: Path) -> None:
    folder = make(tmp_path / "p")
    with pytest.raises(ArtifactError, match="cannot be read"), building(folder) as partial:  # noqa: PT012
        write_text(partial / "a.txt", "new")
        read_json(partial / "none.json")
    assert (folder / "a.txt").read_text() == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_a_build_replaces_the_old_folder_and_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    folder = make(tmp_path / "p")
    (tmp_path / ".p.0123abcd.partial").mkdir()
    (tmp_path / ".other.0123abcd.partial").mkdir()
    make(folder, text="new")
    assert (folder / "a.txt").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.0123abcd.partial", "p"]


def test_an_unfinished_folder_is_no_artifact(tmp_path: Path) -> None:
    folder = make(tmp_path / "p")
    (folder / MANIFEST).unlink()
    assert not is_artifact(folder, "prepared")
    assert "it has no manifest.json" in fault_of(folder)
    assert "does not exist" in fault_of(tmp_path / "none")


def test_another_kind_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "p")
    assert is_artifact(folder, "prepared")
    assert not is_artifact(folder, "encoder")
    assert "is an artifact of kind prepared, not encoder" in fault_of(folder, "encoder")


def test_a_newer_schema_is_refused_and_unknown_fields_are_not(tmp_path: Path) -> None:
    folder = make(tmp_path / "p")
    rewrite(folder, something_new=1)
    Artifact.open(folder)
    rewrite(folder, schema_version=SCHEMA_VERSION + 1)
    assert "Upgrade fewlabel" in fault_of(folder)


def test_a_lost_file_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "p")
    (folder / "sub" / "b.txt").unlink()
    (folder / "a.txt").unlink()
    told = fault_of(folder, "encoder")
    assert f"{folder / 'a.txt'} is missing" in told
    assert f"{folder / 'sub/b.txt'} is missing" in told
    assert "not encoder" in told


@pytest.mark.parametrize("text", ["", "[]", "{", '{"kind": 3}', '{"kind": "prepared"}'])
def test_a_damaged_manifest_is_an_artifact_error(tmp_path: Path, text: str) -> None:
    folder = make(tmp_path / "p")
    (folder / MANIFEST).write_text(text)
    assert str(folder) in fault_of(folder)
    assert not is_artifact(folder, "prepared")


def test_a_changed_parent_is_refused_with_both_hashes(tmp_path: Path) -> None:
    parent = make(tmp_path / "p")
    before = Artifact.open(parent).content_hash
    child = make(tmp_path / "deep" / "child", "encoder", parents=(parent,))
    assert Artifact.open(child).manifest.parents[0].path == "../../p"
    make(parent, text="new")
    after = Artifact.open(parent).content_hash
    told = fault_of(child)
    assert before[:12] in told
    assert after[:12] in told
    assert Artifact.open(child, check_parents=False).kind == "encoder"


def test_a_family_can_move_and_a_parent_can_be_gone(tmp_path: Path) -> None:
    parent = make(tmp_path / "run" / "p")
    child = make(tmp_path / "run" / "child", "encoder", parents=(parent,))
    assert Artifact.bare(child).parent_folder("prepared") == parent
    assert Artifact.bare(child).parent_folder("encoder") is None
    moved = tmp_path / "elsewhere"
    (tmp_path / "run").rename(moved)
    assert Artifact.bare(moved / "child").parent_folder("prepared") == moved / "p"
    Artifact.open(moved / "child", "encoder")
    shutil.rmtree(moved / "p")
    Artifact.open(moved / "child", "encoder")
    assert Artifact.bare(moved / "child").parent_folder("prepared") is None


def test_an_artifact_of_an_unfinished_parent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    with pytest.raises(ArtifactError, match="p is not a finished"):
        make(tmp_path / "child", "encoder", parents=(tmp_path / "p",))
    assert not (tmp_path / "child").exists()


def test_writes_are_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "x.bin"
    write_bytes(target, b"old")

    def fail(handle: int) -> None:
        raise OSError("disk")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="disk"):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["x.bin"]


def test_json_refuses_what_json_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()
    write_json(tmp_path / "x.json", {"ä": [1, None]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"ä": [1, None]}


def test_unreadable_json_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_json(tmp_path / "none.json")
    (tmp_path / "x.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_json(tmp_path / "x.json")


def test_two_that_build_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    with building(tmp_path / "x") as first:
        write_text(first / "a.txt", "first")
        with building(tmp_path / "x") as second:
            write_text(second / "a.txt", "second")
        assert (first / "a.txt").read_text() == "first"
        assert (tmp_path / "x" / "a.txt").read_text() == "second"
    assert (tmp_path / "x" / "a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with building(tmp_path / "x") as mine:
        owner = mine.name.split(".")[-3]
        host = owner.rpartition("-")[0]
        left, elsewhere = (
            tmp_path / f".x.{name}.0badf00d.partial" for name in (f"{host}-{dead.pid}", f"other-host-{dead.pid}")
        )
        left.mkdir()
        elsewhere.mkdir()
    make(tmp_path / "x")
    assert not left.exists()
    assert elsewhere.exists()


def small_files(folder: Path) -> Path:
    with building(folder) as partial:
        write_json(partial / "split.json", {"test": ["a"]})
        write_text(partial / "slices.parquet", "rows")
        write_text(partial / "images.npy", "pixels")
        finish_artifact(partial, "prepared", ["split.json", "slices.parquet", "images.npy"], final_folder=folder)
    return folder


def test_a_small_file_that_was_edited_is_named(tmp_path: Path) -> None:
    folder = small_files(tmp_path / "p")
    Artifact.open(folder)
    write_json(folder / "split.json", {"test": ["b"]})
    (folder / "slices.parquet").write_text("other")
    told = fault_of(folder, "prepared")
    assert "split.json has changed" in told
    assert "slices.parquet has changed" in told
    assert "or make the artifact again" in told
    assert not is_artifact(folder, "prepared")
    write_json(folder / "split.json", {"test": ["a"]})
    (folder / "slices.parquet").write_text("rows")
    Artifact.open(folder)


def test_opening_reads_no_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small_files(tmp_path / "p")
    read: list[str] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path.name), original(path))[1])
    Artifact.open(folder)
    assert sorted(read) == ["slices.parquet", "split.json"]
    monkeypatch.setattr(artifact_folder, "CHECKED_BYTES", 4)
    read.clear()
    Artifact.open(folder)
    assert read == ["slices.parquet"]


@pytest.mark.parametrize("filled", [False, True])
def test_a_build_in_the_current_folder_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, filled: bool
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    if filled:
        make(here, text="old")
        (here / "more.txt").write_text("old")
    monkeypatch.chdir(here)
    make(Path())
    # The same folder as before: a shell or a process in it goes on.
    assert Path("a.txt").read_text() == "a"
    assert sorted(path.name for path in here.iterdir()) == ["a.txt", MANIFEST, "sub"]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert Artifact.open(Path()).kind == "prepared"


def test_a_build_in_the_folder_above_stays_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    make(Path("deeper"))
    make(Path("../beside"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deeper"]


def test_a_name_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / ".run[1].0123abcd.partial").mkdir()
    (tmp_path / ".run1.0123abcd.partial").mkdir()
    make(tmp_path / "run[1]")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run1.0123abcd.partial", "run[1]"]


def test_threads_are_those_of_torch_and_looking_does_not_load_it() -> None:
    code = (
        "import sys\n"
        "from fewlabel.core.artifact.artifact_folder import machine_facts\n"
        "assert machine_facts()['threads'] == 1 and 'torch' not in sys.modules\n"
        "import torch\n"
        "torch.set_num_threads(3)\n"
        "assert machine_facts()['threads'] == 3\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_stage_with_threads_of_its_own_says_so(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "a")
    finish_artifact(tmp_path, "prepared", ["a.txt"], threads=7, precision="32")
    manifest = Artifact.open(tmp_path).manifest
    assert (manifest.machine["threads"], manifest.precision) == (7, "32")


@pytest.mark.parametrize("name", ["../other.json", "/etc/hostname", "a/../../b.json"])
def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path, name):
    folder = tmp_path / "a"
    folder.mkdir()
    values = {"kind": "prepared", "schema_version": 1, "content_hash": "", "files": {"a.json": "0", name: "0"}}
    write_sealed(folder / MANIFEST, values)
    with pytest.raises(ArtifactError, match=f"names {re.escape(name)}, which is no file of its folder"):
        Artifact.open(folder)
