"""Sweeps beside the same sweep written by hand in NumPy, and beside one point at a time.

One core: seconds of this process's own work, which is what other work on the machine moves least. Two cores (`--two`):
wall clock; the machine must be idle. Beside them stands what two processes of one thread each do at the same time,
which share nothing but the machine, and the rate at which one and two of them move memory: where two processes are no
quicker than two threads, the machine is the limit. What is compared is run in turn (A B A B), each as often, and the
fewest seconds of each are divided: whatever else the machine does can only add.

What is compared with NumPy is the whole of one and the same sweep: from the values of two axes to a polars frame with
the step time of a whole model at each of their combinations. NumPy makes the grid, evaluates the formula of each
operator over it, and hands the column over; so does the sweep, from a model's configuration and a datasheet.
`python benches/sweep.py [--json FILE] [--two]`; `--save` does both, one after the other, and puts what they measure
into `benches/results/` in place of what was there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = 2
for variable in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import roofline_fast as rf  # noqa: E402
from roofline_fast.sweeps.space import Space  # noqa: E402

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


def over_axes(batches: range, contexts: range) -> pl.DataFrame:
    """Return the whole sweep as one would write it: two columns of the grid, the formula, a frame."""
    batch, context = (axis.ravel().astype(float) for axis in np.meshgrid(batches, contexts, indexing="ij"))
    return pl.DataFrame({"step_s": by_hand(batch, context)})


def cpu(work: Callable[[], object], times: int = 5) -> float:
    """Return the fewest seconds of this process's work that one of several runs took."""
    found = []
    for _ in range(times):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def in_turn(works: list[Callable[[], object]], clock: Callable[[], float], times: int = 15) -> list[float]:
    """Return the fewest seconds of each, all of them once before any of them again."""
    found: list[list[float]] = [[] for _ in works]
    for _ in range(times):
        for work, seconds in zip(works, found, strict=True):
            began = clock()
            work()
            seconds.append(clock() - began)
    return [min(seconds) for seconds in found]


