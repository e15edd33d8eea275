"""ARCO as a whole: both stages by the formulas, where gradients go, which parts there are."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.engine.step import gradients_of
from fewlabel.gradients.combine import MeanCombiner
from fewlabel.nets.unet import UNetConfig
from fewlabel.regimes.semi_supervised import resting_steps
from kit.anatomical import ALONE, EARLY, LATE, apart, arco, batch_of, expected_contrast, seen_by, value
from kit.finetuning import TOTAL, build
from kit.tiny_regimes import supervised

#: For the contract suite: settings under which unlabelled slices act on an untrained network, which is sure of nothing.
CONTRACT = {"acting": {"pixel_confidence": 0.0, "confidence": 0.0}}

# --- stage 2 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["ns", "sg", "sag"])
@pytest.mark.parametrize(("key_sampling", "keys"), [("same", 7), ("same", 9), ("ns", 7), ("ns", 9)])
def test_the_contrast_is_that_of_the_formula(sampling, key_sampling, keys):
    regime = apart(arco(**ALONE, sampling=sampling, key_sampling=key_sampling, keys=keys, pixel_confidence=0.8))
    expected, _ = expected_contrast(regime, batch_of(regime))
    terms = regime.losses(batch_of(regime))
    assert set(terms) == {"ce", "dice", "contrast"}
    assert value(terms, "contrast") == pytest.approx(float(expected.detach()), rel=1e-10)
    assert regime.metrics()["contrast"] == pytest.approx(value(terms, "contrast"))


def test_later_steps_meet_the_keys_of_the_banks_first_in_first_out():
    regime = apart(arco(**ALONE, momentum=1.0, pixel_confidence=0.8))
    held, kept = [[] for _ in range(4)], [[] for _ in range(4)]
    for step in range(12, 16):
        expected, pool = expected_contrast(regime, batch_of(regime, step, seed=step), held)
        terms = regime.losses(batch_of(regime, step, seed=step))
        assert value(terms, "contrast") == pytest.approx(float(expected.detach()), rel=1e-9)
        regime.after_step(step, TOTAL)
        banks = regime.embedding.contrast.banks
        for c in range(4):
            # What stays are the last 20 keys of each class, the oldest where the pointer is.
            kept[c] = [*kept[c], *pool[c][len(held[c]) :]][-20:]
            assert int(banks.filled[c]) == len(kept[c])
            held[c] = list(banks.keys[c, : len(kept[c])])
            if kept[c]:
                turn = int(banks.pointer[c]) if len(kept[c]) == 20 else 0
                torch.testing.assert_close(torch.stack(held[c]).roll(-turn, 0), torch.stack(kept[c]))
    assert max(map(len, kept)) == 20


def test_the_loss_on_pseudo_labels_is_that_of_the_formula():
    regime = apart(arco(pretrain_share=0.0, contrast_weight=0.0, nn_weight=0.0, unsup_weight=0.7, confidence=0.8))
    student, _, pseudo, confidence = seen_by(regime, batch_of(regime))
    share = (confidence >= 0.8).double().mean(dim=(1, 2))
    assert float(share.min()) > 0
    assert float(share.max()) < 1
    each = functional.cross_entropy(student.logits[2:], pseudo, reduction="none")
    terms = regime.losses(batch_of(regime))
    expected = 0.7 * (share[:, None, None] * each).mean()
    assert value(terms, "unsup") == pytest.approx(float(expected.detach()), rel=1e-11)
    assert regime.metrics()["sure"] == pytest.approx(float(share.mean()), rel=1e-6)
    for key, term in supervised(student.logits[:2], batch_of(regime).labels).items():
        torch.testing.assert_close(terms[key], term, rtol=1e-12, atol=0)
    assert regime.embedding is None


@pytest.mark.parametrize("mix", ["none", "cutmix"])
@pytest.mark.parametrize(("nn_weight", "rows"), [(0.0, 3), (1.0, 5)])
def test_the_teacher_sees_labelled_slices_only_for_their_embeddings(mix, nn_weight, rows):
    regime = arco(pretrain_share=0.0, contrast_weight=0.0, nn_weight=nn_weight, mix=mix)
    seen = []
    regime.teacher.network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    regime.losses(batch_of(regime))
    # Mixing asks the teacher twice: for the labels of what is mixed, then for the embeddings of the mixture.
    assert seen == ([3] if mix == "cutmix" and rows == 5 else []) + [rows]


def test_what_is_said_of_unlabelled_slices_does_not_depend_on_labelled_ones():
    found = []
    for power in (1, 2):
        regime = apart(arco(joint=False, pretrain_share=0.0, confidence=0.5))
        batch = batch_of(regime)
        terms = regime.losses(replace(batch, images=batch.images**power))
        found.append([value(terms, "unsup"), value(terms, "nn"), value(terms, "contrast")])
    assert found[0][:2] == pytest.approx(found[1][:2], rel=1e-12)
    assert found[0][2] != pytest.approx(found[1][2], rel=1e-3)


def test_neighbours_are_those_of_other_slices_and_the_student_is_drawn_to_them():
    regime = apart(arco(pretrain_share=0.0, contrast_weight=0.0, unsup_weight=0.0, momentum=1.0))
    past = []
    for step in (12, 13, 14):
        batch = batch_of(regime, step, seed=step)
        if step == 13:
            batch = replace(batch, unlabelled_slices=torch.tensor([1, 50, 51]))
        student, teacher, _, _ = seen_by(regime, batch)
        mine = regime.embedding.predictor(regime.embedding.head(student.maps).output[2:].mean(dim=(2, 3)))
        theirs = regime.embedding.teacher.network(teacher.maps).output[2:].mean(dim=(2, 3)).detach()
        mine, theirs = functional.normalize(mine, dim=1), functional.normalize(theirs, dim=1)
        distances = []
        for row, told, owner in zip(mine, theirs, batch.unlabelled_slices.tolist(), strict=True):
            others = sorted((key for other, key in past if other != owner), key=lambda key: -float(told @ key))
            if others:
                distances.append(torch.stack([(row - key).square().sum() for key in others[:2]]).mean())
        expected = float(torch.stack(distances).mean().detach()) if distances else 0.0
        term = regime.losses(batch)["nn"]
        assert float(term.detach()) == pytest.approx(expected, rel=1e-9)
        assert term.requires_grad
        assert 0 <= expected <= 4
        regime.after_step(step, TOTAL)
        past = [*past, *zip(batch.unlabelled_slices.tolist(), theirs, strict=True)][-5:]
    assert expected > 0


def test_equivariance_is_off_as_in_the_paper_and_can_be_on():
    regime = apart(arco(**ALONE | {"eqv_weight": 2.0, "contrast_weight": 0.0}, eqv_confidence=0.3))
    assert "eqv" not in arco().losses(batch_of(regime))
    terms = regime.losses(batch_of(regime))
    assert value(terms, "eqv") == pytest.approx(2 * regime.metrics()["eqv"])
    assert value(terms, "eqv") > 0
    assert bool(torch.autograd.grad(terms["eqv"], regime.network.classifier.weight)[0].abs().sum() > 0)


def test_golden_values():
    regime = apart(arco(unsup_weight=1.0, pixel_confidence=0.8, confidence=0.8))
    found = {}
    for step in (EARLY, LATE, LATE + 1):
        regime.losses(batch_of(regime, step, seed=step))
        found |= {f"{step}/{k}": v for k, v in regime.metrics().items() if k in ("contrast", "unsup", "nn")}
        found |= {f"{step}/{k}": v for k, v in regime.metrics().items() if k.startswith("instance")}
        regime.after_step(step, TOTAL)
    assert found == pytest.approx(GOLDEN, rel=1e-5)


GOLDEN = {
    "2/instance_global": 0.19097882795700935,
    "2/instance_local": 1.2387979303895336,
    "15/contrast": 2.567592147804068,
    "15/nn": 0.0,
    "15/unsup": 0.24812647743950714,
    "16/contrast": 2.305769713366646,
    "16/nn": 1.7432142921946472,
    "16/unsup": 0.1984009326327328,
}


# --- stages ----------------------------------------------------------------------------------------------------------


def test_the_first_share_of_the_run_is_stage_one():
    regime = arco(pretrain_share=0.25)
    for step, stage in ((0, 1.0), (4, 1.0), (5, 2.0), (19, 2.0)):
        terms = regime.losses(batch_of(regime, step))
        assert ({"global", "local"} <= set(terms)) == (stage == 1.0)
        assert ({"contrast", "unsup", "nn"} <= set(terms)) == (stage == 2.0)
        assert regime.metrics()["stage"] == stage
        regime.after_step(step, TOTAL)


def test_each_stage_is_a_training_of_its_own():
    regime = arco()
    assert [regime.training_phase(step, TOTAL) for step in (0, 6, 7, 19)] == [(0, 7), (0, 7), (7, 13), (7, 13)]
    assert [float(regime.losses(batch_of(regime, step)) and regime.metrics()["stage"]) for step in (6, 7)] == [1, 2]
    assert arco(pretrain_share=0.0).training_phase(3, TOTAL) == (0, TOTAL)


@pytest.mark.parametrize("name", ["arco", "reco", "mona"])
def test_stage_one_ends_where_the_rest_of_every_other_regime_does(name):
    # 55 of 100 for .55, though .55 · 100 is a little more than 55.
    for percent in range(5, 100, 5):
        regime = build(name, pretrain_share=percent / 100)
        for total in (30, 100, 1000, 3000):
            first = resting_steps(percent / 100, total)
            assert first == -(-percent * total // 100)
            assert regime.training_phase(0, total) == (0, first)
            assert regime.training_phase(total - 1, total) == (first, total - first)
            assert [regime._relates(step, total) for step in (first - 1, first)] == [True, False]


def test_behind_a_pre_trained_encoder_there_is_no_stage_one_unless_asked_for():
    assert arco().share == 1 / 3
    assert arco(pretrained=True).share == 0
    assert arco(pretrained=True).relations is None
    assert arco(pretrained=True, pretrain_share=0.25).share == 0.25


def test_adam_s_decay_leaves_the_heads_of_the_other_stage_alone():
    regime = arco()
    parameters = list(regime.parameters())
    names = [name for name, _ in regime.named_parameters()]
    trained = [index for index, tensor in enumerate(parameters) if tensor.requires_grad]
    optimiser = torch.optim.Adam([parameters[index] for index in trained], lr=1e-2, weight_decay=1e-2)
    for step, part in ((EARLY, regime.embedding), (LATE, regime.relations)):
        before = {key: tensor.clone() for key, tensor in regime.named_parameters()}
        batch = batch_of(regime, step)
        gradients = gradients_of(
            {"loss": torch.stack(list(regime.losses(batch).values())).sum()},
            [names[index] for index in trained],
            [parameters[index] for index in trained],
            MeanCombiner(),
            batch.generator,
        )
        for index, gradient in zip(trained, gradients, strict=True):
            parameters[index].grad = gradient
        optimiser.step()
        own = {id(tensor) for tensor in part.parameters()}
        for key, tensor in regime.named_parameters():
            if id(tensor) in own:
                assert torch.equal(tensor, before[key]), key
        awake = "relations.whole.projector.first.weight" if step == EARLY else "embedding.head.last.weight"
        assert not torch.equal(regime.get_parameter(awake), before[awake])


def test_parts_that_do_not_count_are_not_made():
    plain = build("supervised", network=UNetConfig(width=4, depth=3))
    supervised_when = {**arco().supervised_when}
    assert [*arco(**supervised_when).state_dict()] == [*plain.state_dict()]
    assert arco(pretrain_share=0.0).relations is None
    assert arco(contrast_weight=0.0, nn_weight=0.0).embedding is None


def test_without_unlabelled_slices_the_labelled_ones_are_contrasted():
    regime = arco(**ALONE)
    terms = regime.losses(replace(batch_of(regime), unlabelled=None, unlabelled_again=(), unlabelled_slices=None))
    assert value(terms, "contrast") > 0
    terms = regime.losses(replace(batch_of(regime, EARLY), unlabelled=None, unlabelled_slices=None))
    assert set(terms) >= {"ce", "dice"}
    first = arco().losses(replace(batch_of(regime, EARLY), unlabelled=None, unlabelled_slices=None))
    assert set(first) == {"ce", "dice"}


def test_unlabelled_slices_without_their_indices_are_an_error():
    regime = arco()
    with pytest.raises(ValueError, match="with their indices"):
        regime.losses(replace(batch_of(regime), unlabelled_slices=None))


def test_a_stride_beyond_the_network_is_told_with_the_remedy():
    with pytest.raises(SettingsError, match=r"regime\.stride: must be at most 4 .*regime\.stride=4"):
        arco(stride=8)


# --- gradients and teachers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [EARLY, LATE])
def test_no_gradient_reaches_a_teacher_a_bank_or_the_teacher_s_view(step):
    regime = apart(arco(pixel_confidence=0.5, confidence=0.5))
    for before in (step - 1, step):
        batch = batch_of(regime, before, seed=before)
        views = [batch.unlabelled.clone().requires_grad_(), batch.unlabelled_again[0].clone().requires_grad_()]
        terms = regime.losses(replace(batch, unlabelled=views[0], unlabelled_again=(views[1],)))
        loss = torch.stack([term for name, term in terms.items() if name not in ("ce", "dice")]).sum()
        mine, theirs = torch.autograd.grad(loss, views, allow_unused=True)
        assert float(mine.abs().sum()) > 0
        assert theirs is None
        regime.after_step(before, TOTAL)
    frozen = {name for name, tensor in regime.named_parameters() if not tensor.requires_grad}
    assert frozen == {name for name, _ in regime.named_parameters() if "teacher" in name}
    assert not any(tensor.requires_grad for tensor in regime.buffers())


def test_each_loss_trains_the_student_s_own_head():
    regime = apart(arco(pixel_confidence=0.5))
    for step in (LATE - 1, LATE):
        terms = regime.losses(batch_of(regime, step, seed=step))
        regime.after_step(step, TOTAL)
    for name in ("contrast", "nn"):
        for tensor in (regime.embedding.head.last.weight, regime.network.encoder.blocks[0].conv1.weight):
            (gradient,) = torch.autograd.grad(terms[name], tensor, retain_graph=True)
            assert float(gradient.abs().sum()) > 0, name


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
@pytest.mark.parametrize(("step", "age"), [(2, 2), (5, 5), (6, 0), (7, 0), (8, 1), (15, 8)])
def test_teachers_follow_by_an_average_of_their_stage_and_keep_their_statistics(momentum, step, age):
    regime = arco(momentum=momentum)
    pairs = [(regime.network, regime.teacher), (regime.embedding.head, regime.embedding.teacher)]
    pairs += [(part.projector, part.teacher) for part in (regime.relations.whole, regime.relations.local)]
    for source, teacher in pairs:
        assert all(torch.equal(tensor, teacher.network.state_dict()[k]) for k, tensor in source.state_dict().items())
    with torch.no_grad():
        for tensor in regime.parameters():
            if tensor.requires_grad:
                tensor.add_(torch.randn_like(tensor))
    regime.losses(batch_of(regime))
    before = [copy.deepcopy(teacher.network.state_dict()) for _, teacher in pairs]
    # The first third is 7 of 20 steps.
    regime.after_step(step, TOTAL)
    rate = min(1 - 1 / (age + 1), momentum)
    for (source, teacher), old in zip(pairs, before, strict=True):
        parameters = dict(source.named_parameters())
        for key, tensor in teacher.network.state_dict().items():
            new = source.state_dict()[key]
            expected = new if rate == 0 else old[key]
            if key in parameters:
                expected = rate * old[key] + (1 - rate) * new
            torch.testing.assert_close(tensor, expected, rtol=1e-12, atol=1e-14)
