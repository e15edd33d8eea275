"""How figures look: colours told apart by colour-blind readers, text legible at phone width, self-contained output."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fewlabel.data.io.label_tables import FIRST_COLOURS
from fewlabel.reporting.blocks import Picture

#: Okabe & Ito's palette (2008) without its yellow, which is too pale for lines on white.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, MUTED, FAINT = "#1a1a1a", "#595959", "#d9d9d9"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, "#7F6A00", "#000000")
#: One mark per series, so that colour is never the only difference.
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
MODEL, CONTROL = BLUE, "#8a5a00"
#: Contours on grey images, class 1 onwards.
CONTOURS = FIRST_COLOURS
CONTOUR_NAMES = ("blue", "yellow", "orange", "pink", "green", "white")

PANEL = (4.5, 3.0)
PIXELS_PER_INCH = 96

_LOOK: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "fewlabel",
    "path.simplify": True,
    # Names of classes and columns are shown as they are written, dollars and backslashes too.
    "text.parse_math": False,
}


@contextmanager
def canvas(size: tuple[float, float] = PANEL) -> Iterator[Figure]:
    """A figure in the house style, free of pyplot's global state.

    Args:
        size: (width, height) in inches; 4.5 wide fills a phone at the size the text is set in.
    """
    with mpl.rc_context(_LOOK):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def draw(paint: Callable[[Axes], None], *, alt: str, caption: str = "", size: tuple[float, float] = PANEL) -> Picture:
    """Run ``paint`` on the axes of a fresh figure and embed the result as SVG."""
    with canvas(size) as figure:
        paint(figure.add_subplot())
        return embed(figure, alt=alt, caption=caption)


def embed(figure: Figure, *, alt: str, caption: str = "") -> Picture:
    """A figure as an SVG picture; call it inside :func:`canvas`."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, dpi=200)
    width, height = (round(float(side) * PIXELS_PER_INCH) for side in figure.get_size_inches())
    return Picture(_uri("image/svg+xml", stream.getvalue()), alt, caption, (width, height))


def embed_svg(content: str, size: tuple[int, int], *, alt: str, caption: str = "") -> Picture:
    """Ready SVG text as a picture of ``size`` (width, height) CSS pixels."""
    return Picture(_uri("image/svg+xml", content.encode()), alt, caption, size)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def series_look(index: int) -> dict[str, Any]:
    """Colour and dash of the ``index``-th line of a chart."""
    return {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[index % len(DASHES)]}


def ordered_colours(count: int) -> list[Any]:
    """Colours of an ordered scale, dark to light, none too pale for white paper."""
    ramp = mpl.colormaps["viridis"]
    return [ramp(value) for value in np.linspace(0.0, 0.88, max(count, 1))]


def legend_below(axes: Axes) -> None:
    """A legend under the figure, where it hides no data."""
    handles, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    if handles and figure is not None:
        widest = max(len(label) for label in labels)
        fit = max(1, min(len(labels), 52 // (widest + 6)))
        figure.legend(handles, labels, loc="outside lower center", ncols=fit, handlelength=2.2, columnspacing=1.4)


def smooth(values: Sequence[float] | NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Centred moving mean; at the ends over the part of the window that exists."""
    array = np.asarray(values, dtype=np.float64)
    if window <= 1 or len(array) < 3:
        return array
    kernel = np.ones(min(window, len(array)))
    return np.convolve(array, kernel, "same") / np.convolve(np.ones(len(array)), kernel, "same")


def thin(count: int, most: int = 500) -> NDArray[np.int64]:
    """At most about ``most`` evenly spaced indices of ``count`` points, first and last kept."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))
