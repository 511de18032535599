"""What ``simulate`` shows of several rates: the throughput–latency curve, one row a rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from roofline_fast.cli.figures import digits, percent, table

if TYPE_CHECKING:
    from roofline_fast.simulation.result import Simulation
    from roofline_fast.traffic.trace import Trace


def each(simulate: Callable[..., Simulation]) -> Callable[..., list[Simulation]]:
    """Return a simulation of several traces, one after the other."""

    def over(traces: Sequence[Trace], **settings: Any) -> list[Simulation]:
        return [simulate(trace, **settings) for trace in traces]

    return over


def record(simulations: Sequence[Simulation], asked: Sequence[str]) -> dict[str, Any]:
    """Return all rates as one object; ``inf`` is text, as JSON has no such number."""
    return {
        "curve": [
            {"request_rate": rate if rate == "inf" else float(rate), **simulation.to_dict()}
            for rate, simulation in zip(asked, simulations, strict=True)
        ]
    }


def screen(simulations: Sequence[Simulation], asked: Sequence[str], last: float) -> str:
    """Return the curve as text; ``last`` is the percentile beside the median."""
    from roofline_fast.cli import simulate_screen

    first = simulations[0]
    tail = f"p{last:g}"
    header = ["req/s", "served", "out tok/s", "TTFT ms p50", tail, "TPOT ms p50", tail, "E2E ms p50", tail]
    header += ["goodput", "KV peak", "", ""]
    lines = []
    for rate, simulation in zip(asked, simulations, strict=True):
        summary = simulation.summary
        latencies = [
            summary[f"{rank}_{metric}_ms"] for metric in ("ttft", "tpot", "e2el") for rank in ("median", tail)
        ]
        figures = [summary["request_throughput"], summary["output_throughput"], *latencies]
        figures.append(summary["request_goodput"])
        cells = ["–" if figure is None else digits(figure) for figure in figures]
        left = summary["injected"] - summary["completed"]
        verdict = "overloaded" if summary["overloaded"] else ""
        remark = f"{left:,} not served" if left else ""
        lines.append([rate, *cells, percent(summary["kv_peak"]), verdict, remark])
    curve = ["  " + line for line in table(header, lines, left=(11, 12))]
    heading = [_traffic(first, len(asked)), simulate_screen.heading(first)[1]]
    return "\n".join([*heading, "", *curve, *simulate_screen.notes(first)])


def _traffic(simulation: Simulation, rates: int) -> str:
    """Return the same requests at several rates in a line."""
    from roofline_fast.cli.simulate_screen import traffic_name

    lengths = simulation.trace.requests.select("prompt_tokens", "output_tokens").mean().row(0)
    size = "in {:,.0f} / out {:,.0f} tokens (mean)".format(*lengths)
    count = f"{len(simulation.trace):,} requests at {rates} rates"
    return f"{traffic_name(simulation)}{count}, {size}   seed {simulation.inputs['seed']}"
