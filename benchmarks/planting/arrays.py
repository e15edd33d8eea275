"""Arrays in h5 files, and pictures, with faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from planting.files import SHAPE, cut, image, mask, write, write_colours
from planting.planted import DataSet

_DAMAGED = "incomplete|damaged|truncated|cut|bytes|complete"


def _h5(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as content:
        for name, array in arrays.items():
            content[name] = array
    return path


def spoilt_h5(root: Path) -> DataSet:
    """Volumes and rows of slices, with lists."""
    data = DataSet(root)
    for number in range(4):
        _h5(root / f"sound{number}.h5", image=image(number), label=mask())
    good, nan = image(9), float("nan")
    data.plant("truncated h5", cut(_h5(root / "cut.h5", image=good, label=mask())), _DAMAGED)
    data.plant("h5 without an image", _h5(root / "bare.h5", label=mask()), "image")
    data.plant("h5 of text", _h5(root / "text.h5", image=np.full(SHAPE, b"x")), "number")
    data.plant("h5 without a finite voxel", _h5(root / "nan.h5", image=good * np.float32(nan)), "finite|NaN")
    data.plant("h5 of four axes", _h5(root / "four.h5", image=image(1, (2, *SHAPE))), "2D or 3D|shape|axes")
    data.plant("label of another shape", _h5(root / "shape.h5", image=good, label=mask((6, 20, 23))), "shape")
    data.plant("interpolated label", _h5(root / "half.h5", image=good, label=mask() * 0.37), "whole number")
    data.plant("link into another file", _h5(root / "link.h5", image=h5py.ExternalLink("gone.h5", "/x")), "link")
    (root / "empty.h5").touch()
    data.plant("empty h5", root / "empty.h5", "empty|complete|0 bytes")
    for number in (1, 2, 4):
        _h5(root / "slices" / f"gap_slice_{number}.h5", image=good[0], label=mask()[0])
    data.plant("missing slice", "gap_slice_*.h5", "consecutive|missing|2 then 4")
    for folder in ("one", "two"):
        _h5(root / folder / "double.h5", image=image(12), label=mask())
    data.plant("two volumes of one name", "double", "one volume|twice|same")
    files = [path.stem for path in root.glob("*.h5")]
    kept = [name for name in files if name != "sound0"]
    (root / "train.list").write_text("\n".join([*kept, "gap", "double", "nobody"]) + "\n")
    (root / "test.list").write_text("sound0\nsound1\n")
    data.plant("listed case that is not there", "train.list", "do not exist|does not exist|nobody")
    data.plant("case on two lists", "sound1", "one list|another")
    return data


def spoilt_pictures(root: Path) -> DataSet:
    """A table of pictures and their masks."""
    root.mkdir(parents=True)
    data = DataSet(root / "scans.csv")
    lines = ["image,label"]
    plain = image(1)[0].clip(0, 255).astype(np.uint8)

    def row(name: str, suffix: str = ".png", label: str = ".png") -> tuple[Path, Path]:
        rng = np.random.default_rng(len(lines))
        picture = write(root / f"{name}{suffix}", (plain + rng.integers(0, 9, plain.shape)).astype(np.uint8))
        truth = write(root / f"{name}_m{label}", mask()[0])
        lines.append(f"{picture.name},{truth.name}")
        return picture, truth

    for number in range(4):
        row(f"sound{number}")
    for suffix in (".png", ".jpg", ".tif", ".bmp"):
        picture, _ = row(f"cut_{suffix[1:]}", suffix)
        data.plant(f"truncated {suffix}", cut(picture), _DAMAGED + "|cannot be read")
    _, truth = row("size")
    data.plant("mask picture of another size", write(truth, mask()[0, :-1]), "shape|size")
    _, truth = row("painted")
    colours = np.zeros((*plain.shape, 3), np.uint8)
    colours[3:9, 3:9] = (255, 0, 0)
    data.plant("mask in colours", write_colours(truth, colours), "colour|channel")
    _, truth = row("lossy", label=".jpg")
    data.plant("mask as JPEG", write(truth, mask()[0] * np.uint8(100)), "JPEG|lossy|classes|values")
    picture, _ = row("coloured")
    data.plant("picture in colours among grey ones", write_colours(picture, colours), "channel|colour")
    data.path.write_text("\n".join(lines) + "\n")
    return data
