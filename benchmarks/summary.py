"""Print a committed results table: ``python benchmarks/summary.py acdc-lite``.

One line per arm and M: arm, M, draws, mean Dice, standard deviation over draws, and the gain over scratch (or the arm
given by ``--reference``) on the same draws with its 95 % t-interval. ``--markdown`` prints the table that the
documentation shows, ``--pretraining`` that of losses and embeddings, where the rows have them, ``--time`` that of wall
time, ``--variance`` that of the variance of ARCO's contrastive gradient, ``--learning`` that of ``la-lite``. A suite
with several splits has a table for each, ``acdc-semi-chaitanya`` and ``acdc-semi-ssl4mis``: named together they are
joined in the tables of time and of variance and in that of ``--pooled``, which has one line per arm with its gain over
all splits, M and draws. ``regime-costs`` and ``method-costs`` have a table of costs. ``acdc-ground``,
``hippocampus-ground`` and ``la-ground`` have tables of their own, one line per arm, split and M, with the seconds of a
run and a list of what was not run; ``--classes`` tells them by class and phase. ``probe`` has one of its own, too,
with gains over random weights unless ``--reference`` names another arm. ``fuzz`` says of mutated inputs how many were
tried of each reader, kind of file and kind of artifact, and how many held.

``docs/generate.py`` writes these tables into the pages that ask for one by ``<!-- generated: summary WORDS -->``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from fewlabel.scoring.statistics import t_interval

RESULTS = Path(__file__).parent / "results"
MISSING = "No results of {} are committed; `python benchmarks/run.py --suite NAME` makes them"


def rows(suite: str) -> list[dict[str, object]]:
    """All committed rows of a suite."""
    path = RESULTS / f"{suite}.jsonl"
    if not path.is_file():
        raise SystemExit(MISSING.format(suite))
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def summarise(table: list[dict], reference: str = "scratch") -> list[str]:
    """The lines of the summary."""
    dice: dict[tuple[str, int], dict[int, float]] = {}
    for row in table:
        dice.setdefault((row["arm"], row["labelled"]), {})[row["draw"]] = row["dice"]
    arms = sorted(dict.fromkeys(arm for arm, _ in dice), key=lambda arm: arm != reference)
    lines = ["arm M draws mean std gain low high"]
    for labelled in sorted({m for _, m in dice}):
        for arm in arms:
            values = dice.get((arm, labelled), {})
            if not values:
                continue
            base = dice.get((reference, labelled), {})
            gains = [values[draw] - base[draw] for draw in sorted(values) if draw in base]
            spread = statistics.stdev(values.values()) if len(values) > 1 else float("nan")
            gain = t_interval(gains)
            figures = [statistics.mean(values.values()), spread, gain.mean, gain.low, gain.high]
            lines.append(
                " ".join(
                    [
                        arm,
                        str(labelled),
                        str(len(values)),
                        *("nan" if figure is None else f"{figure:.3f}" for figure in figures),
                    ]
                )
            )
    return lines


def markdown(lines: list[str], reference: str = "scratch", numbers: str = "draws") -> list[str]:
    """The same lines as a table for documents; ``numbers`` says what the runs of an arm are, draws or seeds."""
    table = [f"| arm | M | {numbers} | Dice | gain over {reference}, 95 % interval |", "|---|---|---|---|---|"]
    for line in lines[1:]:
        arm, labelled, draws, mean, std, gain, low, high = line.split()
        interval = f"one {numbers.rstrip('s')}" if low == "nan" else f"{float(low):+.3f} to {float(high):+.3f}"
        worth = "" if arm == reference else f"{float(gain):+.3f} ({interval})"
        deviation = "" if std == "nan" else f" ± {std}"
        table.append(f"| `{arm}` | {labelled} | {draws} | {mean}{deviation} | {worth} |")
    return table


def pooled(tables: list[list[dict]], reference: str = "scratch") -> list[str]:
    """Gain of each arm over the reference in all runs that both have, as a table for documents.

    A run is a split, an M and a draw or seed. Runs share a test set and, with seeds, labelled patients, so the interval
    says what another run of the same kind would give, not what another data set would.
    """
    dice = {
        (row["arm"], number, row["labelled"], row["draw"]): row["dice"]
        for number, table in enumerate(tables)
        for row in table
    }
    lines = [f"| arm | runs | gain over {reference}, 95 % interval | better in |", "|---|---|---|---|"]
    for arm in dict.fromkeys(key[0] for key in dice):
        pairs = [(value, dice.get((reference, *key[1:]))) for key, value in dice.items() if key[0] == arm]
        gains = [ours - theirs for ours, theirs in pairs if theirs is not None]
        if arm == reference or not gains:
            continue
        gain = t_interval(gains)
        interval = "one run" if len(gains) < 2 else f"{gain.low:+.3f} to {gain.high:+.3f}"
        lines.append(f"| `{arm}` | {len(gains)} | {gain.mean:+.3f} ({interval}) | {sum(g > 0 for g in gains)} |")
    return lines


def by_arm(table: list[dict]) -> dict[str, list[dict]]:
    """Rows of each arm, in the order of the table."""
    return {arm: [row for row in table if row["arm"] == arm] for arm in dict.fromkeys(row["arm"] for row in table)}


def durations(table: list[dict]) -> list[str]:
    """Wall time of each arm's fine-tunings, as a table for documents: of a step, and with the evaluation."""
    lines = ["| arm | runs | seconds of a step, median | seconds of a run, median |", "|---|---|---|---|"]
    for arm, found in by_arm(table).items():
        step, whole = (statistics.median(row[key] for row in found) for key in ("finetune_step_seconds", "seconds"))
        lines.append(f"| `{arm}` | {len(found)} | {step:.2f} | {whole:.0f} |")
    return lines


