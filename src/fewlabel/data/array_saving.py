"""Arrays as npy files, written so that a full disk is told from other faults."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.unfinished_files import naming


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an npy file, byte for byte as ``np.save`` does.

    That writes past Python, and its error of a full disk has neither a number nor the name of the file.

    Raises:
        OSError: With both, if it cannot be written.
    """
    with naming(path), path.open("wb") as stream:
        np.lib.format.write_array(_Writes(stream), array, allow_pickle=False)


class _Writes:
    """A stream that numpy does not know as a file."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, content: bytes) -> int:
        return self._stream.write(content)
