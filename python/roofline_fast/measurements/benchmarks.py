"""The kernels worth measuring on a new device, and a script that measures them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.hardware import Hardware

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
# In 8 bits, where a device multiplies in them.
FP8_GEMMS = [
    (16, 1024, 1024),
    (16, 16384, 8192),
    (512, 4096, 4096),
    (4096, 8192, 8192),
    (16, 4096, 14336),
    (64, 28672, 4096),
    (256, 10240, 8192),
    (1024, 14336, 4096),
    (2048, 4096, 2048),
    (8192, 4096, 4096),
    (16384, 4096, 14336),
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
# Sequences, new tokens, keys (those of a cached prefix among them), query heads, KV heads.
PREFILLS = [
    (1, 64, 64, 32, 8),
    (1, 512, 512, 32, 8),
    (1, 2048, 2048, 32, 8),
    (1, 8192, 8192, 32, 8),
    (1, 16384, 16384, 8, 1),
    (8, 128, 128, 32, 8),
    (8, 1024, 1024, 32, 8),
    (32, 256, 256, 32, 8),
    (64, 64, 64, 32, 8),
    (4, 2048, 2048, 64, 8),
    (2, 4096, 4096, 8, 8),
    (16, 512, 512, 16, 2),
    (1, 1024, 1024, 4, 1),
    (4, 4096, 4096, 32, 32),
    (128, 128, 128, 8, 1),
    (2, 8192, 8192, 16, 4),
    (1, 512, 8192, 32, 8),
    (1, 2048, 32768, 32, 8),
    (8, 256, 4096, 32, 8),
    (32, 64, 2048, 16, 2),
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
# Collectives over this many bytes, between as many devices as run the script.
EXCHANGES = [
    *(("nccl_all_reduce", 2**power) for power in (14, 18, 20, 22, 24, 28)),
    *(("nccl_all_gather", 2**power) for power in (16, 20, 24, 28)),
]
HEAD_DIM = 128
# What the loop over copies of a kernel's data leaves behind it.
CACHE_BYTES = 256 * 2**20


def benchmarks(hw: Hardware | None = None) -> pl.DataFrame:
    """Return the kernels worth measuring, one row each, in the columns that `calibrate` reads.

    Parameters
    ----------
    hw : Hardware, optional
        The device: what it cannot do is left out. Without one, multiplications in 16 bits and attention.

    Examples
    --------
    >>> import roofline_fast as rf, roofline_fast.measurements.benchmarks as b
    >>> b.benchmarks().height, b.benchmarks(rf.Hardware("h100-sxm")).height
    (58, 80)
    """
    import polars as pl

    rows: list[dict[str, int | str]] = [{"op": "gemm", "m": m, "n": n, "k": k} for m, n, k in GEMMS]
    if has_fp8(hw):
        rows += [{"op": "gemm", "dtype": "fp8", "m": m, "n": n, "k": k} for m, n, k in FP8_GEMMS]
    rows += [
        {"op": "generation_attention", "batch": b, "q_len": 1, "kv_len": kv, "heads": h, "kv_heads": g}
        for b, kv, h, g in DECODES
    ]
    rows += [
        {"op": "context_attention", "batch": b, "q_len": q, "kv_len": kv, "heads": h, "kv_heads": g}
        for b, q, kv, h, g in PREFILLS
    ]
    rows += [{"op": "add", "m": tokens, "n": width} for tokens, width in PASSES]
    ranks = devices(hw)
    if ranks > 1:
        rows += [{"op": op, "num_gpus": ranks, "message_bytes": size} for op, size in EXCHANGES]
    frame = pl.DataFrame([{"dtype": "bf16", **row} for row in rows], infer_schema_length=None)
    attention = frame["op"].str.ends_with("attention")
    return frame.select("op", "dtype", pl.exclude("op", "dtype")).with_columns(
        head_dim=pl.when(attention).then(HEAD_DIM), kv_dtype=pl.lit("bf16")
    )


def has_fp8(hw: Hardware | None) -> bool:
    """Return whether a device multiplies in 8-bit floating point."""
    return fact(hw, "tensor.dense.fp8") > 0


def devices(hw: Hardware | None) -> int:
    """Return how many devices the collectives are measured between, at most 8."""
    return min(8, int(fact(hw, "link.scale_up.domain")))


def fact(hw: Hardware | None, field: str) -> float:
    """Return a number of a datasheet, bytes in MiB; nothing where it is not known."""
    facts = {} if hw is None else {row["field"]: row for row in hw.facts.to_dicts()}
    known = facts.get(field, {"value": None, "unit": None})
    if known["value"] is None:
        return 0.0
    return float(known["value"]) * {"KiB": 1 / 1024, "GiB": 1024.0}.get(known["unit"], 1.0)


def script(hw: Hardware, engine: str) -> str:
    """Return a program that measures them with PyTorch alone and writes a CSV that `calibrate` reads."""
    template = (Path(__file__).parent / "bench_script.txt").read_text()
    cache = max(CACHE_BYTES, int(2.5 * fact(hw, "memory.l2.capacity")) * 2**20)
    tables = {
        "GEMMS": GEMMS,
        "FP8_GEMMS": FP8_GEMMS if has_fp8(hw) else [],
        "DECODES": DECODES,
        "PREFILLS": PREFILLS,
        "PASSES": PASSES,
        "EXCHANGES": EXCHANGES,
        "CACHE_BYTES": cache,
    }
    text = "".join(f"{name} = {value!r}\n" for name, value in tables.items())
    return template.replace("DEVICE_NAME", hw.name).replace("ENGINE_NAME", engine).replace("# TABLES\n", text)
