"""A full disk is told before anything is written; nothing half-written stays."""

import errno
import os
import shutil

import numpy as np
import pytest

from fewlabel.core.errors import FewlabelError
from fewlabel.core.unfinished_files import partial_beside
from fewlabel.data import preallocated_arrays
from fewlabel.data.preallocated_arrays import reserved_arrays

ARRAYS = {"images.npy": (np.float16, (3, 1, 40, 50)), "labels.npy": (np.uint8, (3, 40, 50))}
BYTES = 3 * 40 * 50 * 3


def refusing(code, after=0):
    calls = []

    def fallocate(*words):
        calls.append(words)
        if len(calls) > after:
            raise OSError(code, os.strerror(code))

    return fallocate


def with_free(count):
    return lambda folder: shutil._ntuple_diskusage(10 * count, 9 * count, count)


def test_arrays_have_their_space(tmp_path):
    images, labels = reserved_arrays(tmp_path, ARRAYS)
    images[1], labels[2] = 0.5, 7
    images.flush()
    labels.flush()
    for name, (dtype, shape) in ARRAYS.items():
        read = np.load(tmp_path / name)
        assert (read.dtype, read.shape) == (np.dtype(dtype), shape)
        assert (tmp_path / name).stat().st_blocks * 512 >= read.nbytes
    assert np.load(tmp_path / "labels.npy").sum() == 7 * 2000


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_names_folder_and_bytes(tmp_path, monkeypatch, code, after):
    monkeypatch.setattr(os, "posix_fallocate", refusing(code, after))
    monkeypatch.setattr(preallocated_arrays.shutil, "disk_usage", with_free(1234))
    partial = partial_beside(tmp_path / "my.store")
    partial.mkdir()
    with pytest.raises(FewlabelError) as caught:
        reserved_arrays(partial, ARRAYS)
    (fault,) = caught.value.faults
    assert fault.where == str(tmp_path / "my.store")
    assert fault.problem == f"no room on its disk: {BYTES} bytes are needed, 1234 bytes free"
    assert caught.value.exit_code == 6
    assert list(partial.iterdir()) == []


@pytest.mark.parametrize("free", [BYTES // 2, 2 * BYTES])
@pytest.mark.parametrize("how", ["no call", "no support"])
def test_without_reservation_the_free_space_is_compared(tmp_path, monkeypatch, free, how):
    if how == "no call":
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refusing(errno.EOPNOTSUPP))
    monkeypatch.setattr(preallocated_arrays.shutil, "disk_usage", with_free(free))
    if free > BYTES:
        assert [array.shape for array in reserved_arrays(tmp_path, ARRAYS)] == [shape for _, shape in ARRAYS.values()]
        return
    with pytest.raises(FewlabelError, match=f"{BYTES} bytes are needed, {free} bytes free"):
        reserved_arrays(tmp_path, ARRAYS)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        reserved_arrays(tmp_path, ARRAYS)
    assert list(tmp_path.iterdir()) == []
