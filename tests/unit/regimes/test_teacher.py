"""The one policy of teachers: how fast they follow, whose statistics they use, no gradient."""

from __future__ import annotations

import copy

import pytest
import torch

from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.nets.unet import UNet
from fewlabel.regimes.teacher import Teacher
from fewlabel.regimes.teacher_student import TeacherStudent
from kit.finetuning import TOTAL
from kit.tiny_regimes import TINY, stir, tiny, tiny_batch

TAUGHT = [
    name
    for name in plugin_names("fewlabel.regimes")
    if issubclass(load_plugin("fewlabel.regimes", name), TeacherStudent)
]


def student(seed=0):
    torch.manual_seed(seed)
    network = UNet(TINY, classes=3).double().train()
    network(images(seed=seed))
    return network


def images(count=3, seed=0):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(module):
    return {name: tensor.detach().clone() for name, tensor in module.named_parameters()}


def follow(teacher, network, steps):
    """The students of some steps, each other than the one before."""
    seen = []
    for step in steps:
        stir(network, seed=step)
        seen.append(weights(network))
        teacher.update(network, step)
    return seen


def test_it_starts_as_the_student_and_shares_nothing():
    network = student()
    teacher = Teacher(network, 0.99)
    start = copy.deepcopy(network.state_dict())
    stir(network)
    assert all(torch.equal(value, start[name]) for name, value in teacher.network.state_dict().items())
    # One copy of the weights is saved, and the student is not in it.
    assert len(teacher.state_dict()) == len(start)


@pytest.mark.parametrize("momentum", [0.0, 0.99, 1.0])
def test_after_the_first_step_it_is_the_student(momentum):
    network = student()
    teacher = Teacher(network, momentum)
    follow(teacher, network, [0])
    theirs = network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in teacher.network.state_dict().items())


def test_until_the_momentum_is_reached_it_is_the_mean_of_all_students():
    network = student()
    teacher = Teacher(network, 1.0)
    seen = follow(teacher, network, range(7))
    for name, value in weights(teacher.network).items():
        torch.testing.assert_close(value, torch.stack([old[name] for old in seen]).mean(0), rtol=1e-12, atol=1e-14)


def test_then_it_is_the_moving_average():
    network = student()
    teacher = Teacher(network, 0.6)
    seen = follow(teacher, network, range(8))
    # 1 - 1/(t+1) is 0, 1/2, 2/3, ...: the mean of two students, then α = 0.6.
    for name, value in weights(teacher.network).items():
        expected = (seen[0][name] + seen[1][name]) / 2
        for old in seen[2:]:
            expected = 0.6 * expected + 0.4 * old[name]
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)


def test_late_in_a_run_a_momentum_of_one_all_but_keeps_it():
    network = student()
    teacher = Teacher(network, 1.0)
    before = weights(teacher.network)
    follow(teacher, network, [10**9])
    for name, value in weights(teacher.network).items():
        torch.testing.assert_close(value, before[name], rtol=1e-7, atol=1e-8)


def test_the_average_of_a_constant_is_the_constant():
    network = student()
    teacher = Teacher(network, 0.9)
    for step in range(5):
        teacher.update(network, step)
    for name, value in weights(network).items():
        torch.testing.assert_close(weights(teacher.network)[name], value, rtol=1e-14, atol=0)


def test_after_the_first_step_its_statistics_are_its_own():
    network = student()
    teacher = Teacher(network, 0.9)
    found = dict(teacher.network.named_buffers())
    assert found
    for step in range(4):
        stir(network, seed=step)
        network(images(seed=step) * 3 + 1)
        before = {name: value.clone() for name, value in found.items()}
        teacher.update(network, step)
        expected = dict(network.named_buffers()) if step == 0 else before
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_in_training_it_normalises_by_the_batch_and_keeps_statistics_for_later():
    network = student()
    teacher = Teacher(network, 0.9).train()
    stir(teacher)
    twin = copy.deepcopy(teacher.network)
    expected = twin.train()(images()).detach()
    torch.testing.assert_close(teacher(images()), expected, rtol=1e-12, atol=1e-14)
    # Its running statistics took that batch in, and it alone uses them.
    states = teacher.network.state_dict()
    assert all(torch.equal(value, states[name]) for name, value in twin.state_dict().items())
    before = copy.deepcopy(network.state_dict())
    teacher(images() * 2 + 1)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    teacher.eval()
    joined = teacher(images())
    torch.testing.assert_close(joined[1:2], teacher(images()[1:2]), rtol=1e-10, atol=1e-12)


