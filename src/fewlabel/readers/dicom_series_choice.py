"""Which DICOM series of each study are scans of a data set: one by rule, or those that were asked for."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fewlabel.data.io.dicom.series import Series, is_localizer

_MOST = 6
#: Class of objects that are screenshots and scanned papers.
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: Values of ``ImageType`` of what was computed from a volume to be looked at.
_COMPUTED = frozenset({"PROJECTION IMAGE", "MIP", "MINIP", "SCREEN SAVE", "DOSE_INFO", "CSA REPORT"})
_WORDS = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class SeriesChoice:
    """The series that are scans.

    Attributes:
        scans: Pseudonyms of their volumes.
        notes: What is taken, and what is left out.
    """

    scans: tuple[str, ...]
    notes: tuple[str, ...]


def choose_series(
    scans: Mapping[str, Series], labelled: Collection[str], words: str | None, *, every: bool = False
) -> SeriesChoice:
    """The volumes that are scans of the data set.

    Localizers, pictures in colour, screenshots and projections are left out. Of what is left of a study the series with
    a label is taken; else the one whose modality and description are most like those of the labelled series, or, where
    nothing is labelled, like those that most studies have; then the one with the most slices, the largest matrix and
    the lowest number. All volumes of a series that is taken are scans.

    Args:
        scans: Pseudonym of each volume → the volume.
        labelled: Pseudonyms of those with a segmentation or a structure set.
        words: Only series whose description holds one of these words or phrases, with ``|`` between; None for any.
        every: Whether to take all series, not one of each study.
    """
    out: dict[str, set[str]] = defaultdict(set)
    studies: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for scan, series in scans.items():
        if kind := _left_out(series, words):
            out[kind].add(series.head.series)
        else:
            studies[series.head.study][series.head.series].append(scan)
    usual = _usual(scans, studies, labelled)
    taken: list[str] = []
    others: Counter[str] = Counter()
    for groups in studies.values():
        wanted = set(groups) if every else {_best(scans, groups, labelled, usual)}
        for name, group in groups.items():
            if name in wanted:
                taken.extend(group)
            else:
                others[scans[group[0]].head.description or scans[group[0]].head.modality] += 1
    return SeriesChoice(tuple(taken), (*_taken(scans, taken), *_left_notes(out, others)))


def _left_out(series: Series, words: str | None) -> str:
    """The kind of series that is no scan of the data set, or an empty text."""
    head = series.head
    if is_localizer(head):
        return "localizers"
    if head.samples > 1:
        return "pictures in colour"
    if f"{head.kind_of_object}.".startswith(f"{_SECONDARY_CAPTURE}."):
        return "screenshots"
    if _COMPUTED & set(head.kind):
        return "projections and reports"
    phrases = [phrase.strip().casefold() for phrase in (words or "").split("|") if phrase.strip()]
    if phrases and not any(phrase in head.description.casefold() for phrase in phrases):
        return "series that reader.series does not name"
    return ""


def _usual(
    scans: Mapping[str, Series], studies: Mapping[str, Mapping[str, Sequence[str]]], labelled: Collection[str]
) -> tuple[str, str]:
    """Modality and description of the series that others are to be like."""
    counts: Counter[tuple[str, str]] = Counter()
    slices: Counter[tuple[str, str]] = Counter()
    for groups in studies.values():
        kinds: set[tuple[str, str]] = set()
        for group in groups.values():
            if not labelled or set(group) & set(labelled):
                series = scans[group[0]]
                kind = (series.head.modality, series.head.description.casefold())
                kinds.add(kind)
                slices[kind] += series.shape[0]
        counts.update(kinds)
    return max(counts, key=lambda kind: (counts[kind], slices[kind], kind), default=("", ""))


def _best(
    scans: Mapping[str, Series],
    groups: Mapping[str, Sequence[str]],
    labelled: Collection[str],
    usual: tuple[str, str],
) -> str:
    def rank(name: str) -> tuple[float, ...]:
        series = scans[groups[name][0]]
        depth, rows, columns = series.shape
        description = series.head.description.casefold()
        return (
            bool(set(groups[name]) & set(labelled)),
            series.head.modality == usual[0],
            description == usual[1],
            _shared(description, usual[1]),
            depth,
            rows * columns,
            -(series.head.series_number or 0),
        )

    # Of equal ones the first by its pseudonym, so that the order of files does not matter.
    return max(groups, key=lambda name: (rank(name), groups[name][0]))


def _shared(one: str, other: str) -> float:
    """Share of the words of two descriptions that both have."""
    mine, its = set(_WORDS.findall(one)), set(_WORDS.findall(other))
    return len(mine & its) / max(1, len(mine | its))


def _taken(scans: Mapping[str, Series], taken: Sequence[str]) -> list[str]:
    """A line for each kind of series that is taken: description, modality, slices, matrix."""
    kinds: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for scan in taken:
        kinds[scans[scan].head.description, scans[scan].head.modality].append(scans[scan])
    lines = []
    ordered = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    for (description, modality), group in ordered[:_MOST]:
        studies, series = len({each.head.study for each in group}), len({each.head.series for each in group})
        slices = _range([each.shape[0] for each in group])
        rows, columns = _range([each.shape[1] for each in group]), _range([each.shape[2] for each in group])
        named = f'"{description}"' if description else "without description"
        volumes = f", {len(group)} volumes" if len(group) > series else ""
        what = f"series {named}, {modality}, {slices} {'slice' if slices == '1' else 'slices'} of {rows}x{columns}"
        lines.append(f"{what}: taken of {studies} {'study' if studies == 1 else 'studies'}{volumes}")
    if len(ordered) > _MOST:
        lines.append(f"{len(ordered) - _MOST} more kinds of series are taken")
    return lines


def _left_notes(out: Mapping[str, Collection[str]], others: Counter[str]) -> list[str]:
    parts = [f"{kind} ({len(series)})" for kind, series in sorted(out.items(), key=lambda item: -len(item[1]))]
    notes = [f"left out: {', '.join(parts)}"] if parts else []
    if others:
        shown = ", ".join(f"{name} ({count})" for name, count in others.most_common(_MOST))
        more = f" and {len(others) - _MOST} more kinds" if len(others) > _MOST else ""
        notes.append(
            f"one series of each study is taken; left out: {shown}{more}. reader.name=dicom reader.series=WORDS takes "
            "those whose description holds the words, reader.all_series=true all"
        )
    return notes


def _range(values: Sequence[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)}-{max(values)}"
