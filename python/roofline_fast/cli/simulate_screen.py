"""What ``simulate`` shows: the traffic, the engine, latencies, load, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast.cli import simulate_output
from roofline_fast.cli.analyze_screen import fidelity
from roofline_fast.cli.figures import digits, percent, scaled, table
from roofline_fast.technique_files import short

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.simulation.result import Simulation

# Fewer arrivals, or a shorter span, tell no rate.
FEWEST_ARRIVALS = 3
SHORTEST_SPAN_S = 1.0

PHASES = {
    "queue": "queueing",
    "prefill": "prefill",
    "decode": "decode",
    "preempted": "preempted",
    "outside": "outside the engine",
}

LATENCIES = (("TTFT ms", "ttft"), ("TPOT ms", "tpot"), ("ITL  ms", "itl"), ("E2E  ms", "e2el"))


def screen(simulation: Simulation, percentiles: list[float], slowest: int = 0) -> str:
    """Return the screen as text, with why so many of the slowest requests were slow."""
    summary = simulation.summary
    lines = [*heading(simulation), ""]
    lines += ["  " + line for line in _latencies(summary, percentiles)]
    lines += [_load(simulation), _throughput(simulation), *_deadlines(summary)]
    lines += [*_time(simulation), _fidelity(simulation)]
    told = simulate_output.explained(simulation, slowest) if slowest else []
    return "\n".join([*lines, *notes(simulation), *told])


def speed(simulations: Sequence[Simulation], took_s: float) -> str:
    """Return how fast it was: ``12,031 requests in 0.09 s, 39,000x real time``."""
    duration = sum(simulation.summary["duration"] for simulation in simulations)
    requests = sum(len(simulation.trace) for simulation in simulations)
    return f"simulated {requests:,} requests in {took_s:.2f} s, {duration / took_s:,.0f}x real time"


def heading(simulation: Simulation) -> list[str]:
    """Return the two lines about the traffic and the engine."""
    return [_traffic(simulation), _engine(simulation)]


def notes(simulation: Simulation) -> list[str]:
    """Return what was assumed, one line each."""
    return [f"  note: {note}" for note in simulation.notes]


def one_row(summary: dict[str, Any]) -> pl.DataFrame:
    """Return the summary as a frame of one row."""
    import polars as pl

    return pl.DataFrame({name: [value] for name, value in summary.items()})


def traffic(metrics: dict[str, float | None]) -> str:
    """Return a trace in a line: ``400 requests, 10.0 min, 0.67 req/s, in 1,191 / out 211 tokens (mean)``."""
    span, rate = metrics["span"] or 0.0, metrics["rate"]
    length = f"{span / 60:.1f} min" if span >= 120 else f"{digits(span)} s"
    pace = "all at once" if rate is None else f"{_rate(metrics, rate)} req/s"
    prompt, answer = metrics["prompt_tokens_mean"] or 0.0, metrics["output_tokens_mean"] or 0.0
    count = f"{metrics['requests']:,.0f} requests"
    return f"{count}, {length}, {pace}, in {prompt:,.0f} / out {answer:,.0f} tokens (mean)"


def _rate(metrics: dict[str, float | None], rate: float) -> str:
    """Return the rate of arrivals, or a dash where they are too few or too close to have one."""
    few = (metrics["requests"] or 0) < FEWEST_ARRIVALS or (metrics["span"] or 0.0) < SHORTEST_SPAN_S
    return "–" if few else digits(rate)


def _traffic(simulation: Simulation) -> str:
    described = traffic(simulation.trace.outline)
    return f"{traffic_name(simulation)}{described}   seed {simulation.inputs['seed']}"


def traffic_name(simulation: Simulation) -> str:
    """Return where the traffic is from, as a line about it begins: ``chat.jsonl  native, ``."""
    trace = simulation.trace
    name = Path(trace.origin).name if trace.origin else trace.made
    return f"{name}  {trace.format}, " if trace.format else f"{name}  "


def _engine(simulation: Simulation) -> str:
    settings, inputs = simulation.settings, simulation.inputs
    layout = ", ".join(f"{axis} {inputs[axis]}" for axis in ("tp", "pp", "dp", "ep") if inputs[axis] > 1)
    switches = {"enable_chunked_prefill": "chunked prefill", "enable_prefix_caching": "prefix caching"}
    switched = ", ".join(text for name, text in switches.items() if settings[name])
    parts = [
        f"engine {inputs['engine']}",
        f"{simulation.model.title} ({inputs['quantization']} weights, {inputs['kv_cache_dtype']} KV)",
        *map(short, simulation.deployment.techniques),
        f"{simulation.deployment.gpus}x {simulation.hardware.title}" + (f" ({layout})" if layout else ""),
        f"max-num-seqs {settings['max_num_seqs']:,}",
        f"batched-tokens {settings['max_num_batched_tokens']:,}",
        switched or "neither chunked prefill nor prefix caching",
        f"KV {settings['num_gpu_blocks']:,} blocks of {settings['block_size']}",
    ]
    return "  ".join(parts)


def _latencies(summary: dict[str, Any], percentiles: list[float]) -> list[str]:
    columns = ["mean", *(f"p{rank:g}" for rank in percentiles), "max"]
    header, rows = ["", *columns], []
    for label, metric in LATENCIES:
        values = [summary[f"{column}_{metric}_ms"] for column in columns]
        rows.append([label, *("–" if value is None else digits(value) for value in values)])
        low, high = (summary.get(f"mean_{metric}_{end}_ms") for end in ("low", "high"))
        if low is not None and high is not None:
            rows[-1].insert(2, f"({digits(low)}–{digits(high)})")
    if any(len(row) > len(header) for row in rows):
        header.insert(2, "(80 % band)")
        rows = [row if len(row) == len(header) else [*row[:2], "", *row[2:]] for row in rows]
    return table(header, rows)


def _load(simulation: Simulation) -> str:
    summary = simulation.summary
    offered, served = summary["offered_rate"], summary["request_throughput"]
    if summary["load"] == "closed loop":
        users = simulation.inputs["concurrency"]
        return f"  load        closed loop of {users:,} users, served {digits(served or 0.0)} req/s"
    if offered is None and simulation.trace.outline["rate"] is not None:
        return f"  load        too few are measured to offer a rate, served {digits(served or 0.0)} req/s"
    if offered is None:
        return "  load        all requests at once"
    verdict = summary["load"]
    if summary["overloaded"]:
        verdict = f"overloaded, queue grows {digits(summary['queue_growth_per_s'])} req/s"
    rate = _rate(simulation.trace.outline, offered)
    return f"  load        offered {rate} req/s, served {digits(served or 0.0)}: {verdict}"


def _throughput(simulation: Simulation) -> str:
    summary = simulation.summary
    if summary["request_throughput"] is None:
        return "  throughput  nothing to measure"
    prompt = summary["total_token_throughput"] - summary["output_throughput"]
    line = (
        f"  throughput  {digits(summary['request_throughput'])} req/s · {scaled(prompt)} in tok/s · "
        f"{scaled(summary['output_throughput'])} out tok/s"
    )
    if summary["request_goodput"] is not None:
        slo, met = simulation.inputs["slo"], percent(summary["slo_attainment"])
        wanted = " and ".join([slo] * bool(slo) + ["their deadlines"] * ("deadlines" in summary))
        line += f"   goodput {digits(summary['request_goodput'])} req/s ({met} meet {wanted})"
        if slo and "@" in slo:
            line += f", percentiles {'met' if summary['slo_percentiles_met'] else 'missed'}"
    return line


def _deadlines(summary: dict[str, Any]) -> list[str]:
    if "deadlines" not in summary:
        return []
    missed, all_of_them = summary["deadlines_missed"], summary["deadlines"]
    met = percent(summary["deadline_attainment"])
    return [f"  deadlines   {missed:,} of {all_of_them:,} missed ({met} met)"]


def _time(simulation: Simulation) -> list[str]:
    summary, bounds = simulation.summary, simulation.bounds
    went = {
        name: summary[f"{name}_time_share"]
        for name in ("prefill", "mixed", "decode", "idle")
        if summary[f"{name}_time_share"]
    }
    parts = [f"{name} {percent(share)}" for name, share in went.items()]
    encoding, everything = simulation.operators.get("encode", 0.0), sum(bounds.values())
    if encoding:
        parts.append(f"(images {percent(encoding / everything)} of it)")
    lines = ["  time went to  " + ("  ".join(parts) or "nothing: no step ran")]
    busy = {name: seconds for name, seconds in bounds.items() if name not in ("idle", "unattributed")}
    total = sum(bounds.values())
    if any(busy.values()):
        shares = sorted(busy.items(), key=lambda entry: -entry[1])
        lines[0] += "    bound by  " + "  ".join(
            f"{simulate_output.BOUNDS[name]} {percent(seconds / total)}"
            for name, seconds in shares
            if seconds > 0
        )
    if summary["mean_e2el_ms"]:
        phases = {name: summary[f"mean_{name}_ms"] / summary["mean_e2el_ms"] for name in PHASES}
        lines.append(
            "  a request's   "
            + "  ".join(f"{PHASES[name]} {percent(share)}" for name, share in phases.items() if share)
        )
    hits = summary["prefix_hit_rate"]
    lines.append(
        f"  memory      KV peak {percent(summary['kv_peak'])}  preemptions {summary['preemptions']:,}  "
        f"prefix hits {'–' if hits is None else percent(hits)}  running at most {summary['max_running']:,}, "
        f"waiting {summary['max_waiting']:,}"
    )
    return lines


def _fidelity(simulation: Simulation) -> str:
    return f"  fidelity    {fidelity(simulation.source, simulation.band)}"
