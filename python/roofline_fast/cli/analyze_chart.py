"""What ``analyze --roofline`` draws: operators under the roof of their device, both axes logarithmic."""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from roofline_fast.cli.figures import digits, percent, table

if TYPE_CHECKING:
    from roofline_fast.analysis import Analysis

WIDTH, HEIGHT = 64, 14
# Decades that are drawn left of the ridge at least, and right of it.
LEFT, RIGHT = 3, 1


@dataclass(frozen=True)
class Plane:
    """What is drawn of a roofline: whole decades of FLOP a byte around the ridges and every operator.

    Attributes
    ----------
    ridges : dict
        FLOP a byte of the ridge of each format that is multiplied in, that of the analysis first.
    bandwidth : float
        Bytes a second, the roofs' slope.
    left, right : int
        Powers of ten of FLOP a byte between which the plane lies.
    """

    ridges: dict[str, float]
    bandwidth: float
    left: int
    right: int

    def peak(self, ridge: float) -> float:
        """Return FLOP/s of the roof with that ridge."""
        return ridge * self.bandwidth


def drawn(analysis: Analysis) -> list[dict[str, Any]]:
    """Return the operators that multiply and take time."""
    ops = analysis.ops.iter_rows(named=True)
    return [op for op in ops if op["intensity"] and op["predicted_s"] and op["ideal_s"]]


def plane(analysis: Analysis, ops: list[dict[str, Any]]) -> Plane:
    """Return what is drawn of the roofline under which `ops` lie."""
    facts = dict(analysis.hardware.facts.select("field", "value").iter_rows())
    ridge, named = analysis.ridge
    # What reads the head, once a step, shows the memory of all chips that work as one.
    reads = [op["bytes"] / op["ideal_s"] for op in ops if op["op"] == "lm_head" and op["bound"] == "memory"]
    bandwidth = reads[0] if reads else float(facts["memory.device.bandwidth"]) * 1e9
    ridges = {named: ridge}
    for name in dict.fromkeys(op["format"] for op in ops):
        if (peak := facts.get(f"tensor.dense.{name}")) is not None:
            ridges.setdefault(name, 1e3 * float(peak) / float(facts["memory.device.bandwidth"]))
    intensities = [op["intensity"] for op in ops]
    low = min([*intensities, ridge / 10**LEFT])
    high = max([*intensities, *ridges.values(), ridge * 10**RIGHT])
    return Plane(ridges, bandwidth, math.floor(math.log10(low)), math.ceil(math.log10(high)))


def chart(analysis: Analysis) -> list[str]:
    """Return the picture, then a row an operator: FLOP a byte, what it reaches, and its share of the roof there."""
    ops = drawn(analysis)
    under = plane(analysis, ops)
    ridge, number_format = analysis.ridge
    grid = _Grid(under, ridge)
    rows = []
    for letter, op in zip(string.ascii_lowercase + string.ascii_uppercase, ops, strict=False):
        rate = op["flops"] / op["predicted_s"]
        grid.put(letter, op["intensity"], rate)
        of_roof = percent(op["ideal_s"] / op["predicted_s"])
        rows.append(
            [f"{letter}  {op['op']}", digits(op["intensity"]), digits(rate / 1e12), of_roof, op["bound"]]
        )
    title = (
        f"  roof of {analysis.hardware.title}: {digits(under.peak(ridge) / 1e12)} TFLOP/s ({number_format}), "
        f"{digits(under.bandwidth / 1e9)} GB/s, ridge {digits(ridge)} FLOP/B"
    )
    legend = table(["operator (*: several)", "FLOP/B", "TFLOP/s", "of its roof", "bound"], rows, left=(0, 4))
    return [title, "", *grid.lines(), "", *("  " + line for line in legend)]


class _Grid:
    """The plane in characters: a roof, the peak in the first line, and letters under it."""

    def __init__(self, under: Plane, ridge: float) -> None:
        self.left = under.left
        self.decade = WIDTH // (under.right - under.left)
        self.top = math.log10(under.peak(ridge))
        self.per_row = (self.top - under.left - math.log10(under.bandwidth)) / (HEIGHT - 1)
        self.cells = [[" "] * WIDTH for _ in range(HEIGHT)]
        for column in range(WIDTH):
            intensity = 10 ** (under.left + column / self.decade)
            row = self.row(min(ridge, intensity) * under.bandwidth)
            if row is not None:
                self.cells[row][column] = "─" if intensity >= ridge else "/"

    def put(self, letter: str, intensity: float, rate: float) -> None:
        """Write a letter where it belongs; what lies below the last line is left out."""
        row = self.row(rate)
        if row is not None:
            column = min(round((math.log10(intensity) - self.left) * self.decade), WIDTH - 1)
            self.cells[row][column] = letter if self.cells[row][column] in " ─/" else "*"

    def row(self, rate: float) -> int | None:
        if rate <= 0:
            return None
        row = max(round((self.top - math.log10(rate)) / self.per_row), 0)
        return row if row < HEIGHT else None

    def lines(self) -> list[str]:
        """Return the lines with what the axes say: rates to the left, FLOP a byte below."""
        labels = {0: digits(10**self.top / 1e12)}
        for decade in range(math.floor(self.top), math.floor(self.top) - 20, -1):
            row = self.row(10.0**decade)
            if row is not None and row >= 2:
                labels[row] = digits(10.0**decade / 1e12)
        lines = [
            f"  {labels.get(place, ''):>8} │{''.join(row)}".rstrip() for place, row in enumerate(self.cells)
        ]
        ticks, scale = ["─"] * WIDTH, ""
        for column in range(0, WIDTH, self.decade):
            ticks[column] = "┴"
            scale = scale.ljust(column) + digits(10.0 ** (self.left + column // self.decade))
        return ["   TFLOP/s", *lines, f"  {'':>8} └{''.join(ticks)}", f"  {'':>8}  {scale}  FLOP/B"]
