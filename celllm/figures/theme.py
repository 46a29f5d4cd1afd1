"""How every figure looks: sizes in millimetres of paper, type that survives print, colours for every eye."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from celllm.io import atomic
from celllm.report.run import TOY_NOTE, labelled

MM = 1 / 25.4  # inches, the unit of matplotlib
COLUMN_WIDTH = 85.0  # mm: one column of a two-column page
PAGE_WIDTH = 178.0  # mm: both columns
DPI = 300
SMALLEST_TYPE = 5.0  # pt: the least that is legible in print
TYPE = 7.0  # pt
NOTE_LINE = 2.6  # mm: one line more of notes, as a toy has it

# Okabe & Ito (2008), distinct under the common colour-vision deficiencies; in the order of first use.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
INK = "#1c2430"
SOFT = "#5b6676"
GRID = "#dfe4ea"
SEQUENTIAL = "Blues"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


@contextmanager
def theme() -> Iterator[None]:
    """Matplotlib settings of all figures, for the block only.

    SVG keeps text as text, so that it can be searched and edited; ids do not depend on the moment of drawing.
    """
    settings: dict[Any, Any] = {
        "font.family": ["DejaVu Sans", "sans-serif"],
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": TYPE,
        "axes.titlesize": TYPE + 1,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": TYPE,
        "axes.linewidth": 0.5,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "xtick.labelsize": TYPE - 1,
        "ytick.labelsize": TYPE - 1,
        "xtick.major.width": 0.5,
        "ytick.major.width": 0.5,
        "lines.linewidth": 1.0,
        "legend.frameon": False,
        "savefig.dpi": DPI,
        "svg.fonttype": "none",
        "svg.hashsalt": "celllm",
    }
    with matplotlib.rc_context(settings):
        yield


def blank(width: float, height: float) -> Figure:
    """An empty figure of this size on paper, in mm."""
    return Figure(figsize=(width * MM, height * MM))


def save(figure: Figure, out: str | Path) -> None:
    """Write ``<out>.png`` (300 dpi) and ``<out>.svg``, each complete or not at all."""
    for suffix in ("png", "svg"):
        metadata = {"Date": None} if suffix == "svg" else {"Software": None}
        with atomic(f"{out}.{suffix}") as partial:
            figure.savefig(partial, format=suffix, dpi=DPI, metadata=metadata)


def headed(figure: Figure, title: str, lines: Sequence[str], toy: bool, zoom: float = 1.0) -> None:
    """Write title and notes into the upper left corner; of a toy, also what its numbers are worth."""
    mm = zoom * MM / figure.get_figheight()
    note = "\n".join([*lines, TOY_NOTE.capitalize()] if toy else lines)
    small = (SMALLEST_TYPE + 0.5) * zoom
    head = figure.text(
        0.01, 1 - 2 * mm, labelled(title, toy), va="top", fontsize=(TYPE + 1) * zoom, weight="bold"
    )
    under = figure.text(0.01, 1 - 6.3 * mm, note, va="top", fontsize=small, color=SOFT)
    literal([head, under])


def gap(title: str, reason: str, toy: bool, width: float = COLUMN_WIDTH) -> Figure:
    """What stands in the place of a figure that cannot be drawn: its title and the reason."""
    figure = blank(width, 30.0)
    headed(figure, title, [reason], toy)
    return figure


def scatter(axes: Axes, x: Any, y: Any, colours: Any, marker: str = "o", n: int | None = None) -> None:
    """Points of an embedding, smaller the more there are, as pixels in the SVG too; no axes to read off.

    ``n`` is the number of points of the whole panel when these are a part of it.
    """
    size = min(12.0, max(1.0, 9000 / max(1, n or len(x))))
    axes.scatter(x, y, s=size, c=colours, marker=marker, linewidths=0, rasterized=True)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#cdd4dd")


def mark(**look: Any) -> Line2D:
    """What a legend shows beside a name: a line, or a marker where ``linestyle`` is empty."""
    return Line2D([], [], **look)


def legend(
    figure: Figure,
    marks: Sequence[Any],
    names: Sequence[str],
    loc: Any = "lower center",
    fontsize: float = TYPE,
    **look: Any,
) -> None:
    """Marks and names, the names taken as they are; below the panels unless ``loc`` says otherwise."""
    literal(figure.legend(marks, names, loc=loc, fontsize=fontsize, **look).get_texts())


def literal(texts: Sequence[Text]) -> None:
    """Take names as they are: a dollar sign in a class name is no mathematics."""
    for text in texts:
        text.set_parse_math(False)


def short(name: str, length: int = 40) -> str:
    """A name on one line, without control characters, cut where it is too long for an axis."""
    clean = " ".join(_CONTROL.sub(" ", str(name)).split()) or "(empty)"
    return clean if len(clean) <= length else clean[: length - 1] + "…"
