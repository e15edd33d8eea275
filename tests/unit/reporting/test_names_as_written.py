"""Names of classes and columns are shown as they are written, whatever they mean to a typesetter."""

from __future__ import annotations

import pytest

from fewlabel.reporting.figure_style import draw


@pytest.mark.parametrize("name", ["$\\frac{$", "{0}", "$x_1$ & co", "%s", "\\alpha", "<b>"])
def test_a_figure_bears_any_name(name):
    def paint(axes):
        axes.plot([0, 1], [0, 1], label=name)
        axes.set_title(name)
        axes.set_xticks([0, 1], [name, name])
        axes.legend()

    assert draw(paint, alt=name).uri.startswith("data:image/svg+xml;base64,")
