"""Writes `real-servers.md`, our times beside measured ones: `python docs/make_real_servers.py [DATA]`."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import roofline_fast as rf

HERE = Path(__file__).parent
DATA = HERE.parent.parent / "shared" / "data"
TRACE = "traces/llmservingsim/sharegpt-llama-3.1-8b-300-sps10.jsonl.zst"
MEASURED = "e2e/llmservingsim_vllm/requests.parquet"

# The runs by their id: how the engine was started, from the settings recorded with them.
RUNS = {
    "RTX4090__Llama-3.1-8B": {
        "hw": "rtx-4090",
        "num_gpu_blocks_override": 2588,
        "max_num_seqs": 256,
        "max_num_batched_tokens": 2048,
        "max_model_len": 32768,
    },
    "RTXPRO6000__Llama-3.1-8B": {
        "hw": "rtx-pro-6000-workstation",
        "gpu_memory_utilization": 0.9,
        "max_num_seqs": 128,
        "max_num_batched_tokens": 2048,
    },
}
LATENCIES = {"TTFT": "ttft_s", "TPOT": "tpot_s", "E2E": "e2e_s"}

TEXT = """# Our request times beside those of real servers

{requests} requests of ShareGPT, 10 a second, through vLLM 0.19.0 in process (no HTTP) serving Llama-3.1-8B
in bf16, measured request by request by the authors of LLMServingSim (casys-kaist, MIT). The same trace,
with its token identities, goes through `simulate` with the settings of those runs. Written by
`docs/make_real_servers.py`; a test holds the figures.

**How to read it.** `simulated / measured` is the ratio of the means; `median error` is the median over
requests of |simulated − measured| / measured. Steps are priced by the ideal roofline (`--mode ideal`), the
datasheet alone: they are a lower bound, so times should be shorter than measured ones, and queueing, which
amplifies them, shorter still. The simulated engine is vLLM 0.33.

{tables}
**What it shows.** On the RTX 4090, whose {blocks:,} KV blocks are too few for the load, the simulation
preempts {preempted} times; requests wait for memory most of their time there, so that TTFT and E2E are off
by as much as steps are. On the RTX PRO 6000 the queue is short when steps are ideal and long when they are
not: TTFT is off by far more than TPOT. How much longer than the roofline a step really takes is what
`--mode predicted` is for. The recorded RTX PRO 6000 run does not say which edition the card is: the
workstation edition is assumed.
"""


def compared(run: str, data: Path = DATA) -> tuple[pl.DataFrame, rf.Simulation]:
    """Return both times of each request of a run, and the simulation."""
    measured = pl.read_parquet(data / MEASURED).filter(run_id=run).sort("trace_arrival_s", "req")
    simulation = rf.simulate(data / TRACE, model="llama-3.1-8b", mode="ideal", api_latency=0, **RUNS[run])
    rows = simulation.requests.select(pl.col(LATENCIES.values()).name.suffix("_simulated"))
    assert rows.height == measured.height
    lengths = simulation.requests["prompt_tokens"].to_list()
    assert lengths == measured["input_toks"].to_list(), (
        "the trace and the measurements must be the same requests"
    )
    return pl.concat([measured, rows], how="horizontal"), simulation


def errors(both: pl.DataFrame) -> dict[str, tuple[float, float, float, float]]:
    """Return for each latency both means, their ratio and the median error."""
    found = {}
    for name, column in LATENCIES.items():
        pairs = both.select(
            pl.col(column).alias("measured"), pl.col(f"{column}_simulated").alias("simulated")
        )
        pairs = pairs.drop_nulls().filter(pl.col("measured") > 0)
        means = pairs.mean().row(0, named=True)
        error = ((pairs["simulated"] - pairs["measured"]).abs() / pairs["measured"]).median()
        found[name] = (means["measured"], means["simulated"], means["simulated"] / means["measured"], error)
    return found


def page(data: Path = DATA) -> str:
    """Return the whole page."""
    tables, preempted, requests = [], 0, 0
    for run, settings in RUNS.items():
        lines = ["| figure | measured mean | simulated mean | simulated / measured | median error |"]
        lines.append("|---|---|---|---|---|")
        both, simulation = compared(run, data)
        requests = both.height
        if "num_gpu_blocks_override" in settings:
            preempted = simulation.summary["preemptions"]
        for name, (real, ours, ratio, error) in errors(both).items():
            unit, factor = ("ms", 1e3) if name == "TPOT" else ("s", 1.0)
            means = " | ".join(f"{value * factor:.2f} {unit}" for value in (real, ours))
            lines.append(f"| {name} | {means} | {ratio:.2f} | {error:.0%} |")
        shown = ", ".join(f"`{name.replace('_', '-')} {value}`" for name, value in settings.items())
        tables.append(f"## {run.partition('__')[0]}\n\n{shown}\n\n" + "\n".join(lines) + "\n")
    blocks = RUNS["RTX4090__Llama-3.1-8B"]["num_gpu_blocks_override"]
    return TEXT.format(tables="\n".join(tables), preempted=preempted, blocks=blocks, requests=requests)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    (HERE / "real-servers.md").write_text(page(folder), encoding="utf-8")
