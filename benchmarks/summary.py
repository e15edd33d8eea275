"""Print a committed results table: ``python benchmarks/summary.py acdc-ground``.

``acdc-ground``, ``hippocampus-ground`` and ``la-ground`` have a line per arm, split and M, with the seconds of a run
and a list of what was not run; ``--classes`` tells them by class and phase. ``probe`` has gains over random weights
unless ``--reference`` names another arm. ``suggest`` has gains over patients at random. ``regime-costs`` and
``method-costs`` have a table of costs. ``fuzz`` says of mutated inputs how many were tried of each reader, kind of
file and kind of artifact, and how many held. ``tests`` says what tests take, and how many changed lines they notice.
``scaling`` has steps by one process and by several, ``streaming`` batches from a store larger than memory. ``versus``
has ours beside its rivals, with hardware and dates.
``--markdown`` prints the table alone, as the documentation shows it.

Methods are compared by ``fewlabel study``: ``benchmarks/claims.py`` prints what its committed rows say of claims, and
the name of a study that comes with the package prints its part of that here. So do ``acdc-methods``, ``acdc-semi``
and ``gcl-ablation``, as tables were called that studies took the place of.
``docs/generate.py`` writes these tables into the pages that ask for one by ``<!-- generated: summary WORDS -->``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
#: Name of an earlier table → the studies that took its place (decision 0021).
EARLIER = {
    "acdc-methods": ("gcl-table1",),
    "acdc-semi": ("gcl-table2", "arco-acdc"),
    "gcl-ablation": ("gcl-table3",),
}
MISSING = "No results of {} are committed; `python benchmarks/run.py --suite NAME` makes them"


def costs(suite: str, results: Path = RESULTS) -> list[str]:
    """Step and memory of each method or regime beside the reference, cheapest step first, as a table for documents."""
    path = results / f"{suite}.json"
    if not path.is_file():
        raise SystemExit(MISSING.format(suite))
    content = json.loads(path.read_text())
    kind, beside = ("method", "encoder") if "methods" in content else ("regime", "network")
    lines = [f"| {kind} | step | memory beside the {beside} |", "|---|---|---|"]
    for name, row in sorted(content[f"{kind}s"].items(), key=lambda item: item[1]["step"]):
        if name == content["reference"]:
            continue
        head, comma, part = name.partition(", ")
        size = row["extra_bytes"] / 2**20
        memory = "under 0.1 MiB" if size < 0.1 else f"{size:.1f} MiB"
        lines.append(f"| `{head}`{comma}{part} | {row['step']:.1f} x | {memory} |")
    return lines


def ground(suite: str, *, markdown: bool, by_class: bool, results: Path = RESULTS) -> list[str]:
    """The table of a ground suite, and what of it was not run."""
    from suites import ground_summary
    from suites.ground import not_run
    from suites.ground import rows as rows_so_far
    from suites.grounds import GROUNDS

    path = results / f"{suite}.jsonl"
    table = rows_so_far(path)
    if by_class:
        return ground_summary.details(table)
    if markdown:
        return ground_summary.markdown(table)
    return [*ground_summary.summarise(table), *ground_summary.unfinished(not_run(GROUNDS[suite], path))]


def probe(*, markdown: bool, reference: str, results: Path = RESULTS) -> list[str]:
    """The table of the probe, and unless it is for a document what of it was not run."""
    from suites import probe_summary

    path = results / "probe.jsonl"
    if not path.is_file():
        raise SystemExit(MISSING.format("probe"))
    found = [json.loads(line) for line in path.read_text().splitlines()]
    lines = probe_summary.markdown(found, reference or probe_summary.REFERENCE)
    return lines if markdown else [*lines, *probe_summary.unfinished(found)]


def versus(*, markdown: bool, results: Path = RESULTS) -> list[str]:
    """The table of ours beside its rivals, and unless it is for a document what of it was not run."""
    from suites import versus_summary
    from suites.versus import rows as rows_so_far

    found = rows_so_far(results / "versus.jsonl")
    lines = versus_summary.markdown(found)
    return lines if markdown else [*lines, *versus_summary.unfinished(found)]


def suggest(results: Path = RESULTS) -> list[str]:
    """What suggested patients are worth beside others at random, as a table; and whether any rule is better."""
    from suites.suggest import rows_of, summary

    path = results / "suggest.jsonl"
    if not path.is_file():
        raise SystemExit(MISSING.format("suggest"))
    return summary(rows_of(path))


def fuzz(*, markdown: bool, results: Path = RESULTS) -> list[str]:
    """The table of mutated inputs."""
    from suites import fuzz_summary

    path = results / "fuzz.jsonl"
    if not path.is_file():
        raise SystemExit(
            "No results of fuzz are committed; `python tests/fuzz --rows benchmarks/results/fuzz.jsonl` makes them"
        )
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return fuzz_summary.markdown(found) if markdown else fuzz_summary.summarise(found)


def of_tests(results: Path = RESULTS) -> list[str]:
    """The table of what tests take and notice."""
    from suites.figures_of_tests import table as figures

    path = results / "tests.jsonl"
    if not path.is_file():
        raise SystemExit("No figures of tests are committed; `python benchmarks/figures_of_tests.py` keeps them")
    return figures([json.loads(line) for line in path.read_text().splitlines()])


def by_machine(suite: str, results: Path = RESULTS) -> list[str]:
    """The table of ``scaling`` or ``streaming``: the latest row of each processor."""
    from suites import scaling, streaming

    path = results / f"{suite}.jsonl"
    if not path.is_file():
        raise SystemExit(MISSING.format(suite))
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return scaling.table(found) if suite == "scaling" else streaming.table(found)


def of_studies(names: Sequence[str]) -> list[str]:
    """Results and claims of studies, or that they were not run; nothing where none of that name is shipped."""
    import claims
    from fewlabel.pipelines.study import study_names

    return "\n".join(claims.lines(names=names)).splitlines() if set(names) <= set(study_names()) else []


def table(words: Sequence[str]) -> list[str]:
    """The lines that the words of the command line ask for.

    Raises:
        SystemExit: If a word is unknown, or nothing of a suite is committed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", default=["acdc-ground"])
    parser.add_argument("--markdown", action="store_true", help="as a table for documents")
    parser.add_argument("--classes", action="store_true", help="a ground suite by class and phase, as a table")
    parser.add_argument("--reference", default="", help="the arm of the probe that gains are over")
    asked = parser.parse_args(words)
    lines: list[str] = []
    for suite in asked.suites:
        if suite.endswith("-ground"):
            lines += ground(suite, markdown=asked.markdown, by_class=asked.classes)
        elif suite.endswith("-costs"):
            lines += costs(suite)
        elif suite == "versus":
            lines += versus(markdown=asked.markdown)
        elif suite == "suggest":
            lines += suggest()
        elif suite == "probe":
            lines += probe(markdown=asked.markdown, reference=asked.reference)
        elif suite in ("scaling", "streaming"):
            lines += by_machine(suite)
        elif suite == "fuzz":
            lines += fuzz(markdown=asked.markdown)
        elif suite == "tests":
            lines += of_tests()
        elif studies := of_studies(EARLIER.get(suite, (suite,))):
            lines += studies
        else:
            raise SystemExit(MISSING.format(suite))
    return lines


if __name__ == "__main__":
    print("\n".join(table(sys.argv[1:])))
