"""SSCL where one process has anchors and the other has none."""

from __future__ import annotations

import dataclasses
import itertools

import torch

from fewlabel.core.collective import average_gradients, rank, world_size
from fewlabel.nets.unet import UNetConfig
from kit.pretraining import rows_of, toy_batch, toy_method
from kit.ranks import run_ranks

SIZE = (8, 8)


def one_sided(form, sampling):
    """Loss and gradients averaged over ranks, of a batch whose last half shows background alone."""
    masks = torch.zeros(2, *SIZE, dtype=torch.int64)
    masks[0, :3, :3], masks[0, 4:7, 4:7] = 1, 2
    batch = toy_batch(2, step=15, size=SIZE, dtype=torch.float64)
    batch = rows_of(dataclasses.replace(batch, masks=(masks, masks)), rank(), world_size())
    settings = {"variant": form, "sampling": sampling, "stride": 2, "block": 4, "per_class": 4}
    network = UNetConfig(width=4, depth=2)
    method = toy_method("sscl", size=SIZE, network=network, dtype=torch.float64, **settings).train()
    losses = method.losses(batch)
    parameters = [*method.encoder.parameters(), *method.decoder.parameters(), *method.local_head.parameters()]
    gradients = list(torch.autograd.grad(losses.terms["pixels"], parameters, materialize_grads=True))
    average_gradients(gradients)
    return [losses.terms["pixels"].detach(), torch.tensor(losses.scalars["anchors"]), *gradients]


def every_form():
    cases = itertools.product(("code", "paper"), ("per_class", "stride", "block"))
    return {case: one_sided(*case) for case in cases}


def test_a_rank_without_an_anchor_takes_part(tmp_path):
    one, ranks = every_form(), run_ranks(tmp_path, every_form)
    for case, (loss, *rest) in one.items():
        parts = [found[case] for found in ranks]
        torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, loss, rtol=1e-9, atol=1e-11)
        for index, value in enumerate(rest, start=1):
            assert torch.equal(parts[0][index], parts[1][index])
            torch.testing.assert_close(parts[0][index], value, rtol=1e-9, atol=1e-11)
