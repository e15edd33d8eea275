"""What is recognised, written as a table and read back."""

import json

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from fewlabel.cli import app
from fewlabel.core.errors import DataError
from fewlabel.data.io.composite_paths import slices_without_mask
from fewlabel.data.io.volume_reading import read_mask
from fewlabel.readers.base import UnknownLayoutError, read_catalog
from fewlabel.readers.catalog_as_table import write_table
from kit.pictures import classes, photo, write_picture
from kit.scans import blob, nnunet_folder, noise, write_scan

SHAPE = (3, 8, 6)


def flat(root):
    for number in range(3):
        write_scan(root / f"s{number}.nii.gz", noise(SHAPE, number), (1, 1, 4))
        if number < 2:
            write_scan(root / f"s{number}_seg.nii.gz", blob(SHAPE), (1, 1, 4))
    return root


def parts_and_metadata(root):
    for site, name, part in (("A", "x", "train"), ("A", "y", "val"), ("B", "z", "test")):
        write_scan(root / part / site / f"{name}.nii.gz", noise(SHAPE), (1, 1, 4))
        write_scan(root / part / site / f"{name}_mask.nii.gz", blob(SHAPE), (1, 1, 4))
    (root / "people.tsv").write_text("id\tage\tsex\nx\t61.5\tF\ny\t\tM\nz\t44\tF\n")
    return root


def channels(root):
    for name in ("p1", "p2"):
        for channel in ("t1", "t2", "flair"):
            write_scan(root / name / f"{name}_{channel}.nii.gz", noise(SHAPE), (1, 1, 4))
        write_scan(root / name / f"{name}_seg.nii.gz", blob(SHAPE), (1, 1, 4))
    return root


def structures(root):
    for name in ("s1", "s2"):
        write_scan(root / name / "ct.nii.gz", noise(SHAPE), (1, 1, 4))
        for organ in ("liver", "spleen", "aorta"):
            if (name, organ) != ("s2", "liver"):
                write_scan(root / name / "segmentations" / f"{organ}.nii.gz", blob(SHAPE), (1, 1, 4))
    return root


def cine(root):
    for name in ("p1", "p2"):
        path = root / name / f"{name}_sa.nii.gz"
        path.parent.mkdir(parents=True)
        frames = [noise((6, 8, 3), 1) + t for t in range(8)]
        masks = [(t in {0, 5}) * blob((6, 8, 3)).astype(np.uint8) for t in range(8)]
        nibabel.save(nibabel.Nifti1Image(np.stack(frames, -1), np.eye(4)), path)
        nibabel.save(nibabel.Nifti1Image(np.stack(masks, -1), np.eye(4)), path.with_name(f"{name}_sa_gt.nii.gz"))
    return root


def slices(root):
    for patient in ("p1", "p2"):
        for number in range(1, 4):
            write_picture(root / patient / f"{number}.png", photo(classes())[..., 0])
            write_picture(root / patient / f"{number}_mask.png", classes())
    return root


def bids(root):
    for name in ("01", "02"):
        write_scan(root / f"sub-{name}/anat/sub-{name}_T1w.nii.gz", noise(SHAPE), (1, 1, 4))
        write_scan(root / f"derivatives/m/sub-{name}/anat/sub-{name}_dseg.nii.gz", blob(SHAPE), (1, 1, 4))
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t4\nsub-02\t5\n")
    return root


def npz(root):
    root.mkdir()
    for name in ("c1", "c2"):
        for z in range(2):
            np.savez(root / f"{name}_slice{z}.npz", image=np.full((4, 5), z, float), label=np.ones((4, 5), np.uint8))
    return root


def streets(root):
    table = np.array([(128, 64, 128), (0, 0, 142), (220, 20, 60)], np.uint8)
    for number in range(2):
        scene = f"aachen_{number:06d}_000019"
        write_picture(root / f"leftImg8bit/train/aachen/{scene}_leftImg8bit.png", photo(classes(), number))
        write_picture(root / f"gtFine/train/aachen/{scene}_gtFine_color.png", table[classes()])
    return root


