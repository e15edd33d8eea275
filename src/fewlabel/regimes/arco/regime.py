"""ARCO: relations between slices first, then pixels against classes, drawn in strata of image and class."""

from __future__ import annotations

from typing import ClassVar

from fewlabel.regimes.arco.family import Anatomical
from fewlabel.regimes.arco.settings import ArcoSettings


class Arco(Anatomical):
    """ARCO (You et al., NeurIPS 2023, arXiv 2302.01735): variance-reduced pixel contrast for few labels.

    * **Stage 1**, the first ``pretrain_share`` of the run: ``L_sup + KL_global + KL_local``. Student and teacher see a
      slice in views of their own; how alike the slice (or each of its patches) is to past slices should be the same
      for both.
    * **Stage 2**: ``L_sup + λ1 L_con + λ2 L_unsup + λ3 L_nn``. ``L_con`` pulls pixels to the teacher's mean of their
      class and pushes them from keys of other classes (temperature τ); ``L_unsup`` is cross-entropy on the teacher's
      labels, weighted by the share of sure pixels of the slice; ``L_nn`` brings a slice near its neighbours.
    * **Sampling**: pixels of a class are drawn naively (``ns``), in strata (``sg``, the paper's best) or in strata and
      mirrored pairs (``sag``); a stratum is a grid cell of an image within the class. What that does to the variance of
      the gradient is measured as it trains: figures ``variance/ns``, ``variance/sg``, ``variance/sag``.

    What differs from the public code, and why:

    * Negatives of a class are keys of other classes. There a key must be labelled c and not c, so the banks stay empty.
    * ``L_nn`` takes neighbours from the teacher and distances from the student; there the roles are exchanged and the
      loss has no gradient.
    * Strata are cells of the image; there the grid lies over the flattened list of a class's pixels.
    * Classes are named by id, so an absent class does not shift the others.
    * The teacher's heads are copies that follow; there they start from other weights and receive gradients.
    * Heads have a ReLU and a normalisation between their linear layers, as the paper says; there these are commented
      out. In stage 2 the student has a predictor for ``L_nn`` alone (there: two linear layers, for all of it).
    * Sides of the KL: the teacher is the target (the paper prints the reverse).
    * Pixels without label take part by the teacher's label where it is sure, in place of U2PL's entropy ranks for 21
      classes. No random morph of images without their labels.
    * Neighbours are compared by pooled embeddings; dense maps of 36 slices would be 4.7 GB.
    * All queries of a class share its negatives (there: as many for each). ``L_unsup`` is a mean over all pixels
      (there: over those with a cost). Unlabelled slices are not cut and mixed by default (``mix``), as in the paper.
    * Supervision is that of ``supervised`` in both stages (there: half of it in stage 1).

    Own choices for small machines: embeddings of 128 numbers at a quarter of the resolution (paper: 512 at full).

    Example:
        >>> regime = Arco(Arco.Config(sampling="sag", dim=16), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'contrast', 'nn', 'unsup']
    """

    class Config(ArcoSettings):
        """Settings of ARCO."""

        name: str = "arco"

    paper: ClassVar[str] = "You et al., NeurIPS 2023, arXiv 2302.01735"
