"""What ``rf.analyze`` answers: its figures hang together, and its words are those of the documentation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import roofline_fast as rf


def decode(**asked: object) -> rf.Analysis:
    return rf.analyze("llama-3.1-8b", "h100-sxm", **asked)  # type: ignore[arg-type]


def test_operators_add_up_to_totals_and_time() -> None:
    step = decode(batch_size=8, tp=2)
    for column in ("flops", "bytes", "weight_bytes", "kv_bytes", "link_bytes"):
        assert step.ops[column].sum() == pytest.approx(step.totals["gpu"][column])
        assert step.totals["deployment"][column] == pytest.approx(2 * step.totals["gpu"][column])
    assert step.ops["predicted_s"].sum() == pytest.approx(step.step_s)
    assert step.ops["share"].sum() == pytest.approx(1.0)
    assert sum(step.bounds.values()) == pytest.approx(1.0)
    assert step.bound == next(iter(step.bounds))


def test_operators_have_the_documented_columns() -> None:
    documented = (
        "op, repeat, flops, bytes, weight_bytes, activation_bytes, kv_bytes, link_bytes, intensity, ideal_s, "
        "predicted_s, low_s, high_s, share, bound, source"
    )
    assert decode().ops.columns[:16] == documented.split(", ")


def test_a_decode_step_reads_every_active_weight_once() -> None:
    step = decode(mode="ideal")
    embedding = 128_256 * 4096  # looked up, not read
    read = 2 * (rf.Model("llama-3.1-8b").parameters - embedding)
    assert step.totals["gpu"]["weight_bytes"] == pytest.approx(read, rel=1e-3)
    assert step.step_s == pytest.approx(read / 3.352e12, rel=0.05)


def test_a_request_is_its_prefill_and_its_decode_steps() -> None:
    chat = decode(phase="chat", input_len=100, output_len=4)
    prefill = decode(phase="prefill", input_len=100)
    steps = [decode(input_len=100 + done).step_s for done in range(3)]
    assert chat.ttft_s == pytest.approx(prefill.step_s, rel=1e-12)
    assert chat.tpot_s == pytest.approx(math.fsum(steps) / 3, rel=1e-12)
    assert chat.e2e_s == pytest.approx(prefill.step_s + math.fsum(steps), rel=1e-12)


def test_what_is_assumed_is_said() -> None:
    step = decode(phase="mixed")
    assert step.inputs["input_len"] == 2048
    assert step.inputs["chunk"] == 512
    assert step.inputs["max_num_batched_tokens"] == 8192
    assert decode(phase="chat").inputs["output_len"] == 256
    assert rf.analyze("bert-base-uncased", "h100-sxm", phase="encode").inputs["input_len"] == 512
    assert rf.analyze("llama-3.1-8b", "h100").notes[0] == "`h100` taken as `h100-sxm`"


def test_no_prediction_beats_the_roofline() -> None:
    step = decode(batch_size=64)
    assert step.step_s >= step.ideal_s
    assert decode(batch_size=64, mode="ideal").step_s == step.ideal_s


def test_everything_fits_into_a_dictionary_of_plain_values() -> None:
    import json

    answer = json.loads(json.dumps(decode().to_dict(), allow_nan=False))
    assert answer["ridge"] == {"intensity": pytest.approx(295, rel=0.01), "format": "bf16"}


def test_the_memory_verdict_is_about_the_sequences_asked_for() -> None:
    most = decode().memory["engine_sequences"]
    assert decode(batch_size=most).memory["fits"]
    assert not decode(batch_size=most + 1).memory["fits"]


def test_figures_that_llm_viewer_lacks_are_refused_by_name() -> None:
    step = rf.analyze("llama-2-7b", "nvidia_A6000", compat="llm-viewer")
    assert step.step_s == step.totals["decode"]["inference_time"]
    with pytest.raises(AttributeError, match="LLM-Viewer has no such figure"):
        _ = step.low_s
    with pytest.raises(rf.SpecError, match=r"pp must be left out with compat.*: 2"):
        rf.analyze("llama-2-7b", "nvidia_A6000", compat="llm-viewer", pp=2)
    with pytest.raises(rf.SpecError, match="kv_bits must be left out without compat"):
        rf.analyze("llama-2-7b", "rtx-a6000", kv_bits=8)


def test_a_quantization_that_lies_beside_the_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(rf.Model("llama-3.1-8b").config))
    beside = tmp_path / "hf_quant_config.json"
    scheme = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    beside.write_text(json.dumps({"producer": {"name": "modelopt"}, "quantization": scheme}))
    step = rf.analyze(rf.Model.from_config(tmp_path), "h100-sxm", batch_size=4, input_len=1000)
    asked = rf.analyze(
        "llama-3.1-8b", "h100-sxm", quantization="fp8", kv_cache_dtype="fp8", batch_size=4, input_len=1000
    )
    assert step.ideal_s == asked.ideal_s
    for content, must in (("{", "must be JSON"), ("[]", "must be an object")):
        beside.write_text(content)
        with pytest.raises(rf.SpecError, match=f"hf_quant_config.json {must}"):
            rf.Model.from_config(tmp_path)


def test_a_configuration_that_is_refused_can_still_be_asked_the_llm_viewer_way() -> None:
    config = {**rf.Model("llama-2-7b").config, "clip_qkv": 8.0, "surprising_heads": 3}
    model = rf.Model.from_config(config)
    assert rf.analyze(model, "nvidia_A6000", compat="llm-viewer@1893e4b").step_s > 0
