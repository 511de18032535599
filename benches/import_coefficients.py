"""Write efficiency files of devices without measurements at hand, from a table of published coefficients.

`python benches/import_coefficients.py coefficients.toml [DEVICE ...]`; all of them unless named. Numbers are
carried into the forms of `roofline_core::efficiency::form`, exactly where the published form is a special case of ours;
attention, but of latent prompts, and experts are fitted anew to the times that the published forms give.
"""

from __future__ import annotations

import sys
import tomllib
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import roofline_fast as rf
from published import decode_rows, mla_decode_rows, moe_rows, prefill_rows

TARGET = Path(__file__).parent.parent / "rust" / "core" / "data" / "efficiency"
SOURCE = "published coefficients of these forms, from NVIDIA aiconfigurator's measured kernels (Apache-2.0)"
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
# The catalogue keeps another bandwidth than these were fitted with: shares of it grow, passes through it shrink.
BANDWIDTH = {"rtx-pro-6000-server": 1792e9 / 1597e9}
# Rates of exponentials that the catalogue tells apart and the published fits hold in their width of a score.
EXPONENTIALS = {"b300-sxm": 2.0, "gb300": 2.0}
# Whose measurements, of the same collector, tell the ranges of shapes that were measured.
LIKE = {"h200-sxm": "h100-sxm", "gb200": "b200-sxm", "b300-sxm": "b200-sxm", "gb300": "b200-sxm"}
LIKE |= {"rtx-pro-6000-server": "l40s", "arc-pro-b60": "l40s"}
# Shapes outside these were not among the published fits' rows.
LEAST = {"gemm": {"n": 512.0, "k": 512.0}, "decode": {"context": 128.0}}
# How much of a log-normal scatter lies below its middle error: P90 over the median of its size.
NINTH = 1.2816 / 0.6745
# Whose measurements tell what of experts' passes is over visits to other devices: one device's experts do not.
SIBLINGS = {"h200-sxm": "h100-sxm", "gb200": "b200-sxm", "b300-sxm": "b200-sxm", "gb300": "b200-sxm"}
SIBLINGS |= {"any": "b200-sxm", "rtx-pro-6000-server": "l40s"}
# Families whose published form is no case of ours: what it is of, and its times.
GRIDS = {
    "decode": ("generation_attention", decode_rows),
    "mla_decode": ("generation_mla", mla_decode_rows),
    "moe": ("moe", moe_rows),
    "prefill": ("context_attention", prefill_rows),
}
# Devices with measurements at hand.
MEASURED = ("a100-80gb-sxm", "h100-sxm", "b200-sxm", "l40s")
MICRO = 1e-6


def between(value: float, least: float, most: float) -> float:
    return min(max(float(value), least), most)


def gemm(c: dict[str, Any], memory: float, device: str) -> dict[str, float]:
    return {
        "t0_s": c["t0_us"] * MICRO,
        "ec": c["ec"],
        "em": between(c["em"] * memory, 0.02, 1.0),
        "k0": 100 * c["k0_100"],
        "w_tile": c["w_tile"],
        "c_quant": c.get("c_quant", 0.0) / memory,
    }


def mla_prefill(c: dict[str, Any], memory: float, device: str) -> dict[str, float]:
    return {
        "t0_s": c["t0_us"] * MICRO,
        "ec": c["ec"],
        "x0": 100 * c["x0_100"] * EXPONENTIALS.get(device, 1.0),
        "w_item": c["w_item"],
        "c_mem": c["c_mem"] / memory,
        "tile_pad": c.get("tile_pad", 0.0),
    }


def nccl(c: dict[str, Any], memory: float, device: str) -> dict[str, float]:
    return {
        "a0_s": c["a0_us"] * MICRO,
        "a1_s": c["a1_us_per_peer"] * MICRO,
        "eff": c["eff"],
        "ramp_s": c["ramp_us_sqrtMB"] * MICRO,
        "shared": 0.0,
    }


def custom_all_reduce(c: dict[str, Any], memory: float, device: str) -> dict[str, float]:
    return {
        "a0_s": c["a0_us"] * MICRO,
        "a1_s": c["a1_us_per_peer"] * MICRO,
        "eff_one_shot": c["eff_oneshot"],
        "d_s": c["d_us"] * MICRO,
        "eff_two_shot": c["eff_twoshot"],
        "shared": 0.0,
        "host_s": 0.0,
    }


def passes(c: dict[str, Any], memory: float = 1.0) -> dict[str, float]:
    return {"t0_s": c["t0_us"] * MICRO, "passes": c["passes"] / memory}


def plain_of(family: str, dtype: str) -> str:
    """Return what a kernel multiplies in, as measurements name it."""
    if family == "moe":
        return next(name for name, ours in DTYPES.items() if ours == dtype)
    return "fp8" if family == "prefill" and dtype.startswith("fp8") else "bfloat16"


