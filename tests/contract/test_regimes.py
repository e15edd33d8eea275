"""What every regime must do, run over all that are discovered."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.core.settings.describe import describe
from fewlabel.nets.unet import UNet, UNetConfig, UNetEncoder
from fewlabel.regimes.supervised_loss import SupervisedSettings, supervised_terms
from fewlabel.stages.finetune.trainer import train_mode
from kit.contract import said_for_contract
from kit.finetuning import FAMILY, SIZE, TOTAL, build, toy_batch, toy_volumes, train, trainable

REGIMES = plugin_names(FAMILY)
#: Early, while an unlabelled part may rest, and late, when it counts.
STEPS = (0, 15)


#: What a regime's own test file says: ``acting``, settings under which unlabelled slices act on an untrained network,
#: and ``own_supervision``, whether labelled slices alone decide the terms that are ``KNOWN``.
SAID = {name: said_for_contract(FAMILY, name) for name in REGIMES}
KNOWN = {"ce", "dice", "sdf", "ce_second", "dice_second"}
TWO_STREAMS = [
    name for name in REGIMES if load_plugin(FAMILY, name).uses_unlabelled and SAID[name].get("own_supervision", True)
]


def total(terms):
    return torch.stack(list(terms.values())).sum()


def with_others(regime, step, seed):
    """The toy batch with the unlabelled slices of another one."""
    batch, other = toy_batch(regime, step=step), toy_batch(regime, step=step, seed=seed)
    return replace(batch, unlabelled=other.unlabelled, unlabelled_again=other.unlabelled_again)


def supervised_loss(regime, batch):
    with torch.no_grad():
        logits = regime.inference_network()(batch.images)
        return float(total(supervised_terms(SupervisedSettings(), logits, batch.labels)))


def test_there_are_regimes():
    assert "supervised" in REGIMES


def test_what_tests_say_is_known_here():
    assert {key for said in SAID.values() for key in said} == {"acting", "own_supervision"}


@pytest.mark.parametrize("name", REGIMES)
class TestEveryRegime:
    def test_default_settings_build_and_are_documented(self, name):
        regime = build(name)
        assert regime.settings.name == name
        assert all(row["doc"] for row in describe(type(regime.settings)) if row["key"] != "name")

    def test_an_unknown_key_is_refused_with_the_near_match(self, name):
        keys = [key for key in load_plugin(FAMILY, name).Config.model_fields if key != "name"]
        for key in keys:
            with pytest.raises(SettingsError, match=f"Did you mean {key}"):
                resolve_plugin(FAMILY, {"name": name, f"{key}x": 1})

    def test_docstring_and_paper_name_the_source(self, name):
        plugin = load_plugin(FAMILY, name)
        assert any(character.isdigit() for character in plugin.__doc__), "the docstring names a year"
        assert any(character.isdigit() for character in plugin.paper)

    @pytest.mark.parametrize("autocast", [False, True])
    def test_losses_are_finite_float32_scalars(self, name, autocast):
        regime = build(name)
        for step in STEPS:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                terms = regime.losses(toy_batch(regime, step=step))
            assert terms
            for term in terms.values():
                assert term.shape == ()
                assert term.dtype == torch.float32
                assert bool(torch.isfinite(term))
            assert all(isinstance(value, float) for value in regime.metrics().values())
            regime.after_step(step, TOTAL)

    def test_gradient_reaches_every_trainable_tensor(self, name):
        regime = build(name)
        reached = set()
        for step in (*STEPS, TOTAL - 1):
            regime.zero_grad()
            total(regime.losses(toy_batch(regime, step=step))).backward()
            for key, tensor in regime.named_parameters():
                if tensor.requires_grad and tensor.grad is not None and bool(tensor.grad.abs().sum() > 0):
                    reached.add(key)
                assert tensor.requires_grad or tensor.grad is None, key
            regime.after_step(step, TOTAL)
        assert reached == set(trainable(regime))

    def test_a_frozen_encoder_keeps_its_statistics_in_the_teacher_too(self, name):
        # A teacher's encoder is the same, and must say the same.
        regime = build(name, pretrained=True)
        encoders = [module for module in regime.modules() if isinstance(module, UNetEncoder)]
        with torch.no_grad():
            for key, tensor in encoders[0].named_buffers():
                moved = tensor + 1
                for encoder in encoders:
                    encoder.get_buffer(key).copy_(moved)
        train_mode(regime, frozen=True)
        for step in (*STEPS, TOTAL - 1):
            regime.losses(toy_batch(regime, step=step))
            regime.after_step(step, TOTAL)
        for key, tensor in regime.network.encoder.named_buffers():
            assert all(torch.equal(tensor, encoder.get_buffer(key)) for encoder in encoders), key
        assert all(not module.training for encoder in encoders for module in encoder.modules())
        assert regime.network.decoder.training
        train_mode(regime, frozen=False)
        assert all(module.training for module in regime.modules())

    def test_a_frozen_encoder_gets_no_gradient_and_the_rest_does(self, name):
        regime = build(name, pretrained=True)
        for encoder in regime.encoders():
            encoder.requires_grad_(requires_grad=False)
        for step in (*STEPS, TOTAL - 1):
            total(regime.losses(toy_batch(regime, step=step))).backward()
            regime.after_step(step, TOTAL)
        assert all(tensor.grad is None for encoder in regime.encoders() for tensor in encoder.parameters())
        assert all(tensor.grad is not None for tensor in trainable(regime).values())

    def test_twenty_steps_lower_the_supervised_loss(self, name):
        regime = build(name)
        optimiser = torch.optim.Adam(trainable(regime).values(), lr=3e-3)
        before = supervised_loss(regime, toy_batch())
        for step in range(TOTAL):
            loss = total(regime.losses(toy_batch(regime, step=step)))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            regime.after_step(step, TOTAL)
        assert supervised_loss(regime, toy_batch()) < 0.9 * before

    def test_losses_depend_on_the_batch_and_its_generator_alone(self, name):
        first, second = build(name), build(name)
        for step in STEPS:
            torch.manual_seed(1)
            a = first.losses(toy_batch(first, step=step))
            torch.manual_seed(2)
            b = second.losses(toy_batch(second, step=step))
            assert all(torch.equal(a[key], b[key]) for key in a)

    def test_slices_without_any_label_do_no_harm(self, name):
        for step in STEPS:
            regime = build(name)
            batch = toy_batch(regime, step=step)
            loss = total(regime.losses(replace(batch, labels=torch.full_like(batch.labels, 255))))
            assert bool(torch.isfinite(loss))
            loss.backward()
            assert all(bool(torch.isfinite(t.grad).all()) for t in trainable(regime).values() if t.grad is not None)
            if not regime.uses_unlabelled:
                assert float(loss.detach()) == 0

    @pytest.mark.parametrize(("labelled", "unlabelled"), [(4, 0), (0, 4)])
    def test_a_batch_of_one_stream_does_not_crash(self, name, labelled, unlabelled):
        regime = build(name)
        if labelled == 0 and not regime.uses_unlabelled:
            pytest.skip("there would be nothing to train on")
        loss = total(regime.losses(toy_batch(regime, step=15, labelled=labelled, unlabelled=unlabelled)))
        assert bool(torch.isfinite(loss))
        loss.backward()
        regime.after_step(15, TOTAL)

    def test_unlabelled_slices_change_the_loss_if_and_only_if_they_are_asked_for(self, name):
        values = []
        for seed in (0, 5):
            regime = build(name, **SAID[name].get("acting", {}))
            terms = regime.losses(with_others(regime, 15, seed))
            values.append({key: float(term.detach()) for key, term in terms.items()})
        assert (values[0] != values[1]) == build(name).uses_unlabelled

    def test_stages_follow_each_other_and_fill_the_run(self, name):
        regime = build(name)
        found = [regime.training_phase(step, TOTAL) for step in range(TOTAL)]
        for step, (first, length) in enumerate(found):
            assert first <= step < first + length <= TOTAL
        assert sum(length for _, length in dict.fromkeys(found)) == TOTAL

    @pytest.mark.parametrize("pretrained", [False, True])
    def test_stages_that_are_told_before_it_is_built_are_those_of_the_run(self, name, pretrained):
        regime = build(name, pretrained=pretrained)
        for steps in (1, 3, TOTAL, 1001):
            lengths = type(regime).phase_lengths(regime.settings, steps, pretrained=pretrained)
            assert min(lengths) >= 1
            assert sum(lengths) == steps
            begun = 0
            for length in lengths:
                assert {regime.training_phase(step, steps) for step in (begun, begun + length - 1)} == {(begun, length)}
                begun += length

    @pytest.mark.parametrize("depth", [2, 3, 5])
    def test_it_is_built_where_it_finds_no_fault_and_refused_with_those_it_finds(self, name, depth):
        network = UNetConfig(width=4, depth=depth)
        faults = load_plugin(FAMILY, name).faults(resolve_plugin(FAMILY, {"name": name}), network)
        if not faults:
            build(name, network=network)
            return
        with pytest.raises(SettingsError) as caught:
            build(name, network=network)
        assert caught.value.faults == tuple(faults)

    def test_neutral_settings_are_supervised_training_exactly(self, name):
        supervised_when = dict(load_plugin(FAMILY, name).supervised_when)
        plain, other = build("supervised"), build(name, **supervised_when)
        other.network.load_state_dict(plain.network.state_dict())
        train(plain, 3, first=14)
        train(other, 3, first=14)
        expected, found = plain.network.state_dict(), other.network.state_dict()
        assert all(torch.equal(expected[key], found[key]) for key in expected)

    def test_saved_and_restored_it_goes_on_the_same(self, name):
        first, second = build(name), build(name, seed=5)
        train(first, 3, first=12)
        second.load_state_dict(first.state_dict(), strict=True)
        assert train(first, 2, first=15) == train(second, 2, first=15)
        state = second.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in first.state_dict().items())

    def test_volumes_work_where_they_are_said_to(self, name):
        if not load_plugin(FAMILY, name).supports_3d:
            pytest.skip("slices only")
        regime = build(name, network=UNetConfig(width=4, depth=3, ndim=3))
        for step in STEPS:
            loss = total(regime.losses(toy_volumes(regime, step=step)))
            assert bool(torch.isfinite(loss))
            loss.backward()
            regime.after_step(step, TOTAL)

    def test_it_gives_a_network_that_predicts(self, name):
        regime = build(name)
        network = regime.inference_network()
        assert isinstance(network, UNet)
        assert network.eval()(torch.zeros(1, 1, *SIZE)).shape == (1, 4, *SIZE)
        assert all(encoder in list(regime.modules()) for encoder in regime.encoders())


def known_terms(name, step, seed, **settings):
    """What labelled slices say, beside the unlabelled slices of a seed."""
    regime = build(name, **settings)
    terms = regime.losses(with_others(regime, step, seed))
    return {key: float(term.detach()) for key, term in terms.items() if key in KNOWN}


@pytest.mark.parametrize("step", [*STEPS, TOTAL - 1])
@pytest.mark.parametrize("name", TWO_STREAMS)
def test_supervision_does_not_depend_on_unlabelled_slices(name, step):
    expected = known_terms(name, step, 0)
    assert {"ce", "dice"} <= set(expected)
    assert known_terms(name, step, 5) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", TWO_STREAMS)
def test_with_joint_statistics_it_does(name):
    found, other = (known_terms(name, TOTAL - 1, seed, joint=True) for seed in (0, 5))
    assert found != pytest.approx(other, rel=1e-6)
