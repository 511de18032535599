"""Times that the forms of a table of published coefficients give, over grids of shapes of every family."""

from __future__ import annotations

from itertools import product
from typing import Any

MICRO, NANO = 1e-6, 1e-9
# Bytes of a weight and of an activation, and the peak they are multiplied at.
FORMATS = {
    "bf16": (2.0, 2.0, "P16"),
    "fp8": (1.0, 1.0, "P8"),
    "fp8_block": (1.0, 1.0, "P8"),
    "nvfp4": (0.5625, 0.5625, "P4"),
    "int8_wo": (1.0, 2.0, "P16"),
    "int4_wo": (0.53, 2.0, "P16"),
    "int8_sq": (1.0, 1.0, "P8"),
    "mxfp4": (0.53125, 2.0, "P16"),
    "mxfp4_mxfp8": (0.53125, 1.0, "P8"),
}
Rows = list[dict[str, Any]]


def gemm_rows(c: dict[str, Any], hardware: dict[str, float], dtype: str) -> Rows:
    """Return multiplications over a grid of shapes, as the published form times them."""
    weight, activation, peak = FORMATS[dtype]
    rows = []
    for m, n, k in product((1, 16, 64, 256, 1024, 4096, 16384), (1024, 4096, 16384), (1024, 4096, 16384)):
        depth = k + 100 * c["k0_100"]
        tile = c["w_tile"] * 2 * 128 * 128 * depth * hardware["SM"]
        compute = (2 * max(m, 16) * n * depth + tile) / (hardware[peak] * c["ec"])
        traffic = (weight * n * k + activation * m * k + 2 * m * n) / (hardware["B"] * c["em"])
        quantise = c.get("c_quant", 0.0) * (2 + activation) * m * k / hardware["B"]
        latency = c["t0_us"] * MICRO + (compute**4 + traffic**4) ** 0.25 + quantise
        rows.append({"m": m, "n": n, "k": k, "latency_s": latency})
    return rows


def prefill_rows(c: dict[str, Any], hardware: dict[str, float], dtype: str) -> Rows:
    """Return prompts over a grid of shapes, as the published form times them."""
    rows = []
    peak = "P8" if dtype.startswith("fp8") else "P16"
    element = 1 if "fp8" in dtype else 2
    windows = [128, 1024] if dtype.endswith("window") else [0]
    heads = [(8, 1, 128), (8, 8, 128), (32, 8, 128), (32, 8, 64)]
    lengths = [128, 512, 2048, 8192, 32768]
    for n, length, (query, kv, width), window in product((1, 4, 16), lengths, heads, windows):
        if n * length > 65536:
            continue
        seen = min(length, window or length)
        visible = seen * (seen + 1) / 2 + (length - seen) * seen + 64 * c.get("tile_pad", 0.0) * length
        score = 2 * (2 * width + 100 * c["x0_100"])
        rate = hardware[peak] * c["ec"]
        compute = score * n * query * visible / rate
        item = score * 128 * min(length, (window or length) + 128) * hardware["SM"] / rate
        moved = n * length * 2 * width * (query * 2 + kv * element)
        latency = c["t0_us"] * MICRO + compute + c["w_item"] * item + c["c_mem"] * moved / hardware["B"]
        shape = {"batch": n, "q_len": length, "kv_len": length, "heads": query, "kv_heads": kv}
        kv_dtype = "fp8" if "fp8" in dtype else "bfloat16"
        rows.append(shape | {"head_dim": width, "window": window, "kv_dtype": kv_dtype, "latency_s": latency})
    return rows


def decode_rows(c: dict[str, Any], hardware: dict[str, float], dtype: str) -> Rows:
    """Return decode attention over a grid of shapes, as the published form times it."""
    rows = []
    element = 1 if dtype.startswith("fp8") else 2
    windows = [128, 1024, 4096] if dtype.endswith("window") else [0]
    sequences = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    contexts = [128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072]
    heads = [(2, 1, 64), (8, 1, 128), (8, 2, 64), (32, 8, 128), (8, 8, 128), (32, 32, 128)]
    for n, context, (query, kv, width), window in product(sequences, contexts, heads, windows):
        keys = n * min(context, window or context)
        cache = keys * kv * 2 * width * element
        if cache > 60e9:
            continue
        gain = c.get("l2_hot", 1.0) if cache < hardware["L2"] else 1.0
        waves = max(n * kv / hardware["SM"] - 1, 0)
        traffic = cache / (hardware["B"] * gain * c["em"])
        compute = 4 * query * width * keys / (hardware["P16"] * c["ec"])
        chain = c.get("s_ns_per_tok", 0.0) * NANO * keys / n
        rows.append(
            {
                "batch": n,
                "kv_len": context,
                "heads": query,
                "kv_heads": kv,
                "head_dim": width,
                "window": window,
                "kv_dtype": "fp8" if element == 1 else "bfloat16",
                "latency_s": c["t0_us"] * MICRO
                + c["c_wave_us"] * MICRO * waves
                + max(traffic, compute, chain),
            }
        )
    return rows


