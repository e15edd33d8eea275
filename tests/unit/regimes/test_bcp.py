"""BCP: pasted slices and labels pixel by pixel, whose label counts where, its phases and limits."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import pytest
import torch

from fewlabel.objectives.connected_components import largest_components
from fewlabel.objectives.mixing import boxes, matches, partners
from fewlabel.objectives.segmentation import cross_entropy, soft_dice_loss
from kit.finetuning import toy_volumes
from kit.tiny_regimes import SIZE, EachPixel, apart, supervised, tiny, tiny_batch, use

#: For the contract suite: every slice is pasted into another, so no term is of labelled slices alone.
CONTRACT = {"own_supervision": False}

#: Cross-entropy, Dice and the pseudo-label part, without its weight, of the example below.
GOLDEN = (1.387320806, 0.8807571364, 2.256988561)
LATE, EARLY = 10, 2


def ignoring(batch, seed=1):
    """The batch with some pixels whose label is unknown."""
    unknown = torch.rand(batch.labels.shape, generator=torch.Generator().manual_seed(seed)) < 0.1
    return dataclasses.replace(batch, labels=batch.labels.masked_fill(unknown, 255))


def teach(regime, batch):
    """Pseudo-labels by the teacher's most likely class, filtered."""
    return largest_components(regime.teacher.network(batch.unlabelled).argmax(dim=1))


def slow_paste(batch, pseudo, side, space=SIZE):
    """Images, labels and pseudo-labels pixel by pixel, from the draws in their order."""
    n, u = len(batch.images), len(batch.unlabelled)
    guests = matches(n, u, batch.generator).tolist()
    donors = matches(u, n, batch.generator).tolist()
    inner, outer = boxes(n, space, side, batch.generator), boxes(u, space, side, batch.generator)
    images = torch.empty(n + u, 1, *space, dtype=torch.float64)
    known, guessed = (torch.full((n + u, *space), 255) for _ in range(2))
    for row in range(n + u):
        own, other = (row, guests[row]) if row < n else (donors[row - n], row - n)
        for place in itertools.product(*map(range, space)):
            inside = bool(inner[(row, *place)] if row < n else outer[(row - n, *place)])
            # A rectangle of an unlabelled slice on a labelled one, then the reverse.
            if inside == (row < n):
                images[(row, 0, *place)] = batch.unlabelled[(other, 0, *place)]
                guessed[(row, *place)] = pseudo[(other, *place)]
            else:
                images[(row, 0, *place)] = batch.images[(own, 0, *place)]
                known[(row, *place)] = batch.labels[(own, *place)]
    return images, known, guessed


@pytest.mark.parametrize("side", [0.25, 2 / 3])
@pytest.mark.parametrize(("labelled", "unlabelled"), [(2, 3), (4, 2)])
def test_both_mixes_equal_a_slow_loop(side, labelled, unlabelled):
    regime = apart(tiny("bcp", side=side))
    make = lambda: ignoring(tiny_batch(regime, labelled=labelled, unlabelled=unlabelled))  # noqa: E731
    batch, pseudo = make(), teach(regime, make())
    assert len(pseudo.unique()) > 1
    found = regime.paste(batch, batch.unlabelled, pseudo)
    for one, other in zip(found, slow_paste(make(), pseudo, side), strict=True):
        assert torch.equal(one, other)


def test_terms_are_those_of_the_formula():
    regime = apart(tiny("bcp"))
    batch = ignoring(tiny_batch(regime))
    images, known, guessed = slow_paste(ignoring(tiny_batch(regime)), teach(regime, batch), 2 / 3)
    logits = copy.deepcopy(regime.network)(images)
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "pseudo"}
    for key, value in supervised(logits, known).items():
        torch.testing.assert_close(terms[key], value, rtol=1e-11, atol=0)
    expected = cross_entropy(logits, guessed) + soft_dice_loss(logits, guessed)
    torch.testing.assert_close(terms["pseudo"], 0.5 * expected, rtol=1e-11, atol=0)
    assert regime.metrics()["pseudo"] == pytest.approx(float(expected.detach()), rel=1e-11)


def test_golden_values():
    regime = apart(tiny("bcp"))
    terms = regime.losses(tiny_batch(regime))
    found = [*(float(terms[name].detach()) for name in ("ce", "dice")), regime.metrics()["pseudo"]]
    assert found == pytest.approx(GOLDEN, rel=1e-6)


def test_labelled_and_pseudo_labelled_parts_make_up_the_image():
    regime = tiny("bcp")
    batch = tiny_batch(regime)
    pseudo = torch.ones(3, *SIZE, dtype=torch.int64)
    _, known, guessed = regime.paste(batch, batch.unlabelled, pseudo)
    assert torch.equal(known != 255, guessed == 255)
    # round(16 · 2/3) = 11: 121 of 256 pixels lie in a rectangle.
    assert (guessed != 255).flatten(1).sum(1).tolist() == [121] * 2 + [135] * 3


