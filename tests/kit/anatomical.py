"""ARCO on small networks in float64, and its contrast by loops over classes, queries and keys."""

from __future__ import annotations

import copy

import torch
from torch.nn import functional

from fewlabel.nets.representation_head import pyramid
from fewlabel.nets.unet import UNetConfig
from fewlabel.objectives.stratified_sampling import draw_pixels, draw_places, pixel_strata
from kit.finetuning import build, toy_batch
from kit.tiny_regimes import stir

#: One plain pass for both streams, so that a test can say what is expected.
SMALL = {
    "joint": True,
    "stride": 2,
    "dim": 6,
    "queries": 9,
    "keys": 7,
    "negatives": 11,
    "bank": 20,
    "memory": 5,
    "neighbours": 2,
}
#: Everything but the contrast and the supervision off.
ALONE = {"pretrain_share": 0.0, "unsup_weight": 0.0, "nn_weight": 0.0, "contrast_weight": 1.0}
LATE, EARLY = 15, 2


def arco(seed=0, **settings):
    return build(
        "arco", seed=seed, network=UNetConfig(width=4, depth=3), dtype=torch.float64, **SMALL | settings
    ).train()


def batch_of(regime, step=LATE, seed=3, **options):
    return toy_batch(
        regime, step=step, labelled=2, unlabelled=3, dtype=torch.float64, size=(16, 16), seed=seed, **options
    )


def apart(regime, sure=8.0):
    """A regime whose teachers have moved away and are sure of some pixels."""
    stir(regime.teacher)
    with torch.no_grad():
        regime.teacher.network.get_parameter("classifier.weight").mul_(sure)
    for part in (regime.embedding, regime.relations):
        for module in part.modules() if part is not None else ():
            if type(module).__name__ == "Teacher":
                stir(module, seed=11)
    return regime


def value(terms, key):
    return float(terms[key].detach())


def seen_by(regime, batch):
    """Maps of student and teacher, and the labels that pixels take part with, from the networks themselves."""
    student = pyramid(copy.deepcopy(regime.network).train(), torch.cat([batch.images, batch.unlabelled]))
    keyed = batch.images if regime.embedding is not None else batch.images[:0]
    teacher = pyramid(copy.deepcopy(regime.teacher.network).train(), torch.cat([keyed, *batch.unlabelled_again]))
    probabilities = teacher.logits[len(keyed) :].softmax(1)
    confidence, pseudo = probabilities.max(1)
    return student, teacher, pseudo, confidence.detach()


def middle(labels, side):
    """The label in the middle of each place of a map of side x side."""
    step = labels.shape[-1] // side
    return labels[:, step // 2 :: step, step // 2 :: step]


def rows_of(outputs):
    """(n, d, h, w) as (pixels, d) unit vectors."""
    return functional.normalize(outputs.permute(0, 2, 3, 1).reshape(-1, outputs.shape[1]), dim=1)


def expected_contrast(regime, batch, past=None):
    """Eq. E.2 with mean reduction, by loops over classes, queries and keys; ``past`` are the keys of each class."""
    chosen = regime.settings
    student, teacher, pseudo, confidence = seen_by(regime, batch)
    labels = torch.cat([batch.labels, torch.where(confidence >= chosen.pixel_confidence, pseudo, 255)])
    head, old = copy.deepcopy(regime.embedding.head), copy.deepcopy(regime.embedding.teacher.network).train()
    queries, keys = rows_of(head(student.maps).output), rows_of(old(teacher.maps).output).detach()
    small = middle(labels, 8)
    flat, classes = small.flatten(), 4
    strata = pixel_strata(small, classes, None if chosen.sampling == "ns" else chosen.grid)
    key_strata = strata if chosen.key_sampling == "same" else pixel_strata(small, classes, None)
    key_sampling = chosen.sampling if chosen.key_sampling == "same" else "ns"
    generator = batch.generator
    if chosen.keys == chosen.queries and chosen.key_sampling == "same":
        fresh, drawn = draw_pixels(strata, chosen.keys, key_sampling, generator, repeats=2)
    else:
        fresh = draw_pixels(key_strata, chosen.keys, key_sampling, generator)[0]
        drawn = draw_pixels(strata, chosen.queries, chosen.sampling, generator)[0]
    past = past or [[] for _ in range(classes)]
    pool = [
        [*past[c], *(keys[p] for p in fresh[c].tolist())] if bool((flat == c).any()) else past[c]
        for c in range(classes)
    ]
    sizes = torch.tensor([[0 if c == j else len(pool[j]) for j in range(classes)] for c in range(classes)])
    chosen_class, place = draw_places(sizes, chosen.negatives, key_sampling, generator)
    losses = []
    for c in range(classes):
        if not bool((flat == c).any()) or int(sizes[c].sum()) == 0:
            continue
        prototype = functional.normalize(keys[flat == c].mean(dim=0), dim=0)
        negatives = [pool[j][p] for j, p in zip(chosen_class[c].tolist(), place[c].tolist(), strict=True)]
        for pixel in drawn[c].tolist():
            assert int(flat[pixel]) == c
            logits = torch.stack([queries[pixel] @ key for key in (prototype, *negatives)]) / chosen.temperature
            losses.append(logits.logsumexp(0) - logits[0])
    return torch.stack(losses).mean(), pool