def mla_decode_rows(c: dict[str, Any], hardware: dict[str, float], dtype: str) -> Rows:
    """Return decode attention over latents over a grid of shapes, as the published form times it."""
    rows = []
    element = 1 if dtype.startswith("fp8") else 2
    sequences, contexts = [2**power for power in range(9)], [2**power for power in range(7, 18)]
    for n, context, heads in product(sequences, contexts, (8, 16, 32, 64, 128)):
        if n * context > 2**23:
            continue
        blocks = -(-heads // 64)
        padded = heads + c["head_pad"] * (64 * blocks - heads)
        traffic = n * context * 576 * element / (hardware["B"] * c["em"])
        compute = 2 * n * padded * context * 1088 / (hardware["P16"] * c["ec"])
        waves = max(n * blocks / hardware["SM"] - 1, 0)
        latency = (c["t0_us"] + c["c_wave_us"] * waves) * MICRO + (traffic**4 + compute**4) ** 0.25
        shape = {"batch": n, "q_len": 1, "kv_len": context, "heads": heads}
        rows.append(shape | {"kv_dtype": "fp8" if element == 1 else "bfloat16", "latency_s": latency})
    return rows


def routed(tokens: int, experts: int, top_k: int, alpha: float) -> list[float]:
    """Return the visits of each expert under a power law, as the published fits counted them."""
    visits = tokens * top_k
    least, most = (1.0, tokens * 0.8) if visits > experts else (0.01, 2.0)
    low, high = (bound ** (1 - alpha) for bound in (least, max(most, least * 1.01)))
    drawn = [((high - low) * (place + 0.5) / experts + low) ** (1 / (1 - alpha)) for place in range(experts)]
    loads = sorted((float(round(load / sum(drawn) * visits)) for load in drawn), reverse=True)
    for place in range(int(visits - sum(loads))):
        loads[place % experts] += 1
    return loads


def moe_rows(c: dict[str, Any], hardware: dict[str, float], dtype: str) -> Rows:
    """Return experts over a grid of shapes, as the published form times them."""
    weight, _, peak = FORMATS[dtype]
    models = [(4096, 14336, 8, 2), (5120, 8192, 16, 1), (2880, 2880, 32, 4), (2048, 768, 128, 8)]
    models += [(4096, 1536, 128, 8), (6144, 2560, 160, 8), (7168, 2048, 256, 8), (4096, 1024, 512, 10)]
    rows = []
    for power, (hidden, inner, experts, top_k), tp, alpha in product(range(15), models, (1, 4), (1.01, 1.2)):
        m = 2**power
        if inner // tp < 128:
            continue
        loads = routed(m, experts, top_k, alpha)
        small, large = (sum(-(-load // tile) * tile for load in loads) for tile in (64, 128))
        padded = small + c["tile128_share"] * (large - small)
        elements = 3 * hidden * (inner // tp)
        compute = 2 * padded * elements / (hardware[peak] * c["ec"])
        active = sum(load > 0 for load in loads)
        traffic = active * elements * weight / (hardware["B"] * c["em"])
        joined = max(compute, traffic) * (1 + (min(compute, traffic) / max(compute, traffic)) ** c["p"]) ** (
            1 / c["p"]
        )
        passes = c["c_act"] * 2 * m * top_k * (2 * hidden + 3 * inner // tp) / hardware["B"]
        rows.append(
            {
                "m": m,
                "hidden": hidden,
                "inter": inner,
                "moe_tp": tp,
                "experts": experts,
                "topk": top_k,
                "distribution": f"power_law_{alpha}",
                "latency_s": c["t0_us"] * MICRO
                + joined
                + passes
                + c.get("t_expert_ns", 0.0) * NANO * experts,
            }
        )
    return rows