def test_rectangles_are_relative_in_volumes_too():
    regime = tiny("bcp", side=0.5)
    batch = toy_volumes(regime, dtype=torch.float64)
    pseudo = torch.ones_like(batch.labels)
    images, known, guessed = regime.paste(batch, batch.unlabelled, pseudo)
    again = toy_volumes(regime, dtype=torch.float64)
    for one, other in zip((images, known, guessed), slow_paste(again, pseudo, 0.5, (8, 16, 16)), strict=True):
        assert torch.equal(one, other)
    places = (guessed[0] != 255).nonzero()
    assert (places.amax(0) - places.amin(0) + 1).tolist() == [4, 8, 8]


def test_without_a_rectangle_it_is_self_training():
    regime = apart(tiny("bcp", side=0.0))
    batch = tiny_batch(regime)
    pseudo = teach(regime, batch)
    logits = copy.deepcopy(regime.network)(torch.cat([batch.images, batch.unlabelled]))
    terms = regime.losses(batch)
    for key, value in supervised(logits[:2], batch.labels).items():
        torch.testing.assert_close(terms[key], value, rtol=1e-11, atol=0)
    expected = sum(supervised(logits[2:], pseudo).values())
    torch.testing.assert_close(terms["pseudo"], 0.5 * expected, rtol=1e-11, atol=0)


def test_a_rectangle_as_large_as_the_slice_swaps_the_streams():
    regime = tiny("bcp", side=1.0)
    batch = tiny_batch(regime)
    pseudo = torch.ones(3, *SIZE, dtype=torch.int64)
    _, known, guessed = regime.paste(batch, batch.unlabelled, pseudo)
    assert bool((known[:2] == 255).all())
    assert bool((guessed[:2] == 1).all())
    assert bool((guessed[2:] == 255).all())


def test_pseudo_labels_count_by_their_weight_alone():
    terms = {}
    for weight in (0.25, 1.0):
        regime = apart(tiny("bcp", unlabelled_weight=weight))
        terms[weight] = regime.losses(tiny_batch(regime))
    for key in ("ce", "dice"):
        torch.testing.assert_close(terms[0.25][key], terms[1.0][key], rtol=1e-12, atol=0)
    torch.testing.assert_close(4 * terms[0.25]["pseudo"], terms[1.0]["pseudo"], rtol=1e-12, atol=0)
    # With a weight of 0 the mixes stay, and what the teacher says has no gradient.
    regime = apart(tiny("bcp"))
    batch = tiny_batch(regime)
    none = regime.joint_terms(batch, batch.unlabelled, 0.0)
    gradients = torch.autograd.grad(none["pseudo"], list(regime.network.parameters()))
    assert not any(bool(gradient.any()) for gradient in gradients)
    torch.testing.assert_close(none["ce"], terms[1.0]["ce"], rtol=1e-12, atol=0)


class TestPseudoLabels:
    def teacher_that_says(self, regime, labels):
        """A teacher whose arg-max is given: pixels hold their class."""
        network = EachPixel()
        with torch.no_grad():
            # -(x - c)² up to what all classes share.
            network.layer.weight.copy_((2.0 * torch.arange(4)).view(4, 1, 1, 1))
            network.layer.bias.copy_(-torch.arange(4.0).square())
        use(regime, network)
        return labels[:, None].double()

    def test_three_components_become_one_and_the_log_says_so(self):
        labels = torch.zeros(2, *SIZE, dtype=torch.int64)
        labels[0, 0, 0], labels[0, 3, :2], labels[0, 8:11, 8:11] = 2, 2, 2
        labels[0, 5, 5], labels[1, 2, 2:5] = 3, 1
        regime = tiny("bcp")
        images = self.teacher_that_says(regime, labels)
        found = regime.pseudo_labels(images)
        expected = labels.clone()
        expected[0, 0, 0], expected[0, 3, :2] = 0, 0
        assert torch.equal(found, expected)
        assert regime.metrics()["filtered"] == pytest.approx(3 / 512)
        assert regime.metrics()["foreground"] == pytest.approx(13 / 512)

    def test_the_filter_can_be_off(self):
        labels = torch.randint(0, 4, (2, *SIZE), generator=torch.Generator().manual_seed(0))
        regime = tiny("bcp", largest_component=False)
        images = self.teacher_that_says(regime, labels)
        assert torch.equal(regime.pseudo_labels(images), labels)
        assert regime.metrics()["filtered"] == 0

    def test_they_are_the_teachers_not_the_students(self):
        regime = apart(tiny("bcp", largest_component=False))
        batch = tiny_batch(regime)
        found = regime.pseudo_labels(batch.unlabelled)
        assert torch.equal(found, regime.teacher.network(batch.unlabelled).argmax(dim=1))
        assert not torch.equal(found, copy.deepcopy(regime.network).eval()(batch.unlabelled).argmax(dim=1))


