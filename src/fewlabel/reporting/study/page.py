"""The page of a study: its tables, curves, published figures and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fewlabel import __version__
from fewlabel.reporting.blocks import Block, Facts, Folded, Headline, Page, Picture, Pictures, Section, Table, Text
from fewlabel.reporting.formatting import count, listed
from fewlabel.reporting.study import tables
from fewlabel.reporting.study.curves import curves
from fewlabel.scoring.embedding import PURITY_RULE, SILHOUETTE_RULE
from fewlabel.scoring.statistics import USELESS


@dataclass(frozen=True)
class StudyFacts:
    """What the page says beside the statistics.

    Attributes:
        statistics: As the study leaves them.
        published: Published figures in words.
        differences: Differences of protocol between them and the study.
        source: Where they are from.
        docs: Arm → what it is.
        gain: The gain that power is told for.
        facts: Terms and values: machine, versions, times.
        maps: Of embeddings.
    """

    statistics: Mapping[str, Any]
    published: tables.Published = field(default_factory=dict)
    differences: Sequence[str] = ()
    source: str = ""
    docs: Mapping[str, str] = field(default_factory=dict)
    gain: float = 0.02
    facts: Sequence[tuple[str, str]] = ()
    maps: Sequence[Picture] = ()


def all_tables(study: StudyFacts) -> list[Table]:
    """Every table there is something to say in."""
    found = study.statistics
    made = [
        tables.results_table(found, study.published),
        tables.claim_table(found),
        tables.label_table(found),
        tables.effect_table(found),
        tables.recorded_table(found),
        tables.embedding_table(found),
        tables.rank_table(found),
        tables.power_table(found, study.gain),
    ]
    return [table for table in made if table is not None]


#: Caption of a table, up to its first semicolon → how it is to be read.
_RULES = {
    "Results": ("test", "interval"),
    "Label efficiency": ("label efficiency",),
    "Effects of switches": ("switches",),
    "Ranks": ("ranks",),
    "Power": ("power",),
}


def compose(study: StudyFacts) -> Page:
    """The page: what came out first, then how sure it is, then how it was made."""
    found = study.statistics
    sections: list[Section] = []
    for table in all_tables(study):
        title = table.caption.split(";", maxsplit=1)[0]
        blocks: list[Block] = [table]
        if title == "Results":
            blocks += [*curves(found), *_beside(study)]
        if title == "Embeddings":
            blocks += [Pictures(study.maps), Text(f"{PURITY_RULE} {SILHOUETTE_RULE}", "note")]
        blocks += [Text(found["rules"][rule], "note") for rule in _RULES.get(title, ())]
        sections.append(Section(title.lower().replace(" ", "-"), title, _lead(title, study), blocks))
    return Page(
        title=f"Study {found['name']}",
        subtitle=found["description"],
        headline=headline(found),
        sections=[*sections, _provenance(study)],
        footer=f"Made by fewlabel {__version__}. For research; not a medical device.",
    )


def headline(statistics: Mapping[str, Any]) -> Headline:
    """Who is better than the control beyond the correction, who finds nothing at all, and how much is missing."""
    better = told(statistics, "better")
    worse = told(statistics, "worse")
    arms, control = list(statistics["cells"]), statistics["control"]
    sentence = f"{count(len(arms), 'arm')} against {control}, at {_numbers(statistics['budgets'])} labelled patients."
    parts = [f"Better than {control}: {listed(better, 12)}." if better else f"No arm is better than {control}."]
    parts += [f"Worse: {listed(worse, 12)}."] if worse else []
    useless = [arm for arm, cells in statistics["cells"].items() if cells and _most(cells) < USELESS]
    parts += [f"Of no use, with a mean Dice below {USELESS:g}: {listed(useless, 12)}."] if useless else []
    missing = len(statistics["missing"])
    parts += [f"{count(missing, 'cell')} missing: what is said is of the others."] if missing else []
    return Headline(sentence, (), " ".join(parts), "gain" if better else "loss" if worse else "open")


def told(statistics: Mapping[str, Any], verdict: str) -> list[str]:
    """``gcl (M=1)`` and so on: cells with a verdict."""
    return [
        f"{arm} (M={budget})"
        for arm, cells in statistics["cells"].items()
        for budget, cell in cells.items()
        if cell.get("test", {}).get("verdict") == verdict
    ]


def _most(cells: Mapping[str, Any]) -> float:
    """The highest mean Dice of an arm."""
    return max(float(cell["spread"]["mean"]) for cell in cells.values())


def _numbers(budgets: Sequence[str]) -> str:
    return listed(list(budgets), 12) if budgets else "no number of"


def _lead(title: str, study: StudyFacts) -> str:
    control = study.statistics["control"]
    return {
        "Results": f"Means and deviations over draws and seeds; gains over {control} on the same draws and patients.",
        "Published claims": "Each claim as a comparison of two arms of this study, under its protocol.",
        "Label efficiency": f"What an arm reaches with few labelled patients takes {control} so many.",
    }.get(title, "")


def _beside(study: StudyFacts) -> list[Block]:
    blocks: list[Block] = []
    if study.published:
        blocks.append(Text(f"Published figures: {study.source}.", "note"))
        blocks.append(Text(told_differences(study.differences), "note"))
    if any(study.docs.values()):
        rows = [[arm, text] for arm, text in study.docs.items() if text]
        blocks.append(Folded("What the arms are", Table(["arm", "what it is"], rows, wrapped=frozenset({1}))))
    return blocks


def _provenance(study: StudyFacts) -> Section:
    return Section("how-it-was-made", "How it was made", "", [Facts(list(study.facts))])


def told_differences(differences: Sequence[str]) -> str:
    """How the protocol of a study differs from that of its published figures, in one line."""
    return f"Differences of protocol: {' '.join(differences) or 'None is known.'}"
