"""What ``analyze -o FILE.svg`` writes: operators under the roofs of their formats, in a picture that stands alone."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from roofline_fast.atomic_file import write_text
from roofline_fast.cli.analyze_chart import Plane, drawn, plane
from roofline_fast.cli.analyze_screen import deployment_title
from roofline_fast.cli.figures import digits, percent

if TYPE_CHECKING:
    from roofline_fast.analysis import Analysis

# Pixels: the plane, what surrounds it, and a line of the list beside it.
WIDTH, HEIGHT = 620.0, 380.0
LEFT, TOP, BELOW, LIST, LINE = 70.0, 46.0, 52.0, 330.0, 18.0
# Radius of an operator that takes all of the time, and of one that takes none.
LARGEST, LEAST = 22.0, 3.0
COLOURS = (
    "#1f77b4",
    "#d62728",
    "#2ca02c",
    "#9467bd",
    "#ff7f0e",
    "#17becf",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
)
STYLE = (
    "text{font:12px sans-serif;fill:#222}.grid{stroke:#ddd}.roof{stroke:#222;stroke-width:2;fill:none}"
    ".end{text-anchor:end}.middle{text-anchor:middle}"
)


def save(analysis: Analysis, path: Path) -> None:
    """Write the picture, whole or not at all."""
    write_text(path, picture(analysis))


def picture(analysis: Analysis) -> str:
    """Return the picture as SVG: circles as large as the operators' shares of the time."""
    ops = drawn(analysis)
    under = plane(analysis, ops)
    place = _Place(under)
    shapes = [*_grid(place), *_roofs(place)]
    for rank, op in enumerate(sorted(ops, key=lambda op: -op["share"])):
        colour, radius = COLOURS[rank % len(COLOURS)], LEAST + (LARGEST - LEAST) * math.sqrt(op["share"])
        x, y = place.at(op["intensity"], op["flops"] / op["predicted_s"])
        shares = (
            f"{percent(op['ideal_s'] / op['predicted_s'])} of its roof, {percent(op['share'])} of the time"
        )
        said = f"{op['op']}: {digits(op['intensity'])} FLOP/B, {shares}"
        shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.6">'
            f"<title>{escape(said)}</title></circle>"
        )
        line = TOP + LINE * rank
        shapes.append(f'<circle cx="{LEFT + WIDTH + 20:.0f}" cy="{line:.0f}" r="5" fill="{colour}"/>')
        shapes.append(f'<text x="{LEFT + WIDTH + 32:.0f}" y="{line + 4:.0f}">{escape(said)}</text>')
    inputs = analysis.inputs
    asked = f"{inputs['phase']}, batch {inputs['batch_size']:,} @ {inputs['input_len']:,}"
    title = escape(
        f"{analysis.model.title} · {deployment_title(analysis)} · {inputs['quantization']} · {asked} · {inputs['mode']}"
    )
    shapes.append(f'<text x="{LEFT:.0f}" y="20" font-weight="bold">{title}</text>')
    width, height = LEFT + WIDTH + LIST + 120, max(TOP + HEIGHT + BELOW, TOP + LINE * len(ops))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}">\n<style>{STYLE}</style>\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


class _Place:
    """Where FLOP a byte and FLOP/s lie in the picture."""

    def __init__(self, under: Plane) -> None:
        self.under = under
        rates = [under.peak(ridge) for ridge in under.ridges.values()]
        self.top = math.ceil(math.log10(max(rates)) + 0.1)
        self.bottom = math.floor(math.log10(10**under.left * under.bandwidth))

    def at(self, intensity: float, rate: float) -> tuple[float, float]:
        across = (math.log10(intensity) - self.under.left) / (self.under.right - self.under.left)
        up = (math.log10(max(rate, 10.0**self.bottom)) - self.bottom) / (self.top - self.bottom)
        return LEFT + WIDTH * across, TOP + HEIGHT * (1 - up)


def _grid(place: _Place) -> list[str]:
    shapes = []
    for decade in range(place.under.left, place.under.right + 1):
        x, foot = place.at(10.0**decade, 10.0**place.bottom)
        shapes.append(f'<path class="grid" d="M{x:.1f} {TOP:.0f}V{foot:.1f}"/>')
        shapes.append(f'<text class="middle" x="{x:.1f}" y="{foot + 18:.1f}">{digits(10.0**decade)}</text>')
    for decade in range(place.bottom, place.top + 1):
        x, y = place.at(10.0**place.under.left, 10.0**decade)
        shapes.append(f'<path class="grid" d="M{x:.1f} {y:.1f}H{LEFT + WIDTH:.1f}"/>')
        shapes.append(
            f'<text class="end" x="{LEFT - 8:.1f}" y="{y + 4:.1f}">{digits(10.0 ** (decade - 12))}</text>'
        )
    shapes.append(
        f'<text class="middle" x="{LEFT + WIDTH / 2:.0f}" y="{TOP + HEIGHT + 40:.0f}">FLOP/B</text>'
    )
    shapes.append(f'<text x="8" y="{TOP - 10:.0f}">TFLOP/s</text>')
    return shapes


def _roofs(place: _Place) -> list[str]:
    """Return one roof for each format that is multiplied in."""
    under, shapes = place.under, []
    for name, ridge in under.ridges.items():
        points = [10.0**under.left, ridge, 10.0**under.right]
        corners = [place.at(each, min(each, ridge) * under.bandwidth) for each in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
        shapes.append(f'<path class="roof" d="M{path}"/>')
        x, y = corners[-1]
        said = f"{name}: {digits(under.peak(ridge) / 1e12)}"
        shapes.append(f'<text class="end" x="{x - 4:.1f}" y="{y - 6:.1f}">{escape(said)}</text>')
    return shapes
