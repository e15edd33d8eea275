"""Settings that ARCO, ReCo and MONA share; they differ in defaults."""

from __future__ import annotations

from typing import Literal

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import setting
from fewlabel.nets.unet import UNetConfig
from fewlabel.objectives.stratified_sampling import Sampling
from fewlabel.regimes.stream_statistics import StreamSettings


class ArcoSettings(StreamSettings):
    """Both stages: relations between slices, then pixels against classes."""

    pretrain_share: float | None = setting(
        None,
        "share of the run, from its start, that is relational pre-training (stage 1); null: a third from scratch, none "
        "behind an encoder that is pre-trained already",
        ge=0,
        le=1,
        source="ARCO: 100 of 300 epochs",
    )
    instance_weight: float = setting(
        1.0, "weight of the relational losses of stage 1, global and local each", ge=0, source="ARCO: equal combination"
    )
    contrast_weight: float = setting(0.01, "λ1, weight of the pixel contrast; 0 drops it", ge=0, source="ARCO")
    unsup_weight: float = setting(1.0, "λ2, weight of the loss on pseudo-labels; 0 drops it", ge=0, source="ARCO")
    nn_weight: float = setting(1.0, "λ3, weight of the nearest-neighbour loss; 0 drops it", ge=0, source="ARCO")
    eqv_weight: float = setting(
        0.0, "weight of equivariance under random warps; 0 drops it", ge=0, source="ARCO's formula; its 2D code has 1"
    )
    sampling: Sampling = setting("sg", "how pixels are drawn: naive, stratified, stratified-antithetic", source="ARCO")
    key_sampling: Literal["same", "ns"] = setting(
        "same", "how keys and negatives are drawn: like queries, or naively", source="own choice"
    )
    grid: int = setting(4, "G, cells along each axis of an image; a class in a cell is a stratum", ge=1, source="ARCO")
    queries: int = setting(256, "pixels of each class that are pulled and pushed", unit="pixels", ge=1, source="ReCo")
    keys: int = setting(256, "keys of each class that enter its bank at a step", unit="pixels", ge=1)
    negatives: int = setting(512, "keys of other classes that a query is held against", ge=1, source="ReCo, ARCO")
    negatives_by: Literal["size", "likeness"] = setting(
        "size", "which classes give negatives: all by their keys, or more often those like the query's", source="ARCO"
    )
    bank: int = setting(
        4096, "keys kept of each class; 0 for those of the step alone", ge=0, source="ARCO's code: 30000, at 1.2 GB"
    )
    temperature: float = setting(0.5, "τ of the pixel contrast", gt=0, source="ReCo, ARCO")
    hard: float | None = setting(
        None, "only pixels whose own class has less than this probability are queries; null for all", gt=0, le=1
    )
    confidence: float = setting(
        0.97,
        "probability from which the teacher is sure of a pixel, for the loss on pseudo-labels",
        ge=0,
        source="ReCo",
    )
    pixel_confidence: float = setting(
        0.97, "probability from which a pixel without label takes part in the contrast", ge=0, source="own choice"
    )
    mix: Literal["none", "cutmix", "classmix"] = setting(
        "none", "whether unlabelled slices are mixed with each other before the student sees them", source="ARCO"
    )
    dim: int = setting(128, "size of an embedding", ge=2, source="ARCO: 512, at full resolution")
    stride: Literal[1, 2, 4, 8] = setting(
        4, "stride of the map of embeddings", unit="pixels", source="own choice: a sixteenth of the cost; ARCO: 1"
    )
    memory: int = setting(36, "past slices kept as neighbours and as mined views", unit="slices", ge=1, source="ARCO")
    neighbours: int = setting(5, "K, nearest slices that one should be near", ge=1, source="ARCO's code")
    momentum: float = setting(0.99, "α of the teacher", ge=0, le=1, source="ARCO")
    student_temperature: float = setting(0.1, "τ_s of stage 1", gt=0, source="ARCO")
    teacher_temperature: float = setting(0.01, "τ_t of stage 1", gt=0, source="ARCO")
    patches: int = setting(4, "patches along each axis that stage 1 compares", ge=1, source="own choice")
    eqv_confidence: float = setting(
        0.7, "probability from which a foreground pixel counts for equivariance", ge=0, le=1, source="ARCO's code"
    )
    diagnose_every: int = setting(
        50,
        "steps between two measurements of the contrastive gradient's variance under all three samplings; 0 for none. "
        "Those of logged steps are kept",
        unit="steps",
        ge=0,
        source="own choice",
    )

    def stage_one(self, *, pretrained: bool) -> float:
        """Share of the run that is stage 1.

        Args:
            pretrained: Whether the encoder comes from pre-training.
        """
        if self.pretrain_share is not None:
            return self.pretrain_share
        return 0.0 if pretrained else 1 / 3

    @property
    def embeds(self) -> bool:
        """Whether stage 2 needs embeddings."""
        return self.contrast_weight > 0 or self.nn_weight > 0

    @property
    def teaches(self) -> bool:
        """Whether stage 2 is more than supervision."""
        return self.embeds or self.unsup_weight > 0 or self.eqv_weight > 0


def stride_faults(settings: ArcoSettings, network: UNetConfig) -> list[Fault]:
    """A fault where the network has no map of the stride asked for.

    Args:
        settings: Of the regime.
        network: Architecture of the network.
    """
    if settings.stride <= network.stride:
        return []
    problem = f"must be at most {network.stride} for a network of depth {network.depth}, not {settings.stride}"
    return [Fault(problem, "regime.stride", f"Give regime.stride={network.stride}")]
