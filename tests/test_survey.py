"""The figures on the survey's page, from the commands that it shows, against the recorded ones."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "survey.md"
RECORDED = ROOT.parent / "shared" / "data" / "survey" / "cases.json"
# What the reproduction of the tool answers is the tool's own, to the last digits of a double.
EXACT = 1e-9


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    if not RECORDED.exists():
        pytest.skip(f"the recorded figures are not beside the repository: {RECORDED}")
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


@pytest.fixture
def figure(command: Callable[..., Any]) -> Callable[..., pl.DataFrame]:
    """Run the command that the page shows below a figure's name, as CSV: all digits of what it shows."""

    def run(name: str, place: int = 0) -> pl.DataFrame:
        below = PAGE.read_text().partition(f"**{name}**")[2] or PAGE.read_text().partition(f"**{name}.**")[2]
        lines = re.findall(r"^\$ roofline-fast (.*)$", below, flags=re.M)
        done = command(f"{lines[place]} --format csv --quiet")
        assert done.code == 0, done.err
        return pl.read_csv(io.StringIO(done.out))

    return run


def cells(frame: pl.DataFrame) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Yield the axes of a row, the name of a column and the value there."""
    axes = [name for name in frame.columns if name in ("phase", "batch_size", "input_len", "result")]
    for row in frame.iter_rows(named=True):
        for name in frame.columns:
            if name not in axes:
                yield {axis: row[axis] for axis in axes}, name, row[name]


def near(ours: float, theirs: float, tolerance: float = EXACT) -> bool:
    return ours == pytest.approx(theirs, rel=tolerance)


UNITS = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def test_table_1_is_the_surveys(figure: Callable[..., pl.DataFrame], recorded: dict[str, Any]) -> None:
    printed = recorded["survey_table1"]["as_printed"]
    names = {"o_proj": "out_proj", "norm": "attn_norm", "add": "attn_add"}
    checked = 0
    for place, phase in enumerate(("prefill", "decode")):
        rows = figure("Table 1", place).filter(pl.col("phase") == phase)
        for op, (*quantities, bound) in printed[phase].items():
            row = rows.filter(pl.col("op") == names.get(op, op)).row(0, named=True)
            columns = ("OPs", "memory_access", "arithmetic_intensity", "performance")
            for column, text in zip(columns, quantities, strict=True):
                size = UNITS.get(str(text)[-1], 1.0)
                digits = str(text).rstrip("KMGT")
                least = 10.0 ** -len(digits.partition(".")[2])
                # Half of the last digit printed.
                assert abs(row[column] / size - float(digits)) <= 0.5001 * least, (phase, op, column)
                checked += 1
            assert row["bound"] == bound
    assert checked == 24 * 4


def test_figure_7_is_the_surveys(figure: Callable[..., pl.DataFrame], recorded: dict[str, Any]) -> None:
    cases = recorded["survey_and_notebook_figures"]["survey_fig7_quant_memory_llama2_13b_A6000"]
    parts = {"weight": "memory_consumption_weight", "kv": "memory_consumption_kv_cache"}
    parts["act"] = "memory_consumption_tmp_act"
    held = {(tuple(at.values()), name): value for at, name, value in cells(figure("Figure 7", 1))}
    shares = {(tuple(at.values()), name): value for at, name, value in cells(figure("Figure 7"))}
    for case, values in cases.items():
        phase, batch, tokens, scheme = case.split("|")
        at = (phase, int(batch[1:]), int(tokens[1:]))
        for part, result in parts.items():
            assert near(held[(result, *at), scheme.lower()], values[part]), (case, part)
        assert near(shares[at, scheme.lower()], sum(values["rel"]), 1e-6), case


def test_figures_8_and_9_are_the_surveys(
    figure: Callable[..., pl.DataFrame], recorded: dict[str, Any]
) -> None:
    cases = recorded["survey_and_notebook_figures"]["survey_fig8_fig9_quant_time_llama2_13b_A6000"]
    for name, axis, kind in (
        ("Figure 8", "batch_size", "decode_vs_batch(s=1024)"),
        ("Figure 9", "input_len", "prefill_vs_seqlen(b=1)"),
    ):
        shown = {(at[axis], bits): value for at, bits, value in cells(figure(name))}
        for scheme, series in cases.items():
            for size, seconds in series[kind].items():
                assert near(shown.pop((int(size), scheme[1:])), seconds), (name, scheme, size)
        assert not shown


def test_figure_11_is_the_surveys(figure: Callable[..., pl.DataFrame], recorded: dict[str, Any]) -> None:
    cases = recorded["survey_and_notebook_figures"]["survey_fig11_kv_quant_memory_llama2_13b_decode_b1"]
    shown = {(at["input_len"], name): value for at, name, value in cells(figure("Figure 11"))}
    for case, values in cases.items():
        tokens, scheme = case.split("|")
        ours = shown.pop((int(tokens[1:]), scheme.lower()))
        # Shares are recorded with four decimals, three of them in a sum.
        assert abs(ours - sum(values["rel"])) < 1.5e-4, case
    assert not shown


def test_figure_16_is_printed_with_half_of_the_cache_and_corrected_with_all_of_it(
    figure: Callable[..., pl.DataFrame], recorded: dict[str, Any]
) -> None:
    cases = recorded["survey_and_notebook_figures"]
    cases = cases["survey_fig16_flashattention_reduction_percent_llama2_13b_A6000"]
    tool = {(*at.values(), name): value for at, name, value in cells(figure("Figure 16"))}
    corrected = {at["input_len"]: value for at, name, value in cells(figure("Figure 16", 2)) if name == "yes"}
    marked = re.findall(r"\*\(paper:\s([^)]*)%\)\*", PAGE.read_text())
    said = [float(text) for text in marked[0].split(",")]
    for tokens, from_the_text in zip((1000, 10_000, 100_000), said, strict=True):
        apart, fused = (tool["inference_time", tokens, name] for name in ("no", "yes"))
        halved = fused - tool["load_kv_cache", tokens, "yes"] / 2 / 768e9
        printed = cases["published(pre-472f71f)"][f"b1s{tokens}"]["decode"][1]
        assert round(100 * (1 - halved / apart), 2) == printed == from_the_text
        # The proposal's formulas count the new token's key and norms otherwise: within 0.015 points.
        proposed = cases["pr27 formulas"][f"b1s{tokens}"]["decode"][1]
        assert abs(100 * (1 - corrected[tokens]) - proposed) < 0.015


def test_figure_18_are_the_ridges(figure: Callable[..., pl.DataFrame], recorded: dict[str, Any]) -> None:
    cases = recorded["survey_and_notebook_figures"]["survey_fig18_offloading_ridges"]
    peak, device, ddr, processor, link = (
        float(figure("Figure 18", place)["value"].item()) for place in range(5)
    )
    # The catalogue shows six digits.
    assert near(device, cases["GPU HBM ridge"], 1e-5)
    assert near(peak * 1e12 / (ddr * 1e9), cases["DDR(89.6GB/s)+GPU compute ridge"])
    assert near(processor, cases["DDR + CPU 13900k ridge"], 1e-5)
    assert link > 2 * peak * 1e12 / (ddr * 1e9)


def test_figure_19_is_the_surveys(figure: Callable[..., pl.DataFrame], recorded: dict[str, Any]) -> None:
    cases = recorded["survey_and_notebook_figures"]["survey_fig19_parallel_serving_llama2_13b_A6000_w8a8kv8"]
    names = {"latency": 1.0, "throughput": 1.0, "memory_GB": 1e9}
    results = dict(zip(("inference_time", "throughput", "memory_consumption"), names.items(), strict=True))
    seen = 0
    for at, tokens, value in cells(figure("Figure 19")):
        name, size = results[at["result"]]
        assert near(value / size, cases[f"s{tokens}|b{at['batch_size']}"][name]), (at, tokens)
        seen += 1
    assert seen == 3 * len(cases)


def test_figure_20_is_the_surveys(figure: Callable[..., pl.DataFrame], recorded: dict[str, Any]) -> None:
    cases = recorded["survey_and_notebook_figures"][
        "survey_fig20_bandwidth_llama2_13b_decode_b1_s1024_200TFLOPS"
    ]
    shown = {round(1000 * float(name)): value for _, name, value in cells(figure("Figure 20", 2))}
    for bandwidth, seconds in cases.items():
        # Ours reads the key of the new token as well, and writes no norms: a few parts in ten thousand.
        assert near(shown[int(bandwidth)], seconds, 1e-3), bandwidth


def test_figure_6_turns_where_the_tools_table_does(
    figure: Callable[..., pl.DataFrame], recorded: dict[str, Any]
) -> None:
    cases = recorded["survey_and_notebook_figures"]["turning_points_OPs_per_byte"]["nvidia_A6000"]
    ridges = dict(figure("Figure 6").select("field", "value").iter_rows())
    for name in ("FP16", "INT8"):
        assert near(ridges[f"ridge.device.{name.lower()}"], cases[name], 1e-5)
