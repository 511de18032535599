"""Write the tables of `docs/validation.md` and `docs/calibration.md` anew from the shared measurements.

`python benches/validation_page.py ../shared/data`; what stands between the marks of a page is replaced.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import polars as pl
import roofline_fast as rf
from bars import COLLECTIVES, USUAL, bars, shapes
from which_numbers import compared

DOCS = Path(__file__).parent.parent / "docs"
SHIPPED = Path(__file__).parent.parent / "rust" / "core" / "data" / "efficiency"
# Groups of few rows, and combinations, stay out of the page.
SIMPLE = ("all", "gpu=", "engine=", "kind=", "mode=agg", "model=")


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def table(errors: pl.DataFrame) -> str:
    lines = [
        "| metric | group | n | refused | median | mean | P90 | bias | coverage | roofline |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in errors.iter_rows(named=True):
        figures = ("median_ape", "mape", "p90_ape", "bias", "coverage", "ideal_median_ape")
        cells = [f"`{row['metric']}`", f"`{row['group']}`", f"{row['n']:,}", f"{row['refused']:,}"]
        lines.append("| " + " | ".join([*cells, *(number(row[name]) for name in figures)]) + " |")
    return "\n".join(lines)


def simple(errors: pl.DataFrame) -> pl.DataFrame:
    starts = pl.any_horizontal(*(pl.col("group").str.starts_with(start) for start in SIMPLE))
    return errors.filter(starts & ~pl.col("group").str.contains(","))


def usual(kernels: pl.DataFrame) -> str:
    """Return errors on the shapes that serving meets, by operation and format, of data-centre GPUs."""
    lines = [
        "| operation | dtype | n | median | mean | P90 | bias | coverage | roofline |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    datacentre = kernels.filter(pl.col("system") != "l40s")
    for op in (op for op in USUAL if op not in COLLECTIVES):
        errors = rf.validate(datacentre.filter(shapes(op))).errors
        for row in errors.iter_rows(named=True):
            if row["group"] == "all" or (row["group"].startswith("dtype=") and "," not in row["group"]):
                figures = ("median_ape", "mape", "p90_ape", "bias", "coverage", "ideal_median_ape")
                cells = [op, row["group"].removeprefix("dtype="), f"{row['n']:,}"]
                lines.append("| " + " | ".join([*cells, *(number(row[name]) for name in figures)]) + " |")
    return "\n".join(lines)


def extrapolated(kernels: pl.DataFrame) -> str:
    """Return the median over tables of errors on the largest quarter, which was not fitted."""
    fits = rf.calibrate(kernels, prior=False, extrapolate=True).fits
    held = fits.filter(pl.col("median_ape").is_not_null() & (pl.col("hw") != "l40s"))
    grouped = held.group_by("family", "dtype").agg(
        pl.len(), pl.col("median_ape").median(), pl.col("p90_ape").median(), pl.col("bias").median()
    )
    lines = ["| family | dtype | tables | median | P90 | bias |", "|---|---|--:|--:|--:|--:|"]
    for family, dtype, count, median, p90, bias in grouped.sort("family", "dtype").iter_rows():
        lines.append(f"| {family} | {dtype} | {count} | {median:.1f} | {p90:.1f} | {bias:+.1f} |")
    return "\n".join(lines)


def transferred(ops: pl.DataFrame, folder: Path) -> str:
    """Return errors of numbers fitted on an A100 where only the datasheet is an A40's."""
    a100 = ops.filter((pl.col("device") == "a100") & pl.col("kind").is_in(["gemm", "elementwise"]))
    a40 = ops.filter((pl.col("device") == "a40") & pl.col("kind").is_in(["gemm", "elementwise"]))
    rf.calibrate(a100, prior=False).write(folder / "a100.toml")
    rf.calibrate(a40, prior=False).write(folder / "a40.toml")
    lines = ["| family | numbers of | n | median | P90 | bias | coverage |", "|---|---|--:|--:|--:|--:|--:|"]
    for name in ("a40", "a100"):
        errors = rf.validate(a40, efficiency=folder / f"{name}.toml").errors.filter(pl.col("group") == "all")
        for row in errors.iter_rows(named=True):
            figures = [number(row[key]) for key in ("median_ape", "p90_ape", "bias", "coverage")]
            lines.append(f"| {row['metric']} | {name} | {row['n']:,} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def carried(kernels: pl.DataFrame, folder: Path) -> str:
    """Return errors on the usual 16-bit shapes of one device under the numbers of another."""
    names = {"a100": "a100-80gb-sxm", "h100": "h100-sxm", "b200": "b200-sxm"}
    pairs = [("a100", "h100"), ("h100", "a100"), ("h100", "b200"), ("b200", "h100")]
    sixteen = pl.col("dtype").is_in(["bfloat16", "float16"]) & (pl.col("window").fill_null(0) == 0)
    sixteen &= pl.col("kv_dtype").fill_null("bfloat16") == "bfloat16"
    lines = [
        "| operation | numbers of | on | n | median | P90 | bias | coverage |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for op in ("gemm", "generation_attention", "context_attention", "moe"):
        rows = kernels.filter((pl.col("op") == op) & USUAL[op] & sixteen)
        for source, target in pairs:
            path = folder / f"{source}-as-{target}.toml"
            text = (SHIPPED / f"{names[source]}.toml").read_text()
            path.write_text(text.replace(f'device = "{names[source]}"', f'device = "{names[target]}"'))
            errors = rf.validate(rows.filter(pl.col("system") == f"{target}_sxm"), efficiency=path).errors
            row = errors.filter(pl.col("group") == "all").row(0, named=True)
            figures = [number(row[key]) for key in ("median_ape", "p90_ape", "bias", "coverage")]
            lines.append(f"| {op} | {source} | {target} | {row['n']:,} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def curve(kernels: pl.DataFrame, folder: Path) -> str:
    """Return errors after calibration with 20, 60 and 200 points of one table, without a prior."""
    tables = [
        ("gemm, bf16, vLLM", "h100_sxm", "gemm", "bfloat16", "kernel:gemm"),
        ("gemm, fp8, TensorRT-LLM", "h100_sxm", "gemm", "fp8", "kernel:gemm"),
        ("gemm, nvfp4, vLLM", "b200_sxm", "gemm", "nvfp4", "kernel:gemm"),
        ("decode, bf16, vLLM", "b200_sxm", "generation_attention", "bfloat16", "kernel:decode"),
        ("prefill, bf16, vLLM", "b200_sxm", "context_attention", "bfloat16", "kernel:prefill"),
    ]
    lines = ["| table | points | median | P90 |", "|---|--:|--:|--:|"]
    for name, system, op, dtype, metric in tables:
        engine = "trtllm" if "Tensor" in name else "vllm"
        rows = kernels.filter(
            (pl.col("system") == system)
            & (pl.col("backend") == engine)
            & (pl.col("op") == op)
            & (pl.col("dtype") == dtype)
            & USUAL[op]
            & (pl.col("window").fill_null(0) == 0)
            & (pl.col("kv_dtype").fill_null("bfloat16") == "bfloat16")
        )
        judged = rows.sample(4000, seed=7) if rows.height > 8000 else rows.sample(fraction=0.5, seed=7)
        known = rows.join(judged, on=rows.columns, how="anti", nulls_equal=True)
        for points in (20, 60, 200):
            path = folder / "curve.toml"
            rf.calibrate(known.sample(points, seed=points), prior=False).write(path)
            errors = rf.validate(judged, efficiency=path).errors
            row = errors.filter((pl.col("group") == "all") & (pl.col("metric") == metric)).row(0, named=True)
            lines.append(f"| {name} | {points} | {number(row['median_ape'])} | {number(row['p90_ape'])} |")
    return "\n".join(lines)


def replace(page: Path, mark: str, text: str) -> None:
    before, rest = page.read_text().split(f"<!-- {mark} -->", 1)
    after = rest.split(f"<!-- /{mark} -->", 1)[1]
    page.write_text(f"{before}<!-- {mark} -->\n\n{text}\n\n<!-- /{mark} -->{after}")


def main(data: Path) -> None:
    import tempfile

    kernels = pl.read_parquet(data / "kernels" / "gpu_kernels.parquet")
    ops = pl.read_parquet(data / "kernels" / "model_ops.parquet")
    page = DOCS / "validation.md"
    judged = (
        rf.validate(data / "kernels" / "gpu_kernels.parquet"),
        rf.validate(data / "e2e" / "server_points.parquet"),
    )
    replace(page, "errors", table(simple(pl.concat([one.errors for one in judged]))))
    refused = pl.concat([one.refused for one in judged]).sort("metric", "rows", descending=[False, True])
    lines = [f"| `{metric}` | {why} | {rows:,} |" for metric, why, rows in refused.iter_rows()]
    replace(page, "refused", "\n".join(["| metric | reason | rows |", "|---|---|--:|", *lines]))
    served = [data / "e2e" / name for name in ("h100_steps", "llmservingsim_vllm/requests.parquet")]
    replace(page, "served", table(pl.concat([rf.validate(path).errors for path in served])))
    replace(page, "batches", table(rf.validate(data / "e2e" / "static_batch").errors))
    for mark, text in zip(("bars", "bands"), bars(data), strict=True):
        replace(page, mark, text)
    coefficients = tomllib.loads((data / "efficiency" / "coefficients.toml").read_text())
    replace(page, "published", compared(kernels, coefficients))
    replace(page, "usual", usual(kernels))
    replace(page, "extrapolated", extrapolated(kernels))
    with tempfile.TemporaryDirectory() as folder:
        replace(page, "transferred", transferred(ops, Path(folder)))
        replace(page, "carried", carried(kernels, Path(folder)))
        replace(DOCS / "calibration.md", "curve", curve(kernels, Path(folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
