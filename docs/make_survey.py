"""Print the survey's figures as tables: ``python docs/make_survey.py figure-8``.

Figures 7, 8, 9, 11, 19, 20 and Table 1 come from the reproduction of the survey's own tool (``compat``), 5 and
18 from ridges, 6 from `break_even`, 16 from both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import roofline_fast as rf

MODEL = "llama-2-13b"
DEVICE = "nvidia_A6000"
LAYERS = 40
SCHEMES = {
    "FP16": (16, 16, 16),
    "W4": (4, 16, 16),
    "KV4": (16, 16, 4),
    "KV2": (16, 16, 2),
    "W4KV4": (4, 16, 4),
    "W4A4": (4, 4, 4),
}
# Peak and bandwidth of the tool's A6000, and the bandwidth of its table's i9-13900K.
PEAK, BANDWIDTH, DDR = 154.8e12, 768e9, 89.6e9


def viewer(phase: str, batch: int, tokens: int, bits: tuple[int, int, int], **more: Any) -> Any:
    """Ask the reproduction of the survey's tool."""
    weight, activation, cache = bits
    return rf.analyze(
        more.pop("model", MODEL),
        DEVICE,
        compat="llm-viewer",
        phase=phase,
        batch_size=batch,
        input_len=tokens,
        w_bits=weight,
        a_bits=activation,
        kv_bits=cache,
        **more,
    )


def totals(phase: str, batch: int, tokens: int, bits: tuple[int, int, int]) -> dict[str, float]:
    """Return the tool's totals of a phase."""
    return dict(viewer(phase, batch, tokens, bits).totals[phase])


def table_1() -> list[list[str]]:
    """One layer of Llama-2-7b, 2,048 tokens, one sequence, 16 bits."""
    rows = [["phase", "operator", "OPs", "bytes", "OP/B", "bound"]]
    for phase in ("prefill", "decode"):
        ops = viewer(phase, 1, 2048, (16, 16, 16), model="llama-2-7b").ops
        for op in ops.filter(ops["phase"] == phase).iter_rows(named=True):
            if op["op"] in ("mlp_norm", "mlp_add", "mlp_act", "lm_head"):
                continue
            sizes = [f"{op[name] / 1e6:,.0f} M" for name in ("OPs", "memory_access")]
            rows.append([phase, op["op"], *sizes, f"{op['arithmetic_intensity']:,.2f}", op["bound"]])
    return rows


def figure_5() -> list[list[str]]:
    """List what an operator can reach by its operations a byte: the roofline of 16 bits."""
    rows = [["OP/B", "TFLOP/s", "bound"]]
    for intensity in (1, 10, 50, 100, PEAK / BANDWIDTH, 500, 1000):
        reached = min(PEAK, intensity * BANDWIDTH)
        bound = "compute" if intensity * BANDWIDTH >= PEAK else "memory"
        rows.append([f"{intensity:,.0f}", f"{reached / 1e12:.1f}", bound])
    return rows


def figure_6() -> list[list[str]]:
    """List the turning points of linear layers by what weights are stored and multiplied in."""
    rows = [["weights", "multiplied in", "compute-bound from tokens"]]
    formats = [(str(bits), "FP16", f"weight-quant:bits={bits}") for bits in (16, 8, 4, 2, 1)]
    formats += [("8", "INT8", "weight-quant:bits=8+activation-quant:format=int8")]
    for bits, multiplied, techniques in formats:
        answers = rf.break_even(MODEL, "a6000", techniques=techniques)
        tokens = answers.filter(name="compute_bound_from")["value"].item()
        rows.append([f"{bits} bit", multiplied, f"{tokens:.1f}"])
    return rows


def figure_7() -> list[list[str]]:
    """List what lies in memory, decode at 1,024 tokens, shares of FP16."""
    rows = [["batch", *SCHEMES]]
    for batch in (1, 16, 64):
        whole = totals("decode", batch, 1024, SCHEMES["FP16"])["memory_consumption"]
        shares = [
            totals("decode", batch, 1024, bits)["memory_consumption"] / whole for bits in SCHEMES.values()
        ]
        rows.append([str(batch), *(f"{100 * share:.1f} %" for share in shares)])
    return rows


def weight_only(sizes: Sequence[int], ask: Callable[[int, int], float], what: str) -> list[list[str]]:
    """Milliseconds for weights of fewer bits."""
    rows = [[what, *(f"W{bits}" for bits in (16, 8, 4, 2, 1))]]
    for size in sizes:
        rows.append([str(size), *(f"{1e3 * ask(size, bits):.2f}" for bits in (16, 8, 4, 2, 1))])
    return rows


def figure_8() -> list[list[str]]:
    """Milliseconds of a decode step at 1,024 tokens over the batch."""

    def ask(batch: int, bits: int) -> float:
        return totals("decode", batch, 1024, (bits, 16, 16))["inference_time"]

    return weight_only((1, 8, 16, 32, 63), ask, "batch")


