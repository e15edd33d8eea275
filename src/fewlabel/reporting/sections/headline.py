"""The result in a few sentences and numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from fewlabel.data.store import PreparedStore
from fewlabel.reporting.blocks import Headline
from fewlabel.reporting.formatting import arm_name, between, count, interval_name, number, p_value
from fewlabel.reporting.inputs import Inputs, Scores, Training
from fewlabel.scoring.distance_units import units_of
from fewlabel.scoring.statistics import is_drawn, useless_sentence


def headline(inputs: Inputs) -> Headline:
    """What was run, on what, what came out, and what may be said of it."""
    trained = _trained(inputs)
    if inputs.scores is None:
        return _without_scores(inputs, trained)
    scored = _with_scores(inputs, inputs.scores, trained)
    return replace(scored, sentence=f"{scored.sentence} {_use(inputs)}".strip())


def _without_scores(inputs: Inputs, trained: str) -> Headline:
    """What left-out patients tell, or that nothing does."""
    facts = inputs.used.facts if inputs.used else {}
    expected = facts.get("expected")
    if not expected:
        why = "It was not scored, so nothing can be said about how well it segments."
        if len(facts.get("labelled_subjects", ())) == 1:
            why = (
                "It was not scored, and its quality cannot be estimated from one annotated patient: look at the "
                "predictions on unlabelled scans."
            )
        return Headline(" ".join(part for part in (trained, why, _use(inputs)) if part))
    dice, far = expected["mean"]["dice"], expected["mean"]["hd95_mm"]
    patients = len(expected["subjects"])
    which = "expect the control to reach" if inputs.use.get("arm") == "control" else "expect"
    how = f"who were left out in turn, with {patients - 1} to learn from each time"
    how = "whose labels the network that segmented them had never met" if expected.get("again") else how
    outcome = (
        f"On a new patient, {which} a mean Dice of about {number(dice['mean'], 2)}{_about(far)}: the mean over "
        f"{count(patients, 'annotated patient')} {how}. The "
        f"worst, {expected['lowest']}, reached {number(dice['low'], 2)}. With so few patients this estimate is rough, "
        "and slightly pessimistic."
    )
    outcome = f"{outcome} {useless_sentence(dice['mean'])}".strip()
    other = (inputs.segmenter if inputs.used is inputs.control else inputs.control) or None
    beside = (other.facts.get("expected") or {}).get("mean", {}) if other else {}
    name = "model" if inputs.used is inputs.control else "control"
    figures = []
    for key, what, digits, unit in (("dice", "expected mean Dice", 3, ""), ("hd95_mm", "expected mean HD95", 1, " mm")):
        value = expected["mean"][key]
        if value["mean"] is None:
            continue
        against = f"{name} {number(beside[key]['mean'], digits)}{unit}; " if beside else ""
        detail = f"{against}patients {between(value['low'], value['high'], digits)}"
        figures.append((f"{number(value['mean'], digits)}{unit}", what, detail))
    return Headline(" ".join(part for part in (trained, outcome, _use(inputs)) if part), figures)


def _about(far: dict[str, Any]) -> str:
    return _and_far(far, {}, "a mean HD95 of about ")


def _use(inputs: Inputs) -> str:
    """Which of model and control ``predict`` uses, and why; empty where there are no two to choose from."""
    if "control" not in inputs.use.get("content", ()):
        return ""
    return f"On this run, fewlabel predict uses the {inputs.use['arm']}: {inputs.use['reason']}."


def _with_scores(inputs: Inputs, scores: Scores, trained: str) -> Headline:
    summary = scores.summary
    scans = f"{count(summary['cases'], summary['part'] + ' scan')} of {count(len(summary['subjects']), 'patient')}"
    model = summary["arms"]["model"]["mean"]
    mm = _and_far(model["hd95_mm"], summary, "a mean HD95 of ")
    sentence = f"{trained} On {scans} it reaches a mean Dice of {number(model['dice']['mean'])}{mm}."
    sentence = f"{sentence} {useless_sentence(model['dice']['mean'])}".strip()
    if not summary["gain"]:
        sentence += " There is no control, so nothing can be said about a gain."
        return Headline(sentence, _figures(summary), "", _tone("", 0.0))
    gain = summary["gain"]["mean"]
    outcome = f"{sentence} {_of_control(inputs, summary)}"
    tone = _tone(gain["dice"]["verdict"], gain["dice"]["mean"] or 0.0)
    return Headline(outcome, _figures(summary), _verdict(gain), tone)


def _of_control(inputs: Inputs, summary: dict[str, Any]) -> str:
    """What the control is and reaches, and the differences."""
    gain, control = summary["gain"]["mean"], summary["arms"]["control"]["mean"]
    name = arm_name(str(inputs.control.facts.get("initialisation", "")) if inputs.control else "scratch", "")
    ours, theirs = (_regime(arm) for arm in (inputs.segmenter, inputs.control))
    how = ""
    if theirs and theirs != ours:
        how = " without unlabelled scans," if theirs == "supervised" else f" with {theirs}"
    unlike = summary.get("differences", [])
    same = "the same network" if _members(inputs.segmenter) == 1 else "an ensemble of as many networks"
    who = f"trained {name}{how}" if unlike else f"{same} trained {name}{how} with the same labels"
    who = who.removesuffix(",")
    reached = f"{number(control['dice']['mean'])}{_and_far(control['hd95_mm'], summary)}"
    apart = f"{number(gain['dice']['mean'], sign=True)}{_and_far(gain['hd95_mm'], summary, sign=True)}"
    outcome = f"The control, {who}, reaches {reached}: a difference of {apart}."
    return (
        f"{outcome} It is not a fair control: it differs from the model in {'; '.join(unlike)}." if unlike else outcome
    )


def _figures(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Dice and HD95, each beside the control's, and how many structures and objects are to be looked at."""
    model = summary["arms"]["model"]["mean"]
    control = summary["arms"]["control"]["mean"] if summary["gain"] else None
    figures = []
    units = units_of(summary)
    for key, name, digits, unit in (("dice", "Dice", 3, ""), ("hd95_mm", "HD95", 1, f" {units.distance}")):
        if model[key]["mean"] is None:
            continue
        detail = _interval(model[key], summary, digits)
        if control is not None:
            detail = f"control {number(control[key]['mean'], digits)}{unit}; {detail}"
        figures.append((f"{number(model[key]['mean'], digits)}{unit}", f"mean {name}", detail))
        if control is not None and summary["gain"]["mean"][key]["mean"] is not None:
            gain = summary["gain"]["mean"][key]
            what = "gain in Dice over the control" if key == "dice" else "HD95 minus the control's (lower is better)"
            value = f"{number(gain['mean'], digits, sign=True)}{unit}"
            figures.append((value, what, _interval(gain, summary, digits, sign=True)))
    figures.append((f"{model['missed']} / {model['invented']}", "missed / invented structures", _of(summary)))
    # Scores that were made before these were counted have none.
    if "stray" in model:
        beside = f"; control {control['stray']}" if control is not None else ""
        figures.append((str(model["stray"]), "stray objects", f"{number(model['stray_ml'], 1)} {units.volume}{beside}"))
    return figures


