"""A small data set for each reader; every eighth input is met by ``check`` as a whole, any layout allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import nibabel
import numpy as np

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.volume_reading import read_volume
from fewlabel.readers.base import collect_catalog
from fewlabel.stages.prepare import PrepareSettings, check
from fewlabel.stages.prepare.checking import look_at
from fuzz.mutations.arrays import zipped
from fuzz.targets.base import Target
from kit.pictures import classes, photo, write_picture
from kit.scans import blob, nnunet_folder, noise, write_scan

#: (z, y, x) of all scans.
SHAPE = (3, 12, 10)
#: Of so many inputs one is met by the whole of ``check``.
WHOLE = 8


def image(path: str, seed: int = 0) -> Path:
    """A scan of noise with something bright in it."""
    return write_scan(Path(path), noise(SHAPE, seed) + 80 * blob(SHAPE), (1.0, 1.0, 4.0))


def mask(path: str) -> Path:
    """The mask of what is bright."""
    return write_scan(Path(path), blob(SHAPE), (1.0, 1.0, 4.0))


def text(path: str, content: str) -> None:
    """A text file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)


def named(faults: Sequence[Fault]) -> None:
    """Faults that a report names are an answer by errors, too."""
    if faults:
        raise DataError("These are named:", faults)


def read_as(reader: str, place: str = "") -> Callable[[Path, int], None]:
    """What ``check`` does by one reader up to the look at all files, and the voxels of the first scan."""

    def meet(folder: Path, index: int) -> None:
        settings = {"data": folder / place, "out": folder / "unused", "workers": 1}
        if index % WHOLE == 0:
            named(check(PrepareSettings.parse(settings)).faults)
            return
        asked = PrepareSettings.parse({**settings, "reader": reader})
        _, catalog = collect_catalog(asked.data, asked.reader, asked.subject_names, asked.colours)
        seen = look_at(asked, catalog, 1)
        sound = [fact for fact in seen.facts if not fact.faults]
        if sound:
            read_volume(sound[0].case.images)
        named((*catalog.faults, *seen.faults))

    return meet


def acdc() -> None:
    """A patient with two frames."""
    home = "patient001"
    for frame in (1, 3):
        image(f"{home}/{home}_frame{frame:02d}.nii.gz", frame)
        mask(f"{home}/{home}_frame{frame:02d}_gt.nii.gz")
    text(f"{home}/Info.cfg", "ED: 1\nES: 3\nGroup: NOR\nHeight: 170.0\nNbFrame: 3\nWeight: 70.0\n")


def cine() -> None:
    """A patient with all frames in one file, of which two are labelled."""
    acdc()
    frames = np.stack([noise(SHAPE, time).T for time in range(3)], axis=-1)
    nibabel.save(nibabel.Nifti1Image(frames, np.eye(4)), "patient001/patient001_4d.nii.gz")


def bids() -> None:
    """Subjects with masks among the derivatives, participants and a sidecar."""
    text("dataset_description.json", '{"Name": "x", "BIDSVersion": "1.8.0"}')
    text("participants.tsv", "participant_id\tage\tsex\nsub-01\t40\tM\nsub-02\t41\tF\n")
    text("T1w.json", json.dumps({"Manufacturer": "Siemens", "MagneticFieldStrength": 3, "EchoTime": 0.003}))
    for subject in ("sub-01", "sub-02"):
        image(f"{subject}/anat/{subject}_T1w.nii.gz", int(subject[-1]))
        mask(f"derivatives/manual/{subject}/anat/{subject}_T1w_dseg.nii.gz")
    text("derivatives/manual/dataset_description.json", '{"Name": "m", "BIDSVersion": "1.8.0"}')


def cityscapes() -> None:
    """Two scenes of two parts."""
    for part, city, number in (("train", "aachen", 0), ("val", "bonn", 2)):
        scene, truth = f"{city}_{number:06d}_000019", classes((7, 26, 24), (24, 28))
        write_picture(Path(f"leftImg8bit/{part}/{city}/{scene}_leftImg8bit.png"), photo(truth, number))
        write_picture(Path(f"gtFine/{part}/{city}/{scene}_gtFine_labelIds.png"), truth)


