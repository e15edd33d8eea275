"""Masks and probabilities keep the grid, and the header, of their scan."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from fewlabel.core import unfinished_files
from fewlabel.core.errors import DataError
from fewlabel.data.io.geometry import grid_faults
from fewlabel.data.io.mask_writing import write_map, write_mask, write_probabilities
from fewlabel.data.io.volume_reading import read_geometry, read_mask, read_volume
from kit.scans import TILTED, acdc_like, blob, noise, write_scan


def test_masks_keep_every_header_fact_of_their_scan(tmp_path):
    mask = blob((4, 9, 7))
    scan = acdc_like(tmp_path / "scan.nii", (40 * mask).astype(np.int16))
    # Built with a dtype of its own.
    header = nibabel.load(scan).header
    assert header.get_data_dtype() == np.float64 or header.get_data_dtype() == np.int16
    write_mask(tmp_path / "out" / "m.nii.gz", mask, scan)
    written, original = nibabel.load(tmp_path / "out" / "m.nii.gz").header, header
    changed = {"datatype", "bitpix", "scl_slope", "scl_inter", "cal_max", "cal_min", "vox_offset", "magic", "descrip"}
    for key in original:
        if key not in changed:
            assert written[key].tolist() == original[key].tolist(), key
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(read_mask(tmp_path / "out" / "m.nii.gz"), mask)
    loaded, image = sitk.ReadImage(str(tmp_path / "out" / "m.nii.gz")), sitk.ReadImage(str(scan))
    assert loaded.GetSpacing() == image.GetSpacing() == (1.5, 1.5, 10.0)
    assert loaded.GetDirection() == image.GetDirection()
    assert loaded.GetOrigin() == image.GetOrigin()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["m.nii.gz"]


def test_names_in_the_header_of_a_scan_are_not_handed_on(tmp_path):
    image = nibabel.Nifti1Image(noise((4, 9, 7)).T, np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    for name in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[name] = b"Doe^John"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Doe^John"))
    nibabel.save(image, tmp_path / "s.nii")
    for write, array in ((write_mask, blob((4, 9, 7))), (write_map, noise((4, 9, 7)))):
        write(tmp_path / "m.nii", array, tmp_path / "s.nii")
        assert b"Doe" not in (tmp_path / "m.nii").read_bytes()
        written = nibabel.load(tmp_path / "m.nii").header
        assert written.get_xyzt_units() == ("mm", "sec")
        assert len(written.extensions) == 0


def test_no_link_is_followed(tmp_path, monkeypatch):
    scan = write_scan(tmp_path / "s.nii.gz", noise((3, 5, 7)))
    victim = tmp_path / "victim"
    victim.write_text("somebody else's")
    (tmp_path / "m.nii.gz").symlink_to(victim)
    write_mask(tmp_path / "m.nii.gz", blob((3, 5, 7)), scan)
    assert victim.read_text() == "somebody else's"
    assert not (tmp_path / "m.nii.gz").is_symlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(unfinished_files, "partial_beside", lambda path: tmp_path / "guessed")
    (tmp_path / "guessed").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(FileExistsError):
        write_mask(tmp_path / "n.nii.gz", blob((3, 5, 7)), scan)
    assert list(elsewhere.iterdir()) == []
    assert victim.read_text() == "somebody else's"


def test_masks_of_analyze_scans_lie_on_them(tmp_path):
    scan = nibabel.AnalyzeImage(noise((3, 5, 7)).T.astype(np.float32), np.diag([-2.0, 3, 4, 1]))
    nibabel.save(scan, tmp_path / "s.hdr")
    write_mask(tmp_path / "m.nii.gz", blob((3, 5, 7)), tmp_path / "s.hdr")
    assert np.array_equal(read_mask(tmp_path / "m.nii.gz"), blob((3, 5, 7)))
    apart = grid_faults(tmp_path, read_geometry(tmp_path / "s.hdr"), tmp_path, read_geometry(tmp_path / "m.nii.gz"))
    assert apart == []


def test_acdc_masks_keep_the_header_facts_of_their_image(tmp_path, shared_data):
    scan = shared_data / "acdc" / "patient007" / "patient007_frame01.nii.gz"
    truth = shared_data / "acdc" / "patient007" / "patient007_frame01_gt.nii.gz"
    write_mask(tmp_path / "m.nii.gz", read_mask(truth).astype(np.uint8), scan)
    written, original = nibabel.load(tmp_path / "m.nii.gz").header, nibabel.load(scan).header
    assert np.array_equal(written.get_sform(), np.diag([-1.0, -1, 1, 1]))
    assert int(written["qform_code"]) == int(original["qform_code"]) == 0
    assert written["pixdim"].tolist() == original["pixdim"].tolist()
    a, b = sitk.ReadImage(str(tmp_path / "m.nii.gz")), sitk.ReadImage(str(scan))
    assert a.GetSpacing() == b.GetSpacing()
    assert a.GetSize() == b.GetSize()
    assert np.array_equal(read_mask(tmp_path / "m.nii.gz"), read_mask(truth))


@pytest.mark.parametrize(("scan", "out"), [("s.nrrd", "m.nrrd"), ("s.mha", "m.nii.gz"), ("s.nii.gz", "m.nrrd")])
def test_masks_in_other_formats_lie_on_the_grid(tmp_path, scan, out):
    path = write_scan(tmp_path / scan, noise((3, 5, 7)), (0.7, 1.3, 4.0), (5, -6, 7), TILTED)
    write_mask(tmp_path / out, blob((3, 5, 7)), path)
    assert np.array_equal(read_mask(tmp_path / out), blob((3, 5, 7)))
    assert grid_faults(path, read_geometry(path), tmp_path / out, read_geometry(tmp_path / out)) == []


def test_large_values_and_flat_images_survive(tmp_path):
    path = write_scan(tmp_path / "s.nii.gz", noise((3, 5, 7)))
    write_mask(tmp_path / "m.nii.gz", (blob((3, 5, 7)) * np.uint16(600)).astype(np.uint16), path)
    assert read_mask(tmp_path / "m.nii.gz").max() == 600
    flat = write_scan(tmp_path / "s.png", np.zeros((5, 7), dtype=np.uint8))
    write_mask(tmp_path / "m.png", blob((3, 5, 7))[1:2], flat)
    assert np.array_equal(read_mask(tmp_path / "m.png"), blob((3, 5, 7))[1:2])


def test_masks_of_another_shape_are_refused(tmp_path):
    path = write_scan(tmp_path / "s.nii.gz", noise((3, 5, 7)))
    with pytest.raises(DataError, match=r"shape \(3, 5, 6\), but .* has \(3, 5, 7\)"):
        write_mask(tmp_path / "m.nii.gz", blob((3, 5, 6)), path)
    assert not (tmp_path / "m.nii.gz").exists()


@pytest.mark.parametrize("name", ["p.nii.gz", "p.nrrd"])
def test_probabilities_have_their_classes_beside_the_grid(tmp_path, name):
    path = write_scan(tmp_path / "s.nii.gz", noise((3, 5, 7)), (0.7, 1.3, 4.0), (5, -6, 7), TILTED)
    probabilities = np.random.default_rng(0).random((2, 3, 5, 7)).astype(np.float32)
    write_probabilities(tmp_path / name, probabilities, path)
    back = read_volume(tmp_path / name)
    assert np.allclose(back.array, probabilities)
    assert grid_faults(path, read_geometry(path), tmp_path / name, back.geometry) == []
