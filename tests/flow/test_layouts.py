"""Layouts that people have: each is understood, prepared, learnt from and segmented with no word about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from kit.h5 import write_h5
from kit.layouts import SUBJECTS, anatomy, learnt_and_predicted, save, understood
from kit.pictures import classes, photo, write_picture


def flat(root: Path) -> None:
    for number, name in enumerate(SUBJECTS):
        image, mask = anatomy(number)
        save(root / f"{name}.nii.gz", image)
        if number < 5:
            save(root / f"{name}_seg.nii.gz", mask)


def images_and_masks(root: Path) -> None:
    for number, name in enumerate(SUBJECTS):
        image, mask = anatomy(number)
        save(root / "Images" / f"{name}.nrrd", image)
        save(root / "Masks" / f"{name}.nrrd", mask)


def channels_by_patient(root: Path) -> None:
    for number, name in enumerate(SUBJECTS):
        image, mask = anatomy(number)
        for channel, factor in (("t1", 1), ("t2", -1), ("flair", 2)):
            save(root / f"P_{name}" / f"P_{name}_{channel}.nii.gz", factor * image)
        save(root / f"P_{name}" / f"P_{name}_seg.nii.gz", mask)


def imaging_and_segmentation(root: Path) -> None:
    for number in range(6):
        image, mask = anatomy(number)
        save(root / f"case_{number:05d}" / "imaging.nii.gz", image)
        save(root / f"case_{number:05d}" / "segmentation.nii.gz", mask)


def bids(root: Path) -> None:
    rows = ["participant_id\tage\tsite"]
    for number in range(1, 7):
        image, mask = anatomy(number)
        name = f"sub-{number:02d}"
        save(root / name / "anat" / f"{name}_T1w.nii.gz", image)
        save(root / "derivatives/manual" / name / "anat" / f"{name}_dseg.nii.gz", mask)
        rows.append(f"{name}\t{30 + number}\t{'AB'[number % 2]}")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')


def structures(root: Path) -> None:
    for number in range(6):
        image, mask = anatomy(number)
        save(root / f"s{number:04d}" / "ct.nii.gz", image)
        for value, name in ((1, "liver"), (2, "spleen")):
            save(root / f"s{number:04d}" / "segmentations" / f"{name}.nii.gz", (mask == value).astype(np.uint8))


def colour_pictures(root: Path) -> None:
    for number in range(6):
        mask = np.roll(classes(), number, axis=1)
        write_picture(root / "images" / f"x{number}a.jpg", photo(mask, number))
        write_picture(root / "masks" / f"x{number}a.png", mask)


def slices(root: Path) -> None:
    for number, name in enumerate(SUBJECTS):
        image, mask = anatomy(number)
        for z in range(3):
            write_picture(root / name / f"{z + 1}.png", image[z].clip(0, 255).astype(np.uint8))
            write_picture(root / name / f"{z + 1}_mask.png", mask[z])


def cine(root: Path) -> None:
    for number, name in enumerate(SUBJECTS):
        image, mask = anatomy(number)
        frames = np.stack([image + t for t in range(5)]).transpose(3, 2, 1, 0)
        marked = np.stack([mask * (t in {0, 2}) for t in range(5)]).transpose(3, 2, 1, 0)
        (root / name).mkdir(parents=True)
        for ending, array in (("sa", frames), ("sa_gt", marked)):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1.5, 1.5, 6, 1])), root / name / f"{name}_{ending}.nii.gz")


def synapse(root: Path) -> None:
    (root / "train_npz").mkdir(parents=True)
    for number in range(6):
        image, mask = anatomy(number)
        if number < 5:
            for z in range(3):
                np.savez(root / f"train_npz/case{number:04d}_slice{z:03d}.npz", image=image[z], label=mask[z])
        else:
            write_h5(root / f"test_vol_h5/case{number:04d}.npy.h5", image=image, label=mask)


def datalist(root: Path) -> None:
    images_and_masks(root)
    rows = [{"image": f"Images/{name}.nrrd", "label": f"Masks/{name}.nrrd"} for name in SUBJECTS]
    (root / "list.json").write_text(json.dumps({"training": rows[:4], "validation": rows[4:5], "testing": rows[5:]}))


def table_of_slices(root: Path) -> None:
    lines = ["filename;mask;PatientID;slice;spacing_z;pixel_spacing"]
    for number, name in enumerate(SUBJECTS):
        image, mask = anatomy(number)
        for z in (2, 0, 1):
            write_picture(root / "i" / f"{name}_{z}.png", image[z].astype(np.uint8))
            write_picture(root / "m" / f"{name}_{z}.png", mask[z])
            lines.append(f"i\\{name}_{z}.png;m\\{name}_{z}.png;{name};{z};6;1,5")
    (root / "scans.csv").write_bytes("\r\n".join(lines).encode("utf-16"))


def table_of_structures(root: Path) -> None:
    lines = ["image\tsegmentation\tpatient_id"]
    for number, name in enumerate(SUBJECTS):
        image, mask = anatomy(number)
        save(root / f"{name}.nii.gz", image)
        for value, organ in ((1, "heart"), (2, "lung")):
            save(root / f"{name}_{organ}.nii.gz", (mask == value).astype(np.uint8))
        lines.append(f"{name}.nii.gz\t{name}_heart.nii.gz;{name}_lung.nii.gz\t{name}")
    (root / "scans.tsv").write_text("\n".join(lines))


def table_of_colours(root: Path) -> None:
    lines = ["image,gt,subject"]
    for number, name in enumerate(SUBJECTS):
        image, mask = anatomy(number)
        colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[mask[1]]
        write_picture(root / f"{name}.png", np.repeat(image[1].astype(np.uint8)[..., None], 3, -1))
        write_picture(root / f"{name}_gt.png", colours)
        lines.append(f"{name}.png,{name}_gt.png,{name}")
    (root / "scans.csv").write_text("\n".join(lines))
    (root / "labels.json").write_text(json.dumps({"#ff0000": "heart", "#0000ff": "lung"}))


def streets(root: Path) -> None:
    for number in range(6):
        mask, part = np.roll(classes((7, 26, 24)), number, axis=1), "train" if number < 5 else "val"
        scene = f"{part}/aachen/aachen_{number:06d}_000019"
        write_picture(root / f"leftImg8bit/{scene}_leftImg8bit.png", photo(mask, number))
        write_picture(root / f"gtFine/{scene}_gtFine_labelIds.png", mask)


def voc(root: Path) -> None:
    palette = [(17 * value % 256, 90 * value % 256, 40 * value % 256) for value in range(256)]
    for number in range(6):
        mask = np.roll(classes((0, 15, 255)), number, axis=1)
        write_picture(root / f"JPEGImages/2007_{number:06d}.jpg", photo(mask, number))
        write_picture(root / f"SegmentationClass/2007_{number:06d}.png", mask, palette)
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"2007_{number:06d}\n" for number in range(5)))
    (lists / "val.txt").write_text("2007_000005\n")


def rooms(root: Path) -> None:
    for number in (1, 5051, 5052, 5053, 5054, 5055):
        mask = np.roll(classes((0, 3, 5)), number % 7, axis=1)
        write_picture(root / f"images/img-{number:06d}.jpg", photo(mask, number))
        write_picture(root / f"labels/img-{number:06d}.png", mask)


#: Layout → the reader that knows it, scans, and how many of them are labelled.
LAYOUTS: dict[Callable[[Path], None], tuple[str, int, int]] = {
    flat: ("folders", 6, 5),
    images_and_masks: ("folders", 6, 6),
    channels_by_patient: ("folders", 6, 6),
    imaging_and_segmentation: ("folders", 6, 6),
    bids: ("bids", 6, 6),
    structures: ("mask_per_structure", 6, 6),
    colour_pictures: ("folders", 6, 6),
    slices: ("folders", 6, 6),
    cine: ("folders", 30, 12),
    synapse: ("npz", 6, 6),
    datalist: ("monai", 6, 6),
    table_of_slices: ("table", 6, 6),
    table_of_structures: ("table", 6, 6),
    table_of_colours: ("table", 6, 6),
    streets: ("cityscapes", 6, 6),
    voc: ("voc", 6, 6),
    rooms: ("sunrgbd", 6, 6),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_a_layout_trains_and_predicts_with_no_hand_work(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    root = tmp_path / "data"
    layout(root)
    _, scans, _ = LAYOUTS[layout]
    understood(root, *LAYOUTS[layout])
    store, masks = learnt_and_predicted(root, tmp_path)
    assert len(store.cases) == scans
    learnt = set(np.unique(store.labels).tolist()) - {255}
    # Streets are padded with the class 0, which no mask of them holds.
    assert len(learnt) == {voc: 2, streets: 4}.get(layout, 3)
    assert masks == scans