def figure_9() -> list[list[str]]:
    """Milliseconds of a prefill of one sequence over its length."""

    def ask(tokens: int, bits: int) -> float:
        return totals("prefill", 1, tokens, (bits, 16, 16))["inference_time"]

    return weight_only((16, 32, 64, 128, 256, 512, 1023), ask, "tokens")


def figure_11() -> list[list[str]]:
    """List what a quantized cache leaves in memory: decode of one sequence, shares of FP16."""
    rows = [["tokens", "FP16", "W4", "KV4", "W4KV4"]]
    for tokens in (1000, 10_000, 50_000, 100_000):
        whole = totals("decode", 1, tokens, SCHEMES["FP16"])["memory_consumption"]
        shares = [
            totals("decode", 1, tokens, SCHEMES[name])["memory_consumption"] / whole for name in rows[0][1:]
        ]
        rows.append([f"{tokens:,}", *(f"{100 * share:.1f} %" for share in shares)])
    return rows


def figure_16() -> list[list[str]]:
    """List what one attention kernel saves of a decode step, percent: as printed, and corrected."""
    rows = [["tokens", "with K or V alone", "with both"]]
    for tokens in (1000, 10_000, 100_000):
        halved = seconds(tokens, flash=True, share=0.5, version="@472f71f")
        before = seconds(tokens, flash=False, share=1.0, version="@472f71f")
        own = [
            rf.analyze(MODEL, "a6000", input_len=tokens, mode="ideal", flash_attention=flash).step_s
            for flash in (False, True)
        ]
        rows.append(
            [f"{tokens:,}", f"{100 * (1 - halved / before):.2f}", f"{100 * (1 - own[1] / own[0]):.2f}"]
        )
    return rows


def seconds(tokens: int, *, flash: bool, share: float, version: str = "") -> float:
    """Return a decode step of the tool when it loads `share` of the keys and values."""
    ops = rf.analyze(
        MODEL,
        DEVICE,
        compat=f"llm-viewer{version}",
        phase="decode",
        input_len=tokens,
        flash_attention=flash,
    ).ops
    total = 0.0
    for op in ops.filter(ops["phase"] == "decode").iter_rows(named=True):
        moved = op["memory_access"]
        if op["op"] == "fused_attention":
            moved -= (1 - share) * op["load_kv_cache"]
        total += (1 if op["op"] == "lm_head" else LAYERS) * max(op["OPs"] / PEAK, moved / BANDWIDTH)
    return total


def figure_18() -> list[list[str]]:
    """List ridges of a device and of the links behind it: PCIe counts, which the figure omits."""
    ridges = [("HBM", BANDWIDTH), ("host DDR (as the figure)", DDR), ("PCIe 4.0 x16 (in between)", 32e9)]
    return [["link", "FLOP/B"], *([name, f"{PEAK / bandwidth:,.0f}"] for name, bandwidth in ridges)]


def figure_19() -> list[list[str]]:
    """Price a decode step at 1,024 tokens with everything in 8 bits."""
    rows = [["batch", "latency ms", "tokens/s", "memory GB"]]
    for batch in (1, 16, 64):
        found = totals("decode", batch, 1024, (8, 8, 8))
        latency, memory = found["inference_time"], found["memory_consumption"]
        rows.append([str(batch), f"{1e3 * latency:.2f}", f"{batch / latency:,.0f}", f"{memory / 1e9:.1f}"])
    return rows


def figure_20() -> list[list[str]]:
    """Price a decode step at 1,024 tokens on 200 TFLOP/s, over the bandwidth."""
    ops = viewer("decode", 1, 1024, (16, 16, 16)).ops
    decode = ops.filter(ops["phase"] == "decode").to_dicts()
    rows = [["GB/s", "ms"]]
    for gb_s in (500, 1000, 2000, 4000, 8000):
        total = sum(
            (1 if op["op"] == "lm_head" else LAYERS)
            * max(op["OPs"] / 200e12, op["memory_access"] / (gb_s * 1e9))
            for op in decode
        )
        rows.append([f"{gb_s:,}", f"{1e3 * total:.2f}"])
    return rows


TABLES: dict[str, Callable[[], list[list[str]]]] = {
    "table-1": table_1,
    "figure-5": figure_5,
    "figure-6": figure_6,
    "figure-7": figure_7,
    "figure-8": figure_8,
    "figure-9": figure_9,
    "figure-11": figure_11,
    "figure-16": figure_16,
    "figure-18": figure_18,
    "figure-19": figure_19,
    "figure-20": figure_20,
}


def main(arguments: Sequence[str]) -> None:
    """Print the tables named, or all of them."""
    from roofline_fast.cli.figures import table

    for name in arguments or TABLES:
        rows = TABLES[name]()
        lines = table(rows[0], rows[1:], left=(0, 1) if name in ("table-1", "figure-6") else (0,))
        sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
