"""Settings of ``finetune``."""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

from fewlabel.core.errors import Fault
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.settings.base import Integers, Names, PathSetting, Settings, plugin_field, setting
from fewlabel.data.augment_settings import AugmentConfig, finetuning_augmentation
from fewlabel.data.patch_positions import FOREGROUND
from fewlabel.engine.compiling import Compile
from fewlabel.engine.optim import OptimiserConfig
from fewlabel.engine.runtime import Device, Precision, thread_setting
from fewlabel.engine.trackers import Tracking
from fewlabel.nets.unet import UNetConfig
from fewlabel.protocol.model_selection import Validation
from fewlabel.protocol.training_eligibility import draw_faults
from fewlabel.stages._batch_norm_statistics import Recalibrate
from fewlabel.stages._shape_checks import patch_faults, view_faults
from fewlabel.stages.finetune.leave_one_out_choice import Expect

Mode = Literal["warm", "frozen", "scratch"]


class FinetuneSettings(Settings):
    """Settings of ``fewlabel finetune``."""

    data: PathSetting = setting(..., "prepared folder")
    out: PathSetting = setting(..., "folder of the segmenter to make; the control goes to OUT-control")
    encoder: PathSetting | None = setting(None, "encoder folder; null trains from scratch")
    start: PathSetting | None = setting(
        None, "segmenter folder whose weights training goes on from, in place of an encoder; null begins anew"
    )
    regime: plugin_field("fewlabel.regimes") = setting("supervised", "how slices become a loss")  # type: ignore[valid-type]
    mode: Mode = setting("warm", "train the encoder, freeze its weights and statistics, or start from scratch")
    transfer: Literal["all", "encoder"] = setting(
        "all",
        "what to load from an encoder folder: all, with pre-trained decoder blocks if any, or the encoder only",
    )
    control: bool = setting(
        False,
        "also train a control with the same budget, labels and batches: from scratch, or supervised where the run "
        "itself is from scratch",
    )
    labelled: int | None = setting(None, "M, labelled patients to use; null for all", unit="patients", ge=1)
    draw: int = setting(0, "which draw of M labelled patients; draws belong to the split", ge=0)
    subjects: Names | None = setting(None, "the labelled patients by id, instead of a draw")
    network: UNetConfig = setting(UNetConfig(), "architecture, when there is no encoder to take it from")
    class_prior: bool = setting(
        True,
        "begin with each class as probable as it is common in the labelled masks, at least 1 %; false: about equally "
        "probable; weights of start stay as they are",
        source="RetinaNet, Lin et al. 2017, for one class",
    )
    augment: AugmentConfig = setting(
        finetuning_augmentation(),
        "augmentation of slices and masks; of patches, in the slice plane",
        source="own choice: no flips, wider where scans differ more; decision 0010",
    )
    widen_augment: bool = setting(
        True,
        "widen rotation, scale and translation of augment to cover how much other scans differ in the plane from the "
        "labelled ones, as prepare measured it, up to 180 degrees, a factor of 2 and a quarter of the side; where that "
        "is unknown, to 60 degrees, 0.7 to 1.6 and 0.12 of the side; never narrower",
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
    view: Integers | None = setting(
        None,
        "train slices on views (height, width) smaller than they are, as 2D patches; prediction takes whole slices; "
        "null: whole slices",
        unit="pixels",
        source="nnU-Net: 2D patches",
    )
    patch: Integers | None = setting(
        None,
        "train on 3D patches (depth, height, width) of the prepared grid, which makes the network 3D; null: on slices",
        unit="voxels",
        source="left atrium: [80, 112, 112] in UA-MT and its followers",
    )
    patch_foreground: float = setting(
        FOREGROUND,
        "share of labelled patches or views placed around a labelled voxel of a random class; the others lie anywhere",
        unit="0 to 1",
        ge=0,
        le=1,
        source="nnU-Net",
    )
    recalibrate: Recalibrate = setting(
        "never",
        "estimate the statistics of batch normalisation anew on unlabelled training slices after training; auto: where "
        "the regime used labelled slices only",
        source="AdaBN, Li et al. 2016",
    )
    recalibrate_share: float = setting(
        0.5,
        "weight of the new statistics against those of training; 1: the new ones alone",
        unit="0 to 1",
        gt=0,
        le=1,
        source="own choice: of networks of one patient, one gained and one lost by 1",
    )
    postprocess: bool = setting(
        True, "clean predictions by a rule derived from the labelled masks: keep the largest pieces, drop specks"
    )
    validation: Validation = setting(
        "auto", "model selection; auto: none for 1-2 patients or without a fair one, else held out"
    )
    validate_every: int = setting(100, "steps between two validations", unit="steps", ge=1)
    expect: Expect = setting(
        "auto",
        "estimate the scores of new patients: leave out each labelled patient in turn, train on the others and score "
        "it; auto: for 2 to 4 labelled patients where no test or validation scan has a label, and wherever validation "
        "leaves patients out anyway",
    )
    seed: int = setting(0, "seed of weights, batches and augmentation", ge=0)
    members: int = setting(
        1,
        "networks of different seeds to train, one after the other; their mean probabilities predict",
        ge=1,
        source="deep ensembles, Lakshminarayanan et al. 2017",
    )
    device: Device = setting("auto", "where to train")
    precision: Precision = setting("auto", "bf16 where the hardware supports it; losses are always float32")
    threads: int = thread_setting()
    compile: Compile = setting(
        "auto",
        "compile training steps, which takes a minute or two; auto: on a CPU with AMX or a GPU, where a compiler works "
        "and the run takes a quarter of an hour or more; a resumed run keeps its choice",
        source="own choice",
    )
    checkpoint_seconds: float = setting(300.0, "time between checkpoints", unit="s", ge=0)
    resume: bool = setting(False, "continue an unfinished run, keep a finished one")
    log_every: int = setting(10, "steps between two rows of metrics.jsonl", ge=1)
    tracking: Tracking = setting(
        (),
        "where figures go beside metrics.jsonl: tensorboard, below the folder of the training; mlflow, where "
        "MLFLOW_TRACKING_URI says; needs the extra tracking",
    )

    def contradictions(self, where: str = "", *, without: Set[str] = frozenset()) -> list[Fault]:
        """Patches and views must fit network and regime, and a draw have its number of patients."""
        faults = []
        if self.start is not None and without.isdisjoint({"start", "encoder", "control", "mode"}):
            clash = ["encoder"] if self.encoder is not None else []
            clash += ["control"] if self.control else []
            clash += ["mode"] if self.mode == "scratch" else []
            faults += [Fault("cannot be combined with start", f"{where}{key}", f"Leave out {key}") for key in clash]
        if without.isdisjoint({"patch", "view"}):
            faults += patch_faults(self.patch, self.network, self.regime, self.encoder, where, single_rows(self))
            faults += view_faults(self.view, self.patch, self.network, self.encoder, where)
        if without.isdisjoint({"labelled", "draw", "subjects"}):
            faults += draw_faults(self.labelled, self.draw, self.subjects, where)
        return faults


def mode_of(settings: FinetuneSettings) -> Mode:
    """What becomes of the encoder: without one, and without a segmenter to go on from, the run starts from scratch."""
    return "scratch" if settings.encoder is None and settings.start is None else settings.mode


def single_rows(settings: FinetuneSettings) -> list[str]:
    """Settings that have one row in a stream of the batch, whose statistics an encoder in training normalises by.

    An encoder that stays as it is normalises by statistics of its own, but that of the control is trained.
    """
    if mode_of(settings) == "frozen" and not settings.control:
        return []
    alone = load_plugin("fewlabel.regimes", settings.regime.name).uses_unlabelled and settings.unlabelled_batch == 1
    return [*(["batch"] if settings.batch == 1 else []), *(["unlabelled_batch"] if alone else [])]
