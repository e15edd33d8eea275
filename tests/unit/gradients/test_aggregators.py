"""Combiners by torchjd: equal to torchjd, to closed forms, to themselves after a restart and on two processes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torchjd.aggregation import MGDA, GradVac, PCGrad, UPGrad

from fewlabel.core.collective import average_gradients, rank, world_size
from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.engine.step import gradients_of
from fewlabel.gradients.aggregators import Aggregator, build_combiner, dual_cone_weights
from fewlabel.gradients.combine import MeanCombiner
from fewlabel.gradients.mitigator import GradMitigator
from kit.pretraining import toy_method
from kit.ranks import run_ranks

NAMES = ("pcgrad", "gradvac", "mgda", "upgrad")
SHAPES = {
    "encoder.blocks.0.conv1.weight": (4, 2, 3, 3),
    "encoder.blocks.0.norm1.weight": (4,),
    "encoder.blocks.0.norm1.bias": (4,),
    "encoder.blocks.1.conv1.weight": (6, 4, 3, 3),
    "image_head.first.weight": (5, 6),
}
ENCODER = [index for index, name in enumerate(SHAPES) if name.startswith("encoder.")]
#: Tensors that GradVac decides on together.
LAYERS = ([0], [1, 2], [3])


def gradients(seed=0, terms=3, scale=1.0):
    """Random gradients, the second of which opposes the first."""
    generator = torch.Generator().manual_seed(seed)
    rows = [
        [scale * torch.randn(s, generator=generator, dtype=torch.float64) for s in SHAPES.values()]
        for _ in range(terms)
    ]
    if terms > 1:
        rows[1] = [b - 0.6 * a for a, b in zip(rows[0], rows[1], strict=True)]
    return rows


def combine(combiner, rows, seed=0):
    return combiner.combine(list(SHAPES), rows, torch.Generator().manual_seed(seed))


def jacobian(rows, indices):
    return torch.stack([torch.cat([row[index].flatten() for index in indices]) for row in rows])


def flat(tensors, indices):
    return torch.cat([tensors[index].flatten() for index in indices])


def two(first, second):
    """Two gradients of one tensor, and a combiner's result on them."""
    names = ["encoder.w"]
    rows = [[torch.tensor(first, dtype=torch.float64)], [torch.tensor(second, dtype=torch.float64)]]
    return lambda name: build_combiner(name).combine(names, rows, torch.Generator().manual_seed(0))[0]


def close(found, wanted, tolerance=1e-9):
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=torch.float64), rtol=0, atol=tolerance)


def seeded(function, seed):
    """A call of torchjd in the random order that our combiner gives it for this generator."""
    drawn = int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(seed)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(drawn)
        return function()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("terms", [2, 3, 5])
def test_pcgrad_is_torchjds_over_the_whole_encoder(seed, terms):
    rows = gradients(seed, terms)
    wanted = seeded(lambda: PCGrad()(jacobian(rows, ENCODER)), seed) / terms
    close(flat(combine(Aggregator("pcgrad"), rows, seed), ENCODER), wanted)


@pytest.mark.parametrize("seed", range(5))
def test_mgda_is_torchjds_over_the_whole_encoder(seed):
    rows = gradients(seed)
    close(flat(combine(Aggregator("mgda"), rows, seed), ENCODER), MGDA()(jacobian(rows, ENCODER)))


def test_gradvac_is_torchjds_layer_by_layer_over_several_steps():
    combiner = Aggregator("gradvac", beta=0.3)
    oracles = [GradVac(beta=0.3, eps=0.0) for _ in LAYERS]
    for step in range(4):
        rows = gradients(step)
        found = combine(combiner, rows, step)
        wanted = seeded(lambda rows=rows: [o(jacobian(rows, i)) for o, i in zip(oracles, LAYERS, strict=True)], step)
        for layer, vector in zip(LAYERS, wanted, strict=True):
            close(flat(found, layer), vector / 3, 1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_upgrad_is_torchjds_where_its_solver_is_installed(seed):
    pytest.importorskip("quadprog")
    pytest.importorskip("qpsolvers")
    rows = gradients(seed)
    found = flat(combine(Aggregator("upgrad"), rows, seed), ENCODER)
    # torchjd adds 1e-4 to the diagonal of the normalised Gramian.
    torch.testing.assert_close(found, UPGrad()(jacobian(rows, ENCODER)), rtol=0, atol=5e-3)


@pytest.mark.parametrize("seed", range(20))
def test_the_projection_onto_the_dual_cone_is_the_best_of_all_active_sets(seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(4, 3 + seed % 4, generator=generator, dtype=torch.float64)
    gram, weights = matrix @ matrix.T, torch.eye(4, dtype=torch.float64) / 4
    found = dual_cone_weights(weights, gram)
    assert bool((found >= weights - 1e-12).all())
    assert bool((found @ gram >= -1e-9).all())
    for u, w in zip(weights, found, strict=True):
        values = []
        for free in itertools.chain.from_iterable(itertools.combinations(range(4), k) for k in range(5)):
            v, chosen = u.clone(), list(free)
            if chosen:
                fixed = [index for index in range(4) if index not in chosen]
                inner = gram[chosen][:, chosen]
                v[chosen] = -torch.linalg.pinv(inner) @ gram[chosen][:, fixed] @ u[fixed]
            if bool((v >= u - 1e-12).all()):
                values.append(float(v @ gram @ v))
        assert float(w @ gram @ w) == pytest.approx(min(values), abs=1e-9)


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "upgrad"])
def test_two_conflicting_gradients_lose_what_opposes_the_other(name):
    first, second = torch.tensor([1.0, 0.0]).double(), torch.tensor([-1.0, 2.0]).double()
    product = first @ second
    one = first - product / (second @ second) * second
    other = second - product / (first @ first) * first
    close(two(first.tolist(), second.tolist())(name), (one + other) / 2, 1e-6)


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "upgrad", "mitigator"])
def test_two_gradients_that_agree_give_the_mean(name):
    close(two([1.0, 0.0], [1.0, 2.0])(name), [1.0, 1.0], 1e-12)


