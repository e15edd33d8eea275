"""DICOM from the files to the masks: training, prediction, and no trace of who was scanned in anything that is left."""

import gzip
import logging
import re

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from typer.testing import CliRunner

from fewlabel.cli import app
from fewlabel.data.io.dicom.series import open_series
from fewlabel.readers.base import collect_catalog
from kit.dicom import ROOT, dataset, save, uid, with_pixels, write_slices, write_structure_set

#: Stands in every text that names anybody.
NAME = "qqplantqq"
DATE = "19330401"
#: Of the last patient, and as texts on the others have it.
LAST, MENTIONED = "Zyxöztürk-Zyxberg^Jörg", "ZYXBERG, Joerg-Zyxoeztuerk"
SHAPE = (3, 16, 16)
_TEXTS = {"PN", "LO", "SH", "LT", "ST", "UT", "UC"}
#: What the pixels and the places of slices depend on, and what has a value of its own below.
_KEPT = {
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID",
    "PatientName", "SpecificCharacterSet", "SeriesDescription", "ROIName", "StructureSetLabel",
}  # fmt: skip


def planted(file):
    """The file with a value that names somebody in every tag that may hold one."""
    made = pydicom.dcmread(file)
    for tag, (vr, many, _, retired, keyword) in DicomDictionary.items():
        if not keyword or keyword in _KEPT or retired or tag >> 16 in {0x0000, 0x0002, 0x0004} or keyword in made:
            continue
        if vr in _TEXTS:
            setattr(made, keyword, f"{NAME} {keyword}"[:16] if vr == "SH" else f"{NAME} {keyword}"[:60])
        elif vr == "DA":
            setattr(made, keyword, DATE)
        elif vr == "DT":
            setattr(made, keyword, f"{DATE}101112")
        elif vr == "UI" and many == "1":
            setattr(made, keyword, uid(keyword))
    private = made.private_block(0x0011, NAME, create=True)
    private.add_new(0x01, "LO", f"{NAME} private")
    made.save_as(file)


