"""Whatever is wrong with the input: one screen that says what must hold, what was and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import roofline_fast as rf

LLAMA = rf.Model("llama-2-7b").config
STEP = "analyze llama-3.1-8b --hw h100-sxm"
RUN = "simulate examples/chat.jsonl --hw h100-sxm"

# What is typed, the error, and what the hint has to say.
MISTAKES = {
    "analyze lama-3.1-8b --hw h100": ("no model is called `lama-3.1-8b`", "llama-3.1-8b"),
    "analyze llama-3.1-8b --hw h1000": ("no hardware is called `h1000`", "h100"),
    "analyze llama-3.1-8b": ("--hw must be given", "--hw h100"),
    "analyze --hw h100": ("MODEL must be given", "llama-3.1-8b"),
    "analyze llama-2-7b -m llama-2-7b --hw h100": (
        "MODEL must be given once: llama-2-7b and --model llama-2-7b",
        "",
    ),
    "anlyze llama-3.1-8b": ("no command is called `anlyze`", "analyze"),
    f"{STEP} --batch 3": ("no flag is called `--batch`", "--batch-size"),
    f"{STEP} -b three": ("--batch-size must be a whole number: three", ""),
    f"{STEP} --tp two": ("--tp must be a whole number: two", ""),
    f"{STEP} --overlap half": ("--overlap must be a number: half", ""),
    f"{STEP} --overlap 1.5": ("overlap must be from 0 to 1: 1.5", ""),
    f"{STEP} --overlap nan": ("overlap must be from 0 to 1: nan", ""),
    f"{STEP} --block-size 0": ("block_size must be at least 1: 0", ""),
    f"{STEP} --phase mixed --chunk 0": ("chunk must be at least 1", ""),
    f"{STEP} -b 0": ("batch_size must be at least 1: 0", ""),
    f"{STEP} -b -1": ("batch_size must not be negative: -1", ""),
    f"{STEP} --input-len 0": ("input_len must be at least 1: 0", ""),
    f"{STEP} --phase sing": ("no phase is called `sing`", "decode"),
    f"{STEP} --phase encode": ("phase must be one of prefill, decode, mixed, chat", ""),
    f"{STEP} -q fp9": ("is called `fp9`", "fp8"),
    f"{STEP} --kv-cache-dtype fp9": ("is called `fp9`", "fp8"),
    f"{STEP} --engine vlm": ("no engine is called `vlm`", "vllm"),
    f"{STEP} --mode perfect": ("no mode is called `perfect`", "predicted"),
    f"{STEP} --fusion half": ("no fusion is called `half`", "full"),
    f"{STEP} --tp 3": (
        "layout.tp must divide the 32 attention heads of `llama-3.1-8b`, shared out over its 8 KV heads: 3",
        "use one of 1, 2, 4, 8, 16, 32",
    ),
    f"{STEP} --tp 0": ("layout.tp must be at least 1: 0", ""),
    f"{STEP} --ep 4": ("layout.ep must ", ""),
    f"{STEP} --enable-expert-parallel --ep 2": ("--ep must be left out with --enable-expert-parallel: 2", ""),
    f"{STEP} --gpu-memory-utilization 1.5": ("gpu_memory_utilization must be above 0 and at most 1: 1.5", ""),
    f"{STEP} --format yaml": ("no format is called `yaml`", "json"),
    f"{STEP} -o ops.xlsx": (
        "--output must end in one of .parquet, .csv, .jsonl, .json, .html, .svg: ops.xlsx",
        "",
    ),
    f"{STEP} -o nowhere/ops.csv": (
        "--output must lie in a folder that exists: nowhere/ops.csv",
        "make nowhere first, or choose another folder",
    ),
    "analyze ./nowhere/config.json --hw h100": (
        "a model's file must exist: nowhere/config.json",
        "catalog models",
    ),
    "analyze llama-3.1-8b --hw nowhere.toml": (
        "a device's file must exist: nowhere.toml",
        "catalog hardware",
    ),
    "analyze llama-2-7b --hw b200 --compat llm-viewer": (
        "no LLM-Viewer hardware is called `b200`",
        "nearest",
    ),
    "analyze llama-2-7b --hw a6000 --compat llm-viewr": ("is called `llm-viewr`", "nearest"),
    "simulate nowhere.jsonl --hw h100": (
        "nowhere.jsonl: the file must be readable: No such file or directory\n",
        "",
    ),
    "simulate --hw h100": ("TRACE must be given", ""),
    f"{RUN} --slo fast": ("slo must read `metric:milliseconds`: `fast`", "ttft:500"),
    f'{RUN} --slo "ttft:500 ttft:300"': ("slo must name ttft once: ttft:500 ttft:300", "keep one"),
    f"{RUN} --block-size 0": ("block_size must be at least 1: 0", ""),
    "catalog": ("`roofline-fast catalog` must be given a command: hardware, models", "Devices: memory"),
    "trace": ("`roofline-fast trace` must be given a command: inspect", "what a trace is like"),
    f"{RUN} --slo ttfd:5": ("no latency metric is called `ttfd`", "ttft"),
    f"{RUN} --percentiles 50,x": ("--percentiles must be numbers: 50,x", "50,90,99"),
    f"{RUN} --percentiles 101": ("percentiles must be between 0 and 100: 101", ""),
    f"{RUN} --step-cost 5": ("step_cost must read `linear:A,B,C`", "linear:0.005"),
    f"{RUN} --window 5": ("window must read A:B in seconds: 5", "600:1200"),
    f"{RUN} --speedup 0": ("speedup must ", ""),
    f"{RUN} --trace-format moonkake": ("no trace format is called `moonkake`", "mooncake"),
    f"{RUN} --scheduling-policy lifo": ("no scheduling policy is called `lifo`", "fcfs"),
    f"{RUN} --spec-method eagles --num-speculative-tokens 2 --spec-acceptance 0.5": (
        "no speculation method is called `eagles`",
        "eagle",
    ),
    f"{RUN} --spec-method eagle --spec-acceptance 0.5": (
        "num_speculative_tokens must be given with spec_method: absent",
        "for example 3",
    ),
    f"{RUN} --spec-method eagle --nextn 2": ("spec_acceptance must be given with spec_method: absent", "0.7"),
    f"{RUN} --spec-tokens 2": ("spec_method must be given with num_speculative_tokens: none", "eagle"),
    f"{RUN} --spec-method mtp --nextn 0 --spec-acceptance 0.5": (
        "num_speculative_tokens must be from 1 to 65536: 0",
        "leave speculation out",
    ),
    f"{RUN} --spec-method mtp --nextn 2 --spec-acceptance often": (
        "spec_acceptance must be a chance, a list of one a position, or `pattern:A,B`: `often`",
        "pattern:7,3",
    ),
    f"{RUN} --spec-method mtp --nextn 2 --spec-acceptance 1.5": (
        "spec_acceptance must be one chance or one a position, each from 0 to 1: [1.5]",
        "",
    ),
    f"{RUN} --spec-method eagle --nextn 2 --spec-acceptance 0.5 --pp 2": (
        "pipeline_parallel_size must be 1 with speculation: 2",
        "leave out one of the two",
    ),
    f"{RUN} --max-num-seqs 0": ("max_num_seqs must be at least 1: 0", ""),
    f"{RUN} -m bert-base-uncased": ("model must generate tokens to be served: bert-base-uncased", "analyze"),
    "catalog hardware h1000": ("no hardware is called `h1000`", "h100"),
    "catalog models lama": ("no model is called `lama`", "llama"),
    "trace inspect": ("TRACE must be given", ""),
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered(line: str, command: Callable[..., Any]) -> None:
    text, hint = MISTAKES[line]
    done = command(line)
    assert done.code == 2, done
    check_screen(done.err)
    assert text in done.err
    assert hint in done.err.partition(text)[2]
    assert done.out == ""


def check_screen(text: str) -> None:
    assert text.startswith("error: "), text
    assert "Traceback" not in text
    assert len(text.splitlines()) <= 24


@pytest.mark.parametrize(
    "line",
    [
        "analyze llama-3.1-405b --hw h100-sxm",
        "analyze llama-3.1-8b --hw h100-sxm -b 5000",
        "simulate examples/chat.jsonl --hw h100-sxm -m llama-3.1-405b",
        "simulate examples/chat.jsonl --hw t4 -m llama-3.1-8b",
    ],
)
def test_what_does_not_fit_ends_with_3_and_says_how_much_is_missing(
    line: str, command: Callable[..., Any]
) -> None:
    done = command(line)
    assert done.code == 3
    check_screen(done.err)
    assert "must fit in" in done.err
    assert "GiB" in done.err
    assert "\nhint: use more devices" in done.err


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"model_type": "surprise"}, "no model family is called `surprise`"),
        ({"hidden_size": None}, "hidden_size must be given"),
        ({"hidden_size": -1}, "hidden_size must"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers must"),
        ({"num_key_value_heads": 5}, "num_attention_heads must be divisible by the 5 key/value heads: 32"),
        ({"surprising_heads": 3}, "surprising_heads"),
    ],
)
def test_a_configuration_is_refused_by_its_key(
    config: dict[str, Any], text: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "config.json"
    whole = {key: value for key, value in {**LLAMA, **config}.items() if value is not None}
    file.write_text(json.dumps(whole))
    done = command(["analyze", str(file), "--hw", "h100-sxm"])
    assert done.code == 2
    check_screen(done.err)
    assert text in done.err


@pytest.mark.parametrize("content", ["", "{", "[]", "<html>", '"text"', "\x00"])
def test_a_configuration_that_is_none_is_refused_by_its_file(
    content: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    done = command(["analyze", str(file), "--hw", "h100-sxm"])
    assert done.code == 2
    check_screen(done.err)
    assert "config.json" in done.err


def test_bytes_that_are_no_text_are_refused(command: Callable[..., Any], tmp_path: Path) -> None:
    for name, arguments in (
        ("config.json", ["analyze", "FILE", "--hw", "h100-sxm"]),
        ("gpu.toml", ["analyze", "llama-2-7b", "--hw", "FILE"]),
        ("trace.jsonl", ["simulate", "FILE", "--hw", "h100-sxm"]),
    ):
        file = tmp_path / name
        file.write_bytes(b"\xff\xfe{\x00\x80")
        done = command([str(file) if argument == "FILE" else argument for argument in arguments])
        assert done.code == 2, done
        check_screen(done.err)
        assert name in done.err


GOOD = '{"timestamp": 0, "input_length": 10, "output_length": 5}\n'


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (GOOD + "{oops\n", "trace.jsonl:2: "),
        (GOOD + '{"timestamp": 1, "input_length": -5, "output_length": 5}\n', "trace.jsonl:2: input_length"),
        (GOOD + '{"timestamp": 1, "input_length": 5}\n', "trace.jsonl:2: output_length"),
        (GOOD + '{"timestamp": "x", "input_length": 5, "output_length": 5}\n', "trace.jsonl:2: timestamp"),
        ("", "trace.jsonl: "),
        ("\n\n", "trace.jsonl: "),
        ("<!DOCTYPE html><html><body>Not found</body></html>\n", "trace.jsonl"),
    ],
)
def test_a_trace_is_refused_by_line_and_field(
    content: str, place: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(content)
    for line in (["simulate", str(file), "--hw", "h100-sxm"], ["trace", "inspect", str(file)]):
        done = command(line)
        assert done.code == 2, done
        check_screen(done.err)
        assert place in done.err


def test_every_mistake_of_a_device_file_is_shown(command: Callable[..., Any], tmp_path: Path) -> None:
    shipped = Path(__file__).parent.parent / "rust" / "core" / "data" / "hardware" / "h100-sxm.toml"
    lines = shipped.read_text().splitlines()
    broken = [line.replace("capacity = ", "capacty = ") for line in lines]
    broken = [line.replace('kind = "gpu"', 'kind = "gpuu"') for line in broken]
    broken = [line.replace("bf16 = { value = 989.5", "bf16 = { value = -1") for line in broken]
    assert sum(old != new for old, new in zip(lines, broken, strict=True)) >= 3
    file = tmp_path / "gpu.toml"
    file.write_text("\n".join(broken))
    done = command(["analyze", "llama-2-7b", "--hw", str(file)])
    assert done.code == 2
    check_screen(done.err)
    assert f"{file} has " in done.err
    assert all(word in done.err for word in ("kind must be one of", "capacty", "tensor.dense.bf16"))


def test_errors_carry_field_value_and_hint() -> None:
    with pytest.raises(rf.SpecError) as caught:
        rf.analyze("llama-3.1-8b", "h100-sxm", batch_size=0)
    assert (caught.value.field, caught.value.value) == ("batch_size", "0")
    with pytest.raises(rf.UnknownNameError) as unknown:
        rf.analyze("llama-3.1-8b", "h1000")
    assert unknown.value.hint.startswith("nearest: h100")
    with pytest.raises(rf.TraceError) as trace:
        rf.Trace.read("nowhere.jsonl")
    assert (trace.value.file, trace.value.line) == ("nowhere.jsonl", 0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tp": -1}, "tp must not be negative: -1"),
        ({"batch_size": 1.5}, "batch_size must be a whole number: 1.5"),
        ({"input_len": "long"}, "input_len must be a whole number: 'long'"),
        ({"max_num_seqs": 2**32}, "max_num_seqs must be below 2\\^32: 4294967296"),
        ({"overlap": "half"}, "overlap must be a number: 'half'"),
        ({"overlap": -0.1}, "overlap must be from 0 to 1: -0.1"),
        ({"overlap": True}, "overlap must be a number: True"),
        ({"tp": True}, "tp must be a whole number: True"),
        ({"block_size": 0}, "block_size must be at least 1: 0"),
        ({"quantization": 8}, "quantization must be a name: 8"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_its_keyword(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(rf.SpecError, match=message):
        rf.analyze("llama-3.1-8b", "h100-sxm", **asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"num_speculative_tokens": 1.5}, "num_speculative_tokens must be a whole number: 1.5"),
        ({"spec_method": 7}, "spec_method must be a name: 7"),
        ({"overlap": 2}, "overlap must be from 0 to 1: 2"),
        ({"block_size": 0}, "^block_size must be at least 1: 0$"),
        ({"max_num_seq": 3}, "simulate must be given keywords it has: max_num_seq"),
        ({"model": 3}, "model must be a name, a path, a configuration or a Model: 3"),
        (
            {"spec_acceptance": {"often"}},
            "spec_acceptance must be a chance, one a position, or `pattern:A,B`: {'often'}",
        ),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused_by_its_keyword(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(rf.SpecError, match=message):
        rf.simulate("examples/chat.jsonl", hw="h100-sxm", **asked)
