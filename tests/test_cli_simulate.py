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
    "trace-inspect": f"trace inspect {CHAT}",
}


@pytest.mark.parametrize("name", SCREENS)
def test_screen(name: str, snapshot: Callable[[str, str], None]) -> None:
    snapshot(name, SCREENS[name])


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
        "--scheduling-policy",
        "priority",
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
