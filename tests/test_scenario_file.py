"""Settings from a file (``--config``) and by name (``--set``), and folders of results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

CHAT = "examples/chat.jsonl"
TOML = """
trace = "examples/chat.jsonl"
hw = "h100"
limit = 20

[engine]
max-num-seqs = 16
enable_prefix_caching = false

[traffic]
slo = "ttft:500"
with = ["kv-quant:bits=8"]
"""


def run(command: Callable[..., Any], line: str) -> dict[str, Any]:
    """Return what a simulation says as JSON."""
    done = command(f"simulate {line} --format json --quiet")
    assert done.code == 0, done.err
    answer: dict[str, Any] = json.loads(done.out)
    return answer


def test_a_file_stands_for_flags_of_every_kind(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TOML)
    flags = "--limit 20 --hw h100 --max-num-seqs 16 --no-enable-prefix-caching --slo ttft:500"
    assert run(command, f"-c {tmp_path / 'run.toml'}") == run(
        command, f"{CHAT} {flags} --with kv-quant:bits=8"
    )


def test_toml_and_json_say_the_same(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TOML)
    settings = {"trace": [CHAT], "hw": "h100", "limit": 20, "max_num_seqs": 16, "slo": "ttft:500"}
    settings |= {"enable_prefix_caching": False, "with": "kv-quant:bits=8"}
    (tmp_path / "run.json").write_text(json.dumps(settings))
    assert run(command, f"-c {tmp_path / 'run.toml'}") == run(command, f"--scenario {tmp_path / 'run.json'}")


@pytest.mark.parametrize("order", ["{file} {assigned}", "{assigned} {file}"])
def test_flags_win_over_assignments_and_these_over_the_file(
    command: Callable[..., Any], tmp_path: Path, order: str
) -> None:
    (tmp_path / "run.toml").write_text(TOML)
    assigned = "--set engine.max_num_seqs=4 --set tp=4 --set enable-prefix-caching=yes"
    words = order.format(file=f"--config {tmp_path / 'run.toml'}", assigned=assigned)
    answer = run(command, f"{words} --tp 2")
    assert answer["settings"]["max_num_seqs"] == 4
    assert answer["settings"]["enable_prefix_caching"] is True
    assert answer["tp"] == 2


def test_a_list_is_what_its_flag_would_have(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "curve.toml").write_text('hw = "h100"\nnum_prompts = 20\nrequest_rate = [1, 2.5, "inf"]\n')
    rates = [row["request_rate"] for row in run(command, f"-c {tmp_path / 'curve.toml'}")["curve"]]
    assert rates == [1.0, 2.5, "inf"]


def test_traffic_is_generated_from_a_file(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "load.toml").write_text('num_prompts = 7\n[lengths]\ninput-len = "10:20"\n')
    out = tmp_path / "load.jsonl"
    assert command(f"trace generate -c {tmp_path / 'load.toml'} --set output_len=3 -o {out}").code == 0
    assert command(f"trace inspect {out} --format json").out.count('"requests": 7')


def test_all_mistakes_of_a_file_are_named_at_once(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'hw = true\nconfig = "other.toml"\n[engine]\nmax_num_sesq = 16\ntp = "two"\nenforce_eager = 1\n'
        "slo = [1]\nconcurrency = [1, 2]\nthink_time = false\nrequest_rate = [[1]]\n"
    )
    done = command(f"simulate -c {file} --hw h100")
    assert done.code == 2
    assert done.err.splitlines() == [
        f"error: {file} has 9 mistakes:",
        "  hw must be a text or a number: True",
        "  config is not known (nearest: columns, techniques, chunk_size)",
        "  engine.max_num_sesq is not known (nearest: max_num_seqs, max_num_tokens, max_num_active_seqs)",
        "  engine.tp must be a whole number: 'two'",
        "  engine.enforce_eager must be true or false: 1",
        "  engine.slo must be texts: [1]",
        "  engine.concurrency must be one value: [1, 2]",
        "  engine.think_time must be a number: False",
        "  engine.request_rate must be one value: [[1]]",
        "hint: settings are the flags of `roofline-fast simulate`, with `_` for `-`; tables only group them",
    ]


TECHNIQUES = """model = "lama-3.1-8b"
hw = "h100x"
max_num_sesq = 16
[how]
engine = "vllmm"
quantization = "fp9"
with = ["kv-quant:bits=9,group=x", "weight-quand:bits=4", "n-m:n=2,m=4", "sparsity:zeros=0.5"]
"""


@pytest.mark.parametrize("name", ["simulate", "analyze", "break-even"])
def test_an_unknown_key_hides_no_mistake_of_names_and_techniques(
    command: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(TECHNIQUES)
    done = command(f"{name} -c {file}")
    assert (done.code, done.out) == (2, "")
    first, *lines, _ = done.err.splitlines()
    assert first == f"error: {file} has 9 mistakes:"
    assert [line.strip().partition(" (")[0] for line in lines] == [
        "model must be a known model: lama-3.1-8b",
        "hw must be a known hardware: h100x",
        "max_num_sesq is not known",
        "how.engine must be a known engine: vllmm",
        "how.quantization must be a known quantization: fp9",
        "how.with[0].bits must be a number from 1 to 8, or 16: 9",
        "how.with[0].group must be a whole number from 0 to 4294967296: x",
        "how.with[1] must be a known technique: weight-quand",
        "how.with[3] must not be combined with `n-m:n=2,m=4`: both decide which weights are left out: "
        "`sparsity:zeros=0.5`",
    ]


def test_a_side_s_file_names_all_its_mistakes(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "side.toml"
    file.write_text(
        'tp = [1, 2]\nisl = 100\ninput_len = 3\nwith = ["kv-quant:bits=9"]\nmax_num_sesq = 3\n'
        '[more]\nmodel = "lama"\n'
    )
    done = command(f"compare base {file} --hw h100")
    assert (done.code, done.out) == (2, "")
    assert [line.strip().partition(" (")[0] for line in done.err.splitlines()[1:-1]] == [
        "tp must be one value to be compared: [1, 2]",
        "input_len must be given once",
        "with[0].bits must be a number from 1 to 8, or 16: 9",
        "max_num_sesq is not known",
        "more.model must be a known model: lama",
    ]
    file.write_text("with = [4]")
    assert (
        f"{file} has a mistake:\n  with must be texts: [4]" in command(f"compare base {file} --hw h100").err
    )


WRONG = {
    "--config nowhere.toml": "nowhere.toml must exist",
    f"--config {CHAT}": f"{CHAT} must be TOML: ",
    "--set tp": "--set must be KEY=VALUE: tp",
    "--set tp=x": "--set has a mistake:\n  tp must be a whole number: 'x'",
    "--set tp=1 --set tensor-parallel-size=2": "--set has a mistake:\n  tensor-parallel-size must be given once",
    "--set enforce_eager=maybe": "--set has a mistake:\n  enforce_eager must be true or false: 'maybe'",
    "-o examples/chat.jsonl/x": "--output must lie in a folder: examples/chat.jsonl/x, but ",
    "-o requests.xlsx": "--output must end in one of .parquet, .csv, .jsonl, .json, .html: requests.xlsx",
    "--time-scale 0": "time_scale must be above 0 and finite: 0.0",
    "--time-scale 2 --speedup 2": "time_scale must be left out with speedup: 2.0",
}


@pytest.mark.parametrize("asked", WRONG)
def test_what_cannot_be_meant_is_refused(command: Callable[..., Any], asked: str) -> None:
    done = command(f"simulate {CHAT} --hw h100 {asked}")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {WRONG[asked]}"), done.err


def test_a_folder_is_made_with_its_parents_and_all_that_is_in_it(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "run"
    done = command(f"simulate {CHAT} --hw h100 --limit 30 -o {out}")
    assert done.code == 0, done.err
    names = ["request_times.parquet", "requests.parquet", "steps.parquet", "summary.json", "timeline.parquet"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert [path.name for path in out.parent.iterdir()] == ["run"]
    (out / "notes.txt").write_text("mine")
    assert command(f"simulate {CHAT} --hw h100 --limit 31 -o {out}").code == 0
    assert pl.read_parquet(out / "requests.parquet").height == 31
    assert (out / "notes.txt").read_text() == "mine"


def test_a_curve_fills_a_folder_too(command: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "curve"
    assert command(f"simulate {CHAT} --hw h100 --limit 30 --request-rate 1,2 -o {out}").code == 0
    assert pl.read_parquet(out / "curve.parquet")["request_rate"].to_list() == [1.0, 2.0]
    assert len(json.loads((out / "summary.json").read_text())["curve"]) == 2


def test_nothing_is_left_of_a_folder_that_could_not_be_filled(tmp_path: Path) -> None:
    from roofline_fast.cli import output

    def fail() -> None:
        with output.folder(tmp_path / "run") as place:
            (place / "half").write_text("of it")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_to_is_refused_first(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    for out in (tmp_path / "run", tmp_path / "requests.csv"):
        done = command(f"simulate {CHAT} --hw h100 -o {out}")
        assert done.code == 2
        assert f"--output must lie in a folder that may be written to: {tmp_path}" in done.err


def test_the_trace_is_not_overwritten_by_a_folder_of_results(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    trace = tmp_path / "requests.parquet"
    assert command(f"trace convert {CHAT} -o {trace}").code == 0
    done = command(f"simulate {trace} --hw h100 -o {tmp_path}")
    assert done.code == 2
    assert "--output must be another folder than the input's" in done.err


def test_a_time_scale_goes_the_other_way_than_a_speedup(command: Callable[..., Any]) -> None:
    slower = run(command, f"{CHAT} --hw h100 --time-scale 4")
    assert slower["duration"] == run(command, f"{CHAT} --hw h100 --speedup 0.25")["duration"]
    assert "time_scale 4: arrivals come slower, as with speedup 0.25" in slower["trace_notes"]
