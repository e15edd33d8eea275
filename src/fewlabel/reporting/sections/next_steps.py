"""What to do next, from what the scores say."""

from __future__ import annotations

from fewlabel.reporting.blocks import Section, Text
from fewlabel.reporting.formatting import listed, number
from fewlabel.reporting.inputs import Inputs
from fewlabel.reporting.unseen_scores import UnseenScores
from fewlabel.scoring.statistics import USELESS

TITLE = "What to do next"
#: Patients with scores below which nothing firm can be said; Dice from which more of the same brings little.
FEW, GOOD = 6, 0.85


def next_section(inputs: Inputs, scores: UnseenScores | None, run: str) -> Section:
    """Advice, the most useful first.

    Args:
        inputs: What lies in the run.
        scores: Of patients the network has not learnt from.
        run: The run folder, as commands name it.
    """
    facts = inputs.used.facts if inputs.used else {}
    labelled = len(facts.get("labelled_subjects", ()))
    lines = []
    suggest = f"fewlabel suggest {run} names the scans to annotate first, fewlabel learn {run} takes their masks in"
    if scores is None:
        why = "cannot be known from one annotated patient" if labelled == 1 else "was not measured"
        lines.append(f"How good the network is {why}. Annotate one or two more patients: {suggest}.")
    else:
        scans = scores.table.groupby(["subject", "case"])["dice"].mean().reset_index()
        mean, worst = scores.mean(scans, "dice"), str(scans.sort_values("dice", kind="stable")["case"].iloc[0])
        if mean < USELESS:
            lines.append(
                f"The network is of no use yet (mean Dice {number(mean, 2)}). Give it more time (budget=2h), and look "
                "at the data by fewlabel check: are these the right masks?"
            )
        elif mean < GOOD:
            lines.append(f"More annotations are likely to help most (mean Dice {number(mean, 2)} so far): {suggest}.")
        else:
            lines.append(
                f"The network is good on most scans (mean Dice {number(mean, 2)}). Look at the masks of new scans "
                "before you use them; correct a bad one and learn from it."
            )
        lines.append(
            f"Look at {worst} first, the worst scan above: is its image, or its annotation, unlike the others?"
        )
        poor = [str(name) for name, rows in scores.table.groupby("class_name", sort=False) if rows["dice"].mean() < 0.5]
        if poor and mean >= USELESS:
            lines.append(f"Do not use the masks of {listed(poor)}: their mean Dice is below 0.5.")
        if scores.table["subject"].nunique() < FEW:
            lines.append(
                f"{scores.table['subject'].nunique()} patients are a rough guide. With six or more kept for testing, "
                "gain can be told from luck."
            )
    lines.append(f"Masks of new scans: fewlabel predict {run} SCANS --out MASKS.")
    return Section("next", TITLE, "", [Text(line) for line in lines])