def variances(table: list[dict]) -> list[str]:
    """Variance of the contrastive gradient over that of naive draws, medians over runs, as a table for documents."""
    lines = ["| arm | runs | SG over naive | SAG over naive |", "|---|---|---|---|"]
    for arm, found in by_arm([row for row in table if "variance" in row]).items():
        measured = [row["variance"] for row in found]
        sg, sag = (statistics.median(each[name] / each["ns"] for each in measured) for name in ("sg", "sag"))
        lines.append(f"| `{arm}` | {len(found)} | {sg:.2f} | {sag:.2f} |")
    return lines


def pretraining(table: list[dict]) -> list[str]:
    """What the pre-training of each arm looked like, as a table for documents; the first encoder of each."""
    first: dict[str, list[dict]] = {}
    for row in table:
        if "pretraining" in row:
            first.setdefault(row["arm"], row["pretraining"])
    lines = [
        "| method | stage | loss, first → last | if collapsed | spread | effective rank |",
        "|---|---|---|---|---|---|",
    ]
    for arm, stages in first.items():
        for stage in stages:
            collapsed = "" if stage["collapsed_last"] is None else f"{stage['collapsed_last']:.2f}"
            cells = [
                f"`{arm}`",
                ", ".join(stage["terms"]),
                f"{stage['loss_first']:.2f} → {stage['loss_last']:.2f}",
                collapsed,
                *(f"{stage[key][0]:.2f} → {stage[key][-1]:.2f}" for key in ("spread", "effective_rank")),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def learning(table: list[dict], reference: str = "scratch") -> list[str]:
    """Dice and the fall of the soft Dice loss of labelled patches, as a table for documents; the reference first."""
    lines = [
        "| arm | test Dice | soft Dice loss of labelled patches, first → last tenth of the run | seconds of a step |",
        "|---|---|---|---|",
    ]
    for row in sorted(table, key=lambda row: row["arm"] != reference):
        losses = f"{row['dice_loss_first']:.2f} → {row['dice_loss_last']:.2f}"
        lines.append(f"| `{row['arm']}` | {row['dice']:.3f} | {losses} | {row['finetune_step_seconds']:.2f} |")
    return lines


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
    lines = probe_summary.markdown(found, probe_summary.REFERENCE if reference == "scratch" else reference)
    if markdown:
        return lines
    more = [*probe_summary.agreement(found, rows("acdc-methods")), *probe_summary.unfinished(found)]
    return [*lines, *more]


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


def table(words: Sequence[str]) -> list[str]:
    """The lines that the words of the command line ask for.

    Raises:
        SystemExit: If a word is unknown, or nothing of a suite is committed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", default=["acdc-lite"])
    parser.add_argument("--markdown", action="store_true", help="as a table for documents")
    parser.add_argument("--pretraining", action="store_true", help="losses and embeddings of pre-training, as a table")
    parser.add_argument("--variance", action="store_true", help="variance of ARCO's gradient, as a table")
    parser.add_argument("--time", action="store_true", help="wall time of each arm, as a table")
    parser.add_argument("--learning", action="store_true", help="how labelled patches were learnt, as a table")
    parser.add_argument("--pooled", action="store_true", help="gains over all the suites' runs, as a table")
    parser.add_argument("--classes", action="store_true", help="a ground suite by class and phase, as a table")
    parser.add_argument("--reference", default="scratch", help="the arm that gains are over")
    parser.add_argument("--numbers", default="draws", choices=["draws", "seeds"], help="what the runs of an arm are")
    asked = parser.parse_args(words)
    if all(suite.endswith("-ground") for suite in asked.suites):
        return [
            line for suite in asked.suites for line in ground(suite, markdown=asked.markdown, by_class=asked.classes)
        ]
    if asked.suites in (["probe"], ["fuzz"]):
        of_probe = asked.suites == ["probe"]
        return probe(markdown=asked.markdown, reference=asked.reference) if of_probe else fuzz(markdown=asked.markdown)
    if all(suite.endswith("-costs") for suite in asked.suites):
        return [line for suite in asked.suites for line in costs(suite)]
    tables = [rows(suite) for suite in asked.suites]
    joined = [row for found in tables for row in found]
    if asked.pooled:
        return pooled(tables, asked.reference)
    for wanted, made in (
        (asked.variance, variances),
        (asked.time, durations),
        (asked.learning, learning),
        (asked.pretraining, pretraining),
    ):
        if wanted:
            return made(joined)
    found = [summarise(each, asked.reference) for each in tables]
    if asked.markdown:
        found = [markdown(each, asked.reference, asked.numbers) for each in found]
    return [line for each in found for line in each]


if __name__ == "__main__":
    print("\n".join(table(sys.argv[1:])))