def _verdict(gain: dict[str, Any]) -> str:
    """What may be said of the gains in Dice and HD95."""
    dice = gain["dice"]
    if not is_drawn(dice["verdict"]):
        return f"No verdict: {dice['verdict'].rpartition(', but ')[2]}."
    tested = dice["p"] is not None and dice["verdict"].endswith("the noise")
    how = f" (paired signed-rank test over patients, p {_p(dice['p'])})" if tested else ""
    far = f" HD95: {gain['hd95_mm']['verdict']}." if gain["hd95_mm"]["mean"] is not None else ""
    return f"Verdict: {dice['verdict']}{how}.{far}"


def _trained(inputs: Inputs) -> str:
    """How the model came to be."""
    parts = []
    if inputs.encoder is not None:
        annotated = inputs.encoder.facts.get("labelled_subjects") or ()
        labels = f"with the labels of {count(len(annotated), 'patient')}" if annotated else "without any labels"
        parts.append(f"An encoder was pre-trained with {inputs.method}{_on(inputs)}, {labels}.")
    if inputs.segmenter is not None:
        facts = inputs.segmenter.facts
        patients = count(len(facts.get("labelled_subjects", ())), "annotated patient")
        slices = count(int(facts.get("labelled_slices", 0)), "slice")
        how = {"pretrained encoder": "Starting from it, a", "frozen encoder": "On top of it, kept frozen, a"}
        begin = how.get(str(facts.get("initialisation")), "A") if inputs.encoder is not None else "A"
        regime = _regime(inputs.segmenter)
        by = f" with {regime}" if regime not in ("", "supervised") else ""
        members = _members(inputs.segmenter)
        what = "segmentation network was" if members == 1 else f"ensemble of {members} segmentation networks was"
        begin = begin if members == 1 else f"{begin}n"
        parts.append(f"{begin} {what} trained{by} on the labels of {patients} ({slices}).")
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
    """`` on 210 slices of 11 patients``, as far as it is known."""
    if inputs.store is None:
        return ""
    used = inputs.manifests["encoder"].settings.get("parts", ["pretrain"])
    parts = inputs.store.split["parts"]
    subjects = sorted({subject for name in used for subject in parts.get(name, [])} - set(parts.get("test", [])))
    slices = len(inputs.store.slices_of(subjects))
    return f" on {count(slices, 'slice')} of {count(len(subjects), 'patient')}" if slices else ""


def _amount(store: PreparedStore) -> str:
    return f"{count(len(store.cases), 'scan')} ({count(len(store.slices), 'slice')})"


def _interval(record: dict[str, Any], summary: dict[str, Any], digits: int = 3, *, sign: bool = False) -> str:
    if record["low"] is None:
        few = "one patient" if record["subjects"] == 1 else "two patients"
        return f"no interval from {few}"
    return f"{interval_name(summary)} {between(record['low'], record['high'], digits, sign=sign)}"


def _and_far(record: dict[str, Any], summary: dict[str, Any], name: str = "", *, sign: bool = False) -> str:
    """`` and 8.0 mm``; nothing where there is no distance."""
    value = number(record["mean"], 1, sign=sign)
    return "" if record["mean"] is None else f" and {name}{value} {units_of(summary).distance}"


def _of(summary: dict[str, Any]) -> str:
    return f"of {count(summary['cases'] * len(summary['classes']), 'structure')}"


def _p(value: float) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _tone(verdict: str, gain: float) -> Literal["gain", "loss", "open"]:
    if not verdict.endswith("outside the noise"):
        return "open"
    return "gain" if gain > 0 else "loss"
