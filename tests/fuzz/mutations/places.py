"""Mutations of names and places: files that are gone, doubled, called otherwise, or are links and folders."""

from __future__ import annotations

from pathlib import PurePosixPath
from random import Random

from fuzz.mutations import values
from fuzz.trees import Folder, Link, Tree

_SUFFIXES = (
    *(".nii", ".nii.gz", ".NII.GZ", ".nrrd", ".seg.nrrd", ".mha", ".mhd", ".hdr", ".img", ".png", ".jpg", ".tif"),
    *(".h5", ".npz", ".dcm", "", ".json", ".csv", ".xlsx", ".txt", ".gz", ".list", ".parquet"),
)


def moved(tree: Tree, name: str, rng: Random) -> str:
    """Change where a file of a tree lies; says what was done."""
    path = PurePosixPath(name)
    done = rng.randrange(9)
    if done == 0:
        del tree[name]
        return "taken away"
    if done == 1:
        tree[name] = b""
        return "emptied"
    if done == 2:
        tree[name] = Folder()
        return "a folder in its place"
    if done == 3:
        to = rng.choice(("nowhere", name.rsplit("/", 1)[-1], ".", "/dev/null", "/etc/hostname"))
        tree[name] = Link(to)
        return f"a link to {to}"
    if done == 4:
        stem = path.name.split(".")[0]
        other = path.with_name(stem + rng.choice(_SUFFIXES)) if stem else path
        tree[other.as_posix()] = tree.pop(name)
        return f"named {other.name}"
    if done == 5:
        odd = values.text(rng).replace("/", "_").replace("\0", "_") or "_"
        other = f"{path.parent}/{odd}{path.suffix}"
        tree[other] = tree.pop(name)
        return f"named {odd!r}"
    if done == 6:
        other = f"{path.parent}/{path.stem}_copy{path.suffix}"
        tree[other] = tree[name]
        return "there twice"
    if done == 7:
        other = f"{path.parent}/deeper/{path.name}"
        tree[other] = tree.pop(name)
        return "a folder deeper"
    other = rng.choice(sorted(tree))
    tree[name], tree[other] = tree[other], tree[name]
    return f"changed places with {other}"
