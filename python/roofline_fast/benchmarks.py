"""The kernels worth measuring on a new device, and a script that measures them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# Corners of what serving meets and a walk between them: launches, bandwidth, compute, tails, the cache.
GEMMS = [
    (1, 1024, 1024),
    (16, 16384, 8192),
    (512, 4096, 4096),
    (4096, 8192, 8192),
    (1, 16384, 16384),
    (8, 4096, 14336),
    (64, 28672, 4096),
    (128, 4096, 4096),
    (256, 10240, 8192),
    (1024, 1024, 8192),
    (1024, 14336, 4096),
    (2048, 4096, 1024),
    (2048, 28672, 4096),
    (8192, 4096, 4096),
    (8192, 512, 4096),
    (16384, 4096, 14336),
    (32, 128256, 4096),
    (96, 6144, 5120),
    (384, 2048, 2048),
    (768, 5120, 25600),
]
# Sequences, context, query heads, KV heads.
DECODES = [
    (1, 1024, 32, 8),
    (128, 4096, 32, 8),
    (256, 256, 32, 8),
    (1, 65536, 8, 1),
    (8, 8192, 32, 8),
    (32, 2048, 64, 8),
    (64, 512, 32, 32),
    (512, 1024, 8, 1),
    (4, 32768, 32, 4),
    (16, 128, 16, 2),
]
# Sequences, new tokens, query heads, KV heads.
PREFILLS = [
    (1, 64, 32, 8),
    (1, 512, 32, 8),
    (1, 2048, 32, 8),
    (1, 8192, 32, 8),
    (1, 16384, 8, 1),
    (8, 128, 32, 8),
    (8, 1024, 32, 8),
    (32, 256, 32, 8),
    (64, 64, 32, 8),
    (4, 2048, 64, 8),
    (2, 4096, 8, 8),
    (16, 512, 16, 2),
    (1, 1024, 4, 1),
    (4, 4096, 32, 32),
    (128, 128, 8, 1),
    (1, 4096, 64, 64),
    (2, 8192, 16, 4),
    (16, 2048, 8, 2),
    (1, 256, 128, 8),
    (256, 64, 8, 2),
]
# Elements read and written by an elementwise pass: tokens, width.
PASSES = [
    (1, 4096),
    (16, 8192),
    (64, 4096),
    (256, 14336),
    (512, 4096),
    (1024, 8192),
    (4096, 4096),
    (8192, 8192),
]
HEAD_DIM = 128


def benchmarks() -> pl.DataFrame:
    """Return the kernels worth measuring, one row each, in the columns that `calibrate` reads.

    Examples
    --------
    >>> import roofline_fast.benchmarks as b
    >>> b.benchmarks().height
    58
    """
    import polars as pl

    rows = [{"op": "gemm", "m": m, "n": n, "k": k} for m, n, k in GEMMS]
    rows += [
        {"op": "generation_attention", "batch": b, "q_len": 1, "kv_len": kv, "heads": h, "kv_heads": g}
        for b, kv, h, g in DECODES
    ]
    rows += [
        {"op": "context_attention", "batch": b, "q_len": q, "kv_len": q, "heads": h, "kv_heads": g}
        for b, q, h, g in PREFILLS
    ]
    rows += [{"op": "add", "m": tokens, "n": width} for tokens, width in PASSES]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    attention = frame["op"].str.ends_with("attention")
    return frame.with_columns(
        head_dim=pl.when(attention).then(HEAD_DIM), dtype=pl.lit("bf16"), kv_dtype=pl.lit("bf16")
    )


def script(device: str, engine: str) -> str:
    """Return a program that measures them with PyTorch alone and writes a CSV that `calibrate` reads."""
    template = (Path(__file__).parent / "bench_script.txt").read_text()
    tables = f"GEMMS = {GEMMS!r}\nDECODES = {DECODES!r}\nPREFILLS = {PREFILLS!r}\nPASSES = {PASSES!r}\n"
    return (
        template.replace("DEVICE_NAME", device).replace("ENGINE_NAME", engine).replace("# TABLES\n", tables)
    )
