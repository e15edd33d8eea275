"""The keys of shared copies, beside the original or elsewhere: one for each that differs, and none is overwritten."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

from fewlabel.core.artifact.files import write_text
from fewlabel.pipelines.share.identifying_names import Names

#: The first key; those after it are ``share-key-2.csv`` and so on.
KEY = "share-key.csv"
_KEYS = re.compile(r"share-key(-\d+)?\.csv")


def is_key(name: str) -> bool:
    """Whether a file of a run is the key of a copy."""
    return _KEYS.fullmatch(name) is not None


def write_key(folder: Path, names: Names) -> Path:
    """Write the key of a copy, for the eyes of its owner only; one that says the same is taken as it is.

    The scans of a run may change between two copies, and without its own key a copy that was given away cannot be
    traced back.

    Returns:
        The file.
    """
    text = names.key().to_csv(index=False)
    for number in itertools.count(1):
        path = folder / (KEY if number == 1 else f"{Path(KEY).stem}-{number}.csv")
        if not os.path.lexists(path):
            break
        if _says(path, text):
            return path
    before = os.umask(0o077)
    try:
        write_text(path, text)
    finally:
        os.umask(before)
    return path


def _says(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False