class Refitted:
    """Numbers of our forms, fitted to the times that published forms give."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, str, str, str], dict[str, float]] = {}

    def learn(
        self, device: str, family: str, entries: dict[tuple[str, str], Any], hardware: dict[str, float]
    ) -> None:
        """Fit ours to all of one family's published fits of a device."""
        op, rows_of = GRIDS[family]
        frames = []
        for (engine, dtype), c in entries.items():
            plain = plain_of(family, dtype)
            # Nothing stays in a cache: what loops gain there is no part of what is carried over.
            frame = pl.DataFrame(rows_of(c, hardware | {"L2": 0.0}, dtype), infer_schema_length=None)
            names = {"op": op, "backend": engine, "dtype": plain, "copies": 1e6}
            frames.append(frame.with_columns(**{name: pl.lit(value) for name, value in names.items()}))
        hw = "b200-sxm" if device == "any" else device
        text = rf.calibrate(pl.concat(frames), hw, prior=False).files[hw]
        for fit in tomllib.loads(text)["fit"]:
            numbers = {name: fit[name] for name in names_of(fit)}
            if family == "moe":
                elsewhere = share_elsewhere(device, fit["engine"], fit["dtype"])
                passes = numbers["c_act"] + numbers["c_token"]
                numbers |= {"c_act": (1 - elsewhere) * passes, "c_token": elsewhere * passes}
            self.numbers[device, fit["engine"], family, fit["dtype"]] = numbers


def share_elsewhere(device: str, engine: str, dtype: str) -> float:
    """Return what share of experts' passes is over all visits, by the device that was measured with them spread."""
    if device not in SIBLINGS:
        return 0.0
    fits = tomllib.loads((TARGET / f"{SIBLINGS[device]}.toml").read_text())["fit"]
    for fit in fits:
        alike = (fit["family"], fit["engine"], fit["dtype"]) == ("moe", engine, dtype)
        if alike and fit["c_act"] + fit["c_token"] > 0:
            return fit["c_token"] / (fit["c_act"] + fit["c_token"])
    return 0.0


def names_of(fit: dict[str, Any]) -> list[str]:
    """Return the names of a fit's numbers: those between its dtype and its errors."""
    keys = list(fit)
    return keys[keys.index("dtype") + 1 : keys.index("error_q")]


FAMILIES = {
    "gemm": ("gemm", DTYPES, gemm),
    "decode_attn": ("decode", ATTENTION, None),
    "prefill_attn": ("prefill", ATTENTION, None),
    "mla_decode": ("mla_decode", ATTENTION, None),
    "mla_prefill": ("mla_prefill", ATTENTION, mla_prefill),
    "moe": ("moe", DTYPES, None),
    "custom_allreduce": ("custom_all_reduce", DTYPES, custom_all_reduce),
    **{name: ("nccl", {"half": kind}, nccl) for name, kind in COLLECTIVES.items()},
}


def number(value: float) -> str:
    text = f"{value:.5g}"
    return text if any(mark in text for mark in ".e") else f"{text}.0"


@cache
def known(device: str) -> list[dict[str, Any]]:
    """Return the fits of a device's file."""
    return tomllib.loads((TARGET / f"{device}.toml").read_text())["fit"]


def valid_of(device: str, family: str, dtype: str) -> dict[str, tuple[float, float]]:
    """Return the ranges of shapes measured, as the devices of the same collector's measurements tell them."""
    ranges: dict[str, tuple[float, float]] = {}
    for like in [LIKE[device]] if device in LIKE else MEASURED:
        for fit in known(like):
            if (fit["family"], fit["dtype"]) != (family, dtype):
                continue
            for name, (least, most) in fit.get("valid", {}).items():
                low, high = ranges.get(name, (least, most))
                ranges[name] = (min(low, least), max(high, most))
    floors = LEAST.get(family, {})
    return {name: (max(low, floors.get(name, low)), high) for name, (low, high) in ranges.items()}


def quantiles_of(c: dict[str, Any], family: str, dtype: str) -> list[float]:
    """Return measured over predicted at P05, P10, P50, P90, P95: published, of a median error, or what is typical."""
    if "error_q" in c:
        return sorted(c["error_q"])
    if "med_ape" in c:
        wide = 1 + NINTH * c["med_ape"] / 100
        wider = wide**1.2835
        return [1 / wider, 1 / wide, 1.0, wide, wider]
    fits = [fit for device in MEASURED for fit in known(device) if fit["family"] == family]
    alike = [fit["error_q"] for fit in fits if fit["dtype"] == dtype and "error_q" in fit]
    return [median(known) for known in zip(*alike, strict=True)]


