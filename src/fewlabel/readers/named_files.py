"""What names of image files say: an image or a mask, of which scan, which channel, kept for which part."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from fewlabel.data.file_names import is_mask_name
from fewlabel.data.io.catalog_paths import scan_stem

#: Words for a mask in the name of a file, and how well they say that it is the label: a plain ``mask`` is often that
#: of the field of view or of the brain.
_MASK_WORDS = {
    r"(?:1st|2nd|first|second)[ _-]?manual|manual\d*|(?:1st|2nd)HO|gt|ground[ _-]?truths?|truths?": 0,
    r"labels?|labelmaps?|lbl|segmentations?|segm?s?|dseg|annotations?|annots?|annotated|contours?": 1,
    r"masks?": 2,
}
_LEAST = max(_MASK_WORDS.values()) + 1
_MASK = "|".join(_MASK_WORDS)
#: Folders may say a little less clearly what is in them.
_MASK_FOLDER = rf"{_MASK}|lab|labs|targets?|SegmentationClass(?:PNG)?|gtFine|gtCoarse"
_IMAGE = r"images?|imgs?|imaging|volumes?|vols?|scans?|slices?|orig|originals?|inputs?|raw|photos?|pictures?"
#: Names of files may also say the part: 21_training.
_IMAGE_FILE = rf"{_IMAGE}|training|test"
_IMAGE_FOLDER = rf"{_IMAGE}|data|JPEGImages|leftImg8bit"
_PARTS = {"": r"train(?:ing)?|tr", "validation": r"val(?:id|idation)?|dev", "test": r"test(?:ing)?|ts"}
_PART = "|".join(_PARTS.values())
_SEQUENCES = (
    r"t1|t1w|t1n|t1c|t1ce|t1gd|t1post|t2|t2w|t2f|t2s|flair|pdw?|adc|dwi|swi|tof|ct|cta|pet|suv|dce|mra?|mri|lge|cine"
)
#: Segmentations by 3D Slicer, whatever they are called.
_SLICER = ".seg.nrrd"
_SEPARATOR = r"[ _\-.]+"
#: What the program itself and others write beside scans: neither scans nor labels.
_NEITHER = re.compile(rf"(?:^|.*{_SEPARATOR})(?:probabilit(?:y|ies)|uncertainty|superpixels|probseg)$", re.IGNORECASE)
_CHANNEL = re.compile(rf"(?P<rest>|.+{_SEPARATOR})(?P<channel>{_SEQUENCES}|(?<=[ _\-.])\d{{4}})$", re.IGNORECASE)


@dataclass(frozen=True)
class NamedFile:
    """What is in the name of an image file.

    Attributes:
        path: Relative to the folder of the data set.
        home: Its folders, but those that say what is in them (``images``) or a part (``train``).
        name: File name without suffix and words for masks.
        bare: The same without words for images either, such as ``volume``.
        mask: Whether name or folder say that it is a mask.
        by_name: Whether the name alone says so.
        part: ``""``, ``"validation"`` or ``"test"``, by its folders.
        word: What says that it is a mask, as written; empty for an image.
        rank: How well that word says that it is the label; 0 is best.
    """

    path: Path
    home: tuple[str, ...]
    name: str
    bare: str
    mask: bool
    by_name: bool
    part: str = ""
    word: str = ""
    rank: int = _LEAST
    image_folder: bool = field(default=False)


def is_mask_folder(name: str) -> bool:
    """Whether a folder's name says that it holds masks: ``labels``, ``masksTr``, ``train_masks``, ``GroundTruth``."""
    return _mask_folder_word(name) is not None


def is_image_folder(name: str) -> bool:
    """Whether a folder's name says that it holds images: ``images``, ``imagesTs``, ``val_img``."""
    return not is_mask_folder(name) and _folder_word(name, _IMAGE_FOLDER) is not None


def is_neither(path: PurePath) -> bool:
    """Whether a file is neither a scan nor a label by its name: maps of probabilities, of uncertainty, superpixels."""
    return _NEITHER.match(scan_stem(Path(path))) is not None


def part_of_folder(name: str) -> str | None:
    """The part of the catalog that a folder's name speaks of; None where it speaks of none."""
    words = [word for word in re.split(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])", name) if word]
    for word in words:
        for part, pattern in _PARTS.items():
            if re.fullmatch(pattern, word, re.IGNORECASE):
                return part
    return None


