"""What the sections say: figures by hand, and a plain sentence for everything that is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fewlabel.core.artifact.manifest_fields import Manifest
from fewlabel.data.store import PreparedStore
from fewlabel.reporting.blocks import Folded, Pictures, Strip, Table, Text
from fewlabel.reporting.inputs import Inputs, Scores, Training
from fewlabel.reporting.sections.best_and_worst_cases import ShownCase, case_section, pick_cases
from fewlabel.reporting.sections.data import data_section
from fewlabel.reporting.sections.embedding import EmbeddingView, class_names, embedding_section
from fewlabel.reporting.sections.gradient_conflicts import (
    both_ways,
    conflict_shares,
    gradient_section,
    logged_pairs,
    pair_table,
    tensor_name,
)
from fewlabel.reporting.sections.headline import headline
from fewlabel.reporting.sections.provenance import flat, provenance_section
from fewlabel.reporting.sections.scores import arm_table, gain_table, mean_dice, score_section
from fewlabel.reporting.sections.training import finetuning_section, pretraining_section
from fewlabel.scoring.summary import summarise
from kit.stores import make_store

NAMES = {1: "wall", 2: "cavity"}


def training(tmp_path, facts, rows=(), details=None):
    return Training(tmp_path, facts, list(rows), details or {})


def scores(tmp_path, subjects=7, gain=0.1, *, control=True):
    rows = []
    for number in range(subjects):
        for index, name in NAMES.items():
            for arm, lift in (("model", gain), ("control", 0.0))[: 1 + control]:
                dice = 0.5 + 0.1 * index + 0.01 * number + lift
                rows.append(
                    (
                        arm,
                        f"c{number}",
                        f"s{number}",
                        index,
                        name,
                        dice,
                        5.0 if arm == "model" else 8.0,
                        1.0,
                        False,
                        index == 2,
                        10.0,
                        9.0,
                        index,
                        0.25,
                        int(number < 2),
                        0.5,
                        dice - 0.01,
                    )
                )
    columns = ["arm", "case", "subject", "class", "class_name", "dice", "hd95_mm", "assd_mm", "missed", "invented",
               "reference_ml", "predicted_ml", "stray", "stray_ml", "removed", "removed_ml", "dice_before"]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    summary = {
        "part": "test",
        "cases": subjects,
        "subjects": [f"s{number}" for number in range(subjects)],
        "classes": {str(index): name for index, name in NAMES.items()},
        **summarise(table, NAMES, resamples=200),
        "protocol": {"confidence": 0.95, "empty_masks": "The rule.", "grid": "On a grid."},
    }
    return Scores(tmp_path, table, summary)


def texts(section, tone="missing"):
    return [block.text for block in section.blocks if isinstance(block, Text) and block.tone == tone]


def tables(section):
    return [block for block in section.blocks if isinstance(block, Table)]


def test_headline_of_a_gain(tmp_path):
    facts = {"initialisation": "pretrained encoder", "labelled_subjects": ["p1"], "labelled_slices": 9}
    inputs = Inputs(
        encoder=training(tmp_path, {"method": "gcl"}),
        segmenter=training(tmp_path, facts),
        control=training(tmp_path, {"initialisation": "scratch"}),
        scores=scores(tmp_path),
    )
    found = headline(inputs)
    assert "pre-trained with gcl, without any labels" in found.sentence
    assert "the labels of 1 annotated patient (9 slices)" in found.sentence
    assert "On 7 test scans of 7 patients it reaches a mean Dice of 0.780 and a mean HD95 of 5.0 mm." in found.sentence
    told = "with the same labels, reaches 0.680 and 8.0 mm: a difference of +0.100 and \N{MINUS SIGN}3.0 mm."
    assert f"trained from scratch {told}" in found.sentence
    assert [value for value, _, _ in found.figures] == [
        "0.780", "+0.100", "5.0 mm", "\N{MINUS SIGN}3.0 mm", "0 / 7", "21",
    ]  # fmt: skip
    assert found.figures[0][2].startswith("control 0.680; 95 % interval 0.7")
    assert found.figures[1][2] == "95 % interval +0.100 to +0.100"
    assert found.figures[2][1:] == ("mean HD95", "control 8.0 mm; 95 % interval 5.0 to 5.0")
    assert found.figures[5][1:] == ("stray objects", "3.5 ml; control 21")
    assert found.verdict == (
        "Verdict: gain outside the noise (paired signed-rank test over patients, p = 0.016). "
        "HD95: gain outside the noise."
    )
    assert found.tone == "gain"


def test_headline_names_regimes_that_differ_and_labels_that_an_encoder_saw(tmp_path):
    facts = {"initialisation": "scratch", "labelled_subjects": ["p1"], "labelled_slices": 9}
    inputs = Inputs(
        encoder=training(tmp_path, {"method": "sscl", "labelled_subjects": ["p1"]}),
        segmenter=training(tmp_path, facts | {"regime": "mean_teacher"}),
        control=training(tmp_path, facts | {"regime": "supervised"}),
        scores=scores(tmp_path),
    )
    found = headline(inputs)
    assert "pre-trained with sscl, with the labels of 1 patient." in found.sentence
    assert "network was trained with mean_teacher on the labels" in found.sentence
    assert "trained from scratch without unlabelled scans, with the same labels" in found.sentence


def test_a_control_that_differs_is_not_called_the_same(tmp_path):
    inputs = Inputs(scores=scores(tmp_path))
    inputs.scores.summary["differences"] = ["steps (300 beside 500)"]
    told = headline(inputs).sentence
    assert "the same" not in told
    assert "not a fair control: it differs from the model in steps (300 beside 500)." in told
    lead = score_section(inputs.scores, model="m", control="c").lead
    assert "not a fair one: it differs in steps (300 beside 500)." in lead
    inputs.scores.summary["differences"] = []
    assert "the same network" in headline(inputs).sentence
    assert "on the same labels for the same number" in score_section(inputs.scores, model="m", control="c").lead


@pytest.mark.parametrize(("gain", "subjects", "tone"), [(-0.1, 7, "loss"), (0.1, 3, "open"), (0.0, 7, "open")])
def test_tone_follows_the_verdict_not_the_sign(tmp_path, gain, subjects, tone):
    found = headline(Inputs(scores=scores(tmp_path, subjects, gain)))
    assert found.tone == tone
    assert ("signed-rank" in found.verdict) == (subjects == 7 and gain != 0.0)


def test_headline_without_control_scores_or_anything(tmp_path):
    alone = headline(Inputs(scores=scores(tmp_path, control=False)))
    assert "no control" in alone.sentence
    assert alone.verdict == ""
    assert [(value, name) for value, name, _ in alone.figures] == [
        ("0.780", "mean Dice"),
        ("5.0 mm", "mean HD95"),
        ("0 / 7", "missed / invented structures"),
        ("21", "stray objects"),
    ]
    assert "control" not in "".join(detail for _, _, detail in alone.figures)
    assert "It was not scored" in headline(Inputs(encoder=training(tmp_path, {"method": "simclr"}))).sentence


def test_score_tables_by_hand(tmp_path):
    data = scores(tmp_path)
    table = arm_table(data.summary, {"model": "ours", "control": "theirs"})
    assert [row[:3] for row in table.rows] == [
        ["wall", "ours", "0.730"],
        ["wall", "theirs", "0.630"],
        ["cavity", "ours", "0.830"],
        ["cavity", "theirs", "0.730"],
        ["mean", "ours", "0.780"],
        ["mean", "theirs", "0.680"],
    ]
    assert table.strong == {4, 5}
    assert [row[-5:] for row in table.rows] == [
        *[["0", "0", "0", "7", "1.8"]] * 2,
        *[["0", "0", "7", "14", "1.8"]] * 2,
        *[["0", "0", "7", "21", "3.5"]] * 2,
    ]
    assert table.head[-5:] == ["missed", "lost", "invented", "stray", "stray ml"]
    gains = gain_table(data.summary["gain"], "95 % interval")
    assert gains.rows[-1][:2] == ["mean", "+0.100"]
    assert gains.rows[-1][-1] == "gain outside the noise"
    assert gains.rows[-1][3] == "0.016"
    few = gain_table(scores(tmp_path, 3).summary["gain"], "95 % interval")
    # Too few for a test, so there is none.
    assert few.rows[-1][3] == "–"
    assert "too few to tell" in few.rows[-1][-1]
    assert mean_dice(data.per_case, "model")["c3"] == pytest.approx(0.78)


def test_scores_in_voxels_are_called_so(tmp_path):
    data = scores(tmp_path)
    unsized = replace(data, summary={**data.summary, "units": "voxels"})
    table = arm_table(unsized.summary, {"model": "ours", "control": "theirs"})
    assert table.head[5:] == ["HD95 voxels", "ASSD voxels", "missed", "lost", "invented", "stray", "stray voxels"]
    assert ("5.0 voxels", "mean HD95") in [(value, name) for value, name, _ in headline(Inputs(scores=unsized)).figures]
    page = repr(score_section(unsized, model="m", control="c"))
    assert "HD95 mm" not in page
    assert "annotated ml" not in page
    assert "in voxels, as nobody knows how large these are" in page
    assert "millimetres" not in page


def test_score_section_names_its_rules_and_lists_every_scan(tmp_path):
    section = score_section(scores(tmp_path), model="ours", control="theirs")
    assert any("The rule." in text for text in texts(section, "note"))
    folded = [block for block in section.blocks if isinstance(block, Folded)]
    assert len(folded[0].block.rows) == 7 * 2 * 2
    assert folded[0].block.rows[2][-2:] == ["2", "invented"]
    (pictures,) = [block.items for block in section.blocks if isinstance(block, Pictures)]
    assert [picture.alt.split(" ")[0] for picture in pictures] == ["Dice", "Gain", "HD95", "HD95", "Mean"]
    assert "wall: 5.0 (5.0 to 5.0) against 8.0 (8.0 to 8.0)" in pictures[2].alt
    assert "mean -3.0 (-3.0 to -3.0) mm" in pictures[3].alt
    assert texts(section) == []
    alone = score_section(scores(tmp_path, 2, control=False), model="ours", control="theirs")
    assert "no gain to show" in texts(alone)[0]
    assert "No scores" in texts(score_section(None, model="a", control="b"))[0]


def test_post_processing_is_told_in_a_line_where_it_removed_anything(tmp_path):
    data = scores(tmp_path)
    data.summary["protocol"]["postprocess"] = "How pieces are removed."
    section = score_section(data, model="ours", control="theirs")
    (line,) = texts(section, "plain")
    of_each = "4 pieces (7.0 ml) in 2 of 7 scans, mean Dice without it 0."
    assert line == f"Removed by post-processing: ours, {of_each}770; theirs, {of_each}670."
    assert "How pieces are removed." in texts(section, "note")
    for arm in data.summary["arms"].values():
        arm["mean"]["postprocess"]["removed"] = 0
    assert texts(score_section(data, model="ours", control="theirs"), "plain") == []


def test_scores_without_distances_show_dice_alone(tmp_path):
    data = scores(tmp_path)
    table = data.per_case.assign(hd95_mm=np.nan, assd_mm=np.nan)
    summary = {**data.summary, **summarise(table, NAMES, resamples=20)}
    bare = Scores(tmp_path, table, summary)
    found = headline(Inputs(scores=bare))
    assert "HD95" not in found.sentence + found.verdict
    assert " mm" not in found.sentence
    assert [value for value, _, _ in found.figures] == ["0.780", "+0.100", "0 / 7", "21"]
    (pictures,) = [b.items for b in score_section(bare, model="a", control="b").blocks if isinstance(b, Pictures)]
    assert len(pictures) == 3


def test_scores_made_before_objects_were_counted_are_still_shown(tmp_path):
    data = scores(tmp_path)
    new = ("present", "lost", "stray", "stray_ml", "postprocess")
    for arm in data.summary["arms"].values():
        for entry in (*arm["classes"].values(), arm["mean"]):
            for key in new:
                del entry[key]
    old = Scores(tmp_path, data.per_case.drop(columns=["stray", "stray_ml", "removed"]), data.summary)
    section = score_section(old, model="a", control="b")
    assert tables(section)[0].rows[0][-5:] == ["0", "–", "0", "–", "–"]
    assert [name for _, name, _ in headline(Inputs(scores=old)).figures][-1] == "missed / invented structures"


ROWS = [
    {"step": 0, "cosine/a|b": 0.4, "cosine/b|a": 0.2, "cosine/a|c": -0.5, "conflict/a|b": 0.0, "gain/a|b": 1.2},
    {"step": 9, "cosine/a|b": -0.1, "cosine/b|a": -0.3, "conflict/a|b": 1.0, "gain/a|b": 1.0},
]


def test_both_orders_of_a_pair_are_joined():
    assert logged_pairs(ROWS) == [("a", "b"), ("a", "c")]
    found = both_ways(ROWS, "cosine", logged_pairs(ROWS))
    assert found["a · b"].values == pytest.approx([0.3, -0.2])  # noqa: PD011
    assert found["a · c"].steps.tolist() == [0]


def test_pair_table_by_hand():
    rows = pair_table(ROWS, [("a", "b")]).rows
    assert rows == [["a · b", "+0.30", "\N{MINUS SIGN}0.20", "50 %", "–", "–", "1.10"]]


def test_conflicts_by_tensor():
    tensors = {
        "encoder.blocks.0.conv1.weight": {"conflict/a|b": 0.2, "conflict/b|a": 0.4, "target/a|b": 9.0},
        "encoder.blocks.1.norm2.bias": {"conflict/a|c": 1.0},
    }
    names, pairs, shares = conflict_shares(tensors)
    assert pairs == ["a · b", "a · c"]
    assert shares[0, 0] == pytest.approx(0.3)
    assert shares[1, 1] == 1.0
    assert np.isnan(shares[0, 1])
    assert [tensor_name(name) for name in names] == ["level 1, conv 1", "level 2, norm 2 shift"]
    assert tensor_name("encoder.blocks.3.conv2") == "level 4, conv 2"
    assert tensor_name("encoder") == "encoder"


def test_contradiction_by_level(tmp_path):
    details = {
        "granularity": "tensor",
        "tensors": {
            "encoder.blocks.1.conv1.weight": {"conflict/a|b": 0.9},
            "encoder.blocks.0.conv2.weight": {"conflict/a|b": 0.4},
            "encoder.blocks.0.conv1.weight": {"conflict/a|b": 0.2},
        },
    }
    section = gradient_section(training(tmp_path, {"method": "gcl"}, ROWS, details))
    level = tables(section)[-1]
    assert level.rows == [["level 1", "30 %"], ["level 2", "90 %"]]
    shown = next(block for block in reversed(section.blocks) if isinstance(block, Pictures)).items[0]
    assert "Most in level 2, conv 1 for a · b, 90 %" in shown.alt
    without = gradient_section(training(tmp_path, {"method": "gcl"}, ROWS))
    assert "not recorded" in texts(without)[0]


def test_contradiction_says_why_it_is_not_shown(tmp_path):
    cases = {
        "simclr used no meta labels; a contradiction takes two": {"method": "simclr", "meta_labels": []},
        "gcl used 1 meta label; ": {"method": "gcl", "meta_labels": ["phase"]},
        "averaged without being compared": {"method": "gcl", "meta_labels": ["phase", "patient"]},
    }
    for sentence, facts in cases.items():
        section = gradient_section(training(tmp_path, facts, [{"step": 0, "loss": 1.0}]))
        assert sentence in texts(section)[0]


def test_pretraining_tells_how_far_the_loss_came(tmp_path):
    rows = [{"step": step, "loss": 3.0, "collapsed": 4.0, "lower_bound": 2.0} for step in range(20)]
    section = pretraining_section(training(tmp_path, {"method": "gcl", "steps": 20, "parameters": 2e6}, rows))
    assert "2.0 million parameters was trained with gcl for 20 steps, without metadata. No masks" in section.lead
    lent = training(tmp_path, {"method": "sscl", "labelled_subjects": ["p1", "p2"]}, rows)
    assert "The masks of p1 and p2 were used too." in pretraining_section(lent).lead
    assert "50 % of the way from its collapse value (4.000) to its lower bound (2.000)" in texts(section, "note")[0]
    assert texts(section) == []
    high = [{**row, "loss": 4.5} for row in rows]
    assert "not below its collapse value (4.000)" in texts(pretraining_section(training(tmp_path, {}, high)), "note")[0]
    narrow = [{**row, "spread": 0.01} for row in rows]
    assert "nearly the same embedding (spread 0.010)" in texts(pretraining_section(training(tmp_path, {}, narrow)))[0]
    assert "empty" in texts(pretraining_section(training(tmp_path, {"method": "gcl"})))[0]


def test_finetuning_with_and_without_validation(tmp_path):
    facts = {"regime": "supervised", "labelled_subjects": ["p1"], "labelled_slices": 9, "steps": 30}
    losses = [{"step": step, "loss": 1.0 / (step + 1)} for step in range(30)]
    bare = finetuning_section({"ours": training(tmp_path, {**facts, "best_step": None}, losses), "none": None})
    assert "No validation curve: no annotated patient was held out" in texts(bare)[0]
    left = {**facts, "best_step": 20, "selection": "leave_one_out"}
    assert "each of a run of its own" in texts(finetuning_section({"ours": training(tmp_path, left, losses)}))[0]
    kept = {**facts, "best_step": 20, "selection": "held_out"}
    checked = finetuning_section({"ours": training(tmp_path, kept, [*losses, {"step": 19, "validation_dice": 0.5}])})
    assert texts(checked) == []
    assert checked.blocks[-1].items == [("Weights kept, ours", "after step 20 of 30 (held out)")]
    assert "no segmentation network" in texts(finetuning_section({"ours": None}))[0]


def test_finetuning_says_what_was_done_after_it(tmp_path):
    facts = {"regime": "supervised", "labelled_subjects": ["p1"], "labelled_slices": 9, "steps": 30, "best_step": None}
    rule = {"foreground": True, "largest": [1], "least_mm3": {"2": 40.0}}
    done = {
        "recalibrated": {"slices": 128, "subjects": 40, "share": 0.5},
        "postprocess": rule,
        "label_names": {1: "wall", 2: "spot"},
    }
    patches = {"recalibrated": {"patches": 1, "subjects": 1}, "postprocess": None}
    arms = {"ours": training(tmp_path, facts | done), "theirs": training(tmp_path, facts | patches)}
    assert finetuning_section(arms).blocks[-1].items == [
        ("Weights kept, ours", "after the last step (30)"),
        ("Weights kept, theirs", "after the last step (30)"),
        ("Batch-norm statistics, ours", "50 % from 128 slices of 40 patients, without their masks"),
        ("Batch-norm statistics, theirs", "100 % from 1 patch of 1 patient, without their masks"),
        (
            "Post-processing keeps, ours",
            "all structures together in one piece; wall in one piece; spot in pieces of 40 mm³ or more",
        ),
    ]


def test_finetuning_tells_what_became_of_a_second_phase(tmp_path):
    facts = {"regime": "fixmatch", "labelled_subjects": ["p1"], "labelled_slices": 9, "steps": 30, "best_step": None}
    losses = [{"step": 0, "loss": 1.0}]
    given = {"returns": 1, "given_up": True, "sentence": "The second phase was given up at step 7: why."}
    calm = {"returns": 0, "given_up": False}
    arms = {
        "ours": training(tmp_path, facts | {"outcomes": [given]}, losses),
        "theirs": training(tmp_path, facts | {"outcomes": [calm, given]}, losses),
    }
    assert texts(finetuning_section(arms))[:2] == [
        "ours: The second phase was given up at step 7: why.",
        "theirs: Network 2 of 2: The second phase was given up at step 7: why.",
    ]
    quiet = {"ours": training(tmp_path, facts | {"outcomes": [calm]}, losses)}
    assert not any("second phase" in text for text in texts(finetuning_section(quiet)))


def test_finetuning_of_an_ensemble_shows_the_first_and_tells_all_steps(tmp_path):
    facts = {"regime": "supervised", "labelled_subjects": ["p1"], "labelled_slices": 9, "steps": 30}
    losses = [{"step": step, "loss": 1.0 / (step + 1)} for step in range(30)]
    kept = {**facts, "members": 3, "best_step": 20, "best_steps": [20, 10, 20], "selection": "held_out"}
    section = finetuning_section({"ours": training(tmp_path, kept, [*losses, {"step": 19, "validation_dice": 0.5}])})
    assert section.lead.endswith(
        "30 steps. 3 networks with different seeds, each trained this long; the curves are those of the first."
    )
    assert section.blocks[-1].items == [("Weights kept, ours", "after steps 20 and 10 of 30 (held out)")]
    alike = {**kept, "best_steps": [20, 20, 20], "selection": "leave_one_out"}
    section = finetuning_section({"ours": training(tmp_path, alike, losses)})
    assert section.blocks[-1].items == [("Weights kept, ours", "after step 20 of 30 (leave one out)")]
    plain = finetuning_section({"ours": training(tmp_path, {**facts, "members": 1, "best_step": None}, losses)})
    assert "different seeds" not in plain.lead


def test_headline_of_an_ensemble(tmp_path):
    facts = {"initialisation": "pretrained encoder", "labelled_subjects": ["p1"], "labelled_slices": 9, "members": 5}
    inputs = Inputs(
        encoder=training(tmp_path, {"method": "gcl"}), segmenter=training(tmp_path, facts), scores=scores(tmp_path)
    )
    told = headline(inputs).sentence
    assert "Starting from it, an ensemble of 5 segmentation networks was trained on the labels of 1 annotated" in told
    assert "The control, an ensemble of as many networks trained from scratch with the same labels, reaches" in told


@pytest.mark.parametrize(
    ("spearman", "told"),
    [
        (-0.834, "rank correlation with mean Dice over 7 scans is \N{MINUS SIGN}0.83: \N{MINUS SIGN}1 means"),
        (None, "Over 7 scans it has no rank correlation with Dice."),
    ],
)
def test_disagreement_and_its_worth_are_a_line(tmp_path, spearman, told):
    found = scores(tmp_path)
    section = score_section(found, model="ours", control="theirs")
    assert not any("Disagreement" in text for text in texts(section, "note"))
    found.summary["disagreement"] = {"control": {"mean": 0.1234, "spearman": spearman, "cases": 7}}
    (line,) = [t for t in texts(score_section(found, model="ours", control="theirs"), "note") if "Disagreement" in t]
    assert line.startswith("Disagreement, theirs: its networks disagree by 0.123 on average (1 minus the mean Dice")
    assert told in line


def test_how_well_disagreement_finds_failures_is_told(tmp_path):
    found = scores(tmp_path)
    failures = {"below": 0.5, "failed": 3, "auroc": 0.912, "low": 0.7, "high": 1.0}
    apart = {"mean": 0.1, "spearman": None, "cases": 7, "failures": failures}
    for low, told in ((0.7, "3 of them failed (Dice below 0.5)"), (None, "finding these is 0.912 (1: they come first")):
        found.summary["disagreement"] = {"control": {**apart, "failures": {**failures, "low": low}}}
        section = score_section(found, model="ours", control="theirs")
        (line,) = [text for text in texts(section, "note") if "Disagreement" in text]
        assert told in line
        assert ("0.912, 0.700 to 1.000" in line) is (low is not None)


def test_best_median_and_worst():
    assert pick_cases({"a": 0.2, "b": 0.9, "c": 0.5, "d": 0.6}) == [("Best", "b"), ("Median", "c"), ("Worst", "a")]
    assert pick_cases({"a": 0.2, "b": 0.9}) == [("Best", "b"), ("Worst", "a")]
    assert pick_cases({"a": 0.2}) == [("Best", "a")]


def test_case_strips_per_network():
    mask = np.zeros((5, 30, 30), np.uint8)
    mask[1:4, 10:20, 10:20] = 1
    case = ShownCase("Best", "c1", np.random.default_rng(0).random((5, 30, 30)), mask, {"ours": mask, "theirs": mask},
                     {"ours": 0.8, "theirs": 0.6})  # fmt: skip
    section = case_section([case], ["background", "wall"])
    strips = [block for block in section.blocks if isinstance(block, Strip)]
    assert [strip.subtitle for strip in strips] == ["ours, mean Dice 0.800", "theirs, mean Dice 0.600"]
    assert [tile.caption for tile in strips[0].items] == ["slice 2 of 5", "slice 3 of 5", "slice 4 of 5"]
    assert "wall blue" in section.lead
    assert "needs scores" in texts(case_section(None, []))[0]
    assert texts(case_section([], [], "Because."))[0] == "Because."


def test_data_are_counted(tmp_path):
    folder = make_store(tmp_path / "prepared", subjects=4, depth=6, size=(16, 16), unlabelled=["patient002"],
                        without_phase=["patient001"])  # fmt: skip
    store = PreparedStore(folder)
    section = data_section(store, ["patient001"])
    facts = dict(section.blocks[0].items)
    slices = len(store.slices)
    assert facts["Scans"] == f"8 of 4 patients, {slices} slices"
    assert facts["Annotated"] == "6 scans of 3 patients"
    assert facts["Labels used for training"] == "patient001"
    strips = [block for block in section.blocks if isinstance(block, Strip)]
    assert [strip.title for strip in strips] == ["Annotated for training", "Not annotated", "Kept for testing"]
    meta, parts = tables(section)
    mine = len(store.slices_of(["patient001"]))
    assert meta.rows[0][:2] == ["patient", "4"]
    assert meta.rows[2] == [
        "phase",
        "2",
        f"phase 1: {(slices - mine) // 2}, phase 2: {(slices - mine) // 2}",
        str(mine),
    ]
    assert parts.rows[-1] == ["labels used", "1", "2", str(mine), str(mine), "patient001"]
    assert parts.rows[1][4] == str(mine)
    assert class_names(store, "patient") == ["patient001", "patient002", "patient003", "patient004"]
    assert class_names(store, "position") == ["part 1", "part 2", "part 3", "part 4"]
    assert "not given" in texts(data_section(None, []))[0]


def test_embeddings_that_cannot_be_mapped():
    assert "No embeddings" in texts(embedding_section(None, used=[]))[0]
    assert "too few" in texts(embedding_section(EmbeddingView(np.zeros((2, 2)), [], 2), used=[]))[0]


def test_provenance_names_every_artifact_and_setting():
    manifest = Manifest(
        kind="encoder", schema_version=1, content_hash="abcdef0123456789ff", files={},
        created="2030-01-02T03:04:05+00:00", seed=7, device="cpu", precision="bf16-mixed", wall_seconds=61,
        settings={"steps": 5, "method": {"name": "gcl", "t": None}, "identity": {}},
        versions={"torch": "9"}, git_revision="deadbeef",
        machine={"processor": "P", "cores": 2, "threads": 3, "system": "S"},
    )  # fmt: skip
    section = provenance_section({"encoder": manifest})
    assert tables(section)[0].rows == [
        ["encoder", "2030-01-02 03:04:05 UTC", "1 min 1 s", "7", "cpu, bf16-mixed", "deadbeef", "abcdef0123456789"]
    ]
    folded = next(block for block in section.blocks if isinstance(block, Folded))
    assert folded.block.rows == [["steps", "5"], ["method.name", "gcl"], ["method.t", "null"]]
    assert ("torch", "9") in section.blocks[1].items
    assert ("threads", "3") in section.blocks[1].items
    assert flat({"a": {}, "b": True}) == [("a", "{}"), ("b", "true")]
    assert not any(isinstance(block, Pictures) for block in section.blocks)