class Report:
    """Rows as they are measured: to the screen and, in the end, to a file."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def rate(self, case: str, points: int, seconds: float, bar: float | None = None) -> None:
        """Tell points a second, in millions."""
        rate = points / seconds / 1e6
        self._add(
            case, f"{seconds:8.3f} s  {rate:8.2f} M/s", rate, "M/s", bar, holds=bar is None or rate >= bar
        )

    def most(self, case: str, value: float, unit: str, bar: float) -> None:
        """Tell what must be at most so much."""
        self._add(case, f"{value:8.3f} {unit}", value, unit, bar, holds=value <= bar)

    def note(self, case: str, value: float, unit: str) -> None:
        """Tell what there is no bar for."""
        self._add(case, f"{value:8.2f} {unit}", value, unit, None, holds=True)

    def times(self, case: str, value: float, bar: float) -> None:
        """Tell what must be at least so many times something."""
        self._add(case, f"{value:8.2f} x", value, "x", bar, holds=value >= bar)

    def _add(self, case: str, shown: str, value: float, unit: str, bar: float | None, *, holds: bool) -> None:
        verdict = "" if bar is None else "holds" if holds else "MISSED"
        wanted = "" if bar is None else f"bar {bar:g} {unit}"
        print(f"{case:<66} {shown:<24} {wanted:<14} {verdict}", flush=True)
        self.rows.append({"case": case, "value": value, "unit": unit, "bar": bar, "verdict": verdict})

    def write(self, file: Path, head: dict[str, Any]) -> None:
        """Write all rows as JSON lines."""
        lines = [json.dumps(head), *(json.dumps(row) for row in self.rows)]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def space(model: str, mode: str, **axes: Any) -> Space:
    """Return a grid of batches and contexts."""
    tp = 8 if model == "deepseek-v3" else 1
    hw = "h200-sxm" if model == "deepseek-v3" else "h100-sxm"
    given = {"hw": hw, "batch_size": BATCHES, "input_len": CONTEXTS, "model": model, "tp": tp, "mode": mode}
    return Space({**given, **axes})


def steps(grid: Space, threads: int = 1) -> pl.DataFrame:
    """Return step times alone, of all points."""
    return grid.read(0, POINTS, axes=[], results=["step_s"], keep="all", threads=threads)[0]


def one_core(report: Report) -> None:
    """Step times, whole rows, frames, first rows, Parquet."""
    dense = space("llama-3.1-8b", "ideal")
    works = [lambda: over_axes(BATCHES, CONTEXTS), lambda: steps(dense)]
    numpy, ours = in_turn(works, time.process_time)
    report.rate("NumPy by hand, Llama-3.1-8B decode, step times", POINTS, numpy)
    for model in ("llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3"):
        for mode in ("ideal", "predicted"):
            grid = space(model, mode)
            bar = 10.0 if mode == "predicted" else 50.0 if model == "llama-3.1-8b" else 25.0
            compared = (model, mode) == ("llama-3.1-8b", "ideal")
            seconds = ours if compared else cpu(lambda grid=grid: steps(grid))
            report.rate(f"sweep, {model} {mode} decode, step times", POINTS, seconds, bar)
            if compared:
                report.times("  as many a second as NumPy", numpy / seconds, 5.0)
                apart = np.abs(steps(grid)["step_s"] / over_axes(BATCHES, CONTEXTS)["step_s"] - 1).max()
                report.most("  furthest from NumPy, relative", apart, "", 1e-12)
            some = POINTS // 4
            every = cpu(lambda grid=grid, some=some: grid.read(0, some, keep="all", threads=1))
            report.rate("  all columns, every row kept", some, every, 5.0)
    for mode in ("ideal", "predicted"):
        chat = space("llama-3.1-8b", mode, phase="chat", output_len=256)
        some = POINTS // 64
        seconds = cpu(lambda chat=chat, some=some: chat.read(0, some, threads=1), 3)
        report.rate(f"sweep, llama-3.1-8b {mode} chat of 256 tokens, all columns", some, seconds)
    rng = np.random.default_rng(0)
    sizes = {"batch_size": rng.integers(1, 512, 1_000_000), "input_len": rng.integers(1, 30_000, 1_000_000)}
    frame = pl.DataFrame(sizes)
    for mode in ("ideal", "predicted"):
        for columns, bar in ((["step_s"], 0.05), (None, 0.25)):
            known = {"model": "llama-3.1-8b", "hw": "h100-sxm", "mode": mode, "columns": columns}
            what = "step_s" if columns else "all columns"
            seconds = cpu(lambda known=known: rf.evaluate(frame, **known))
            report.most(f"evaluate, 1 M scattered rows, {mode}, {what}", seconds, "s", bar)
    one = cpu(lambda: [rf.analyze("llama-3.1-8b", "h100-sxm", batch_size=8) for _ in range(200)], 3)
    report.rate("analyze, one point at a time", 200, one)
    endless = space(
        "llama-3.1-8b", "predicted", hw=["t4", "h100-sxm"], tp=range(1, 100), prefix_len=range(3000)
    )
    lazy = endless.lazy()
    first = cpu(lambda: lazy.head(5).collect(), 3)
    report.most(f"head(5) of {endless.points:,} points", 1e3 * first, "ms", 10.0)
    parquet(report)


def parquet(report: Report) -> None:
    """Ten million rows of twelve columns to Parquet, in a process of its own: its memory is its own."""
    grid = '{"hw": "h100-sxm", "model": "llama-3.1-8b", "tp": [1, 2, 4, 8, 16], "mode": "ideal",'
    script = f"""
import resource, sys
from roofline_fast.sweeps.space import Space
rows = Space({grid} "batch_size": range(1, 513), "input_len": range(16, 65537, 16)}}).lazy(keep="all")
rows.select(rows.collect_schema().names()[:12]).head(10_000_000).sink_parquet(sys.argv[1])
used = resource.getrusage(resource.RUSAGE_SELF)
# Of this program alone: ru_maxrss counts what the process was before it became one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, int(peak.split()[1]) / 1024)
"""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        done = subprocess.run(
            [sys.executable, "-c", script, str(file)], check=True, capture_output=True, text=True
        )
        seconds, peak = map(float, done.stdout.split())
        assert pl.scan_parquet(file).select(pl.len()).collect().item() == 10_000_000
    report.rate("10 M rows x 12 columns to Parquet", 10_000_000, seconds)
    report.most("  peak memory of its process", peak, "MiB", 400.0)


# What one of several processes does at the same time: as often as it can until the time is over.
CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np
import sweep
what, model, mode, start = sys.argv[2:6]
if what == "memory":
    source = np.ones(1 << 23)
    target = np.ones(1 << 23)
    units, work = 16 * source.size, lambda: np.copyto(target, source)
else:
    grid = sweep.space(model, mode)
    some = sweep.POINTS // 4
    rows = lambda: grid.read(0, some, keep="all", threads=1)
    units, work = (sweep.POINTS, lambda: sweep.steps(grid)) if what == "steps" else (some, rows)
for _ in range(3):
    work()
time.sleep(max(0.0, float(start) - time.time()))
done, began = 0, time.perf_counter()
while time.perf_counter() - began < 1.5:
    work()
    done += 1
print(done * units / (time.perf_counter() - began))
"""


