"""What the columns of a table of scans mean: the names that people give to images, masks and persons."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.io.itk_image import is_scan

#: What a column of each meaning is called, without case, accents and anything but letters and digits: in English, and
#: where people name it otherwise in German, French and Spanish.
SYNONYMS = {
    "image": (
        "image|images|img|imgs|file|files|scan|scans|volume|volumes|path|filepath|filename|nifti|picture|pictures"
        "|bild|bilder|aufnahme|datei|pfad|fichier|chemin|imagen|imagenes|archivo|ruta"
    ),
    "label": (
        "label|labels|mask|masks|seg|segs|segmentation|segmentations|segmentationmask|gt|gts|groundtruth|annotation"
        "|annotations|labelmap|truth|maske|masken|segmentierung|kontur|masque|masques|mascara|mascaras|segmentacion"
    ),
    "subject": (
        "subject|subjects|subjectid|subjectkey|subjectno|subjectnr|subjectnumber|subj|subjid|sub|subid|patient|patients"
        "|patientid|patientkey|patientno|patientnr|patientnumber|pat|patid|patno|pid|participant|participants"
        "|participantid|participantno|person|personid|individual|individualid|proband|probandid|volunteer|volunteerid"
        "|animal|animalid|mrn|patienten|patientenid|patientennr|patientennummer|patientin|probanden|probandennr"
        "|teilnehmer|sujet|sujets|idsujet|patiente|idpatient|numeropatient|sujeto|sujetos|idsujeto|paciente|pacientes"
        "|idpaciente|numeropaciente|participante"
    ),
    "case": "case|fall|cas|caso",
    "part": "part|split|datasplit|subset|partition|aufteilung|teilmenge|ensemble|conjunto|particion",
    "slice": (
        "slice|slicenumber|sliceno|slicenr|sliceindex|sliceid|sliceidx|z|zindex|instance|instancenumber|schicht"
        "|schichtnummer|schichtnr|coupe|numerocoupe|corte|numerocorte"
    ),
    "frame": "frame|framenumber|frameno|framenr|frameindex|frameid",
}
#: What may follow a name without changing what it means: mask_path, image_filename, Bilddatei.
_ENDINGS = (
    *("filename", "filepath", "file", "path", "dateiname", "dateipfad", "datei", "pfad", "fichier", "chemin"),
    *("archivo", "ruta", "name"),
)
_MEANING = {word: meaning for meaning, words in SYNONYMS.items() for word in words.split("|")}
#: What such a column says, where it is not called ``part``, and the part that it means.
PART_WORDS = {
    **dict.fromkeys(("train", "training", "entrainement", "entraînement", "entrenamiento"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validierung", "validacion", "validación"), "validation"),
    **dict.fromkeys(("test", "testing", "prueba"), "test"),
}
#: A name of the case, but of the person where no other column names that.
_CASE_OR_SUBJECT = "caseid"
_FILES = ("image", "label")
CHANNEL = re.compile(r"image_\d+$")


@dataclass(frozen=True)
class Meanings:
    """What the columns of a table mean.

    Attributes:
        known: A key of :data:`SYNONYMS`, or ``image_2`` and so on → its column.
        metadata: All other columns.
    """

    known: dict[str, str]
    metadata: tuple[str, ...]


def meanings(
    cells: Mapping[str, Sequence[str]],
    where: str,
    faults: list[Fault],
    notes: list[str],
    is_file: Callable[[str], bool],
    wanted: Sequence[str] = tuple(SYNONYMS),
) -> Meanings:
    """What columns mean. A name is known in any case and with any separators.

    One that can also mean something else (``volume``, ``gt``) counts as files only where its cells look like them.
    ``case_id`` names the person where no other column does, else the case. Where no name says which column keeps scans
    for testing, the one does whose cells are all words for parts.

    Args:
        cells: Column → its cells.
        where: The table.
        faults: Takes two columns of one meaning.
        notes: Takes which columns were understood under another name.
        is_file: Whether a cell names a file that is there.
        wanted: Meanings that a column of this table can have; others are metadata.
    """
    by_meaning: dict[str, list[str]] = {}
    for column, values in cells.items():
        meaning = _meaning(column, values, is_file)
        by_meaning.setdefault(meaning if meaning.partition("_")[0] in wanted else "", []).append(column)
    for meaning in set(_FILES) & set(by_meaning):
        # Beside a column of that very name another one counts where its files are there, or the former names none.
        first, *others = sorted(by_meaning[meaning], key=lambda column: column.lower() != meaning)
        others = [column for column in others if column.lower() != meaning]
        if first.lower() != meaning or not others:
            continue
        if not looks_like_files(cells[first], is_file):
            by_meaning[meaning] = others
            faults.append(no_files(first, meaning, cells[first], where))
        else:
            unlike = [column for column in others if not any(map(is_file, cells[column]))]
            by_meaning[meaning] = [column for column in by_meaning[meaning] if column not in unlike]
            by_meaning.setdefault("", []).extend(unlike)
    told = [column for column in by_meaning.get("", ()) if _tells_parts(cells[column])]
    if "part" in wanted and "part" not in by_meaning and len(told) == 1:
        by_meaning["part"] = told
        by_meaning[""].remove(told[0])
    unknown = by_meaning.pop("", [])
    metadata = tuple(column for column in cells if column in unknown)
    ids = [column for column in by_meaning.get("case", ()) if plain_name(column) == _CASE_OR_SUBJECT]
    if ids and "subject" not in by_meaning:
        by_meaning["subject"] = ids
        by_meaning["case"] = [column for column in by_meaning["case"] if column not in ids]
    known: dict[str, str] = {}
    for meaning, columns in by_meaning.items():
        for column in sorted(columns, key=lambda column: column != meaning):
            if meaning not in known:
                known[meaning] = column
                continue
            first = known[meaning]
            same = first.lower() == column.lower()
            problem = "have the same name, in any case" if same else f"both name the {_word(meaning)}"
            faults.append(Fault(f"columns {first} and {column} {problem}", where, "Rename or remove one"))
        if meaning in known and known[meaning].lower() != meaning:
            notes.append(f"column {known[meaning]} is read as the {_word(meaning)}")
    return Meanings(known, metadata)


def looks_like_files(values: Sequence[str], is_file: Callable[[str], bool]) -> bool:
    """Whether cells name image files: by a suffix, or because they are there."""
    parts = [part.strip() for value in values for part in value.split(";") if part.strip()]
    return any(is_scan(Path(part.replace("\\", "/"))) or is_file(part) for part in parts[:50])


def _meaning(column: str, values: Sequence[str], is_file: Callable[[str], bool]) -> str:
    low = column.strip().lower()
    if CHANNEL.match(low):
        return low
    word = plain_name(low)
    stem = next((word.removesuffix(ending) for ending in _ENDINGS if word.endswith(ending)), word)
    meaning = _MEANING.get(word) or _MEANING.get(stem) or ("case" if word == _CASE_OR_SUBJECT else "")
    if meaning in _FILES and low != meaning and not looks_like_files(values, is_file):
        return ""
    if meaning == "part" and low != "part":
        # A word that is misspelled is for the reader of parts to name.
        words = [value.lower() for value in values if value]
        return meaning if words and 2 * sum(word in PART_WORDS for word in words) >= len(words) else ""
    if meaning in {"slice", "frame"} and any(value and not _is_number(value) for value in values):
        return ""
    return meaning


def _tells_parts(values: Sequence[str]) -> bool:
    """Whether all cells, whatever their column is called, are words for two or more parts."""
    parts = {PART_WORDS.get(value.lower(), "") for value in values if value}
    return len(parts) > 1 and "" not in parts


def no_files(column: str, meaning: str, values: Sequence[str], where: str) -> Fault:
    """The fault of a column whose cells are no files at all, but classes of whole scans."""
    shown = ", ".join(sorted({value for value in values if value})[:3]) or "nothing"
    kind = "mask" if meaning == "label" else meaning
    problem = f"column {column} must name {kind} files, but holds {shown}"
    return Fault(problem, where, "Rename it if it is metadata, such as the class of a whole scan")


def plain_name(column: str) -> str:
    """A column's name in lower case and without accents, without anything but letters and digits."""
    letters = unicodedata.normalize("NFKD", column.lower())
    return re.sub(r"[\W_]+", "", "".join(each for each in letters if not unicodedata.combining(each)))


def _word(meaning: str) -> str:
    words = {"label": "mask (label)", "case": "case", "slice": "slice number", "frame": "frame number"}
    return words.get(meaning, meaning)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
