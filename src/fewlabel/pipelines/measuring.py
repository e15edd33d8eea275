"""What steps take on this machine: a few real ones of each training, in a folder that is thrown away."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fewlabel.core.progress import silence
from fewlabel.data.preprocess import Plan, restore_probabilities
from fewlabel.data.store import UNLABELLED, PreparedCase, PreparedStore
from fewlabel.data.windows import Patch
from fewlabel.engine.embedding import embed_slices
from fewlabel.engine.inference import WINDOW, folded, predict_volume
from fewlabel.engine.runtime import choose_device, fast_kernels, start
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.pipelines._labels import selection_of
from fewlabel.pipelines.budget import Cost
from fewlabel.scoring.metrics import score_case
from fewlabel.stages._arm import Arm
from fewlabel.stages._finetune_settings import FinetuneSettings, mode_of
from fewlabel.stages._fit import Fit
from fewlabel.stages._selection import Selection
from fewlabel.stages._volumes import patch_size
from fewlabel.stages.evaluate import EvaluateSettings, reference_of
from fewlabel.stages.finetune import control_of
from fewlabel.stages.pretrain import EMBEDDED, Pretraining, PretrainSettings, network_for

#: Length of the run that measured steps are taken from; what counts are the shares of its stages.
NOMINAL = 100_000
#: Measured steps of a stage: as many as go into so many seconds, after one that does not count.
SECONDS, FEWEST, MOST = 3.0, 2, 7
#: So small that weights stay what they are, whatever the rate would make of them.
_STILL = {"lr": 1e-12, "min_lr": 0.0}

Parts = Sequence[tuple[int, int]]


def parts_of(stage: Callable[[int, int], tuple[int, int]], rest: float = 0.0) -> list[tuple[int, int]]:
    """First step and length of each part of a run whose steps cost alike: its stages, and its rest.

    Args:
        stage: First step and length of the stage that a step of so many belongs to.
        rest: Share of the run, from its start, in which unlabelled slices are left alone.
    """
    borders = {math.ceil(rest * NOMINAL)}
    at = 0
    while at < NOMINAL:
        begun, length = stage(at, NOMINAL)
        borders.add(begun)
        at = begun + length
    firsts = sorted({0, *(border for border in borders if border < NOMINAL)})
    return [(first, last - first) for first, last in zip(firsts, [*firsts[1:], NOMINAL], strict=True)]


def mean_seconds(work: Callable[[int], object], parts: Parts) -> float:
    """Seconds of a step as a mean over the run: medians of steps in the middle of each part, by their shares.

    Args:
        work: Takes one step, given its number.
        parts: First step and length of each part.
    """
    return sum(length / NOMINAL * _median(lambda at=first + length // 2: work(at)) for first, length in parts)  # type: ignore[misc]


def _median(work: Callable[[], object]) -> float:
    """Seconds that ``work`` usually takes."""
    first = _seconds(work)
    count = min(max(int(SECONDS / max(first, 1e-6)), FEWEST), MOST)
    return statistics.median(_seconds(work) for _ in range(count))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _lowest(warmup: int, stage: Callable[[int, int], tuple[int, int]]) -> int:
    """Fewest steps whose shortest stage is longer than the warm-up."""
    shortest = min(length for _, length in parts_of(stage))
    return math.ceil((warmup + 1) * NOMINAL / shortest) if warmup else 1


@contextmanager
def _rehearsal(settings: Any) -> Iterator[Any]:
    """The settings of a training in a folder that is thrown away, which tells nobody anything."""
    with TemporaryDirectory(prefix="fewlabel-") as folder, silence():
        yield settings.model_copy(
            update={
                "out": Path(folder) / "run",
                "resume": False,
                "steps": NOMINAL,
                "checkpoint_seconds": 1e9,
                "optimiser": settings.optimiser.model_copy(update=_STILL),
            }
        )


def pretraining_cost(settings: PretrainSettings, store: PreparedStore) -> Cost:
    """What pre-training takes.

    Raises:
        FewlabelError: As :func:`fewlabel.stages.pretrain.run`.
    """
    with _rehearsal(settings) as asked:
        built = asked.model_copy(update={"network": network_for(asked, store)})
        training = Pretraining.begin(built, store=store)
        training.method.train()
        step = mean_seconds(
            lambda at: training.loop(at, at + 1).run(training.step, at), parts_of(training.method.stage)
        )
        training.method.eval()
        sample = training.indices[:32]
        images, device = store.images, training.fabric.device
        embedding = _seconds(lambda: embed_slices(training.method.embed, images, sample, device)) / len(sample)
        lowest = _lowest(settings.optimiser.warmup, training.method.stage)
    return Cost("pretrain", step, fixed=embedding * min(EMBEDDED, len(training.indices)), lowest=lowest)


def finetuning_costs(
    settings: FinetuneSettings,
    selection: Selection,
    encoder: UNetConfig | None = None,
    *,
    expects: bool = False,
) -> tuple[tuple[Cost, ...], UNet]:
    """What fine-tuning takes and, if there is one, its control; and the network that predicts.

    Args:
        settings: Of the stage; an encoder named in them need not be there yet.
        selection: How the weights are selected.
        encoder: Architecture of the encoder to come; None without.
        expects: Whether labelled patients are left out to tell what to expect.

    Raises:
        FewlabelError: As :func:`fewlabel.stages.finetune.run`.
    """
    alone = settings.model_copy(update={"encoder": None, "network": encoder or settings.network})
    control = control_of(settings) if settings.control else None
    with _rehearsal(alone) as asked:
        arm = _arm(asked, mode_of(settings), selection)
        model = _prepared(arm)
        network, between = model.regime.inference_network(), 0.0
        step = _step(model)
        # A left-out patient takes one network, whatever the members.
        fits = settings.members + (len(arm.draw.labelled) if expects or selection == "leave_one_out" else 0)
        if selection != "none":
            between = _selecting(arm, network, fits)
        lowest = _lowest(settings.optimiser.warmup, model.regime.stage)
        costs = [Cost("finetune", step + between, fits=fits, lowest=lowest)]
        if control is not None:
            twin = _prepared(_arm(asked.model_copy(update={"regime": control.regime}), "scratch", selection))
            alike = control.regime == settings.regime and _parts(twin) == _parts(model) and not model.recipe.frozen
            costs.append(Cost("control", (step if alike else _step(twin)) + between, fits=fits, lowest=lowest))
    return tuple(costs), network


def _arm(settings: FinetuneSettings, mode: Any, selection: Selection) -> Arm:
    return Arm(settings, settings.out, mode, selection, expects=False)


def _prepared(arm: Arm) -> Fit:
    fabric = start(arm.settings.device, arm.settings.precision)
    fast_kernels(fabric.device.type)
    return arm.prepare_fit(fabric)


def _parts(fit: Fit) -> Parts:
    """Stages of a regime, and where its rest ends."""
    return parts_of(fit.regime.stage, float(getattr(fit.regime.config, "rest", 0.0)))


def _step(fit: Fit) -> float:
    fit.train_mode()
    return mean_seconds(lambda at: fit.loop(at, at + 1).run(fit.step, at), _parts(fit))


def _selecting(arm: Arm, network: UNet, fits: int) -> float:
    """Seconds of validation for each step, as a mean over all fits."""
    subjects = arm.draw.validation if arm.selection == "held_out" else arm.draw.labelled
    cases = [case for case in arm.store.cases if case.subject in subjects and case.label is not None]
    slices = sum(case.stop - case.start for case in cases)
    typical = _typical(cases)
    window = patch_size(arm.settings.patch) or WINDOW
    one = _seconds(lambda: predict_volume(network, _images(arm.store, typical), window=window))
    whole = one / (typical.stop - typical.start) * slices / arm.settings.validate_every
    # With a left-out patient each is validated on in one fit.
    return whole if arm.selection == "held_out" else whole / fits


def evaluation_seconds(settings: EvaluateSettings, store: PreparedStore, network: UNet, window: Patch | None) -> float:
    """What it takes to score a network on the scans of the part, by one scan outside the test part.

    Args:
        settings: Of the stage.
        store: The prepared data.
        network: Of the architecture to come.
        window: Largest window of a 3D network; None for the usual one.

    Raises:
        DataError: If the label file of that scan has changed.
    """
    plan = Plan.load(store.plan)
    test = set(store.split["parts"].get(settings.part, ()))
    labelled = [case for case in store.cases if case.label is not None]
    scored = [case for case in labelled if case.subject in test]
    typical = _typical([case for case in labelled if case.subject not in test])
    reference, spacing = reference_of(store, typical, plan, settings.grid)
    reference[reference == UNLABELLED] = 0
    classes = [index for index in store.label_names if index]
    # What it imports is there from now on.
    score_case(np.ones((1, 4, 4), dtype=np.uint8), np.ones((1, 4, 4), dtype=np.uint8), (1, 1, 1), [1])
    ready = folded(network)
    device = choose_device(settings.device)

    def work() -> None:
        found = predict_volume(
            ready,
            _images(store, typical),
            batch=settings.batch,
            flip=settings.flip,
            device=device,
            precision=settings.precision,
            window=window or WINDOW,
        )
        if settings.grid == "original":
            reference_of(store, typical, plan, settings.grid)
            found = restore_probabilities(found, typical.record)
        found.argmax(axis=0)
        # A network finds about what there is.
        score_case(reference, reference, spacing, classes, surface=settings.surface)

    slices = sum(case.stop - case.start for case in scored)
    return _seconds(work) / (typical.stop - typical.start) * slices


@dataclass(frozen=True)
class Measured:
    """What the trainings of a run take, and its evaluation in seconds; None and empty for what takes no part."""

    pretrain: Cost | None
    arms: tuple[Cost, ...]
    evaluation: float | None


def measure(plans: Mapping[str, Any], store: PreparedStore, *, trains: bool, evaluates: bool) -> Measured:
    """Take a few steps of each training of a run, and score one scan.

    Args:
        plans: Settings of the stages that take part.
        store: The prepared data.
        trains: Whether there are labels to fine-tune on.
        evaluates: Whether there are labels to evaluate on.

    Raises:
        FewlabelError: Whatever a stage raises.
    """
    pretrain = pretraining_cost(plans["pretrain"], store) if "pretrain" in plans else None
    if not trains:
        return Measured(pretrain, (), None)
    encoder = network_for(plans["pretrain"], store) if "pretrain" in plans else None
    selection, expects = selection_of(store, plans)
    arms, network = finetuning_costs(plans["finetune"], selection, encoder, expects=expects)
    if not evaluates:
        return Measured(pretrain, arms, None)
    window = patch_size(plans["finetune"].patch)
    networks = 1 if plans["evaluate"].control is None else 2
    return Measured(pretrain, arms, networks * evaluation_seconds(plans["evaluate"], store, network, window))


def _typical(cases: Sequence[PreparedCase]) -> PreparedCase:
    """The scan of the middle number of slices."""
    return sorted(cases, key=lambda case: case.stop - case.start)[len(cases) // 2]


def _images(store: PreparedStore, case: PreparedCase) -> Any:
    return np.asarray(store.images[case.start : case.stop], dtype=np.float32).swapaxes(0, 1)