@pytest.mark.parametrize(
    ("first", "second"), [([1.0, 0.0], [-1.0, 2.0]), ([3.0, 0.0], [0.0, 1.0]), ([1.0, 0.0], [4.0, 1.0])]
)
def test_mgda_of_two_is_the_shortest_point_of_their_segment(first, second):
    a, b = torch.tensor(first).double(), torch.tensor(second).double()
    share = float((((b - a) @ b) / (a - b).square().sum()).clamp(0, 1))
    found = two(first, second)("mgda")
    close(found, share * a + (1 - share) * b)
    # Opposes neither.
    assert float(found @ a) >= -1e-12
    assert float(found @ b) >= -1e-12


@pytest.mark.parametrize("name", NAMES)
def test_heads_get_the_mean_and_the_encoder_does_not(name):
    rows = gradients()
    copies = [[g.clone() for g in row] for row in rows]
    mean = MeanCombiner().combine(list(SHAPES), rows, torch.Generator())
    for key, mine, plain in zip(SHAPES, combine(Aggregator(name), rows), mean, strict=True):
        assert torch.equal(mine, plain) == (not key.startswith("encoder.")), key
        assert mine.shape == plain.shape
    assert all(torch.equal(a, b) for x, y in zip(rows, copies, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_length_of_the_gradients_does_not_change_the_decision(name):
    plain, tiny = combine(Aggregator(name), gradients()), combine(Aggregator(name), gradients(scale=1e-7))
    for a, b in zip(plain, tiny, strict=True):
        torch.testing.assert_close(a, b * 1e7, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_one_term_and_vanishing_or_infinite_gradients_give_the_mean(name):
    single = gradients(terms=1)
    assert all(torch.equal(a, b) for a, b in zip(combine(Aggregator(name), single), single[0], strict=True))
    zeros = [[torch.zeros_like(g) for g in row] for row in gradients()]
    assert all(bool((g == 0).all()) for g in combine(Aggregator(name), zeros))
    for value in (float("nan"), float("inf")):
        rows = gradients()
        rows[0][0][0, 0] = value
        found = combine(Aggregator(name), rows)
        # The loop finds it in the result and says where; numbers beside it are the plain mean.
        mean = MeanCombiner().combine(list(SHAPES), rows, torch.Generator())
        assert not torch.isfinite(found[0]).all()
        torch.testing.assert_close(found[0], mean[0], rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_global_generator_neither_matters_nor_moves(name):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        combiner = Aggregator(name)
        found.append(combine(combiner, gradients(terms=5)))
        combiner.load_state(combiner.state())
        assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_order_comes_from_the_generator():
    rows = gradients(terms=5)
    results = [flat(combine(Aggregator("pcgrad"), rows, seed), ENCODER) for seed in range(8)]
    assert any(not torch.allclose(results[0], other) for other in results[1:])


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_state_continues_with_the_same_bits(name):
    first = Aggregator(name, beta=0.2)
    for step in range(4):
        combine(first, gradients(step), step)
    second = Aggregator(name, beta=0.2)
    second.load_state(first.state())
    assert first.state().keys() == second.state().keys()
    assert all(torch.equal(value, second.state()[key]) for key, value in first.state().items())
    one, other = combine(first, gradients(9), 9), combine(second, gradients(9), 9)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    fresh = combine(Aggregator(name, beta=0.2), gradients(9), 9)
    assert all(torch.equal(a, b) for a, b in zip(one, fresh, strict=True)) == (name != "gradvac")


def test_gradvacs_state_is_a_copy_by_layer():
    combiner = Aggregator("gradvac", beta=0.5)
    assert combiner.state() == {}
    combine(combiner, gradients())
    state = combiner.state()
    assert {key.rpartition("/")[0] for key in state} == {
        "encoder.blocks.0.conv1/3",
        "encoder.blocks.0.norm1/3",
        "encoder.blocks.1.conv1/3",
    }
    for tensor in state.values():
        assert tensor.shape == (3, 3)
        tensor.fill_(9)
    assert all(bool((tensor < 1).all()) for tensor in combiner.state().values())


def test_a_state_survives_a_step_of_another_number_of_terms():
    one, other = Aggregator("gradvac", beta=0.5), Aggregator("gradvac", beta=0.5)
    for combiner in (one, other):
        combine(combiner, gradients(0), 0)
    combine(other, gradients(1, terms=2), 1)
    found = [combine(combiner, gradients(2), 2) for combiner in (one, other)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_figures_of_a_planted_conflict():
    rows = gradients()
    rows[1] = [-g for g in rows[0]]
    combiner = Aggregator("upgrad", ("patient", "position", "phase"))
    assert combiner.scalars() == {}
    combine(combiner, rows)
    figures = combiner.scalars()
    assert figures["cosine/patient|position"] == pytest.approx(-1.0)
    assert figures["conflict/position|patient"] == 1.0
    assert figures["weight/patient"] >= 1.0 - 1e-9
    assert set(figures) > {"weight/position", "weight/phase", "cosine/phase|patient"}


def test_the_factory_and_the_setting():
    assert isinstance(build_combiner("mean"), MeanCombiner)
    mitigator = build_combiner("mitigator", granularity="layer", beta=0.3, initial_target=0.2)
    assert isinstance(mitigator, GradMitigator)
    assert (mitigator.granularity, mitigator.beta, mitigator.initial_target) == ("layer", 0.3, 0.2)
    combine(mitigator, gradients())
    assert "cosine/1|2" in mitigator.scalars()
    for name in NAMES:
        made = build_combiner(name, ("a", "b"), beta=0.3)
        assert (made.name, made.terms, made.beta, made.linear) == (name, ("a", "b"), 0.3, False)
    assert resolve_plugin("fewlabel.methods", "simclr").combine == "mean"
    assert resolve_plugin("fewlabel.methods", "gcl").combine == "mitigator"
    with pytest.raises(SettingsError):
        resolve_plugin("fewlabel.methods", {"name": "gcl", "combine": "sum"})


@pytest.mark.parametrize("name", ["mean", "mitigator", *NAMES])
def test_every_method_of_several_labels_takes_the_setting(name):
    method = toy_method("gcl", combine=name, pixel=False)
    kind = {"mean": MeanCombiner, "mitigator": GradMitigator}.get(name, Aggregator)
    assert isinstance(method.combiner(), kind)
    if name != "mean":
        assert method.combiner().terms == method.labels
    assert isinstance(toy_method("gcl", combine=name, labels=["position"]).combiner(), MeanCombiner)


def test_gcls_mitigator_keeps_its_settings():
    made = toy_method("gcl", pixel=False, granularity="whole", beta=0.2, initial_target=0.1).combiner()
    assert isinstance(made, GradMitigator)
    assert (made.granularity, made.beta, made.initial_target) == ("whole", 0.2, 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_one_term_ignores_the_setting(name):
    weight = torch.nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    terms = {"views": weight.square().sum()}
    found = gradients_of(terms, ["encoder.w"], [weight], build_combiner(name), torch.Generator())
    assert torch.equal(found[0], 2 * weight)


def every_combiner():
    """Two steps of every combiner on losses whose mean over ranks is the joined one."""
    found = {}
    rows = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = 4 // world_size()
    for name in NAMES:
        combiner = Aggregator(name, beta=0.4)
        weight = torch.nn.Parameter(torch.ones(5, 3, dtype=torch.float64) * torch.arange(1.0, 4.0).double())
        for step in range(2):
            mine = rows[:, rank() * share : (rank() + 1) * share]
            terms = {str(k): ((mine[k] @ weight) - k).square().mean() for k in range(3)}
            generator = torch.Generator().manual_seed(step)
            gradient = gradients_of(terms, ["encoder.w"], [weight], combiner, generator)[0]
            found[f"{name}/{step}"] = gradient
            with torch.no_grad():
                weight -= 0.1 * gradient
        found |= {f"{name}/{key}": value for key, value in combiner.state().items()}
    total = [torch.full((2,), float(rank()))]
    average_gradients(total)
    return found


def test_two_ranks_equal_one(tmp_path):
    one, ranks = every_combiner(), run_ranks(tmp_path, every_combiner)
    assert sum("gradvac/encoder" in key for key in one) == 1
    for key, value in one.items():
        assert torch.equal(ranks[0][key], ranks[1][key]), key
        torch.testing.assert_close(ranks[0][key], value, rtol=1e-9, atol=1e-11)
