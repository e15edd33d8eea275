"""Whether there is a file of a name that a list or a record has."""

from __future__ import annotations

import os
from pathlib import Path


def file_is_there(path: Path) -> bool:
    r"""Whether a file lies at a path; no for one at which none can lie, as :meth:`pathlib.Path.is_file` does not say.

    Such are names that are too long, that hold a zero byte, or that are no text.

    Example:
        >>> file_is_there(Path(f"{300 * 'x'}.nii.gz")), file_is_there(Path("a\0b"))
        (False, False)
    """
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for names that are too long
