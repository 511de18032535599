"""Write efficiency files of devices without measurements at hand, from a table of published coefficients.

`python benches/import_coefficients.py coefficients.toml [DEVICE ...]`; all of them unless named. Numbers are
carried into the forms of `roofline_core::efficiency::form`; terms a published form lacks are zero.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "rust" / "core" / "data" / "efficiency"
SOURCE = "derived from NVIDIA aiconfigurator's measured kernels (Apache-2.0), published coefficients of the same forms"
DATE = "2026-11-23"
DEVICES = {
    "a100_sxm": "a100-80gb-sxm",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "b200_sxm": "b200-sxm",
    "gb200": "gb200",
    "b300_sxm": "b300-sxm",
    "gb300": "gb300",
    "l40s": "l40s",
    "rtx_pro_6000_server": "rtx-pro-6000-server",
    "b60": "arc-pro-b60",
}
ARCHITECTURES = {
    "ampere": "ampere",
    "hopper": "hopper",
    "blackwell": "blackwell",
    "ada": "ada",
    "blackwell_rtx": "blackwell-rtx",
    "xe2": "xe2",
}
DTYPES = {
    "bfloat16": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8_block",
    "nvfp4": "nvfp4",
    "int8_wo": "int8_wo",
    "int4_wo": "int4_wo",
    "sq": "int8_sq",
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_mxfp8": "mxfp4_mxfp8",
    "bf16": "bf16",
}
ATTENTION = {
    "bfloat16:full": "bf16",
    "bfloat16:win": "bf16-window",
    "bfloat16:full:fp8": "bf16-fp8kv",
    "fp8:full": "fp8",
    "bfloat16": "bf16",
    "fp8": "fp8",
}
COLLECTIVES = {
    "nccl_all_reduce": "all_reduce",
    "nccl_all_gather": "all_gather",
    "nccl_reduce_scatter": "reduce_scatter",
    "nccl_alltoall": "all_to_all",
}
# The catalogue keeps another bandwidth than the one these numbers were fitted with: shares of it are carried over.
BANDWIDTH = {"rtx-pro-6000-server": 1792e9 / 1597e9}
MICRO, NANO = 1e-6, 1e-9


def between(value: float, least: float, most: float) -> float:
    return min(max(float(value), least), most)


def gemm(c: dict[str, Any], memory: float) -> dict[str, float]:
    return {
        "t0_s": c["t0_us"] * MICRO,
        "ec": c["ec"],
        "em": between(c["em"] * memory, 0.02, 1.0),
        "k0": 100 * c["k0_100"],
        "w_tile": c["w_tile"],
        "c_quant": c.get("c_quant", 0.0),
    }


def decode(c: dict[str, Any], memory: float) -> dict[str, float]:
    return {
        "t0_s": c["t0_us"] * MICRO,
        "c_wave_s": c["c_wave_us"] * MICRO,
        "em": between(c["em"] * memory, 0.02, 1.0),
        "ec": between(c["ec"], 0.005, 1.5),
        "per_key_s": c.get("s_ns_per_tok", 0.0) * NANO,
        "split_s": 0.0,
        "split_eff": 1.0,
    }


def prefill(c: dict[str, Any], memory: float) -> dict[str, float]:
    return {
        "t0_s": c["t0_us"] * MICRO,
        "ec": c["ec"],
        "x0": 100 * c["x0_100"],
        "w_item": c["w_item"],
        "c_mem": c["c_mem"],
        "c_kv": c["c_mem"],
        "tile_pad": c.get("tile_pad", 0.0),
    }


def mla_prefill(c: dict[str, Any], memory: float) -> dict[str, float]:
    numbers = prefill(c, memory)
    del numbers["c_kv"]
    return numbers


def mla_decode(c: dict[str, Any], memory: float) -> dict[str, float]:
    return {
        "t0_s": c["t0_us"] * MICRO,
        "c_wave_s": c["c_wave_us"] * MICRO,
        "em": between(c["em"] * memory, 0.02, 1.0),
        "ec": between(c["ec"], 0.005, 1.5),
        "head_pad": between(c["head_pad"], 0.0, 1.0),
        "per_key_s": 0.0,
        "split_s": 0.0,
        "split_eff": 1.0,
    }


def moe(c: dict[str, Any], memory: float) -> dict[str, float]:
    return {
        "t0_s": c["t0_us"] * MICRO,
        "ec": c["ec"],
        "em": between(c["em"] * memory, 0.02, 1.0),
        "c_act": c["c_act"],
        "p": c["p"],
        # The published form pads every expert to whole tiles of 64 to 128 rows, ours by half a tile.
        "tile": between(96 + 32 * c["tile128_share"], 16.0, 128.0),
        "per_expert_s": between(c.get("t_expert_ns", 0.0) * NANO, 0.0, 1e-6),
    }


def nccl(c: dict[str, Any], memory: float) -> dict[str, float]:
    return {
        "a0_s": c["a0_us"] * MICRO,
        "a1_s": c["a1_us_per_peer"] * MICRO,
        "eff": c["eff"],
        "ramp_s": c["ramp_us_sqrtMB"] * MICRO,
    }


def custom_all_reduce(c: dict[str, Any], memory: float) -> dict[str, float]:
    return {
        "a0_s": c["a0_us"] * MICRO,
        "a1_s": c["a1_us_per_peer"] * MICRO,
        "eff_one_shot": c["eff_oneshot"],
        "d_s": c["d_us"] * MICRO,
        "eff_two_shot": c["eff_twoshot"],
    }


def passes(c: dict[str, Any], memory: float) -> dict[str, float]:
    return {"t0_s": c["t0_us"] * MICRO, "passes": c["passes"]}


FAMILIES = {
    "gemm": ("gemm", DTYPES, gemm),
    "decode_attn": ("decode", ATTENTION, decode),
    "prefill_attn": ("prefill", ATTENTION, prefill),
    "mla_decode": ("mla_decode", ATTENTION, mla_decode),
    "mla_prefill": ("mla_prefill", ATTENTION, mla_prefill),
    "moe": ("moe", DTYPES, moe),
    "custom_allreduce": ("custom_all_reduce", DTYPES, custom_all_reduce),
    **{name: ("nccl", {"half": kind}, nccl) for name, kind in COLLECTIVES.items()},
}


def number(value: float) -> str:
    text = f"{value:.5g}"
    return text if any(mark in text for mark in ".e") else f"{text}.0"


def text_of(engine: str, family: str, dtype: str, numbers: dict[str, float], c: dict[str, Any]) -> str:
    lines = ["", "[[fit]]", f'engine = "{engine}"', f'version = "{c.get("version", "")}"']
    lines += [f'family = "{family}"', f'dtype = "{dtype}"']
    lines += [f"{name} = {number(value)}" for name, value in numbers.items()]
    lines += [f"l2_hot = {number(c.get('l2_hot', 1.0))}"]
    if "error_q" in c:
        lines += [f"error_q = [{', '.join(number(q) for q in sorted(c['error_q']))}]"]
    errors = {"med_ape": "median_ape", "mape": "mape", "p90_ape": "p90_ape", "bias": "bias"}
    lines += [
        f"{ours} = {number(c[theirs])}" for theirs, ours in errors.items() if theirs in c and "error_q" in c
    ]
    if "n_test" in c:
        lines += [f"held_out = {c['n_test']}"]
    remark = "blind: as published" + ("; low confidence" if c.get("low_confidence") else "")
    if c.get("host_bound"):
        remark += "; measured eagerly, host-bound"
    lines += [f'source = "{SOURCE}"', f'date = "{DATE}"', f'remark = "{remark}"']
    return "\n".join(lines) + "\n"


def families_of(table: dict[str, Any], device: str) -> list[str]:
    memory = BANDWIDTH.get(DEVICES[device], 1.0)
    fits = []
    for name, (family, dtypes, numbers) in FAMILIES.items():
        for engine, entries in table.get(name, {}).get(device, {}).items():
            for dtype, c in entries.items():
                if dtype in dtypes and not c.get("host_bound"):
                    fits.append(text_of(engine, family, dtypes[dtype], numbers(c, memory), c))
    for engine, kinds in table.get("quantise", {}).get(device, {}).items():
        for kind, family in (("computescale", "compute_scale"), ("scale_matrix", "scale_matrix")):
            if kind in kinds:
                fits.append(text_of(engine, family, "bf16", passes(kinds[kind], memory), kinds[kind]))
    return fits


def defaults_of(table: dict[str, Any]) -> list[str]:
    fits = []
    for name, (family, dtypes, numbers) in FAMILIES.items():
        for dtype, c in table["default"].get(name, {}).items():
            if dtype in dtypes and not c.get("host_bound"):
                fits.append(text_of("any", family, dtypes[dtype], numbers(c, 1.0), c))
    fused = table["elementwise"]["default_fused"]
    for family in ("elementwise", "state"):
        fits.append(text_of("any", family, "bf16", passes(fused, 1.0), {}))
    scales = {"scale_matrix": {"t0_us": 2.0, "passes": 1.0}, "compute_scale": {"t0_us": 2.0, "passes": 1.0}}
    fits += [text_of("any", family, "bf16", passes(c, 1.0), {}) for family, c in scales.items()]
    host = {"h0_s": 0.66e-3, "h1_s": 0.0}
    return [*fits, text_of("any", "host", "bf16", host, {})]


def head(device: str, architecture: str, facts: dict[str, float]) -> str:
    lines = ["schema = 1", f'device = "{device}"', f'architecture = "{architecture}"', "", "[datasheet]"]
    return "\n".join([*lines, *(f"{name} = {number(value)}" for name, value in facts.items())]) + "\n"


def main(path: str, wanted: list[str]) -> None:
    table = tomllib.loads(Path(path).read_text())
    for name, hardware in table["hardware_used_in_fit"].items():
        device = DEVICES[name]
        if wanted and device not in wanted:
            continue
        architecture = ARCHITECTURES[hardware["arch"]]
        if device in {"b300-sxm", "gb300"}:
            architecture = "blackwell-ultra"
        facts = {
            "peak16": hardware["P16"],
            "bandwidth": hardware["B"],
            "sm": hardware["SM"],
            "l2": hardware["L2"],
        }
        text = head(device, architecture, facts) + "".join(families_of(table, name))
        (TARGET / f"{device}.toml").write_text(text)
    if not wanted or "any" in wanted:
        (TARGET / "any.toml").write_text(head("any", "any", {}) + "".join(defaults_of(table)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
