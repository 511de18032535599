"""`roofline-fast sweep`: screens, files, mistakes and what is left when it is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parent.parent
SWEEP = "sweep -m llama-3.1-8b --hw h100-sxm,l40s --tp 1,2 -b 1:64:x4 --input-len 1000,4000 --mode ideal"


def test_the_screens_are_as_they_were(snapshot: Callable[[str, str], None]) -> None:
    snapshot("sweep", f"{SWEEP} --quiet")
    snapshot("sweep-pareto", f"{SWEEP} --phase chat --pareto tokens_per_gpu_s,tokens_per_user_s --quiet")
    snapshot("sweep-help", "sweep --help")


def test_a_file_and_flags_say_the_same(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(
        '[axes]\nmodel = "llama-3.1-8b"\nhw = ["h100-sxm", "l40s"]\ntp = [1, 2]\nbatch_size = "1:64:x4"\n'
        'input_len = [1000, 4000]\nmode = "ideal"\n[limits]\nmax_gpus = 2\n'
    )
    by_file, by_flags = command(f"sweep {file} --format json"), command(f"{SWEEP} --format json")
    assert by_file.code == by_flags.code == 0
    assert json.loads(by_file.out) == json.loads(by_flags.out)
    fewer = json.loads(command(f"sweep {file} --tp 1 --format json").out)
    assert fewer["points"] * 2 == json.loads(by_file.out)["points"]


ONE = "sweep -m llama-3.1-8b --hw h100-sxm --mode ideal --format csv --quiet"
KV, WEIGHTS = "kv-quant:bits=4", "weight-quant:bits=4"


@pytest.mark.parametrize(
    ("repeated", "once"),
    [
        ("-b 1,2 --columns step_s --columns bound", "-b 1,2 --columns step_s,bound"),
        ("-b 1,64 --phase chat --slo ttft:500 --slo tpot:8", "-b 1,64 --phase chat --slo 'ttft:500 tpot:8'"),
        (
            "-b 1,2 --pareto tokens_per_gpu_s --pareto tokens_per_user_s",
            "-b 1,2 --pareto tokens_per_gpu_s,tokens_per_user_s",
        ),
        ("--tp 1 --tp 2", "--tp 1,2"),
        ("--tp 1 --tensor-parallel-size 2,4", "--tp 1,2,4"),
        ("--tp 1 --axis tp=2", "--tp 1,2"),
        ("--axis overlap=0 --axis overlap=0.5,1", "--axis overlap=0,0.5,1"),
        ("--hw l40s --gpu a100-sxm-80gb", "--hw l40s,a100-sxm-80gb"),
        ("-b 1:4 -b 8:16:8", "-b 1:4,8:16:8"),
        ("-q bf16 --dtype fp8", "-q bf16,fp8"),
        (f"--with {KV} --with {WEIGHTS}", f"--with {KV}+{WEIGHTS}"),
        (f"--with {KV} --axis techniques={WEIGHTS}", f"--with {KV}+{WEIGHTS}"),
        (f"--with none --with {KV}", f"--with {KV}"),
        (f"--with none,{KV} --with none,{WEIGHTS}", f"--with none,{WEIGHTS},{KV},{KV}+{WEIGHTS}"),
        (
            f"--with spec:method=eagle,gamma=2,accept=0.6 --with {KV}",
            f"--with spec:method=eagle,gamma=2,accept=0.6+{KV}",
        ),
    ],
)
def test_a_repeated_flag_loses_nothing(repeated: str, once: str, command: Callable[..., Any]) -> None:
    line = ONE.replace("--hw h100-sxm ", "") if "--hw" in once else ONE
    done = command(f"{line} {repeated}")
    assert done.code == 0, done.err
    assert done.out == command(f"{line} {once}").out


def test_techniques_together_are_one_value_and_alternatives_one_each(command: Callable[..., Any]) -> None:
    together = pl.read_csv(command(f"{ONE} --with {KV} --with {WEIGHTS}").out.encode())
    assert together["techniques"].to_list() == [f"{WEIGHTS}+{KV}"]
    either = pl.read_csv(command(f"{ONE} --with {KV},{WEIGHTS}").out.encode())
    assert either["techniques"].to_list() == [KV, WEIGHTS]
    assert together["step_s"].item() < min(either["step_s"])


def test_simulations_read_repeated_flags_and_techniques_alike(command: Callable[..., Any]) -> None:
    drafts = "spec:method=eagle,gamma=2,accept=0.6"
    line = "sweep --trace examples/chat.jsonl -m llama-3.1-8b --hw h100-sxm --format csv --quiet"
    line += f" --columns completed --tp 1 --tp 2 --with none,{drafts} --with {KV}"
    rows = pl.read_csv(command(line).out.encode())
    assert sorted(rows.select("tp", "techniques").rows()) == [
        (tp, techniques) for tp in (1, 2) for techniques in (KV, f"{KV}+{drafts}")
    ]


def test_a_list_among_techniques_of_a_file_is_these_together(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "space.toml"
    axes = f'[axes]\nmodel = "llama-3.1-8b"\nhw = "h100-sxm"\ntechniques = [["{KV}", "{WEIGHTS}"], "none"]\n'
    for start in ("", 'trace = "examples/chat.jsonl"\n'):
        file.write_text(start + axes)
        rows = pl.read_csv(command(f"sweep {file} --format csv --quiet").out.encode())
        assert sorted(rows["techniques"]) == ["none", f"{WEIGHTS}+{KV}"]
    file.write_text('[axes]\nmodel = "llama-3.1-8b"\nhw = "h100-sxm"\ntechniques = [[4]]\n')
    refused = command(f"sweep {file}")
    assert refused.code == 2
    assert "axes.techniques must be names: [[4]]" in refused.err


def test_rows_come_as_csv(command: Callable[..., Any]) -> None:
    done = command(f"{SWEEP} --columns step_s,fits --format csv")
    rows = pl.read_csv(done.out.encode())
    assert rows.height == 31
    assert rows.columns[-2:] == ["step_s", "fits"]


def test_parts_are_written_once_and_resumed(command: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = command(f"{SWEEP} -o {out} --points-a-part 10 --shard 0/2")
    assert first.code == 0
    assert "2 of other shards are missing" in first.err
    assert not (out / "manifest.json").exists()
    rest = command(f"{SWEEP} -o {out} --points-a-part 10")
    assert "2 of 4 parts are there already" in rest.err
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["rows"], manifest["points"]) == (31, 32)
    assert "best 5 by tokens_per_gpu_s" in rest.out
    other = command(f"{SWEEP} --kv-cache-dtype fp8 -o {out} --points-a-part 10")
    assert other.code == 2
    assert "--fresh to start anew" in other.err
    assert command(f"{SWEEP} --kv-cache-dtype fp8 -o {out} --points-a-part 10 --fresh").code == 0


def test_nothing_feasible_ends_with_3_and_the_reasons(command: Callable[..., Any]) -> None:
    done = command("sweep -m llama-3.1-405b --hw t4,l4 --tp 1,3 -b 1,2 --max-gpus 2")
    assert done.code == 3
    assert done.out == ""
    assert "at least one point must be feasible: all 8 were dropped" in done.err
    assert "does not fit in memory" in done.err
    assert "gpus must be at most 2 (it is 3)" in done.err


MISTAKES = {
    "sweep": ("SPACE must be given, or axes as flags", "sweep space.toml"),
    "sweep nowhere.toml": ("nowhere.toml must exist", "as flags"),
    "sweep -m llama-3.1-8b": ("hw must be given", ""),
    "sweep -m llama-3.1-8b --hw h1000": ("no hardware is called `h1000`", "h100"),
    f"{SWEEP} --axis tpp=1": ("no axis is called `tpp`", "tp"),
    f"{SWEEP} --axis tp": ("--axis must read NAME=VALUES: tp", ""),
    f"{SWEEP} --pp 1,,2": ("pp must be values with commas between them", ""),
    f"{SWEEP} --pp one": ("pp must be whole numbers or ranges: 'one'", "1:1024:x2"),
    f"{SWEEP} --pp 1 --pp 1": ("pp must have each value once: 1", ""),
    f"{SWEEP} --with kv-quant:bits=4 --with kv-quand:bits=4": (
        "no technique is called `kv-quand`",
        "kv-quant",
    ),
    f"{SWEEP} --with kv-quant:bits=4 --with ,": ("techniques must be values with commas between them", ""),
    f"{SWEEP} --keep best": ("no keep is called `best`", "feasible"),
    f"{SWEEP} --pareto steps": ("no column is called `steps`", "step_s"),
    f"{SWEEP} --pareto step_s --keep all": ("--keep must be pareto with --pareto: all", ""),
    f"{SWEEP} --pareto step_s --by step_s": ("--by must be left out with --pareto", ""),
    f"{SWEEP} --by bound --keep topk": ("bound must say which way it is better", "min:bound"),
    f"{SWEEP} --columns steps": ("no column is called `steps`", "step_s"),
    f"{SWEEP} --columns ,": ("--columns must be names with commas between them", ""),
    f"{SWEEP} --slo fast": ("--slo must read `metric:milliseconds`: fast", "ttft:500"),
    f"{SWEEP} --slo itl:5": ("no latency metric is called `itl`", "ttft"),
    f"{SWEEP} --min-gpus 4 --max-gpus 2": ("--min-gpus must be at most --max-gpus: 4 and 2", ""),
    f"{SWEEP} --shard 0/2": ("--output must be given with --shard", "-o out/"),
    f"{SWEEP} --executor ray": ("--output must be given with --executor ray", "-o out/"),
    f"{SWEEP} --executor slurm": ("no executor is called `slurm`", "ray"),
    f"{SWEEP} -o out --shard 2/2": (
        "--shard must read i/n with i from 0 to n − 1: 2/2",
        "SLURM_ARRAY_TASK_ID",
    ),
    f"{SWEEP} --format yaml": ("no format is called `yaml`", "json"),
    f"{SWEEP} -o README.md/out": ("--output must be a folder that can be written: README.md/out", "or made"),
    f"{SWEEP} -o README.md": ("--output must be a folder that can be written: README.md", ""),
    f"{SWEEP} -o /proc/nowhere/out": ("--output must be a folder that can be written: /proc/nowhere/out", ""),
    f"{SWEEP} --keep topk": ("--by must be given with --keep topk", "--by tokens_per_gpu_s"),
    f"{SWEEP} --keep pareto": ("--pareto must be given with --keep pareto", "tokens_per_user_s"),
    f"{SWEEP} -o examples": ("examples holds other files", "another folder"),
    "sweep --trace examples/chat.jsonl --hw h100-sxm --pareto step_s": ("no figure is called `step_s`", ""),
    "sweep --trace examples/chat.jsonl --hw h100-sxm --pareto completed": (
        "completed must say which way it is better",
        "min:completed or max:completed",
    ),
    "sweep --trace examples/chat.jsonl --hw h100-sxm --keep topk": (
        "--by must be given with --keep topk",
        "",
    ),
    "sweep --trace examples/chat.jsonl --hw h100-sxm --columns step_s": ("no figure is called `step_s`", ""),
    f"{SWEEP} --spec-method eagles --num-speculative-tokens 2": ("spec:method must be one of", "eagle"),
    f"{SWEEP} --spec-acceptance 2": ("accept", ""),
    "sweep --trace examples/chat.jsonl --hw h100-sxm --within-context": (
        "--within-context must be left out of simulations",
        "over_context",
    ),
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered(line: str, command: Callable[..., Any]) -> None:
    text, hint = MISTAKES[line]
    done = command(line)
    assert done.code == 2, done
    assert done.err.startswith("error: ")
    assert text in done.err
    assert hint in done.err.partition(text)[2]
    assert "Traceback" not in done.err
    assert done.out == ""


def test_every_mistake_of_a_scenario_file_is_shown(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(
        'kep = "all"\ntop = 0\n[axes]\nhw = "h100-sxm"\ntpp = [1]\nbatch_size = [1.5]\noverlap = 2\n'
        'flash_attention = "yes"\n'
    )
    done = command(f"sweep {file}")
    assert done.code == 2
    assert f"{file} has 7 mistakes:" in done.err
    for text in (
        "axes.model must be given",
        "axes.tpp is not known (nearest: tp",
        "axes.batch_size must be whole numbers from 0 up, or a text such as `1:1024:x2`: [1.5]",
        "axes.overlap must be numbers from 0 to 1: 2",
        "axes.flash_attention must be true or false: 'yes'",
        "kep is not known (nearest: keep",
        "top: must be greater than or equal to 1: 0",
    ):
        assert text in done.err, done.err


NAMES = """keep = "best"
columns = ["step_s", "steps"]
objectives = ["min:step_s", "max:speed"]
[limits]
max_gpu = 3
[axes]
model = ["llama-3.1-8b", "lama-2-7b"]
hw = "h100x"
tp = [1, "two"]
tpp = 2
quantization = "fp8, fp9"
techniques = [
  "kv-quant:bits=4",
  "weight-quant:bits=9",
  "weight-quand:bits=4",
  ["n-m:n=5,m=4", "spec:method=eagle,gama=3,accept=1.5"],
  "kv-quant:bits=4+kv-quant:bits=3+n-m:m=x",
]
phase = "decod"
spec_method = "eagles"
engine = "vllmm"
"""


def test_an_unknown_key_hides_no_mistake_of_names_and_techniques(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "space.toml"
    file.write_text(NAMES)
    done = command(f"sweep {file}")
    assert (done.code, done.out) == (2, "")
    first, *lines, hint = done.err.splitlines()
    assert first == f"error: {file} has {len(lines)} mistakes:"
    assert [line.strip().partition(" (")[0] for line in lines] == [
        "axes.tpp is not known",
        "keep: must be 'feasible', 'all', 'pareto' or 'topk': 'best'",
        "axes.model[1] must be a known model: lama-2-7b",
        "axes.hw must be a known hardware: h100x",
        "axes.quantization[1] must be a known quantization: fp9",
        "axes.techniques[1].bits must be a number from 1 to 8, or 16: 9",
        "axes.techniques[2] must be a known technique: weight-quand",
        "axes.techniques[3][0].n must be at most m = 4: 5",
        "axes.techniques[3][1].gama is not known",
        "axes.techniques[3][1].accept must be numbers from 0 to 1 separated by slashes: 1.5",
        "axes.techniques[4].kv-quant must not be combined with `kv-quant:bits=4`: both decide how the KV cache is "
        "stored: `kv-quant:bits=3`",
        "axes.techniques[4].n-m.m must be a whole number from 1 to 65536: x",
        "axes.phase must be a known phase: decod",
        "axes.spec_method must be one of ngram, draft-model, medusa, eagle, mtp, lookahead, dflash: eagles",
        "axes.engine must be a known engine: vllmm",
        "axes.tp[1] must be whole numbers or ranges: 'two'",
        "limits.max_gpu is not known",
        "columns[1] must be a known column: steps",
        "objectives[1] must be a known column: speed",
    ]
    told = "\n".join(lines)
    for nearest in (
        "llama-2-7b",
        "h100-sxm",
        "fp8",
        "weight-quant",
        "gamma",
        "decode",
        "vllm",
        "max_gpus",
        "step_s",
    ):
        assert f"nearest: {nearest}" in told or f", {nearest}" in told, nearest
    assert "--schema" in hint


def test_a_scenario_of_simulations_names_all_its_mistakes(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "space.json"
    axes = {
        "hw": "h100x",
        "max_num_sesq": [1, 2],
        "techniques": ["none", "kv-quant:bit=4"],
        "engine": ["vllm", "tgi"],
    }
    file.write_text(json.dumps({"simulate": True, "axes": axes, "kep": "all"}))
    done = command(f"sweep {file}")
    assert done.code == 2
    for text in (
        f"{file} has 5 mistakes:",
        "kep is not known (nearest: keep",
        "axes.hw must be a known hardware: h100x",
        "axes.techniques[1].bit is not known (nearest: bits",
        "axes.engine[1] must be a known engine: tgi",
        "axes.max_num_sesq is not known (nearest: max_num_seqs",
    ):
        assert text in done.err, done.err


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("space.toml", "axes = [", "must be TOML"),
        ("space.json", "{", "must be JSON"),
        ("space.json", "[]", "must hold named values"),
        ("space.toml", "", "axes must be given"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(
    name: str, content: str, text: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    done = command(f"sweep {tmp_path / name}")
    assert done.code == 2
    assert text in done.err


def test_the_schema_of_scenario_files_is_published(command: Callable[..., Any]) -> None:
    schema = json.loads(command("sweep --schema").out)
    for kind in ("Scenario", "SimulateScenario"):
        keeps = schema["$defs"][kind]["properties"]["keep"]["enum"]
        assert keeps == ["feasible", "all", "pareto", "topk"]
    assert "batch_size" in schema["$defs"]["Axes"]["properties"]
    shipped = json.loads((ROOT / "docs" / "sweep.schema.json").read_text())
    assert schema == shipped, "write `roofline-fast sweep --schema` to docs/sweep.schema.json"


def test_scenarios_of_a_trace_are_swept(command: Callable[..., Any]) -> None:
    line = "sweep --trace examples/chat.jsonl -m llama-3.1-8b --hw h100-sxm,l40s --axis speedup=1,4"
    done = command(f"{line} --format csv --quiet")
    rows = pl.read_csv(done.out.encode())
    assert rows.select("hw", "speedup").rows() == [("h100-sxm", 1), ("h100-sxm", 4), ("l40s", 1), ("l40s", 4)]
    screen = command(f"{line} --quiet")
    assert "4 scenarios = 2 hw x 2 speedup" in screen.out


def test_scenarios_of_too_few_or_too_many_gpus_are_not_simulated(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    line = "sweep --trace examples/chat.jsonl -m llama-3.1-8b --hw h100-sxm --tp 1,2,4,8 --format csv"
    done = command(f"{line} --min-gpus 2 --max-gpus 4 --columns completed")
    assert done.code == 0, done
    assert [row.split(",")[:3] for row in done.out.splitlines()[1:]] == [
        ["h100-sxm", "llama-3.1-8b", tp] for tp in ("2", "4")
    ]
    file = tmp_path / "space.toml"
    file.write_text(
        'trace = "examples/chat.jsonl"\n[axes]\nhw = "h100-sxm"\nmodel = "llama-3.1-8b"\ntp = [1, 2, 4, 8]\n'
        "[limits]\nmin_gpus = 2\nmax_gpus = 4\n"
    )
    assert command(f"sweep {file} --format csv --columns completed").out == done.out
    none = command(f"{line} --min-gpus 16")
    assert none.code == 3, none
    assert "4 gpus must be at least 16" in " ".join(none.err.split())
    file.write_text(file.read_text().replace("min_gpus = 2", "min_gpus = 8"))
    wrong = command(f"sweep {file}")
    assert (wrong.code, wrong.out) == (2, "")
    assert "min_gpus must be at most max_gpus, 4: 8" in wrong.err


def test_the_best_scenarios_of_the_simulator_are_kept(command: Callable[..., Any], tmp_path: Path) -> None:
    line = "sweep --simulate -m llama-3.1-8b --hw h100-sxm,l40s --axis num_prompts=40 --quiet"
    line += " --isl 512 --osl 20 -r 4,40"
    every = pl.read_csv(command(f"{line} --format csv").out.encode())
    assert every.height == 4
    by = "output_throughput"
    best = pl.read_csv(
        command(f"{line} --keep topk --by {by} --top 1 --columns {by} --format csv").out.encode()
    )
    assert best.columns[-1] == by
    assert best[by].to_list() == [every[by].max()]
    out = tmp_path / "out"
    pareto = f"--pareto {by},min:mean_ttft_ms -o {out} --points-a-part 1 --format csv"
    front = pl.read_csv(command(f"{line} {pareto}").out.encode())
    rows = every.select(by, "mean_ttft_ms").rows()
    unbeaten = [
        row
        for row in rows
        if not any(other[0] >= row[0] and other[1] <= row[1] and other != row for other in rows)
    ]
    assert sorted(front.select(by, "mean_ttft_ms").rows()) == sorted(unbeaten)
    assert json.loads((out / "manifest.json").read_text())["best"]["rows"] == front.height


def test_a_file_may_ask_for_generated_traffic(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(
        """
