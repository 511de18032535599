"""Sweeps side by side with the same sweep written by hand in NumPy and with one point at a time, on one core.

CPU seconds of this process, best of several runs: what else the machine does moves them least.
"""

from __future__ import annotations

import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import roofline_fast as rf  # noqa: E402
from roofline_fast.sweeps import Space  # noqa: E402

BATCHES, CONTEXTS = range(1, 513), range(16, 16 * 4096 + 1, 16)
POINTS = len(BATCHES) * len(CONTEXTS)


def by_hand(batch: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Return seconds of a decode step of Llama-3.1-8B in bf16 on an H100, as one would write it."""
    peak, bandwidth, vector = 989.5e12, 3.35e12, 67e12
    hidden, heads, kv_heads, width, inner, vocabulary, layers = 4096, 32, 8, 128, 14336, 128256, 32

    def linear(inputs: int, outputs: int) -> np.ndarray:
        flops = 2.0 * batch * inputs * outputs
        moved = 2.0 * (inputs * outputs + batch * (inputs + outputs))
        return np.maximum(flops / peak, moved / bandwidth)

    pairs = batch * (context + 1.0)
    moved = 4.0 * batch * width * heads + 4.0 * width * kv_heads * pairs + 4.0 * width * kv_heads * batch
    attention = np.maximum(4.0 * width * heads * pairs / peak, moved / bandwidth)
    attention = np.maximum(attention, 5.0 * heads * pairs / vector)
    layer = linear(hidden, (heads + 2 * kv_heads) * width) + attention + linear(heads * width, hidden)
    layer += linear(hidden, 2 * inner) + linear(inner, hidden)
    head = np.maximum(
        2.0 * batch * hidden * vocabulary / peak,
        2.0 * (hidden * vocabulary + batch * (hidden + vocabulary)) / bandwidth,
    )
    gather = 4.0 * batch * hidden / bandwidth
    return layers * layer + head + gather


def cpu(work: Callable[[], object], times: int = 5) -> float:
    found = []
    for _ in range(times):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def show(what: str, points: int, seconds: float) -> None:
    print(f"{what:<58} {seconds:8.3f} s  {points / seconds / 1e6:8.2f} M/s")


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, one core, {POINTS:,} points a run")
    batch, context = (axis.ravel().astype(float) for axis in np.meshgrid(BATCHES, CONTEXTS, indexing="ij"))
    numpy = cpu(lambda: by_hand(batch, context), 3)
    show("NumPy by hand, Llama-3.1-8B decode, step times", POINTS, numpy)
    axes = {"hw": "h100-sxm", "batch_size": BATCHES, "input_len": CONTEXTS}
    for model, tp in (("llama-3.1-8b", 1), ("qwen3-30b-a3b", 1), ("deepseek-v3", 8)):
        for mode in ("ideal", "predicted"):
            space = Space({**axes, "model": model, "tp": tp, "mode": mode})

            def steps(space: Space = space) -> pl.DataFrame:
                return space.read(0, POINTS, axes=[], results=["step_s"], keep="all", threads=1)[0]

            seconds = cpu(steps, 3)
            show(f"sweep, {model} {mode} decode, step times", POINTS, seconds)
            if (model, mode) == ("llama-3.1-8b", "ideal"):
                print(f"  {numpy / seconds:.1f}x NumPy")
                apart = np.abs(steps()["step_s"].to_numpy() / by_hand(batch, context) - 1).max()
                print(f"  furthest from NumPy: {apart:.1e}")
            some = POINTS // 8
            show("  all columns", some, cpu(lambda space=space, some=some: space.read(0, some, threads=1), 3))
    chat = Space({**axes, "model": "llama-3.1-8b", "phase": "chat", "output_len": 256, "mode": "ideal"})
    show(
        "sweep, llama-3.1-8b ideal chat, all columns",
        POINTS // 8,
        cpu(lambda: chat.read(0, POINTS // 8, threads=1), 3),
    )

    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {"batch_size": rng.integers(1, 512, 1_000_000), "input_len": rng.integers(1, 30_000, 1_000_000)}
    )
    for mode in ("ideal", "predicted"):
        for columns in (["step_s"], None):
            known = {"model": "llama-3.1-8b", "hw": "h100-sxm", "mode": mode, "columns": columns}
            what = "step_s" if columns else "all columns"
            show(
                f"evaluate, 1 M scattered rows, {mode}, {what}",
                1_000_000,
                cpu(lambda known=known: rf.evaluate(frame, **known), 3),
            )
    one = cpu(lambda: [rf.analyze("llama-3.1-8b", "h100-sxm", batch_size=8) for _ in range(200)], 3)
    show("analyze, one point at a time", 200, one)

    endless = Space(
        {
            **axes,
            "model": "llama-3.1-8b",
            "hw": ["t4", "h100-sxm"],
            "tp": range(1, 100),
            "prefix_len": range(3000),
        }
    )
    lazy = endless.lazy()
    first = cpu(lambda: lazy.head(5).collect(), 3)
    print(f"head(5) of {endless.points:,} points: {1e3 * first:.1f} ms")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        rows = Space({**axes, "model": "llama-3.1-8b", "tp": [1, 2, 4, 8, 16], "mode": "ideal"}).lazy(
            keep="all"
        )
        twelve = rows.select(rows.collect_schema().names()[:12]).head(10_000_000)
        began = time.process_time()
        twelve.sink_parquet(Path(folder) / "rows.parquet")
        seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    show(
        f"10 M rows x 12 columns to Parquet (peak {before // 1024} -> {peak // 1024} MiB)",
        10_000_000,
        seconds,
    )


if __name__ == "__main__":
    main()