def understood(path: Path) -> NamedFile:
    """What the name of an image file says.

    Args:
        path: Relative to the folder of the data set.
    """
    stem = scan_stem(path)
    home: list[str] = []
    part, word, rank, image_folder = "", "", _LEAST, False
    for folder in path.parts[:-1]:
        named = part_of_folder(folder)
        part = part if named is None else named
        if (found := _mask_folder_word(folder)) is not None:
            word, rank, image_folder = folder, _rank(found), False
        elif _folder_word(folder, _IMAGE_FOLDER) is not None:
            word, rank, image_folder = "", _LEAST, True
        elif named is None or re.fullmatch(_PART, folder, re.IGNORECASE) is None:
            home.append(folder)
    split = _split_mask(stem)
    if split is None and path.name.lower().endswith(_SLICER):
        split = (stem, "seg")
    name = stem if split is None else split[0]
    by_name = split is not None or is_mask_name(path)
    if by_name and not word:
        # Words that may stand anywhere in a name, such as in x_seg_endpoints, say less than one at its end.
        word, rank = ("more words", _LEAST) if split is None else (split[1], _rank(split[1]))
    return NamedFile(path, tuple(home), name, _without_image(name), bool(word), by_name, part, word, rank, image_folder)


def split_channel(name: str) -> tuple[str, str] | None:
    """A name and the channel at its end: ``BraTS_001_t1ce`` is ``BraTS_001`` and ``t1ce``; None without one."""
    found = _CHANNEL.match(name)
    if found is None:
        return None
    return re.sub(rf"{_SEPARATOR}$", "", found["rest"]), found["channel"]


def _split_mask(stem: str) -> tuple[str, str] | None:
    """A stem without its word for a mask, and that word; None if there is none."""
    if found := re.fullmatch(rf"(?P<rest>.+?){_SEPARATOR}(?P<word>{_MASK})\d?", stem, re.IGNORECASE):
        return found["rest"], found["word"]
    if found := re.fullmatch(rf"(?P<rest>.+?){_SEPARATOR}(?P<word>{_MASK})(?P<number>[ _\-.]\d+)", stem, re.IGNORECASE):
        return found["rest"] + found["number"], found["word"]
    if found := re.fullmatch(rf"(?P<word>{_MASK})", stem, re.IGNORECASE):
        return "", found["word"]
    if found := re.fullmatch(rf"(?P<word>{_MASK})(?:{_SEPARATOR}|(?=\d))(?P<rest>.+)", stem, re.IGNORECASE):
        return found["rest"], found["word"]
    return None


def _without_image(name: str) -> str:
    for pattern in (
        rf"(?P<rest>.+?){_SEPARATOR}(?:{_IMAGE_FILE})(?P<number>(?:[ _\-.]\d+)?)",
        rf"(?:{_IMAGE_FILE})(?:{_SEPARATOR}|(?=\d))(?P<rest>.+)(?P<number>)",
        rf"(?P<rest>)(?:{_IMAGE_FILE})(?P<number>)",
    ):
        if found := re.fullmatch(pattern, name, re.IGNORECASE):
            return found["rest"] + found["number"]
    return name


def _mask_folder_word(name: str) -> str | None:
    """The word by which a folder holds masks; None if it does not."""
    word = _folder_word(name, _MASK_FOLDER)
    if word is None and _folder_word(name, _IMAGE_FOLDER) is None and is_mask_name(Path(name, "a.nii"), Path()):
        return name
    return word


def _rank(word: str) -> int:
    ranks = (rank for pattern, rank in _MASK_WORDS.items() if re.fullmatch(pattern, word, re.IGNORECASE))
    return next(ranks, _LEAST - 1)


def _folder_word(name: str, words: str) -> str | None:
    """The word that names a folder: alone, with a part (``labelsTr``, ``train_masks``), or last (``…_GroundTruth``)."""
    patterns = (
        rf"(?:(?:{_PART}){_SEPARATOR})?(?P<word>{words})(?:(?:{_SEPARATOR})?(?:{_PART}|\d+))?",
        rf".*(?:{_PART}).*[ _\-.](?P<word>{words})",
    )
    found = (re.fullmatch(pattern, name, re.IGNORECASE) for pattern in patterns)
    return next((match["word"] for match in found if match), None)