def test_an_average_of_weights_does_not_make_its_maps_small():
    # Students that differ at random: their average is shorter than each of them, and the student's statistics would
    # shrink what comes out layer by layer.
    network = student()
    teacher = Teacher(network, 1.0).train()
    start = copy.deepcopy(network.state_dict())
    for step in range(30):
        network.load_state_dict(start)
        with torch.no_grad():
            for name, tensor in network.named_parameters():
                if tensor.dim() > 1 and not name.startswith("classifier"):
                    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(step)).to(tensor)
                    tensor.add_(noise * tensor.std())
        teacher.update(network, step)
    network.load_state_dict(start)
    network.train()
    ratio = float(teacher(images(8)).std() / network(images(8)).detach().std())
    assert 0.8 < ratio < 1.25


def test_no_gradient_enters_it_or_leaves_it():
    teacher = Teacher(student(), 0.9)
    assert not any(tensor.requires_grad for tensor in teacher.parameters())
    assert not teacher(images().requires_grad_()).requires_grad


def test_what_it_gives_is_in_full_precision():
    teacher = Teacher(student().float(), 0.9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert teacher(images().float()).dtype == torch.float32
    assert Teacher(student(), 0.9)(images()).dtype == torch.float64


def test_the_regimes_with_a_teacher_are_known():
    assert {"mean_teacher", "ua_mt", "ict", "bcp"} <= set(TAUGHT)


@pytest.mark.parametrize("name", TAUGHT)
class TestRegimesWithATeacher:
    def test_both_networks_start_with_the_weights_they_are_given(self, name):
        torch.manual_seed(0)
        network = UNet(TINY, classes=3)
        stir(network.encoder)
        regime = load_plugin("fewlabel.regimes", name)(
            resolve_plugin("fewlabel.regimes", name), network, pretrained=True
        )
        theirs = network.state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in regime.teacher.network.state_dict().items())

    def test_it_follows_after_every_step_with_its_momentum(self, name):
        regime = tiny(name, momentum=0.25, rest=0.0)
        expected = None
        for step in range(5):
            stir(regime.network, seed=step)
            regime.after_step(step, 20)
            now = weights(regime.network)
            share = min(1 - 1 / (step + 1), 0.25)
            expected = now if expected is None else {key: share * expected[key] + (1 - share) * now[key] for key in now}
        for key, value in weights(regime.teacher.network).items():
            torch.testing.assert_close(value, expected[key], rtol=1e-12, atol=1e-14)

    def test_the_student_predicts_unless_the_teacher_is_asked_for(self, name):
        regime = tiny(name)
        assert regime.inference_network() is regime.network
        other = tiny(name, predict="teacher")
        assert other.inference_network() is other.teacher.network

    def test_a_network_of_another_kind_is_refused(self, name):
        regime = tiny(name)
        regime.network = torch.nn.Identity()
        with pytest.raises(TypeError, match="averages the network"):
            regime.inference_network()


@pytest.mark.parametrize("name", TAUGHT)
def test_a_teacher_that_sees_nothing_has_the_statistics_of_its_student(name):
    # They are what a kept teacher predicts with (predict=teacher).
    regime = tiny(name, unlabelled_weight=0.0, momentum=0.9)
    for step in range(TOTAL - 4, TOTAL):
        stir(regime.network, seed=step)
        regime.losses(tiny_batch(regime, step=step))
        regime.after_step(step, TOTAL)
    theirs = dict(regime.teacher.network.named_buffers())
    assert theirs
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in regime.network.named_buffers())
    assert not torch.equal(regime.network.classifier.weight, regime.teacher.network.classifier.weight)


@pytest.mark.parametrize("name", TAUGHT)
def test_a_teacher_that_sees_slices_has_statistics_of_its_own(name):
    regime = tiny(name, momentum=0.9)
    for step in (TOTAL - 3, TOTAL - 2, TOTAL - 1):
        stir(regime.network, seed=step)
        regime.losses(tiny_batch(regime, step=step))
        regime.after_step(step, TOTAL)
    theirs = dict(regime.teacher.network.named_buffers())
    assert any(not torch.equal(tensor, theirs[key]) for key, tensor in regime.network.named_buffers())