def dicom() -> None:
    """Two patients with a series each, one with a segmentation, one with a structure set."""
    from kit.dicom import uid, write_segmentation, write_slices, write_structure_set

    organ = blob(SHAPE).astype(bool)
    for number in (1, 2):
        home = Path(f"p{number}")
        tags = {"PatientID": f"id{number}", "PatientName": f"N{number}", "StudyInstanceUID": uid("study", number)}
        tags |= {"SeriesInstanceUID": uid("series", number), "FrameOfReferenceUID": uid("frame", number)}
        array = np.random.default_rng(number).integers(0, 900, SHAPE).astype(np.uint16)
        slices = write_slices(home / "s", array, names="IM{:03d}.dcm", Modality="MR", **tags)
        if number == 1:
            _timeless(write_segmentation(home / "seg.dcm", slices, {"organ": organ}))
        else:
            square = np.array([[-8.0, -18, 30], [-6, -18, 30], [-6, -15, 30], [-8, -15, 30]])
            write_structure_set(home / "rt.dcm", slices, {"organ": [square]})


def _timeless(path: Path) -> None:
    """Take what is drawn anew each time out of a DICOM segmentation: day and hour, and the UID of its dimensions."""
    import pydicom

    from kit.dicom import uid

    fixed = {"DA": "20260101", "TM": "000000", "DT": "20260101000000"}

    def settle(_: pydicom.Dataset, element: pydicom.DataElement) -> None:
        if element.keyword == "DimensionOrganizationUID":
            element.value = uid("dimensions")
        elif element.value:
            element.value = fixed.get(element.VR, element.value)

    made = pydicom.dcmread(path)
    made.walk(settle)
    made.save_as(path)


def folders() -> None:
    """Images and masks in two folders."""
    for number, name in enumerate("ab"):
        image(f"images/{name}.nii.gz", number)
    mask("labels/a.nii.gz")


def mask_per_structure() -> None:
    """A folder for each patient, with a mask for each of two structures, of which one patient has one."""
    for number, patient in enumerate(("p1", "p2")):
        image(f"{patient}/ct.nii.gz", number)
        for name in ("liver", "spleen")[number:]:
            mask(f"{patient}/segmentations/{name}.nii.gz")


def monai() -> None:
    """A list of training, validation and test."""
    for number, name in enumerate("abc"):
        image(f"img/{name}.nii.gz", number)
    mask("lab/a.nii.gz")
    lists = {"training": [{"image": "img/a.nii.gz", "label": "lab/a.nii.gz", "fold": 0, "site": "A"}]}
    lists |= {"validation": [{"image": "img/b.nii.gz"}], "testing": ["img/c.nii.gz"]}
    text("datalist.json", json.dumps(lists))


def msd() -> None:
    """A task of the Decathlon."""
    image("imagesTr/t_1.nii.gz", 1)
    mask("labelsTr/t_1.nii.gz")
    image("imagesTs/t_3.nii.gz", 3)
    rows = [{"image": "./imagesTr/t_1.nii.gz", "label": "./labelsTr/t_1.nii.gz"}]
    described = {"name": "T", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "organ"}}
    text("dataset.json", json.dumps({**described, "training": rows, "test": ["./imagesTs/t_3.nii.gz"]}))


def nnunet() -> None:
    """A folder of nnU-Net with a table of metadata."""
    nnunet_folder(Path(), ("a", "b"), shape=SHAPE)
    text("metadata.csv", "case,subject,age,part\na,s1,50,\nb,s2,61,test\n")
    text("splits_final.json", json.dumps([{"train": ["a"], "val": ["b"]}]))


def npz() -> None:
    """Slices as the Synapse set is passed around, and a volume to test on."""
    names = [f"case0001_slice{z:03d}" for z in range(2)]
    Path("train_npz").mkdir()
    for z, name in enumerate(names):
        np.savez(f"train_npz/{name}.npz", image=noise((12, 10), z), label=blob((3, 12, 10))[1].astype(np.float32))
    Path("test_vol_h5").mkdir()
    with h5py.File("test_vol_h5/case0008.npy.h5", "w") as file:
        file["image"], file["label"] = noise(SHAPE), blob(SHAPE).astype(np.float32)
    text("lists/lists_Synapse/train.txt", "\n".join(names))
    text("lists/lists_Synapse/test_vol.txt", "case0008\n")


