"""What a trace is like, as a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.traffic.trace import Trace

# What engines' blocks are looked at on the screen; all of them are in the JSON.
BLOCKS = (16, 64, 256, 512)
RANKS = ("mean", "min", "p50", "p90", "p95", "p99", "max", "total")


def screen(trace: Trace, told: Trace, windows: pl.DataFrame | None) -> str:
    """Return what a trace as it was read is, and what it is like once it is scaled."""
    unit = f", arrivals in {trace.time_unit}" if trace.time_unit else ""
    lines = [f"{trace.origin}  {trace.format}: {trace.why}{unit}"]
    if trace.model:
        lines.append(f"  model       {trace.model}")
    metrics = told.metrics
    parts = [*_arrivals(metrics), *_lengths(metrics), *_in_flight(metrics), *_prefixes(told, metrics)]
    lines += [*parts, *_conversations(metrics)]
    if windows is not None:
        lines += _windows(windows)
    return "\n".join([*lines, *notes(trace)])


def notes(trace: Trace) -> list[str]:
    """Return what reading assumed and repaired."""
    return [f"  note: {note}" for note in [*trace.information, *trace.warnings]]


def _arrivals(metrics: dict[str, float | None]) -> list[str]:
    from roofline_fast.cli.figures import digits

    span, rate = metrics["span"] or 0.0, metrics["rate"]
    length = f"{span:,.0f} s ({span / 3600:,.1f} h)" if span >= 7200 else f"{digits(span)} s"
    pace = "all at once" if rate is None else f"{digits(rate)} req/s, (n − 1)/span"
    lines = [f"  requests    {metrics['requests']:,.0f} in {length}: {pace}"]
    varying = []
    if (cv := metrics["gap_cv"]) is not None:
        burstiness = "" if not (shape := metrics["burstiness"]) else f", burstiness {digits(shape)}"
        varying.append(f"CV {digits(cv)}{burstiness}")
    if (peak := metrics["peak_to_mean_60s"]) is not None:
        varying.append(f"busiest minute {digits(peak)}x the mean")
    if varying:
        lines.append(f"  gaps        {'; '.join(varying)}")
    if (window := metrics["window"]) is not None:
        rates = [digits(metrics[f"window_rate_{which}"] or 0.0) for which in ("p50", "max")]
        text = f"  windows     of {window:g} s: median {rates[0]} req/s, most {rates[1]}"
        cvs = [metrics[f"window_gap_cv_{which}"] for which in ("p50", "max")]
        if None not in cvs:
            text += f"; CV of gaps within {digits(cvs[0] or 0.0)}, most {digits(cvs[1] or 0.0)}"
        lines.append(text)
    return lines


def _lengths(metrics: dict[str, float | None]) -> list[str]:
    from roofline_fast.cli.figures import digits, table

    rows = [
        [name, *(_tokens(rank, metrics[f"{word}_tokens_{rank}"] or 0.0) for rank in RANKS)]
        for name, word in (("prompts", "prompt"), ("answers", "output"))
    ]
    per_s = [metrics[f"{word}_tokens_per_s"] for word in ("prompt", "output")]
    if None not in per_s:
        rows = [[*row, digits(rate or 0.0)] for row, rate in zip(rows, per_s, strict=True)]
    header = ["tokens", *RANKS, *(["per s"] if None not in per_s else [])]
    return [f"  {line}" for line in table(header, rows)]


def _tokens(rank: str, value: float) -> str:
    """Return a count whole, and a mean of counts with three digits."""
    from roofline_fast.cli.figures import digits

    return f"{value:,.0f}" if rank in ("min", "max", "total") else digits(value)


def _in_flight(metrics: dict[str, float | None]) -> list[str]:
    from roofline_fast.cli.figures import digits

    for word, how in (
        ("observed_in_flight", "as recorded"),
        ("in_flight_at_20ms_a_token", "if answers took 20 ms a token"),
    ):
        mean, peak = metrics[f"{word}_mean"], metrics[f"{word}_peak"]
        if mean is not None and peak is not None:
            return [f"  in flight   {digits(mean)} on average, {peak:,.0f} at most, {how}"]
    return []


def _prefixes(trace: Trace, metrics: dict[str, float | None]) -> list[str]:
    from roofline_fast.cli.figures import percent

    lines = []
    if (hit := metrics["prefix_hit"]) is not None:
        blocks = ", ".join(
            f"{block}: {percent(metrics[f'prefix_hit_block_{block}'] or 0.0)}" for block in BLOCKS
        )
        own = f"in blocks of {trace.block_size}, an infinite cache"
        lines += [
            f"  prefixes    {percent(hit)} of prompt tokens came before ({own})",
            f"              by an engine's blocks of {blocks}",
        ]
    if (recorded := metrics["recorded_hit"]) is not None:
        lines.append(f"  recorded    {percent(recorded)} of prompt tokens were found in a cache")
    return lines


def _conversations(metrics: dict[str, float | None]) -> list[str]:
    from roofline_fast.cli.figures import digits

    if (count := metrics["sessions"]) is None:
        return []
    mean, most, delay = metrics["turns_mean"] or 0.0, metrics["turns_max"] or 0.0, metrics["turn_delay_p50"]
    waits = "" if delay is None else f"{digits(delay)} s from an answer to the next turn (median)"
    if count == 0:
        # Requests that wait for others, in no conversation.
        return [f"  waits       {waits}"] if waits else []
    text = f"  sessions    {count:,.0f}, of {digits(mean)} turns on average, {most:,.0f} at most"
    return [f"{text}; {waits}" if waits else text]


def _windows(windows: pl.DataFrame) -> list[str]:
    from roofline_fast.cli.figures import digits, table

    rows = [
        [
            digits(start),
            f"{count:,}",
            digits(rate),
            "–" if cv is None else digits(cv),
            f"{prompt:,}",
            f"{answer:,}",
        ]
        for start, count, rate, cv, prompt, answer in windows.iter_rows()
    ]
    header = ["from s", "requests", "req/s", "CV", "prompt tokens", "answer tokens"]
    return [f"  {line}".rstrip() for line in ["", *table(header, rows)]]
