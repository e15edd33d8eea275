"""The harness itself: inputs are decided by seed and number, and what must not be is seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.plugin_discovery import plugin_names
from fuzz import rows, workers
from fuzz.declared import declared_mib
from fuzz.laid import LaidTree
from fuzz.mutations import mutated
from fuzz.mutations.aware import BY_ENDING, aware
from fuzz.one_input import Bench, of_before_seals
from fuzz.outcomes import DIED, ERROR, FOREIGN, HANG, MEMORY, OUTSIDE, SILENT, SOUND, Outcome
from fuzz.targets import TARGETS
from fuzz.targets.base import NOT_THERE, Target
from fuzz.trees import Folder, Link, read_tree, tree_digest, write_tree
from fuzz.watching import Writes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def writes() -> Writes:
    return Writes()


def plain() -> None:
    Path("a.json").write_text('{"a": [1, 2, 3], "b": "text"}')


def bench(writes, meet, **more) -> Bench:
    return Bench(Target("toy", "file", plain, meet, **more), writes)


def verdicts(writes, meet, count=6, **more) -> list[str]:
    """Outcomes of some inputs; the toy behaves until the sound input has been met."""
    calm = {"yes": True}
    made = bench(writes, lambda folder, index: None if calm["yes"] else meet(folder, index), **more)
    calm["yes"] = False
    try:
        return [made.try_one(0, index).verdict for index in range(count)]
    finally:
        made.close()


def raises(error):
    raise error


def test_an_input_is_decided_by_target_seed_and_number():
    base = {"a.json": b'{"a": [1, 2]}', "b.nii": bytes(400)}
    made = [mutated(base, "t", 3, index) for index in range(200)]
    assert made == [mutated(base, "t", 3, index) for index in range(200)]
    assert sum(tree == base for tree, _ in made) < 20
    assert len({str(tree) for tree, _ in made}) > 150
    others = [mutated(base, *other) for other in (("u", 3, 8), ("t", 4, 8), ("t", 3, 9))]
    assert made[8] not in others
    assert all(tree["b.nii"] == bytes(400) for tree, _ in (mutated(base, "t", 3, n, {"b.nii"}) for n in range(50)))


def test_errors_of_the_product_hold_and_others_do_not(writes):
    told = DataError("A file cannot be read:", [Fault("is damaged")])
    assert verdicts(writes, lambda folder, index: raises(told)) == [ERROR] * 6
    assert verdicts(writes, lambda folder, index: raises(DataError(" "))) == [FOREIGN] * 6
    assert verdicts(writes, lambda folder, index: {}["x"]) == [FOREIGN] * 6
    assert verdicts(writes, lambda folder, index: None) == [SOUND] * 6


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: (folder.parent / "beside.txt").write_text("x"),
        lambda folder: (folder / "../beside").mkdir(),
        lambda folder: (folder / "a.json").rename(folder.parent / "moved"),
        lambda folder: (folder.parent / "gone").unlink(missing_ok=True),
        lambda folder: (folder.parent / "link").symlink_to("/etc"),
        # Not by Python: what is left beside the folder is seen all the same.
        lambda folder: subprocess.run(["touch", folder.parent / "native"], check=True),
    ],
)
def test_a_change_outside_of_the_folder_is_seen(writes, act):
    assert verdicts(writes, lambda folder, index: act(folder) if index > 1 else None)[2:] == [OUTSIDE] * 4


def test_temporary_files_are_allowed_and_none_is_left(writes):
    def tidy(folder, index):
        with tempfile.TemporaryDirectory() as place:
            Path(place, "x").write_text("x")

    assert verdicts(writes, tidy) == [SOUND] * 6
    assert verdicts(writes, lambda folder, index: tempfile.mkdtemp() if index > 1 else None)[2:] == [OUTSIDE] * 4


def test_reading_a_file_elsewhere_is_seen_where_it_must_not_be(writes):
    def meet(folder, index):
        # Not by Python.
        subprocess.run(["cat", folder / "../elsewhere.raw"], capture_output=True, check=False)

    assert verdicts(writes, meet, 2, confined=True) == [OUTSIDE] * 2
    assert verdicts(writes, meet, 2) == [SOUND] * 2
    assert verdicts(writes, lambda folder, index: None, 2, confined=True) == [SOUND] * 2


def test_what_is_written_into_the_folder_is_nobodys_matter(writes):
    def meet(folder, index):
        (folder / "new").mkdir()
        (folder / "new/x").write_text("x")
        (folder / "new/x").rename(folder / "y")

    assert verdicts(writes, meet) == [SOUND] * 6


def test_memory_is_held_against_what_is_declared(writes):
    def meet(folder, index):
        np.ones(1 << 27).sum()  # 1 GiB: a system short of memory may take pages that lie idle meanwhile

    assert MEMORY in verdicts(writes, meet, 2)
    image = bytearray(400)
    np.frombuffer(image, "<i2", 8, 40)[:] = (3, 1000, 1000, 100, 1, 1, 1, 1)
    assert declared_mib({"x.nii": bytes(image)}) == pytest.approx(4e8 / 2**20)


def test_a_sealed_artifact_that_is_another_is_not_taken(writes):
    def build():
        Path("a.json").write_text("0123456789")

    def taken(folder, index):
        path = folder / "a.json"
        return path.read_bytes() if path.is_file() else NOT_THERE

    made = Bench(Target("toy", "artifact", build, taken, sealed=True), writes)
    try:
        found = {made.try_one(0, index).verdict for index in range(40)}
    finally:
        made.close()
    assert SILENT in found


def test_what_no_seal_vouches_for_is_of_before_seals():
    assert of_before_seals({"a/manifest.json": b'{"kind": "x"}'})
    assert not of_before_seals({"a/manifest.json": b'{"kind": "x", "sha256": "0"}', "b.json": b"{}"})
    assert not of_before_seals({"run.json": b"[" * 5000, "manifest.json": b"3"})


def test_processes_that_hang_or_die_are_begun_anew(monkeypatch):
    monkeypatch.setattr(workers, "HANG_SECONDS", 0.3)

    def meet(folder, index):
        if index == 2:
            os._exit(3)
        while index == 4:
            time.monotonic()
        return {}["x"] if index == 5 else None

    monkeypatch.setitem(TARGETS, "toy", Target("toy", "file", plain, meet))
    told = []
    tally = workers.run("toy", 0, 1, 8, lambda index, outcome: told.append((index, outcome.verdict)))
    assert told == [(2, DIED), (4, HANG), (5, FOREIGN)]
    assert dict(tally.verdicts) == {SOUND: 4, DIED: 1, HANG: 1, FOREIGN: 1}
    assert (tally.tried, tally.failed) == (7, 3)
    # Begun anew in the middle, no input is tried twice or left out.
    monkeypatch.setattr(workers, "RENEWED", 2)
    monkeypatch.setitem(TARGETS, "toy", Target("toy", "file", plain, lambda folder, index: None))
    assert workers.run("toy", 0, 0, 5).verdicts == {SOUND: 5}


def test_a_target_whose_sound_input_does_not_hold_is_an_error(monkeypatch):
    monkeypatch.setitem(TARGETS, "toy", Target("toy", "file", plain, lambda folder, index: {}["x"]))
    with pytest.raises(RuntimeError, match="toy: the sound input does not hold"):
        workers.run("toy", 0, 0, 5)


def test_rows_say_what_is_not_to_be_tried_again(tmp_path, monkeypatch):
    monkeypatch.setitem(TARGETS, "toy", Target("toy", "file", plain, lambda folder, index: None))
    path = tmp_path / "fuzz.jsonl"
    assert rows.tried_until(path, "toy", 7) == 0
    tally = workers.Tally("toy", 7, 0, 3)
    for index, verdict in enumerate((SOUND, ERROR, FOREIGN)):
        tally.add(index, Outcome(verdict, "why"))
    rows.append(path, tally)
    assert rows.tried_until(path, "toy", 7) == 3
    assert (rows.tried_until(path, "toy", 8), rows.tried_until(path, "file-png", 7)) == (0, 0)
    row = rows.row_of(tally)
    # Made of another sound input, the same numbers are other inputs.
    path.write_text(json.dumps({**row, "base": "0" * 12}) + "\n")
    assert rows.tried_until(path, "toy", 7) == 0
    assert (row["tried"], row["held"], row["failed"]) == (3, 2, 1)
    assert row["failures"] == [{"input": 2, "verdict": FOREIGN, "why": "why"}]


@pytest.mark.parametrize("name", ["artifact-encoder", "artifact-checkpoint", "reader-dicom"])
def test_sound_inputs_are_the_same_whenever_they_are_built(tmp_path, monkeypatch, name):
    built = []
    for number in range(4):
        home = tmp_path / str(number)
        home.mkdir()
        monkeypatch.chdir(home)
        TARGETS[name].build()
        built.append(tree_digest(read_tree(home)))
    assert len(set(built)) == 1


def test_a_laid_tree_becomes_each_input_and_is_put_back(tmp_path):
    base = {"a.txt": b"a", "in/b.txt": b"b", "in/c.txt": b"c", "only/d.txt": b"d"}
    laid = LaidTree(tmp_path / "case", base)
    kept = (laid.folder / "in/c.txt").stat()
    for number in range(300):
        tree, done = mutated(base, "t", 0, number)
        tree = {name: entry for name, entry in tree.items() if name != "in/c.txt"} | {"in/c.txt": base["in/c.txt"]}
        laid.become(tree)
        write_tree(tmp_path / "fresh", tree)
        assert read_tree(laid.folder) == read_tree(tmp_path / "fresh"), done
        assert _kinds(laid.folder) == _kinds(tmp_path / "fresh"), done
        shutil.rmtree(tmp_path / "fresh")
        act = number % 6
        if act == 1:
            (laid.folder / "out/deep").mkdir(parents=True)
            (laid.folder / "out/deep/x").write_text("x")
        elif act == 2 and (laid.folder / "in/b.txt").is_file():
            (laid.folder / "in/b.txt").write_text("of the product")
        elif act == 3:
            shutil.rmtree(laid.folder / "in", ignore_errors=True)
        elif act == 4:
            shutil.rmtree(laid.folder)
        laid.put_back()
        assert read_tree(laid.folder) == base, done
        assert _kinds(laid.folder) == ["a.txt", "in/", "in/b.txt", "in/c.txt", "only/", "only/d.txt"]
        if number == 2:
            # What no input changed was not written again.
            assert (laid.folder / "in/c.txt").stat().st_ino == kept.st_ino


def _kinds(folder):
    walk = ((path, path.relative_to(folder).as_posix()) for path in folder.rglob("*"))
    return sorted(f"{name}@" if path.is_symlink() else f"{name}/" if path.is_dir() else name for path, name in walk)


def test_what_a_process_remembers_is_not_taken_for_another_input(writes):
    """The same name, the same size, written within one tick of the clock: the product sees that it is another."""
    seen = []

    def meet(folder, index):
        facts = (folder / "a.json").stat() if (folder / "a.json").is_file() else None
        seen.append(facts and (facts.st_size, facts.st_mtime_ns))

    assert set(verdicts(writes, meet, 60)) == {SOUND}
    changed = [each for each in seen if each is not None]
    assert len(changed) > 30
    assert len(set(changed)) >= len(changed) - 3


def test_trees_are_laid_out_inside_of_their_folder_alone(tmp_path):
    tree = {"a/b.txt": b"x", "../out": b"y", "/var/out": b"z", "link": Link("a"), "folder": Folder(), "a/b.txt/c": b"w"}
    write_tree(tmp_path / "t", tree)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t"]
    assert (tmp_path / "t/link").is_symlink()
    assert (tmp_path / "t/folder").is_dir()
    assert read_tree(tmp_path / "t")["a/b.txt"] == b"x"


def test_every_reader_is_fuzzed():
    kinds = {target.name.removeprefix("reader-").replace("-", "_") for target in TARGETS.values()}
    missing = [name for name in plugin_names("fewlabel.readers") if not any(kind.startswith(name) for kind in kinds)]
    assert missing == []


def test_mutations_know_the_files_that_they_say_they_know():
    """Of sound files none is taken apart in vain, and every ending is that of some file of a target."""
    from random import Random

    met = set()
    for name in ("reader-table-csv", "reader-table-xlsx", "reader-table-parquet", "reader-npz", "reader-acdc",
                 "reader-dicom", "reader-bids", "file-nii", "file-hdr-img", "file-nhdr", "file-mha", "file-mhd",
                 "file-png", "file-jpeg", "file-tiff", "artifact-predictions", "artifact-recipe"):  # fmt: skip
        for file, content in TARGETS[name].base().items():
            ending = max((end for end in BY_ENDING if file.endswith(end)), key=len, default="")
            if not ending or ending in met:
                continue
            met.add(ending)
            done = [aware(file, content, Random(number)) for number in range(60)]
            in_vain = [what for _, what in done if "on taking it apart" in what]
            assert len(in_vain) <= 6, (file, in_vain)
            assert len({changed for changed, _ in done}) > 25, file
    of_stores = {".npy", ".safetensors"}
    assert met | of_stores | {".list"} == set(BY_ENDING)


def test_one_command_makes_an_input_again(tmp_path):
    words = [sys.executable, "tests/fuzz", "--again", "artifact-split-file", "0", "5"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.split()[0] in (SOUND, ERROR), done.stderr
    subprocess.run([*words, "--keep", tmp_path / "kept"], check=True, cwd=ROOT, capture_output=True)
    target = TARGETS["artifact-split-file"]
    assert read_tree(tmp_path / "kept") == mutated(target.base(), target.name, 0, 5)[0]
