import itertools

import pytest
import torch

from fewlabel.gradients.combine import MeanCombiner
from fewlabel.gradients.gramian import FlatGradients, gram_matrices
from fewlabel.gradients.mitigator import GradMitigator
from fewlabel.gradients.mitigator_gram import mitigate, visiting_order

TERMS = ("patient", "position", "phase")
SHAPES = {
    "encoder.blocks.0.conv1.weight": (4, 2, 3, 3),
    "encoder.blocks.0.norm1.weight": (4,),
    "encoder.blocks.0.norm1.bias": (4,),
    "encoder.blocks.1.conv1.weight": (6, 4, 3, 3),
    "encoder.gate": (1,),
    "image_head.first.weight": (5, 6),
}


def gradients(seed=0, terms=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(s, generator=generator, dtype=dtype) for s in SHAPES.values()] for _ in range(terms)]


def combine(mitigator, rows, seed=0, names=tuple(SHAPES)):
    return mitigator.combine(list(names), rows, torch.Generator().manual_seed(seed))


def conflicting(seed=0):
    """Gradients of which the second opposes the first in every tensor."""
    rows = gradients(seed)
    rows[1] = [-0.7 * a + 0.1 * b for a, b in zip(rows[0], rows[1], strict=True)]
    return rows


def test_heads_get_the_mean_and_the_encoder_does_not_when_labels_conflict():
    rows = conflicting()
    found = combine(GradMitigator(TERMS), rows)
    mean = MeanCombiner().combine(list(SHAPES), rows, torch.Generator())
    for name, mine, plain in zip(SHAPES, found, mean, strict=True):
        exempt = not name.startswith("encoder.") or mine.numel() < 2
        assert torch.equal(mine, plain) == exempt, name
        assert mine.shape == plain.shape


def test_agreeing_gradients_give_exactly_the_mean():
    base = gradients()[0]
    rows = [[g + 0.01 * k * g.abs() for g in base] for k in range(3)]
    for dtype in (torch.float32, torch.float64):
        typed = [[g.to(dtype) for g in row] for row in rows]
        found = combine(GradMitigator(TERMS), typed)
        mean = MeanCombiner().combine(list(SHAPES), typed, torch.Generator())
        assert all(torch.equal(a, b) for a, b in zip(found, mean, strict=True))


def test_one_term_passes_through():
    rows = gradients(terms=1)
    assert all(torch.equal(a, b) for a, b in zip(combine(GradMitigator(("position",)), rows), rows[0], strict=True))


def test_gradients_given_are_not_changed():
    rows = conflicting()
    copies = [[g.clone() for g in row] for row in rows]
    combine(GradMitigator(TERMS), rows)
    assert all(torch.equal(a, b) for x, y in zip(rows, copies, strict=True) for a, b in zip(x, y, strict=True))


def test_a_tensor_does_not_depend_on_the_gradients_of_another():
    rows, other = conflicting(), conflicting()
    for row in other:
        row[3] = torch.randn_like(row[3])
    first, second = GradMitigator(TERMS), GradMitigator(TERMS)
    for _ in range(3):
        one, two = combine(first, rows), combine(second, other)
        for index in (0, 1, 2, 4, 5):
            assert torch.equal(one[index], two[index])
        assert not torch.equal(one[3], two[3])


@pytest.mark.parametrize(("granularity", "groups"), [("tensor", 4), ("layer", 4), ("whole", 1)])
def test_granularity_sets_what_decides_together(granularity, groups):
    # Layers: block 0's convolution, block 0's norm (two tensors), block 1's convolution, and the bare gate with them.
    rows = conflicting()
    mitigator = GradMitigator(TERMS, granularity=granularity)
    found = combine(mitigator, rows)
    assert len(mitigator.state()["targets"]) == (groups if granularity != "layer" else 3)
    if granularity == "tensor":
        return
    ratio = {}
    for index, name in enumerate(SHAPES):
        stack = torch.stack([row[index].flatten() for row in rows])
        if name.startswith("encoder.") and stack.shape[1] >= 3:
            ratio[name] = torch.linalg.lstsq(stack.T, found[index].flatten()[:, None]).solution
    norm = [ratio["encoder.blocks.0.norm1.weight"], ratio["encoder.blocks.0.norm1.bias"]]
    torch.testing.assert_close(norm[0], norm[1])
    same = torch.allclose(norm[0], ratio["encoder.blocks.1.conv1.weight"])
    assert same == (granularity == "whole")


