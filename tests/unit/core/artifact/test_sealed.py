"""JSON of unfinished runs, and of runs, is as it was written, or named."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from fewlabel.core.artifact.run_record import read_run, write_run
from fewlabel.core.artifact.sealed import read_sealed, write_sealed
from fewlabel.core.errors import ArtifactError
from fewlabel.engine.record import parse_record

VALUES = {"identity": {"seed": 0, "sides": (3, 4)}, "dice": 0.1 + 0.2, "name": "Größe", "none": None}


def test_a_bit_that_changes_what_is_said_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, VALUES)
    kept = read_sealed(path, "")
    assert kept == json.loads(json.dumps(VALUES))
    write_sealed(path, {**kept, "sha256": "old"})
    assert read_sealed(path, "") == kept
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 200):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(changed))
        # Blanks between the values say nothing.
        with suppress(ArtifactError):
            assert read_sealed(path, "Delete it") == kept


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b"7", b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_object_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.json"):
        read_sealed(tmp_path / "a.json", "Delete it")


def test_the_record_of_a_run(tmp_path: Path) -> None:
    assert read_run(tmp_path) == {}
    record = {"kind": "run", "stages": {"prepare": {"folder": "prepared", "seconds": 1.5}}, "use": None}
    write_run(tmp_path, record)
    assert read_run(tmp_path) == record
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace("1.5", "1.6"))
    with pytest.raises(ArtifactError, match=r"run\.json is not as it was written\. Put the old file back"):
        read_run(tmp_path)
    # Those of older versions say nothing of how they were written: their shape is looked at.
    for shape in (
        {"stages": [1]},
        {"stages": {"a": 3}},
        {"use": {"arm": "model", "content": [1]}},
        {"settings": {"prepare": 1}},
        {"resolved": {"command": ["x"]}},
        {"resolved": {"words": "x"}},
    ):
        path.write_text(json.dumps({"kind": "run", **shape}))
        with pytest.raises(ArtifactError, match=r"run\.json is not the record of a run"):
            read_run(tmp_path)
    for other in ([1], {"kind": "theirs", "stages": 3}):
        path.write_text(json.dumps(other))
        assert read_run(tmp_path) == {}


def test_a_record_of_steps_loses_no_more_than_a_row_that_was_cut_off() -> None:
    whole = b'{"step": 0, "loss": 1.0}\n{"step": 1, "loss": 0.5}\n'
    assert [row["step"] for row in parse_record(whole, Path("m"))] == [0, 1]
    assert [row["step"] for row in parse_record(whole[:-5], Path("m"))] == [0]
    for damaged in (b"[]\n" + whole, whole.replace(b'"step": 0', b'"step": "0"'), b"\xff\n" + whole, b"{}\n" + whole):
        with pytest.raises(ArtifactError, match="m is damaged: line 1 is not a row"):
            parse_record(damaged, Path("m"))
