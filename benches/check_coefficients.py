"""Hold efficiency files that were imported to the times that the published coefficients give.

`python benches/check_coefficients.py coefficients.toml [DEVICE ...]` prints, for each fit, how far its predictions lie
from the published form's on a grid of shapes whose data do not stay in a cache.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import roofline_fast as rf
from import_coefficients import ATTENTION, DEVICES, DTYPES, TARGET
from published import decode_rows, gemm_rows, moe_rows, prefill_rows

FAMILIES = {
    "gemm": ("gemm", DTYPES, gemm_rows),
    "decode_attn": ("generation_attention", ATTENTION, decode_rows),
    "prefill_attn": ("context_attention", ATTENTION, prefill_rows),
    "moe": ("moe", DTYPES, moe_rows),
}


def rows_of(
    c: dict[str, Any], family: str, engine: str, dtype: str, hardware: dict[str, float]
) -> pl.DataFrame:
    """Return kernels over a grid of shapes, as a published fit times them where nothing stays in a cache."""
    op, dtypes, form = FAMILIES[family]
    frame = pl.DataFrame(form(c, hardware | {"L2": 0.0}, dtypes[dtype]), infer_schema_length=None)
    plain = dtype if family in ("gemm", "moe") else dtype.split(":")[0]
    names = {"op": op, "backend": engine, "dtype": plain, "copies": 1e6}
    return frame.with_columns(**{name: pl.lit(value) for name, value in names.items()})


def fits(table: dict[str, Any], family: str, name: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Return the published fits of a family on a device: engine, dtype and numbers."""
    for engine, known in table.get(family, {}).get(name, {}).items():
        for dtype, c in known.items():
            if dtype in FAMILIES[family][1] and not c.get("host_bound"):
                yield engine, dtype, c


def published(table: dict[str, Any], family: str, device: str, dtypes: set[str]) -> pl.DataFrame:
    """Return kernels of every fit of a family on a device, of number formats that are known elsewhere."""
    name = next(name for name, known in DEVICES.items() if known == device)
    hardware = table["hardware_used_in_fit"][name]
    frames = [
        rows_of(c, family, engine, dtype, hardware)
        for engine, dtype, c in fits(table, family, name)
        if FAMILIES[family][1][dtype] in dtypes
    ]
    return pl.concat(frames, how="diagonal_relaxed")


def main(path: str, wanted: list[str]) -> None:
    table = tomllib.loads(Path(path).read_text())
    for name, hardware in table["hardware_used_in_fit"].items():
        device = DEVICES[name]
        if wanted and device not in wanted:
            continue
        for family in FAMILIES:
            for engine, dtype, c in fits(table, family, name):
                frame = rows_of(c, family, engine, dtype, hardware)
                errors = rf.validate(frame, device, efficiency=TARGET / f"{device}.toml").errors
                row = errors.row(0, named=True)
                said = f"{row['median_ape']:6.1f}{row['p90_ape']:7.1f}{row['bias']:+7.1f}"
                sys.stdout.write(f"{device:<22}{engine:<8}{family:<14}{dtype:<20}{row['n']:>5}{said}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
