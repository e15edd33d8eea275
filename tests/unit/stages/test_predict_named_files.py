"""A hidden file that is named is a scan, or a mask, as any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabel.core.artifact.run_record import write_run
from fewlabel.core.errors import ArtifactError
from fewlabel.data.io.file_names import is_scan, named_as_scan
from fewlabel.stages.predict import find_segmenter
from fewlabel.stages.predict.inputs import find_scans
from fewlabel.stages.predict.output_destination import Destination


@pytest.mark.parametrize("name", [".x.nii.gz", "..mask.nii.gz"])
def test_a_hidden_name_is_that_of_a_file(name: str, tmp_path: Path) -> None:
    assert Destination.of(tmp_path / name) == Destination(tmp_path, name)
    assert not is_scan(tmp_path / name)
    (tmp_path / name).touch()
    (scan,) = find_scans(tmp_path / name, 1, tmp_path / "out").scans
    assert scan.images == (tmp_path / name,)


def test_a_suffix_alone_is_no_name_of_an_image() -> None:
    assert not named_as_scan(Path(".nii"))
    assert named_as_scan(Path("a.nii.gz"))


def test_a_run_that_is_still_training_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, {"kind": "run", "finished": False, "stages": {}})
    with pytest.raises(ArtifactError, match=r"training is unfinished\. Finish it: fewlabel train --out .* --resume"):
        find_segmenter(tmp_path)
