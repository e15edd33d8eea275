"""``finetune``: a segmentation network learns from the labels of a few patients, from an encoder or from scratch."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from lightning_fabric import Fabric

from fewlabel.core.artifact import open_artifact, read_json, write_json
from fewlabel.core.collective import rank
from fewlabel.core.config import Integers, Names, PathSetting, Settings, plugin_field, setting
from fewlabel.core.discovery import load_plugin
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.progress import say
from fewlabel.core.rng import stream_seed
from fewlabel.data.augment import AugmentConfig, finetuning_augmentation
from fewlabel.data.patches import FOREGROUND
from fewlabel.data.splits import LabelDraw, draw_labels
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.engine.optim import OptimiserConfig
from fewlabel.engine.runs import close_run, finished_before, identity
from fewlabel.engine.runtime import Device, Precision, fast_kernels, start
from fewlabel.engine.weights import load_decoder_into, load_encoder_into, save_segmenter
from fewlabel.nets.layout import channels_last
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.stages._fit import Fit, Recipe
from fewlabel.stages._learnt_from import labels_of_encoder
from fewlabel.stages._selection import Validation, choose_selection
from fewlabel.stages._volumes import check_encoder, check_patch, patch_size

Mode = Literal["warm", "frozen", "scratch"]


class FinetuneSettings(Settings):
    """Settings of ``fewlabel finetune``."""

    data: PathSetting = setting(..., "prepared folder")
    out: PathSetting = setting(..., "folder of the segmenter to make; the control goes to OUT-control")
    encoder: PathSetting | None = setting(None, "encoder folder; null trains from scratch")
    regime: plugin_field("fewlabel.regimes") = setting("supervised", "how slices become a loss")  # type: ignore[valid-type]
    mode: Mode = setting("warm", "train the encoder, freeze its weights and statistics, or start from scratch")
    transfer: Literal["all", "encoder"] = setting(
        "all", "what to take from an encoder folder: pre-trained decoder blocks too, where it has them, or not"
    )
    control: bool = setting(
        False,
        "also train a control with equal budget, labels and batches: from scratch; where the run is that, supervised",
    )
    labelled: int | None = setting(None, "M, labelled patients to use; null for all", unit="patients", ge=1)
    draw: int = setting(0, "which draw of M labelled patients", ge=0)
    subjects: Names | None = setting(None, "the labelled patients by id, instead of a draw")
    network: UNetConfig = setting(UNetConfig(), "architecture, when there is no encoder to take it from")
    augment: AugmentConfig = setting(
        finetuning_augmentation(), "augmentation of slices and masks; of patches, in the slice plane"
    )
    optimiser: OptimiserConfig = setting(
        OptimiserConfig(name="adam", lr=1e-3, weight_decay=1e-5, min_lr=5e-6),
        "optimiser and its rate",
        source="GCL: Adam, cosine; rate: own choice",
    )
    encoder_lr: float = setting(
        1.0,
        "rate of a pre-trained encoder as a share of optimiser.lr; from scratch the share is 1",
        gt=0,
        le=1,
        source="own choice",
    )
    steps: int = setting(3000, "length of the run", unit="optimisation steps", ge=1)
    batch: int = setting(
        10, "labelled slices or patches in a joined batch", ge=1, source="code of PCL, whose protocol GCL follows"
    )
    unlabelled_batch: int | None = setting(
        None,
        "unlabelled slices or patches in a joined batch, for regimes that use them; null for as many as labelled ones",
        ge=1,
    )
    patch: Integers | None = setting(
        None,
        "train on 3D patches (depth, height, width) of the prepared grid, which makes the network 3D; null: on slices",
        unit="voxels",
        source="left atrium: [80, 112, 112] in UA-MT and its followers",
    )
    patch_foreground: float = setting(
        FOREGROUND,
        "share of labelled patches about a labelled voxel of a random class; the others lie anywhere",
        unit="0 to 1",
        ge=0,
        le=1,
        source="nnU-Net",
    )
    validation: Validation = setting(
        "auto", "model selection; auto: none for 1-2 patients or without a fair one, else held out"
    )
    validate_every: int = setting(100, "steps between two validations", unit="steps", ge=1)
    seed: int = setting(0, "seed of weights, batches, augmentation and random label draws", ge=0)
    device: Device = setting("auto", "where to train")
    precision: Precision = setting("auto", "bf16 where the hardware has it; losses are float32 always")
    checkpoint_seconds: float = setting(300.0, "time between checkpoints", unit="s", ge=0)
    resume: bool = setting(False, "continue an unfinished run, keep a finished one")
    log_every: int = setting(10, "steps between two rows of metrics.jsonl", ge=1)

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str = "", base: Settings | None = None) -> Self:
        """As for all settings, and patches must fit network and regime."""
        built = super().parse(values, where=where, base=base)
        check_patch(built.patch, built.network, built.regime, built.encoder, where)
        return built


SETTINGS = FinetuneSettings


def run(settings: FinetuneSettings) -> Path:
    """Fine-tune and leave an artifact of kind ``segmenter``; with ``control`` a second one beside it.

    Raises:
        SettingsError: If settings contradict each other or the data, or ``out`` holds another run.
        DataError: If labels are missing for what was asked.
        DivergedError: If a number is not finite.
        RunStoppedError: After Ctrl-C, once the state is saved.
    """
    if settings.mode == "frozen" and settings.encoder is None:
        fault = Fault("a frozen encoder has to come from somewhere", "no encoder", "encoder", "add encoder=FOLDER")
        raise SettingsError("These settings are not valid:", [fault])
    _Arm(settings, settings.out, _mode(settings)).run()
    if settings.control:
        control = control_of(settings)
        if control is None:
            say("No control: a supervised run from scratch is its own.")
        else:
            _Arm(control, control_folder(settings.out), "scratch").run()
    return settings.out


def begin(settings: FinetuneSettings) -> Fit:
    """The fit of a run without validation, ready to take steps one by one."""
    fabric = start(settings.device, settings.precision)
    fast_kernels(fabric.device.type)
    return _Arm(settings, settings.out, _mode(settings)).prepare_fit(fabric)


def control_of(settings: FinetuneSettings) -> FinetuneSettings | None:
    """Settings of the control, which is trained from scratch; None where the run would be its own control.

    It shows what an encoder was worth. Where the run begins from scratch itself the control is supervised, with the
    run's loss on labels, and shows what the regime was worth.
    """
    if _mode(settings) != "scratch":
        return settings
    supervised: type[Settings] = load_plugin("fewlabel.regimes", "supervised").Config
    if isinstance(settings.regime, supervised):
        return None
    shared = {key: value for key, value in settings.regime if key in supervised.model_fields and key != "name"}
    return settings.model_copy(update={"regime": supervised.parse(shared)})


def _mode(settings: FinetuneSettings) -> Mode:
    return settings.mode if settings.encoder is not None else "scratch"


def control_folder(out: Path) -> Path:
    """Where the scratch control of a segmenter goes."""
    return out.with_name(f"{out.name}-control")


class _Arm:
    """One segmenter: data, labels, selection, fit, files."""

    def __init__(self, settings: FinetuneSettings, out: Path, mode: Mode) -> None:
        self.settings = settings
        self.out = out
        self.mode = mode
        self.encoder = settings.encoder if mode != "scratch" else None
        self.store = PreparedStore(settings.data)
        self.draw: LabelDraw = draw_labels(
            self.store.split, settings.labelled, settings.draw, settings.seed, settings.subjects
        )
        hashes = {"data_hash": self.store.manifest.content_hash}
        if settings.encoder is not None:
            hashes["encoder_hash"] = open_artifact(settings.encoder, "encoder").content_hash
            check_encoder(settings.patch, settings.encoder)
        self.seen = labels_of_encoder(
            self.encoder,
            self.draw.labelled,
            rule="an encoder that learnt from labels may have seen those of this draw only",
            remedy=f"pre-train with subjects=[{','.join(self.draw.labelled)}], or fine-tune on its draw",
        )
        self.same = {**identity(settings.record(), **hashes), "mode": mode}

    def run(self) -> None:
        """Fit and write the artifact, unless it is there already."""
        started = time.monotonic()
        settings = self.settings
        if finished_before(self.out, "segmenter", self.same, resume=settings.resume):
            say(f"{self.out} is finished and kept.")
            return
        fabric = start(settings.device, settings.precision)
        fast_kernels(fabric.device.type)
        selection = choose_selection(settings.validation, self.draw, self.seen, settings.steps)
        stop = self._leave_one_out(fabric) if selection == "leave_one_out" else None
        validation = self._cases(self.draw.validation)
        fit = self._fit(
            fabric,
            self.draw.labelled,
            validation if selection != "none" else (),
            self.out,
            keep_best=selection == "held_out",
        )
        network = fit.run(stop)
        if rank() == 0:
            save_segmenter(self.out, network, self._facts(network, selection, stop or fit.best_step))
        close_run(
            self.out,
            "segmenter",
            ["segmenter.safetensors", "segmenter.json", "metrics.jsonl"],
            parents=[settings.data, *([self.encoder] if self.encoder else [])],
            settings=settings.record(),
            same=self.same,
            seed=settings.seed,
            device=str(fabric.device),
            started=started,
        )
        fit.clean()

    def prepare_fit(self, fabric: Fabric) -> Fit:
        """The fit on all labelled patients of the draw, without validation."""
        return self._fit(fabric, self.draw.labelled, (), self.out, keep_best=False)

    def _leave_one_out(self, fabric: Fabric) -> int:
        """Number of steps whose validation Dice, averaged over left-out patients, is highest."""
        curves: list[dict[int, float]] = []
        for subject in self.draw.labelled:
            folder = self.out / f"left-out-{subject}"
            done = folder / "curve.json"
            if not done.is_file():
                others = tuple(other for other in self.draw.labelled if other != subject)
                fit = self._fit(fabric, others, self._cases((subject,)), folder, keep_best=False)
                fit.run()
                if rank() == 0:
                    write_json(done, {str(step): value for step, value in fit.curve.items()})
                fit.clean()
            curves.append({int(step): value for step, value in read_json(done).items()})
        return max(curves[0], key=lambda step: float(np.mean([curve[step] for curve in curves])))

    def _fit(
        self,
        fabric: Fabric,
        labelled: tuple[str, ...],
        validation: tuple[PreparedCase, ...],
        folder: Path,
        *,
        keep_best: bool,
    ) -> Fit:
        settings = self.settings
        indices = self.store.slices_of(labelled, labelled=True)
        if len(indices) == 0:
            fault = Fault("fine-tuning needs labelled slices", "none", ", ".join(labelled), "name labelled patients")
            raise DataError("There is nothing to train on:", [fault])
        parts = self.store.split["parts"]
        held = {case.subject for case in validation} | set(self.draw.validation) | set(parts.get("test", []))
        allowed = (set(parts["train"]) | set(parts["pretrain"])) - held - set(labelled)
        recipe = Recipe(
            regime=settings.regime,
            augment=settings.augment,
            optimiser=settings.optimiser,
            encoder_lr=settings.encoder_lr if self.mode == "warm" else 1.0,
            steps=settings.steps,
            batch=settings.batch,
            unlabelled_batch=settings.unlabelled_batch,
            validate_every=settings.validate_every,
            seed=settings.seed,
            checkpoint_seconds=settings.checkpoint_seconds,
            log_every=settings.log_every,
            resume=settings.resume,
            frozen=self.mode == "frozen",
            pretrained=self.mode != "scratch",
            patch=patch_size(settings.patch),
            patch_foreground=settings.patch_foreground,
        )
        return Fit(
            recipe,
            fabric,
            self.store,
            self._network(fabric.device),
            indices=indices,
            unlabelled=self.store.slices_of(sorted(allowed)),
            validation=validation,
            keep_best=keep_best,
            folder=folder,
            same=self.same,
            title="finetune" if self.mode != "scratch" else "finetune from scratch",
        )

    def _network(self, device: torch.device) -> UNet:
        """A network whose weights beside the encoder are equal for all modes of one seed."""
        config = self.settings.network
        if self.settings.encoder is not None:
            facts = read_json(self.settings.encoder / "encoder.json")
            config = UNetConfig.parse(facts["architecture"])
        kind = {"in_channels": int(self.store.images.shape[1]), "ndim": 2 if self.settings.patch is None else 3}
        config = config.model_copy(update=kind)
        torch.manual_seed(stream_seed(self.settings.seed, "segmenter"))
        network = UNet(config, len(self.store.label_names))
        if self.encoder is not None:
            load_encoder_into(self.encoder, network.encoder)
            if self.settings.transfer == "all":
                load_decoder_into(self.encoder, network.decoder)
        return channels_last(network.to(device))

    def _cases(self, subjects: tuple[str, ...]) -> tuple[PreparedCase, ...]:
        return tuple(case for case in self.store.cases if case.subject in subjects and case.label is not None)

    def _facts(self, network: UNet, selection: str, best_step: int | None) -> Mapping[str, Any]:
        used = self.draw.validation if selection == "held_out" else ()
        return {
            "classes": network.classes,
            "label_names": {str(key): value for key, value in self.store.label_names.items()},
            "plan": json.loads(json.dumps(self.store.plan)),
            "reader": self.store.manifest.settings.get("reader", "auto"),
            "labelled_subjects": list(self.draw.labelled),
            "labelled_slices": len(self.store.slices_of(self.draw.labelled, labelled=True)),
            "validation_subjects": list(used),
            "selection": selection,
            "patch": None if self.settings.patch is None else list(self.settings.patch),
            "regime": self.settings.regime.name,
            "initialisation": {"warm": "pretrained encoder", "frozen": "frozen encoder", "scratch": "scratch"}[
                self.mode
            ],
            "steps": self.settings.steps,
            "best_step": best_step,
        }
