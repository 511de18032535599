"""Predictions: modes, bands, switches and files of fits, in every command alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf

FITS = Path(__file__).parent.parent / "rust" / "core" / "data" / "efficiency"
TRACE = {"arrival_s": [0.0, 0.1, 0.2], "prompt_tokens": [900, 200, 50], "output_tokens": [10, 20, 5]}


def step(**asked: Any) -> rf.Analysis:
    return rf.analyze("llama-3.1-8b", "h100-sxm", **{"batch_size": 32, **asked})


def serve(**asked: Any) -> rf.Simulation:
    return rf.simulate(rf.Trace(**TRACE), **{"model": "llama-3.1-8b", "hw": "h100-sxm", **asked})


def test_an_ideal_roofline_has_no_band_and_is_the_one_beside_the_prediction() -> None:
    ideal, predicted = step(mode="ideal"), step()
    assert (ideal.source, ideal.low_s, ideal.high_s) == ("datasheet", None, None)
    assert ideal.step_s == ideal.ideal_s == pytest.approx(predicted.ideal_s, rel=1e-12)
    assert predicted.source == "fitted(h100-sxm/vllm)"
    assert predicted.ideal_s < predicted.low_s < predicted.step_s < predicted.high_s  # type: ignore[operator]


def test_every_operator_stands_within_its_band_and_says_its_source() -> None:
    ops = step(phase="chat", input_len=500, output_len=3).ops
    assert ops.filter(
        (pl.col("low_s") > pl.col("predicted_s"))
        | (pl.col("high_s") < pl.col("predicted_s"))
        | (pl.col("low_s") < pl.col("ideal_s"))
    ).is_empty()
    assert set(ops["source"]) == {"fitted(h100-sxm/vllm)", "assumed"}


def test_a_frame_is_priced_as_single_points_are_in_both_modes() -> None:
    frame = pl.DataFrame(
        {"batch_size": [1, 32, 64, 64], "mode": ["predicted", "predicted", "predicted", "ideal"]}
    )
    priced = rf.evaluate(frame, model="llama-3.1-8b", hw="h100-sxm", launch="eager")
    for row in priced.iter_rows(named=True):
        alone = step(batch_size=row["batch_size"], mode=row["mode"], launch="eager")
        assert row["step_s"] == pytest.approx(alone.step_s, rel=1e-12)
        assert row["low_s"] == pytest.approx(alone.low_s)
        assert row["high_s"] == pytest.approx(alone.high_s)
    assert priced["low_s"].is_null().to_list() == [False, False, False, True]


def test_a_simulation_pays_the_predicted_step() -> None:
    run = rf.simulate(
        rf.Trace(arrival_s=[0.0], prompt_tokens=[512], output_tokens=[3]),
        model="llama-3.1-8b",
        hw="h100-sxm",
        record="steps",
        api_latency=0,
    )
    first, second = run.steps.row(0, named=True), run.steps.row(1, named=True)
    prefill = step(phase="prefill", batch_size=1, input_len=512)
    decode = step(batch_size=1, input_len=512)
    assert first["end_s"] - first["start_s"] == pytest.approx(prefill.step_s, rel=1e-12)
    assert second["end_s"] - second["start_s"] == pytest.approx(decode.step_s, rel=1e-12)
    assert second["low_s"] < decode.step_s < second["high_s"]


def test_a_simulation_has_bands_where_errors_are_known() -> None:
    predicted, ideal = serve(), serve(mode="ideal")
    for metric in ("ttft", "tpot", "e2e"):
        low, middle, high = (predicted.requests[f"{metric}{end}_s"] for end in ("_low", "", "_high"))
        assert (low < middle).all()
        assert (middle < high).all()
        assert ideal.requests[f"{metric}_low_s"].is_null().all()
    summary = predicted.summary
    assert summary["mean_ttft_low_ms"] < summary["mean_ttft_ms"] < summary["mean_ttft_high_ms"]
    assert "mean_ttft_low_ms" not in ideal.summary
    assert ideal.band is None


def test_what_clients_wait_outside_the_engine_is_part_of_first_token_and_end() -> None:
    inside, outside = serve(api_latency=0), serve(api_latency=100)
    later = outside.requests["ttft_s"] - inside.requests["ttft_s"]
    assert later.to_list() == pytest.approx([0.1] * 3)
    assert outside.requests["tpot_s"].to_list() == pytest.approx(inside.requests["tpot_s"].to_list())
    assert serve().inputs["api_latency"] == 4.5
    assert serve(mode="ideal").inputs["api_latency"] == 0
    assert serve(step_cost="linear:0.01,0,0").inputs["api_latency"] == 0


def test_switches_move_what_they_are_about() -> None:
    plain = step(quantization="fp8")
    assert step(quantization="fp8", act_quant="dynamic").step_s > plain.step_s
    assert step(quantization="fp8", act_quant="static").step_s > plain.step_s
    assert step(launch="eager").step_s > step().step_s
    assert step(enforce_eager=True).step_s == step(launch="eager").step_s
    assert step(host={"h0": 0.01}).step_s == pytest.approx(step(host={"h0": 0.0}).step_s + 0.01)
    assert step(host={"h1": 1e-4}).step_s == pytest.approx(step(host={}).step_s + 32e-4)
    pair = {"tp": 2, "batch_size": 64}
    through = rf.analyze("llama-3.1-8b", "l40s", p2p=False, **pair).step_s
    assert through > rf.analyze("llama-3.1-8b", "l40s", p2p=True, **pair).step_s


def test_a_file_of_fits_comes_before_the_shipped_ones(tmp_path: Path) -> None:
    text = (FITS / "h100-sxm.toml").read_text()
    mine = tmp_path / "mine.toml"
    mine.write_text(text)
    assert step(efficiency=mine).step_s == step().step_s
    assert step(efficiency=mine).source == "fitted(mine.toml)"
    mine.write_text(text.replace('family = "gemm"', 'family = "gem"', 1).replace("t0_s = ", "t0 = ", 1))
    with pytest.raises(rf.SpecError, match=r"mine.toml: fit\[\d+\].family must be one of gemm, prefill"):
        step(efficiency=mine)
    with pytest.raises(FileNotFoundError):
        serve(efficiency=tmp_path / "absent.toml")


@pytest.mark.parametrize("device", ["mi300x", "tpu-v6e", "a40", "h20", "rtx-4090"])
def test_devices_that_nobody_measured_are_predicted_with_wider_bars(device: str) -> None:
    measured, other = step(), rf.analyze("llama-3.1-8b", device, batch_size=32)
    assert other.source == "assumed" or other.source.startswith("transferred(")
    width = [each.high_s / each.low_s for each in (measured, other)]  # type: ignore[operator]
    assert width[1] > width[0]


REFUSALS = {
    "--mode best": "no mode is called `best`",
    "--act-quant dynamc": "no act_quant is called `dynamc`",
    "--launch lazy": "no launch is called `lazy`",
    "--host a,b": "--host must be milliseconds a step, a sequence of it, a kernel launched for prompts: a,b",
    "--host=-1": "host.h0 must be seconds from 0 to 10: -0.001",
}


@pytest.mark.parametrize("flag", REFUSALS)
def test_a_switch_that_is_none_is_refused(flag: str, command: Callable[..., Any]) -> None:
    for line in ("analyze llama-3.1-8b --hw h100-sxm", "simulate examples/chat.jsonl --hw h100-sxm"):
        done = command(f"{line} {flag}")
        assert (done.code, done.out) == (2, "")
        assert REFUSALS[flag] in done.err


def test_keywords_of_another_kind_are_refused_by_name() -> None:
    for keyword, message in {
        "host": "host must be seconds by name: 3",
        "p2p": "p2p must be True or False: 3",
        "act_quant": "act_quant must be a name: 3",
    }.items():
        with pytest.raises(rf.SpecError, match=message):
            step(**{keyword: 3})
    with pytest.raises(rf.UnknownNameError, match="no host is called `h2`"):
        step(host={"h2": 1.0})
    with pytest.raises(rf.SpecError, match="api_latency must be milliseconds, not negative: -1"):
        serve(api_latency=-1)


def test_modules_that_quantise_first_are_priced_by_kernels_timed_bare() -> None:
    deployed = {"hw": "b200-sxm", "quantization": "nvfp4", "phase": "decode"}
    served = rf.analyze("llama-3.1-70b", engine="trtllm", **deployed)
    apart = rf.analyze("llama-3.1-70b", engine="trtllm", act_quant="dynamic", **deployed)
    sources = [
        dict(zip(told.ops["op"], told.ops["source"], strict=True))["qkv_proj"] for told in (served, apart)
    ]
    assert sources == ["fitted(b200-sxm/vllm)", "fitted(b200-sxm/trtllm)"]
    assert served.ops["predicted_s"].sum() < apart.ops["predicted_s"].sum()


def test_an_operator_that_its_kernels_make_slow_is_named() -> None:
    def told(**asked: Any) -> list[str]:
        answer = rf.analyze("mixtral-8x7b", "h100-sxm", tp=2, batch_size=64, input_len=2048, **asked)
        return [note for note in answer.notes if "times its roofline" in note]

    (note,) = told(quantization="fp8")
    assert note.startswith(
        "`experts_gate_up` takes 6 times its roofline: its kernels do, says fitted(h100-sxm/vllm)"
    )
    assert note.endswith("another format or engine may serve better")
    for beside in ({"quantization": "fp8-block"}, {"quantization": "fp8", "mode": "ideal"}, {}):
        assert told(**beside) == []
    exchanges = rf.analyze("llama-3.1-8b", "l40s", tp=8, batch_size=64, input_len=1024).notes
    (note,) = (note for note in exchanges if "`all_reduce` takes 1" in note)
    assert note.endswith("not the device; fewer devices a replica may serve better")
