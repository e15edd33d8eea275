"""Where ``predict`` writes: a folder of masks, or one mask with its table beside it; and whether it may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.artifact.own_files import own_files
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import RUN_FILE, conflict_sentence, outside_of, path_conflict, unwritable
from fewlabel.data.io.catalog_paths import files_behind, scan_stem
from fewlabel.data.io.file_names import SEGMENTATION_SUFFIX, lossless, name_fault, named_as_scan
from fewlabel.stages.predict.mask_names import Scan

_OTHER_OUT = "Give another --out"
_APART = "Segment the scans of these names one at a time"


@dataclass(frozen=True)
class Destination:
    """Where the files of a call go.

    Attributes:
        folder: Folder of the masks.
        mask: Name of the one mask, where a file was asked for; empty for a folder of masks.
    """

    folder: Path
    mask: str = ""

    @classmethod
    def of(cls, out: Path) -> Destination:
        """What ``--out`` means: a name of an image is that of a mask, unless a folder bears it.

        Example:
            >>> Destination.of(Path("new/mask.nii.gz")).beside("predictions.csv").as_posix()
            'new/mask_predictions.csv'
        """
        named = named_as_scan(out) or out.name.lower().endswith(".dcm")
        return cls(out.parent, out.name) if named and not out.is_dir() else cls(out)

    def beside(self, name: str) -> Path:
        """Where a file about the masks goes: into their folder, or beside the one mask under a name with its own."""
        return self.folder / (f"{scan_stem(Path(self.mask))}_{name}" if self.mask else name)


def check_destination(destination: Destination, scans: Sequence[Scan]) -> None:
    """Make sure that masks of these scans may be written there at all.

    Raises:
        SettingsError: With everything that is wrong with the place.
    """
    faults = _single_faults(destination, scans) if destination.mask else _folder_faults(destination.folder)
    if faults:
        raise SettingsError("Nothing was written:", faults)


def check_files(
    destination: Destination,
    scans: Sequence[Scan],
    files: Sequence[Path],
    in_the_way: Mapping[Path, str],
    *,
    overwrite: bool,
) -> None:
    """Make sure that nothing is lost by what will be written, and that it stays below the folder.

    Args:
        destination: Where to.
        scans: What was given to be segmented.
        files: What will be written.
        in_the_way: What is there and may be lost → why, as the end of a sentence.
        overwrite: Whether that may be replaced; scans never are.

    Raises:
        SettingsError: With everything that stands in the way.
    """
    faults: list[Fault] = []
    inputs = {file.resolve() for scan in scans for path in scan.images for file in files_behind(path)}
    twice = [target for target, count in Counter(files).items() if count > 1]
    faults.extend(Fault(f"{target} would be written twice", remedy=_APART) for target in twice)
    for target in dict.fromkeys(files):
        if place := outside_of(target, destination.folder):
            # A link in the output folder: what is written must not follow it.
            problem = f"{target} would be written to {place}, outside of --out"
            faults.append(Fault(problem, remedy=f"Remove the link, or {_OTHER_OUT[0].lower()}{_OTHER_OUT[1:]}"))
        elif target.resolve() in inputs:
            faults.append(Fault(f"{target} is a scan, which a mask would replace", remedy=_OTHER_OUT))
    if not overwrite:
        for target, why in in_the_way.items():
            faults.append(Fault(f"{target} {why}", remedy=f"{_OTHER_OUT}, or overwrite=true"))
    if faults:
        raise SettingsError("Nothing was written:", faults)


def _folder_faults(out: Path) -> list[Fault]:
    if fault := name_fault(out):
        return [fault]
    if obstacle := unwritable(out) if out.is_dir() else path_conflict(out):
        return [Fault(f"cannot be written, because of {obstacle}", str(out), _OTHER_OUT)]
    if (out / RUN_FILE).is_file():
        remedy = f"Give masks a folder of their own, such as {out / 'masks'}"
        return [Fault(f"--out {out} is a run folder", remedy=remedy)]
    manifest = out / MANIFEST
    # Of a call that was killed while it brought its files up to date, the manifest is older than they are.
    if manifest.is_file() and ((own := own_files(out, [MANIFEST])) is None or own.kind != "predictions"):
        return [Fault(f"--out {out} holds another artifact", remedy="Give a new folder")]
    return []


def _single_faults(destination: Destination, scans: Sequence[Scan]) -> list[Fault]:
    folder, out = destination.folder, destination.folder / destination.mask
    if fault := name_fault(out):
        return [fault]
    faults = []
    if len(scans) > 1:
        names = ", ".join(str(scan.images[0]) for scan in scans[:3]) + (", …" if len(scans) > 3 else "")
        problem = f"--out {out} is a file for one mask, but there are {len(scans)} scans: {names}"
        faults.append(Fault(problem, remedy="Give a folder as --out, or one scan"))
    suffix = out.name[len(scan_stem(out)) :].lower()
    if suffix != SEGMENTATION_SUFFIX and (fitting := lossless(suffix)) != suffix:
        problem = f"--out {out}: a {suffix} file cannot hold a mask, all in one file and without loss"
        faults.append(Fault(problem, remedy=f"Give a name such as {scan_stem(out)}{fitting}"))
    if obstacle := unwritable(folder):
        faults.append(Fault(conflict_sentence(out, obstacle), remedy=_OTHER_OUT))
    elif any((folder / name).is_file() for name in (MANIFEST, RUN_FILE)):
        what = "an artifact" if (folder / MANIFEST).is_file() else "a run"
        faults.append(Fault(f"{folder} is {what} and takes no other files", "out", "Give a place outside of it"))
    return faults
