"""Data sets told by the names of their files: what their labels are, and what else the names say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fewlabel.data.catalog import Column, Value


@dataclass(frozen=True)
class KnownSet:
    """A data set as its archive names it.

    Attributes:
        name: Of the data set.
        scan: Pattern of the names of scans. Its group ``subject``, where it has one, is the subject; ``modality`` a
            metadata column.
        labels: Value → name.
        channel: Of the one channel, where there is one.
    """

    name: str
    scan: re.Pattern[str]
    labels: Mapping[int, str] = field(default_factory=dict)
    channel: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Metadata that names of scans hold."""
        known = {"modality": Column("modality", "categorical", "name of the file")}
        return tuple(column for name, column in known.items() if name in self.scan.groupindex)

    def metadata(self, scan: str) -> dict[str, Value]:
        """Metadata in the name of a scan."""
        match = self.scan.match(scan)
        return {column.name: match[column.name].upper() if match else None for column in self.columns}

    def subject(self, scan: str) -> str | None:
        """Who was scanned, where the name of the scan says so."""
        match = self.scan.match(scan)
        return match["subject"] if match is not None and "subject" in self.scan.groupindex else None


def _named(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


KNOWN = (
    KnownSet(
        "MMWHS",  # Zhuang et al., MedIA 2019
        _named(r"(?P<modality>ct|mr)_(?:train|test)_\d{4}"),
        {
            205: "LV myocardium",
            420: "left atrium",
            500: "LV",
            550: "right atrium",
            600: "RV",
            820: "ascending aorta",
            850: "pulmonary artery",
        },
    ),
    KnownSet(
        "HVSMR 2016",  # Pace et al., MICCAI 2015
        _named(r"training_(?:axial|sa)(?:_\w+)?_pat\d+|(?:training|testing)_axial_(?:crop|full)_pat\d+"),
        {1: "myocardium", 2: "blood pool"},
        "MR",
    ),
    KnownSet(
        "HVSMR 2.0",  # Pace et al., Scientific Data 2024
        _named(r"pat\d+_cropped$"),
        {1: "LV", 2: "RV", 3: "LA", 4: "RA", 5: "aorta", 6: "pulmonary artery", 7: "SVC", 8: "IVC"},
        "MR",
    ),
    KnownSet("LiTS", _named(r"volume-\d+$"), {1: "liver", 2: "tumour"}, "CT"),  # Bilic et al., MedIA 2023
    KnownSet("KiTS", _named(r"case_\d{5}$"), {1: "kidney", 2: "tumour"}, "CT"),  # Heller et al., MedIA 2021
    KnownSet("PROMISE12", _named(r"Case\d{2}$"), {1: "prostate"}, "T2 MR"),  # Litjens et al., MedIA 2014
    KnownSet(
        "M&Ms",  # Campello et al., IEEE TMI 2021
        _named(r"[A-Z]\d[A-Z]\d[A-Z]\d_sa"),
        {1: "LV", 2: "myocardium", 3: "RV"},
        "cine MR",
    ),
    KnownSet(
        "M&Ms-2",  # Martín-Isla et al., JBHI 2023
        _named(r"(?P<subject>\d{3})_[SL]A_(?:ED|ES|CINE)$"),
        {1: "LV", 2: "myocardium", 3: "RV"},
        "cine MR",
    ),
    KnownSet("BraTS", _named(r"(?P<subject>BraTS-\w+-\d{5})-\d{3}")),  # one scan of several visits
)


def known_set(scans: Sequence[str]) -> KnownSet | None:
    """The data set that all names of scans are of; None where there is none."""
    if not scans:
        return None
    return next((known for known in KNOWN if all(known.scan.match(scan) for scan in scans)), None)
