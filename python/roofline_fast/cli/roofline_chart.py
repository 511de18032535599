"""What ``analyze --roofline`` draws: operators under the roof of their device, both axes logarithmic."""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING, Any

from roofline_fast.cli.figures import digits, percent, table

if TYPE_CHECKING:
    from roofline_fast.analysis import Analysis

WIDTH, HEIGHT = 64, 14
# Decades that are drawn left of the ridge at least, and right of it.
LEFT, RIGHT = 3, 1


def chart(analysis: Analysis) -> list[str]:
    """Return the picture, then a row an operator: FLOP a byte, what it reaches, and its share of the roof there."""
    ops = [op for op in analysis.ops.iter_rows(named=True) if op["intensity"] and op["predicted_s"]]
    ridge, number_format = analysis.ridge
    bandwidth = _bandwidth(analysis)
    reached = [op["flops"] / op["predicted_s"] for op in ops]
    span = _Span([op["intensity"] for op in ops], ridge, bandwidth)
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for column in range(WIDTH):
        intensity = span.intensity(column)
        row = span.row(min(ridge, intensity) * bandwidth)
        if row is not None:
            grid[row][column] = "─" if intensity >= ridge else "/"
    letters = string.ascii_lowercase + string.ascii_uppercase
    rows = []
    for letter, op, rate in zip(letters, ops, reached, strict=False):
        row = span.row(rate)
        if row is not None:
            column = span.column(op["intensity"])
            grid[row][column] = letter if grid[row][column] in " ─/" else "*"
        roof = op["flops"] / op["ideal_s"]
        cells = [f"{letter}  {op['op']}", digits(op["intensity"]), digits(rate / 1e12), percent(rate / roof)]
        rows.append([*cells, op["bound"]])
    title = (
        f"  roof of {analysis.hardware.title}: {digits(ridge * bandwidth / 1e12)} TFLOP/s ({number_format}), "
        f"{digits(bandwidth / 1e9)} GB/s, ridge {digits(ridge)} FLOP/B"
    )
    legend = table(["operator (*: several)", "FLOP/B", "TFLOP/s", "of the roof", "bound"], rows, left=(0, 4))
    return [title, "", *span.framed(grid), "", *("  " + line for line in legend)]


def _bandwidth(analysis: Analysis) -> float:
    facts = analysis.hardware.facts
    return float(facts.filter(facts["field"] == "memory.device.bandwidth")["value"].item()) * 1e9


class _Span:
    """What part of the plane is drawn: whole decades around the ridge and every operator."""

    def __init__(self, intensities: list[float], ridge: float, bandwidth: float) -> None:
        low = min([*intensities, ridge / 10**LEFT])
        high = max([*intensities, ridge * 10**RIGHT])
        self.left, right = math.floor(math.log10(low)), math.ceil(math.log10(high))
        self.decade = WIDTH // (right - self.left)
        self.right = self.left + WIDTH / self.decade
        self.top = math.log10(ridge * bandwidth)
        self.per_row = (self.top - math.log10(10**self.left * bandwidth)) / (HEIGHT - 1)

    def intensity(self, column: int) -> float:
        return float(10 ** (self.left + column / self.decade))

    def column(self, intensity: float) -> int:
        return min(round((math.log10(intensity) - self.left) * self.decade), WIDTH - 1)

    def row(self, rate: float) -> int | None:
        """Return the line of a rate, the peak in the first; none below the last, or for nothing."""
        if rate <= 0:
            return None
        row = max(round((self.top - math.log10(rate)) / self.per_row), 0)
        return row if row < HEIGHT else None

    def framed(self, grid: list[list[str]]) -> list[str]:
        """Return the lines with what the axes say: rates to the left, FLOP a byte below."""
        labels = {0: digits(10**self.top / 1e12)}
        for decade in range(math.floor(self.top), math.floor(self.top) - 20, -1):
            row = self.row(10.0**decade)
            if row is not None and row >= 2:
                labels[row] = digits(10.0**decade / 1e12)
        lines = [f"  {labels.get(place, ''):>8} │{''.join(row)}".rstrip() for place, row in enumerate(grid)]
        ticks: list[Any] = ["─"] * WIDTH
        scale = ""
        for decade in range(self.left, math.floor(self.right) + 1):
            column = (decade - self.left) * self.decade
            if column >= WIDTH:
                break
            ticks[column] = "┴"
            scale = scale.ljust(column) + digits(10.0**decade)
        return ["   TFLOP/s", *lines, f"  {'':>8} └{''.join(ticks)}", f"  {'':>8}  {scale}  FLOP/B"]
