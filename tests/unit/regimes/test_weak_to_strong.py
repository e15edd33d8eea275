"""Weak-to-strong regimes: two phases, pseudo-labels, boxes of each other, the loss of sure pixels."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.nets.unet import UNetConfig
from fewlabel.objectives.mixing import partners, position_partners, random_boxes
from fewlabel.objectives.segmentation import cross_entropy, soft_dice_loss
from fewlabel.regimes import weak_to_strong as _weak_to_strong
from fewlabel.regimes.semi_supervised import resting_steps
from fewlabel.regimes.weak_to_strong import RATIO, SHARE, Pseudo, WeakToStrong
from kit.finetuning import FAMILY, build, toy_batch, toy_volumes, train
from kit.tiny_regimes import SIZE, EachPixel, apart, stir, tiny_batch, use
from kit.tiny_regimes import tiny as tiny_of

NAMES = [name for name in plugin_names(FAMILY) if issubclass(load_plugin(FAMILY, name), WeakToStrong)]
LATE, EARLY = 15, 4
#: Without the guard, a network may be exchanged.
PLAIN = {"guard": 0.0}


def tiny(name, **settings):
    """A regime whose first phase takes 45 of 100 steps."""
    return tiny_of(name, **({} if name == "supervised" else {"rest": 0.45}) | settings)


def labels_of(count=3, seed=0):
    """Pseudo-labels with unsure pixels."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count, *SIZE), generator=source)
    return labels.masked_fill(torch.rand(labels.shape, generator=source) < 0.2, 255)


