"""What names of image files say: an image or a mask, of which scan, which channel, kept for which part."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePath

from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.mask_names import is_mask_name

#: Words for a mask in the name of a file, and how well they say that it is the label: a plain ``mask`` is often that
#: of the field of view or of the brain.
_MASK_WORDS = {
    r"(?:1st|2nd|first|second)[ _-]?manual|manual\d*|(?:1st|2nd)HO|gt|ground[ _-]?truths?|truths?": 0,
    r"labels?|labelmaps?|lbl|segmentations?|segm?s?|dseg|annotations?|annots?|annotated|contours?"
    r"|kontur(?:en)?|segmentierung(?:en)?|segmentaci[oó]n(?:es)?|etiquetas?": 1,
    r"masks?|masken?|masques?|m[aá]scaras?": 2,
}
_LEAST = max(_MASK_WORDS.values()) + 1
_MASK = "|".join(_MASK_WORDS)
#: Folders may say a little less clearly what is in them.
_MASK_FOLDER = rf"{_MASK}|lab|labs|targets?|SegmentationClass(?:PNG)?|gtFine|gtCoarse"
_IMAGE = r"images?|imgs?|imaging|volumes?|vols?|scans?|slices?|orig|originals?|inputs?|raw|photos?|pictures?"
_IMAGE += r"|bild(?:er)?|aufnahmen?|im[aá]gen(?:es)?"
#: Names of files may also say the part: 21_training.
_IMAGE_FILE = rf"{_IMAGE}|training|test"
_IMAGE_FOLDER = rf"{_IMAGE}|data|JPEGImages|leftImg8bit"
_PARTS = {"": r"train(?:ing)?|tr", "validation": r"val(?:id|idation)?|dev", "test": r"test(?:ing)?|ts"}
_PART = "|".join(_PARTS.values())
_SHORTEST = 2
_SEQUENCES = (
    r"t1|t1w|t1n|t1c|t1ce|t1gd|t1post|t2|t2w|t2f|t2s|flair|pdw?|adc|dwi|swi|tof|ct|cta|pet|suv|dce|mra?|mri|lge|cine"
)
#: Segmentations by 3D Slicer, whatever they are called.
_SLICER = ".seg.nrrd"
_SEPARATOR = r"[ _\-.]+"
#: What the program itself and others write beside scans: neither scans nor labels.
_NEITHER = re.compile(rf"(?:^|.*{_SEPARATOR})(?:probabilit(?:y|ies)|uncertainty|superpixels|probseg)$", re.IGNORECASE)
_CHANNEL = re.compile(rf"(?P<rest>|.+{_SEPARATOR})(?P<channel>{_SEQUENCES}|(?<=[ _\-.])\d{{4}})$", re.IGNORECASE)


def _compiled(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


_MASK_FILE = _compiled(
    rf"(?P<rest>.+?){_SEPARATOR}(?P<word>{_MASK})\d?(?P<number>)",
    rf"(?P<rest>.+?){_SEPARATOR}(?P<word>{_MASK})(?P<number>[ _\-.]\d+)",
    rf"(?P<rest>)(?P<word>{_MASK})(?P<number>)",
    rf"(?P<word>{_MASK})(?:{_SEPARATOR}|(?=\d))(?P<rest>.+)(?P<number>)",
)
_IMAGE_NAMED = _compiled(
    rf"(?P<rest>.+?){_SEPARATOR}(?:{_IMAGE_FILE})(?P<number>(?:[ _\-.]\d+)?)",
    rf"(?:{_IMAGE_FILE})(?:{_SEPARATOR}|(?=\d))(?P<rest>.+)(?P<number>)",
    rf"(?P<rest>)(?:{_IMAGE_FILE})(?P<number>)",
)
_PART_ALONE = re.compile(_PART, re.IGNORECASE)
#: Such as imagesTr and labels_test.
_ROLE_AND_PART = re.compile(rf"(?:{_MASK_FOLDER}|{_IMAGE_FOLDER})(?:{_SEPARATOR})?({_PART})", re.IGNORECASE)


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
        image_folder: Whether the folder it lies in is one of images by its name.
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
    image_folder: bool = False


def is_neither(path: PurePath) -> bool:
    """Whether a file is neither a scan nor a label by its name: maps of probabilities, of uncertainty, superpixels."""
    return _is_neither(path.name)


def part_of_folder(name: str) -> str | None:
    """The part of the catalog that a folder's name speaks of; None where it speaks of none."""
    whole = _PART_ALONE.fullmatch(name) or _ROLE_AND_PART.fullmatch(name)
    words = [whole[whole.lastindex or 0]] if whole else re.split(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])", name)
    for word in words:
        # Two letters in the middle of a name, such as those of BraTS, speak of no part.
        for part, pattern in _PARTS.items():
            if (whole or len(word) > _SHORTEST) and re.fullmatch(pattern, word, re.IGNORECASE):
                return part
    return None


