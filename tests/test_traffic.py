"""Generated traffic as a user asks for it: conversations, adapters, recorded clients, more than memory holds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf
from roofline_fast.traffic.kinds import WORKLOADS

from .conftest import shared

CHAT = "examples/chat.jsonl"
LENGTHS = {"0": {"input_tokens": "{10: 0.5, 20: 0.5}", "output_tokens": "{7: 1.0}", "reason_ratio": "{}"}}


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    """Return a folder of two clients, as ServeGen records them."""
    folder = tmp_path / "service"
    folder.mkdir()
    for number, rate in ((1, 0.5), (12, 1.5)):
        rates = f"0,{rate},1.0,Gamma,1.0,{1 / rate}\n600,0,0,,0,0\n1200,{rate},1.0,Weibull,1.0,{1 / rate}\n"
        (folder / f"chunk-{number}-trace.csv").write_text(rates)
        (folder / f"chunk-{number}-dataset.json").write_text(json.dumps(LENGTHS))
    return folder


def test_conversations_find_what_was_said(command: Callable[..., Any]) -> None:
    line = "simulate --sessions 20 --turns 4 --turn-delay-ms 500:900 --request-rate 2 --input-len 160 --output-len 20"
    answer = json.loads(command(f"{line} --hw h100 --format json --quiet").out)
    assert answer["completed"] == 80
    # Prompts of 160, 340, 520 and 700 tokens, of which what was asked before is found again in whole blocks.
    found = (160 + 336 + 512) / (160 + 340 + 520 + 700)
    assert answer["prefix_hit_rate"] == pytest.approx(found, abs=0.01)
    once = json.loads(command(f"{line} --no-enable-prefix-caching --hw h100 --format json --quiet").out)
    assert once["prefix_hit_rate"] in (None, 0)


def test_adapters_and_tenants_are_columns_and_are_written(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "load.jsonl"
    line = "--loras 3 --lora-dist zipf:1 --tenants 2 --prefix-len 64"
    assert command(f"trace generate -n 100 --request-rate 5 {line} -o {out}").code == 0
    requests = rf.Trace.read(out).requests
    assert set(requests["lora"]) == {"adapter-1", "adapter-2", "adapter-3"}
    assert set(requests["tenant"]) == {"tenant-1", "tenant-2"}
    drawn = rf.Trace.generate(100, request_rate=5, loras=3, lora_dist="zipf:1", tenants=2, prefix_len=64)
    assert drawn.requests.drop("request_id").equals(requests.drop("request_id"))
    columns = tmp_path / "load.parquet"
    assert command(f"trace convert {out} -o {columns}").code == 0
    assert rf.Trace.read(columns).requests["tenant"].equals(requests["tenant"])


def test_adapters_share_nothing(command: Callable[..., Any]) -> None:
    line = "simulate -n 200 --request-rate 2 --input-len 64 --output-len 2 --prefix-len 512 --hw h100"
    hits = [
        json.loads(command(f"{line} {more} --format json --quiet").out)["prefix_hit_rate"]
        for more in ("", "--loras 50")
    ]
    assert hits[1] < hits[0] - 0.15


def test_a_deviation_makes_a_number_a_normal_distribution() -> None:
    words = {"request_rate": 1, "output_len": 5, "seed": 3}
    plain = rf.Trace.generate(50, input_len="normal(200,30)", **words)
    assert plain.requests.equals(rf.Trace.generate(50, input_len=200, input_len_stddev=30, **words).requests)


def test_recorded_clients_send_at_their_rates(
    command: Callable[..., Any], clients: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sent.jsonl"
    done = command(f"trace generate --servegen {clients} -o {out}")
    assert done.code == 0, done.err
    assert "2 clients as ServeGen recorded them; each is a tenant" in done.err
    sent = rf.Trace.read(out).requests
    counts = dict(sent["tenant"].value_counts().iter_rows())
    assert counts["chunk-1"] == pytest.approx(600, rel=0.2)
    assert counts["chunk-12"] == pytest.approx(1800, rel=0.1)
    assert sent.filter(pl.col("arrival_s").is_between(601, 1199)).height == 0
    assert set(sent["prompt_tokens"]) == {10, 20}
    twice = rf.Trace.generate(servegen=str(clients), request_rate=2.66, duration=600)
    assert len(twice) == pytest.approx(1600, rel=0.1)
    assert "rates are multiplied by 1.33" in twice.information[0]
    late = rf.Trace.generate(servegen=str(clients), servegen_from=1200)
    assert len(late) == pytest.approx(1200, rel=0.15)
    run = rf.simulate(servegen=str(clients), duration=60, hw="h100-sxm")
    assert run.summary["completed"] > 50


def test_a_real_recording_has_its_published_rate(tmp_path: Path) -> None:
    archive = shared("traces", "servegen", "reason_deepseek-r1.tar.zst")
    try:
        subprocess.run(["tar", "--zstd", "-xf", str(archive), "-C", str(tmp_path)], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("tar cannot unpack zstd here")
    folder = next(tmp_path.rglob("chunk-0-trace.csv")).parent
    words = {"servegen": str(folder), "servegen_from": 36_000, "duration": 3600}
    assert len(rf.Trace.generate(**words)) == pytest.approx(46_616, rel=0.05)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_kind_of_traffic_stands_for_words_that_can_be_overruled(name: str) -> None:
    words = WORKLOADS[name]
    given = rf.Trace.generate(30, workload=name, request_rate=1, output_len=3)
    assert given.requests.equals(rf.Trace.generate(30, request_rate=1, **{**words, "output_len": 3}).requests)
    assert set(given.requests["output_tokens"]) == {3}


def test_a_kind_of_traffic_can_be_a_file(tmp_path: Path) -> None:
    folder = shared("traces", "workload_catalog")
    names = {"batch-rag": "batch-summarization-rag", "synthetic-data": "batch-synthetic-data-generation"}
    names |= {"agentic": "agentic-trace-replay"}
    for name in WORKLOADS:
        file = folder / f"{names.get(name, name)}.json"
        asked = {"num_prompts": 50, "request_rate": 1}
        of_file = rf.Trace.generate(workload=str(file), **asked)
        assert of_file.requests.equals(rf.Trace.generate(workload=name, **asked).requests), name
    broken = tmp_path / "broken.json"
    for text, must in (("{", "must be JSON"), ("[]", "must hold"), ('{"multi_turn": true}', "must hold")):
        broken.write_text(text)
        with pytest.raises(rf.SpecError, match=must):
            rf.Trace.generate(5, workload=str(broken))


def test_files_of_rates_and_kinds_of_traffic_are_answered_with_their_flags(
    command: Callable[..., Any], tmp_path: Path, clients: Path
) -> None:
    kind = tmp_path / "kind.json"
    kind.write_text('{"input_sequence_length": {}, "output_sequence_length": {}}')
    rates = tmp_path / "rates.csv"
    rates.write_text("start_s,rate_rps\n0,5\n")
    windows = tmp_path / "chunk-1-dataset.json"
    windows.write_text(json.dumps({"0": LENGTHS["0"], "21600": LENGTHS["0"]}))
    answers = {kind: "--workload FILE.json", rates: "--rate-series FILE.csv", windows: "--servegen FOLDER"}
    answers[clients / "chunk-1-trace.csv"] = "--servegen FOLDER"
    for file, flag in answers.items():
        done = command(f"simulate {file} --hw h100")
        assert done.code == 2
        assert flag in done.err.splitlines()[1], done.err


WRONG = {
    "--servegen nowhere": "servegen must be a folder of chunk-N-trace.csv and chunk-N-dataset.json: nowhere: ",
    f"--servegen {CHAT}": "servegen must be a folder of chunk-N-trace.csv",
    "--servegen x --input-len 5": "input_len must be left out with servegen: 5",
    "-n 5 --workload chat": "no workload is called `chat`",
    "-n 5 --workload nowhere.json": "nowhere.json must exist",
    "-n 5 --sessions 3": "sessions must be left out without turns: 3",
    "-n 5 --turns 0.5": "turns must be a whole number: 0.5",
    "-n 5 --turns 2 --turn-delay soon": "no distribution is called `soon`",
    "-n 5 --loras 0": "loras must be between 1 and 10000000: 0",
    "-n 5 --loras 2 --lora-dist zip": "lora_dist must be uniform or zipf:EXPONENT: zip",
    "-n 5 --tenant-dist uniform": "tenant_dist must be left out without tenants: uniform",
    "-n 5 --isl 1:9 --isl-stddev 3": "input_len_stddev must be given with a number: a distribution",
    "-n 5.5": "num_prompts must be a whole number: 5.5",
    "-n 1e12": "num_prompts must be between 1 and 4294967294: 1e12",
    "-n 5 --isl-scale 0": "isl_scale must be above 0 and finite: 0",
    "-n 5 --max-isl 0": "max_isl must be at least 1: 0",
    "-n 5 --idle-gap-cap -1": "idle_gap_cap must be above 0 and finite: -1",
}


@pytest.mark.parametrize("asked", WRONG)
def test_what_cannot_be_generated_is_refused(command: Callable[..., Any], tmp_path: Path, asked: str) -> None:
    done = command(f"trace generate {asked} -o {tmp_path / 'out.jsonl'}")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {WRONG[asked]}"), done.err
    assert list(tmp_path.iterdir()) == []


def test_a_trace_is_reshaped_before_it_is_replayed() -> None:
    plain = rf.Trace.read(CHAT).requests
    half = rf.Trace.read(CHAT).scaled(isl_scale=0.5, max_osl=50, idle_gap_cap=1).requests
    assert half["prompt_tokens"].sum() == pytest.approx(plain["prompt_tokens"].sum() / 2, rel=0.01)
    assert half["output_tokens"].max() == 50
    assert half["arrival_s"].diff().max() == pytest.approx(1)
    run = rf.simulate(CHAT, hw="h100-sxm", isl_scale=0.5, limit=20)
    assert run.trace.requests["prompt_tokens"].equals(half["prompt_tokens"][:20])


def test_more_requests_than_memory_holds_are_refused(command: Callable[..., Any]) -> None:
    done = command("simulate -n 4e9 --request-rate 1 --hw h100 --no-stream")
    assert done.code == 2
    assert "error: num_prompts must fit memory: 4,000,000,000 requests take 279 GiB of" in done.err
    done = command("simulate -n 5e9 --request-rate 1 --hw h100")
    assert done.code == 2
    assert "error: num_prompts must be between 1 and 4294967294: 5e9" in done.err


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.zst", "csv"])
def test_what_is_streamed_is_what_is_generated(tmp_path: Path, suffix: str) -> None:
    form = "vidur" if suffix == "csv" else None
    words: dict[str, Any] = {"request_rate": 7, "input_len": "1:99", "output_len": "1:9", "seed": 5}
    if form is None:
        words |= {"prefix_len": 40, "prefix_groups": 3, "loras": 2, "tenants": 4}
    streamed, whole = tmp_path / f"streamed.{suffix}", tmp_path / f"whole.{suffix}"
    count, notes = rf.Trace.generate_to(streamed, 70_000, format=form, **words)
    drawn = rf.Trace.generate(70_000, **words)
    drawn.write(whole, format=form)
    assert (count, notes) == (70_000, drawn.information)
    assert rf.Trace.read(streamed).requests.equals(rf.Trace.read(whole).requests)
    assert [path.name for path in tmp_path.iterdir()].count(streamed.name) == 1


def test_streaming_refuses_files_of_columns_and_conversations(tmp_path: Path) -> None:
    with pytest.raises(rf.SpecError, match="path must be a file that is written row by row"):
        rf.Trace.generate_to(tmp_path / "x.parquet", 10)
    with pytest.raises(rf.SpecError, match="turns must be left out of traffic in parts"):
        rf.Trace.generate_to(tmp_path / "x.jsonl", 10, turns=2)
    assert list(tmp_path.iterdir()) == []


def test_many_requests_are_written_as_they_are_drawn(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roofline_fast.cli import trace

    monkeypatch.setattr(trace, "LARGE", 1000)
    out = tmp_path / "many.jsonl.zst"
    done = command(f"trace generate -n 2e3 --request-rate 9 --isl 5 --osl 2 -o {out}")
    assert done.code == 0, done.err
    assert done.err == "many.jsonl.zst  native, 2,000 requests   seed 0\n"
    assert len(rf.Trace.read(out)) == 2000
