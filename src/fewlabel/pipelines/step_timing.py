"""What steps take on this machine: a few real ones of each training, in a folder that is thrown away."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fewlabel.core.errors import RunStoppedError
from fewlabel.core.progress import silence
from fewlabel.data.back_to_scan_grid import restore_probabilities
from fewlabel.data.preprocess import Plan
from fewlabel.data.store import UNLABELLED, PreparedCase, PreparedStore
from fewlabel.engine.compiling import plainly
from fewlabel.engine.inference import WINDOW, folded, predict_volume
from fewlabel.engine.runtime import choose_device
from fewlabel.nets.unet import UNetConfig
from fewlabel.pipelines.time_budget_arithmetic import Cost
from fewlabel.pipelines.time_estimate import NOMINAL, Parts, first_seconds, mean_seconds, parts_of, seconds_of
from fewlabel.scoring.component_rule import clean
from fewlabel.scoring.metrics import score_case
from fewlabel.stages import finetune, pretrain
from fewlabel.stages.evaluate import EvaluateSettings, reference_of
from fewlabel.stages.finetune import FinetuneSettings, LabelUse, SegmentationTrainer, SegmenterRun, control_of, mode_of
from fewlabel.stages.pretrain import EMBEDDED, PretrainingTrainer, PretrainSettings
from fewlabel.stages.report import candidates

Trained = PretrainingTrainer | SegmentationTrainer
#: Scored scans that a report shows.
SHOWN = 3
#: So small that weights stay what they are, whatever the rate would make of them.
_STILL = {"lr": 1e-12, "min_lr": 0.0}


def _lowest(warmup: int, stage: Callable[[int, int], tuple[int, int]]) -> int:
    """Fewest steps whose shortest stage is longer than the warm-up."""
    shortest = min(length for _, length in parts_of(stage))
    return math.ceil((warmup + 1) * NOMINAL / shortest) if warmup else 1


@contextmanager
def _rehearsal(settings: Any) -> Iterator[Any]:
    """The settings of a training in a folder that is thrown away, which tells nobody anything."""
    with TemporaryDirectory(prefix="fewlabel-") as folder, silence():
        update = {
            "out": Path(folder) / "run",
            "resume": False,
            "steps": NOMINAL,
            "checkpoint_seconds": 1e9,
            "tracking": (),
            "optimiser": settings.optimiser.model_copy(update=_STILL),
        }
        try:
            yield settings.model_copy(update=update)
        except RunStoppedError as error:
            message = "Stopped while steps were timed, before any training; repeat the command with --resume."
            raise RunStoppedError(message) from error


def pretraining_cost(settings: PretrainSettings, store: PreparedStore) -> Cost:
    """What pre-training takes.

    Raises:
        FewlabelError: As :func:`fewlabel.stages.pretrain.run`.
    """
    with _rehearsal(settings) as asked:
        training = PretrainingTrainer.begin(asked, store=store)
        training.settle(settings.steps)
        compiling, step = _step(training)
        training.model.eval()
        sample = training.indices[:32]
        embedding = seconds_of(lambda: training.embeddings(sample)) / len(sample)
        lowest = _lowest(settings.optimiser.warmup, training.model.training_phase)
    fixed = compiling + embedding * min(EMBEDDED, len(training.indices))
    return Cost("pretrain", step, fixed=fixed, lowest=lowest)


def finetuning_costs(
    settings: FinetuneSettings, labels: LabelUse, encoder: UNetConfig | None = None
) -> tuple[tuple[Cost, ...], SegmentationTrainer]:
    """What fine-tuning takes and, if there is one, its control; and the trainer of an untrained model.

    Args:
        settings: Of the stage; an encoder named in them need not be there yet.
        labels: What the labels serve for.
        encoder: Architecture of the encoder to come; None without.

    Raises:
        FewlabelError: As :func:`fewlabel.stages.finetune.run`.
    """
    alone = settings.model_copy(update={"encoder": None, "network": encoder or settings.network})
    control = control_of(settings) if settings.control else None
    with _rehearsal(alone) as asked:
        arm = SegmenterRun(asked, asked.out, mode_of(settings), labels=labels)
        model = arm.prepare(settings.steps)
        compiling, step = _step(model)
        closing = _statistics(model)
        between, left_out = _selecting(arm, model, closing)
        # A left-out patient takes one network, whatever the members; where one is left out to select, it serves.
        left_out = max(left_out, labels.left_out_fits)
        fits = settings.members + left_out
        common: dict[str, Any] = {
            "fits": fits,
            "lowest": _lowest(settings.optimiser.warmup, model.model.training_phase),
            "most_pixels": 0 if settings.patch else math.prod(settings.view) if settings.view else math.inf,
        }
        costs = [Cost("finetune", step + between, fixed=fits * closing + compiling, **common)]
        if control is not None:
            supervised = asked.model_copy(update={"regime": control.regime})
            twin = SegmenterRun(supervised, asked.out, "scratch", arm.inputs, labels=labels).prepare(settings.steps)
            alike = control.regime == settings.regime and _parts(twin) == _parts(model) and not model.frozen
            if not alike:
                compiling, step = _step(twin)
            costs.append(Cost("control", step + between, fixed=fits * closing + compiling, **common))
    return tuple(costs), model


def _parts(training: Trained) -> Parts:
    """Phases of a method or regime, and where the rest of a regime ends."""
    return parts_of(training.model.training_phase, float(getattr(training.model.settings, "rest", 0.0)))


def _step(training: Trained) -> tuple[float, float]:
    """Seconds of compiling, and of a step."""

    def work(at: int) -> None:
        training.loop(at, at + 1).run(training.step, at)

    training.train_mode()
    compiling = first_seconds(work, _parts(training), training.model) if training.compiled else 0.0
    return compiling, mean_seconds(work, _parts(training), training.model)


def _statistics(fit: SegmentationTrainer) -> float:
    """Seconds that a trained network takes to get statistics of other images; 0 where it keeps its own."""
    if fit.statistics is None:
        return 0.0
    network = copy.deepcopy(fit.model.inference_network())
    return seconds_of(lambda: fit.take_statistics(network))


def _selecting(arm: SegmenterRun, fit: SegmentationTrainer, closing: float) -> tuple[float, int]:
    """Seconds of validation for each step, as a mean over all fits, and the number of fits that leave one out."""
    settings, store, selection = arm.settings, arm.store, arm.selection
    if selection == "none":
        return 0.0, 0
    subjects = arm.draw.validation if selection == "held_out" else arm.draw.labelled
    cases = [case for case in store.cases if case.subject in subjects and case.label is not None]
    typical, slices = _typical(cases), sum(case.stop - case.start for case in cases)
    network, window = fit.model.inference_network(), fit.patch or WINDOW
    with plainly(fit.compiled):
        one = seconds_of(lambda: predict_volume(network, _images(store, typical), window=window))
    whole = one / (typical.stop - typical.start) * slices
    if selection == "held_out":
        return (whole + closing) / settings.validate_every, 0
    # Each patient is validated on in one fit, and in those of all patients none is.
    left_out = len(subjects)
    return (whole + left_out * closing) / (left_out + settings.members) / settings.validate_every, left_out


def evaluation_seconds(
    settings: EvaluateSettings, store: PreparedStore, fit: SegmentationTrainer, members: int = 1
) -> float:
    """What it takes to score a network on the scans of the part, by one scan outside the part.

    Args:
        settings: Of the stage.
        store: The prepared data.
        fit: Of a network of the architecture to come.
        members: Networks whose predictions are averaged.

    Raises:
        DataError: If the label file of that scan has changed.
    """
    plan = Plan.load(store.plan)
    scored_subjects = set(store.split["parts"].get(settings.part, ()))
    labelled = [case for case in store.cases if case.label is not None]
    scored = [case for case in labelled if case.subject in scored_subjects]
    typical = _typical([case for case in labelled if case.subject not in scored_subjects])
    # What it imports is there from now on.
    score_case(np.ones((1, 4, 4), dtype=np.uint8), np.ones((1, 4, 4), dtype=np.uint8), (1, 1, 1), [1])
    ready, window = folded(fit.model.inference_network()), fit.patch or WINDOW
    asked: dict[str, Any] = {key: getattr(settings, key) for key in ("batch", "flip", "precision")}
    device = choose_device(settings.device)
    rule = fit.rule if settings.postprocess else None

    def predict() -> None:
        for _ in range(members):
            shares = predict_volume(ready, _images(store, typical), device=device, window=window, **asked)
            if settings.grid == "original":
                shares = restore_probabilities(shares, typical.record)
            shares.argmax(axis=0)

    def score() -> None:
        reference, spacing = reference_of(store, typical, plan, settings.grid)
        reference[reference == UNLABELLED] = 0
        # A network finds about what there is.
        mask, _ = clean(reference, rule, math.prod(spacing))
        classes = [index for index in store.label_names if index]
        score_case(mask, reference, spacing, classes, surface=settings.surface)

    slices = sum(case.stop - case.start for case in scored)
    return (seconds_of(predict) + seconds_of(score)) / (typical.stop - typical.start) * slices


def prediction_seconds(store: PreparedStore, fit: SegmentationTrainer, cases: Sequence[str], members: int) -> float:
    """What it takes to predict scans of a store, by one of them of the middle number of slices.

    Args:
        store: The prepared data.
        fit: Of a network of the architecture to come.
        cases: The scans, by id.
        members: Networks whose predictions are averaged.
    """
    scans = [case for case in store.cases if case.id in set(cases)]
    if not scans:
        return 0.0
    typical, window = _typical(scans), fit.patch or WINDOW
    ready = folded(fit.model.inference_network())
    one = seconds_of(lambda: predict_volume(ready, _images(store, typical), window=window))
    seconds: float = one / _depth(typical) * sum(map(_depth, scans)) * members
    return seconds


def shown_seconds(
    plans: Mapping[str, Any],
    store: PreparedStore,
    fit: SegmentationTrainer,
    labels: LabelUse,
    arms: int,
    *,
    evaluates: bool,
) -> float:
    """What it takes to predict the scans that a report shows, or chooses those from, by one scan outside the part.

    Args:
        plans: Settings of the stages that take part.
        store: The prepared data.
        fit: Of a network of the architecture to come.
        labels: What the labels serve for.
        arms: Segmenters that are scored: the model, and its control where there is one.
        evaluates: Whether scans are scored; the report shows some of them then, unlabelled ones otherwise.
    """
    learning = plans["finetune"]
    scored = set(store.split["parts"].get(plans["evaluate"].part, ()))
    # Unlabelled scans are shown anyhow, chosen from so many that are predicted by the network in use.
    surveyed = candidates(store, labels.subjects) if plans["report"].unlabelled else []
    scans = [case for case in store.cases if case.subject in scored and case.label is not None] if evaluates else []
    # The best, the median and the worst; which these are is not known yet.
    cases = [*surveyed, *([_typical(scans)] * min(SHOWN, len(scans)) * arms if scans else [])]
    if not cases:
        return 0.0
    typical = _typical([case for case in store.cases if case.subject not in scored])
    ready, window = folded(fit.model.inference_network()), fit.patch or WINDOW
    device = choose_device(plans["report"].device)
    one = seconds_of(lambda: predict_volume(ready, _images(store, typical), device=device, window=window))
    seconds: float = one / _depth(typical) * sum(map(_depth, cases)) * learning.members
    return seconds


@dataclass(frozen=True)
class Measured:
    """What the parts of a run take; None and empty for what takes no part.

    Attributes:
        pretrain: Pre-training.
        arms: Fine-tuning and its control.
        evaluation: Seconds of the evaluation.
        shown: Seconds of the predictions that the report is made with.
    """

    pretrain: Cost | None
    arms: tuple[Cost, ...]
    evaluation: float | None
    shown: float = 0.0


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
    encoder = pretrain.check(plans["pretrain"], store) if "pretrain" in plans else None
    pretraining = None if encoder is None else pretraining_cost(plans["pretrain"], store)
    if not trains:
        return Measured(pretraining, (), None)
    _, labels = finetune.check(plans["finetune"], store, encoder, user_network=(), steps_open=True)
    arms, fit = finetuning_costs(plans["finetune"], labels, None if encoder is None else encoder.network)
    shown = shown_seconds(plans, store, fit, labels, len(arms), evaluates=evaluates)
    if not evaluates:
        return Measured(pretraining, arms, None, shown)
    scoring = evaluation_seconds(plans["evaluate"], store, fit, plans["finetune"].members)
    return Measured(pretraining, arms, len(arms) * scoring, shown)


def _typical(cases: Sequence[PreparedCase]) -> PreparedCase:
    """The scan of the middle number of slices."""
    return sorted(cases, key=_depth)[len(cases) // 2]


def _depth(case: PreparedCase) -> int:
    """Number of slices."""
    return case.stop - case.start


def _images(store: PreparedStore, case: PreparedCase) -> Any:
    return np.asarray(store.images[case.start : case.stop], dtype=np.float32).swapaxes(0, 1)