def text_of(
    device: str, engine: str, family: str, dtype: str, numbers: dict[str, float], c: dict[str, Any]
) -> str:
    lines = ["", "[[fit]]", f'engine = "{engine}"', f'version = "{c.get("version", "")}"']
    lines += [f'family = "{family}"', f'dtype = "{dtype}"']
    lines += [f"{name} = {number(value)}" for name, value in numbers.items()]
    if "l2_hot" not in numbers:
        lines += [f"l2_hot = {number(c.get('l2_hot', 1.0))}"]
    quantiles = quantiles_of(c, family, dtype)
    if quantiles:
        lines += [f"error_q = [{', '.join(number(q) for q in quantiles)}]"]
    errors = {"med_ape": "median_ape", "mape": "mape", "p90_ape": "p90_ape", "bias": "bias"}
    lines += [
        f"{ours} = {number(c[theirs])}" for theirs, ours in errors.items() if theirs in c and "error_q" in c
    ]
    if "n_test" in c:
        lines += [f"held_out = {c['n_test']}"]
    ranges = valid_of(device, family, dtype)
    if ranges:
        told = ", ".join(
            f"{name} = [{number(least)}, {number(most)}]" for name, (least, most) in ranges.items()
        )
        lines += [f"valid = {{ {told} }}"]
    remark = "blind: as published" + ("; low confidence" if c.get("low_confidence") else "")
    if "error_q" not in c and quantiles:
        remark += "; band " + ("of its median error" if "med_ape" in c else "as of measured devices")
    if c.get("host_bound"):
        remark += "; measured eagerly, host-bound"
    lines += [f'source = "{SOURCE}"', f'date = "{DATE}"', f'remark = "{remark}"']
    return "\n".join(lines) + "\n"


def fits_of(
    table: dict[str, Any], device: str, engines: dict[str, Any], hardware: dict[str, float]
) -> list[str]:
    """Return the fits of one device; `engines` are the entries of each published family by engine and dtype."""
    memory = BANDWIDTH.get(device, 1.0)
    fits = []
    refitted = Refitted()
    for name, (family, dtypes, numbers) in FAMILIES.items():
        entries = {
            (engine, dtypes[dtype]): c
            for engine, known in engines.get(name, {}).items()
            for dtype, c in known.items()
            if dtype in dtypes and not c.get("host_bound")
        }
        if numbers is None and entries:
            refitted.learn(device, family, entries, hardware)
        for (engine, dtype), c in entries.items():
            key = (device, engine, family, dtype)
            ours = refitted.numbers[key] if numbers is None else numbers(c, memory, device)
            fits.append(text_of(device, engine, family, dtype, ours, c))
    return fits


def families_of(table: dict[str, Any], name: str, hardware: dict[str, float]) -> list[str]:
    engines = {family: table.get(family, {}).get(name, {}) for family in FAMILIES}
    return fits_of(table, DEVICES[name], engines, hardware) + quantise_of(table, name)


def quantise_of(table: dict[str, Any], name: str) -> list[str]:
    """Return the fits of kernels that quantise, of which no measurements are at hand for any device."""
    device = DEVICES[name]
    fits = []
    for engine, kinds in table.get("quantise", {}).get(name, {}).items():
        for kind, family in (("computescale", "compute_scale"), ("scale_matrix", "scale_matrix")):
            if kind in kinds:
                numbers = passes(kinds[kind], BANDWIDTH.get(device, 1.0))
                fits.append(text_of(device, engine, family, "bf16", numbers, kinds[kind]))
    return fits


def with_quantise(text: str, fits: list[str]) -> str:
    """Return a file of measured fits with other fits of kernels that quantise."""
    start, *kept = text.split("\n[[fit]]\n")
    own = [block for block in kept if "_scale" not in block and "scale_matrix" not in block]
    blocks = [start, *own]
    return "\n[[fit]]\n".join(blocks).rstrip("\n") + "\n" + "".join(fits)


def defaults_of(table: dict[str, Any]) -> list[str]:
    engines = {family: {"any": table["default"].get(family, {})} for family in FAMILIES}
    fits = fits_of(table, "any", engines, table["hardware_used_in_fit"]["b200_sxm"])
    fused = passes(table["elementwise"]["default_fused"])
    fits.append(text_of("any", "any", "elementwise", "bf16", fused | {"clocks": 0.0}, {}))
    fits.append(text_of("any", "any", "state", "bf16", fused, {}))
    for family in ("scale_matrix", "compute_scale"):
        fits.append(text_of("any", "any", family, "bf16", passes({"t0_us": 2.0, "passes": 1.0}), {}))
    host = {"h0_s": 0.66e-3, "h1_s": 0.0}
    return [*fits, text_of("any", "any", "host", "bf16", host, {})]


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
            "bandwidth": hardware["B"] / BANDWIDTH.get(device, 1.0),
            "sm": hardware["SM"],
            "l2": hardware["L2"],
        }
        path_of = TARGET / f"{device}.toml"
        if device in MEASURED:
            path_of.write_text(with_quantise(path_of.read_text(), quantise_of(table, name)))
            continue
        text = head(device, architecture, facts) + "".join(families_of(table, name, hardware))
        path_of.write_text(text)
    if not wanted or "any" in wanted:
        (TARGET / "any.toml").write_text(head("any", "any", {}) + "".join(defaults_of(table)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
