"""What ARCO remembers and measures: banks by class, absent classes, hard queries, variances."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kit.anatomical import ALONE, EARLY, LATE, apart, arco, batch_of, expected_contrast, middle, seen_by, value
from kit.finetuning import TOTAL, trainable

# --- absent classes, banks, figures ----------------------------------------------------------------------------------


def test_a_class_absent_from_the_batch_changes_nothing_for_the_others():
    regime = arco(**ALONE, pixel_confidence=1.5)
    batch = batch_of(regime)
    labels = torch.where(batch.labels == 1, 255, batch.labels)
    expected, _ = expected_contrast(regime, replace(batch, labels=labels, generator=batch_of(regime).generator))
    found = value(regime.losses(replace(batch_of(regime), labels=labels)), "contrast")
    assert found == pytest.approx(float(expected.detach()), rel=1e-10)
    regime.after_step(LATE, TOTAL)
    assert regime.embedding.contrast.banks.filled.tolist() == [7, 0, 7, 7]


def test_one_class_alone_has_no_negatives_and_costs_nothing():
    regime = arco(**ALONE, pixel_confidence=1.5)
    batch = batch_of(regime)
    terms = regime.losses(replace(batch, labels=torch.zeros_like(batch.labels)))
    assert value(terms, "contrast") == 0
    assert regime.metrics()["negatives/0"] == 0
    regime.after_step(LATE, TOTAL)
    # Its keys were kept: the next class to come meets them.
    assert regime.metrics()["negatives/1"] == 7
    assert regime.embedding.contrast.banks.filled.tolist() == [7, 0, 0, 0]


def test_banks_fill_with_other_class_negatives_up_to_their_bound():
    regime = arco(**ALONE)
    seen = []
    for step in range(6):
        regime.losses(batch_of(regime, step, seed=step))
        figures = regime.metrics()
        seen.append([figures[f"negatives/{c}"] for c in range(4)])
        before = figures["bank_bytes"]
        regime.after_step(step, TOTAL)
        assert regime.metrics()["bank_bytes"] == before == regime.bank_bytes
    assert min(seen[0]) >= 7
    assert all(
        a >= b for later, earlier in zip(seen[1:], seen, strict=False) for a, b in zip(later, earlier, strict=True)
    )
    assert max(seen[-1]) <= 3 * (20 + 7)
    assert regime.bank_bytes == (4 * 20 * 6 + 5 * 6) * 8


def test_queries_below_a_probability_alone_are_hard():
    regime = apart(arco(**ALONE, hard=0.3))
    student, _, _, _ = seen_by(regime, batch_of(regime))
    labels = middle(batch_of(regime).labels, 8)
    probabilities = student.logits[:2].softmax(1)
    own = torch.zeros(labels.shape, dtype=torch.float64)
    for c in range(4):
        own = torch.where(labels == c, middle(probabilities[:, c], 8), own)
    caught = {}
    contrast = regime.embedding.contrast
    inner = contrast.loss
    contrast.loss = lambda *given: caught.update(queries=given[2], keys=given[3]) or inner(*given)
    regime.losses(batch_of(regime))
    assert torch.equal(caught["queries"][:2], torch.where(own < 0.3, labels, 255))
    assert torch.equal(caught["keys"][:2], labels)
    assert 0 < int((caught["queries"] != 255).sum()) < int((caught["keys"] != 255).sum())


# --- measurement -----------------------------------------------------------------------------------------------------


def test_variances_are_figures_of_every_so_many_steps():
    regime = arco(**ALONE, diagnose_every=3)
    for step in (12, 13, 15):
        regime.losses(batch_of(regime, step))
        measured = {name for name in regime.metrics() if name.startswith("variance/")}
        assert measured == ({"variance/ns", "variance/sg", "variance/sag"} if step % 3 == 0 else set())
        assert all(regime.metrics()[name] > 0 for name in measured)
    silent = arco(**ALONE, diagnose_every=0)
    silent.losses(batch_of(silent, 0))
    assert not any(name.startswith("variance/") for name in silent.metrics())


def test_measuring_changes_no_number_of_the_training():
    runs = []
    for every in (0, 1):
        regime = arco(diagnose_every=every)
        found = []
        for step in (EARLY, LATE, LATE + 1):
            batch = batch_of(regime, step, seed=step)
            loss = torch.stack(list(regime.losses(batch).values())).sum()
            found += [loss.detach(), *torch.autograd.grad(loss, [*trainable(regime).values()], materialize_grads=True)]
            found.append(torch.rand(2, generator=batch.generator))
            regime.after_step(step, TOTAL)
        runs.append([*found, *regime.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
