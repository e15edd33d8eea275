"""One segmenter of a fine-tuning, the model or its control: data, labels, selection, fit, files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from fewlabel.core.artifact import Origin, open_artifact, read_json, write_json
from fewlabel.core.collective import rank
from fewlabel.core.config import given
from fewlabel.core.discovery import load_plugin
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.progress import say
from fewlabel.core.rng import stream_seed
from fewlabel.core.unchanged import check_origin
from fewlabel.data.splits import LabelDraw
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.engine.lock import sole_run
from fewlabel.engine.runs import check_begun, close_run, finished_before, identity, mark_run
from fewlabel.engine.runtime import fast_kernels, start
from fewlabel.engine.weights import load_decoder_into, load_encoder_into, save_segmenter
from fewlabel.nets.layout import channels_last
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.stages._finetune_settings import FinetuneSettings, Mode
from fewlabel.stages._fit import Fit, Recipe
from fewlabel.stages._images_met import KEY, images_met
from fewlabel.stages._learnt_from import drawn_labels, labels_of_encoder
from fewlabel.stages._postprocess import KEY as POSTPROCESS
from fewlabel.stages._postprocess import decided_rule
from fewlabel.stages._selection import Selection, choose_selection, say_selection
from fewlabel.stages._statistics import KEY as RECALIBRATED
from fewlabel.stages._statistics import check_statistics, statistics_images, statistics_record, statistics_words
from fewlabel.stages._volumes import architecture_of, check_encoder, check_slices, patch_size


class Arm:
    """One segmenter: data, labels, selection, fit, files.

    Args:
        settings: Settings of the stage.
        out: Folder of the segmenter.
        mode: What becomes of the encoder.
        selection: How the weights are selected; None for what the settings ask for.
    """

    def __init__(self, settings: FinetuneSettings, out: Path, mode: Mode, selection: Selection | None = None) -> None:
        self.out = out
        self.mode = mode
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
        self.settings = settings.model_copy(update={"network": self._architecture(settings)})
        check_network(settings, self.settings.network)
        check_statistics(settings.recalibrate, self.settings.network)
        if selection is None:
            say_network(settings.network, self.settings.network, settings.encoder)
        if settings.patch is None:
            check_slices(self.store.images.shape[2:], self.settings.network, str(settings.data))
        self.seen = labels_of_encoder(
            self.encoder,
            self.draw.labelled,
            rule="an encoder that learnt from labels may have seen those of this draw only",
            remedy=f"pre-train with subjects=[{','.join(self.draw.labelled)}], or fine-tune on its draw",
        )
        self.selection = selection or choose_selection(settings.validation, self.draw, self.seen)
        self.same = {**identity(self.settings.record(), **hashes), "mode": mode, "selection": self.selection}
        self._met = images_met((), self.encoder)
        if self.origin is not None:
            check_origin(self.origin)
        self._finished = False

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
        stop = self._leave_one_out(fabric) if selection == "leave_one_out" else None
        validation = self._cases(self.draw.validation)
        fit = self._fit(
            fabric,
            self.draw.labelled,
            validation if selection != "none" else (),
            self.out,
            keep_best=selection == "held_out",
        )
        mark_run(self.out, self.same)
        network = fit.run(stop)
        if fit.statistics is not None:
            share = f"{settings.recalibrate_share:.0%}"
            say(f"Statistics of batch normalisation: {share} from {statistics_words(fit.statistics)}, masks unread.")
        if fit.rule is not None:
            say(f"Kept of predictions: {fit.rule.words(self.store.label_names)}, as in the labelled masks.")
        if rank() == 0:
            save_segmenter(self.out, network, self._facts(network, stop or fit.best_step, fit))
        close_run(
            self.out,
            "segmenter",
            ["segmenter.safetensors", "segmenter.json", "metrics.jsonl"],
            parents=[self.store.origin, *([self.origin] if self.origin and self.encoder else [])],
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
            curve = self._own_curve(done)
            if curve is None:
                others = tuple(other for other in self.draw.labelled if other != subject)
                fit = self._fit(fabric, others, self._cases((subject,)), folder, keep_best=False)
                mark_run(self.out, self.same)
                fit.run()
                curve = fit.curve
                if rank() == 0:
                    write_json(done, {"identity": self.same, "curve": {str(step): curve[step] for step in curve}})
                fit.clean()
            curves.append(curve)
        return max(curves[0], key=lambda step: float(np.mean([curve[step] for curve in curves])))

    def _own_curve(self, path: Path) -> dict[int, float] | None:
        """Step → validation Dice of a left-out patient, if this very run has found it before."""
        content = read_json(path) if path.is_file() else {}
        if content.get("identity") != self.same:
            return None
        return {int(step): float(value) for step, value in content["curve"].items()}

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
        met = (self._unlabelled() - {case.subject for case in validation}) | set(labelled)
        patch = patch_size(settings.patch)
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
            patch=patch,
            patch_foreground=settings.patch_foreground,
            recalibrate_share=settings.recalibrate_share,
        )
        return Fit(
            recipe,
            fabric,
            self.store,
            self._network(fabric.device),
            indices=indices,
            unlabelled=self.store.slices_of(sorted(met - set(labelled))),
            validation=validation,
            statistics=statistics_images(
                settings.recalibrate, settings.regime, settings.network, self.store, met, patch, settings.seed
            ),
            rule=decided_rule(self.store, labelled) if settings.postprocess else None,
            keep_best=keep_best,
            folder=folder,
            same=self.same,
            title="finetune" if self.mode != "scratch" else "finetune from scratch",
        )

    def _unlabelled(self) -> set[str]:
        """Subjects whose slices may serve without their masks; those of the draw too."""
        parts = self.store.split["parts"]
        held = set(self.draw.validation) | set(parts.get("test", []))
        return (set(parts["train"]) | set(parts["pretrain"])) - held

    def _architecture(self, settings: FinetuneSettings) -> UNetConfig:
        encoder = settings.encoder
        kind = {"in_channels": int(self.store.images.shape[1]), "ndim": 2 if settings.patch is None else 3}
        return (settings.network if encoder is None else architecture_of(encoder)).model_copy(update=kind)

    def _network(self, device: torch.device) -> UNet:
        """A network whose weights beside the encoder are equal for all modes of one seed."""
        torch.manual_seed(stream_seed(self.settings.seed, "segmenter"))
        network = UNet(self.settings.network, len(self.store.label_names))
        if self.encoder is not None:
            load_encoder_into(self.encoder, network.encoder)
            if self.settings.transfer == "all":
                load_decoder_into(self.encoder, network.decoder)
            if self.origin is not None:
                check_origin(self.origin)
        return channels_last(network.to(device))

    def _cases(self, subjects: tuple[str, ...]) -> tuple[PreparedCase, ...]:
        return tuple(case for case in self.store.cases if case.subject in subjects and case.label is not None)

    def _facts(self, network: UNet, best_step: int | None, fit: Fit) -> Mapping[str, Any]:
        used = self.draw.validation if self.selection == "held_out" else ()
        regime = load_plugin("fewlabel.regimes", str(self.settings.regime.name))
        own = {*self.draw.labelled, *(self._unlabelled() if regime.uses_unlabelled else ())}
        return {
            "classes": network.classes,
            "label_names": {str(key): value for key, value in self.store.label_names.items()},
            "plan": json.loads(json.dumps(self.store.plan)),
            "reader": self.store.manifest.settings.get("reader", "auto"),
            "labelled_subjects": list(self.draw.labelled),
            "labelled_slices": len(self.store.slices_of(self.draw.labelled, labelled=True)),
            "validation_subjects": list(used),
            KEY: images_met({*own, *self._met, *(fit.statistics.subjects if fit.statistics else ())}, None),
            "selection": self.selection,
            "patch": None if self.settings.patch is None else list(self.settings.patch),
            "regime": self.settings.regime.name,
            "initialisation": {"warm": "pretrained encoder", "frozen": "frozen encoder", "scratch": "scratch"}[
                self.mode
            ],
            "steps": self.settings.steps,
            "batch": self.settings.batch,
            "best_step": best_step,
            RECALIBRATED: statistics_record(fit.statistics, self.settings.recalibrate_share),
            POSTPROCESS: None if fit.rule is None else fit.rule.record(),
        }


def check_network(settings: FinetuneSettings, built: UNetConfig, where: str = "") -> None:
    """Refuse words about the network that count for nothing.

    An encoder brings its architecture along, so the default and a recipe give way to it: they serve where there is no
    encoder. Words of the command line do not.

    Args:
        settings: Settings of the stage as given.
        built: The network to build.
        where: Prefix of keys in messages.

    Raises:
        SettingsError: Naming each word and what the encoder or the data have instead.
    """
    asked = settings.network
    faults = []
    for key in UNetConfig.model_fields:
        value, wanted = getattr(built, key), getattr(asked, key)
        if value == wanted or key not in asked.model_fields_set:
            continue
        remedy = f"leave out network.{key}"
        if key == "in_channels":
            rule = f"the network takes the channels of the data, and {settings.data} has {value}"
        elif key == "ndim":
            rule = f"the network of {'slices' if settings.patch is None else 'patches'} is {value}D"
        elif key in given(asked):
            rule = f"the network is that of the encoder {settings.encoder}, whose {key} is {value}"
            remedy += ", or give another encoder"
        else:
            continue
        faults.append(Fault(rule, str(wanted), f"{where}network.{key}", remedy))
    if faults:
        raise SettingsError("These settings are not valid:", faults)


def say_network(asked: UNetConfig, built: UNetConfig, encoder: Path | None) -> None:
    """Say where an encoder takes the place of what a recipe asks of the network."""
    fields = [key for key in UNetConfig.model_fields if key in asked.model_fields_set]
    differing = [key for key in fields if getattr(asked, key) != getattr(built, key)]
    if differing:
        words = ", ".join(f"{key}={getattr(built, key)} (not {getattr(asked, key)})" for key in differing)
        say(f"network: that of {encoder}, {words}.")
