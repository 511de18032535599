"""The screens of ``roofline-fast analyze``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf

SCREENS = {
    "analyze-decode": "analyze llama-3.1-70b --hw h100 --tp 8 -q fp8 --batch-size 32 --input-len 2048",
    "analyze-prefill": "analyze mixtral-8x7b --hw mi300x --phase prefill --isl 4096 --chunk 1024",
    "analyze-chat": "analyze gpt-oss-120b --hw b200 --phase chat -b 16 --isl 1000 --osl 200",
    "analyze-mixed": "analyze qwen3-next-80b-a3b --hw a100-80gb-sxm --tp 4 --phase mixed -b 64",
    "analyze-encode": "analyze bert-base-uncased --hw l40s --phase encode -b 8",
    "analyze-does-not-fit": "analyze deepseek-v3 --hw h200 --tp 4",
    "analyze-llm-viewer": "analyze llama-2-7b --hw rtx-a6000 --compat llm-viewer",
    "analyze-help": "analyze --help",
}


@pytest.mark.parametrize("name", SCREENS)
def test_screen(name: str, snapshot: Callable[[str, str], None]) -> None:
    snapshot(name, SCREENS[name])


STEP = "analyze llama-3.1-8b --hw h100-sxm -b 4"


def test_json_is_one_object_with_the_names_of_python(command: Callable[..., Any]) -> None:
    import roofline_fast as rf

    done = command(f"{STEP} --format json")
    answer = json.loads(done.out)
    step = rf.analyze("llama-3.1-8b", "h100-sxm", batch_size=4)
    assert answer["step_s"] == step.step_s
    assert answer["ops"] == step.ops.to_dicts()
    assert (answer["input_len"], answer["phase"], answer["memory"]) == (2048, "decode", step.memory)
    assert (done.code, done.err) == (0, "")


def test_csv_is_the_table_of_operators(command: Callable[..., Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(command(f"{STEP} --format csv").out)))
    assert {"qkv_proj", "attention"} <= {row["op"] for row in rows}


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "json"])
def test_a_file_is_written_in_the_format_of_its_suffix(
    suffix: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / f"ops.{suffix}"
    done = command([*STEP.split(), "-o", str(file)])
    readers = {
        "parquet": pl.read_parquet,
        "csv": pl.read_csv,
        "jsonl": pl.read_ndjson,
        "json": pl.read_json,
    }
    assert "attention" in readers[suffix](file)["op"].to_list()
    assert done.err.endswith(f"operators written to {file}\n")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_quiet_says_nothing_beside_the_result(command: Callable[..., Any], tmp_path: Path) -> None:
    done = command([*STEP.split(), "--quiet", "-o", str(tmp_path / "ops.csv")])
    assert (done.code, done.err) == (0, "")


def test_aliases_mean_the_same(command: Callable[..., Any]) -> None:
    mine = "analyze llama-3.1-8b --hw h100-sxm --tp 2 --isl 100 -q fp8 --block-size 32"
    theirs = "analyze --model-path llama-3.1-8b --gpu h100-sxm --tensor-parallel-size 2 --input-len 100"
    assert command(mine).out == command(f"{theirs} --dtype fp8 --page-size 32").out


def test_expert_parallelism_is_switched_on_by_the_flag_of_vllm(command: Callable[..., Any]) -> None:
    base = "analyze deepseek-v3 --hw h200 --tp 8"
    assert command(f"{base} --enable-expert-parallel").out == command(f"{base} --ep 8").out


def test_a_page_holds_the_table_and_needs_no_other_file(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "a <b>.html"
    assert command([*STEP.split(), "-o", str(file)]).code == 0
    page = file.read_text(encoding="utf-8")
    frame = rf.analyze("llama-3.1-8b", "h100-sxm", batch_size=4).ops
    assert page.startswith("<!doctype html>")
    assert "<title>a &lt;b&gt;</title>" in page
    assert page.count("<tr>") == frame.height + 1
    assert f'<td>attention</td><td class="number">{frame["repeat"][4]}</td>' in page
    assert "http" not in page
