"""Writes `real-servers.md`, our times beside measured ones: `python docs/make_real_servers.py [DATA]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import polars as pl
import roofline_fast as rf

HERE = Path(__file__).parent
DATA = HERE.parent.parent / "shared" / "data"
TRACE = "traces/llmservingsim/sharegpt-llama-3.1-8b-300-sps10.jsonl.zst"
MEASURED = "e2e/llmservingsim_vllm/requests.parquet"

# The runs by their id: how the engine was started, from the settings recorded with them, and the device whose fits are
# tried in place of the run's own.
RUNS = {
    "RTX4090__Llama-3.1-8B": {
        "hw": "rtx-4090",
        "num_gpu_blocks_override": 2588,
        "max_num_seqs": 256,
        "max_num_batched_tokens": 2048,
        "max_model_len": 32768,
    },
    "RTXPRO6000__Llama-3.1-8B": {
        "hw": "rtx-pro-6000-server",
        "gpu_memory_utilization": 0.9,
        "max_num_seqs": 128,
        "max_num_batched_tokens": 2048,
    },
}
OTHER_GPU = {"RTX4090__Llama-3.1-8B": "l40s", "RTXPRO6000__Llama-3.1-8B": "b200-sxm"}
LATENCIES = {"TTFT": "ttft_s", "TPOT": "tpot_s", "E2E": "e2e_s"}

TEXT = """# Our request times beside those of real servers

{requests} requests of ShareGPT, 10 a second, through vLLM 0.19.0 in process (no HTTP) serving Llama-3.1-8B
in bf16, measured request by request by the authors of LLMServingSim (casys-kaist, MIT). The same trace,
with its token identities, goes through `simulate` with the settings of those runs. Written by
`docs/make_real_servers.py`; a test holds the figures. `roofline-fast validate` on the folder of the
measurements prints them too.

