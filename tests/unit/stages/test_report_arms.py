"""What a report calls the model and its control."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabel.reporting.inputs import Inputs, Training
from fewlabel.stages.report import _arms


@pytest.mark.parametrize(
    ("model", "control", "wanted"),
    [
        (("pretrained encoder", "supervised"), ("scratch", "supervised"), ("pre-trained with gcl", "from scratch")),
        (
            ("scratch", "mean_teacher"),
            ("scratch", "supervised"),
            ("from scratch, mean_teacher", "from scratch, supervised"),
        ),
        (
            ("scratch", "supervised"),
            ("scratch", "supervised"),
            ("from scratch (model)", "from scratch (control)"),
        ),
    ],
)
def test_names_tell_the_arms_apart(model, control, wanted) -> None:
    arms = [
        Training(Path(), {"initialisation": initialisation, "regime": regime}, [])
        for initialisation, regime in (model, control)
    ]
    encoder = Training(Path(), {"method": "gcl"}, [])
    assert _arms(Inputs(encoder=encoder, segmenter=arms[0], control=arms[1])) == wanted
