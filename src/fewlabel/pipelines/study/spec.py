"""What a study is: data, split, arms, budgets of labelled patients, draws, seeds and time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from fewlabel.core.settings.base import Names, PathSetting, Settings, setting
from fewlabel.engine.trackers import Tracking

#: Number of labelled patients; ``all`` for the whole train part.
Budget = int | Literal["all"]
#: Draws and seeds are numbers below this; a seed tells the trainings of one draw apart.
MOST = 1000


def _rising(value: tuple[Budget, ...]) -> tuple[Budget, ...]:
    numbers = [number for number in value if isinstance(number, int)]
    if not value or min(numbers, default=1) < 1 or numbers != sorted(set(numbers)) or "all" in value[:-1]:
        raise ValueError("must be numbers from 1 in rising order, all at the end, as in [1,2,8,all]")
    return value


Budgets = Annotated[tuple[Budget, ...], Field(strict=False), AfterValidator(_rising)]
#: How many, or which.
Count = int | Annotated[tuple[int, ...], Field(strict=False)]
Executor = Literal["here", "processes", "ray", "slurm"]
#: The study's own data among those that an arm is pre-trained on.
OWN = "own"


class SourceSettings(Settings):
    """Further data that arms are pre-trained on."""

    data: PathSetting | None = setting(None, "folder or table of scans; required where an arm learns from it")
    prepare: dict[str, Any] = setting({}, "settings of prepare over the study's, e.g. prepare.reader=msd")


class ArmSettings(Settings):
    """One arm: a pre-training method, or none, a regime of fine-tuning, and their settings."""

    doc: str = setting("", "what it is, for the tables")
    method: str | dict[str, Any] | None = setting(
        None, "pre-training method and its settings; null: from scratch, or from the encoder of pretrain_on"
    )
    regime: str | dict[str, Any] | None = setting(None, "regime and its settings; null for that of the study")
    prepare: dict[str, Any] = setting({}, "settings of prepare over the study's")
    pretrain: dict[str, Any] = setting({}, "settings of pretrain over the study's")
    finetune: dict[str, Any] = setting({}, "settings of finetune over the study's")
    evaluate: dict[str, Any] = setting({}, "settings of evaluate over the study's")
    pretrain_on: Names = setting(
        (OWN,), "what the encoder learns from: own for the study's data, and names of sources; several are merged"
    )
    budgets: Budgets | None = setting(None, "numbers of labelled patients; null for those of the study")
    labelled_by: Literal["draws", "coverage"] = setting(
        "draws",
        "who is labelled: the patients of each draw, or those whose scans most others are near to, as suggest picks "
        "them before any training; these are the same in all draws, and trained on with another seed in each",
    )
    minutes: float | None = setting(None, "time of a training with its pre-training; null for the study's", gt=0)
    published: str = setting("", "the arm's name in the published table")
    switches: dict[str, bool] = setting({}, "of an ablation: which parts are on, for the effect of each")


class ClaimSettings(Settings):
    """A published claim: one arm is better than another."""

    text: str = setting(..., "the claim in words, with where it is from")
    better: str = setting(..., "the arm that is said to be better")
    than: str = setting(..., "the arm that it is better than")
    budgets: Budgets | None = setting(None, "at which numbers of labelled patients; null for all")


class PublishedSettings(Settings):
    """The published figures that a study is put beside."""

    table: str = setting("", "table of the package: gcl, arco-acdc, arco-la or sscl; empty for none")
    part: str = setting("", "the part of the table, such as the number it has in the paper")
    dataset: str = setting("", "data set in the table")
    budgets: dict[str, str] = setting({}, "what the table counts → labelled patients, where that differs: {5 %: 10}")
    differences: Names = setting((), "differences of protocol, a sentence each")


class StudySettings(Settings):
    """Settings of ``fewlabel study``."""

    #: What is inside settings of keys and values, for the list of settings.
    INSIDE: ClassVar[Mapping[str, type[Settings]]] = {
        "arms.NAME": ArmSettings,
        "sources.NAME": SourceSettings,
        "claims": ClaimSettings,
    }

    data: PathSetting = setting(..., "folder or table of scans")
    out: PathSetting = setting(..., "folder of the study; what is done there is not done again")
    name: str = setting("study", "what it is called")
    description: str = setting("", "what it asks, in a sentence")
    recipe: str = setting("default", "recipe that all settings start from, as for train")
    size: str = setting("", "one of the sizes")
    sizes: dict[str, Any] = setting({}, "name → settings of the study over the others, such as lite and paper")
    sources: dict[str, Any] = setting({}, "further data to pre-train on, by name")
    split: str = setting("auto", "as prepare.split")
    resplit: bool = setting(
        False, "each draw has a random split of its own, for sets too small for one; its seed is the number of the draw"
    )
    prepare: dict[str, Any] = setting({}, "settings of prepare")
    pretrain: dict[str, Any] = setting({}, "settings of pretrain")
    finetune: dict[str, Any] = setting({}, "settings of finetune")
    evaluate: dict[str, Any] = setting({}, "settings of evaluate")
    arms: dict[str, Any] = setting(..., "what is compared, by name")
    skip: Names = setting((), "arms to leave out")
    control: str | None = setting(None, "the arm that all others are tested against; null for the first")
    budgets: Budgets = setting((1,), "numbers of labelled patients, or all", unit="patients")
    draws: Count = setting(3, "how many draws of labelled patients, or which")
    seeds: Count = setting(1, "how many seeds of fine-tuning, or which")
    encoders: Literal["shared", "by_seed"] = setting(
        "shared", "one encoder for an arm, or one for each seed; a method that learns from labels has one for each draw"
    )
    minutes: float | None = setting(
        None,
        "time of a training with its pre-training at the smallest of the budgets, from which steps follow; null for "
        "the steps that are set",
        gt=0,
    )
    pretrain_share: float = setting(0.25, "share of the minutes that pre-training gets", unit="0 to 1", gt=0, lt=1)
    confidence: float = setting(0.95, "coverage of the intervals", unit="0 to 1", gt=0, lt=1)
    gain: float = setting(0.02, "gain of Dice for which the number of draws is told that would show it", gt=0)
    embeddings: Names = setting((), "meta labels by which the encoders' embeddings are mapped and measured")
    recorded: Names = setting((), "figures of metrics.jsonl whose medians over a training are told, e.g. seconds")
    published: PublishedSettings = setting(PublishedSettings(), "published figures to put beside")
    claims: tuple[dict[str, Any], ...] = setting((), "published claims to test", strict=False)
    tracking: Tracking = setting((), "tensorboard, mlflow: where the figures of all trainings go, as finetune.tracking")
    executor: Executor = setting("here", "this process, processes of this machine, a Ray cluster, or SLURM arrays")
    workers: int = setting(0, "jobs at a time, of processes and slurm; 0 for as many as cores have room for", ge=0)
    threads: int = setting(0, "threads of a job; 0: all cores for here, shared by processes, 1 else", ge=0)
    gpus: float = setting(0.0, "graphics processors of a job on Ray or SLURM; on Ray 0.25 lets four share one", ge=0)
    cluster: str = setting("", "address of the Ray cluster, such as auto; empty for one on this machine")
    slurm: dict[str, Any] = setting({}, "parameters of sbatch, such as slurm.partition=gpu slurm.timeout_min=600")

    @field_validator("draws", "seeds")
    @classmethod
    def _some(cls, value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        numbers = (value - 1,) if isinstance(value, int) else value
        if not numbers or min(numbers) < 0 or max(numbers) >= MOST or len(set(numbers)) < len(numbers):
            raise ValueError(f"must say how many, 1 to {MOST}, or which, different numbers from 0, as in [0,2]")
        return value


def numbers_of(count: int | tuple[int, ...]) -> tuple[int, ...]:
    """Draws or seeds by number."""
    return tuple(range(count)) if isinstance(count, int) else count


class Study:
    """A study as it was asked for: settings, arms, sources and claims, each checked by itself.

    Args:
        settings: Its settings.
        arms: Name → arm, in order.
        sources: Name → further data.
        claims: Published claims.
    """

    def __init__(
        self,
        settings: StudySettings,
        arms: Mapping[str, ArmSettings],
        sources: Mapping[str, SourceSettings],
        claims: tuple[ClaimSettings, ...] = (),
    ) -> None:
        self.settings = settings
        self.arms = dict(arms)
        self.sources = dict(sources)
        self.claims = claims

    @property
    def control(self) -> str:
        """Name of the arm that all others are tested against."""
        return self.settings.control or next(iter(self.arms))

    @property
    def folder(self) -> Path:
        """Folder of the study."""
        return self.settings.out

    def budgets_of(self, arm: str) -> tuple[Budget, ...]:
        """Numbers of labelled patients of an arm."""
        own = self.arms[arm].budgets
        return self.settings.budgets if own is None else own

    def minutes_of(self, arm: str) -> float | None:
        """Time of a training of an arm; None for the steps that are set."""
        own = self.arms[arm].minutes
        return self.settings.minutes if own is None else own
