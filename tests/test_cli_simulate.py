"""The screens of ``roofline-fast simulate`` and ``trace inspect``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

CHAT = "examples/chat.jsonl"
SCREENS = {
    "simulate-demo": f"simulate {CHAT} --hw h100",
    "simulate-slo": f'simulate {CHAT} --hw l40s --speedup 4 --slo "ttft:500 tpot:50" --percentiles 50,99',
    "simulate-two-gpus": f"simulate {CHAT} --hw a100-80gb-sxm -m qwen3-32b --tp 2 --dp 2 --limit 50",
    "simulate-step-cost": f"simulate {CHAT} --hw h100 --step-cost linear:0.005,2e-5,2e-8 --engine vllm-sync",
    "simulate-rejects": f"simulate {CHAT} --hw h100 --max-model-len 4096",
    "simulate-help": "simulate --help",
    "simulate-generated": "simulate --num-prompts 500 --request-rate 4 --input-len 100:2000 "
    "--output-len 200 --hw h100",
    "simulate-curve": "simulate --num-prompts 300 --request-rate 2,8,32 --output-len 200 "
    "--input-len 'lognormal(1500,800,max=8000)' "
    "--prefix-len 512 --prefix-groups 4 --hw h100 --slo 'ttft:200 tpot:10'",
    "simulate-two-traffics": f"simulate {CHAT} --num-prompts 5 --hw h100",
    "simulate-trace-curve": f"simulate {CHAT} --request-rate 1,4,inf --hw h100",
    "simulate-unknown-distribution": "simulate --num-prompts 5 --input-len 'lognormall(5,5)' --hw h100",
    "trace-inspect": f"trace inspect {CHAT}",
}


@pytest.mark.parametrize("name", SCREENS)
def test_screen(name: str, snapshot: Callable[[str, str], None]) -> None:
    snapshot(name, SCREENS[name])


def test_a_screen_counts_a_rate_one_way(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "three.jsonl"
    row = '{"arrival_s": %s, "prompt_tokens": 10, "output_tokens": 2}\n'
    file.write_text(row % 0 + row % 0.5 + row % 1)
    out = command(f"simulate {file} --hw h100").out
    assert "3 requests, 1.00 s, 2.00 req/s" in out
    assert "offered 2.00 req/s" in out
    measured = command(f"simulate {file} --hw h100 --warmup 1 --measure 1").out
    assert "load        too few are measured to offer a rate, served " in measured
    assert "at once" not in measured


def test_commands_that_make_one_file_promise_one_rate(command: Callable[..., Any]) -> None:
    for made in ("generate", "convert"):
        assert "gives a row each" not in command(f"trace {made} --help").out
    assert "gives a row each" in command("simulate --help").out


def test_json_has_the_names_of_vllms_benchmark(command: Callable[..., Any]) -> None:
    answer = json.loads(command(f"simulate {CHAT} --hw h100 --format json --quiet").out)
    names = ["mean_ttft_ms", "p99_itl_ms", "median_tpot_ms", "std_e2el_ms", "request_throughput"]
    assert all(isinstance(answer[name], float) for name in names)
    assert (answer["completed"], answer["model"], answer["settings"]["block_size"]) == (
        400,
        "llama-3.1-8b",
        16,
    )


def test_the_output_file_holds_the_requests(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "requests.parquet"
    assert command(f"simulate {CHAT} --hw h100 -o {file} --format csv").code == 0
    assert pl.read_parquet(file).height == 400


def test_the_same_input_gives_the_same_bytes(command: Callable[..., Any]) -> None:
    line = f"simulate {CHAT} --hw h100 --format json --seed 7"
    assert command(line).out == command(line).out


def test_ctrl_c_ends_with_one_line_and_no_file(tmp_path: Path) -> None:
    trace = tmp_path / "long.jsonl"
    row = '{"timestamp": %d, "input_length": 4000, "output_length": 1000}\n'
    trace.write_text("".join(row % (second * 100) for second in range(60_000)))
    program = [
        sys.executable,
        "-m",
        "roofline_fast",
        "simulate",
        str(trace),
        "--hw",
        "h100",
        "--speedup",
        "100",
        # Stepped call by call: the fast path would be done before the interrupt.
        "--engine",
        "vllm-v0",
    ]
    running = subprocess.Popen(
        [*program, "-o", str(tmp_path / "out.parquet")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    time.sleep(1.5)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert err.strip() == "interrupted: nothing was written"
    assert [path.name for path in tmp_path.iterdir()] == ["long.jsonl"]


def test_a_curve_is_one_row_a_rate_in_every_format(command: Callable[..., Any], tmp_path: Path) -> None:
    line = "simulate --num-prompts 50 --request-rate 1,inf --hw h100 --quiet --format"
    curve = json.loads(command(f"{line} json").out)["curve"]
    assert [row["request_rate"] for row in curve] == [1.0, "inf"]
    file = tmp_path / "curve.csv"
    rows = command(f"{line} csv -o {file}").out.splitlines()
    assert len(rows) == 3
    assert file.read_text().splitlines() == rows


def test_what_is_generated_to_a_file_is_what_is_simulated(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    words = "--num-prompts 200 --request-rate 5 --input-len 50:500 --prefix-len 64 --prefix-groups 3 --seed 4"
    file = tmp_path / "traffic.jsonl"
    done = command(f"trace generate {words} -o {file}")
    assert (done.code, done.out) == (0, "")
    assert "200 requests" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["traffic.jsonl"]
    ask = "--hw h100 --format csv --quiet"
    assert command(f"simulate {file} {ask}").out == command(f"simulate {words} {ask}").out


def test_generating_refuses_what_it_cannot_write(command: Callable[..., Any], tmp_path: Path) -> None:
    wrong = command("trace generate --num-prompts 5 -o out.txt")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.startswith("error: output must end in one of .jsonl, .csv, .parquet: out.txt\nhint: ")
    vidur = command("trace generate --num-prompts 5 --to vidur -o out.jsonl").err
    assert "output must end in .csv for vidur: out.jsonl" in vidur
    packed = command("trace generate --num-prompts 5 -o out.parquet.gz").err
    assert "output must end in one of .jsonl, .csv, .parquet: out.parquet.gz" in packed
    absent = command("trace generate --num-prompts 5 -o no-such-folder/out.csv").err
    assert "--output must lie in a folder that exists" in absent
    assert "--output must be given" in command("trace generate --num-prompts 5").err
    nothing = command(f"trace generate -o {tmp_path}/x.jsonl")
    assert nothing.code == 2
    assert "--num-prompts must be given\nhint: " in nothing.err


def test_a_trace_can_be_generated_like_another(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "like.jsonl"
    assert command(f"trace generate --like {CHAT} --num-prompts 800 -o {file}").code == 0
    one, other = (json.loads(command(f"trace inspect {path} --format json").out) for path in (CHAT, file))
    assert other["requests"] == 800
    assert abs(other["prompt_tokens_mean"] / one["prompt_tokens_mean"] - 1) < 0.15
    assert abs(other["rate"] / one["rate"] - 1) < 0.15
