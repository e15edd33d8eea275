"""Two processes with different slices give the losses and gradients of one process with all of them."""

from __future__ import annotations

import pytest
import torch

from fewlabel.core.collective import average_gradients, rank, world_size
from fewlabel.core.plugin_discovery import plugin_names
from fewlabel.nets.unet import UNetConfig
from kit.finetuning import FAMILY, TOTAL, build, rows_of, toy_batch, trainable
from kit.ranks import run_ranks

#: One step before an unlabelled part counts, two when it does: the second meets what the first left behind.
STEPS = (0, 14, 15)
#: Every regime as it is, and what comes beside pseudo-labels.
CASES = {name: (name, {}) for name in plugin_names(FAMILY)} | {
    "fixmatch, slices": ("fixmatch", {"contrast": 0.5, "contrast_labels": ("position", "phase")}),
    "unimatch, pixels": ("unimatch", {"contrast": 0.5, "contrast_of": "pixels", "threshold": 0.3}),
}


def steps(name, settings):
    """Losses, averaged gradients and the state after three steps, for this rank's part of the joined batches."""
    regime = build(name, network=UNetConfig(width=4, depth=3), dtype=torch.float64, **settings).train()
    found = {}
    for step in STEPS:
        batch = rows_of(toy_batch(regime, step=step, dtype=torch.float64), rank(), world_size())
        terms = regime.losses(batch)
        parameters = list(trainable(regime).values())
        total = torch.stack(list(terms.values())).sum()
        gradients = [g.clone() for g in torch.autograd.grad(total, parameters, materialize_grads=True)]
        average_gradients(gradients)
        found |= {f"{step}/loss/{key}": term.detach() for key, term in terms.items()}
        found |= {f"{step}/gradient/{index}": gradient for index, gradient in enumerate(gradients)}
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(0.05 * gradient)
        regime.after_step(step, TOTAL)
        found[f"{step}/next"] = torch.rand(3, generator=batch.generator)
    return found | {f"state/{key}": value.double() for key, value in regime.state_dict().items()}


def every_regime():
    return {f"{case}/{key}": value for case, given in CASES.items() for key, value in steps(*given).items()}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    ranks = run_ranks(tmp_path_factory.mktemp("ranks"), every_regime)
    return every_regime(), ranks


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one(results, case):
    one, ranks = results
    keys = [key for key in one if key.startswith(f"{case}/")]
    assert any("/loss/" in key for key in keys)
    for key in keys:
        parts = [found[key] for found in ranks]
        if "/loss/" in key:
            torch.testing.assert_close(sum(parts) / 2, one[key], rtol=1e-9, atol=1e-11)
        else:
            torch.testing.assert_close(parts[0], parts[1], rtol=0, atol=0)
            torch.testing.assert_close(parts[0], one[key], rtol=1e-8, atol=1e-10)
