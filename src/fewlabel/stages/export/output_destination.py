"""Where ``export`` may write."""

from __future__ import annotations

from pathlib import Path

from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import RUN_FILE, conflict_sentence, outside_of, path_conflict, unwritable


def check_file(out: Path, suffixes: tuple[str, ...], example: str, *, overwrite: bool) -> None:
    """Make sure that a file and its description beside it may be written.

    Args:
        out: The file; its description has the suffix ``.json``.
        suffixes: What its name may end in.
        example: A name that would do.
        overwrite: Whether files that are there may be replaced.

    Raises:
        SettingsError: With everything that stands in the way.
    """
    faults = []
    if out.suffix not in suffixes:
        wanted = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        faults.append(Fault(f"must end in {wanted}, not {out}", "out", f"Give a file name, such as --out {example}"))
    if obstacle := unwritable(out.parent):
        faults.append(Fault(conflict_sentence(out, obstacle), remedy="Give another --out"))
    elif any((out.parent / name).is_file() for name in (MANIFEST, RUN_FILE)):
        what = "an artifact" if (out.parent / MANIFEST).is_file() else "a run"
        faults.append(Fault(f"{out.parent} is {what} and takes no other files", "out", "Give a place outside of it"))
    faults.extend(
        Fault(f"{path} exists already", "out", "Give another --out, or overwrite=true to replace it")
        for path in dict.fromkeys((out, out.with_suffix(".json")))
        if path.exists() and not overwrite
    )
    if out.is_dir():
        faults.append(Fault(f"must be a file, and {out} is a folder", "out", "Name a file in it"))
    if faults:
        raise SettingsError("Nothing was written:", faults)


def check_folder(out: Path, mark: str, *, overwrite: bool, top: Path | None = None) -> None:
    """Make sure that a folder may be made, or made anew.

    Args:
        out: The folder.
        mark: A file in it by which an earlier export is known.
        overwrite: Whether an earlier export may be replaced; other folders never are.
        top: A folder that it must lie below, wherever links lead.

    Raises:
        SettingsError: If it may not.
    """
    if top is not None and (place := outside_of(out / mark, top)):
        fault = Fault(f"{out} would be written to {place}, outside of --out", remedy="Remove the link")
        raise SettingsError("Nothing was written:", [fault])
    obstacle = path_conflict(out)
    if obstacle == "other files" and (out / mark).is_file():
        if overwrite:
            return
        fault = Fault(f"{out} holds an export already", "out", "Give another --out, or overwrite=true to replace it")
    elif obstacle:
        fault = Fault(conflict_sentence(out, obstacle), remedy="Give a new folder as --out")
    else:
        return
    raise SettingsError("Nothing was written:", [fault])
