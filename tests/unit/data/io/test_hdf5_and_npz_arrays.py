"""Arrays in HDF5 files: addresses, axes, stacks, faults, and what the rest of the house makes of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk

from fewlabel.core.errors import DataError
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.io import files_named_in_files, hdf5_and_npz_arrays
from fewlabel.data.io.catalog_paths import files_behind, is_there, scan_stem
from fewlabel.data.io.hdf5_and_npz_arrays import Address, shapes_of
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from fewlabel.data.scan_inspection import inspect_case
from fewlabel.data.source_fingerprint import source_files, source_key
from kit.h5 import ball, write_h5

SHAPE = (5, 4, 3)
MM = (5.0, 1.5, 0.75)


def counting(shape=SHAPE, dtype=np.float32):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def address(file: Path, key="image", order="zyx", spacing=MM) -> Address:
    return Address(file, key, order, spacing)


@pytest.mark.parametrize("name", ["mri_norm2.h5", "a b#1.h5", "patient001_frame01_slice_*.h5", "x.h5.h5"])
def test_an_address_travels_as_a_path(name):
    made = address(Path("/data/sets, old") / name, "scribble", "xyz", (0.625, 10.0, 1e-5))
    assert Address.parse(made.path) == made
    assert Address.parse(Path(str(made.path))) == made
    assert made.path.parent == made.file.parent


@pytest.mark.parametrize(
    "text", ["scan.nii.gz", "scan.h5", "scan.h5#image", "scan.h5#image,zyx,1x1", "s.h5#i,yzx,1x1x1"]
)
def test_other_paths_are_no_addresses(text):
    assert Address.parse(Path(text)) is None
    assert files_behind(Path(text)) == (Path(text),)


def test_axes_are_given_back_as_slice_row_column(tmp_path):
    stored = counting()
    file = write_h5(tmp_path / "v.h5", image=stored, flat=stored[0])
    np.testing.assert_array_equal(address(file).read(), stored)
    turned = address(file, order="xyz").read()
    assert turned.shape == (3, 4, 5)
    assert turned[2, 1, 4] == stored[4, 1, 2]
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(address(file, "flat").read(), stored[:1])
    for order in ("zyx", "xyz"):
        for key in ("image", "flat"):
            made = address(file, key, order)
            assert made.shape() == made.read().shape
    assert shapes_of(file) == {"image": (5, 4, 3), "flat": (4, 3)}


def test_numbered_slices_are_stacked_in_the_order_of_their_numbers(tmp_path):
    for number in (9, 11, 10, 8):
        write_h5(tmp_path / f"p1_slice_{number}.h5", image=np.full((4, 3), number, np.float32))
    for other in ("p1_slice_x.h5", "p11_slice_0.h5", "p1_slice_0.h5.bak", "p1_slice_3_old.h5"):
        (tmp_path / other).write_text("not one of them")
    stack = address(tmp_path / "p1_slice_*.h5")
    assert [file.name for file in stack.files] == [f"p1_slice_{number}.h5" for number in (8, 9, 10, 11)]
    assert stack.read()[:, 0, 0].tolist() == [8, 9, 10, 11]
    assert stack.shape() == (4, 4, 3)
    assert stack.stem == "p1_slice"
    assert is_there(stack.path)
    assert not is_there(address(tmp_path / "gone_slice_*.h5").path)
    assert is_there(tmp_path / "p1_slice_8.h5")
    write_h5(tmp_path / "p1_slice_12.h5", image=np.zeros((4, 5), np.float32))
    with pytest.raises(DataError, match=r"p1_slice_12\.h5.*size of the first slice, \(4, 3\), not \(4, 5\)"):
        stack.read()


@pytest.mark.parametrize(("numbers", "told"), [((0, 1, 3, 7), "1 then 3, 3 then 7"), (("1", "01", "2"), "1 twice")])
def test_a_stack_with_a_gap_is_a_fault(tmp_path, numbers, told):
    for number in numbers:
        write_h5(tmp_path / f"p_slice_{number}.h5", image=counting((4, 3)))
    stack = address(tmp_path / "p_slice_*.h5")
    assert is_there(stack.path)
    for call in (stack.shape, stack.read):
        with pytest.raises(DataError, match=rf"not numbered consecutively: {told}.*Restore"):
            call()


def test_faults_name_the_file(tmp_path):
    file = write_h5(tmp_path / "v.h5", image=counting(), four=counting((2, 2, 2, 2)))
    whole = file.read_bytes()
    for made, told in (
        (address(file, "label"), r'v\.h5: must hold an array "label", but holds four, image'),
        (address(file, "four"), "2D or 3D.*"),
        (address(tmp_path / "gone.h5"), "no such file"),
        (address(tmp_path / "gone_*.h5"), "no file matches"),
        (address(tmp_path / "v*.h5"), "no file matches"),
    ):
        for call in (made.shape, made.read):
            with pytest.raises(DataError, match=told):
                call()
    write_h5(tmp_path / "deep_0.h5", image=counting())
    for call in (address(tmp_path / "deep_*.h5").shape, address(tmp_path / "deep_*.h5").read):
        with pytest.raises(DataError, match="must be a 2D slice"):
            call()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"v\.h5: is not a complete HDF5 file"):
        address(file).read()
    file.write_text("plain text")
    with pytest.raises(DataError, match="complete HDF5"):
        shapes_of(file)


def test_the_house_reads_addresses_like_scans(tmp_path):
    mask = (counting() % 3).astype(np.float64)
    file = write_h5(tmp_path / "v.h5", image=counting(dtype=np.int16), label=mask, half=mask + 0.5)
    image = address(file, order="xyz")
    volume = read_volume((image.path,))
    assert volume.array.dtype == np.float32
    assert volume.array.shape == (1, 3, 4, 5)
    assert volume.spacing == MM
    assert read_geometry(image.path) == volume.geometry
    np.testing.assert_array_equal(volume.array[0], image.read())
    label = read_mask(address(file, "label", "xyz").path)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, mask.transpose(2, 1, 0))
    with pytest.raises(DataError, match="whole numbers"):
        read_mask(address(file, "half").path)
    assert scan_stem(image.path) == "v"
    write_mask(tmp_path / "out.nii.gz", label.astype(np.uint8), image.path)
    written = sitk.ReadImage(str(tmp_path / "out.nii.gz"))
    assert written.GetSpacing() == pytest.approx(MM[::-1])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), label)


def test_two_channels_must_share_their_grid(tmp_path):
    one, two = (write_h5(tmp_path / f"{name}.h5", image=counting()) for name in "ab")
    assert read_volume((address(one).path, address(two).path)).array.shape == (2, *SHAPE)
    with pytest.raises(DataError, match="spacing"):
        read_volume((address(one).path, address(two, spacing=(5.0, 1.5, 1.5)).path))


def test_the_key_of_a_store_follows_every_file_and_the_address(tmp_path):
    for number in range(2):
        write_h5(tmp_path / f"p_slice_{number}.h5", image=counting((4, 3)), label=counting((4, 3), np.uint8))

    def key(spacing=MM, label="label"):
        image, mask = (address(tmp_path / "p_slice_*.h5", name, spacing=spacing).path for name in ("image", label))
        catalog = Catalog("toy", tmp_path, "ssl4mis", (Case("p", "p", (image,), mask),))
        files = source_files(catalog)
        assert sorted(Path(file).name for file in files) == ["p_slice_0.h5", "p_slice_1.h5"]
        return source_key(catalog, files, {})

    first = key()
    assert key() == first
    assert len({first, key(spacing=(1.0, 1.0, 1.0)), key(label="scribble")}) == 3
    write_h5(tmp_path / "p_slice_1.h5", image=counting((4, 3)) + 1, label=counting((4, 3), np.uint8))
    assert key() != first
    (tmp_path / "p_slice_1.h5").unlink()
    (tmp_path / "p_slice_1.h5").mkdir()
    with pytest.raises(DataError, match=r"case p, .*p_slice_1\.h5"):
        key()


def test_arrays_without_a_finite_number_and_damaged_ones_are_refused_at_check(tmp_path):
    image, mask = ball()
    path = write_h5(
        tmp_path / "a.h5", image=image * np.nan, some=np.where(mask, image, np.nan), text=np.array([[b"a"]])
    )

    def faults(key):
        address = Address(path, key, "xyz", (1.0, 1.0, 1.0)).path
        return [fault.problem for fault in inspect_case(Case("a", "a", (address,)), 1).faults]

    assert faults("image") == ["has no finite voxel"]
    assert faults("some") == []
    assert faults("text") == ["must hold numbers, not |S1"]
    content = bytearray(write_h5(path, image=image).read_bytes())
    assert faults("image") == []
    middle = len(content) - 300
    content[middle : middle + 100] = bytes(100)
    path.write_bytes(content)
    assert any("is not a complete HDF5 file" in problem for problem in faults("image"))


def test_1_mm_is_an_assumption_unless_somebody_said_so(tmp_path):
    file = write_h5(tmp_path / "a.h5", image=np.zeros((2, 3, 4), np.float32))
    assumed = Address(file, "image", "zyx", (1.0, 1.0, 1.0))
    said = Address(file, "image", "zyx", (1.0, 1.0, 1.0), said=True)
    sized = Address(file, "image", "zyx", (5.0, 1.0, 1.0))
    # Paths in stores that were made before mean what they meant.
    assert assumed.path.name == "a.h5#image,zyx,1.0x1.0x1.0"
    assert [Address.parse(made.path) for made in (assumed, said, sized)] == [assumed, said, sized]
    known = [read_geometry(made.path).spacing_known for made in (assumed, said, sized)]
    assert known == [False, True, True]


def test_a_chunk_larger_than_its_array_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_and_npz_arrays, "_HARMLESS", 1000)
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        for name, side in (("image", 8), ("large", 256)):
            file.create_dataset(name, data=np.ones((1, 4, 4), np.float32), maxshape=(None,) * 3, chunks=(1, side, side))
    steps = (1.0, 1.0, 1.0)
    assert Address(path, "image", "zyx", steps).shape() == (1, 4, 4)
    for ask in (Address.shape, Address.read):
        with pytest.raises(DataError, match="stored in chunks of 262144 bytes, though all of it has 64"):
            ask(Address(path, "large", "zyx", steps))


def test_virtual_arrays_of_virtual_arrays_are_looked_at_once(tmp_path, monkeypatch):
    path, wide, deep = tmp_path / "s.h5", 4, 4
    with h5py.File(path, "w") as file:
        file["v0"] = np.zeros((wide, 2, 2), np.float32)
        for level in range(1, deep + 1):
            layout = h5py.VirtualLayout((wide, 2, 2), np.float32)
            for row in range(wide):
                layout[row] = h5py.VirtualSource(path, f"v{level - 1}", (wide, 2, 2))[row]
            file.create_virtual_dataset(f"v{level}", layout)
    asked = []
    walk = files_named_in_files._walk
    monkeypatch.setattr(files_named_in_files, "_walk", lambda *given: asked.append(1) or walk(*given))
    assert len(shapes_of(path)) == deep + 1
    # Of each array its sources, once for each array that is asked for.
    assert len(asked) <= (deep + 1) * (1 + wide * deep)
