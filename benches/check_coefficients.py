"""Hold efficiency files that were imported to the times that the published coefficients give.

`python benches/check_coefficients.py coefficients.toml [DEVICE ...]` prints, for each fit, how far its predictions lie
from the published form's on a grid of shapes whose data do not stay in a cache.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import polars as pl
import roofline_fast as rf
from import_coefficients import ATTENTION, BANDWIDTH, DEVICES, DTYPES, TARGET
from published import decode_rows, gemm_rows, moe_rows, prefill_rows

FAMILIES = {
    "gemm": ("gemm", DTYPES, gemm_rows),
    "decode_attn": ("generation_attention", ATTENTION, decode_rows),
    "prefill_attn": ("context_attention", ATTENTION, prefill_rows),
    "moe": ("moe", DTYPES, moe_rows),
}


def main(path: str, wanted: list[str]) -> None:
    table = tomllib.loads(Path(path).read_text())
    for name, hardware in table["hardware_used_in_fit"].items():
        device = DEVICES[name]
        if wanted and device not in wanted:
            continue
        cold = hardware | {"L2": 0.0, "B": hardware["B"] / BANDWIDTH.get(device, 1.0) * 1.0}
        cold["B"] = hardware["B"]
        for family, (op, dtypes, rows_of) in FAMILIES.items():
            for engine, known in table.get(family, {}).get(name, {}).items():
                for dtype, c in known.items():
                    if dtype not in dtypes or c.get("host_bound"):
                        continue
                    ours = dtypes[dtype]
                    frame = pl.DataFrame(rows_of(c, cold, ours), infer_schema_length=None)
                    plain = dtype if family in ("gemm", "moe") else dtype.split(":")[0]
                    frame = frame.with_columns(
                        op=pl.lit(op), backend=pl.lit(engine), dtype=pl.lit(plain), copies=pl.lit(1e6)
                    )
                    errors = rf.validate(frame, device, efficiency=TARGET / f"{device}.toml").errors
                    row = errors.row(0, named=True)
                    said = f"{row['median_ape']:6.1f}{row['p90_ape']:7.1f}{row['bias']:+7.1f}"
                    sys.stdout.write(f"{device:<22}{engine:<8}{family:<14}{ours:<20}{row['n']:>5}{said}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
