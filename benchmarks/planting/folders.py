"""Folders that follow a convention, with faults: nnU-Net, the Decathlon, ACDC and BIDS."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from planting.files import SHAPE, cut, image, mask, write
from planting.planted import DataSet

_DAMAGED = "incomplete|damaged|truncated|cut|bytes"
_GONE = "does not exist|no such|missing|no image|no file|not there|lacks"


def _described(root: Path, **values: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "dataset.json"
    path.write_text(json.dumps({"labels": {"background": 0, "ventricle": 1, "muscle": 2}, **values}))
    return path


def spoilt_nnunet(root: Path) -> DataSet:
    """Two channels, ``dataset.json`` and ``metadata.csv``."""
    data = DataSet(root)
    for number, name in enumerate("abcdefghij"):
        for channel in range(2):
            write(root / "imagesTr" / f"{name}_000{channel}.nii.gz", image(10 * number + channel))
        write(root / "labelsTr" / f"{name}.nii.gz", mask())
    images, labels = root / "imagesTr", root / "labelsTr"
    (images / "b_0001.nii.gz").unlink()
    data.plant("missing channel", "b", "channel")
    data.plant("truncated channel", cut(images / "c_0001.nii.gz"), _DAMAGED)
    data.plant("label without an image", write(labels / "lonely.nii.gz", mask()), _GONE)
    data.plant("mask of another shape", write(labels / "d.nii.gz", mask((6, 20, 22))), "shape")
    data.plant("channels of two shapes", write(images / "e_0001.nii.gz", image(211, (6, 20, 22))), "shape")
    data.plant("two files for one channel", write(images / "f_0000.nrrd", image(212)), "same channel|twice|two")
    data.plant("two masks for one case", write(labels / "g.nrrd", mask()), "same|twice|two|another")
    write(images / "extra.nii.gz", image(213))
    data.plant("image without a channel number", "extra", "channel|_0000")
    (images / "dead_0000.nii.gz").symlink_to(root / "nowhere")
    data.plant("link that leads to nothing", "dead_0000.nii.gz", "link|" + _GONE)
    if os.geteuid() != 0:
        (images / "closed").mkdir(mode=0)
        data.plant("folder that may not be listed", "closed", "Permission denied")
    listed = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in ("a", "z")]
    _described(
        root,
        channel_names={"0": "T1", "1": "T2"},
        training=listed,
        labels={"background": 0, "ventricle": 1, "muscle": 2, "strange": 2.5},
    )
    data.plant("listed image that is not there", "z", _GONE)
    data.plant("label value that is no whole number", "dataset.json", "2.5|whole number")
    lines = ["case,part,age", "a,,50", "h,tset,51", "nobody,,52", "i,,53", "i,,54"]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    data.plant("unknown part", "line 3", "part|tset")
    data.plant("row of no case", "line 4", "no case|nobody")
    data.plant("two rows for one case", "line 6", "already|twice")
    return data


def spoilt_decathlon(root: Path) -> DataSet:
    """A ``dataset.json`` that lists pairs, some of them wrongly."""
    data = DataSet(root)
    for number, name in enumerate("abcdefg"):
        write(root / "imagesTr" / f"{name}.nii.gz", image(number))
        write(root / "labelsTr" / f"{name}.nii.gz", mask())
    rows = [{"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in "abcdef"]
    rows += [{"image": "imagesTr/gone.nii.gz", "label": "labelsTr/a.nii.gz"}, rows[1], {"image": "imagesTr/notes.txt"}]
    (root / "labelsTr" / "c.nii.gz").unlink()
    _described(root, training=rows, test=[], modality={"0": "MR"})
    data.plant("listed image that is not there", "imagesTr/gone.nii.gz", _GONE)
    data.plant("listed label that is not there", "labelsTr/c.nii.gz", _GONE)
    data.plant("image that is listed twice", "imagesTr/b.nii.gz", "twice")
    data.plant("listed file that is no image", "imagesTr/notes.txt", "images")
    data.plant("scan that is not listed", "g.nii.gz", "not listed")
    data.plant("truncated scan", cut(root / "imagesTr" / "d.nii.gz"), _DAMAGED)
    data.plant("mask of another shape", write(root / "labelsTr" / "e.nii.gz", mask((6, 20, 22))), "shape")
    write(root / "imagesTr" / "f.nii.gz", image(214, (2, *SHAPE)))
    data.plant("two channels where one is declared", "f.nii.gz", "channel")
    (root / "imagesTr" / "h.rar").write_bytes(b"Rar!\x1a\x07\x01\0")
    data.plant("packed scan", "h.rar", "packed")
    ids = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int32)
    data.plant("as many classes as voxels", write(root / "labelsTr" / "a.nii.gz", ids), "classes|values|labels")
    return data


def spoilt_acdc(root: Path) -> DataSet:
    """Folders of patients with ``Info.cfg``."""
    data = DataSet(root)
    for patient in range(1, 10):
        home = root / f"patient{patient:03d}"
        for frame in (1, 9):
            write(home / f"{home.name}_frame{frame:02d}.nii.gz", image(20 * patient + frame))
            write(home / f"{home.name}_frame{frame:02d}_gt.nii.gz", mask())
        (home / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: NOR\nHeight: 170\nWeight: 70\n")
    info = "ED: {}\nES: 9\nGroup: NOR\nHeight: {}\nWeight: 70\n"
    (root / "patient001/Info.cfg").write_text(info.format(4, 170))
    data.plant("frame that is not there", "patient001/Info.cfg", "frame")
    (root / "patient002/Info.cfg").write_text(info.format(1, "tall"))
    data.plant("height that is no number", "patient002/Info.cfg", "number")
    (root / "patient003/Info.cfg").write_bytes(b"ED: 1\nES: 9\nGroup: \xe4\xff\n")
    data.plant("bytes of another encoding", "patient003/Info.cfg", "text|UTF-8|encod|decode")
    (root / "patient004/patient004_frame09.nii.gz").unlink()
    data.plant("truth without its image", "patient004_frame09_gt.nii.gz", _GONE)
    for path in (root / "patient005").glob("*.nii.gz"):
        path.unlink()
    data.plant("patient without frames", "patient005", "no .*frame")
    data.plant("truncated frame", cut(root / "patient006/patient006_frame01.nii.gz"), _DAMAGED)
    write(root / "patient007/patient007_frame01_gt.nii.gz", mask((5, 20, 24)))
    data.plant("truth of another shape", "patient007_frame01_gt.nii.gz", "shape")
    write(root / "patient008/patient008_frame01.nii", image(215))
    data.plant("two files for one frame", "patient008_frame01.nii", "same|two|twice|already")
    return data


def spoilt_bids(root: Path) -> DataSet:
    """Subjects with images, masks among the derivatives, and ``participants.tsv``."""
    data = DataSet(root)
    root.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "planted", "BIDSVersion": "1.8.0"}')
    for number in range(1, 7):
        stem = f"sub-{number:02d}"
        write(root / stem / "anat" / f"{stem}_T2w.nii.gz", image(number))
        write(root / "derivatives/manual" / stem / "anat" / f"{stem}_T2w_dseg.nii.gz", mask())
    rows = (f"sub-{number:02d}\t{40 + number}\tF\n" for number in (1, 2, 3, 4, 5, 5, 6))
    (root / "participants.tsv").write_text("participant_id\tage\tsex\n" + "".join(rows))
    masks = root / "derivatives/manual"
    data.plant("subject that is there twice", "participants.tsv", "twice|already|same")
    data.plant("truncated image", cut(root / "sub-01/anat/sub-01_T2w.nii.gz"), _DAMAGED)
    data.plant("mask of another shape", write(masks / "sub-02/anat/sub-02_T2w_dseg.nii.gz", mask((5, 20, 24))), "shape")
    (root / "sub-03/anat/sub-03_T2w.nii.gz").unlink()
    data.plant("mask without its image", "sub-03_T2w_dseg.nii.gz", _GONE)
    with zipfile.ZipFile(root / "sub-07.zip", "w") as archive:
        archive.write(root / "sub-04/anat/sub-04_T2w.nii.gz", "sub-07/anat/sub-07_T2w.nii.gz")
    data.plant("packed scan", "sub-07.zip", "packed")
    return data
