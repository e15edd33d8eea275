"""One segmenter of a fine-tuning, the model or its control: data, labels, selection, a training per network, files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import write_bytes
from fewlabel.core.collective import barrier, rank
from fewlabel.core.errors import DataError, Fault
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.progress import say
from fewlabel.core.rng import stream_seed
from fewlabel.data.evenly_spread_slices import Spread
from fewlabel.data.store import PreparedCase
from fewlabel.engine.compiling import plain_seconds
from fewlabel.engine.lock import sole_run
from fewlabel.engine.run_folder_state import check_begun, close_run, finished_before, identity, mark_run
from fewlabel.engine.runtime import fast_kernels, start
from fewlabel.engine.trainer import compiles
from fewlabel.engine.weight_files import load_decoder_into, load_encoder_into, save_segmenter_facts
from fewlabel.nets.class_prior import begin_at_shares
from fewlabel.nets.memory_layout import channels_last
from fewlabel.nets.unet import UNet
from fewlabel.protocol.exposure import images_met
from fewlabel.protocol.model_selection import say_selection
from fewlabel.protocol.training_eligibility import unlabelled_slices
from fewlabel.scoring.component_rule import ComponentRule
from fewlabel.stages._batch_norm_statistics import statistics_images, statistics_words
from fewlabel.stages._cleaning_rule import decided_rule
from fewlabel.stages._shape_checks import patch_size
from fewlabel.stages.finetune.checking import LabelUse
from fewlabel.stages.finetune.ensemble_members import Members, member_seed
from fewlabel.stages.finetune.inputs import Inputs
from fewlabel.stages.finetune.leave_one_out import TABLE, LeftOut, labelled_cases
from fewlabel.stages.finetune.leave_one_out_choice import expectation_lines
from fewlabel.stages.finetune.network import class_counts, say_unlearnt
from fewlabel.stages.finetune.segmenter_facts import continued_facts, expectation, segmenter_facts
from fewlabel.stages.finetune.settings import FinetuneSettings, Mode
from fewlabel.stages.finetune.trainer import SegmentationTrainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class SegmenterRun:
    """One segmenter: data, labels, selection, trainers, files.

    Args:
        settings: Settings of the stage.
        out: Folder of the segmenter.
        mode: What becomes of the encoder.
        inputs: What is worked on; None to open it.
        labels: What the labels serve for; None for what the inputs say.
        follows: Whether another run, that of the model, came before.
    """

    def __init__(
        self,
        settings: FinetuneSettings,
        out: Path,
        mode: Mode,
        inputs: Inputs | None = None,
        *,
        labels: LabelUse | None = None,
        follows: bool = False,
    ) -> None:
        self.out = out
        self.mode = mode
        self.follows = follows
        self.inputs = inputs or Inputs(settings)
        self.store, self.draw = self.inputs.store, self.inputs.draw
        self.encoder = self.inputs.encoder if mode != "scratch" else None
        self.start = self.inputs.start if mode != "scratch" else None
        self.settings = self.inputs.as_built(settings)
        labels = labels or self.inputs.labels
        self.labels, self.selection, self.expects = labels, labels.selection, labels.expects
        self.same = {
            **identity(self.settings.record(), **self.inputs.hashes),
            "mode": mode,
            "selection": self.selection,
        }
        self.members = Members(out, settings.members, self.same)
        #: Subjects whose images were met before, by the encoder or the segmenter that training starts from.
        self.encoder_met = images_met(self.start.met if self.start else (), self.encoder)
        self.inputs.check_unchanged()
        self._finished = False
        #: Whether steps are compiled, once :meth:`settle` knows it.
        self.compiled = False

    def look(self) -> None:
        """See what is in the folder.

        Raises:
            SettingsError: If something else is.
        """
        self._finished = finished_before(self.out, "segmenter", self.same, resume=self.settings.resume)

    def run(self) -> None:
        """Train and write the artifact, unless it is there already; :meth:`look` comes first."""
        started = time.monotonic()
        settings = self.settings
        if self._finished:
            say(f"{self.out} is finished and kept.")
            return
        fabric = self._start()
        with sole_run(self.out, lambda: check_begun(self.out, "segmenter", self.same, resume=settings.resume)):
            self._train(fabric, started)

    def _start(self) -> Fabric:
        fabric = start(self.settings.device, self.settings.precision, self.settings.threads)
        fast_kernels(fabric.device.type)
        return fabric

    def _train(self, fabric: Fabric, started: float) -> None:
        """Train and write the artifact in a folder that is this run's alone."""
        settings, selection = self.settings, self.selection
        self._say_what_begins()
        self.settle(fabric)
        rule = self._rule(self.draw.labelled)
        met = self.inputs.met(self.draw.labelled, self._validation())
        seeds = [member_seed(settings.seed, member) for member in range(settings.members)]
        looked = [images for images in (self._statistics(met, seed) for seed in seeds) if images is not None]
        left = LeftOut(
            self.out,
            self.same,
            self.store,
            self.draw.labelled if selection == "leave_one_out" else self.labels.left_out,
            lambda subject, folder: self._left_out_trainer(fabric, subject, folder),
            scored=self.expects,
            compiled=self.compiled,
            unseen=self.labels.unseen,
            goes_on=self.start is not None,
        )
        stop = left.best_length() if selection == "leave_one_out" else None
        for member in range(settings.members):
            if not self.members.finished(member):
                self._train_member(fabric, member, stop, None if stop is None else left.dice[stop])
        table = left.scores(stop) if self.expects else None
        if looked:
            share = f"{settings.recalibrate_share:.0%}"
            say(f"Statistics of batch normalisation: {share} from {statistics_words(looked[0])}, masks unread.")
        if rule is not None:
            say(f"Predictions are cleaned to be as the labelled masks: {rule.words(self.store.label_names)}.")
        expected = None if table is None else expectation(table, self.store.label_names, selection)
        if expected is not None and self.start is not None:
            expected["again"] = True
        if expected is not None:
            for line in expectation_lines(expected, control=self.follows):
                say(line)
        if rank() == 0:
            if table is not None:
                write_bytes(self.out / TABLE, table.to_csv(index=False).encode())
            facts = segmenter_facts(self, looked, rule, expected)
            if self.start is not None:
                facts |= continued_facts(self.start, facts, left.table_before(), self.members.mean_before())
            save_segmenter_facts(self.out, settings.network, len(self.store.label_names), facts)
        close_run(
            self.out,
            "segmenter",
            [*self.members.files(), *left.files(), "segmenter.json", *([] if table is None else [TABLE])],
            parents=[self.store.artifact, *self.origins],
            settings=settings,
            same=self.same,
            device=fabric.device,
            started=started,
            compiled=self.compiled,
        )
        if rank() == 0:
            self.members.clean()
            left.clean()

    def _say_what_begins(self) -> None:
        settings = self.settings
        say_selection(self.selection, self.draw, settings.steps)
        if not self.follows:
            say_unlearnt(self.store, self.draw.labelled)
        if settings.members > 1:
            say(f"{settings.members} networks of different seeds, one after the other.")

    def _train_member(self, fabric: Fabric, member: int, stop: int | None, dice: float | None) -> None:
        """Train one network and keep it; a held-out selection is each network's own.

        Args:
            fabric: Device and precision.
            member: Which one.
            stop: The length that leaving patients out has chosen, if it did.
            dice: What they reached on average at that length.
        """
        trainer = self._trainer(
            fabric,
            self.draw.labelled,
            self._validation(),
            self.members.folder(member),
            keep_best=self.selection == "held_out",
            member=member,
        )
        trainer.title = self.members.title(trainer.title, member)
        mark_run(self.out, self.same, compiled=self.compiled)
        # Before a checkpoint is taken up: the weights are those that training goes on from.
        before = trainer.validate() if self.start is not None and trainer.validation else None
        network = trainer.run(stop)
        kept = stop or trainer.best_step
        outcome = trainer.model.outcome(self.store.label_names, kept or self.settings.steps)
        if rank() == 0:
            reached = dice if stop else trainer.best_dice
            self.members.finish(member, network, kept, reached, outcome, before=before)
        barrier()

    def settle(self, fabric: Fabric, steps: int | None = None) -> None:
        """Decide whether steps are compiled; before the first trainer is made.

        Args:
            fabric: Device and precision.
            steps: Length of a training, where it is not that of the settings.

        Raises:
            SettingsError: If they are to be and there is no working compiler.
        """
        settings, kind = self.settings, fabric.device.type
        self.compiled = compiles(
            settings,
            self.out,
            kind,
            lambda: (steps or settings.steps) * self._plain_seconds(kind),
            quiet=self.follows,
        )

    def _plain_seconds(self, kind: str) -> float:
        """About what a step of each training takes where compiling pays, without it."""
        settings, store = self.settings, self.store
        regime = load_plugin("fewlabel.regimes", str(settings.regime.name))
        unlabelled = (settings.unlabelled_batch or settings.batch) * regime.unlabelled_views
        rows = settings.batch + (unlabelled if regime.uses_unlabelled else 0)
        size = tuple(settings.patch or settings.view or store.images.shape[2:])
        fits = settings.members + self.labels.left_out_fits
        return fits * plain_seconds(settings.network, len(store.label_names), size, rows, kind)

    def prepare(self, steps: int | None = None) -> SegmentationTrainer:
        """A trainer on all labelled patients, without validation; compiled as a run of so many steps is."""
        fabric = self._start()
        self.settle(fabric, steps)
        return self._trainer(fabric, self.draw.labelled, (), self.out, keep_best=False)

    def _left_out_trainer(self, fabric: Fabric, subject: str, folder: Path) -> SegmentationTrainer:
        """The trainer on all labelled patients but one, who is validated on where the selection leaves patients out."""
        others = tuple(other for other in self.draw.labelled if other != subject)
        chosen_by = labelled_cases(self.store, (subject,)) if self.selection == "leave_one_out" else self._validation()
        keep_best = self.selection == "held_out"
        return self._trainer(fabric, others, chosen_by, folder, keep_best=keep_best, left_out=(subject,))

    def _trainer(
        self,
        fabric: Fabric,
        labelled: tuple[str, ...],
        validation: tuple[PreparedCase, ...],
        folder: Path,
        *,
        keep_best: bool,
        member: int = 0,
        left_out: tuple[str, ...] = (),
    ) -> SegmentationTrainer:
        settings = self.settings
        seed = member_seed(settings.seed, member)
        indices = self.store.slices_of(labelled, labelled=True)
        if len(indices) == 0:
            fault = Fault(f"No slice of {', '.join(labelled)} has a label", remedy="Name patients with labels")
            raise DataError("There is nothing to train on:", [fault])
        pixels = class_counts(self.store, indices)
        met = self.inputs.met(labelled, validation) - set(left_out)
        trainer = SegmentationTrainer(
            settings.model_copy(update={"seed": seed}),
            self.mode,
            fabric,
            self.store,
            self._network(fabric.device, pixels, seed, member, *left_out),
            indices=indices,
            unlabelled=unlabelled_slices(self.store, met, labelled),
            validation=validation,
            statistics=self._statistics(met, seed),
            rule=self._rule(labelled),
            keep_best=keep_best,
            folder=folder,
            same=self.same,
            title="finetune" if self.mode != "scratch" else "finetune from scratch",
        )
        trainer.model.meet_labels(pixels)
        if self.compiled:
            trainer.compile()
        return trainer

    @property
    def origins(self) -> list[Artifact]:
        """What training starts from, if anything."""
        return [] if self.mode == "scratch" else self.inputs.origins

    def _validation(self) -> tuple[PreparedCase, ...]:
        """Scans that the model is selected by."""
        return labelled_cases(self.store, self.draw.validation) if self.selection != "none" else ()

    def _statistics(self, subjects: set[str], seed: int) -> Spread | None:
        """The images whose statistics the network of a seed is to have, once trained."""
        settings = self.settings
        patch = patch_size(settings.patch)
        return statistics_images(
            settings.recalibrate, settings.regime, settings.network, self.store, subjects, patch, seed
        )

    def _rule(self, labelled: tuple[str, ...]) -> ComponentRule | None:
        """How predictions are cleaned, as these labels have it."""
        return decided_rule(self.store, labelled) if self.settings.postprocess else None

    def _network(self, device: torch.device, pixels: Tensor, seed: int, member: int = 0, left_out: str = "") -> UNet:
        """A network whose weights beside the encoder are equal for all modes of one seed.

        Where training goes on from a segmenter, they are those of its member, or of what left the patient out.
        """
        classes = len(self.store.label_names)
        torch.manual_seed(stream_seed(seed, "segmenter"))
        network = UNet(self.settings.network, classes)
        if self.settings.class_prior:
            begin_at_shares(network, pixels)
        if self.encoder is not None:
            load_encoder_into(self.encoder, network.encoder)
            if self.settings.transfer == "all":
                load_decoder_into(self.encoder, network.decoder)
            self.inputs.check_unchanged()
        if self.start is not None:
            self.start.load_into(network, member, left_out)
        return channels_last(network.to(device))
