"""What ``compare`` shows of served traffic: metrics side by side, and where the difference of a request's time is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofline_fast.cli import simulate_output
from roofline_fast.cli.figures import change, digits, seconds, table

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.served_comparison import ServedComparison

# What the screen shows of the metrics; files and JSON have all.
RANKS = ("mean", "p50", "median", "p90", "p99")
LABELS = {
    "ttft": "TTFT ms",
    "tpot": "TPOT ms",
    "itl": "ITL ms",
    "e2el": "E2E ms",
    "request_throughput": "requests/s",
    "output_throughput": "output tokens/s",
    "total_token_throughput": "tokens/s",
    "request_goodput": "goodput requests/s",
    "completed": "completed",
    "duration": "duration s",
}
# Below this share of the whole a difference is rounding.
LEAST = 1e-9


def screen(found: ServedComparison, top: int) -> str:
    """Return the screen as text."""
    sides = [("A", found.a), ("B", found.b)]
    lines = [f"{name}  {'measured' if side.measured else 'simulated'}  {side.title}" for name, side in sides]
    lines += ["", *("  " + line for line in _metrics(found))]
    if found.waterfall.height:
        title = "a request, on average"
        lines += ["", *("  " + line for line in _pieces(title, found.waterfall, "phase", top))]
    if found.by_resource.height:
        title = "the engine, by what bound it"
        lines += ["", *("  " + line for line in _pieces(title, found.by_resource, "resource", top))]
    if found.by_op.height:
        lines += ["", *("  " + line for line in _pieces("the engine, by operator", found.by_op, "op", top))]
    return "\n".join([*lines, *(f"  note: {note}" for note in found.notes)])


def _metrics(found: ServedComparison) -> list[str]:
    banded = found.metrics["low"].is_not_null().any()
    rows = []
    for row in found.metrics.iter_rows(named=True):
        rank, _, metric = row["metric"].removesuffix("_ms").partition("_")
        latency = row["metric"].endswith("_ms")
        if latency and (rank not in RANKS or (rank == "median" and f"p50_{metric}_ms" in found.a.summary)):
            continue
        label = f"{LABELS[metric]} {rank}" if latency else LABELS[row["metric"]]
        relative = "" if row["change"] is None else change(row["change"])
        cells = [label, digits(row["a"]), digits(row["b"]), _signed(row["delta"]), relative]
        if banded:
            cells.append("" if row["low"] is None else f"{digits(row['low'])}–{digits(row['high'])}")
            cells.append("" if row["within"] is None else "within" if row["within"] else "outside")
        rows.append(cells)
    header = ["", "A", "B", "B − A", ""]
    return table([*header, "80 % band", ""] if banded else header, rows)


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+' if value > 0 else '±'}{digits(abs(value))}"


def _pieces(title: str, pieces: pl.DataFrame, name: str, top: int) -> list[str]:
    whole = pieces.select("a_s", "b_s", "delta_s").sum().row(0)
    least = LEAST * max(abs(whole[0]), abs(whole[1]))

    def cells(a: float, b: float, delta: float) -> list[str]:
        shown = [0.0 if abs(value) < least else value for value in (a, b, delta)]
        sign = "−" if shown[2] < 0 else "+" if shown[2] > 0 else "±"
        return [*(_time(value) for value in shown[:2]), f"{sign}{seconds(abs(shown[2]))}"]

    changed = int((pieces["delta_s"].abs() >= least).sum())
    top = min(top, max(changed, 1))
    rows = [
        [simulate_output.BOUNDS.get(row[name], row[name]), *cells(row["a_s"], row["b_s"], row["delta_s"])]
        for row in pieces.head(top).iter_rows(named=True)
    ]
    if pieces.height > top:
        rows.append(["all others", *cells(*pieces.slice(top).select("a_s", "b_s", "delta_s").sum().row(0))])
    rows.append(["together", *cells(*whole)])
    return table([title, "A", "B", "B − A"], rows)


def _time(value: float) -> str:
    return f"−{seconds(-value)}" if value < 0 else seconds(value)
