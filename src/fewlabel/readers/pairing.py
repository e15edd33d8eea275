"""Images and masks of a folder brought together by their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.readers.image_names import NamedFile, is_neither, split_channel, understood

#: Part, folders and name without channel: what the channels of a scan share.
_Key = tuple[str, tuple[str, ...], str]


#: Masks in deeper folders come after all others.
_DEEPER = 10


@dataclass
class PairedScan:
    """A scan and every mask whose name speaks of it.

    Attributes:
        images: One file per channel, in the order of :attr:`Pairing.channels`; fewer where some are missing.
        name: Of the scan, without channel.
        masks: Best first.
    """

    images: dict[str, NamedFile]
    name: str
    masks: list[NamedFile] = field(default_factory=list)

    @property
    def first(self) -> NamedFile:
        """The image of the first channel there is."""
        return next(iter(self.images.values()))


@dataclass(frozen=True)
class Pairing:
    """What a folder holds.

    Attributes:
        scans: In the order of their files.
        channels: Words for channels at the end of names; empty where each scan is one file.
        strays: Masks that belong to no image.
    """

    scans: tuple[PairedScan, ...]
    channels: tuple[str, ...] = ()
    strays: tuple[NamedFile, ...] = ()

    @property
    def labelled(self) -> int:
        """Scans that have a mask."""
        return sum(bool(scan.masks) for scan in self.scans)


def pair_files(files: Iterable[Path], roles: Mapping[Path, NamedFile] | None = None) -> Pairing:
    """Scans with their masks.

    Args:
        files: Image files, relative to the folder of the data set.
        roles: What some files are, whatever their names say.
    """
    known = roles or {}
    named = _with_roles([known.get(path) or understood(path) for path in files if not is_neither(path)])
    images = [file for file in named if not file.mask]
    masks = [file for file in named if file.mask]
    scans, channels = _scans(images, masks)
    strays = _attach(scans, masks)
    for scan in scans:
        # Of masks joined of several people's, that of their majority.
        scan.masks.sort(key=lambda mask: ("_maj" not in mask.name.lower(), mask.rank, len(mask.path.name), mask.path))
    return Pairing(tuple(scans), channels, tuple(strays))


def _with_roles(named: list[NamedFile]) -> list[NamedFile]:
    """Images and masks, where names and folders do not agree."""
    if named and all(file.mask for file in named):
        # Such as a folder "segmentations" with scans in it: the names alone speak.
        named = [file if file.by_name else _as_image(file) for file in named]
    folders = any(file.mask and not _is_own_word(file) for file in named)
    # A folder of images in which all names are those of masks holds images called so.
    plain = {file.path.parent for file in named if not file.mask}
    checked = []
    for file in named:
        called = file.mask and file.image_folder and folders and file.path.parent not in plain
        checked.append(_as_image(file) if called else file)
    return checked


def _is_own_word(file: NamedFile) -> bool:
    """Whether it is the file's name, not a folder, that says it is a mask."""
    return file.by_name and file.word not in file.path.parts


def _as_image(file: NamedFile) -> NamedFile:
    stem = scan_stem(file.path)
    return replace(file, mask=False, name=stem, bare=file.bare if file.by_name else stem, word="")


def _scans(images: Sequence[NamedFile], masks: Sequence[NamedFile]) -> tuple[list[PairedScan], tuple[str, ...]]:
    """Files of one scan together, where their names end in words for channels."""
    groups: dict[_Key, dict[str, NamedFile]] = defaultdict(dict)
    split = {image.path: split_channel(image.bare) for image in images}
    for image in images:
        if (parts := split[image.path]) is not None:
            groups[(image.part, image.home, parts[0])][parts[1].lower()] = image
    if not _are_channels(groups, images, masks, split):
        return [PairedScan({"": image}, image.name) for image in images], ()
    channels = tuple(sorted({channel for group in groups.values() for channel in group}))
    scans, taken = [], set()
    for image in images:
        parts = split[image.path]
        key = None if parts is None else (image.part, image.home, parts[0])
        if key is None or parts is None:
            scans.append(PairedScan({"": image}, image.name))
        elif key not in taken:
            taken.add(key)
            group = groups[key]
            scans.append(PairedScan({channel: group[channel] for channel in channels if channel in group}, parts[0]))
    return scans, channels


