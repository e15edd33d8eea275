"""Where the scans of a prepared store lie: paths below one folder, and beside them where that folder is.

The content of a store names scans below the folder that holds all of them, so that it is the same wherever that lies,
and holds no name of a folder above. Where it lies is told beside, from the store on: scans and store may move together,
and a folder that has moved alone is found again by ``prepare``, which knows its scans by their content.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import ArtifactError
from fewlabel.core.output_paths import RUN_FILE, round_folders
from fewlabel.core.settings.base import located_from, path_from
from fewlabel.data.catalog import Catalog
from fewlabel.data.io.dicom.address import parse_dicom

#: File beside the content of a store that says where its scans lie.
DATA_FOLDER = "data_folder.json"
#: Before a path that lies in the store itself.
_OWN = "./"


def holding(paths: Iterable[Path | str]) -> Path:
    """The deepest folder that holds all of these.

    Args:
        paths: Folders, or paths of a catalog.

    Raises:
        ValueError: If there are none, or no folder does, as on several drives.
    """
    return Path(os.path.commonpath([_home(Path(path)) for path in paths]))


def folder_of(catalog: Catalog) -> Path:
    """The deepest folder that holds the scans of a catalog and what names them.

    Raises:
        ValueError: As :func:`holding`.
    """
    paths = [path for case in catalog.cases for path in (*case.images, *([case.label] if case.label else []))]
    return holding([catalog.root, *paths])


def below(path: Path | str, folder: Path) -> str:
    """A path of a catalog from a folder on; one that does not lie there stays as it is.

    Example:
        >>> below("/data/scans/a.nii.gz", Path("/data")), below("/data#dicom:p1", Path("/data"))
        ('scans/a.nii.gz', '.#dicom:p1')
    """
    text, home = _absolute(path), _absolute(folder)
    if text.startswith(f"{home}#"):
        return f".{text[len(home) :]}"
    return Path(text).relative_to(home).as_posix() if Path(text).is_relative_to(home) else text


def without_folder(value: Any, folder: Path) -> Any:
    """A value, nested or not, whose texts name what lies in a folder by its path from there on.

    Example:
        >>> without_folder({"notes": ["/data/scans/a.nii: odd"]}, Path("/data"))
        {'notes': ['scans/a.nii: odd']}
    """
    if isinstance(value, Mapping):
        return {key: without_folder(inner, folder) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_folder(inner, folder) for inner in value]
    if not isinstance(value, str):
        return value
    home = _absolute(folder)
    # As an absolute path, and as the user may have given it.
    for name in (home, os.path.relpath(home)) if Path(home).anchor == Path.cwd().anchor else (home,):
        if name != ".":
            value = re.sub(rf"(?<![^\s('\"]){re.escape(name)}[/\\]", "", value)
    return value


def in_store(path: Path | str) -> str:
    """How a store names a file of its own, by its path from the store on."""
    return f"{_OWN}{Path(path).as_posix()}"


def located(text: str, store: Path, folder: Path | None) -> str:
    """The path of a catalog that a store names.

    Args:
        text: As :func:`below` or :func:`in_store` gave it; what is absolute stays.
        store: The store.
        folder: Where its scans lie; None where nobody knows.
    """
    if text.startswith(_OWN):
        return str(store / text.removeprefix(_OWN))
    if folder is None or Path(text).is_absolute():
        return text
    return f"{folder}{text[1:]}" if text.startswith(".#") else str(folder / text)


def write_data_folder(store: Path, folder: Path, final: Path | None = None) -> None:
    """Say where the scans of a store lie.

    Args:
        store: The folder of the store.
        folder: That of the scans.
        final: Where the store will be, if elsewhere.
    """
    write_json(store / DATA_FOLDER, {"folder": path_from(final or store, folder)})


def read_data_folder(store: Path) -> Path | None:
    """Where the scans of a store lie; None where it does not say so."""
    try:
        value = read_json(store / DATA_FOLDER)
    except ArtifactError:
        return None
    folder = value.get("folder") if isinstance(value, dict) else None
    if not isinstance(folder, str):
        return None
    return Path(located_from(store, folder))


def find_again_in_rounds(run: Path, before: Path | None) -> None:
    """Have the stores of the rounds of a run look for their scans where the run's own store finds them now.

    Args:
        run: The run folder.
        before: Where its store looked for them.

    Raises:
        OSError: If one cannot be written.
    """
    now = read_data_folder(run / "prepared")
    if before is None or now is None or os.path.realpath(before) == os.path.realpath(now):
        return
    for store in (folder / "prepared" for folder in round_folders(run)):
        there = read_data_folder(store)
        if there is not None and os.path.realpath(there) == os.path.realpath(before):
            write_data_folder(store, now)


def moved_remedy(store: Path) -> str:
    """What to do where files of scans are not where a store has them; no command of it replaces the store.

    Of a store in a run the run knows how it was prepared.
    """
    run = next((above for above in (store.parent, *store.parents[2:3]) if (above / RUN_FILE).is_file()), None)
    begin = "Restore them or, if they have moved, say where:"
    if run is not None:
        return f"{begin} fewlabel train NEW_DATA --out {shlex.quote(str(run))} --resume"
    words = "with the words they were prepared with"
    return f"{begin} fewlabel prepare NEW_DATA --out {shlex.quote(str(store))}, {words}"


def _home(path: Path) -> str:
    dicom = parse_dicom(path)
    place = Path(_absolute(path if dicom is None else dicom.root))
    return str(place if place.is_dir() else place.parent)


def _absolute(path: Path | str) -> str:
    return os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps "..", and resolve follows links
