"""The screen of ``sweep``: how many points, which were dropped and why, and the best few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from roofline_fast.cli.figures import digits, milliseconds, scaled
from roofline_fast.cli.sweep_spec import AnyRun, in_order, picks, ranked_by
from roofline_fast.sweeps.llm_viewer import ViewerRun
from roofline_fast.sweeps.simulations import SimulateRun

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.sweeps.dataset import Dropped

MOST_ROWS = 12
MOST_REASONS = 6
# Results that a screen has room for, and how they are headed.
RESULTS = {
    "step_s": "step ms",
    "ttft_s": "TTFT ms",
    "tpot_s": "TPOT ms",
    "tokens_per_gpu_s": "tok/s/GPU",
    "tokens_per_user_s": "tok/s/user",
    "usd_per_mtok": "$/Mtok",
    "bound": "bound",
    "mean_ttft_ms": "TTFT ms",
    "p99_ttft_ms": "p99 TTFT",
    "mean_tpot_ms": "TPOT ms",
    "output_throughput": "out tok/s",
    "request_goodput": "goodput/s",
    "completed": "completed",
    "inference_time": "time ms",
    "throughput": "tok/s",
    "memory_access": "bytes",
    "memory_consumption": "held",
}


def speed(points: int, kept: int, seconds: float, note: str) -> str:
    """Return what the sweep did, in one line of talk."""
    rate = scaled(points / max(seconds, 1e-9)) if points else "0"
    return f"{points:,} points, {kept:,} kept, in {seconds:.1f} s, {rate} points/s{note}"


def screen(run: AnyRun, rows: pl.DataFrame, kept: int, dropped: Dropped) -> str:
    """Return the whole screen."""
    lines = [_space(run), *_fixed(run), *_dropped(run, kept, dropped), ""]
    shown = _ordered(run, rows).head(MOST_ROWS)
    lines.append(_heading(run, rows, shown.height))
    lines += _table(run, shown)
    return "\n".join(lines)


def across(run: AnyRun, lines: list[str], kept: int, dropped: Dropped) -> str:
    """Return the screen of a table with a column for each value of an axis."""
    left_out = _dropped(run, kept, dropped) if dropped else []
    return "\n".join([_space(run), *_fixed(run), *left_out, *lines])


def _space(run: AnyRun) -> str:
    axes = " x ".join(f"{len(values):,} {name}" for name, values in run.varied.items())
    what = "scenarios" if isinstance(run, SimulateRun) else "points"
    return f"{run.points:,} {what}" + (f" = {axes}" if axes else "")


def _fixed(run: AnyRun) -> list[str]:
    """Return what all points have in common, said or assumed, and how names were taken."""
    if isinstance(run, SimulateRun):
        return []
    if isinstance(run, ViewerRun):
        settings = [f"{name} {values[0]}" for name, values in run.axes.items() if len(values) == 1]
        return [f"  all with  {', '.join(settings)}", f"  figures of {run.compat}, its mistakes included"]
    from roofline_fast.evaluation import DEFAULTS

    axes = {name: values[0] for name, values in run.space.axes.items() if len(values) == 1}
    chat = "chat" in run.space.axes.get("phase", ())
    assumed = ["phase", "mode", "batch_size", "input_len", *(["output_len"] if chat else [])]
    axes |= {name: DEFAULTS[name] for name in assumed if name not in run.space.axes}
    order = [name for name in (*run.space.columns, *assumed) if name in axes]
    settings = [f"{name} {axes[name]}" for name in dict.fromkeys(order)]
    return [f"  all with  {', '.join(settings)}", *(f"  note: {note}" for note in run.space.notes)]


def _dropped(run: AnyRun, kept: int, dropped: Dropped) -> list[str]:
    lines = [f"  {kept:>14,}  kept"]
    beaten = run.points - kept - sum(points for _, points, _ in dropped)
    if picks(run) and beaten:
        lines.append(f"  {beaten:>14,}  beaten by those")
    several = sorted(dropped, key=lambda each: -each[1])
    for reason, count, example in several[:MOST_REASONS]:
        lines.append(f"  {count:>14,}  {reason}" + (f" ({example})" if example and example != reason else ""))
    if len(several) > MOST_REASONS:
        rest = sum(count for _, count, _ in several[MOST_REASONS:])
        lines.append(f"  {rest:>14,}  for {len(several) - MOST_REASONS} other reasons")
    return lines


def _heading(run: AnyRun, rows: pl.DataFrame, shown: int) -> str:
    if in_order(run):
        return f"first {shown:,}" if rows.height > shown else f"all {shown:,}"
    if run.keep == "pareto":
        return f"{shown:,} of {rows.height:,} that nothing beats in {' and '.join(run.objectives)}"
    return f"best {shown:,} by {ranked_by(run)}"


def _ordered(run: AnyRun, rows: pl.DataFrame) -> pl.DataFrame:
    if in_order(run):
        return rows
    objective = ranked_by(run)
    name = objective.rpartition(":")[2]
    if name not in rows.columns:
        return rows
    from roofline_fast import _core

    if picks(run) and run.keep == "pareto":
        # Spread over the front, not crowded at one end of it.
        rows = rows.sort(name)
        step = max(1, -(-rows.height // MOST_ROWS))
        return rows.gather_every(step)
    import polars as pl

    two = pl.Series([0.0, 1.0])
    smaller = _core.Space.pick({name: two}, "topk", [objective], 1) == [0]
    return rows.sort(name, descending=not smaller)


def _table(run: AnyRun, rows: pl.DataFrame) -> list[str]:
    axes = [name for name in rows.columns if name in run.varied]
    results = [name for name in RESULTS if name in rows.columns and rows[name].null_count() < rows.height]
    named = {objective.rpartition(":")[2] for objective in run.objectives}
    results = [name for name in rows.columns if name in results or name in named]
    heads = axes + [RESULTS.get(name, name) for name in results]
    cells = [[_cell(name, row[name]) for name in axes + results] for row in rows.iter_rows(named=True)]
    widths = [max(len(line[at]) for line in [heads, *cells]) for at in range(len(heads))]
    return [
        "  " + "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True))
        for line in [heads, *cells]
    ]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if name == "inference_time" or (
        name in RESULTS and name.endswith("_s") and not name.startswith("tokens")
    ):
        return milliseconds(value)
    if name in ("memory_access", "memory_consumption"):
        return scaled(value, "B")
    if isinstance(value, int):
        return f"{value:,}" if name in RESULTS else str(value)
    return digits(value)


def record(run: AnyRun, rows: pl.DataFrame, kept: int, dropped: Dropped) -> dict[str, Any]:
    """Return what the screen shows, for machines."""
    reasons = [
        {"reason": reason, "points": points, "example": example} for reason, points, example in dropped
    ]
    best = _ordered(run, rows).to_dicts()
    return {"points": run.points, "kept": kept, "dropped": reasons, "best": best}
