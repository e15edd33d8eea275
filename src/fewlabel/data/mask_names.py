"""What the name of an image file says: whether it is a mask, and not a scan."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

#: Words for a mask wherever they stand in a name: ``x_seg``, ``label0001``, ``mask_liver``, ``p1_seg_liver``.
_MASK = re.compile(
    r"masks?|msk|segs?|segm|segmask|segmentations?|dseg|probseg|gmseg|lesionseg|softseg|labels?|labelmaps?|lbl|gts?|"
    r"groundtruth|annots?|annotations?|parcellation|aseg|aparc|laendo|"
    # German, French and Spanish, without accents.
    r"masken?|kontur(?:en)?|segmentierung(?:en)?|masques?|mascaras?|segmentacion(?:es)?|etiquetas?"
)
#: Words for a mask at the end of a name, or as all of it: ``x_manual1``, ``truth``.
_LAST = re.compile(
    r"manual|truth|anno|rois?|contours?|delineations?|preds?|predictions?|probabilities|uncertainty|superpixels"
)
#: What may follow the word for a mask, and means nothing here.
_QUALIFIER = re.compile(
    r"l|r|left|right|lh|rh|v|final|new|old|copy|corrected|edited|fixed|reader|rater|expert|observer|annotator|ed|es|"
    r"train|training|tr|test|testing|ts|val|validation|va|all|full|binary|merged|combined|resampled|cropped"
)
#: What may follow the word for masks in the name of a folder.
_OF_FOLDER = re.compile(rf"{_QUALIFIER.pattern}|class|object|instance|png|nii|nifti|raw|fine|coarse|data|files|aug")
_MASK_FOLDER = re.compile(rf"{_MASK.pattern}|manuals?|truths?|ground|contours|rois|annotated|trainannot")
_IMAGE_FOLDER = re.compile(r"images?|imgs?|scans?|volumes?|bild(?:er)?|imagen(?:es)?")
_NUMBER = re.compile(r"\d+(st|nd|rd|th)?$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BETWEEN = re.compile(r"[^A-Za-z0-9]+")
#: ``labelstr``, ``imagests`` and the like, in lower case.
_PARTED = re.compile(r"(?P<word>labels?|masks?|images?|segs?)(?:tr|ts|val|va)$")
_BIDS = re.compile(r"sub-[^_]+_", re.IGNORECASE)


def is_mask_name(path: Path, root: Path | None = None) -> bool:
    """Whether a file is a mask by its name, or by the names of the folders below ``root`` that it lies in.

    ``x_seg.nii.gz``, ``x.seg.nrrd``, ``x-label.nrrd``, ``x_manual1.png``, ``segmentation.nii.gz``, ``label0001.nii.gz``
    and ``LungMask.mha`` are masks, and so is all that lies in a folder such as ``labelsTr``, ``masks``,
    ``1st_manual`` or ``SegmentationClass``. Of BIDS names (``sub-…``) the suffix decides: ``sub-1_label-L_T1w`` is an
    image. Words count as wholes: ``longt``, ``unmasked`` and ``masked`` are none.

    Args:
        path: Of the file; nothing of it is read.
        root: Folder of the data set, which ``path`` lies in; None asks the name of the file alone.
    """
    # What stands before the suffix of the format, such as the "seg" of .seg.nrrd, belongs to the name.
    if _is_mask_stem(Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem):
        return True
    if root is None or not path.is_relative_to(root):
        return False
    for folder in reversed(path.relative_to(root).parts[:-1]):
        words = _words(folder)
        last = _last_word(words, _OF_FOLDER)
        if _IMAGE_FOLDER.fullmatch(last):
            return False
        if _MASK_FOLDER.fullmatch(last):
            return True
    return False


def _is_mask_stem(stem: str) -> bool:
    if _BIDS.match(stem):
        return any(_MASK.fullmatch(word) or _LAST.fullmatch(word) for word in _words(stem.rpartition("_")[2]))
    words = _words(stem)
    if any(map(_MASK.fullmatch, words)) or {"ground", "truth"} <= set(words):
        return True
    return _LAST.fullmatch(_last_word(words, _QUALIFIER)) is not None


def _words(name: str) -> list[str]:
    """The words of a name in lower case and without accents, without the numbers between and after them."""
    name = "".join(each for each in unicodedata.normalize("NFKD", name) if not unicodedata.combining(each))
    words = [word.lower() for word in _BETWEEN.split(_CAMEL.sub(" ", name).replace(" ", "_")) if word]
    words = [_NUMBER.sub("", word) for word in words]
    return [parted["word"] if (parted := _PARTED.match(word)) else word for word in words if word]


def _last_word(words: Sequence[str], qualifier: re.Pattern[str]) -> str:
    """The last word that is no qualifier; empty if there is none."""
    return next((word for word in reversed(words) if not qualifier.fullmatch(word)), "")