simulate = true
keep = "topk"
objectives = ["request_throughput"]
top = 1
[axes]
model = "llama-3.1-8b"
hw = "h100-sxm"
num_prompts = 20
input_len = 256
output_len = 8
request_rate = [1, 50]
"""
    )
    rows = pl.read_csv(command(f"sweep {file} --format csv --quiet").out.encode())
    assert rows["request_rate"].to_list() == [50]


def test_an_interrupted_sweep_leaves_whole_parts_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = [sys.executable, "-m", "roofline_fast", "sweep", "-m", "llama-3.1-8b", "--hw", "h100-sxm"]
    line += ["-o", str(out)]
    line += ["-b", "1:400", "--input-len", "1:500", "--mode", "ideal", "--points-a-part", "1000"]
    running = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(out.glob("parts/*.json"))) < 3 and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    if running.returncode == 0:
        pytest.skip("it was done before it could be interrupted")
    assert running.returncode == 130, err
    assert "the same command goes on" in err
    assert err.count("interrupted") == 1
    assert "Traceback" not in err
    for file in out.glob("parts/*.parquet"):
        assert pl.read_parquet(file).height > 0
    again = subprocess.run(line, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "parts are there already" in again.stderr
    assert json.loads((out / "manifest.json").read_text())["points"] == 200_000


@pytest.mark.parametrize(
    "ask", ["--slo ttft:500", "--pareto ttft_s,tokens_per_gpu_s", "--keep topk --by e2e_s"]
)
def test_a_result_that_a_phase_has_not_is_told_where_it_is_asked_for(
    ask: str, command: Callable[..., Any]
) -> None:
    done = command(f"{ONE} -b 1:8 {ask}")
    assert (done.code, done.out) == (3, "")
    assert "error: at least one point must be feasible: all 8 were dropped" in done.err
    name = "e2e_s" if "e2e" in ask else "ttft_s"
    others = "chat has one" if "e2e" in ask else "prefill and chat have one"
    assert f"8  {name} is not known (phase = decode has none; {others})" in done.err


def test_limits_are_told_as_they_were_written(command: Callable[..., Any]) -> None:
    done = command(f"{ONE} -b 1:2 --phase chat --slo ttft:0.1ms")
    assert done.code == 3
    assert "ttft_s must be at most 0.0001 (it is " in done.err


def test_axes_and_limits_in_the_wrong_place_are_told_where_they_belong(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "space.toml"
    file.write_text('tp = [1, 2]\nmax_tpot_s = 0.1\n[axes]\nmodel = "llama-3.1-8b"\nhw = "h100-sxm"\n')
    done = command(f"sweep {file}")
    assert done.code == 2
    assert "tp must stand among the axes: write it under [axes]" in done.err
    assert "max_tpot_s must stand among the limits: write it under [limits]" in done.err


def test_a_limit_that_is_no_number_is_told_once(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(
        '[axes]\nmodel = "llama-3.1-8b"\nhw = "h100-sxm"\nphase = 3\n[limits]\nmax_ttft_s = "a"\n'
    )
    done = command(f"sweep {file}")
    assert done.code == 2
    assert (
        "has 2 mistakes:\n  axes.phase must be names: 3\n  limits.max_ttft_s must be a number: 'a'\n"
        in done.err
    )
