"""What weak-to-strong regimes share: two phases, pseudo-labels of weak views, CutMix, and a guard over the labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from fewlabel.core.collective import gather, sum_across, world_size
from fewlabel.core.errors import Fault
from fewlabel.core.progress import say
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.ema import EMAModel
from fewlabel.nets.side_effect_free import preserve_buffers
from fewlabel.nets.unet import UNet
from fewlabel.objectives.batch_noise_and_turns import own_part
from fewlabel.objectives.class_share_monitor import ClassShares
from fewlabel.objectives.connected_components import component_counts
from fewlabel.objectives.mixing import partners, position_partners, random_boxes
from fewlabel.objectives.one_piece_pseudo_labels import OnePiece
from fewlabel.objectives.segmentation import IGNORE
from fewlabel.objectives.semi_supervised_loss_parts import probabilities, ramp_up
from fewlabel.regimes.contrast_beside import ContrastBeside, ContrastSettings, contrast_faults
from fewlabel.regimes.semi_supervised import resting_steps, two_phases
from fewlabel.regimes.supervised_rollback_record import Returns
from fewlabel.regimes.teacher_student import TeacherStudent, TeacherStudentSettings

#: Steps in a row for which a class may be out before the supervised weights come back, and how often they may.
PATIENCE, RETURNS = 100, 3
#: Steps of the first phase of which one looks at how many pieces labelled structures have.
LOOK_EVERY = 10
#: Least and largest share of a slice that a box takes, and the largest ratio of its sides (UniMatch).
SHARE, RATIO = (0.02, 0.4), 1 / 0.3


class WeakToStrongSettings(TeacherStudentSettings, ContrastSettings):
    """Settings of regimes that teach strong views by weak ones."""

    unlabelled_weight: float = setting(
        1.0, "weight λ of the unlabelled part; 0 leaves it out", ge=0, source="FixMatch, UniMatch"
    )
    ramp: float = setting(
        0.05,
        "share of the second phase, from its start, over which λ grows by exp(-5 (1 - t)²); 0 for a constant λ",
        ge=0,
        le=1,
        source="own choice; UniMatch: none",
    )
    rest: float = setting(
        0.2,
        "share of the run, from its start, that is supervised (the first phase); the second begins from its weights "
        "with a schedule of the rate of its own",
        ge=0,
        lt=1,
        source="own choice: pseudo-labels of a network that knows nothing freeze its errors",
    )
    teacher: Literal["average", "self"] = setting(
        "average", "who labels the weak views: a moving average of the student, or the student", source="own choice"
    )
    threshold: float = setting(
        0.9, "probability from which a pixel's pseudo-label counts; above 1 none does", ge=0, source="own choice"
    )
    cutmix: float = setting(
        1.0,
        "share of the strong views with a box of another one on them",
        ge=0,
        le=1,
        source="own choice; UniMatch: .5",
    )
    one_piece: bool = setting(
        True,
        "hold pseudo-labels to the largest piece of the foreground, and of a class, where nearly all labelled slices "
        "show it in one",
        source="own choice; for every class: BCP",
    )
    partners: Literal["any", "position"] = setting(
        "any", "which slice the box comes from: any of the batch, or the nearest in height", source="UniMatch: any"
    )
    guard: float = setting(
        3.0,
        "largest factor by which the share of a class among the pseudo-labels may change before it is left out, and "
        "after 100 such steps the supervised weights come back; above 1, or 0 to watch nothing",
        ge=0,
        source="own choice",
    )

    @model_validator(mode="after")
    def _room_to_change(self) -> Self:
        if 0 < self.guard <= 1:
            raise ValueError("guard must be above 1, or 0 to watch nothing")
        return self

    @model_validator(mode="after")
    def _beside_something(self) -> Self:
        if self.contrast > 0 and self.unlabelled_weight == 0:
            raise ValueError("contrast acts beside the pseudo-labels: unlabelled_weight must be above 0")
        return self


@dataclass(frozen=True)
class Pseudo:
    """What the teacher says of this rank's unlabelled rows: classes (u, *space) int64, 255 where it is not sure."""

    labels: Tensor

    @property
    def share(self) -> Tensor:
        """Of the pixels that count."""
        return (self.labels != IGNORE).float().mean()


