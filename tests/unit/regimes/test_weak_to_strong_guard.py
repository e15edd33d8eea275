"""The guard over pseudo-labels: what goes back, when it gives up, what it says, and that it outlives a resume."""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
import torch

from fewlabel.core import progress
from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.nets.unet import UNetConfig
from fewlabel.regimes import weak_to_strong as _weak_to_strong
from fewlabel.regimes.weak_to_strong import WeakToStrong
from kit.finetuning import FAMILY, TOTAL, build, toy_batch, train
from kit.tiny_regimes import stir
from kit.tiny_regimes import tiny as tiny_of
from kit.waits import Waits

NAMES = [name for name in plugin_names(FAMILY) if issubclass(load_plugin(FAMILY, name), WeakToStrong)]
#: A run of 1000 steps, whose second phase begins here.
LONG, FIRST = 1000, 450


def tiny(name, **settings):
    """A regime whose first phase takes 45 of 100 steps."""
    return tiny_of(name, **({} if name == "supervised" else {"rest": 0.45}) | settings)


class Lines:
    """Keeps what the user is told."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture
def said():
    before, listener = progress._listener[0], Lines()
    progress.listen(listener)
    yield listener.said
    progress.listen(before)


def labels(*counts):
    """One map with so many pixels of each class."""
    return torch.cat([torch.full((count,), index) for index, count in enumerate(counts)]).view(1, 10, -1)


GOOD, LOST = (700, 100, 100, 100), (970, 10, 10, 10)


def moved(regime):
    """Weights and statistics as steps would move them."""
    with torch.no_grad():
        for tensor in (*regime.network.parameters(), *regime.network.buffers()):
            tensor.add_(1)


def states(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


def first_phase(regime):
    """To the end of the first phase; the weights there."""
    stir(regime.network)
    for step in (FIRST - 2, FIRST - 1):
        moved(regime)
        regime.joined = False
        regime.after_step(step, LONG)
    return states(regime.network)


def second_phase(regime, first, count, *counts):
    """Steps with these pseudo-labels; the step after them."""
    for step in range(first, first + count):
        moved(regime)
        regime.joined, regime._labels = True, labels(*counts)
        regime.after_step(step, LONG)
    return first + count


class TestGoingBack:
    def test_the_weights_of_the_end_of_the_first_phase_come_back_exactly(self, said):
        regime = tiny("fixmatch")
        kept = first_phase(regime)
        assert same(kept, states(regime.supervised.network))
        step = second_phase(regime, FIRST, 60, *GOOD)
        assert same(kept, states(regime.supervised.network))
        assert not same(kept, states(regime.network))
        # 0.98^k of a tenth falls below a third of it at k = 68: (0.9 · 0.98^k + 0.1 < 1/3).
        step = second_phase(regime, step, 66, *LOST)
        assert not bool(regime.shares.out.any())
        step = second_phase(regime, step, 1, *LOST)
        assert regime.shares.out.tolist() == [False, True, True, True]
        step = second_phase(regime, step, 98, *LOST)
        assert int(regime.returns) == 0
        assert said == []
        second_phase(regime, step, 1, *LOST)
        assert int(regime.returns) == 1
        assert same(kept, states(regime.network))
        assert same(kept, states(regime.teacher.network))
        assert not regime.shares.settled
        assert regime.weight(900, LONG) == 0.5
        assert len(said) == 1
        assert said[0].startswith(f"Step {step}: class 1 takes ")
        assert "of the pseudo-labels, 10.00% at first. Back to the supervised weights, with half the weight" in said[0]

    def test_a_class_that_comes_back_in_time_is_forgiven(self, said):
        regime = tiny("fixmatch")
        first_phase(regime)
        step = second_phase(regime, FIRST, 60, *GOOD)
        step = second_phase(regime, step, 67 + 60, *LOST)
        step = second_phase(regime, step, 30, *GOOD)
        step = second_phase(regime, step, 60, *LOST)
        assert int(regime.returns) == 0
        assert said == []

    def test_three_returns_end_it_and_it_is_said(self, said, monkeypatch):
        monkeypatch.setattr(_weak_to_strong, "PATIENCE", 5)
        regime = tiny("fixmatch", ramp=0.0)
        kept = first_phase(regime)
        step, weights = FIRST, []
        for _ in range(3):
            step = second_phase(regime, step, 20, *GOOD)
            step = second_phase(regime, step, 71, *LOST)
            weights.append(regime.weight(step, LONG))
            assert same(kept, states(regime.network))
            assert not regime.shares.settled
        assert weights == [0.5, 0.25, 0.0]
        assert int(regime.returns) == 3
        assert bool(regime.given_up)
        assert len(said) == 3
        assert [line.endswith("The rest of the run is supervised.") for line in said] == [False, False, True]
        assert "Back to the supervised weights." in said[2]
        # From here labelled slices alone count, and the teacher follows.
        batch = toy_batch(regime, step=17, labelled=2, unlabelled=3, dtype=torch.float64, size=(16, 16))
        assert set(regime.losses(batch)) == {"ce", "dice"}
        assert not regime.joined
        assert regime.metrics() == {"unlabelled_weight": 0.0, "returns": 3.0, "given_up": 1.0}
        moved(regime)
        regime.after_step(step, LONG)
        student, teacher = regime.network.state_dict(), regime.teacher.network.state_dict()
        assert all(torch.equal(student[key], teacher[key]) for key, _ in regime.network.named_buffers())
        assert len(said) == 3

    def test_a_class_without_a_pixel_gives_up_at_once_with_the_supervised_weights(self, said):
        regime = tiny("fixmatch")
        kept = first_phase(regime)
        step = second_phase(regime, FIRST, 19, 800, 100, 0, 100)
        assert not bool(regime.given_up)
        second_phase(regime, step, 1, 800, 100, 0, 100)
        assert bool(regime.given_up)
        assert same(kept, states(regime.network))
        assert same(kept, states(regime.teacher.network))
        assert regime.weight(900, LONG) == 0.0
        assert said == [
            f"Step {step}: no pixel of the unlabelled scans is labelled as class 2. Back to the supervised weights. "
            "The rest of the run is supervised."
        ]

    def test_several_absent_classes_are_all_named(self, said):
        regime = tiny("fixmatch")
        first_phase(regime)
        second_phase(regime, FIRST, 20, 1000, 0, 0, 0)
        assert "no pixel of the unlabelled scans is labelled as any of the classes 1, 2, 3. Back" in said[0]

    @pytest.mark.parametrize("lost", [LOST, (1000, 0, 0, 0)])
    def test_other_weights_are_told_at_the_step_that_puts_them_in_place_alone(self, lost, monkeypatch):
        monkeypatch.setattr(_weak_to_strong, "PATIENCE", 5)
        regime = tiny("fixmatch")
        first_phase(regime)
        assert not regime.replaced
        step = second_phase(regime, FIRST, 20, *GOOD) if lost == LOST else FIRST
        told = []
        for at in range(step, step + 74):
            before = int(regime.returns)
            # In a run that was given up nothing is joined; a step further on says so as well.
            regime.joined, regime._labels = not bool(regime.given_up), labels(*lost)
            regime.after_step(at, LONG)
            assert regime.replaced == (int(regime.returns) > before)
            told.append(regime.replaced)
        assert sum(told) == 1
        assert not told[-1]

    def test_the_device_is_asked_once_by_the_weight_and_once_by_the_guard(self, said):
        # Pieces are found on the CPU.
        regime = tiny("fixmatch", one_piece=False)
        first_phase(regime)
        step = second_phase(regime, FIRST, 60, *GOOD)
        with Waits() as waits:
            regime.weight(step, LONG)
            regime._pseudo(torch.zeros(2, 1, 16, 16, dtype=torch.float64))
            assert waits.seen == ["tolist"]
            second_phase(regime, step, 1, *LOST)
        assert waits.seen == ["tolist"] * 2
        assert said == []
        # Unwatched, it has nothing to ask.
        with Waits() as waits:
            tiny("fixmatch", guard=0.0).weight(step, LONG)
        assert waits.seen == []

    def test_a_factor_of_its_own(self):
        regime = tiny("fixmatch", guard=7.0)
        assert regime.shares.factor == 7.0
        assert tiny("fixmatch").shares.factor == 3.0

    def test_it_looks_at_steps_of_the_second_phase_alone(self):
        regime = tiny("fixmatch")
        regime.joined, regime._labels = True, labels(1000, 0, 0, 0)
        regime.after_step(FIRST - 1, LONG)
        assert int(regime.shares.seen) == 0
        regime.joined = False
        regime.after_step(FIRST, LONG)
        assert int(regime.shares.seen) == 0

    def test_without_a_first_phase_it_goes_back_to_the_start(self, monkeypatch):
        monkeypatch.setattr(_weak_to_strong, "PATIENCE", 5)
        regime = tiny("fixmatch", rest=0.0)
        kept = states(regime.network)
        second_phase(regime, second_phase(regime, 0, 20, *GOOD), 71, *LOST)
        assert int(regime.returns) == 1
        assert same(kept, states(regime.network))

    def test_off_it_neither_watches_nor_speaks(self, said):
        regime = tiny("fixmatch", guard=0.0)
        stir(regime.network)
        second_phase(regime, FIRST, 300, 1000, 0, 0, 0)
        assert int(regime.returns) == 0
        assert not bool(regime.given_up)
        assert said == []


class TestClassesThatNoLabelledSliceShows:
    """Nothing is expected of a class that the labels lack."""

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("counts", [(900, 100, 0, 0), (800, 100, 100, 0)])
    def test_the_second_phase_goes_on_without_them(self, name, counts, said):
        regime = tiny(name)
        regime.meet_labels(torch.tensor(counts))
        first_phase(regime)
        second_phase(regime, FIRST, 400, *counts)
        assert regime.weight(900, LONG) == 1.0
        assert regime.outcome(TestOutcome.NAMES, LONG) == {"returns": 0, "given_up": False, "taken_back": []}
        assert said == []

    def test_a_class_of_the_labels_that_is_lost_still_ends_it(self, said):
        regime = tiny("fixmatch")
        regime.meet_labels(torch.tensor([900, 100, 50, 0]))
        kept = first_phase(regime)
        second_phase(regime, FIRST, 20, 900, 100, 0, 0)
        assert bool(regime.given_up)
        assert same(kept, states(regime.network))
        assert len(said) == 1
        assert "is labelled as class 2. Back" in said[0]

    def test_what_comes_up_of_them_is_no_pseudo_label(self):
        regime = tiny("fixmatch", one_piece=False, threshold=0.0)
        regime.meet_labels(torch.tensor([900, 100, 100, 0]))
        first_phase(regime)
        step = second_phase(regime, FIRST, 20, 800, 100, 100, 0)
        second_phase(regime, step, 300, 700, 100, 100, 100)
        assert int(regime.returns) == 0
        with torch.no_grad():
            regime.teacher.network.get_parameter("classifier.weight").zero_()
            regime.teacher.network.get_parameter("classifier.bias").copy_(torch.tensor([0.0, 0.0, 0.0, 9.0]))
        assert float(regime._pseudo(torch.zeros(2, 1, 16, 16, dtype=torch.float64)).share) == 0

    def test_a_run_resumed_before_they_were_known_goes_on_the_same(self):
        whole, other = tiny("fixmatch"), tiny("fixmatch", seed=5)
        for regime in (whole, other):
            regime.meet_labels(torch.tensor([900, 100, 0, 0]))
        first_phase(whole)
        step = second_phase(whole, FIRST, 10, 900, 100, 0, 0)
        other.load_state_dict(copy.deepcopy(whole.state_dict()), strict=True)
        for regime in (whole, other):
            second_phase(regime, step, 200, 900, 100, 0, 0)
            assert not bool(regime.given_up)
        assert same(whole.state_dict(), other.state_dict())

    def test_where_nothing_is_watched_they_are_nothing_to_know(self):
        for settings in ({"guard": 0.0}, {"unlabelled_weight": 0.0}):
            tiny("fixmatch", **settings).meet_labels(torch.tensor([900, 100, 0, 0]))


class TestOutcome:
    """What the end of the run says of the guard."""

    NAMES: ClassVar[dict[int, str]] = {0: "background", 1: "RV", 2: "MYO", 3: "LV"}

    def test_a_run_in_peace_records_that_and_says_nothing(self):
        regime = tiny("fixmatch")
        second_phase(regime, FIRST, 60, *GOOD)
        assert regime.outcome(self.NAMES, LONG) == {"returns": 0, "given_up": False, "taken_back": []}
        assert tiny("fixmatch", guard=0.0).outcome(self.NAMES, LONG) == {}
        assert tiny("fixmatch", unlabelled_weight=0.0).outcome(self.NAMES, LONG) == {}
        assert tiny("supervised").outcome(self.NAMES, LONG) == {}

    def test_returns_are_told_with_steps_classes_and_shares(self, monkeypatch):
        monkeypatch.setattr(_weak_to_strong, "PATIENCE", 5)
        regime = tiny("fixmatch", ramp=0.0)
        first_phase(regime)
        step = FIRST
        for count in (1, 2, 3):
            step = second_phase(regime, second_phase(regime, step, 20, *GOOD), 71, *LOST)
            found = regime.outcome(self.NAMES, LONG)
            assert (found["returns"], found["given_up"]) == (count, count == 3)
            assert len(found["taken_back"]) == count
            last = found["taken_back"][-1]
            assert last["step"] == step - 1
            assert last["classes"] == [1]
            assert last["share_at_first"] == pytest.approx(0.1)
            # 0.98^71 of the way from .1 to .01 is left.
            assert last["share"] == pytest.approx(0.01 + 0.09 * 0.98**71, abs=1e-5)
            why = f"RV took {last['share']:.2%} of the pseudo-labels, 10.00% at first"
            at = [event["step"] for event in found["taken_back"]]
            came = "The supervised weights came back at"
            less = "of their weight from then on."
            assert (
                found["sentence"]
                == {
                    1: f"{came} step {at[0]}: {why}; pseudo-labels had 0.5 {less}",
                    2: f"{came} steps {at[0]} and {at[-1]}: {why}; pseudo-labels had 0.25 {less}",
                    3: f"The second phase was given up at step {at[-1]}: {why}; the network is a supervised one.",
                }[count]
            )
        # A selection may have kept weights that the last return did not touch.
        untouched = regime.outcome(self.NAMES, at[-1])["sentence"]
        assert untouched.endswith(f"; the weights that are kept are from before, after {at[-1]} steps.")
        assert regime.outcome(self.NAMES, at[-1] + 1)["sentence"].endswith("; the network is a supervised one.")

    def test_classes_without_a_pixel_are_named(self):
        for counts, told in (((800, 100, 0, 100), "MYO"), ((1000, 0, 0, 0), "any of RV, MYO, LV")):
            regime = tiny("fixmatch")
            first_phase(regime)
            at = second_phase(regime, FIRST, 20, *counts) - 1
            assert regime.outcome(self.NAMES, LONG)["sentence"] == (
                f"The second phase was given up at step {at}: no pixel of the unlabelled scans was labelled as {told}; "
                "the network is a supervised one."
            )


def nervous(regime):
    """A guard that bites within a toy run: every class that changes at all is out, at once."""
    regime.shares.settle, regime.shares.factor = 1, 1.0001
    return regime


@pytest.mark.parametrize("name", NAMES)
def test_a_run_resumed_anywhere_goes_on_through_every_return(name, monkeypatch, said):
    monkeypatch.setattr(_weak_to_strong, "PATIENCE", 2)

    def made(seed=0):
        return nervous(build(name, seed=seed, network=UNetConfig(width=4, depth=2), cutmix=0.5, threshold=0.3))

    whole = made()
    losses, kept = [], {}
    for step in range(7, TOTAL):
        losses += train(whole, 1, first=step)
        kept[step + 1] = copy.deepcopy(whole.state_dict())
    returns = [int(kept[step]["returns"]) for step in range(8, TOTAL + 1)]
    assert sorted(set(returns)) == [0, 1, 2, 3]
    assert len(said) == 3
    # Before the end of the first phase, just before a return and just behind it.
    back = 8 + returns.index(1)
    for start in (8, back - 1, back):
        other = made(seed=9)
        other.load_state_dict(kept[start], strict=True)
        assert train(other, TOTAL - start, first=start) == losses[start - 7 :]
        assert same(kept[TOTAL], other.state_dict())