def understood(path: Path) -> NamedFile:
    """What the name of an image file says.

    Args:
        path: Relative to the folder of the data set.
    """
    folders = _folders(path.parts[:-1])
    name, bare, by_name, word, rank = _file(path.name)
    if folders.word:
        word, rank = folders.word, folders.rank
    return NamedFile(
        path, folders.home, name, bare, bool(word), by_name, folders.part, word, rank, folders.image_folder
    )


@lru_cache(maxsize=1 << 16)
def _is_neither(name: str) -> bool:
    return _NEITHER.match(scan_stem(Path(name))) is not None


@dataclass(frozen=True)
class _Folders:
    """What the folders of a file say, with the words of :class:`NamedFile`."""

    home: tuple[str, ...]
    part: str
    word: str
    rank: int
    image_folder: bool


# Thousands of files share their folders, and structures their names.
@lru_cache(maxsize=1 << 12)
def _folders(names: tuple[str, ...]) -> _Folders:
    home: list[str] = []
    part, word, rank, image_folder = "", "", _LEAST, False
    for folder in names:
        named = part_of_folder(folder)
        part = part if named is None else named
        if (mask_word := _mask_folder_word(folder)) is not None:
            word, rank, image_folder = folder, _rank(mask_word), False
        elif _folder_word(folder, _IMAGE_FOLDER) is not None:
            word, rank, image_folder = "", _LEAST, True
        elif named is None or _PART_ALONE.fullmatch(folder) is None:
            home.append(folder)
            # What lies in a folder of its own below "data" need not be an image.
            image_folder = False
    return _Folders(tuple(home), part, word, rank, image_folder)


@lru_cache(maxsize=1 << 16)
def _file(name: str) -> tuple[str, str, bool, str, int]:
    """Name without words for masks, without those for images, whether it is a mask by name, by which word, its rank."""
    # One name may be spelled in two ways, with accents of their own or not.
    path = Path(unicodedata.normalize("NFC", name))
    stem = scan_stem(path)
    split = _split_mask(stem)
    if split is None and name.lower().endswith(_SLICER):
        split = (stem, "seg")
    short = stem if split is None else split[0]
    if split is not None:
        return short, _without_image(short), True, split[1], _rank(split[1])
    # Words that may stand anywhere in a name, such as in x_seg_endpoints, say less than one at its end.
    by_name = is_mask_name(path)
    return short, _without_image(short), by_name, "more words" if by_name else "", _LEAST


def split_channel(name: str) -> tuple[str, str] | None:
    """A name and the channel at its end: ``BraTS_001_t1ce`` is ``BraTS_001`` and ``t1ce``; None without one."""
    match = _CHANNEL.match(name)
    if match is None:
        return None
    return re.sub(rf"{_SEPARATOR}$", "", match["rest"]), match["channel"]


def _split_mask(stem: str) -> tuple[str, str] | None:
    """A stem without its word for a mask, and that word; None if there is none."""
    for pattern in _MASK_FILE:
        if match := pattern.fullmatch(stem):
            return match["rest"] + match["number"], match["word"]
    return None


def _without_image(name: str) -> str:
    for pattern in _IMAGE_NAMED:
        if match := pattern.fullmatch(name):
            return match["rest"] + match["number"]
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
    matches = (pattern.fullmatch(name) for pattern in _folder_patterns(words))
    return next((match["word"] for match in matches if match), None)


@cache
def _folder_patterns(words: str) -> tuple[re.Pattern[str], ...]:
    return _compiled(
        rf"(?:(?:{_PART}){_SEPARATOR})?(?P<word>{words})(?:(?:{_SEPARATOR})?(?:{_PART}|\d+))?",
        rf".*(?:{_PART}).*[ _\-.](?P<word>{words})",
    )
