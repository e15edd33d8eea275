"""MONA is a choice of settings of ARCO's parts: which, and that they act."""

from __future__ import annotations

import torch

from fewlabel.nets.unet import UNetConfig
from fewlabel.objectives.affine_equivariance import equivariance, random_warps, warp_images
from fewlabel.regimes.arco.stream_rows import Mixture
from kit.finetuning import TOTAL, build, toy_batch
from kit.tiny_regimes import stir

#: For the contract suite: settings under which unlabelled slices act on an untrained network, which is sure of nothing.
CONTRACT = {"acting": {"pixel_confidence": 0.0, "confidence": 0.0}}

NETWORK = UNetConfig(width=4, depth=3)
SMALL = {"dim": 6, "queries": 9, "negatives": 11, "bank": 20, "stride": 2}


def make(name, **settings):
    return build(name, network=NETWORK, dtype=torch.float64, **SMALL | settings).train()


def batch_of(regime, step=15):
    return toy_batch(regime, step=step, labelled=2, unlabelled=3, dtype=torch.float64, size=(16, 16), seed=3)


def test_it_is_arco_with_these_settings():
    mona, arco = make("mona"), make("arco", sampling="ns", eqv_weight=1.0, mix="cutmix")
    assert mona.settings.model_dump(exclude={"name"}) == arco.settings.model_dump(exclude={"name"})
    for step, names in ((0, {"global", "local"}), (15, {"contrast", "unsup", "nn", "eqv"})):
        first, second = mona.losses(batch_of(mona, step)), arco.losses(batch_of(arco, step))
        assert set(first) == {"ce", "dice", *names}
        assert all(torch.equal(first[key], second[key]) for key in first)
        mona.after_step(step, TOTAL)
        arco.after_step(step, TOTAL)


def test_student_and_teacher_see_the_same_mixture_and_the_warped_slices_pass_with_the_others():
    mona = make("mona", eqv_confidence=0.3)
    stir(mona.teacher)
    seen = {"student": [], "teacher": []}
    mona.network.encoder.register_forward_pre_hook(lambda module, inputs: seen["student"].append(inputs[0]))
    mona.teacher.network.encoder.register_forward_pre_hook(lambda module, inputs: seen["teacher"].append(inputs[0]))
    logits = []
    mona.network.classifier.register_forward_hook(lambda module, inputs, output: logits.append(output))
    batch = batch_of(mona)
    terms = mona.losses(batch)
    (images,) = seen["student"]
    plain, mixed = seen["teacher"]
    assert torch.equal(plain, batch.unlabelled_again[0])
    # Draws in their order: the mixture, then the warps.
    generator = batch_of(mona).generator
    with torch.no_grad():
        pseudo = mona.teacher(batch.unlabelled_again[0]).argmax(1)
    mixture = Mixture("cutmix", pseudo, 4, generator)
    warps = random_warps(3, (16, 16), generator)
    cut = mixture(batch.unlabelled)
    assert torch.equal(images, torch.cat([batch.images, cut, warp_images(cut, warps)]))
    assert torch.equal(mixed, torch.cat([batch.images, mixture(batch.unlabelled_again[0])]))
    expected = equivariance(logits[0][2:5], logits[0][5:], warps, 0.3)
    torch.testing.assert_close(terms["eqv"], expected, rtol=1e-12, atol=0)
    assert float(expected.detach()) > 0