def ssl4mis() -> None:
    """Volumes in h5 files, with lists."""
    for number, name in enumerate("ac"):
        Path(name).mkdir()
        with h5py.File(f"{name}/mri_norm2.h5", "w") as file:
            file["image"], file["label"] = noise(SHAPE, number), blob(SHAPE)
    text("train.list", "a\n")
    text("test.list", "c\n")


def sunrgbd() -> None:
    """Rooms of two parts."""
    for number in (1, 5051):
        truth = classes((0, 3, 5), (24, 28))
        part = "test" if number < 5051 else "train"
        write_picture(Path(f"SUNRGBD-{part}_images/img-{number:06d}.jpg"), photo(truth, number))
        write_picture(Path(f"labels/img37labels-{number:06d}.png"), truth)


def table() -> None:
    """A table of scans of several formats, with metadata and names of classes."""
    image("a.nii.gz", 1)
    mask("a_m.nii.gz")
    image("b.nrrd", 2)
    mask("b_m.nrrd")
    write_picture(Path("c.png"), photo(classes(size=(24, 28)))[..., 0])
    text("labels.json", '{"1": "organ"}')
    text(
        "scans.csv",
        "image,label,subject,age,sex,part\na.nii.gz,a_m.nii.gz,s1,50.5,M,\nb.nrrd,b_m.nrrd,s2,61,F,test\nc.png,,s3,,M,\n",
    )


def workbook() -> None:
    """The same as an Excel workbook."""
    import io
    import zipfile

    import openpyxl

    image("a.nii.gz", 1)
    mask("a_m.nii.gz")
    book = openpyxl.Workbook()
    for row in (["image", "label", "subject", "age"], ["a.nii.gz", "a_m.nii.gz", "s1", 50.5]):
        book.active.append(row)
    stream = io.BytesIO()
    book.save(stream)
    with zipfile.ZipFile(stream) as archive:
        # Without the time at which it was made.
        members = [
            (info.filename, archive.read(info)) for info in archive.infolist() if "core.xml" not in info.filename
        ]
    Path("scans.xlsx").write_bytes(zipped(members, zipfile.ZIP_DEFLATED))


def parquet_table() -> None:
    """The same as Parquet."""
    import pandas as pd

    image("a.nii.gz", 1)
    mask("a_m.nii.gz")
    pd.DataFrame({"image": ["a.nii.gz"], "label": ["a_m.nii.gz"], "age": [50.5]}).to_parquet("scans.parquet")


def voc() -> None:
    """Pictures with lists."""
    for number in (0, 2):
        truth = classes((0, 15, 255), (24, 28))
        write_picture(Path(f"JPEGImages/2007_{number:06d}.jpg"), photo(truth, number))
        write_picture(Path(f"SegmentationClass/2007_{number:06d}.png"), truth)
    text("ImageSets/Segmentation/train.txt", "2007_000000\n")
    text("ImageSets/Segmentation/val.txt", "2007_000002\n")


def _cine(folder: Path, index: int) -> None:
    asked = PrepareSettings.parse({"data": folder, "out": folder / "unused", "workers": 1})
    _, catalog = collect_catalog(asked.data, {"name": "acdc", "cine": True})
    named((*catalog.faults, *look_at(asked, catalog, 1).faults))


READERS = [
    *(
        Target(f"reader-{build.__name__.replace('_', '-')}", "reader", build, read_as(build.__name__))
        for build in (acdc, bids, cityscapes, dicom, folders, mask_per_structure, monai, msd, nnunet, npz, ssl4mis)
    ),
    *(Target(f"reader-{build.__name__}", "reader", build, read_as(build.__name__)) for build in (sunrgbd, voc)),
    Target("reader-acdc-cine", "reader", cine, _cine),
    Target("reader-table-csv", "reader", table, read_as("table", "scans.csv")),
    Target("reader-table-xlsx", "reader", workbook, read_as("table", "scans.xlsx")),
    Target("reader-table-parquet", "reader", parquet_table, read_as("table", "scans.parquet")),
]
