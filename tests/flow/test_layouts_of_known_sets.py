"""Public data sets under the names of their archives, and further formats: understood, learnt from and segmented."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # the name its own manual uses

from kit.layouts import SPACING, SUBJECTS, anatomy, learnt_and_predicted, save, understood
from kit.pictures import classes, photo, write_picture

AFFINE = np.diag([*SPACING, 1])


def kits(root: Path) -> None:
    for number in range(6):
        image, mask = anatomy(number)
        save(root / f"data/case_{number:05d}/imaging.nii.gz", image)
        save(root / f"data/case_{number:05d}/segmentation.nii.gz", mask)


def lits(root: Path) -> None:
    for number in range(6):
        image, mask = anatomy(number)
        save(root / f"Training Batch {1 + number // 3}/volume-{number}.nii", 5 * image - 700)
        save(root / f"Training Batch {1 + number // 3}/segmentation-{number}.nii", mask)


def promise12(root: Path) -> None:
    for number in range(6):
        image, mask = anatomy(number)
        save(root / f"TrainingData_Part{1 + number // 2}/Case{number:02d}.mhd", image.astype(np.int16))
        save(root / f"TrainingData_Part{1 + number // 2}/Case{number:02d}_segmentation.mhd", (mask > 0).astype(np.int8))


def mnms(root: Path) -> None:
    rows = ["External code,VendorName,Vendor,Centre,ED,ES"]
    for number, letter in enumerate(SUBJECTS):
        image, mask = anatomy(number)
        name = f"{letter.upper()}0S9V{number}"
        frames = np.stack([image + t for t in range(5)]).transpose(3, 2, 1, 0)
        marked = np.stack([mask * (t in {0, 2}) for t in range(5)]).transpose(3, 2, 1, 0)
        home = root / "Training/Labeled" / name
        home.mkdir(parents=True)
        for ending, array in (("sa", frames), ("sa_gt", marked)):
            nibabel.save(nibabel.Nifti1Image(array, AFFINE), home / f"{name}_{ending}.nii.gz")
        rows.append(f"{name},{('Siemens', 'Philips')[number % 2]},{'AB'[number % 2]},{1 + number % 3},0,2")
    (root / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").write_text("\n".join(rows) + "\n")


def brats(root: Path) -> None:
    for number in range(6):
        image, mask = anatomy(number)
        name = f"BraTS-GLI-{number:05d}-000"
        for channel, factor in (("t1n", 1), ("t1c", -1), ("t2w", 2), ("t2f", 3)):
            save(root / name / f"{name}-{channel}.nii.gz", factor * image)
        save(root / name / f"{name}-seg.nii.gz", mask)


def totalsegmentator(root: Path) -> None:
    rows = ["image_id;age;gender;institute;study_type;split"]
    for number in range(6):
        image, mask = anatomy(number)
        save(root / f"s{number:04d}/ct.nii.gz", 5 * image - 700)
        for value, name in ((1, "liver"), (2, "spleen")):
            save(root / f"s{number:04d}/segmentations/{name}.nii.gz", (mask == value).astype(np.uint8))
        rows.append(f"s{number:04d};{50 + number};{'mf'[number % 2]};A;ct abdomen;{'train' if number < 5 else 'test'}")
    (root / "meta.csv").write_text("\n".join(rows) + "\n")


def isic(root: Path) -> None:
    for number in range(6):
        mask = np.roll(classes((0, 255)), number, axis=1)
        name = f"ISIC_{37 * number + 1:07d}"
        write_picture(root / f"ISIC-2017_Training_Data/{name}.jpg", photo(mask, number))
        write_picture(root / f"ISIC-2017_Training_Data/{name}_superpixels.png", photo(classes(), number))
        write_picture(root / f"ISIC-2017_Training_Part1_GroundTruth/{name}_segmentation.png", mask)


def kvasir(root: Path) -> None:
    for number in range(6):
        mask = np.roll(classes((0, 255), (64, 80)), number, axis=1)
        name = f"cju{number}qkwl35piu0993l0dewei{number}"
        write_picture(root / f"Kvasir-SEG/images/{name}.jpg", photo(mask, number))
        write_picture(root / f"Kvasir-SEG/masks/{name}.jpg", np.repeat(mask[..., None], 3, axis=2))
    boxes = {f"cju{number}qkwl35piu0993l0dewei{number}": {"height": 64, "width": 80, "bbox": []} for number in range(6)}
    (root / "Kvasir-SEG/kavsir_bboxes.json").write_text(json.dumps(boxes))


def drive(root: Path) -> None:
    for number in range(21, 27):
        mask = np.roll(classes((0, 255)), number, axis=1)
        write_picture(root / f"training/images/{number}_training.tif", photo(mask, number))
        write_picture(root / f"training/1st_manual/{number}_manual1.gif", mask)
        write_picture(root / f"training/mask/{number}_training_mask.gif", np.full_like(mask, 255))


def slicer(root: Path) -> None:
    for number, name in enumerate(SUBJECTS):
        image, mask = anatomy(number)
        save(root / f"{name}.nrrd", image)
        # Slicer keeps the part that holds segments alone.
        low, high = (box(np.argwhere(mask), axis=0) for box in (np.min, np.max))
        part = sitk.GetImageFromArray(mask[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))])
        part.SetSpacing(SPACING)
        part.SetOrigin([float(at * step) for at, step in zip(low[::-1], SPACING, strict=True)])
        for segment, (value, called) in enumerate(((1, "wall"), (2, "lumen"))):
            for key, text in (("LabelValue", str(value)), ("Name", called), ("Layer", "0"), ("Color", "0.9 0.2 0.1")):
                part.SetMetaData(f"Segment{segment}_{key}", text)
        sitk.WriteImage(part, str(root / f"{name}.seg.nrrd"))


def nifti2(root: Path) -> None:
    for number, name in enumerate(SUBJECTS):
        for folder, array in zip(("images", "labels"), anatomy(number), strict=True):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti2Image(array.transpose(2, 1, 0), AFFINE)
            nibabel.save(image, root / folder / f"{name}.nii.gz")


def workbook(root: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["Bild", "Maske", "Patient", "Alter"])
    for number, name in enumerate(SUBJECTS):
        image, mask = anatomy(number)
        save(root / f"bilder/{name}.nii.gz", image)
        save(root / f"masken/{name}.nii.gz", mask)
        book.active.append([f"bilder/{name}.nii.gz", f"masken/{name}.nii.gz", name, 40 + number])
    book.save(root / "liste.xlsx")


def msd_prostate(root: Path) -> None:
    listed = []
    for number in range(6):
        image, mask = anatomy(number)
        name = f"prostate_{number:02d}.nii.gz"
        channels = np.stack([image, -2 * image]).transpose(3, 2, 1, 0)
        for folder, array in (("imagesTr", channels), ("labelsTr", mask.transpose(2, 1, 0))):
            (root / "Task05_Prostate" / folder).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, AFFINE), root / "Task05_Prostate" / folder / name)
        listed.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    described = {
        "name": "PROSTATE",
        "tensorImageSize": "4D",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "numTraining": 6,
        "numTest": 0,
        "training": listed,
        "test": [],
    }
    (root / "Task05_Prostate/dataset.json").write_text(json.dumps(described))


def mmwhs(root: Path) -> None:
    for number in range(6):
        image, mask = anatomy(number)
        values = np.array([0, 500, 420], np.int16)[mask]
        save(root / f"mr_train/mr_train_{1001 + number}_image.nii.gz", image)
        save(root / f"mr_train/mr_train_{1001 + number}_label.nii.gz", values)


def hvsmr(root: Path) -> None:
    for number in range(6):
        image, mask = anatomy(number)
        save(root / f"Training dataset/training_axial_crop_pat{number}.nii.gz", image)
        save(root / f"Ground truth/training_axial_crop_pat{number}-label.nii.gz", mask)


#: Layout → the reader that knows it, scans, how many of them are labelled, and classes with the background.
LAYOUTS: dict[Callable[[Path], None], tuple[str, int, int, int]] = {
    kits: ("folders", 6, 6, 3),
    lits: ("folders", 6, 6, 3),
    promise12: ("folders", 6, 6, 2),
    mnms: ("folders", 30, 12, 3),
    brats: ("folders", 6, 6, 3),
    totalsegmentator: ("mask_per_structure", 6, 6, 3),
    isic: ("folders", 6, 6, 2),
    kvasir: ("folders", 6, 6, 2),
    drive: ("folders", 6, 6, 2),
    slicer: ("folders", 6, 6, 3),
    nifti2: ("folders", 6, 6, 3),
    workbook: ("table", 6, 6, 3),
    msd_prostate: ("msd", 6, 6, 3),
    mmwhs: ("folders", 6, 6, 3),
    hvsmr: ("folders", 6, 6, 3),
}
NAMES = {
    kits: ("background", "kidney", "tumour"),
    lits: ("background", "liver", "tumour"),
    promise12: ("background", "prostate"),
    mnms: ("background", "LV", "myocardium"),
    totalsegmentator: ("background", "liver", "spleen"),
    slicer: ("background", "wall", "lumen"),
    msd_prostate: ("background", "PZ", "TZ"),
    mmwhs: ("background", "left atrium", "LV"),
    hvsmr: ("background", "myocardium", "blood pool"),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_a_known_set_trains_and_predicts_with_no_hand_work(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    root = tmp_path / "data"
    root.mkdir()
    layout(root)
    reader, scans, labelled, count = LAYOUTS[layout]
    understood(root, reader, scans, labelled)
    store, masks = learnt_and_predicted(root, tmp_path)
    assert len(store.cases) == scans
    assert set(np.unique(store.labels).tolist()) - {255} == set(range(count))
    names = tuple(store.plan["label_names"].values())
    assert names == NAMES.get(layout, names)
    channels = {brats: 4, msd_prostate: 2, isic: 3, kvasir: 3, drive: 3}
    assert len(store.plan["channels"]) == channels.get(layout, 1)
    assert masks == scans