def at_once(processes: int, what: str, model: str = "", mode: str = "") -> float:
    """Return units a second of so many processes together, each of one thread."""
    start = f"{time.time() + 2.5}"
    words = [sys.executable, "-c", CHILD, str(Path(__file__).parent), what, model, mode, start]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(float(process.communicate()[0]) for process in running)


def two_cores(report: Report) -> None:
    """One and two threads in turn, two processes, and NumPy beside them."""
    alone, both = (at_once(processes, "memory") for processes in (1, 2))
    report.note("memory moved by one process (NumPy copies, read and written)", alone / 1e9, "GB/s")
    report.note("  by two at once", both / 1e9, "GB/s")
    for model, mode in (("llama-3.1-8b", "ideal"), ("llama-3.1-8b", "predicted"), ("qwen3-30b-a3b", "ideal")):
        grid = space(model, mode)

        def by(threads: int, grid: Space = grid) -> Callable[[], object]:
            return lambda: steps(grid, threads)

        by_numpy = (
            [lambda: over_axes(BATCHES, CONTEXTS)] if (model, mode) == ("llama-3.1-8b", "ideal") else []
        )
        one, two, *numpy = in_turn([by(1), by(THREADS), *by_numpy], time.perf_counter)
        report.rate(f"{model} {mode} decode, step times, one thread", POINTS, one)
        report.rate("  two threads", POINTS, two)
        report.times("  two threads over one", one / two, 1.8)
        alone, both = (at_once(processes, "steps", model, mode) for processes in (1, 2))
        report.note("  two processes over one", both / alone, "x")
        for seconds in numpy:
            report.times("  two threads, as many a second as NumPy", seconds / two, 9.0)
        some = POINTS // 4

        def rows(threads: int, grid: Space = grid, some: int = some) -> Callable[[], object]:
            return lambda: grid.read(0, some, keep="all", threads=threads)

        one, two = in_turn([rows(1), rows(THREADS)], time.perf_counter)
        report.rate("  all columns, one thread", some, one)
        report.rate("  all columns, two threads", some, two)
        report.times("  all columns, two threads over one", one / two, 1.8)
        alone, both = (at_once(processes, "rows", model, mode) for processes in (1, 2))
        report.note("  all columns, two processes over one", both / alone, "x")


def save(commit: str) -> None:
    """Measure one core and two, each in a process of its own; what was there goes once both are done."""
    results = Path(__file__).parent / "results"
    before = set(results.glob("sweep-*.json"))
    files = {results / f"sweep-{commit}.json": [], results / f"sweep-two-{commit}.json": ["--two"]}
    for file, more in files.items():
        subprocess.run([sys.executable, __file__, "--json", str(file), *more], check=True)
    for file in before - files.keys():
        file.unlink()


def main() -> None:
    """Measure, say what was measured where, and write it down."""
    words = argparse.ArgumentParser(description="Sweeps beside NumPy, on one core or two.")
    words.add_argument("--json", type=Path, help="write the rows here as well")
    words.add_argument("--two", action="store_true", help="measure two cores against one, by the wall clock")
    words.add_argument("--save", action="store_true", help="both, into benches/results/")
    asked = words.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    if asked.save:
        save(commit.stdout.strip())
        return
    load = os.getloadavg()[0]
    head = {
        "commit": commit.stdout.strip(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": f"{load:.2f}",
        "polars": pl.__version__,
        "numpy": np.__version__,
    }
    print(", ".join(f"{name} {value}" for name, value in head.items()) + f", {POINTS:,} points a run")
    report = Report()
    (two_cores if asked.two else one_core)(report)
    if asked.json is not None:
        report.write(asked.json, head)


if __name__ == "__main__":
    main()
