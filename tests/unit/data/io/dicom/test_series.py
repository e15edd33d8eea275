"""Series of DICOM: voxels and places in closed form, what a series holds, and what is wrong with it."""

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from fewlabel.core.errors import DataError
from fewlabel.data.io.dicom import quiet_pydicom
from fewlabel.data.io.dicom.file_search import read_tree
from fewlabel.data.io.dicom.series import open_series, volumes_of
from kit.dicom import IMPLICIT, RLE, axes, dataset, save, with_pixels, write_frames, write_slices
from kit.scans import rotation

OBLIQUE = tuple((rotation(20, 0) @ rotation(12, 2)).T[:2].ravel().tolist())


def pixels(shape=(5, 7, 6), seed=0, kind=np.uint16):
    return np.random.default_rng(seed).integers(0, 3000, shape).astype(kind)


def volumes(folder):
    return volumes_of(read_tree(folder).headers)


def refused(folder, text):
    with pytest.raises(DataError, match=text):
        open_series(folder).read()


def affine(geometry):
    """From voxels to right, anterior, superior, as NIfTI has it."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(geometry.direction).reshape(3, 3) * geometry.spacing[::-1]
    matrix[:3, 3] = geometry.origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


@pytest.mark.parametrize("syntax", [None, IMPLICIT, RLE, "1.2.840.10008.1.2.1.99"])
def test_voxels_lie_where_the_tags_say(tmp_path, syntax):
    # Names that sort otherwise, folders, a file that is none, and a directory of the medium.
    array = pixels()
    files = write_slices(tmp_path / "a", array, orientation=OBLIQUE, syntax=syntax, RescaleSlope=2, RescaleIntercept=-7)
    (tmp_path / "b").mkdir()
    for number, file in enumerate(files):
        file.rename(tmp_path / "ab."[number % 3] / f"{9 - number}")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 40)
    series = open_series(tmp_path)
    volume = series.read()
    assert volume.array.shape == (1, 5, 7, 6)
    assert np.array_equal(volume.array[0], 2.0 * array - 7)
    assert volume.spacing == pytest.approx((2.0, 0.75, 0.5))
    step = axes(OBLIQUE) * np.array([0.5, 0.75, 2.0])[:, None]
    ends = np.array([[0, 0, 0], [5, 6, 4]]) @ step + (-10.0, -20.0, 30.0)
    assert np.allclose(volume.geometry.corners()[[0, -1]], ends, atol=1e-4)
    assert [int(series.header(z).InstanceNumber) for z in range(5)] == [1, 2, 3, 4, 5]
    assert len(series.files) == 5


def test_each_slice_has_its_own_scale(tmp_path):
    array = pixels(kind=np.int16) - 1500
    write_slices(tmp_path, array, each=lambda z: {"RescaleSlope": 0.5 + z, "RescaleIntercept": 10 * z})
    expected = array * (0.5 + np.arange(5))[:, None, None] + 10 * np.arange(5)[:, None, None]
    assert np.allclose(open_series(tmp_path).read().array[0], expected, rtol=1e-6)


def test_bits_beside_the_value_do_not_count(tmp_path):
    # An overlay in the four bits above a signed value of twelve.
    made = dataset(ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1])
    values = np.array([[5, -6], [2047, -2048]], np.int16)
    with_pixels(made, values, stored=12)
    made.PixelData = ((values.astype(np.uint16) & 0x0FFF) | 0x5000).tobytes()
    save(made, tmp_path / "one")
    assert np.array_equal(open_series(tmp_path).read().array[0, 0], values)


@pytest.mark.parametrize("packer", ["JPEG2000", "JPEGLS", "JPEG"])
def test_packed_slices_are_unpacked(tmp_path, packer):
    array = pixels((3, 16, 16), kind=np.int16)
    writer = sitk.ImageFileWriter()
    writer.UseCompressionOn()
    writer.SetCompressor(packer)
    writer.KeepOriginalImageUIDOn()
    for z, slice_ in enumerate(array):
        image = sitk.GetImageFromArray(slice_)
        tags = {"0008|0060": "MR", "0020|000d": "1.2", "0020|000e": "1.2.3", "0008|0018": f"1.2.3.{z}",
                "0020|0032": f"0\\0\\{8 * z}", "0020|0037": "1\\0\\0\\0\\1\\0"}  # fmt: skip
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(tmp_path / f"{z}.dcm"))
        writer.Execute(image)
    series = open_series(tmp_path)
    assert series.header(0).file_meta.TransferSyntaxUID.is_compressed
    assert np.array_equal(series.read().array[0], array)


@pytest.mark.parametrize("syntax", [None, RLE])
def test_frames_of_one_file(tmp_path, syntax):
    array = pixels((4, 7, 6))
    write_frames(tmp_path / "one", array, [34.0, 30.0, 36.0, 32.0], slopes=[1.0, 2.0, 3.0, 4.0], syntax=syntax)
    series = open_series(tmp_path)
    scaled = array * np.arange(1.0, 5)[:, None, None] + np.arange(4)[:, None, None]
    assert np.array_equal(series.read().array[0], scaled[[1, 3, 0, 2]])
    assert series.geometry.spacing == (2.0, 0.75, 0.5)
    assert len(series.files) == 1


def test_echoes_in_one_file_are_volumes(tmp_path):
    array = pixels((6, 7, 6))
    write_frames(tmp_path / "one", array, [30.0, 30.0, 32.0, 32.0, 34.0, 34.0], echoes=[4.6, 2.3] * 3)
    first, second = volumes(tmp_path)
    assert (first.part.marks, second.part.marks) == ({"echo time": ("2.3",)}, {"echo time": ("4.6",)})
    assert np.array_equal(first.read().array[0], array[1::2])
    assert (first.number, second.number, first.count) == (1, 2, 2)


def test_a_series_is_split_by_how_its_slices_lie(tmp_path):
    # Three views of a localizer.
    for number, orientation in enumerate([(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)]):
        write_slices(tmp_path / str(number), pixels((2, 7, 6), number), orientation=orientation)
    assert [series.shape for series in volumes(tmp_path)] == [(2, 7, 6)] * 3
    refused(tmp_path, "holds 3 scans: series, CT, 2 slices of 7x6")


@pytest.mark.parametrize(
    ("tags", "marks"),
    [
        (lambda z, k: {"EchoTime": [9.2, 4.6][k]}, [{"echo time": ("4.6",)}, {"echo time": ("9.2",)}]),
        (
            lambda z, k: {"ImageType": ["ORIGINAL", "PRIMARY", "MP"[k]]},
            [{"image type": ("M",)}, {"image type": ("P",)}],
        ),
        # A new acquisition for each slice tells nothing; times within the heart beat differ from slice to slice.
        (lambda z, k: {"TriggerTime": 40 * k + z, "AcquisitionNumber": z + 1}, [{"phase": 1}, {"phase": 2}]),
        (lambda z, k: {"AcquisitionTime": f"1015{10 * k + z:02d}"}, [{"time point": 1}, {"time point": 2}]),
        (lambda z, k: {"InstanceNumber": 2 * z + k + 1}, [{"time point": 1}, {"time point": 2}]),
    ],
)
def test_several_volumes_at_one_place(tmp_path, tags, marks):
    arrays = [pixels(seed=0), pixels(seed=1)]
    for k, array in enumerate(arrays):
        write_slices(tmp_path / str(k), array, each=lambda z, k=k: tags(z, k))
    parts = volumes(tmp_path)
    assert [series.part.marks for series in parts] == marks
    order = [1, 0] if "echo time" in marks[0] else [0, 1]
    for series, number in zip(parts, order, strict=True):
        assert np.array_equal(series.read().array[0], arrays[number])


def test_stations_beside_each_other_are_volumes(tmp_path):
    for number in range(2):
        write_slices(tmp_path / str(number), pixels(), orientation=(1, 0, 0, 0, 0, -1), origin=(0, 0, -200.0 * number))
    assert [series.shape for series in volumes(tmp_path)] == [(5, 7, 6)] * 2


def test_copies_count_once(tmp_path):
    files = write_slices(tmp_path / "a", pixels())
    (tmp_path / "copy").write_bytes(files[2].read_bytes())
    assert open_series(tmp_path).geometry.notes == ("files left out as copies of others: 1",)
    # The same slice under another UID, value for value; then another one at its place.
    write_slices(tmp_path / "b", pixels()[:1], InstanceNumber=1)
    (tmp_path / "copy").unlink()
    assert "slices that are there twice, value for value" in open_series(tmp_path).geometry.notes[0]
    write_slices(tmp_path / "b", pixels(seed=3)[:1], InstanceNumber=1)
    refused(tmp_path, "has several slices at 30 mm, and nothing in their headers tells them apart")


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ([0, 2, 4, 8, 10, 14], "lacks 2 slices of 8: between 4 and 8 mm; 10 and 14 mm along their normal"),
        ([0, 2, 4, 7, 8, 10], "its slices are not evenly spaced: 1 to 3 mm apart"),
        ([0, 2, 4.1, 6, 8, 10], None),
    ],
)
def test_slices_that_do_not_follow_evenly(tmp_path, places, text):
    write_slices(tmp_path, pixels((6, 7, 6)), each=lambda z: {"ImagePositionPatient": [0, 0, places[z]]})
    if text is not None:
        refused(tmp_path, text)
    else:
        assert open_series(tmp_path).geometry.notes == ("its slices lie 1.9 to 2.1 mm apart: taken as 2 mm",)


def test_a_tilted_gantry(tmp_path):
    array = pixels((5, 64, 64))
    write_slices(tmp_path / "a", array, step=(0, 2 * np.sin(np.radians(1.5)), 2 * np.cos(np.radians(1.5))))
    geometry = open_series(tmp_path / "a").geometry
    assert "1.5 degrees off a right angle" in geometry.notes[0]
    write_slices(tmp_path / "b", array, step=(0, 2 * np.sin(np.radians(15)), 2 * np.cos(np.radians(15))))
    refused(tmp_path / "b", "15.0 degrees off a right angle, as with a tilted gantry.* dcm2niix")


def test_what_is_no_volume_is_named(tmp_path):
    write_slices(tmp_path / "mosaic", pixels((1, 7, 6)), ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    refused(tmp_path / "mosaic", "Siemens mosaic.*dcm2niix")
    write_slices(tmp_path / "nowhere", pixels((2, 7, 6)), ImagePositionPatient=None, ImageOrientationPatient=None)
    assert "does not say where its slices lie" in str(volumes(tmp_path / "nowhere")[0].faults[0])
    with_frames = with_pixels(dataset(Modality="XA", NumberOfFrames=3), pixels((3, 7, 6)))
    save(with_frames, tmp_path / "frames" / "one")
    assert "one file of 3 frames" in str(volumes(tmp_path / "frames")[0].faults[0])
    colour = with_pixels(dataset(Modality="US"), pixels((7, 6)))
    colour.SamplesPerPixel, colour.PhotometricInterpretation, colour.PlanarConfiguration = 3, "RGB", 0
    save(colour, tmp_path / "colour" / "one")
    refused(tmp_path / "colour", "3 values per pixel")
    unsized = write_slices(tmp_path / "unsized", pixels((2, 7, 6)), PixelSpacing=None)
    refused(unsized[0].parent, "does not say how large its pixels are")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no DICOM series")


def test_a_projection_lies_nowhere(tmp_path):
    tags = {"ImagerPixelSpacing": [0.2, 0.1], "PhotometricInterpretation": "MONOCHROME1"}
    save(with_pixels(dataset(Modality="DX", **tags), pixels((7, 6))), tmp_path / "one")
    geometry = open_series(tmp_path).geometry
    assert "high values are dark" in geometry.notes[0]
    assert (geometry.shape, geometry.spacing, geometry.spacing_known) == ((1, 7, 6), (1.0, 0.2, 0.1), True)


def test_damage_is_named(tmp_path):
    files = write_slices(tmp_path / "cut", pixels((3, 40, 40)))
    files[0].write_bytes(files[0].read_bytes()[:-1000])
    files[1].write_bytes(files[1].read_bytes()[:200])
    tree = read_tree(tmp_path / "cut")
    assert [path.name for path, _ in tree.unreadable] == ["IM001"]
    refused(tmp_path / "cut", "IM001: cannot be read as DICOM(?s:.*)has a file that is cut off")
    # A byte of any slice is enough.
    short = write_slices(tmp_path / "short", pixels((3, 7, 6)))
    short[2].write_bytes(short[2].read_bytes()[:-1])
    refused(short[0].parent, "has a file that is cut off")
    packed = write_slices(tmp_path / "packed", pixels((1, 40, 40)), syntax=RLE)
    packed[0].write_bytes(packed[0].read_bytes()[:-1500])
    refused(tmp_path / "packed", "a slice cannot be read")


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_encodings_of_old(tmp_path, syntax):
    array = pixels()
    for file in write_slices(tmp_path, array):
        made = pydicom.dcmread(file)
        made.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
        pydicom.dcmwrite(
            file, made, implicit_vr=False, little_endian=syntax != ExplicitVRBigEndian, force_encoding=True
        )
    series = open_series(tmp_path)
    assert series.faults == ()
    assert np.array_equal(series.read().array[0], array)


def test_frames_that_lie_nowhere_are_one_fault(tmp_path):
    made = with_pixels(dataset("1.2.840.10008.5.1.4.1.1.3.1", Modality="US"), pixels())
    made.NumberOfFrames = 5
    save(made, tmp_path / "cine")
    [series] = volumes(tmp_path)
    [fault] = series.faults
    assert "is one file of 5 frames that does not say where each of them lies" in str(fault)


def test_slices_that_lie_nowhere_are_one_fault_and_pictures_are_many(tmp_path):
    nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    write_slices(tmp_path / "ct", pixels(), each=lambda z: nowhere)
    [series] = volumes(tmp_path / "ct")
    [fault] = series.faults
    assert "does not say where its slices lie" in str(fault)
    write_slices(tmp_path / "dx", pixels(), Modality="DX", each=lambda z: nowhere)
    assert [series.shape for series in volumes(tmp_path / "dx")] == [(1, 7, 6)] * 5


def test_a_file_without_preamble(tmp_path):
    files = write_slices(tmp_path, pixels(), syntax=IMPLICIT, names="{:03d}.dcm")
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[content.index(b"\x08\0\x05\0") if b"\x08\0\x05\0" in content[:400] else 132 :])
    assert open_series(tmp_path).shape == (5, 7, 6)


def test_without_pydicom_it_is_said_what_to_install(tmp_path, monkeypatch):
    write_slices(tmp_path, pixels())
    quiet_pydicom.pydicom_library.cache_clear()
    monkeypatch.setattr(quiet_pydicom, "find_spec", lambda name: None)
    try:
        refused(tmp_path, r"pip install 'fewlabel\[dicom\]'")
    finally:
        quiet_pydicom.pydicom_library.cache_clear()


@pytest.mark.parametrize(
    "name",
    ["mr_generic/001", "mr_generic/001_implicit", "mr_generic/002_non_isotropic", "mr_jpegls/001", "mr_siemens/001",
     "mr_siemens/001_implicit"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["", "_reoriented"])
def test_real_series_are_what_a_trusted_converter_makes_of_them(shared_data, name, kind):
    volume = open_series(shared_data / "dicom" / name).read()
    ours = nibabel.as_closest_canonical(
        nibabel.Nifti1Image(volume.array[0].transpose(2, 1, 0), affine(volume.geometry))
    )
    truth = nibabel.as_closest_canonical(nibabel.load(shared_data / "dicom" / f"{name}_ground_truth{kind}.nii.gz"))
    assert np.allclose(ours.affine, truth.affine, atol=1e-5)
    assert np.allclose(ours.get_fdata(), truth.get_fdata(), atol=1e-5)


def test_a_real_compressed_ct_without_uids(shared_data):
    series = open_series(shared_data / "dicom" / "ct_abdomen")
    volume = series.read()
    image = sitk.ReadImage([str(file) for file in series.files])
    assert np.array_equal(volume.array[0], sitk.GetArrayFromImage(image))
    assert volume.geometry.origin == image.GetOrigin()
    assert volume.spacing == image.GetSpacing()[::-1]
