"""The result in two sentences and a few numbers."""

from __future__ import annotations

from typing import Any, Literal

from fewlabel.data.store import PreparedStore
from fewlabel.reporting.blocks import Headline
from fewlabel.reporting.inputs import Inputs, Scores, Training
from fewlabel.reporting.words import arm_name, between, count, interval_name, number, p_value


def headline(inputs: Inputs) -> Headline:
    """What was run, on what, what came out, and what may be said of it."""
    trained = _trained(inputs)
    if inputs.scores is None:
        why = "No scores are there, so nothing is said here about how well it segments."
        return Headline(f"{trained} {why}".strip())
    return _with_scores(inputs, inputs.scores, trained)


def _with_scores(inputs: Inputs, scores: Scores, trained: str) -> Headline:
    summary = scores.summary
    model = summary["arms"]["model"]["mean"]
    dice = model["dice"]
    scans = f"{count(summary['cases'], summary['part'] + ' scan')} of {count(len(summary['subjects']), 'patient')}"
    sentence = f"{trained} On {scans} it reaches a mean Dice of {number(dice['mean'])}."
    figures = [(number(dice["mean"]), "mean Dice", _interval(dice, summary))]
    verdict, tone = "", _tone("", 0.0)
    if summary["gain"]:
        gain = summary["gain"]["mean"]["dice"]
        control = summary["arms"]["control"]["mean"]["dice"]
        name = arm_name(str(inputs.control.facts.get("initialisation", "")) if inputs.control else "scratch", "")
        ours, theirs = (_regime(arm) for arm in (inputs.segmenter, inputs.control))
        how = f" by {theirs}" if theirs and theirs != ours else ""
        unlike = summary.get("differences", [])
        same = "the same network" if _members(inputs.segmenter) == 1 else "an ensemble of as many networks"
        who = f"trained {name}{how}" if unlike else f"{same} trained {name}{how} with the same labels"
        sentence += (
            f" The control, {who}, reaches {number(control['mean'])}: a difference of "
            f"{number(gain['mean'], sign=True)}."
        )
        if unlike:
            sentence += f" It is not a fair control: it differs from the model in {'; '.join(unlike)}."
        figures.append(
            (number(gain["mean"], sign=True), "gain in Dice over the control", _interval(gain, summary, sign=True))
        )
        verdict = f"Verdict: {gain['verdict']}"
        tested = gain["p"] is not None and gain["verdict"].endswith("the noise")
        verdict += f" (paired signed-rank test over patients, p {_p(gain['p'])})." if tested else "."
        tone = _tone(gain["verdict"], gain["mean"] or 0.0)
    else:
        sentence += " There is no control, so nothing can be said about a gain."
    distance = model["hd95_mm"]
    if distance["mean"] is not None:
        figures.append((f"{number(distance['mean'], 1)} mm", "mean HD95", _interval(distance, summary, digits=1)))
    figures.append((f"{model['missed']} / {model['invented']}", "missed / invented structures", _of(summary)))
    return Headline(sentence, figures, verdict, tone)


def _trained(inputs: Inputs) -> str:
    """How the model came to be."""
    parts = []
    if inputs.encoder is not None:
        seen = inputs.encoder.facts.get("labelled_subjects") or ()
        labels = f"with the labels of {count(len(seen), 'patient')}" if seen else "without any label"
        parts.append(f"An encoder was pre-trained by {inputs.method} {_on(inputs)}{labels}.")
    if inputs.segmenter is not None:
        facts = inputs.segmenter.facts
        patients = count(len(facts.get("labelled_subjects", ())), "annotated patient")
        slices = count(int(facts.get("labelled_slices", 0)), "slice")
        how = {"pretrained encoder": "From it, a", "frozen encoder": "On it, kept frozen, a"}
        begin = how.get(str(facts.get("initialisation")), "A") if inputs.encoder is not None else "A"
        regime = _regime(inputs.segmenter)
        by = f" by {regime}" if regime not in ("", "supervised") else ""
        members = _members(inputs.segmenter)
        what = "segmentation network was" if members == 1 else f"ensemble of {members} segmentation networks was"
        begin = begin if members == 1 else f"{begin}n"
        parts.append(f"{begin} {what} trained{by} with the labels of {patients} ({slices}).")
    if not parts and inputs.store is not None:
        parts.append(f"{_amount(inputs.store)} were prepared.")
    return " ".join(parts)


def _regime(arm: Training | None) -> str:
    """Id of the regime of an arm; empty if unknown."""
    return str(arm.facts.get("regime", "")) if arm else ""


def _members(arm: Training | None) -> int:
    """Number of networks of an arm."""
    return int(arm.facts.get("members", 1)) if arm else 1


def _on(inputs: Inputs) -> str:
    """``on 210 slices of 11 patients``, as far as it is known."""
    if inputs.store is None:
        return ""
    chosen = inputs.manifests["encoder"].settings.get("parts", ["pretrain"])
    parts = inputs.store.split["parts"]
    subjects = sorted({subject for name in chosen for subject in parts.get(name, [])} - set(parts.get("test", [])))
    slices = len(inputs.store.slices_of(subjects))
    return f"on {count(slices, 'slice')} of {count(len(subjects), 'patient')} " if slices else ""


def _amount(store: PreparedStore) -> str:
    return f"{count(len(store.cases), 'scan')} ({count(len(store.slices), 'slice')})"


def _interval(record: dict[str, Any], summary: dict[str, Any], digits: int = 3, *, sign: bool = False) -> str:
    if record["low"] is None:
        return "no interval from one patient"
    return f"{interval_name(summary)} {between(record['low'], record['high'], digits, sign=sign)}"


def _of(summary: dict[str, Any]) -> str:
    return f"of {count(summary['cases'] * len(summary['classes']), 'structure')}"


def _p(value: float) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _tone(verdict: str, gain: float) -> Literal["gain", "loss", "open"]:
    if not verdict.endswith("outside the noise"):
        return "open"
    return "gain" if gain > 0 else "loss"