class WeakToStrong(TeacherStudent):
    """Pseudo-labels of weak views train strong views of the same slices.

    * **Two phases.** For the first ``rest`` of the run the labelled slices alone are learnt from. Then the teacher
      becomes the student, rate and moments start anew, and ``λ · pseudo`` is added to the supervised loss.
    * **Views.** The weak view has the geometry of the strong ones and the intensities of the slice.
    * **One piece.** Where nearly all labelled slices show the foreground in one piece, all but its largest piece among
      the pseudo-labels is background; where they show a class in one, what lies beside its largest piece is unsure.
    * **CutMix.** A box of another slice's strong view lies on each, with the pseudo-labels of *its* weak view.
    * **Loss.** Cross-entropy over all pixels, of which unsure ones cost nothing, plus soft Dice over the sure ones.
      Dice alone would teach nothing about borders, since that is where the unsure pixels lie.
    * **Guard.** Confidence alone is no guard: a network can be sure and wrong. So the share of each class among the
      pseudo-labels is held against that at the beginning of the second phase. A class that has changed by more than
      ``guard`` is left out; after 100 such steps in a row the supervised weights come back and λ is halved. The third
      time, or where a class has no pixel at all to begin with, the rest of the run is supervised. It is said when it
      happens, and again at the end. Of a class that no labelled slice shows nothing is expected: there is none among
      the pseudo-labels, and what comes up of it is left out.
    * **Contrast** (``contrast`` above 0). In the second phase ``contrast · λ(t) / λ`` times a contrastive loss is
      added: of the embeddings of two views of the unlabelled slices, without boxes, that meta labels guide (a pass of
      the encoder of its own, which leaves running statistics alone), or of pixels of the last decoder map, by labels
      and sure pseudo-labels. Its head begins at random and is not taken back with the supervised weights.

    Children implement :meth:`pseudo_loss`.
    """

    settings: WeakToStrongSettings
    supports_3d: ClassVar[bool] = True
    weak_view: ClassVar[bool] = True
    supervised_when: ClassVar[Mapping[str, Any]] = {"unlabelled_weight": 0.0}
    returns: Tensor
    given_up: Tensor

    def __init__(self, config: WeakToStrongSettings, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        self.watches = config.guard > 0 and config.unlabelled_weight > 0
        if self.watches:
            self.shares = ClassShares(network.classes, config.guard)
            # The weights of the first phase, to go back to.
            self.supervised = EMAModel(network)
            self.history = Returns(RETURNS, network.classes)
        if config.one_piece:
            self.pieces = OnePiece(network.classes)
        self.register_buffer("returns", torch.zeros((), dtype=torch.int64))
        self.register_buffer("given_up", torch.zeros((), dtype=torch.bool))
        # What the teacher said of the last weak views, as it was and as it counts.
        self._guesses: Tensor | None = None
        self._labels: Tensor | None = None
        self.beside = ContrastBeside(config, network) if config.contrast > 0 else None

    @abstractmethod
    def pseudo_loss(self, batch: SegmentationBatch, weak: Tensor, pseudo: Pseudo) -> tuple[dict[str, Tensor], Tensor]:
        """Supervised terms, and the loss of the strong views.

        Args:
            batch: The batch.
            weak: (u, channels, *space).
            pseudo: What the teacher says of it.
        """

    @classmethod
    def data_faults(cls, config: Any, meta_labels: Mapping[str, int], rows: int) -> list[Fault]:
        """What the contrast cannot work with."""
        return contrast_faults(config, meta_labels, rows)

    @property
    def uses_metadata(self) -> tuple[str, ...]:
        """The labels that guide the contrast of slices."""
        return () if self.beside is None else self.beside.labels

    def undecayed(self) -> tuple[nn.Module, ...]:
        """The head of the contrast, which only a small term reaches, and none in the first phase."""
        return () if self.beside is None else (self.beside,)

    @classmethod
    def phase_lengths(cls, config: Any, total_steps: int, *, pretrained: bool = False) -> tuple[int, ...]:  # noqa: ARG003
        """The first phase, then the second; all of a run without an unlabelled part is one."""
        first = resting_steps(config.rest, total_steps) if config.unlabelled_weight > 0 else total_steps
        return two_phases(first, total_steps)

    def meet_labels(self, pixels: Tensor) -> None:
        """The guard expects the classes that labelled slices show."""
        if self.watches:
            self.shares.expect(pixels > 0)

    def weight(self, step: int, total_steps: int) -> float:
        """λ at a step."""
        first = self._first(total_steps)
        if step < first:
            return 0.0
        grown = ramp_up(step - first, self.settings.ramp * (total_steps - first))
        # Both at once: the device is asked once.
        returns, given_up = torch.stack([self.returns, self.given_up.long()]).tolist() if self.watches else (0, 0)
        return 0.0 if given_up else self.settings.unlabelled_weight * grown * 0.5**returns

    def labelled_terms(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """Those of ``supervised``; on the way, how many pieces labelled structures have."""
        looks = self.settings.one_piece and self.settings.unlabelled_weight > 0
        if looks and batch.step % LOOK_EVERY == 0 and batch.step < self._first(batch.total_steps):
            self.pieces.learn(batch.labels)
        return super().labelled_terms(batch)

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice`` and ``pseudo``, and ``contrast`` where it has a weight."""
        pseudo = self._pseudo(unlabelled)
        terms, loss = self.pseudo_loss(batch, unlabelled, pseudo)
        self.log(pseudo=loss, sure=pseudo.share)
        terms = {**terms, "pseudo": weight * loss}
        if self.beside is not None:
            contrast = self.beside(self.network.encoder, batch, unlabelled, self.streams)
            self.log(contrast=contrast)
            terms["contrast"] = self.settings.contrast * weight / self.settings.unlabelled_weight * contrast
        return terms

    def segment(self, images: Tensor, *labels: Tensor) -> Tensor:
        """Logits of the student.

        Args:
            images: (n, channels, *space).
            labels: Classes (m, *space) of the rows of each stream in turn, 255 where a pixel takes no part in a
                contrast of pixels.
        """
        if self.beside is None:
            return torch.as_tensor(self.network(images))
        return self.classify(self.network.decoder(self.network.encoder(images))[-1], *labels)

    def classify(self, features: Tensor, *labels: Tensor) -> Tensor:
        """As :meth:`segment`, of the last decoder map; rows may follow that are in no stream."""
        if self.beside is not None:
            self.beside.show(features, labels)
        return torch.as_tensor(self.network.classifier(features))

    def after_step(self, step: int, total_steps: int) -> None:
        """The teacher is the student in the first phase and follows it in the second; then the guard looks."""
        self.replaced = False
        first = self._first(total_steps)
        fed = self.joined and self.settings.teacher == "average"
        self.teacher.update(self.network, max(step - first, 0), fed=fed)
        if not self.watches:
            return
        if step < first:
            if step == first - 1:
                self.supervised.update(self.network, 0.0)
        elif self.joined:
            self._guard(step)

    def metrics(self) -> dict[str, float]:
        """Those of the base, of the guard, and of pseudo-labels the share of foreground and of slices in pieces."""
        figures = super().metrics()
        if self.joined and self._labels is not None and self._guesses is not None:
            scattered = component_counts(self._guesses, self.network.classes) > 1
            figures["foreground"] = float((self._labels > 0).float().mean())
            figures["scattered"] = float(scattered.any(dim=1).float().mean())
        if self.watches:
            figures |= {"returns": float(self.returns), "given_up": float(self.given_up)}
        return figures

    def outcome(self, names: Mapping[int, str], steps: int) -> Mapping[str, Any]:
        """What the guard did: its returns, with step, classes and shares of each, and whether it gave up."""
        if not self.watches:
            return {}
        given_up = bool(self.given_up)
        sentence = self.history.sentence(names, steps, given_up=given_up)
        return {
            "returns": int(self.returns),
            "given_up": given_up,
            "taken_back": self.history.record(),
            **({"sentence": sentence} if sentence else {}),
        }

    def mixed(self, images: Tensor, pseudo: Pseudo, batch: SegmentationBatch) -> tuple[Tensor, Tensor]:
        """Strong views with boxes of each other, and their labels.

        Args:
            images: (u, channels, *space), strong.
            pseudo: Labels of the weak views of the same rows.
            batch: Whose generator draws.

        Raises:
            ValueError: If partners go by position and the batch has no positions.
        """
        settings = self.settings
        if settings.cutmix == 0:
            return images, pseudo.labels
        count = len(images)
        if settings.partners == "any":
            other = partners(count, batch.generator)
        elif batch.unlabelled_positions is None:
            raise ValueError("partners=position needs the positions of the unlabelled rows")
        else:
            other = position_partners(batch.unlabelled_positions, batch.generator)
        inside = random_boxes(count, images.shape[2:], SHARE, RATIO, batch.generator)
        used = torch.rand(count * world_size(), generator=batch.generator) < settings.cutmix
        inside &= own_part(used).view(-1, *[1] * (inside.dim() - 1))
        other, inside = other.to(images.device), inside.to(images.device)
        mixed = torch.where(inside[:, None], gather(images)[other], images)
        return mixed, torch.where(inside, gather(pseudo.labels)[other], pseudo.labels)

    def strong_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy over all pixels, unsure ones free, plus soft Dice over the sure ones."""
        terms = self.supervision(logits, labels)
        if "ce" in terms:
            sure = (labels != IGNORE).to(terms["ce"].dtype).mean()
            terms["ce"] = terms["ce"] * sum_across(sure) / world_size()
        return torch.stack(list(terms.values())).sum()

    def _first(self, total_steps: int) -> int:
        """The step at which the second phase begins."""
        return resting_steps(self.settings.rest, total_steps)

    @torch.no_grad()
    def _pseudo(self, weak: Tensor) -> Pseudo:
        if self.settings.teacher == "average":
            logits = self.teacher(weak)
        else:
            with preserve_buffers(self.network):
                logits = self.network(weak)
        confidence, labels = probabilities(logits).max(dim=1)
        self._guesses = labels
        sure = confidence >= self.settings.threshold
        if self.settings.one_piece:
            labels, beside = self.pieces.hold(labels)
            sure &= ~beside
        self._labels = labels
        if self.watches:
            sure &= ~self.shares.out[labels]
        return Pseudo(torch.where(sure, labels, IGNORE))

    def _guard(self, step: int) -> None:
        if self._labels is None:
            return
        self.shares.update(self._labels)
        # Both at once: the device is asked once, and for more only where something is out.
        missing, streak = torch.stack([self.shares.absent.long(), self.shares.streak]).tolist()
        absent = [label for label, flag in enumerate(missing) if flag]
        worst = streak.index(max(streak))
        if absent:
            which = f"class {absent[0]}" if len(absent) == 1 else f"any of the classes {', '.join(map(str, absent))}"
            what = f"no pixel of the unlabelled scans is labelled as {which}"
            self.history.add(step, absent)
        elif streak[worst] >= PATIENCE:
            now, first = float(self.shares.now[worst]), float(self.shares.first[worst])
            what = f"class {worst} takes {now:.2%} of the pseudo-labels, {first:.2%} at first"
            self.history.add(step, [worst], now, first)
        else:
            return
        self._go_back()
        if absent or int(self.returns) >= RETURNS:
            self.given_up.fill_(value=True)
            say(f"Step {step}: {what}. Back to the supervised weights. The rest of the run is supervised.")
        else:
            say(f"Step {step}: {what}. Back to the supervised weights, with half the weight on pseudo-labels.")

    def _go_back(self) -> None:
        self.network.load_state_dict(self.supervised.network.state_dict())
        self.teacher.update(self.network, 0)
        self.shares.restart()
        self.returns += 1
        self.replaced = True