**How to read it.** Each cell is the mean over requests and how far it is off the measured mean. *Ideal* is
the datasheet alone (`--mode ideal`), a lower bound; *another device's fits* prices kernels with
coefficients measured elsewhere and this device's datasheet (`--efficiency l40s`); *shipped fits* is what
`simulate` does by default; *calibrated* adds what `roofline-fast calibrate` found in the **other** of the
two runs, over another device's fits (`--efficiency other.toml,l40s`) or over the shipped ones (`--efficiency
other.toml`, as one types it). The simulated engine is vLLM 0.33.

{tables}
## What was seen before

*Adjusted.* Before these runs were looked at closely, TPOT was 17 % too long on the RTX 4090 and 18 % too
short on the RTX PRO 6000. Three things were wrong, none of them a constant that was fitted:

- **RTX 4090 from L40S: error correction.** The L40S shows 15 of 16 GiB of its memory: one sixteenth holds
  check bits, which are read in line with the data. Its printed bandwidth does not show that, its measured
  kernels do, and the RTX 4090 loses nothing. `memory.device.ecc` in the catalogue.
- **RTX 4090 from L40S: half rate.** The chip multiplies at half its rate where products are summed in 32
  bits. What holds kernels of an L40S at 65 % of the full rate does not hold those of an RTX 4090 below the
  half. `compute.accumulation` in the catalogue.
- **The edition of the RTX PRO 6000** is not recorded. The last sequence of the run decodes alone at 10.4 ms
  a step, 1.46 TB/s: 92 % of the server edition's memory. It is taken for that one.

How strongly `calibrate` holds on to what is known was chosen with both runs in view.

**What a calibration carries to another card.** The RTX 4090's run finds its kernels as they were (factors of
0.98 and 1.00), the RTX PRO 6000's finds them 7 and 16 % longer than its shipped fits. Neither says anything
of the other card: a file's factors hold for its own device. Shared over devices they would make the RTX
4090 wrong and leave the RTX PRO 6000 as it is. So a calibration on the other run helps where the numbers
underneath are right already, and where they are not one must measure that card.

**What it shows.** On the RTX 4090, whose {blocks:,} KV blocks are too few for the load, the simulation
preempts {preempted} times, and TTFT and E2E are off by as much as steps are. On the RTX PRO 6000 TTFT is
the time in a queue near saturation: it answers three times as strongly as steps.

**Why that card's own kernels are 11 % short.** After the last prompt of that run (49 s) sequences decode
alone, and their number falls from 128 to one. Their steps, counted back from when requests ended (the
server's log, a row a second, agrees):

| sequences | context | measured | shipped fits | a B200's |
|--:|--:|--:|--:|--:|
| 1 | 1,506 | 10.6 ms | +14 % | +33 % |
| 9 | 1,856 | 13.5 ms | +1 % | +14 % |
| 14 | 1,632 | 14.3 ms | -1 % | +12 % |
| 27 | 1,497 | 16.6 ms | -5 % | +6 % |
| 35 | 1,366 | 19.3 ms | -14 % | -5 % |
| 46 | 1,338 | 21.3 ms | -17 % | -8 % |
| 67 | 1,297 | 22.3 ms | -10 % | -1 % |
| 86 | 1,322 | 24.7 ms | -9 % | 0 % |
| 125 | 1,311 | 31.8 ms | -14 % | -6 % |

Own kernels are right from 9 to 27 sequences; beyond 30 they lack 2 to 4 ms. A B200's are right on average
because they read weights too slowly on this card. Bandwidth is not it: the fits hold 1.50 TB/s, on the
catalogue's 1,597 GB/s as on the 1,792 they were published with. Two causes are likely, and no table of
kernels tells either:

- Unequal lengths. Once there are many sequences, FlashAttention 2 gives each of them and each KV head a
  single block of threads (from 0.8 · 2 · 188 blocks on, 38 sequences of 8 heads; 35 run in the graph of
  40, 27 in that of 32), and the longest ends alone. Benchmarks have equal lengths. On the RTX 4090 that
  happens at 26 sequences, and its seconds of decoding alone rise there, too (20.1 ms at 16 sequences, 25.1
  at 28).
- Larger tiles for more than 16 rows: an L40S takes 1.17 to 1.25 times the roof for up to 16, 1.31 to 1.36
  for up to 128. The published coefficients of this card average over both; its rows are not at hand.

What was tried, and does not explain it or rests on nothing else than these runs:

- Power. Data-centre Blackwell holds 0.8 of its peaks under load (see validation.md), but it has 0.44 W
  for 1 TFLOP/s in 16 bits, an RTX PRO 6000 1.28 W and an RTX 4090 2.7: these cards are not held by it.
  With it steps would be half as far off (TPOT -6.4 %).
- The tail of unequal lengths alone. Dealt out in the order in which requests came, lengths that vary
  as these do make the last block end 0.6 ms after the mean one in a step of 128 sequences (mean 1,333
  tokens, deviation 605), a fifth of what is missing.
- Other numbers. On the kernels of devices that were measured, published coefficients are 7 to 8 % off and
  those of the nearest other device 16 to 27 % (see validation.md); this card keeps the published ones.
- The cache. On an L40S, whose rows are at hand, forms are 3 to 6 % too quick where keys and values no
  longer fit its last-level cache: benchmark loops of small ones do. If that held here it would be
  another fifth.
- The interface, chunks and budgets: the run had no interface, its settings are recorded and taken.

No term was added: its size could only be read off these two runs, which judge it. What is missing is
decode attention over unequal lengths, measured on any card that runs FlashAttention 2.
"""


def measured(run: str, data: Path = DATA) -> pl.DataFrame:
    """Return what was measured, in the order of the trace."""
    return pl.read_parquet(data / MEASURED).filter(run_id=run).sort("trace_arrival_s", "req")


def replayed(run: str, data: Path = DATA, **settings: object) -> rf.Simulation:
    """Return the run simulated."""
    return rf.simulate(data / TRACE, model="llama-3.1-8b", api_latency=0, **(RUNS[run] | settings))


def compared(run: str, data: Path = DATA, **settings: object) -> tuple[pl.DataFrame, rf.Simulation]:
    """Return both times of each request of a run, and the simulation: ideal unless said otherwise."""
    simulation = replayed(run, data, **({"mode": "ideal"} | settings))
    real = measured(run, data)
    rows = simulation.requests.select(pl.col(LATENCIES.values()).name.suffix("_simulated"))
    assert rows.height == real.height
    lengths = simulation.requests["prompt_tokens"].to_list()
    assert lengths == real["input_toks"].to_list(), "the trace and the measurements must be the same requests"
    return pl.concat([real, rows], how="horizontal"), simulation


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
    with tempfile.TemporaryDirectory() as folder:
        fits, plain = {}, {}
        for run in RUNS:
            fits[run], plain[run] = (Path(folder) / f"{run}{kind}.toml" for kind in ("", "-plain"))
            rf.calibrate(data / MEASURED, run=run, efficiency=OTHER_GPU[run]).write(fits[run])
            rf.calibrate(data / MEASURED, run=run).write(plain[run])
        for run, settings in RUNS.items():
            (other_run,) = (name for name in RUNS if name != run)
            ways = {
                "ideal": {"mode": "ideal"},
                f"another device's fits ({OTHER_GPU[run]})": {"efficiency": OTHER_GPU[run]},
                "shipped fits": {},
                f"calibrated on the other run, {OTHER_GPU[run]}": {
                    "efficiency": f"{fits[other_run]},{OTHER_GPU[run]}"
                },
                "calibrated on the other run, shipped": {"efficiency": str(plain[other_run])},
            }
            found = {}
            for way, how in ways.items():
                both, simulation = compared(run, data, **({"mode": "predicted"} | how))
                found[way] = errors(both)
                requests = both.height
                if way == "shipped fits" and "num_gpu_blocks_override" in settings:
                    preempted = simulation.summary["preemptions"]
            lines = [f"| figure | measured | {' | '.join(ways)} |", "|---" * (2 + len(ways)) + "|"]
            for name in LATENCIES:
                unit, factor = ("ms", 1e3) if name == "TPOT" else ("s", 1.0)
                real = found["ideal"][name][0]
                cells = [
                    f"{one[name][1] * factor:.2f} {unit}, {one[name][2] - 1:+.1%}" for one in found.values()
                ]
                lines.append(f"| {name} | {real * factor:.2f} {unit} | {' | '.join(cells)} |")
            shown = ", ".join(f"`{name.replace('_', '-')} {value}`" for name, value in settings.items())
            tables.append(f"## {run.partition('__')[0]}\n\n{shown}\n\n" + "\n".join(lines) + "\n")
    blocks = RUNS["RTX4090__Llama-3.1-8B"]["num_gpu_blocks_override"]
    return TEXT.format(tables="\n".join(tables), preempted=preempted, blocks=blocks, requests=requests)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    (HERE / "real-servers.md").write_text(page(folder), encoding="utf-8")