class TestFirstPhase:
    def expected(self, regime):
        batch = ignoring(tiny_batch(regime, step=EARLY))
        others = partners(2, batch.generator).tolist()
        inside = boxes(2, SIZE, 2 / 3, batch.generator)
        images, labels = batch.images.clone(), batch.labels.clone()
        for row, y, x in inside.nonzero().tolist():
            images[row, :, y, x] = batch.images[others[row], :, y, x]
            labels[row, y, x] = batch.labels[others[row], y, x]
        return supervised(copy.deepcopy(regime.network)(images), labels)

    def test_labelled_slices_are_pasted_on_each_other(self):
        regime = apart(tiny("bcp"))
        expected = self.expected(regime)
        terms = regime.losses(ignoring(tiny_batch(regime, step=EARLY)))
        assert set(terms) == {"ce", "dice"}
        for key, value in expected.items():
            torch.testing.assert_close(terms[key], value, rtol=1e-11, atol=0)

    def test_unlabelled_slices_and_the_teacher_take_no_part(self):
        found = []
        for change in (False, True):
            regime = tiny("bcp")
            batch = tiny_batch(regime, step=EARLY)
            if change:
                apart(regime)
                batch = dataclasses.replace(batch, unlabelled=batch.unlabelled * 7)
            found.append(regime.losses(batch))
        assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])

    def test_it_lasts_for_the_first_quarter_and_the_weight_is_constant_after_it(self):
        regime = tiny("bcp")
        assert [regime.weight(step, 100) for step in (0, 24, 25, 60, 99)] == [0, 0, 0.5, 0.5, 0.5]
        # Without unlabelled slices it goes on.
        late = dataclasses.replace(ignoring(tiny_batch(regime, step=EARLY)), step=LATE, unlabelled=None)
        expected, terms = self.expected(regime), regime.losses(late)
        assert terms.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(terms[key], value, rtol=1e-11, atol=0)

    # 0.55 times 100 is a little more than 55.
    @pytest.mark.parametrize(("rest", "first"), [(0.25, 25), (0.55, 55)])
    def test_the_teacher_is_the_student_until_the_rest_is_over_and_averages_from_there(self, rest, first):
        regime = tiny("bcp", momentum=0.7, rest=rest)
        assert [regime.weight(step, 100) for step in (first - 1, first)] == [0.0, 0.5]
        averaged = None
        for step in range(first - 4, first + 7):
            with torch.no_grad():
                for parameter in regime.network.parameters():
                    parameter.add_(step)
            regime.after_step(step, 100)
            now = regime.network.classifier.weight.detach().clone()
            if step <= first:
                averaged = now
            else:
                momentum = min(1 - 1 / (step - first + 1), 0.7)
                averaged = momentum * averaged + (1 - momentum) * now
            torch.testing.assert_close(regime.teacher.network.classifier.weight, averaged, rtol=1e-12, atol=0)

    def test_a_weight_of_0_pastes_nothing_and_draws_nothing(self):
        regime = tiny("bcp", unlabelled_weight=0.0)
        batch = tiny_batch(regime, step=EARLY)
        expected = supervised(copy.deepcopy(regime.network)(batch.images), batch.labels)
        terms = regime.losses(batch)
        assert all(torch.equal(terms[key], value) for key, value in expected.items())
        assert torch.equal(batch.generator.get_state(), tiny_batch(regime, step=EARLY).generator.get_state())


def test_without_labelled_slices_it_is_self_training():
    regime = apart(tiny("bcp"))
    batch = tiny_batch(regime, labelled=0)
    pseudo = teach(regime, batch)
    expected = sum(supervised(copy.deepcopy(regime.network)(batch.unlabelled), pseudo).values())
    terms = regime.losses(batch)
    assert float(terms["ce"].detach() + terms["dice"].detach()) == 0
    torch.testing.assert_close(terms["pseudo"], 0.5 * expected, rtol=1e-11, atol=0)


def test_one_pass_and_every_slice_is_a_background_once():
    regime = tiny("bcp", side=0.25)
    seen = []
    regime.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    batch = tiny_batch(regime)
    regime.losses(batch)
    assert len(seen) == 1
    for mixed, row in zip(seen[0], torch.cat([batch.images, batch.unlabelled]), strict=True):
        assert int((mixed != row).sum()) == 16