def test_the_gram_of_a_group_is_that_of_its_joined_gradients():
    rows = conflicting()
    mitigator = GradMitigator(TERMS, granularity="whole", beta=1.0)
    combine(mitigator, rows)
    joined = torch.stack([torch.cat([g.flatten() for g in row[:5]]) for row in rows])
    cosine = torch.nn.functional.cosine_similarity(joined[0], joined[1], dim=0)
    assert mitigator.scalars()["cosine/patient|position"] == pytest.approx(float(cosine), abs=1e-12)


def test_a_restored_state_continues_where_it_was():
    first = GradMitigator(TERMS, beta=0.2)
    for step in range(4):
        combine(first, gradients(step), step)
    second = GradMitigator(TERMS, beta=0.2)
    second.load_state(first.state())
    # There again without a further step.
    assert second.details() == first.details()
    assert len(second.details()["tensors"]) > 1
    one, two = combine(first, gradients(9), 9), combine(second, gradients(9), 9)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    for key, value in first.state().items():
        assert torch.equal(value, second.state()[key])
    assert first.details() == second.details()
    fresh = combine(GradMitigator(TERMS, beta=0.2), gradients(9), 9)
    assert any(not torch.equal(a, b) for a, b in zip(one, fresh, strict=True))


def test_state_is_a_copy_and_empty_before_the_first_step():
    mitigator = GradMitigator(TERMS)
    assert mitigator.state() == {}
    mitigator.load_state({})
    assert mitigator.scalars() == {}
    assert mitigator.details()["tensors"] == {}
    combine(mitigator, gradients())
    mitigator.state()["targets"].fill_(9)
    assert mitigator.state()["targets"].max() < 1


def test_a_state_or_a_count_of_terms_that_does_not_fit_is_refused():
    mitigator = GradMitigator(TERMS)
    with pytest.raises(ValueError, match="2 gradients"):
        combine(mitigator, gradients(terms=2))
    mitigator.load_state({"targets": torch.zeros(7, 3, 3)})
    with pytest.raises(ValueError, match="do not fit"):
        combine(mitigator, gradients())


def test_initial_target_and_beta_reach_the_recursion():
    rows = gradients()
    mitigator = GradMitigator(TERMS, initial_target=0.5, beta=0.25)
    combine(mitigator, rows)
    g = torch.stack([row[0].flatten() for row in rows])
    plain = torch.nn.functional.cosine_similarity(g[0], g[1], dim=0)
    # Whichever of the others came first met the unmodified gradient.
    options = [0.75 * 0.5 + 0.25 * float(torch.nn.functional.cosine_similarity(g[0], g[k], dim=0)) for k in (1, 2)]
    targets = mitigator.state()["targets"][0, 0]
    assert any(float(targets[k]) == pytest.approx(option, abs=1e-12) for k, option in zip((1, 2), options, strict=True))
    assert mitigator.scalars()["gain/patient|position"] > 1
    assert float(plain) < 0.5


def test_figures_and_details_are_those_of_the_recursion():
    """With one gradient that vanishes in one tensor, and cosines, targets and gains that all differ."""
    rows = gradients()
    rows[2][0] = torch.zeros_like(rows[2][0])
    mitigator = GradMitigator(TERMS, initial_target=0.3, beta=0.25)
    combine(mitigator, rows)
    grams = gram_matrices([FlatGradients.of(parts) for parts in zip(*rows, strict=True)])[:4]
    order = visiting_order(4, 3, torch.Generator().manual_seed(0))
    result = mitigate(grams, torch.full_like(grams, 0.3), order, beta=0.25)
    figures, details = mitigator.scalars(), mitigator.details()["tensors"]
    for (a, first), (b, second) in itertools.permutations(enumerate(TERMS), 2):
        pair = f"{first}|{second}"
        # The tensors in which both gradients are there.
        kept = slice(1, 4) if 2 in (a, b) else slice(0, 4)
        cosines = grams[:, a, b] / (grams[:, a, a] * grams[:, b, b]).sqrt()
        assert figures[f"cosine/{pair}"] == pytest.approx(float(cosines[kept].mean()), abs=1e-12)
        assert figures[f"conflict/{pair}"] == float((cosines[kept] < 0).double().mean())
        assert figures[f"below_target/{pair}"] == float(result.below[kept, a, b].double().mean())
        assert figures[f"gain/{pair}"] == pytest.approx(float(result.gains[kept, a, b].mean()), abs=1e-12)
        assert figures[f"target/{pair}"] == pytest.approx(float(result.targets[:, a, b].mean()), abs=1e-12)
        for group, row in enumerate(details.values()):
            if group < kept.start:
                assert f"conflict/{pair}" not in row
                continue
            assert row[f"conflict/{pair}"] == float(cosines[group] < 0)
            assert row[f"below_target/{pair}"] == float(result.below[group, a, b])
            assert row[f"cosine/{pair}"] == pytest.approx(float(cosines[group]), abs=1e-12)
            assert row[f"target/{pair}"] == pytest.approx(float(result.targets[group, a, b]), abs=1e-12)