def _are_channels(
    groups: dict[_Key, dict[str, NamedFile]],
    images: Sequence[NamedFile],
    masks: Sequence[NamedFile],
    split: dict[Path, tuple[str, str] | None],
) -> bool:
    several = {key for key, group in groups.items() if len(group) > 1}
    if not several or 2 * len(several) < len(groups):
        return False
    numbered = any(channel.isdigit() for group in groups.values() for channel in group)
    # A mask of each file says that the files are scans of their own; one for all of them, that they are channels.
    names = {(mask.home, mask.bare) for mask in masks} | {((), mask.bare) for mask in masks}
    homes = {mask.home for mask in masks if mask.home}
    own = sum(split[image.path] is not None and (image.home, image.bare) in names for image in images)
    shared = 0
    for _, home, base in several:
        shared += bool({(home, base), ((), base)} & names or home in homes)
    return shared > own or (not masks and not numbered)


def _attach(scans: Sequence[PairedScan], masks: Iterable[NamedFile]) -> list[NamedFile]:
    """Give every mask to its scan, by the closest of several rules that fits one; what fits none is returned."""
    left = list(masks)
    for of_scan, of_mask in _RULES:
        known: dict[Hashable, list[PairedScan]] = defaultdict(list)
        for scan in scans:
            key = of_scan(scan)
            if key is not None:
                known[key].append(scan)
        rest = []
        for mask in left:
            key = of_mask(mask)
            fitting = known.get(key, []) if key is not None else []
            fitting = fitting if len(fitting) < 2 else [scan for scan in fitting if scan.first.part == mask.part]
            if len(fitting) == 1:
                fitting[0].masks.append(mask)
            else:
                rest.append(mask)
        left = rest
    return [mask for mask in left if not (_attach_longer(scans, mask) or _attach_deeper(scans, mask))]


def _attach_deeper(scans: Sequence[PairedScan], mask: NamedFile) -> bool:
    """A mask in a folder below that of a scan with a mask, such as one of each instance, is another of the scan's."""
    above = [scan for scan in scans if scan.masks and scan.first.home and _is_below(mask.home, scan.first.home)]
    if len(above) != 1:
        return False
    above[0].masks.append(replace(mask, rank=mask.rank + _DEEPER))
    return True


def _is_below(home: tuple[str, ...], folder: tuple[str, ...]) -> bool:
    return len(home) > len(folder) and home[: len(folder)] == folder


def _attach_longer(scans: Sequence[PairedScan], mask: NamedFile) -> bool:
    """A mask whose name goes on after that of its image, such as ``x_frame03_gt`` of ``x``."""
    fitting = [
        scan
        for scan in scans
        if scan.name and scan.first.home == mask.home and re.match(rf"{re.escape(scan.name)}[ _\-.]", mask.name)
    ]
    if not fitting:
        return False
    max(fitting, key=lambda scan: len(scan.name)).masks.append(mask)
    return True


def _base(name: str) -> str:
    parts = split_channel(name)
    return name if parts is None else parts[0]


def _bare(scan: PairedScan) -> str:
    return scan.first.bare if "" in scan.images else scan.name


#: Key of a scan, and key of a mask: where they are equal for one scan, the mask is its.
_RULES: tuple[tuple[Callable[[PairedScan], Hashable], Callable[[NamedFile], Hashable]], ...] = (
    (lambda scan: (scan.first.home, scan.name), lambda mask: (mask.home, mask.name)),
    (lambda scan: (scan.first.home, _bare(scan)), lambda mask: (mask.home, mask.bare)),
    (lambda scan: (scan.first.home, _base(_bare(scan))), lambda mask: (mask.home, mask.bare)),
    (lambda scan: (scan.first.home, _base(_bare(scan))), lambda mask: (mask.home, _base(mask.bare))),
    (lambda scan: scan.name or None, lambda mask: mask.name or None),
    (lambda scan: _base(_bare(scan)) or None, lambda mask: mask.bare or None),
    (lambda scan: _base(_bare(scan)) or None, lambda mask: _base(mask.bare) or None),
    (lambda scan: scan.first.home or None, lambda mask: mask.home or None),
)
