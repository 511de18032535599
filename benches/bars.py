"""Every bar for kernels beside what is reached: halves, largest quarters, other devices, bands.

`bars(kernels, ops)` returns the lines that `benches/validation_page.py` writes into `docs/validation.md`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import roofline_fast as rf

# Shapes that serving meets; the others are judged apart.
USUAL = {
    "gemm": (pl.col("n") >= 512)
    & (pl.col("k") >= 512)
    & (pl.col("m") <= 32768)
    & ((pl.col("m") <= 16) | (pl.col("m") % 8 == 0)),
    "generation_attention": (pl.col("kv_len") >= 128)
    & (pl.col("batch") <= 512)
    & pl.col("head_dim").is_in([64, 128])
    & (pl.col("heads") <= 16 * pl.col("kv_heads")),
    "context_attention": (pl.col("q_len") >= 64)
    & (pl.col("batch") * pl.col("q_len") <= 65536)
    & pl.col("head_dim").is_in([64, 128])
    & (pl.col("heads") <= 16 * pl.col("kv_heads")),
    "context_mla": pl.col("q_len") >= 64,
    "generation_mla": (pl.col("kv_len") >= 128) & (pl.col("batch") <= 512),
    "moe": (pl.col("moe_ep") == 1)
    & (pl.col("distribution") != "balanced")
    & (pl.col("inter") >= 128 * pl.col("moe_tp"))
    & (pl.col("m") <= 16384)
    & (pl.col("topk") <= 16)
    & (pl.col("hidden") != 2688)
    & ~pl.col("kernel").str.contains("nongated|min_latency"),
    "nccl": pl.col("num_gpus") <= 8,
    "custom_allreduce": pl.col("num_gpus") <= 8,
}
# What "largest" goes by.
SIZES = {
    "gemm": pl.col("m").cast(float) * pl.col("n") * pl.col("k"),
    "generation_attention": pl.col("batch").cast(float) * pl.col("kv_len"),
    "context_attention": pl.col("batch").cast(float) * pl.col("q_len") * pl.col("kv_len"),
}
DATACENTRE = pl.col("system") != "l40s"
Errors = dict[str, dict[str, Any]]


class Line(NamedTuple):
    """A bar: what, the most its median, P90 and bias may be, and what they are."""

    what: str
    most: tuple[float, float | None, float | None]
    row: dict[str, Any]

    def holds(self) -> bool:
        figures = (self.row["median_ape"], self.row["p90_ape"], abs(self.row["bias"]))
        return all(most is None or value <= most for most, value in zip(self.most, figures, strict=True))


def is_op(op: str) -> pl.Expr:
    """Return whether a row is of an operation; every collective of the library is one."""
    return pl.col("op").str.starts_with("nccl") if op == "nccl" else pl.col("op") == op


def shapes(op: str) -> pl.Expr:
    return is_op(op) & USUAL[op]


def halves(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return two halves of the rows, drawn at random."""
    place = pl.int_range(pl.len(), dtype=pl.UInt64).hash(seed=11) % 2 == 0
    known = rows.select(place.alias("known"))["known"]
    return rows.filter(known), rows.filter(~known)


def judged(rows: pl.DataFrame, efficiency: list[Path]) -> Errors:
    """Return errors by group of one operation's rows."""
    errors = rf.validate(rows, efficiency=efficiency).errors
    return {row["group"]: row for row in errors.iter_rows(named=True)}


def fitted(rows: pl.DataFrame, folder: Path) -> list[Path]:
    return rf.calibrate(rows, prior=False).write(folder)


def halved(kernels: pl.DataFrame, folder: Path) -> tuple[list[Line], list[dict[str, Any]]]:
    """Return the bars of kernels fitted on a half and judged on the other, and how many its bands hold."""
    known, other = halves(kernels)
    files = fitted(known, folder)
    lines, bands = [], []
    tight, wide, twelve = (7.0, 20.0, 2.0), (9.0, None, None), (12.0, None, None)
    names = {"generation_attention": "decode", "context_attention": "prefill", "moe": "MoE"}
    names |= {"context_mla": "MLA prefill", "generation_mla": "MLA decode", "gemm": "GEMM"}
    names |= {"nccl": "NCCL", "custom_allreduce": "engines' own all-reduce"}
    for op, name in names.items():
        rows = other.filter(shapes(op))
        groups = judged(rows.filter(DATACENTRE), files)
        most = tight if op in SIZES else wide if op in USUAL and "m" in op and "all" not in op else None
        most = most or (7.0, None, None)
        where = "NVLink" if "nccl" in op or "custom" in op else "datacentre"
        lines.append(Line(f"{name}, {where}", most, groups["all"]))
        for group, row in groups.items():
            if group.startswith("dtype=") and "," not in group and row["n"]:
                lines.append(Line(f"{name} {group.removeprefix('dtype=')}, {where}", most, row))
        if op not in ("nccl", "custom_allreduce"):
            lines.append(Line(f"{name}, L40S", twelve, judged(rows.filter(~DATACENTRE), files)["all"]))
        if op == "generation_attention":
            hopper = rows.filter((pl.col("system") == "h100_sxm") & (pl.col("backend") == "trtllm"))
            lines.append(Line("decode, TensorRT-LLM on Hopper", twelve, judged(hopper, files)["all"]))
        every = judged(other.filter(is_op(op)), files)
        for group, row in every.items():
            if group.startswith("gpu=") and "," not in group and row["n"]:
                bands.append({"family": name, "gpu": group.removeprefix("gpu="), **row})
    return lines, bands


def larger(kernels: pl.DataFrame, folder: Path) -> list[Line]:
    """Return the bars of kernels fitted without the largest quarter of each table and judged there."""
    table = ["system", "backend", "dtype", "kv_dtype", pl.col("window") > 0]
    lines = []
    for op, size in SIZES.items():
        rows = kernels.filter(shapes(op) & DATACENTRE).with_columns(size=size)
        largest = rows["size"] > rows.select(pl.col("size").quantile(0.75).over(table))["size"]
        files = fitted(rows.filter(~largest).drop("size"), folder)
        groups = judged(rows.filter(largest).drop("size"), files)
        for group, row in groups.items():
            dtype = group.removeprefix("dtype=")
            if group.startswith("dtype=") and "," not in group and not dtype.endswith(("wo", "sq")):
                most = 9.0 if (op, dtype) == ("gemm", "bf16") else 15.0
                name = {"gemm": "GEMM", "generation_attention": "decode"}.get(op, "prefill")
                lines.append(Line(f"{name} {dtype}, largest quarter", (most, None, None), row))
    return lines


if __name__ == "__main__":
    import sys

    kernels = pl.read_parquet(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        lines, bands = halved(kernels, Path(folder))
        lines += larger(kernels, Path(folder))
    for line in lines:
        r = line.row
        print(
            f"{line.what:<45}{line.most!s:<20}{r['n']:>9,}{r['median_ape']:>7.1f}{r['p90_ape']:>7.1f}{r['bias']:>+7.1f}{r['coverage']:>7.1f}  {'' if line.holds() else 'MISSES'}"
        )
    for b in bands:
        print(
            f"{b['family']:<25}{b['gpu']:<16}{b['n']:>9,}{b['median_ape']:>7.1f}{b['coverage']:>7.1f} {'' if 70 <= b['coverage'] <= 90 else 'MISSES'}"
        )
