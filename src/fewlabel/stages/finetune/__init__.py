"""``finetune``: a segmentation network learns from the labels of a few patients, from an encoder or from scratch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fewlabel.core.artifact.files import read_json
from fewlabel.core.collective import rank
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.output_paths import with_a_name
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.progress import say
from fewlabel.core.settings.base import Settings
from fewlabel.engine.regime_run_summary import outcome_sentences
from fewlabel.stages._encoder_to_be_trained import PlannedEncoder
from fewlabel.stages._shape_checks import slice_faults
from fewlabel.stages.finetune.checking import LabelUse, check, steps_faults
from fewlabel.stages.finetune.inputs import Inputs
from fewlabel.stages.finetune.leave_one_out_choice import NOTHING_KNOWN, nothing_else_tells
from fewlabel.stages.finetune.segmenter_facts import settings_to_go_on
from fewlabel.stages.finetune.segmenter_run import SegmenterRun
from fewlabel.stages.finetune.settings import FinetuneSettings, mode_of, single_rows
from fewlabel.stages.finetune.trainer import SegmentationTrainer
from fewlabel.stages.finetune.validation_of_weights import validated_again

__all__ = [
    "SETTINGS",
    "FinetuneSettings",
    "LabelUse",
    "PlannedEncoder",
    "SegmentationTrainer",
    "SegmenterRun",
    "begin",
    "check",
    "control_folder",
    "control_of",
    "mode_of",
    "run",
    "settings_to_go_on",
    "single_rows",
    "slice_faults",
    "steps_faults",
    "validated_again",
]

SETTINGS = FinetuneSettings


def run(settings: FinetuneSettings, user_network: Collection[str] | None = None) -> Path:
    """Fine-tune and leave an artifact of kind ``segmenter``; with ``control`` a second one beside it.

    Model and control are selected in one way, which is the model's, and so are the patients who are left out to tell
    what new ones may expect. With ``members`` each is an ensemble, whose networks are trained one after the other.

    Args:
        settings: Settings of the stage.
        user_network: Settings of the network that the user gave, where a recipe gave others: these give way to the
            network of an encoder. None for all that are set.

    Raises:
        SettingsError: If settings contradict each other or the data, or ``out`` or the control's folder holds another
            run; nothing has been trained then.
        DataError: If labels are missing for what was asked.
        DivergedError: If a number is not finite.
        RunStoppedError: After Ctrl-C, once the state is saved.
    """
    if settings.mode == "frozen" and settings.encoder is None and settings.start is None:
        fault = Fault("mode=frozen needs an encoder to freeze", "encoder", "Add encoder=FOLDER")
        raise SettingsError("These settings are not valid:", [fault])
    inputs = Inputs(settings, user_network)
    runs = [SegmenterRun(settings, settings.out, mode_of(settings), inputs)]
    control = control_of(settings) if settings.control else None
    if control is not None:
        runs.append(SegmenterRun(control, control_folder(settings.out), "scratch", inputs, follows=True))
    faults: list[Fault] = []
    for each in runs:
        try:
            each.look()
        except SettingsError as error:
            faults.extend(error.faults)
    if faults:
        raise SettingsError("Nothing was written:", faults)
    for each in runs:
        each.run()
    for each in runs:
        sentences = outcome_sentences(dict(read_json(each.out / "segmenter.json"))) if rank() == 0 else []
        for sentence in sentences:
            say(f"Control: {sentence}" if each.follows else sentence)
    if settings.control and control is None:
        say("No control: a supervised run from scratch is its own.")
    if len(runs[0].draw.labelled) == 1 and nothing_else_tells(runs[0].store, runs[0].draw):
        say(NOTHING_KNOWN)
    return settings.out


def begin(settings: FinetuneSettings) -> SegmentationTrainer:
    """The trainer of a run without validation, ready to take steps one by one."""
    return SegmenterRun(settings, settings.out, mode_of(settings)).prepare()


def control_of(settings: FinetuneSettings) -> FinetuneSettings | None:
    """Settings of the control, which is trained from scratch; None where the run would be its own control.

    It shows what an encoder was worth. Where the run begins from scratch itself the control is supervised, with the
    run's loss on labels, and shows what the regime was worth. It is an ensemble of as many networks as the run, so that
    averaging is no part of the gain.
    """
    if mode_of(settings) != "scratch":
        return settings
    supervised: type[Settings] = load_plugin("fewlabel.regimes", "supervised").Config
    if isinstance(settings.regime, supervised):
        return None
    shared = {key: value for key, value in settings.regime if key in supervised.model_fields and key != "name"}
    return settings.model_copy(update={"regime": supervised.parse(shared)})


def control_folder(out: Path) -> Path:
    """Where the scratch control of a segmenter goes."""
    named = with_a_name(out)
    return named.with_name(f"{named.name}-control")
