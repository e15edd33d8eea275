"""Arrays are written as numpy writes them, and a full disk has its number."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import numpy as np
import pytest

from fewlabel.data.array_saving import save_array


@pytest.mark.parametrize("array", [np.arange(24, dtype=np.float16).reshape(2, 3, 4), np.zeros((0, 5), np.uint8)])
def test_the_bytes_are_those_of_numpy(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "numpy.npy", array)
    save_array(tmp_path / "ours.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="a device that is always full")
def test_a_full_disk_has_its_number_and_the_file_its_name() -> None:
    with pytest.raises(OSError, match="/dev/full") as told:
        save_array(Path("/dev/full"), np.zeros(100_000))
    assert told.value.errno == errno.ENOSPC
