"""Two processes do with the supervised weights what one process does, whatever their own slices show."""

from __future__ import annotations

import torch

from fewlabel.core.collective import average_gradients, rank, world_size
from fewlabel.nets.unet import UNetConfig
from fewlabel.regimes import weak_to_strong as _weak_to_strong
from kit.finetuning import TOTAL, build, rows_of, toy_batch, trainable
from kit.ranks import run_ranks


def guarded():
    """State after steps with a return, for this rank's part of the joined batches."""
    _weak_to_strong.PATIENCE = 2
    regime = build("fixmatch", network=UNetConfig(width=4, depth=2), dtype=torch.float64, threshold=0.3, rest=0.45)
    # Every class that changes at all is out, at once.
    regime.shares.settle, regime.shares.factor = 1, 1.0001
    for step in range(8, 14):
        batch = rows_of(toy_batch(regime, step=step, dtype=torch.float64), rank(), world_size())
        loss = torch.stack(list(regime.losses(batch).values())).sum()
        parameters = list(trainable(regime).values())
        gradients = [g.clone() for g in torch.autograd.grad(loss, parameters, materialize_grads=True)]
        average_gradients(gradients)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(0.05 * gradient)
        regime.after_step(step, TOTAL)
    return {key: value.double() for key, value in regime.state_dict().items()}


def test_two_ranks_return_as_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(_weak_to_strong, "PATIENCE", 2)
    one, ranks = guarded(), run_ranks(tmp_path, guarded)
    assert float(one["returns"]) == 1
    for found in ranks:
        for key, value in one.items():
            torch.testing.assert_close(found[key], value, rtol=1e-8, atol=1e-10)


def without_a_class():
    """What is left to do after the guard has settled, where no labelled slice shows class 3."""
    regime = build("fixmatch", network=UNetConfig(width=4, depth=2), dtype=torch.float64, rest=0.45)
    regime.meet_labels(torch.tensor([900, 50, 50, 0]))
    found = {}
    for name, lost in (("of_the_labels", 2), ("of_none", 3)):
        regime.shares.restart()
        for _ in range(20):
            # Of the classes the first process has rows of one half, the second of the other.
            joined = torch.tensor([0, 0, 1, 2, 3, 3]).where(torch.tensor([0, 0, 1, 2, 3, 3]) != lost, 0).view(6, 1, 1)
            share = 6 // world_size()
            regime.shares.update(joined[rank() * share : (rank() + 1) * share])
        found[name] = regime.shares.absent.double()
    return found


def test_two_ranks_expect_the_classes_of_all_labels(tmp_path):
    one, ranks = without_a_class(), run_ranks(tmp_path, without_a_class)
    assert one["of_the_labels"].tolist() == [0, 0, 1, 0]
    assert one["of_none"].tolist() == [0, 0, 0, 0]
    for found in ranks:
        assert all(torch.equal(found[key], one[key]) for key in one)