LAYOUTS = [flat, parts_and_metadata, channels, structures, cine, slices, bids, nnunet_folder, npz, streets]


def facts(catalog):
    return [(case.id, case.subject, case.images, case.label, case.part, dict(case.metadata)) for case in catalog.cases]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("relative", [False, True])
def test_the_table_reads_the_same(tmp_path, monkeypatch, layout, relative):
    root = layout(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    written = write_table(root.relative_to(tmp_path) if relative else root)
    (tmp_path / "scans.csv").write_text(written.text)
    _, before = read_catalog(root)
    _, after = read_catalog(tmp_path / "scans.csv")
    assert facts(after) == facts(before)
    assert written.text.splitlines()[1].lstrip(chr(34)).startswith("data/" if relative else str(root))


def test_voxel_sizes_of_stacks_are_kept(tmp_path):
    root = slices(tmp_path / "data")
    reader = {"name": "folders", "spacing": [7, 1.5, 2]}
    (tmp_path / "scans.csv").write_text(write_table(root, reader).text)
    assert facts(read_catalog(tmp_path / "scans.csv")[1]) == facts(read_catalog(root, reader)[1])


@pytest.mark.parametrize("coloured", [False, True])
def test_slices_without_a_mask_stay_without(tmp_path, coloured):
    root = slices(tmp_path / "data")
    (root / "p2" / "2_mask.png").unlink()
    if coloured:
        for path in root.glob("*/*_mask.png"):
            write_picture(path, np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[classes()])
        names = '{"#ff0000": "a", "#0000ff": "b"}'
        (tmp_path / "labels.json").write_text(names)
        (root / "labels.json").write_text(names)
    _, before = read_catalog(root)
    (tmp_path / "scans.csv").write_text(write_table(root).text)
    _, after = read_catalog(tmp_path / "scans.csv")
    assert facts(after) == facts(before)
    assert [slices_without_mask(case.label) for case in after.cases] == [(), (1,)]
    for case in after.cases:
        without = slices_without_mask(case.label)
        wanted = [classes() * (place not in without) for place in range(3)]
        assert np.array_equal(read_mask(case.label), np.stack(wanted))


def test_an_unknown_layout_is_a_table_of_all_images(tmp_path):
    for number in range(3):
        write_scan(tmp_path / "x" / f"{number}.nii.gz", noise(SHAPE))
    written = write_table(tmp_path)
    assert written.text.splitlines() == [
        "image,label,subject,case",
        *(f"{tmp_path}/x/{number}.nii.gz,,{number},{number}" for number in range(3)),
    ]
    assert written.notes[0].startswith("no reader fits")
    with pytest.raises(UnknownLayoutError):
        write_table(tmp_path / "x" / "0.nii.gz")


def test_the_command_writes_the_table_to_stdout_and_notes_to_stderr(tmp_path):
    root = flat(tmp_path)
    write_scan(root / "gone_mask.nii.gz", blob(SHAPE))
    done = CliRunner().invoke(app, ["table", str(root)])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "image,label,subject,case"
    assert len(done.stdout.splitlines()) == 4
    assert "reader folders: 2 of 3 images have a mask by name" in done.stderr
    assert f"wrong, and not in the table: {root}/gone_mask.nii.gz is a mask by its name" in done.stderr
    done = CliRunner().invoke(app, ["table", str(root), "seed=1"])
    assert done.exit_code == 2


def test_names_of_classes_are_told(tmp_path):
    written = write_table(nnunet_folder(tmp_path))
    told = next(note for note in written.notes if "labels.json" in note)
    assert json.loads(told[told.index("{") :]) == {"0": "background", "1": "organ"}


def test_names_with_semicolons_are_refused(tmp_path):
    write_scan(tmp_path / "a;b.nii.gz", noise(SHAPE))
    write_scan(tmp_path / "a;b_mask.nii.gz", blob(SHAPE))
    with pytest.raises(DataError, match="has a semicolon in its name"):
        write_table(tmp_path)
