"""Results across an axis, another tool's among them; operators under a roof; fields of a device."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest
import roofline_fast as rf
from roofline_fast.cli import analyze_chart

OURS = "sweep -m llama-3.1-8b --hw h100-sxm --mode ideal --quiet"
TOOL = "sweep -m llama-2-7b --hw nvidia_A6000 --compat llm-viewer --quiet"


def test_a_table_holds_what_the_sweep_holds(command: Callable[..., Any]) -> None:
    line = f"{OURS} --keep all --tp 1,2 -b 1,8,512 --input-len 128,4096 --columns step_s,bound"
    long = pl.read_csv(io.StringIO(command(f"{line} --format csv").out))
    wide = json.loads(command(f"{line} --format json --across batch-size").out)
    assert (wide["points"], wide["across"]) == (12, "batch_size")
    seen = 0
    for result, rows in wide["tables"].items():
        for row in rows:
            for batch in (1, 8, 512):
                at = long.filter(tp=row["tp"], input_len=row["input_len"], batch_size=batch)
                assert at[result].item() == row[str(batch)]
                seen += 1
    assert seen == 2 * long.height


def test_shares_are_of_the_first_column(command: Callable[..., Any]) -> None:
    line = f"{OURS} -b 1,8 --with none,weight-quant:bits=8,weight-quant:bits=4 --across with --format csv"
    plain, shares = (pl.read_csv(io.StringIO(command(f"{line}{more}").out)) for more in ("", " --relative"))
    first, *others = [name for name in plain.columns if name != "batch_size"]
    assert shares[first].to_list() == [1.0, 1.0]
    for name in others:
        assert shares[name].to_list() == (plain[name] / plain[first]).to_list()
        assert (shares[name] < 1).all()


def test_a_result_that_was_dropped_is_empty(command: Callable[..., Any]) -> None:
    line = f"{OURS} -b 1,256 --input-len 1024,16384 --across batch-size"
    table = command(line)
    assert "1  does not fit in memory (batch_size 256 at input_len 16384)" in table.out
    row = table.out.splitlines()[-1].split()
    assert row[0] == "16,384"
    assert row[-1] == "–"


def test_rows_stand_in_the_order_of_the_axes_whatever_is_kept(command: Callable[..., Any]) -> None:
    line = f"{OURS} --hw h100-sxm,l40s --tp 1,2 -b 64,1,16 --pareto tokens_per_gpu_s,tokens_per_user_s"
    rows = json.loads(command(f"{line.replace('--hw h100-sxm ', '', 1)} --across tp --format json").out)
    (rows,) = rows["tables"].values()
    order = [("h100-sxm", "l40s").index(row["hw"]) * 3 + (64, 1, 16).index(row["batch_size"]) for row in rows]
    assert order == sorted(order)
    assert len(order) > 2


def test_a_simulated_sweep_shows_the_figures_it_has(command: Callable[..., Any]) -> None:
    line = (
        "sweep --simulate -m llama-3.1-8b --hw h100-sxm --axis num_prompts=5 --isl 64 --osl 8 -r 2,8 --quiet"
    )
    out = command(f"{line} --across request-rate").out
    assert "mean_tpot_ms, by request_rate" in out
    assert "request_goodput" not in out
    assert "request_goodput, by request_rate" in command(f"{line} --across request-rate --slo tpot:50").out


def test_long_values_have_letters_and_a_legend(command: Callable[..., Any]) -> None:
    values = [f"spec:method=eagle,gamma={gamma},accept=0.7" for gamma in (1, 2, 3)]
    out = command(f"{OURS} -b 1,8 --with {','.join(values)} --columns tpot_s --across with").out
    for letter, value in zip("ABC", values, strict=True):
        assert f"  {letter}  {value}" in out
    assert "batch_size     A     B     C" in out


def test_times_below_a_millisecond_are_shown_in_microseconds(command: Callable[..., Any]) -> None:
    out = command("sweep -m llama-3.2-1b --hw b200-sxm --mode ideal --tp 1,8 --quiet --across tp").out
    assert "step_s, us, by tp" in out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{OURS} -b 1,8 --across tp", "no axis of several values is called `tp`"),
        (f"{OURS} --across tp", "--across must name an axis of several values: tp"),
        (f"{OURS} -b 1:27 --across batch-size", "--across must name an axis of at most 26 values"),
        (f"{OURS} -b 1:200 --input-len 1:100 --tp 1,2 --across tp", "at most 10,000 points: 40,000"),
        (f"{OURS} -b 1,8 --columns bound --across batch-size --relative", "must be asked of numbers: bound"),
        (f"{OURS} -b 1,8 --relative", "--across must be given with --relative"),
        (f"{OURS} -b 1,8 --across batch-size -o out", "--output must be left out with --across"),
        (f"{OURS} -b 1,8 --across batch-size --columns nothing", "no column is called `nothing`"),
        (f"{TOOL} -b 1,8 -o out", "--output must be left out with --compat"),
        (f"{TOOL} -b 1,8 --keep all", "--keep must be left out with --compat"),
        (f"{TOOL} -b 1,8 --top 3", "--top must be left out with --compat"),
        (f"{TOOL} -b 1,8 --slo ttft:5", "--slo must be left out with --compat"),
        (f"{TOOL} --kv-cache-dtype fp8", "no axis is called `kv_cache_dtype`"),
        (f"{TOOL} -q w4a", "quantization must be a scheme of the survey with --compat: w4a"),
        (f"{TOOL} -q w4 --w-bits 4", "w_bits must be left out with quantization"),
        (f"{TOOL} --columns step_s", "no column is called `step_s`"),
        (f"{TOOL} --phase chat", "no phase is called `chat`"),
        ("sweep -m llama-2-7b --hw nvidia_A600 --compat llm-viewer", "nearest: nvidia_A6000"),
        ("sweep --hw nvidia_A6000 --compat llm-viewer", "model must be given"),
        ("analyze llama-2-7b --hw a6000 --compat llm-viewer --roofline", "--roofline must be left out"),
        ("break-even llama-3.1-8b --hw h100-sxm -b 1,2", "batch_size must be one number: 1,2"),
        ("break-even llama-3.1-8b --hw h100-sxm --input-len 1:4", "input_len must be one number: 1:4"),
        ("break-even llama-3.1-8b --hw h100-sxm --map -b 0,1", "batch_size must be at least 1: 0"),
        ("catalog hardware --field ridge", "NAME must be given with --field"),
        ("catalog hardware h100 --field rigde", "nearest: ridge."),
    ],
)
def test_what_does_not_go_together_is_said(line: str, said: str, command: Callable[..., Any]) -> None:
    done = command(line)
    assert done.code == 2
    assert said in done.err
    assert not done.out


def test_the_tools_totals_are_those_of_analyze() -> None:
    axes = {"model": "llama-2-7b", "hw": "a6000", "w_bits": [16, 4], "batch_size": [1, 4], "phase": "prefill"}
    rows = rf.sweep(axes, compat="llm-viewer@472f71f").collect()
    assert rows.height == 4
    for row in rows.iter_rows(named=True):
        asked = {"batch_size": row["batch_size"], "w_bits": row["w_bits"]}
        one = rf.analyze("llama-2-7b", "a6000", phase="prefill", compat="llm-viewer@472f71f", **asked)
        totals = one.totals["prefill"]
        assert {name: row[name] for name in totals} == totals
        assert row["throughput"] == row["batch_size"] / totals["inference_time"]


def test_schemes_of_the_survey_are_bits() -> None:
    axes = {"model": "llama-2-7b", "hw": "a6000"}
    schemes = rf.sweep({**axes, "quantization": ["fp16", "w4", "kv4", "w4a4"]}, compat="llm-viewer").collect()
    bits = [{}, {"w_bits": 4}, {"kv_bits": 4}, {"w_bits": 4, "a_bits": 4}]
    each = [rf.sweep({**axes, **said}, compat="llm-viewer").collect() for said in bits]
    assert schemes["memory_consumption"].to_list() == [one["memory_consumption"].item() for one in each]


def test_what_the_tool_refuses_is_dropped_with_its_reason(command: Callable[..., Any]) -> None:
    line = "sweep -m llama-2-7b --hw intel_13900k --compat llm-viewer -q fp16,w8a8 --across quantization"
    done = command(f"{line} --quiet")
    assert done.code == 0
    assert "INT8" in done.out
    assert done.out.splitlines()[-1].split()[-1] == "–"
    assert command(line.replace("fp16,w8a8", "w8a8,w4a4")).code == 3


def test_nothing_of_ours_is_asked_of_the_tool() -> None:
    axes = {"model": "llama-2-7b", "hw": "a6000"}
    for more in ({"keep": "all"}, {"objectives": ["step_s"]}, {"limits": {}}, {"launch": "eager"}):
        with pytest.raises(rf.SpecError, match="must be left out with compat"):
            rf.sweep(axes, compat="llm-viewer", **more)  # type: ignore[arg-type]


def test_operators_lie_on_the_roof_in_ideal_mode_and_below_it_otherwise() -> None:
    for mode in ("ideal", "predicted"):
        answer = rf.analyze("llama-3.1-8b", "h100-sxm", batch_size=8, mode=mode)
        lines = analyze_chart.chart(answer)
        shares = [line.split("%")[0].split()[-1] for line in lines[-6:]]
        assert all((share == "100") == (mode == "ideal") for share in shares)
        assert lines[0].startswith("  roof of H100-SXM: 990 TFLOP/s (bf16), 3,350 GB/s, ridge 295 FLOP/B")


@pytest.mark.parametrize("mode", ["ideal", "predicted"])
@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "mamba-2.8b"])
def test_a_roof_is_drawn_of_every_kind_of_model(model: str, phase: str, mode: str) -> None:
    answer = rf.analyze(
        model, "b200-sxm", phase=phase, mode=mode, quantization="fp8" if model[0] == "l" else None
    )
    lines = analyze_chart.chart(answer)
    drawn = [line.partition("│")[2] for line in lines if "│" in line]
    assert len(drawn) == analyze_chart.HEIGHT
    assert all(len(line) <= analyze_chart.WIDTH for line in drawn)


def test_a_picture_has_a_circle_an_operator_and_a_roof_a_format(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "roof.svg"
    done = command(f"analyze llama-3.1-8b --hw h100-sxm -q fp8 -b 32 -o {file}")
    assert done.code == 0, done.err
    drawn = ElementTree.parse(file).getroot()
    ops = rf.analyze("llama-3.1-8b", "h100-sxm", quantization="fp8", batch_size=32).ops
    multiplied = ops.filter(ops["flops"] > 0)["op"].to_list()
    assert len(drawn.findall(".//{*}circle/{*}title")) == len(multiplied)
    texts = [text.text or "" for text in drawn.findall(".//{*}text")]
    assert {"fp8: 1,979", "bf16: 990"} <= set(texts)
    assert len([path for path in drawn.findall(".//{*}path") if path.get("class") == "roof"]) == 2
    listed = [text.split(":")[0] for text in texts if "of the time" in text]
    assert sorted(listed) == sorted(multiplied)


@pytest.mark.parametrize(
    "line",
    [
        "analyze llama-2-7b --hw a6000 --compat llm-viewer -o roof.svg",
        "compare base tp=2 -m llama-2-7b --hw a6000 -o roof.svg",
    ],
)
def test_only_a_roofline_is_a_picture(line: str, command: Callable[..., Any]) -> None:
    done = command(line)
    assert done.code == 2
    assert "--output must end in one of .parquet, .csv, .jsonl, .json, .html: roof.svg" in done.err


def test_chips_that_work_as_one_have_one_roof() -> None:
    asked = {"techniques": "spatial:chips=144,gb-s=100", "mode": "ideal"}
    lines = analyze_chart.chart(rf.analyze("llama-2-7b", "groq-lpu", **asked))  # type: ignore[arg-type]
    assert "11,520,000 GB/s" in lines[0]
    assert all("100 %" in line for line in lines[-6:])


def test_a_comparison_says_where_both_lie_under_the_roof(command: Callable[..., Any]) -> None:
    out = command("compare base with=weight-quant:bits=4 -m llama-3.1-8b --hw h100-sxm --mode ideal").out
    rows = {line[:15].strip(): line.split() for line in out.splitlines()}
    sides = [
        rf.analyze("llama-3.1-8b", "h100-sxm", mode="ideal", techniques=with_)
        for with_ in (None, "weight-quant:bits=4")
    ]
    assert rows["FLOP"][-2:] == ["±0", "%"]
    for place, side in enumerate(sides):
        assert float(rows["FLOP/B"][1 + place]) == pytest.approx(side.totals["gpu"]["intensity"], abs=0.005)
        assert float(rows["GiB held"][2 + place]) == pytest.approx(
            side.memory["memory_bytes"] / 2**30, abs=0.05
        )
        assert int(rows["seqs that fit"][3 + place]) == side.memory["engine_sequences"]


def test_equal_sides_take_as_long(command: Callable[..., Any]) -> None:
    out = command("compare base base -m llama-3.1-8b --hw h100-sxm").out
    assert "\nB takes as long\n" in out
    assert "by resource  no difference" in out


def test_many_times_more_is_told_as_times(command: Callable[..., Any]) -> None:
    out = command("compare base 'batch_size=32' -m llama-3.1-8b --hw h100-sxm --mode ideal").out
    (flops,) = [line.split() for line in out.splitlines() if line.startswith("  FLOP  ")]
    assert flops[-1] == "32.0x"


def test_a_map_is_of_the_sizes_that_are_asked_for(command: Callable[..., Any], tmp_path: Path) -> None:
    line = "break-even llama-3.1-8b --hw h100-sxm --map"
    table = command(f"{line} -b 512,1 --input-len 128:8192:x8").out.splitlines()
    assert table[0] == "Llama-3.1-8B · bf16 weights, bf16 KV · 1x H100-SXM · ideal times"
    assert table[4].split() == ["batch", "\\", "context", "128", "1,024", "8,192"]
    assert [row.split()[0] for row in table[5:]] == ["1", "512"]
    file = tmp_path / "map.toml"
    file.write_text("batch_size = [1, 512]\ninput_len = [128, 1024, 8192]\n")
    assert command(f"{line} -c {file}").out.splitlines() == table
    steps = rf.sweep(
        {
            "model": "llama-3.1-8b",
            "hw": "h100-sxm",
            "mode": "ideal",
            "batch_size": [1, 512],
            "input_len": "128:8192:x8",
        },
        keep="all",
    ).collect()
    mapped = json.loads(command(f"{line} -b 512,1 --input-len 128:8192:x8 --format json").out)
    assert [row["bound"] for row in mapped] == steps.sort("batch_size", "input_len")["bound"].to_list()


def test_ridges_are_peaks_over_bandwidths(command: Callable[..., Any]) -> None:
    rows = pl.read_csv(io.StringIO(command("catalog hardware h100 --field ridge.device --format csv").out))
    ridges = dict(rows.select("field", "value").iter_rows())
    assert ridges["ridge.device.bf16"] == pytest.approx(989.5e12 / 3.35e12, rel=1e-5)
    assert ridges["ridge.device.fp8"] == pytest.approx(1979e12 / 3.35e12, rel=1e-5)


def test_a_devices_file_is_listed_like_a_name(command: Callable[..., Any]) -> None:
    out = command("catalog hardware examples/what-if.toml --field ridge").out
    assert "ridge.device.fp16  200    FLOP/B" in out
