"""Whose numbers to take for a device that only published coefficients know: tried on devices that were measured.

`python benches/which_numbers.py ../shared/data` prints the table of `docs/validation.md`.
"""

from __future__ import annotations

import sys
import tempfile
import tomllib
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import roofline_fast as rf
from bars import SHIPPED, renamed, shapes
from import_coefficients import DEVICES, families_of, head

# Devices that were measured, each with the nearest other one: the same instructions, else the next architecture.
NEAREST = {"a100_sxm": "h100_sxm", "h100_sxm": "b200_sxm", "b200_sxm": "h100_sxm", "l40s": "a100_sxm"}
OPS = ("gemm", "generation_attention", "context_attention", "moe")
Table = dict[str, dict[str, Any]]


def tables(rows: pl.DataFrame, efficiency: Path) -> Table:
    """Return errors by device, engine and format."""
    errors = rf.validate(rows, efficiency=efficiency).errors
    return {
        row["group"]: row for row in errors.iter_rows(named=True) if ",dtype=" in row["group"] and row["n"]
    }


def carried(name: str, folder: Path) -> Path:
    """Write the shipped file of the nearest device as if it were of another one."""
    path = folder / "carried.toml"
    path.write_text((SHIPPED / f"{DEVICES[NEAREST[name]]}.toml").read_text())
    renamed(path, DEVICES[NEAREST[name]], DEVICES[name])
    return path


def published(name: str, coefficients: dict[str, Any], folder: Path) -> Path:
    """Write the published coefficients of a device as those of devices without measurements are."""
    path, own = folder / "published.toml", SHIPPED / f"{DEVICES[name]}.toml"
    hardware, shipped = coefficients["hardware_used_in_fit"][name], tomllib.loads(own.read_text())
    fits = "".join(families_of(coefficients, name, hardware))
    path.write_text(head(DEVICES[name], shipped["architecture"], shipped["datasheet"]) + fits)
    return path


def known(path: Path) -> set[tuple[str, str, str]]:
    return {(fit["family"], fit["engine"], fit["dtype"]) for fit in tomllib.loads(path.read_text())["fit"]}


def compared(kernels: pl.DataFrame, coefficients: dict[str, Any]) -> str:
    """Return errors under a device's own numbers, the published ones and those of the nearest other device.

    The median over tables (device, engine, format) for which there are all three.
    """
    lines = [
        "| operation | tables | own | P90 | published | P90 | coverage | nearest device | P90 | coverage |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    families = dict(zip(OPS, ("gemm", "decode", "prefill", "moe"), strict=True))
    found: dict[str, list[tuple[dict[str, Any], ...]]] = {op: [] for op in OPS}
    for name in NEAREST:
        with tempfile.TemporaryDirectory() as place:
            own = SHIPPED / f"{DEVICES[name]}.toml"
            files = (own, published(name, coefficients, Path(place)), carried(name, Path(place)))
            in_all = set.intersection(*map(known, files))
            for op in OPS:
                rows = kernels.filter((pl.col("system") == name) & shapes(op))
                results = [tables(rows, path) for path in files]
                for group in set.intersection(*map(set, results)):
                    _, engine, dtype = (part.split("=")[1] for part in group.split(","))
                    if (families[op], engine, dtype) in in_all:
                        found[op].append(tuple(result[group] for result in results))
    for op, rows_of in found.items():
        own_, told, near = zip(*rows_of, strict=True)
        cells = [middle(own_, "median_ape"), middle(own_, "p90_ape")]
        for some in (told, near):
            cells += [middle(some, figure) for figure in ("median_ape", "p90_ape", "coverage")]
        lines.append("| " + " | ".join([op, str(len(rows_of)), *cells]) + " |")
    return "\n".join(lines)


def middle(rows: tuple[dict[str, Any], ...], figure: str) -> str:
    return f"{median(row[figure] for row in rows):.1f}"


if __name__ == "__main__":
    data = Path(sys.argv[1])
    kernels = pl.read_parquet(data / "kernels" / "gpu_kernels.parquet")
    coefficients = tomllib.loads((data / "efficiency" / "coefficients.toml").read_text())
    sys.stdout.write(compared(kernels, coefficients) + "\n")
