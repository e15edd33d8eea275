"""Two processes with different slices give the loss and the gradient of one process with all of them."""

from __future__ import annotations

import pytest
import torch

from fewlabel.core.collective import average_gradients, rank, world_size
from fewlabel.core.plugin_discovery import plugin_names
from fewlabel.nets.unet import UNetConfig
from kit.pretraining import TOTAL, batch_for, rows_of, stage_steps, toy_method, trainable
from kit.ranks import run_ranks

SLICES = 8
NORMS = ("batch", "instance")


def cases():
    found = [(name, {}) for name in plugin_names("fewlabel.methods")]
    return [
        *found,
        ("gcl", {"filter_path": "embedding", "anchors": 5, "partners": 2}),
        ("gcl", {"filter": False}),
        ("sscl", {"variant": "paper", "sampling": "block", "block": 12}),
        ("sscl", {"variant": "paper", "per_class": 9}),
        ("sscl", {"sampling": "stride", "stride": 5}),
        ("jigsaw", {"form": "permutation", "permutations": 6}),
        ("jigsaw", {"negatives": 5, "contrast": "info_nce"}),
        ("inpainting", {"region": "centre"}),
    ]


def step(name, settings, norm):
    """Loss of each term and its gradients averaged over ranks, for this rank's part of the joined batch."""
    network = UNetConfig(width=4, depth=3, norm=norm)
    method = toy_method(name, network=network, dtype=torch.float64, **settings).train()
    found = {}
    for stage in stage_steps(method):
        found |= {f"{stage}/{key}": value for key, value in one_step(method, max(stage, min(2, TOTAL))).items()}
    return found


def one_step(method, number):
    """Losses and gradients of one step, and what memories hold after it."""
    batch = rows_of(batch_for(method, number, dtype=torch.float64), rank(), world_size())
    losses = method.losses(batch)
    parameters = list(trainable(method).values())
    found = {
        "embeddings": losses.embeddings,
        "views": torch.tensor(len(losses.embeddings) // len(batch.slices)),
        "bounds": torch.tensor([losses.collapsed or 0.0, losses.lower_bound or 0.0]),
        "next": torch.rand(3, generator=batch.generator),
    }
    for term, loss in losses.terms.items():
        gradients = [
            g.clone() for g in torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        ]
        average_gradients(gradients)
        found[f"loss/{term}"] = loss.detach()
        found.update({f"{term}/{index}": gradient for index, gradient in enumerate(gradients)})
    method.after_step(number, TOTAL)
    found.update({f"buffer/{key}": value.double() for key, value in method.named_buffers()})
    return found


def every_step():
    return {
        f"{index}/{norm}/{key}": value
        for index, (name, settings) in enumerate(cases())
        for norm in NORMS
        for key, value in step(name, settings, norm).items()
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    ranks = run_ranks(tmp_path_factory.mktemp("ranks"), every_step)
    return every_step(), ranks


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("index", range(len(cases())), ids=lambda index: str(cases()[index]))
def test_two_ranks_equal_one(results, index, norm):
    one, ranks = results
    prefix = f"{index}/{norm}/"
    tolerance = {"rtol": 1e-9, "atol": 1e-11}
    keys = [key for key in one if key.startswith(prefix)]
    assert any("/loss/" in key for key in keys)
    for key in keys:
        parts = [found[key] for found in ranks]
        if key.endswith("embeddings"):
            # Two views of this rank's slices, or one row per slice.
            views = int(one[key.replace("embeddings", "views")])
            halves = [part.view(views, len(part) // views, -1) for part in parts]
            torch.testing.assert_close(torch.cat(halves, dim=1).flatten(0, 1), one[key], **tolerance)
        elif "/loss/" in key:
            torch.testing.assert_close(sum(parts) / 2, one[key], **tolerance)
        else:
            torch.testing.assert_close(parts[0], parts[1], rtol=0, atol=0)
            torch.testing.assert_close(parts[0], one[key], **tolerance)
