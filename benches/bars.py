"""Every bar for kernels beside what is reached: halves, largest quarters, other devices, bands.

`python benches/bars.py ../shared/data` prints what `benches/validation_page.py` writes into `docs/validation.md`.
"""

from __future__ import annotations

import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import roofline_fast as rf
from check_coefficients import published

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
COLLECTIVES = ("nccl", "custom_allreduce")
# What "largest" goes by.
SIZES = {
    "gemm": pl.col("m").cast(float) * pl.col("n") * pl.col("k"),
    "generation_attention": pl.col("batch").cast(float) * pl.col("kv_len"),
    "context_attention": pl.col("batch").cast(float) * pl.col("q_len") * pl.col("kv_len"),
}
DATACENTRE = pl.col("system") != "l40s"
SHIPPED = Path(__file__).parent.parent / "rust" / "core" / "data" / "efficiency"
# vLLM's multiplications in blocks of FP8 waited for the host.
GRAPH = (pl.col("op") != "gemm") | (pl.col("dtype") != "fp8_block") | (pl.col("backend") != "vllm")
Errors = dict[str, dict[str, Any]]


class Line(NamedTuple):
    """A bar: what, the most its median, P90 and bias may be, and what they are."""

    what: str
    most: tuple[float, float | None, float | None]
    row: dict[str, Any]

    def holds(self) -> bool:
        """Return whether no figure is above its bar."""
        figures = (self.row["median_ape"], self.row["p90_ape"], abs(self.row["bias"]))
        return all(most is None or value <= most for most, value in zip(self.most, figures, strict=True))

    def cells(self) -> list[str]:
        """Return the cells of a table: what, the bar, rows, median, P90, bias, coverage, whether it holds."""
        names = ("median", "P90", "bias ±")
        bars = [f"{name} {most:g}" for name, most in zip(names, self.most, strict=True) if most is not None]
        figures = [f"{self.row[name]:.1f}" for name in ("median_ape", "p90_ape", "bias", "coverage")]
        verdict = "yes" if self.holds() else "**no**"
        return [self.what, ", ".join(bars), f"{self.row['n']:,}", *figures, verdict]


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
    tight, twelve = (7.0, 20.0, 2.0), (12.0, None, None)
    loose = {"moe": 9.0, "context_mla": 9.0, "generation_mla": 9.0}
    names = {"generation_attention": "decode", "context_attention": "prefill", "moe": "MoE"}
    names |= {"context_mla": "MLA prefill", "generation_mla": "MLA decode", "gemm": "GEMM"}
    names |= {"nccl": "NCCL", "custom_allreduce": "engines' own all-reduce"}
    for op, name in names.items():
        rows = other.filter(shapes(op) & GRAPH)
        groups = judged(rows.filter(DATACENTRE), files)
        most = tight if op in SIZES else (loose.get(op, 7.0), None, None)
        where = "NVLink" if op in COLLECTIVES else "datacentre"
        lines.append(Line(f"{name}, {where}", most, groups["all"]))
        for group, row in groups.items():
            dtype = group.removeprefix("dtype=")
            barred = not dtype.endswith(("_wo", "_sq")) or op != "gemm"
            if group.startswith("dtype=") and "," not in group and row["n"] and barred:
                lines.append(Line(f"{name} {dtype}, {where}", most, row))
        if op not in COLLECTIVES:
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
        rows = kernels.filter(shapes(op) & DATACENTRE & GRAPH).with_columns(size=size)
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


def everything(rows: pl.DataFrame, efficiency: Path, hw: str | None = None) -> dict[str, Any]:
    """Return the errors of all rows together."""
    errors = rf.validate(rows, hw, efficiency=efficiency).errors
    return errors.filter(pl.col("group") == "all").row(0, named=True)


def moved(ops: pl.DataFrame, coefficients: Path, folder: Path) -> list[Line]:
    """Return the bars of numbers that are carried to another device, of which its datasheet alone is known.

    An A40 was measured. Of the others published coefficients say what measurements were, within their own errors.
    """
    gemm = ops.filter(pl.col("kind") == "gemm")
    rf.calibrate(gemm.filter(pl.col("device") == "a100"), prior=False).write(folder / "a40.toml")
    renamed(folder / "a40.toml", "a100-80gb-sxm", "a40")
    a40 = everything(gemm.filter(pl.col("device") == "a40"), folder / "a40.toml")
    lines = [Line("GEMM, A40 with an A100's numbers", (9.0, None, None), a40)]
    table = tomllib.loads(coefficients.read_text())
    most = {"gemm": 9.0, "decode_attn": 9.0, "moe": 12.0, "prefill_attn": 15.0}
    names = {"gemm": "GEMM", "decode_attn": "decode", "moe": "MoE", "prefill_attn": "prefill"}
    for source, target in [("h100-sxm", "h200-sxm"), ("b200-sxm", "gb200"), ("b200-sxm", "b300-sxm")]:
        path = folder / f"{target}.toml"
        path.write_text((SHIPPED / f"{source}.toml").read_text())
        renamed(path, source, target)
        fits = tomllib.loads(path.read_text())["fit"]
        told = {fit["dtype"] for fit in fits if not fit["dtype"].endswith("window")}
        for family, bar in most.items():
            rows = published(table, family, target, told)
            if (family, source) == ("decode_attn", "h100-sxm"):
                # The published fits of these are 12 to 16 % off what was measured: they tell nothing.
                rows = rows.filter(pl.col("backend") != "trtllm")
            what = f"{names[family]}, {target} with {source}'s numbers (published coefficients)"
            lines.append(Line(what, (bar, None, None), everything(rows, path, target)))
    return lines


def renamed(path: Path, source: str, target: str) -> None:
    """Let an efficiency file stand for another device."""
    path.write_text(path.read_text().replace(f'device = "{source}"', f'device = "{target}"'))


def lines_of(lines: list[Line]) -> str:
    """Return a table of bars."""
    head = ["what", "bar", "n", "median", "P90", "bias", "coverage", "holds"]
    rows = [head, ["---", "---", *["--:"] * 5, "---"], *(line.cells() for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def bands_of(bands: list[dict[str, Any]]) -> str:
    """Return a table of how many rows bands hold, odd shapes included, by family and GPU."""
    gpus = sorted({row["gpu"] for row in bands})
    families = list(dict.fromkeys(row["family"] for row in bands))
    cells = {(row["family"], row["gpu"]): f"{row['coverage']:.0f} of {row['n']:,}" for row in bands}
    rows = [["family", *gpus], ["---", *["--:"] * len(gpus)]]
    rows += [[family, *(cells.get((family, gpu), "–") for gpu in gpus)] for family in families]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def bars(data: Path) -> tuple[str, str]:
    """Return the table of bars and that of bands."""
    kernels = pl.read_parquet(data / "kernels" / "gpu_kernels.parquet")
    ops = pl.read_parquet(data / "kernels" / "model_ops.parquet")
    with tempfile.TemporaryDirectory() as folder:
        lines, bands = halved(kernels, Path(folder))
        lines += larger(kernels, Path(folder))
        lines += moved(ops, data / "efficiency" / "coefficients.toml", Path(folder))
    return lines_of(lines), bands_of(bands)


if __name__ == "__main__":
    for text in bars(Path(sys.argv[1])):
        sys.stdout.write(f"{text}\n\n")
