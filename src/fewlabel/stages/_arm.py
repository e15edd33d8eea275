"""One segmenter of a fine-tuning, the model or its control: data, labels, selection, a fit per network, files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric

from fewlabel.core.artifact.files import write_bytes
from fewlabel.core.artifact.manifest import Origin, open_artifact
from fewlabel.core.artifact.unchanged import check_origin
from fewlabel.core.collective import barrier, rank
from fewlabel.core.errors import DataError, Fault
from fewlabel.core.progress import say
from fewlabel.core.registry import load_plugin
from fewlabel.core.rng import stream_seed
from fewlabel.data.spread import Spread
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.engine.compiling import plain_seconds, settle
from fewlabel.engine.lock import sole_run
from fewlabel.engine.outcomes import KEY as OUTCOMES
from fewlabel.engine.runs import begun_compiled, check_begun, close_run, finished_before, identity, mark_run
from fewlabel.engine.runtime import fast_kernels, resolved_precision, start
from fewlabel.engine.weights import load_decoder_into, load_encoder_into, save_segmenter_facts
from fewlabel.nets.layout import channels_last
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.protocol.exposure import KEY, images_met
from fewlabel.protocol.label_draws import drawn_labels, labels_of_encoder
from fewlabel.protocol.model_selection import Selection, choose_selection, say_selection
from fewlabel.protocol.splits import LabelDraw
from fewlabel.scoring.components import ComponentRule
from fewlabel.scoring.expected import expected_summary
from fewlabel.stages._expect import KEY as EXPECTED
from fewlabel.stages._expect import choose_expectation, expectation_lines
from fewlabel.stages._finetune_settings import FinetuneSettings, Mode
from fewlabel.stages._fit import Fit, Recipe
from fewlabel.stages._fitted_augment import fitted_augment
from fewlabel.stages._left_out import TABLE, LeftOut, labelled_cases
from fewlabel.stages._members import Members, member_seed
from fewlabel.stages._network import check_network, say_network
from fewlabel.stages._postprocess import KEY as POSTPROCESS
from fewlabel.stages._postprocess import decided_rule
from fewlabel.stages._statistics import KEY as RECALIBRATED
from fewlabel.stages._statistics import check_statistics, statistics_images, statistics_record, statistics_words
from fewlabel.stages._volumes import architecture_of, check_encoder, check_slices, patch_size, say_depth, view_size


class Arm:
    """One segmenter: data, labels, selection, fit, files.

    Args:
        settings: Settings of the stage.
        out: Folder of the segmenter.
        mode: What becomes of the encoder.
        selection: How the weights are selected; None for what the settings ask for.
        expects: Whether labelled patients are left out to tell what to expect; None for what the settings ask for.
    """

    def __init__(
        self,
        settings: FinetuneSettings,
        out: Path,
        mode: Mode,
        selection: Selection | None = None,
        *,
        expects: bool | None = None,
    ) -> None:
        self.out = out
        self.mode = mode
        self.follows = selection is not None
        self.encoder = settings.encoder if mode != "scratch" else None
        self.store = PreparedStore(settings.data)
        self.draw: LabelDraw = drawn_labels(self.store, settings.labelled, settings.draw, settings.subjects)
        self.origin: Origin | None = None
        hashes = {"data_hash": self.store.manifest.content_hash}
        if settings.encoder is not None:
            self.origin = Origin.of(settings.encoder, open_artifact(settings.encoder, "encoder"))
            hashes["encoder_hash"] = self.origin.content_hash
            check_encoder(settings.patch, settings.encoder)
        # What is recorded is what is built.
        self.views = fitted_augment(settings, self.store.folder, self.draw.labelled)
        built = {"network": self._architecture(settings), "augment": self.views.augment}
        self.settings = settings.model_copy(update=built)
        check_network(settings, self.settings.network)
        check_statistics(settings.recalibrate, self.settings.network)
        if selection is None:
            say_network(settings.network, self.settings.network, settings.encoder)
            if settings.encoder is None:
                say_depth(settings.network, self.settings.network, settings.patch or self.store.images.shape[2:])
            if self.views.said:
                say(self.views.said)
        if settings.patch is None:
            check_slices(self.store.images.shape[2:], self.settings.network, str(settings.data), settings.view)
        self.seen = labels_of_encoder(
            self.encoder,
            self.draw.labelled,
            rule="An encoder that learnt from labels may have seen those of this draw only",
            remedy=f"Pre-train with subjects=[{','.join(self.draw.labelled)}], or fine-tune on its draw",
        )
        self.selection = selection or choose_selection(settings.validation, self.draw, self.seen)
        if expects is None:
            expects = choose_expectation(settings.expect, self.draw, self.selection, self.store, self.seen)
        self.expects = expects
        self.same = {**identity(self.settings.record(), **hashes), "mode": mode, "selection": self.selection}
        self.members = Members(out, settings.members, self.same)
        self._encoder_met = images_met((), self.encoder)
        if self.origin is not None:
            check_origin(self.origin)
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
        """Fit and write the artifact, unless it is there already; :meth:`look` comes first."""
        started = time.monotonic()
        settings = self.settings
        if self._finished:
            say(f"{self.out} is finished and kept.")
            return
        fabric = start(settings.device, settings.precision)
        fast_kernels(fabric.device.type)
        with sole_run(self.out, lambda: check_begun(self.out, "segmenter", self.same, resume=settings.resume)):
            self._train(fabric, started)

    def _train(self, fabric: Fabric, started: float) -> None:
        """Fit and write the artifact in a folder that is this run's alone."""
        settings, selection = self.settings, self.selection
        say_selection(selection, self.draw, settings.steps)
        if settings.members > 1:
            say(f"{settings.members} networks of different seeds, one after the other.")
        self.settle(fabric)
        rule = self._rule(self.draw.labelled)
        met = self._met(self.draw.labelled, self._validation())
        seeds = [member_seed(settings.seed, member) for member in range(settings.members)]
        looked = [images for images in (self._statistics(met, seed) for seed in seeds) if images is not None]
        left = LeftOut(
            self.out,
            self.same,
            self.store,
            self.draw.labelled,
            lambda subject, folder: self._left_out_fit(fabric, subject, folder),
            scored=self.expects,
            compiled=self.compiled,
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
            say(f"Kept of predictions: {rule.words(self.store.label_names)}, as in the labelled masks.")
        expected = None if table is None else self._expected(table)
        if expected is not None:
            for line in expectation_lines(expected, control=self.follows):
                say(line)
        if rank() == 0:
            if table is not None:
                write_bytes(self.out / TABLE, table.to_csv(index=False).encode())
            facts = {**self._facts(self.members.best_steps(), looked, rule), EXPECTED: expected}
            if any(outcomes := self.members.outcomes()):
                facts[OUTCOMES] = outcomes
            save_segmenter_facts(self.out, settings.network, len(self.store.label_names), facts)
        close_run(
            self.out,
            "segmenter",
            [*self.members.files(), "segmenter.json", *([] if table is None else [TABLE])],
            parents=[self.store.origin, *([self.origin] if self.origin and self.encoder else [])],
            settings=settings.record(),
            same=self.same,
            seed=settings.seed,
            device=str(fabric.device),
            precision=resolved_precision(settings.precision, fabric.device.type),
            started=started,
            compiled=self.compiled,
        )
        if rank() == 0:
            self.members.clean()
            left.clean()

    def _train_member(self, fabric: Fabric, member: int, stop: int | None, dice: float | None) -> None:
        """Train one network and keep it; a held-out selection is each network's own.

        Args:
            fabric: Device and precision.
            member: Which one.
            stop: The length that leaving patients out has chosen, if it did.
            dice: What they reached on average at that length.
        """
        fit = self._fit(
            fabric,
            self.draw.labelled,
            self._validation(),
            self.members.folder(member),
            keep_best=self.selection == "held_out",
            member=member,
        )
        fit.title = self.members.title(fit.title, member)
        mark_run(self.out, self.same, compiled=self.compiled)
        network = fit.run(stop)
        kept = stop or fit.best_step
        outcome = fit.regime.outcome(self.store.label_names, kept or self.settings.steps)
        if rank() == 0:
            self.members.finish(member, network, kept, dice if stop else fit.best_dice, outcome)
        barrier()

    def settle(self, fabric: Fabric, steps: int | None = None) -> None:
        """Decide whether steps are compiled; before the first fit is made.

        Args:
            fabric: Device and precision.
            steps: Length of a fit, where it is not that of the settings.

        Raises:
            SettingsError: If they are to be and there is no working compiler.
        """
        settings, kind = self.settings, fabric.device.type
        self.compiled = settle(
            settings.compile,
            begun_compiled(self.out) if settings.resume else None,
            kind=kind,
            precision=settings.precision,
            seconds=lambda: (steps or settings.steps) * self._plain_seconds(kind),
            quiet=self.follows,
        )

    def _plain_seconds(self, kind: str) -> float:
        """About what a step of each fit takes where compiling pays, without it."""
        settings, store = self.settings, self.store
        regime = load_plugin("fewlabel.regimes", str(settings.regime.name))
        unlabelled = (settings.unlabelled_batch or settings.batch) * regime.unlabelled_views
        rows = settings.batch + (unlabelled if regime.uses_unlabelled else 0)
        size = tuple(settings.patch or settings.view or store.images.shape[2:])
        left_out = len(self.draw.labelled) if self.expects or self.selection == "leave_one_out" else 0
        fits = settings.members + left_out
        return fits * plain_seconds(settings.network, len(store.label_names), size, rows, kind)

    def prepare_fit(self, fabric: Fabric, steps: int | None = None) -> Fit:
        """The fit on all labelled patients of the draw, without validation; compiled as a run of so many steps is."""
        self.settle(fabric, steps)
        return self._fit(fabric, self.draw.labelled, (), self.out, keep_best=False)

    def _left_out_fit(self, fabric: Fabric, subject: str, folder: Path) -> Fit:
        """The fit on all labelled patients but one, who is validated on where the selection leaves patients out."""
        others = tuple(other for other in self.draw.labelled if other != subject)
        chosen_by = labelled_cases(self.store, (subject,)) if self.selection == "leave_one_out" else self._validation()
        keep_best = self.selection == "held_out"
        return self._fit(fabric, others, chosen_by, folder, keep_best=keep_best, left_out=(subject,))

    def _expected(self, table: pd.DataFrame) -> dict[str, Any]:
        """What a new patient may expect, for the record."""
        names = {index: name for index, name in self.store.label_names.items() if index}
        chosen = self.selection == "leave_one_out"
        return {"networks": 1, "length_chosen_on_them": chosen, **expected_summary(table, names)}

    def _fit(
        self,
        fabric: Fabric,
        labelled: tuple[str, ...],
        validation: tuple[PreparedCase, ...],
        folder: Path,
        *,
        keep_best: bool,
        member: int = 0,
        left_out: tuple[str, ...] = (),
    ) -> Fit:
        settings = self.settings
        seed = member_seed(settings.seed, member)
        indices = self.store.slices_of(labelled, labelled=True)
        if len(indices) == 0:
            fault = Fault.of("fine-tuning needs labelled slices", "none", ", ".join(labelled), "name labelled patients")
            raise DataError("There is nothing to train on:", [fault])
        met = self._met(labelled, validation) - set(left_out)
        recipe = Recipe(
            regime=settings.regime,
            augment=settings.augment,
            optimiser=settings.optimiser,
            encoder_lr=settings.encoder_lr if self.mode == "warm" else 1.0,
            steps=settings.steps,
            batch=settings.batch,
            unlabelled_batch=settings.unlabelled_batch,
            validate_every=settings.validate_every,
            seed=seed,
            checkpoint_seconds=settings.checkpoint_seconds,
            log_every=settings.log_every,
            resume=settings.resume,
            frozen=self.mode == "frozen",
            pretrained=self.mode != "scratch",
            patch=patch_size(settings.patch),
            patch_foreground=settings.patch_foreground,
            recalibrate_share=settings.recalibrate_share,
            view=view_size(settings.view, self.store.images.shape[2:]),
            compiled=self.compiled,
        )
        return Fit(
            recipe,
            fabric,
            self.store,
            self._network(fabric.device, seed),
            indices=indices,
            unlabelled=self.store.slices_of(sorted(met - set(labelled))),
            validation=validation,
            statistics=self._statistics(met, seed),
            rule=self._rule(labelled),
            keep_best=keep_best,
            folder=folder,
            same=self.same,
            title="finetune" if self.mode != "scratch" else "finetune from scratch",
        )

    def _validation(self) -> tuple[PreparedCase, ...]:
        """Scans that the model is selected by."""
        return labelled_cases(self.store, self.draw.validation) if self.selection != "none" else ()

    def _met(self, labelled: tuple[str, ...], validation: tuple[PreparedCase, ...]) -> set[str]:
        """Subjects whose images may be met, masks unread, and those whose labels are."""
        return (self._unlabelled() - {case.subject for case in validation}) | set(labelled)

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

    def _unlabelled(self) -> set[str]:
        """Subjects whose slices may serve without their masks; those of the draw too."""
        parts = self.store.split["parts"]
        return {*parts["train"], *parts["pretrain"]} - {*self.draw.validation, *parts.get("test", [])}

    def _architecture(self, settings: FinetuneSettings) -> UNetConfig:
        encoder = settings.encoder
        kind = {"in_channels": int(self.store.images.shape[1]), "ndim": 2 if settings.patch is None else 3}
        size = settings.patch or self.store.images.shape[2:]
        return (settings.network.fitted(size) if encoder is None else architecture_of(encoder)).model_copy(update=kind)

    def _network(self, device: torch.device, seed: int) -> UNet:
        """A network whose weights beside the encoder are equal for all modes of one seed."""
        torch.manual_seed(stream_seed(seed, "segmenter"))
        network = UNet(self.settings.network, len(self.store.label_names))
        if self.encoder is not None:
            load_encoder_into(self.encoder, network.encoder)
            if self.settings.transfer == "all":
                load_decoder_into(self.encoder, network.decoder)
            if self.origin is not None:
                check_origin(self.origin)
        return channels_last(network.to(device))

    def _facts(
        self, best_steps: list[int | None], looked: list[Spread], rule: ComponentRule | None
    ) -> Mapping[str, Any]:
        used = self.draw.validation if self.selection == "held_out" else ()
        regime = load_plugin("fewlabel.regimes", str(self.settings.regime.name))
        own = {*self.draw.labelled, *(self._unlabelled() if regime.uses_unlabelled else ())}
        own |= {subject for images in looked for subject in images.subjects}
        return {
            "members": self.settings.members,
            "label_names": {str(key): value for key, value in self.store.label_names.items()},
            "plan": json.loads(json.dumps(self.store.plan)),
            "reader": self.store.manifest.settings.get("reader", "auto"),
            "labelled_subjects": list(self.draw.labelled),
            "labelled_slices": len(self.store.slices_of(self.draw.labelled, labelled=True)),
            "validation_subjects": list(used),
            KEY: images_met({*own, *self._encoder_met}, None),
            "selection": self.selection,
            "patch": None if self.settings.patch is None else list(self.settings.patch),
            "regime": self.settings.regime.name,
            "initialisation": {"warm": "pretrained encoder", "frozen": "frozen encoder", "scratch": "scratch"}[
                self.mode
            ],
            "steps": self.settings.steps,
            "batch": self.settings.batch,
            "widened_augment": self.views.widened,
            "best_step": best_steps[0],
            **({"best_steps": best_steps} if len(best_steps) > 1 else {}),
            "validation_dice": self.members.mean_dice(),
            RECALIBRATED: statistics_record(looked[0] if looked else None, self.settings.recalibrate_share),
            POSTPROCESS: None if rule is None else rule.record(),
        }