def views_of(count=3, seed=1):
    return torch.randn(count, 1, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestPhases:
    def test_the_run_has_two_trainings(self):
        regime = tiny("fixmatch")
        assert [regime.training_phase(step, 100) for step in (0, 44)] == [(0, 45)] * 2
        assert [regime.training_phase(step, 100) for step in (45, 99)] == [(45, 55)] * 2
        # Of 21 steps the first 10, the next whole number above 9.45.
        assert regime.training_phase(9, 21) == (0, 10)
        assert regime.training_phase(10, 21) == (10, 11)

    def test_a_share_means_the_steps_that_it_says_in_decimals(self):
        assert 0.55 * 100 > 55
        assert resting_steps(0.55, 100) == 55
        found = {
            (share, total): resting_steps(share, total) for share in (0.0, 0.07, 0.29, 0.45, 0.58) for total in (1, 100)
        }
        assert found == {
            (0.0, 1): 0, (0.0, 100): 0, (0.07, 1): 1, (0.07, 100): 7, (0.29, 1): 1, (0.29, 100): 29,
            (0.45, 1): 1, (0.45, 100): 45, (0.58, 1): 1, (0.58, 100): 58,
        }  # fmt: skip
        # What a share comes to is rounded up, be it ever so little above a whole number of steps.
        assert resting_steps(0.5001, 10_000) == 5001
        assert resting_steps(0.50001, 10_000) == 5001

    def test_phase_weight_and_teacher_begin_at_that_step(self):
        regime = tiny("fixmatch", rest=0.55, ramp=0.0, momentum=1.0)
        assert [regime.training_phase(step, 100) for step in (54, 55)] == [(0, 55), (55, 45)]
        assert [regime.weight(step, 100) for step in (54, 55)] == [0.0, 1.0]
        copied = []
        for step in (53, 54, 55, 56):
            with torch.no_grad():
                for tensor in regime.network.parameters():
                    tensor.add_(1)
            regime.joined, regime._labels = step >= 55, labels_of().clamp(max=3)
            regime.after_step(step, 100)
            student, teacher, kept = (
                net.classifier.weight for net in (regime.network, regime.teacher.network, regime.supervised.network)
            )
            copied.append((torch.equal(student, teacher), torch.equal(student, kept)))
        # The first step of the average copies as well; the weights to go back to are those of the step before it.
        assert copied == [(True, False), (True, True), (True, False), (False, False)]
        assert int(regime.shares.seen) == 2

    @pytest.mark.parametrize(("settings", "step"), [({"rest": 0.0}, 0), ({"unlabelled_weight": 0.0}, 60)])
    def test_without_a_first_phase_or_a_second_it_is_one(self, settings, step):
        assert tiny("fixmatch", **settings).training_phase(step, 100) == (0, 100)

    def test_the_weight_rests_grows_and_stays(self):
        regime = tiny("fixmatch", unlabelled_weight=0.8, rest=0.5, ramp=0.2)
        found = [regime.weight(step, 100) for step in (0, 49, 50, 55, 60, 99)]
        assert found == pytest.approx([0, 0, 0.8 * math.exp(-5), 0.8 * math.exp(-1.25), 0.8, 0.8])
        assert tiny("fixmatch", ramp=0.0).weight(45, 100) == 1.0
        assert tiny("fixmatch", rest=0.0, ramp=0.0).weight(0, 100) == 1.0

    def test_every_return_halves_it_and_giving_up_ends_it(self):
        regime = tiny("fixmatch", ramp=0.0)
        for returns, weight in ((0, 1.0), (1, 0.5), (2, 0.25)):
            regime.returns.fill_(returns)
            assert regime.weight(80, 100) == weight
        regime.given_up.fill_(value=True)
        assert regime.weight(80, 100) == 0.0

    @pytest.mark.parametrize("name", NAMES)
    def test_in_the_first_phase_labelled_slices_alone_count(self, name):
        regime = apart(tiny(name))
        batch = tiny_batch(regime, step=EARLY)
        logits = copy.deepcopy(regime.network)(batch.images)
        terms = regime.losses(dataclasses.replace(batch, unlabelled=batch.unlabelled * 7))
        assert terms.keys() == {"ce", "dice"}
        assert torch.equal(terms["ce"], cross_entropy(logits, batch.labels))
        assert torch.equal(batch.generator.get_state(), tiny_batch(regime, step=EARLY).generator.get_state())
        assert regime.metrics() == {"unlabelled_weight": 0.0, "returns": 0.0, "given_up": 0.0}

    @pytest.mark.parametrize("fed", [True, False])
    def test_the_teacher_is_the_student_until_then_and_averages_from_there(self, fed):
        regime = tiny("fixmatch", momentum=0.7, **PLAIN)
        averaged = None
        for step in range(40, 55):
            with torch.no_grad():
                for tensor in (*regime.network.parameters(), *regime.network.buffers()):
                    tensor.add_(step)
            regime.joined = fed and step >= 45
            regime.after_step(step, 100)
            now = regime.network.classifier.weight.detach().clone()
            if step <= 45:
                averaged = now
                student, teacher = regime.network.state_dict(), regime.teacher.network.state_dict()
                assert all(torch.equal(student[key], teacher[key]) for key in student)
            else:
                momentum = min(1 - 1 / (step - 45 + 1), 0.7)
                averaged = momentum * averaged + (1 - momentum) * now
            torch.testing.assert_close(regime.teacher.network.classifier.weight, averaged, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("teacher", ["average", "self"])
    def test_what_the_teacher_does_not_see_it_takes_from_the_student(self, teacher):
        """Statistics for eval mode: its own where it labels, the student's where the student labels."""
        regime = tiny("fixmatch", teacher=teacher, **PLAIN)
        train(regime.float(), 12)
        student, average = (dict(net.named_buffers()) for net in (regime.network, regime.teacher.network))
        same = all(torch.equal(student[key], average[key]) for key in student)
        assert same == (teacher == "self")

    @pytest.mark.parametrize("name", NAMES)
    def test_a_weight_of_0_is_supervised_training_through_both_phases(self, name):
        plain, other = tiny("supervised"), tiny(name, unlabelled_weight=0.0)
        other.network.load_state_dict(plain.network.state_dict())
        for regime in (plain, other):
            train(regime.float(), 4, first=7)
        expected, found = plain.network.state_dict(), other.network.state_dict()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


class TestPseudoLabels:
    def seen(self, regime, batch):
        probabilities = copy.deepcopy(regime.teacher.network)(batch.unlabelled).softmax(dim=1)
        return probabilities.max(dim=1)

    def test_they_are_the_teachers_classes_where_it_is_sure(self):
        regime = apart(tiny("fixmatch", threshold=0.6))
        batch = tiny_batch(regime)
        confidence, classes = self.seen(regime, batch)
        found = regime._pseudo(batch.unlabelled)
        assert 0.1 < float(found.share) < 0.9
        for place in itertools.product(range(3), *map(range, SIZE)):
            assert int(found.labels[place]) == (int(classes[place]) if confidence[place] >= 0.6 else 255)
        assert float(found.share) == pytest.approx(float((confidence >= 0.6).double().mean()))

    def test_a_pixel_as_sure_as_the_threshold_counts(self):
        regime = use(tiny("fixmatch", threshold=0.25, **PLAIN), EachPixel())
        with torch.no_grad():
            for tensor in regime.teacher.network.parameters():
                tensor.zero_()
        assert float(regime._pseudo(views_of()).share) == 1.0

    def test_how_many_pieces_labelled_slices_have_is_looked_at_on_the_way(self):
        regime = tiny("fixmatch")
        # One of ten steps of the first phase, which takes 9 of 20 steps here, so only step 0.
        for step, shown in ((0, 2), (5, 2), (9, 2)):
            batch = tiny_batch(regime, step=step)
            regime.losses(dataclasses.replace(batch, unlabelled=None))
            assert int(regime.pieces.shown[0]) == shown, step
        expected = tiny_batch(regime, step=0).labels
        assert regime.pieces.shown.tolist()[1:] == [
            int((expected == label).flatten(1).any(dim=1).sum()) for label in (1, 2, 3)
        ]
        for other in (tiny("fixmatch", one_piece=False), tiny("fixmatch", unlabelled_weight=0.0)):
            other.losses(tiny_batch(other, step=0))
            assert not any(int(value.sum()) for name, value in other.named_buffers() if name == "pieces.shown")

    def test_they_are_held_to_one_piece_where_labelled_slices_are(self):
        regime, loose = apart(tiny("fixmatch", threshold=0.0)), apart(tiny("fixmatch", threshold=0.0, one_piece=False))
        for one in (regime, loose):
            with torch.no_grad():
                one.teacher.network.classifier.bias[0] += 4
        batch = tiny_batch(regime)
        _, classes = self.seen(regime, batch)
        free = regime._pseudo(batch.unlabelled).labels
        assert torch.equal(free, classes)
        regime.pieces.shown.fill_(100)
        regime.pieces.whole.copy_(torch.tensor([100, 100, 100, 50]))
        labels, beside = regime.pieces.hold(classes)
        assert not torch.equal(labels, classes)
        assert bool(beside.any())
        found = regime._pseudo(batch.unlabelled).labels
        assert torch.equal(found, torch.where(beside, 255, labels))
        # The guard watches what counts; the record says how scattered it was.
        assert torch.equal(regime._labels, labels)
        assert torch.equal(regime._guesses, classes)
        assert not hasattr(loose, "pieces")
        assert torch.equal(loose._pseudo(batch.unlabelled).labels, classes)

    def test_classes_that_are_out_are_left_out(self):
        regime = apart(tiny("fixmatch", threshold=0.0))
        batch = tiny_batch(regime)
        _, classes = self.seen(regime, batch)
        assert len(classes.unique()) >= 3
        dropped = int(classes.unique()[1])
        regime.shares.seen.fill_(100)
        regime.shares.first.fill_(0.25)
        regime.shares.now.copy_(torch.tensor([0.9 if index == dropped else 0.25 for index in range(4)]))
        found = regime._pseudo(batch.unlabelled).labels
        assert torch.equal(found, torch.where(classes == dropped, 255, classes))
        # Shares are of all that is labelled, whatever counts.
        assert torch.equal(regime._labels, classes)

    def test_the_student_may_label_and_leaves_no_trace(self):
        regime = apart(tiny("fixmatch", teacher="self", threshold=0.0))
        batch = tiny_batch(regime)
        before = copy.deepcopy(regime.network)
        recorded = []
        regime.network.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
        found = regime._pseudo(batch.unlabelled).labels
        assert recorded == [False]
        after = regime.network.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.state_dict().items())
        assert torch.equal(found, before(batch.unlabelled).argmax(dim=1))
        assert not torch.equal(found, copy.deepcopy(regime.teacher.network)(batch.unlabelled).argmax(dim=1))

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("teacher", ["average", "self"])
    def test_no_gradient_goes_into_them(self, name, teacher):
        regime = apart(tiny(name, teacher=teacher, threshold=0.0))
        batch = tiny_batch(regime)
        weak = batch.unlabelled.clone().requires_grad_()
        assert not regime._pseudo(weak).labels.requires_grad
        terms = regime.losses(dataclasses.replace(batch, unlabelled=weak))
        terms["pseudo"].backward()
        assert all(tensor.grad is None for tensor in regime.teacher.parameters())
        # The third stream of UniMatch is the weak view itself; FixMatch does not show it to the student.
        assert (weak.grad is None) == (name == "fixmatch")
        assert all(bool(tensor.grad.any()) for tensor in regime.network.parameters())


class TestBoxes:
    def slow(self, images, labels, batch, other, share):
        """Pixel by pixel, from the draws in their order."""
        count = len(images)
        inside = random_boxes(count, SIZE, SHARE, RATIO, batch.generator)
        used = torch.rand(count, generator=batch.generator) < share
        mixed, target = images.clone(), labels.clone()
        for row, y, x in itertools.product(range(count), *map(range, SIZE)):
            if used[row] and inside[row, y, x]:
                mixed[row, :, y, x] = images[other[row], :, y, x]
                target[row, y, x] = labels[other[row], y, x]
        return mixed, target

    @pytest.mark.parametrize("share", [0.5, 1.0])
    @pytest.mark.parametrize("kind", ["any", "position"])
    def test_views_and_labels_are_mixed_alike(self, share, kind):
        regime = tiny("fixmatch", cutmix=share, partners=kind)
        images, labels, changed = views_of(6), labels_of(6), 0
        for step in range(4):
            batch, again = (tiny_batch(regime, step=step, unlabelled=6) for _ in range(2))
            if kind == "any":
                other = partners(6, again.generator)
            else:
                other = position_partners(again.unlabelled_positions, again.generator)
            found = regime.mixed(images, Pseudo(labels), batch)
            for one, expected in zip(found, self.slow(images, labels, again, other.tolist(), share), strict=True):
                assert torch.equal(one, expected)
            changed += int((found[0] != images).flatten(1).any(dim=1).sum())
        assert changed == 24 if share == 1.0 else 4 < changed < 20

    def test_a_box_as_large_as_the_slice_is_another_order_of_the_batch(self, monkeypatch):
        monkeypatch.setattr(_weak_to_strong, "random_boxes", lambda count, space, *_: torch.ones(count, *space).bool())
        regime = tiny("fixmatch")
        images, labels = views_of(5), labels_of(5)
        batch, again = (tiny_batch(regime, unlabelled=5) for _ in range(2))
        other = partners(5, again.generator)
        mixed, target = regime.mixed(images, Pseudo(labels), batch)
        assert torch.equal(mixed, images[other])
        assert torch.equal(target, labels[other])

    @pytest.mark.parametrize("off", ["empty", "share"])
    def test_an_empty_box_and_a_share_of_0_change_nothing(self, monkeypatch, off):
        monkeypatch.setattr(_weak_to_strong, "random_boxes", lambda count, space, *_: torch.zeros(count, *space).bool())
        regime = tiny("fixmatch", cutmix=1.0 if off == "empty" else 0.0)
        images, labels = views_of(), labels_of()
        batch = tiny_batch(regime)
        mixed, target = regime.mixed(images, Pseudo(labels), batch)
        assert torch.equal(mixed, images)
        assert torch.equal(target, labels)
        same = torch.equal(batch.generator.get_state(), tiny_batch(regime).generator.get_state())
        assert same == (off == "share")

    def test_partners_of_a_position_need_positions(self):
        regime = tiny("fixmatch", partners="position")
        batch = dataclasses.replace(tiny_batch(regime), unlabelled_positions=None)
        with pytest.raises(ValueError, match="positions"):
            regime.losses(batch)
        assert set(tiny("fixmatch").losses(batch)) == {"ce", "dice", "pseudo"}

    def test_boxes_of_volumes(self):
        regime = build("fixmatch", network=UNetConfig(width=4, depth=3, ndim=3))
        batch = toy_volumes(regime)
        strong, labels = batch.unlabelled_again[0], torch.ones(2, 8, 16, 16, dtype=torch.int64)
        labels[1] = 2
        mixed, target = regime.mixed(strong, Pseudo(labels), batch)
        for row in range(2):
            inside = (target[row] != labels[row]).nonzero()
            assert len(inside) == (inside.amax(0) - inside.amin(0) + 1).prod()
            for place in inside[:: max(1, len(inside) // 20)].tolist():
                assert mixed[(row, 0, *place)] == strong[(1 - row, 0, *place)]


class TestLoss:
    def test_unsure_pixels_are_free_in_cross_entropy_and_absent_in_dice(self):
        regime = tiny("fixmatch")
        logits = torch.randn(3, 4, *SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        labels = labels_of()
        total = 0.0
        for place in itertools.product(range(3), *map(range, SIZE)):
            n, y, x = place
            if int(labels[place]) != 255:
                total -= float(logits[n, :, y, x].log_softmax(0)[int(labels[place])])
        expected = total / labels.numel() + float(soft_dice_loss(logits, labels))
        assert float(regime.strong_loss(logits, labels)) == pytest.approx(expected, rel=1e-11)

    @pytest.mark.parametrize(("off", "kept"), [("ce_weight", "dice"), ("dice_weight", "ce")])
    @pytest.mark.parametrize("name", NAMES)
    def test_either_part_may_be_off(self, name, off, kept):
        regime = apart(tiny(name, threshold=0.6, **{off: 0.0}))
        terms = regime.losses(tiny_batch(regime))
        assert set(terms) == {kept, "pseudo"}
        logits = torch.randn(3, 4, *SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        labels = labels_of()
        sure = (labels != 255).double().mean()
        expected = sure * cross_entropy(logits, labels) if kept == "ce" else soft_dice_loss(logits, labels)
        torch.testing.assert_close(regime.strong_loss(logits, labels), expected, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("name", NAMES)
    def test_a_threshold_above_1_leaves_supervision_alone(self, name):
        regime = apart(tiny(name, threshold=1.1))
        terms = regime.losses(tiny_batch(regime))
        assert float(terms["pseudo"].detach()) == 0.0
        gradients = torch.autograd.grad(terms["pseudo"], list(regime.network.parameters()), materialize_grads=True)
        assert all(bool((gradient == 0).all()) for gradient in gradients)
        assert regime.metrics()["sure"] == 0.0

    @pytest.mark.parametrize("name", NAMES)
    def test_weight_scales_it_and_supervision_stays(self, name):
        found = {}
        for weight in (0.25, 1.0):
            regime = apart(tiny(name, unlabelled_weight=weight, threshold=0.5))
            found[weight] = regime.losses(tiny_batch(regime, step=LATE))
        torch.testing.assert_close(4 * found[0.25]["pseudo"], found[1.0]["pseudo"], rtol=1e-12, atol=0)
        assert torch.equal(found[0.25]["ce"], found[1.0]["ce"])


class TestSettings:
    @pytest.mark.parametrize("value", [0.5, 1.0])
    def test_a_guard_that_would_always_bite_is_refused(self, value):
        with pytest.raises(SettingsError, match="guard"):
            tiny("fixmatch", guard=value)

    @pytest.mark.parametrize("settings", [{"guard": 0.0}, {"unlabelled_weight": 0.0}])
    def test_without_a_guard_nothing_is_kept_for_it(self, settings):
        regime = tiny("fixmatch", **settings)
        assert not any(key.startswith(("supervised", "shares")) for key in regime.state_dict())
        train(regime.float(), 12)
        assert any(key.startswith("supervised") for key in tiny("fixmatch").state_dict())


class TestFigures:
    def test_they_say_what_the_pseudo_labels_are(self):
        regime = apart(tiny("fixmatch", threshold=0.6))
        batch = tiny_batch(regime, step=LATE)
        terms = regime.losses(batch)
        found = regime.metrics()
        assert set(found) == {
            "unlabelled_weight", "pseudo", "sure", "foreground", "scattered", "returns", "given_up"
        }  # fmt: skip
        assert found["unlabelled_weight"] == 1.0
        assert found["pseudo"] == pytest.approx(float(terms["pseudo"].detach()))
        assert found["sure"] == pytest.approx(float(regime._pseudo(batch.unlabelled).share))
        assert found["foreground"] == pytest.approx(float((regime._labels > 0).double().mean()))

    def test_scattered_is_the_share_of_slices_with_a_class_in_pieces(self):
        regime = tiny("fixmatch")
        regime.losses(tiny_batch(regime, unlabelled=4))
        labels = torch.zeros(4, *SIZE, dtype=torch.int64)
        labels[0, 0, 0] = labels[0, 8, 8] = 1
        labels[1, 0, 0], labels[1, 8, 8] = 1, 2
        # Background in two pieces is none.
        labels[2, 7:9] = 3
        regime._guesses = labels
        assert regime.metrics()["scattered"] == 0.25

    @pytest.mark.parametrize("predict", ["student", "teacher"])
    def test_the_network_that_is_kept(self, predict):
        regime = tiny("fixmatch", predict=predict)
        assert (regime.inference_network() is regime.network) == (predict == "student")


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_reaches_every_weight_where_the_student_labels(name):
    regime = build(name, teacher="self", threshold=0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = regime.losses(toy_batch(regime, step=LATE))
    terms["pseudo"].backward()
    assert all(bool(tensor.grad.any()) for tensor in regime.network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_each_stream_has_statistics_of_its_own(name):
    """Strong views cannot change what the labelled slices say."""
    found = []
    for scale in (1.0, 5.0):
        regime = tiny(name, joint=False, threshold=0.0)
        stir(regime.network)
        batch = tiny_batch(regime)
        again = tuple(view * scale + (scale - 1) for view in batch.unlabelled_again)
        found.append(regime.losses(dataclasses.replace(batch, unlabelled_again=again)))
    for key in ("ce", "dice"):
        torch.testing.assert_close(found[0][key], found[1][key], rtol=1e-10, atol=0)
