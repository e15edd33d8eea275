"""UniMatch: its three streams by the formula, dropped channels, golden values."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.objectives.feature_perturbation import channel_factors
from fewlabel.objectives.segmentation import cross_entropy, soft_dice_loss
from fewlabel.regimes.weak_to_strong import Pseudo
from kit.tiny_regimes import apart, stir, supervised, tiny, tiny_batch

#: Cross-entropy, Dice and the pseudo-label part of the example below.
GOLDEN = (1.33299703096, 0.886397981941, 1.80420827391)
LATE = 15


def strong(logits, labels):
    return (labels != 255).double().mean() * cross_entropy(logits, labels) + soft_dice_loss(logits, labels)


def expected(regime, batch, again, share=0.5):
    """Supervised terms and the weighted sum of the three streams, of one plain pass with channels dropped by hand."""
    confidence, labels = copy.deepcopy(regime.teacher.network)(batch.unlabelled).softmax(dim=1).max(dim=1)
    pseudo = Pseudo(labels.masked_fill(confidence < regime.settings.threshold, 255))
    mixed = [regime.mixed(view, pseudo, again) for view in again.unlabelled_again]
    network, count, others = copy.deepcopy(regime.network), len(batch.images), len(batch.unlabelled)
    maps = network.encoder(torch.cat([batch.images, mixed[0][0], mixed[1][0], batch.unlabelled]))
    for part in maps:
        factors = channel_factors([others], part.shape[1], share, again.generator)
        for row, channel in (factors != 1).nonzero().tolist():
            part[part.shape[0] - others + row, channel] *= float(factors[row, channel])
    logits = network.classifier(network.decoder(maps)[-1])
    own, one, two, third = torch.split(logits, [count, others, others, others])
    parts = strong(one, mixed[0][1]), strong(two, mixed[1][1]), strong(third, pseudo.labels)
    return supervised(own, batch.labels), 0.25 * parts[0] + 0.25 * parts[1] + 0.5 * parts[2]


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_terms_are_those_of_the_formula(share):
    regime = apart(tiny("unimatch", threshold=0.6, drop=share))
    batch, again = (tiny_batch(regime, step=LATE) for _ in range(2))
    known, loss = expected(regime, batch, again, share)
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "pseudo"}
    for key, value in known.items():
        torch.testing.assert_close(terms[key], value, rtol=1e-11, atol=0)
    torch.testing.assert_close(terms["pseudo"], regime.weight(LATE, 20) * loss, rtol=1e-11, atol=0)
    assert regime.metrics()["pseudo"] == pytest.approx(float(loss.detach()), rel=1e-11)
    assert torch.equal(batch.generator.get_state(), again.generator.get_state())


def test_golden_values():
    regime = apart(tiny("unimatch", threshold=0.6))
    terms = regime.losses(tiny_batch(regime, step=LATE))
    assert [float(terms[name].detach()) for name in ("ce", "dice", "pseudo")] == pytest.approx(GOLDEN, rel=1e-6)


def streams_of(regime, batch):
    """Logits and labels of the three unlabelled streams."""
    seen = []
    original = regime.strong_loss
    regime.strong_loss = lambda logits, labels: seen.append((logits, labels)) or original(logits, labels)
    regime.losses(batch)
    return seen


def test_without_dropped_channels_the_third_stream_is_the_plain_weak_pass():
    regime = tiny("unimatch", drop=0.0, threshold=0.0, joint=False)
    stir(regime.network)
    batch = dataclasses.replace(tiny_batch(regime), step=LATE)
    plain = copy.deepcopy(regime.network)(batch.unlabelled)
    third, labels = streams_of(regime, batch)[2]
    torch.testing.assert_close(third, plain, rtol=1e-11, atol=1e-13)
    assert torch.equal(labels, regime._labels)


def test_channels_are_dropped_in_the_third_stream_alone():
    found = []
    for share in (0.0, 0.5):
        regime = tiny("unimatch", drop=share, threshold=0.0, joint=False)
        stir(regime.network)
        found.append(streams_of(regime, dataclasses.replace(tiny_batch(regime), step=LATE)))
    for number in (0, 1):
        torch.testing.assert_close(found[0][number][0], found[1][number][0], rtol=1e-11, atol=1e-13)
    assert not torch.allclose(found[0][2][0], found[1][2][0], atol=0.01)


def test_both_strong_views_count_and_have_boxes_of_their_own():
    regime = apart(tiny("unimatch", threshold=0.0))
    batch = dataclasses.replace(tiny_batch(regime), step=LATE)
    (one, first), (two, second), (_, third) = streams_of(regime, batch)
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)
    assert not torch.equal(one, two)
    swapped = dataclasses.replace(tiny_batch(regime), step=LATE, unlabelled_again=batch.unlabelled_again[::-1])
    assert not torch.allclose(streams_of(regime, swapped)[0][0], one)


def test_all_channels_cannot_be_dropped():
    with pytest.raises(SettingsError, match="drop"):
        tiny("unimatch", drop=1.0)
