"""Tables whose text is wrong, of sound scans."""

from __future__ import annotations

from pathlib import Path

from planting.files import image, mask, write
from planting.planted import DataSet


def spoilt_text(root: Path) -> DataSet:
    """A table with wrong cells, columns and bytes, and a file of label names with two of one name."""
    root.mkdir(parents=True)
    for number in range(12):
        write(root / f"s{number}.nii.gz", image(number))
        write(root / f"m{number}.nii.gz", mask())
    data = DataSet(root / "scans.csv")
    head = "image,label,subject,part,weight,thickness,other_image,site"
    lines = [head.encode()]

    def row(number: int, **cells: str) -> str:
        values = {"label": f"m{number}.nii.gz", "subject": f"p{number}", "part": "", "thickness": "1.5", "site": "A"}
        values |= {"weight": str(60.5 + number), "other_image": f"s{number}.nii.gz"} | cells
        columns = head.split(",")[1:]
        lines.append(",".join([f"s{number}.nii.gz", *(values[name] for name in columns)]).encode())
        return f"line {len(lines)}"

    for number in range(4):
        row(number)
    data.plant("unknown part", row(4, part="tset"), "part")
    row(5, subject="q", part="train")
    row(6, subject="q", part="test")
    data.plant("one subject in two parts", "q", "part")
    row(7, weight="heavy")
    data.plant("text among numbers", "weight", "heavy.*numbers", noted=True)
    data.plant("more cells than columns", row(8, thickness="1,5"), "cells|columns")
    row(9)
    row(10)
    data.plant("column of images that is metadata", "other_image", "image|path|file")
    (root / "labels.json").write_text('{"1": "LV", "2": "LV"}')
    data.plant("two classes of one name", "LV", "same name|twice")
    data.path.write_bytes(b"\n".join(lines) + b"\n")
    return data


def spoilt_columns(root: Path) -> DataSet:
    """A table with a column that is there twice and one case name in two rows; label names that are no JSON."""
    root.mkdir(parents=True)
    lines = ["image,label,case,Label,age"]
    for number in range(6):
        write(root / f"s{number}.nii.gz", image(number))
        write(root / f"m{number}.nii.gz", mask())
        lines.append(f"s{number}.nii.gz,m{number}.nii.gz,c{max(number, 1)},m{number}.nii.gz,{50 + number}")
    data = DataSet(root / "scans.csv")
    data.plant("column that is there twice", "scans.csv", "columns? .*(same|twice)|twice")
    data.plant("one case name in two rows", "c1", "same case|twice|case id")
    (root / "labels.json").write_text("{1: LV}")
    data.plant("label names that are no JSON", "labels.json", "JSON|map|Expecting")
    data.path.write_text("\n".join(lines) + "\n")
    return data


def empty_masks(root: Path) -> DataSet:
    """Masks that hold nothing, of scans that are all right."""
    root.mkdir(parents=True)
    lines = ["image,label,subject"]
    for number in range(4):
        write(root / f"s{number}.nii.gz", image(number))
        write(root / f"m{number}.nii.gz", 0 * mask())
        lines.append(f"s{number}.nii.gz,m{number}.nii.gz,p{number}")
    data = DataSet(root / "scans.csv")
    data.path.write_text("\n".join(lines) + "\n")
    data.plant("masks of background alone", root.name, "background|empty")
    return data
