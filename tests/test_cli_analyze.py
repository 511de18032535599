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


@pytest.mark.parametrize("width", [72, 80, 100, 160])
def test_every_operator_has_a_line_of_its_own_on_a_narrow_terminal(width: int) -> None:
    from roofline_fast.cli.analyze_screen import screen
    from roofline_fast.cli.figures import folded

    step = rf.analyze("qwen3-30b-a3b", "l40s", tp=4, batch_size=16, phase="chat")
    shown = folded(screen(step, width), width).split("\n")
    assert max(map(len, shown)) <= width
    first = next(at for at, line in enumerate(shown) if line.startswith("  operator"))
    listed = step.ops.filter(pl.col("bound") != "fused")["op"].to_list()
    names = [line.split()[0] for line in shown[first + 1 : first + 1 + len(listed)]]
    assert names == listed
    # What is left out can be had from what stays.
    heads = shown[first].split()
    assert heads[-3:] == ["predicted", "share", "bound"]
    assert ("FLOP/B" in heads) == (width > 80)


def test_sequences_that_fit_hold_what_the_title_says(command: Callable[..., Any]) -> None:
    def fits(asked: str) -> tuple[int, str]:
        line = next(line for line in command(f"{STEP} {asked}").out.split("\n") if "memory/GPU" in line)
        sequences, _, context = line.partition(" max ")[2].partition(" seqs @ ")
        return int(sequences.replace(",", "")), context

    answered = fits("--phase chat --isl 1500 --osl 500")
    assert answered[1] == "2,000"
    assert fits("--isl 1000 --prefix-len 1000")[1] == "2,000"
    # A token more or less: the last of an answer is never cached, a step adds one.
    assert answered[0] == pytest.approx(fits("--isl 2000")[0], abs=2)


def test_a_band_has_the_unit_of_what_lies_in_it() -> None:
    from roofline_fast.cli.figures import band

    assert band(0.95, 1.3, 1.1) == "0.95–1.30 s"
    assert band(0.00478, 0.00551, 0.0051) == "4.78–5.51 ms"
    assert band(0.9, 1.1, 0.95) == "900–1,100 ms"
    assert band(90e-9, 110e-9, 1e-7) == "90.0–110 ns"


def test_a_token_has_a_price_and_an_energy_where_they_are_known(command: Callable[..., Any]) -> None:
    step = rf.analyze("llama-3.1-8b", "h100-sxm", batch_size=4)
    assert step.usd is not None
    assert step.energy_j is not None
    said = f"{step.usd / 4 * 1e6:.2f} USD a million tokens · {step.energy_j / 4:.2f} J a token (assumed"
    assert said in command(STEP).out
    # Nobody rents it out, and its power is not published.
    assert "cost  " not in command("analyze llama-3.1-8b --hw m2-ultra --mode ideal").out


def test_only_what_crosses_a_link_gains_from_a_faster_one(command: Callable[..., Any]) -> None:
    assert "+10 % link" not in command(STEP).out
    for more in ("--tp 2", "--with offload:share=0.5"):
        assert "+10 % link" in command(f"{STEP} {more}").out