def circle(z, y, x, number):
    """Corners in mm of a circle on a slice."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 4.0 + 0.1 * number
    columns, rows = x + radius * np.cos(angles), y + radius * np.sin(angles)
    return np.stack([0.5 * columns - 10, 0.75 * rows - 20, np.full(40, 30.0 + 2 * z)], axis=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "hospital"
    generator = np.random.default_rng(0)
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for number in range(7):
        inside = (y - 8) ** 2 + (x - 8 + number % 3) ** 2 < (4.0 + 0.1 * number) ** 2
        array = (200 + 500 * inside + generator.normal(0, 20, SHAPE)).clip(0).astype(np.uint16)
        tags = {
            "PatientID": f"{NAME}{number}77", "PatientName": LAST if number == 6 else f"{NAME}^Zyxjanezyx{number}",
            "Modality": "MR", "SpecificCharacterSet": "ISO_IR 192",
            "StudyInstanceUID": uid("study", number), "SeriesInstanceUID": uid("series", number),
            "FrameOfReferenceUID": uid("frame", number), "SeriesDescription": f"T2 tse {NAME} {DATE} {MENTIONED}",
        }  # fmt: skip
        home = root / f"{NAME}_Zyxjanezyx{number}"
        files = write_slices(home / NAME, array, names=f"{NAME}" + "{:03d}", **tags)
        if number < 6:
            drawn = [circle(slice_, 8, 8 - number % 3, number) for slice_ in range(SHAPE[0])]
            contours = write_structure_set(
                home / f"{NAME}.rt", files, {f"organ {NAME} {MENTIONED}": drawn}, Manufacturer=NAME
            )
        for file in [*files, contours] if number < 1 else []:
            planted(file)
    return root


def command(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def leaks(folder):
    """Files of a folder, unpacked, in whose names or bytes something planted stands."""
    marks = [text.encode() for text in (NAME, DATE, ROOT, "Zyxjanezyx", "zyxberg", "zyxoez", "joerg")]
    found = []
    for path in sorted(folder.rglob("*")):
        contents = [str(path.relative_to(folder)).encode()]
        if path.is_file():
            contents.append(path.read_bytes())
            if path.suffix == ".gz":
                contents.append(gzip.decompress(contents[-1]))
            if path.suffix == ".parquet":
                contents.append(pd.read_parquet(path).to_json().encode())
        found.extend((path, mark) for mark in marks for content in contents if mark.lower() in content.lower())
    return found


def test_training_and_prediction_name_nobody(data, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    said = command("check", data)
    assert "No faults" in said
    # Nothing is written beside the data, and yet training names the scans alike.
    assert not (data / ".fewlabel-dicom").exists()
    ids = {case.id for case in collect_catalog(data)[1].cases}
    run, masks = tmp_path / "run", tmp_path / "masks"
    tiny = ("finetune.steps=4", "pretrain.steps=4", "pretraining=true", "pretrain.network.width=4", "finetune.batch=4",
            "pretrain.batch=4", "device=cpu")  # fmt: skip
    said += command("train", data, "--out", run, *tiny)
    home = next(folder for folder in data.iterdir() if folder.name.endswith("Zyxjanezyx6"))
    said += command("predict", run, home, "--out", masks, "probabilities=true")
    for folder in ("prepared", "encoder", "segmenter", "scores", "report"):
        assert (run / folder).is_dir()
    assert leaks(run) == []
    assert leaks(masks) == []
    # The folder that the user names in a command is said back; nothing below it is.
    for text in (said, caplog.text):
        assert not any(word in text.replace(str(home), "").lower() for word in (NAME, "zyxberg", "zyxoez", "joerg"))
        assert DATE not in text
        assert ROOT not in text
    # Nor does a copy to give away, which has not even the pseudonyms.
    command("share", run, "--out", tmp_path / "copy")
    assert leaks(tmp_path / "copy") == []
    catalog = pd.read_parquet(run / "prepared" / "catalog.parquet")
    assert set(catalog["case"]) == ids
    assert (data / ".fewlabel-dicom" / "key").is_file()
    pseudonyms = [name.encode() for name in {*catalog["case"], *catalog["subject"]}]
    for path in (tmp_path / "copy").rglob("*"):
        assert not path.is_file() or not any(name in path.read_bytes() for name in pseudonyms), path
    assert set(catalog["sequence"]) == {"T2 tse"}
    # The mask lies where the series does.
    [mask] = masks.glob("p*_s??????.nii.gz")
    image = nibabel.load(mask)
    geometry = open_series(home).geometry
    assert image.shape == geometry.shape[::-1]
    corner = image.affine @ [*(np.array(image.shape) - 1), 1]
    assert np.allclose(corner[:3] * [-1, -1, 1], geometry.corners()[-1], atol=1e-4)
    assert image.header.get_data_dtype() == np.uint8
    assert int(image.header["qform_code"]) == int(image.header["sform_code"]) == 1


def test_faults_name_nobody(data, tmp_path):
    broken = tmp_path / "data"
    for number in range(2):
        files = write_slices(
            broken / f"{NAME}{number}", np.ones(SHAPE, np.uint16), PatientID=NAME, PatientName=f"{NAME}^Zyxjanezyx",
            SeriesInstanceUID=uid("broken", number), StudyInstanceUID=uid("broken study", number),
            each=lambda z: {"ImagePositionPatient": [0, 0, [0, 2, 7][z]]},
        )  # fmt: skip
    files[0].write_bytes(files[0].read_bytes()[:300])
    colour = with_pixels(dataset(PatientID=NAME, SeriesInstanceUID=uid("colour")), np.ones((16, 16), np.uint16))
    colour.SamplesPerPixel = 3
    save(colour, broken / f"{NAME}.colour")
    result = CliRunner().invoke(app, ["check", str(broken)])
    assert result.exit_code == 3
    assert NAME not in result.output
    assert "not evenly spaced" in result.output
    assert "left out: pictures in colour (1)" in result.output
    assert re.search(r"cannot be read: 1; \S+/unreadable.csv names them", " ".join(result.output.split()))
