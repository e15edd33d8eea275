import zipfile

import numpy as np
import pytest

from fewlabel.data.io.npz import NpzFile


def test_what_an_array_is_before_it_is_read(tmp_path):
    image = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    np.savez_compressed(tmp_path / "a.npz", image=image, label=np.zeros(5, np.float32))
    content = NpzFile(tmp_path / "a.npz")
    assert list(content) == ["image", "label"]
    array = content["image"]
    assert (array.shape, array.dtype, array.size, array.nbytes, len(array)) == ((2, 3, 4), np.int16, 24, 48, 2)
    assert np.array_equal(array[()], image)
    assert np.array_equal(array[1], image[1])
    content.close()


def test_python_objects_and_damaged_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.array([{}]))
    with pytest.raises(ValueError, match="the array image holds Python objects"):
        NpzFile(tmp_path / "a.npz")["image"]
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(zipfile.BadZipFile):
        NpzFile(tmp_path / "b.npz")