def test_figures_of_a_planted_conflict():
    rows = conflicting()
    mitigator = GradMitigator(TERMS)
    combine(mitigator, rows)
    figures = mitigator.scalars()
    assert figures["conflict/patient|position"] == figures["conflict/position|patient"] == 1
    assert figures["below_target/patient|position"] > 0.5
    cosines = [
        torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        for a, b in zip(rows[0][:4], rows[1][:4], strict=True)
    ]
    assert figures["cosine/patient|position"] == pytest.approx(float(torch.stack(cosines).mean()), abs=1e-12)
    assert figures["target/patient|position"] < 0
    names = {key.partition("/")[0] for key in figures}
    assert names == {"cosine", "conflict", "below_target", "target", "gain"}
    assert len(figures) == 5 * 6


def test_details_are_shares_over_steps_for_every_tensor():
    mitigator = GradMitigator(TERMS)
    combine(mitigator, conflicting(0))
    agreeing = conflicting(1)
    agreeing[1] = [2.0 * g for g in agreeing[0]]
    combine(mitigator, agreeing)
    details = mitigator.details()
    assert details["terms"] == list(TERMS)
    row = details["tensors"]["encoder.blocks.0.conv1.weight"]
    assert row["conflict/patient|position"] == 0.5
    assert row["cosine/patient|position"] == pytest.approx(0.0, abs=0.1)
    assert "encoder.gate" not in details["tensors"]
    assert "image_head.first.weight" not in details["tensors"]


def test_a_gradient_that_vanishes_is_left_out_of_figures():
    rows = gradients()
    rows[2] = [torch.zeros_like(g) for g in rows[2]]
    mitigator = GradMitigator(TERMS)
    found = combine(mitigator, rows)
    assert all(torch.isfinite(g).all() for g in found)
    assert "cosine/patient|phase" not in mitigator.scalars()
    assert "cosine/patient|position" in mitigator.scalars()
    row = mitigator.details()["tensors"]["encoder.blocks.0.conv1.weight"]
    assert "conflict/patient|phase" not in row


def test_channels_last_and_mixed_layouts_give_the_same_numbers():
    rows = conflicting()
    plain = combine(GradMitigator(TERMS), rows)
    last = [[g.contiguous(memory_format=torch.channels_last) if g.dim() == 4 else g for g in row] for row in rows]
    mixed = [last[0], rows[1], last[2]]
    for variant in (last, mixed):
        found = combine(GradMitigator(TERMS), variant)
        for a, b in zip(plain, found, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert combine(GradMitigator(TERMS), last)[0].is_contiguous(memory_format=torch.channels_last)


def test_gram_matrices_are_inner_products_also_of_halves_and_views():
    rows = [torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    stack = torch.stack([g.double().flatten() for g in rows])
    halves = [g.bfloat16() for g in rows]
    found = gram_matrices([FlatGradients.of(rows), FlatGradients.of(halves)])
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[0], stack @ stack.T, rtol=1e-5, atol=1e-5)
    # Only what was given is rounded, not the sums.
    stack = torch.stack([g.double().flatten() for g in halves])
    torch.testing.assert_close(found[1], stack @ stack.T, rtol=1e-5, atol=1e-5)
    parts = [torch.randn(6, 8, dtype=torch.float64)[::2, 1:] for _ in range(2)]
    joined = torch.stack([g.flatten() for g in parts])
    torch.testing.assert_close(gram_matrices([FlatGradients.of(parts)])[0], joined @ joined.T)
    assert torch.equal(FlatGradients.of(parts).mean([1.0, 1.0]), (parts[0] + parts[1]) / 2)
