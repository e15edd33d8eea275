"""Settings of ``pretrain``."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from pydantic import field_validator

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import Names, PathSetting, Settings, plugin_field, setting
from fewlabel.data.augment_settings import AugmentConfig, pretraining_augmentation
from fewlabel.data.sampling import SamplerConfig
from fewlabel.engine.compiling import Compile
from fewlabel.engine.optim import OptimiserConfig
from fewlabel.engine.runtime import Device, Precision, thread_setting
from fewlabel.engine.trackers import Tracking
from fewlabel.nets.unet import UNetConfig
from fewlabel.protocol.training_eligibility import draw_faults


class SliceNetworkConfig(UNetConfig):
    """Architecture of a network of slices."""

    @field_validator("ndim")
    @classmethod
    def _of_slices(cls, value: int) -> int:
        if value != 2:
            raise ValueError(
                "pre-training works on slices, so its network is 2D; volumes are learnt from scratch by finetune with "
                "patch=[DEPTH,HEIGHT,WIDTH]"
            )
        return value


class PretrainSettings(Settings):
    """Settings of ``fewlabel pretrain``."""

    data: PathSetting = setting(..., "prepared folder")
    out: PathSetting = setting(..., "folder of the encoder to make")
    method: plugin_field("fewlabel.methods") = setting("gcl", "pre-training method and its settings")  # type: ignore[valid-type]
    encoder: PathSetting | None = setting(None, "encoder folder to start from; null for random weights")
    labelled: int | None = setting(
        None, "M, labelled patients for methods that learn from labels; null for all", unit="patients", ge=1
    )
    draw: int = setting(0, "which draw of M labelled patients; draws belong to the split", ge=0)
    subjects: Names | None = setting(None, "the labelled patients by id, instead of a draw")
    parts: Names = setting(("pretrain",), "parts of the split to learn images from; never test")
    network: SliceNetworkConfig = setting(SliceNetworkConfig(), "architecture")
    augment: AugmentConfig = setting(
        pretraining_augmentation(), "augmentation of each view; the method rotation turns vertical flips off"
    )
    sampler: SamplerConfig = setting(SamplerConfig(), "how batches are drawn")
    shuffled_metadata: bool = setting(
        False, "give each slice all metadata of another one: a control, whose gain is not what metadata know"
    )
    optimiser: OptimiserConfig = setting(OptimiserConfig(), "optimiser and its rate")
    steps: int = setting(3000, "length of the run", unit="optimisation steps", ge=1)
    batch: int = setting(
        32, "slices in a joined batch, two views each", ge=2, source="code of PCL, whose protocol GCL follows"
    )
    seed: int = setting(0, "seed of weights, batches and augmentation", ge=0)
    device: Device = setting("auto", "where to train")
    precision: Precision = setting("auto", "bf16 where the hardware supports it; losses are always float32")
    threads: int = thread_setting()
    checkpoint_seconds: float = setting(300.0, "time between checkpoints", unit="s", ge=0)
    resume: bool = setting(False, "continue an unfinished run, keep a finished one")
    compile: Compile = setting(
        "auto",
        "compile training steps, which takes a minute or two; auto: on a CPU with AMX or a GPU, where a compiler works "
        "and the run takes a quarter of an hour or more; a resumed run keeps its choice",
        source="own choice",
    )
    collapse_patience: int = setting(200, "collapsed steps in a row after which the run stops; 0 never", ge=0)
    log_every: int = setting(10, "steps between two rows of metrics.jsonl", ge=1)
    tracking: Tracking = setting(
        (),
        "where figures go beside metrics.jsonl: tensorboard, below the folder of the training; mlflow, where "
        "MLFLOW_TRACKING_URI says; needs the extra tracking",
    )

    def contradictions(self, where: str = "", *, without: Set[str] = frozenset()) -> list[Fault]:
        """A draw must have its number of patients."""
        if not without.isdisjoint({"labelled", "draw", "subjects"}):
            return []
        return draw_faults(self.labelled, self.draw, self.subjects, where)

    @field_validator("network", mode="before")
    @classmethod
    def _any_network(cls, value: Any) -> Any:
        return SliceNetworkConfig.parse(dict(value), where="network.") if type(value) is UNetConfig else value
