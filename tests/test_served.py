"""Whole steps and served requests: fitted, refused with the reason, and judged."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf
from hypothesis import given, settings
from hypothesis import strategies as st
from roofline_fast.cli import run

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
RUNS = SHARED / "e2e" / "llmservingsim_vllm" / "requests.parquet"
STEPS = SHARED / "e2e" / "h100_steps" / "steps.parquet"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared measurements are not here")


def steps(count: int = 40, **columns: Any) -> pl.DataFrame:
    """Return decode steps of one model, without their times."""
    sizes = pl.DataFrame({"decode_seqs": [1 + 3 * place for place in range(count)]})
    return sizes.with_columns(
        decode_kv_tokens=pl.col("decode_seqs") * 900, model=pl.lit("llama-3.1-8b"), tp=1, **columns
    )


def priced(rows: pl.DataFrame, **settings: Any) -> pl.Series:
    """Return what the steps are predicted to take, in ms."""
    found = rf.evaluate(
        rows.select(
            model="model",
            batch_size="decode_seqs",
            input_len=pl.col("decode_kv_tokens") // pl.col("decode_seqs"),
        ),
        hw="h100-sxm",
        columns=["step_s"],
        phase="decode",
        **settings,
    )
    return pl.DataFrame(found)["step_s"] * 1e3


def numbers(fitted: rf.Calibration) -> dict[str, float]:
    rows = fitted.fits.iter_rows(named=True)
    return {f"{row['family']}.{row['number']}": row["value"] for row in rows}


def served(slower: float = 1.0, host: float = 0.00066, count: int = 60) -> pl.DataFrame:
    """Return requests with the times a server would show that is so much slower than predicted."""
    trace = rf.Trace(
        arrival_s=[0.05 * place for place in range(count)],
        prompt_tokens=[200 + 37 * place % 900 for place in range(count)],
        output_tokens=[20 + 13 * place % 90 for place in range(count)],
    )
    rows = rf.simulate(trace, model="llama-3.1-8b", hw="h100-sxm", host={"h0": host}).requests
    return rows.select(
        "arrival_s",
        "prompt_tokens",
        "output_tokens",
        observed_ttft_s=pl.col("ttft_s") * slower,
        observed_tpot_s=pl.col("tpot_s") * slower,
    )


def test_the_hosts_time_is_found_from_steps() -> None:
    rows = steps()
    rows = rows.with_columns(step_ms=priced(rows, host={"h0": 0.003, "h1": 2e-5}))
    fitted = rf.calibrate(rows, "h100-sxm")
    found = numbers(fitted)
    assert found["host.h0_s"] > 0.001
    error = fitted.errors.row(0, named=True)
    assert error["metric"] == "step_ms"
    assert error["median_ape"] < 1 < 10 < error["before_median_ape"]


@settings(max_examples=8, deadline=None)
@given(st.floats(0.0, 0.004), st.floats(0.0, 3e-5))
def test_whatever_the_host_takes_steps_are_predicted_after_a_fit(h0: float, h1: float) -> None:
    rows = steps()
    rows = rows.with_columns(step_ms=priced(rows, host={"h0": h0, "h1": h1}))
    assert rf.calibrate(rows, "h100-sxm").errors["median_ape"][0] < 2


def test_a_file_of_steps_is_used_wherever_steps_are_priced(tmp_path: Path) -> None:
    rows = steps()
    rows = rows.with_columns(step_ms=priced(rows) * 1.3)
    path = tmp_path / "mine.toml"
    rf.calibrate(rows, "h100-sxm").write(path)
    text = path.read_text()
    assert 'family = "host"' in text
    assert "[[factor]]" in text
    after = priced(rows, efficiency=path)
    assert ((after / rows["step_ms"] - 1).abs().median() or 1.0) < 0.03
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[1000], output_tokens=[100])
    plain, mine = (
        rf.simulate(trace, model="llama-3.1-8b", hw="h100-sxm", efficiency=fits).summary["mean_tpot_ms"]
        for fits in (None, path)
    )
    assert 1.2 < mine / plain < 1.4
    one = rf.analyze("llama-3.1-8b", "h100-sxm", efficiency=path)
    assert one.step_s > 1.2 * rf.analyze("llama-3.1-8b", "h100-sxm").step_s
    assert one.step_s >= one.ideal_s


def test_fits_of_kernels_stay_in_a_file_that_steps_update(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'schema = 1\ndevice = "h100-sxm"\narchitecture = "hopper"\n\n[[fit]]\nengine = "vllm"\n'
        'family = "elementwise"\ndtype = "bf16"\nt0_s = 2e-6\npasses = 1.25\n'
    )
    rows = steps()
    rows = rows.with_columns(step_ms=priced(rows))
    text = rf.calibrate(rows, "h100-sxm", update=path).files["h100-sxm"]
    assert text.count('family = "elementwise"') >= 1
    assert "passes = 1.25" in text
    again = tmp_path / "again.toml"
    again.write_text(text)
    assert rf.calibrate(rows, "h100-sxm", update=again).files["h100-sxm"].count('family = "host"') == 1


def test_prompts_of_a_step_are_priced_with_its_answers() -> None:
    rows = steps(30, prefill_tokens=512, prefill_seqs=2)
    found = rf.validate(rows.with_columns(step_ms=20.0, hw=pl.lit("h100-sxm"))).errors
    assert found.rows_by_key("group", named=True)["all"][0]["n"] == 30
    groups = ["all", "gpu=h100-sxm", "engine=vllm", "model=llama-3.1-8b", "tp=1"]
    assert found.select("metric", "group").rows() == [("step_ms", group) for group in groups]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"step_ms": pl.lit(-3.0)}, "row 1: step_ms: must be a positive time: -3"),
        ({"step_ms": pl.lit(0.0)}, "row 1: step_ms: must be a positive time: 0"),
        ({"step_ms": pl.lit(float("nan"))}, "row 1: step_ms: must be a positive time: NaN"),
        ({"decode_seqs": pl.lit(-2)}, "row 1: decode_seqs: must not be negative: -2"),
        (
            {"decode_seqs": pl.lit(0)},
            "row 1: decode_seqs: must be at least one, or `prefill_tokens` positive",
        ),
        ({"decode_kv_tokens": pl.lit(0)}, "row 1: decode_kv_tokens: must be the tokens in the caches"),
        ({"tp": pl.lit(0)}, "row 1: tp: must be a whole number from 1: 0"),
        ({"model": pl.lit("nobody-knows")}, "row 1: model: no model is called `nobody-knows`"),
        ({"hw": pl.lit("abacus")}, "row 1: hw: no hardware is called `abacus`"),
    ],
)
def test_a_step_that_cannot_be_used_is_told_by_its_row_and_field(
    change: dict[str, pl.Expr], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = steps(3, step_ms=pl.lit(10.0)).with_columns(**change)
    rows.write_csv(tmp_path / "steps.csv")
    assert run(["calibrate", str(tmp_path / "steps.csv"), "--hw", "h100-sxm"]) == 2
    said = capsys.readouterr()
    assert says in said.out + said.err


def test_too_few_steps_are_refused_with_how_many_to_add() -> None:
    fitted = rf.calibrate(steps(4, step_ms=pl.lit(10.0)), "h100-sxm")
    assert fitted.fits["refused"].to_list() == ["needs 12 usable steps, has 4: measure 8 more"]
    alike = pl.concat([steps(1, step_ms=pl.lit(10.0))] * 20)
    (why,) = rf.calibrate(alike, "h100-sxm").fits["refused"].to_list()
    assert why.startswith("needs steps of different numbers of sequences")


def test_two_columns_of_times_are_refused() -> None:
    with pytest.raises(rf.SpecError, match="must have one column of times: step_s and step_ms"):
        rf.calibrate(steps(20, step_ms=pl.lit(1.0), step_s=pl.lit(1.0)), "h100-sxm")


def test_a_slower_server_is_found_from_its_requests(tmp_path: Path) -> None:
    fitted = rf.calibrate(served(1.25), "h100-sxm", model="llama-3.1-8b")
    errors = {row["metric"]: row for row in fitted.errors.iter_rows(named=True)}
    assert errors["tpot_ms"]["median_ape"] < 4 < 15 < errors["tpot_ms"]["before_median_ape"]
    assert numbers(fitted)["gemm.factor"] > 1.05
    path = tmp_path / "mine.toml"
    fitted.write(path)
    assert "api_latency_s" in path.read_text()
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[64], output_tokens=[2])
    told = rf.simulate(trace, model="llama-3.1-8b", hw="h100-sxm", efficiency=path).inputs["api_latency"]
    assert told == pytest.approx(1e3 * numbers(fitted)["serving.api_latency_s"], rel=1e-3)


def test_the_json_of_a_benchmark_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = served(1.2)
    gaps = [
        [tpot] * (tokens - 1)
        for tpot, tokens in zip(rows["observed_tpot_s"], rows["output_tokens"], strict=True)
    ]
    found = {
        "model_id": "llama-3.1-8b",
        "request_rate": 20.0,
        "start_times": rows["arrival_s"].to_list(),
        "input_lens": rows["prompt_tokens"].to_list(),
        "output_lens": rows["output_tokens"].to_list(),
        "ttfts": rows["observed_ttft_s"].to_list(),
        "itls": gaps,
    }
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(found))
    fitted = rf.calibrate(path, "h100-sxm")
    assert fitted.errors["n"].to_list() == [60, 6]
    assert rf.calibrate(rows, "h100-sxm", model="llama-3.1-8b").files.keys() == fitted.files.keys()
    assert run(["calibrate", str(path), "--hw", "h100-sxm", "-o", str(tmp_path / "mine.toml")]) == 0
    shown = capsys.readouterr().out
    assert "serving api_latency_s" in shown
    assert "gemm factor" in shown
    judged = rf.validate(path, "h100-sxm").errors
    assert judged.filter(metric="tpot_ms", group="all")["n"].to_list() == [60]


def traced(path: Path, prefix: int = 0) -> pl.DataFrame:
    """Write requests as a trace, which a cache shortens by their common beginning, and return them."""
    rows = served().select("arrival_s", "prompt_tokens", "output_tokens")
    rows = rows.with_columns(prompt_tokens=pl.col("prompt_tokens") + 2000)
    if prefix:
        rows = rows.with_columns(prefix_group=pl.lit("all"), prefix_tokens=prefix)
    rows.write_ndjson(path)
    told = rf.simulate(path, model="llama-3.1-8b", hw="h100-sxm").requests
    rows = rows.with_columns(
        observed_ttft_s=told["ttft_s"], observed_tpot_s=told["tpot_s"], observed_e2e_s=told["e2e_s"]
    )
    rows.write_ndjson(path)
    return rows


def test_a_trace_with_observed_times_is_replayed_as_the_trace_it_is(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = traced(path, prefix=1920)
    found = rf.validate(path, "h100-sxm", model="llama-3.1-8b").errors
    judged = {row["metric"]: row for row in found.iter_rows(named=True) if row["group"] == "all"}
    assert judged.keys() == {"ttft_ms", "tpot_ms", "e2e_ms"}
    assert max(row["median_ape"] for row in judged.values()) < 1e-4
    groups = {row["group"] for row in found.filter(metric="ttft_ms").iter_rows(named=True)}
    assert {"all", "gpu=h100-sxm", "engine=vllm", "model=llama-3.1-8b", "variant=means"} <= groups
    numbers = found.drop("ideal_median_ape")
    assert numbers.null_count().sum_horizontal().item() == 0, "what was priced has every figure"
    alone = rf.validate(rows.drop("prefix_group", "prefix_tokens"), "h100-sxm", model="llama-3.1-8b").errors
    assert alone.filter(metric="ttft_ms", group="variant=means")["median_ape"][0] > 20


def test_a_compressed_trace_is_judged_and_fitted_as_the_plain_one(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    traced(path)
    packed = tmp_path / "trace.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    settings = {"hw": "h100-sxm", "model": "llama-3.1-8b", "max_num_seqs": 64}
    plain, small = (rf.validate(place, **settings).to_list() for place in (path, packed))
    assert [line for line in plain if "run=" not in line["group"]] == [
        line for line in small if "run=" not in line["group"]
    ]
    fitted = [numbers(rf.calibrate(place, **settings)) for place in (path, packed)]
    assert fitted[0] == fitted[1]


def test_served_requests_of_which_nothing_says_the_device_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.jsonl"
    traced(path)
    assert run(["validate", str(path), "--model", "llama-3.1-8b"]) == 2
    assert (
        "hw must be given for served requests: nothing beside trace.jsonl says it" in capsys.readouterr().err
    )
    assert run(["validate", str(path), "--hw", "h100-sxm"]) == 2
    assert "model must be given" in capsys.readouterr().err
    assert run(["validate", str(path), "--hw", "h100-sxm", "-m", "llama-3.1-8b", "--format", "json"]) == 0
    assert '"e2e_ms"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ("nonsense", "must be JSON"),
        ({"mean_ttft_ms": 3.0}, "must hold each request's times, `ttfts` and `itls`"),
        (
            {"input_lens": [1], "output_lens": [1, 2], "ttfts": [0.1], "itls": [[]]},
            "must hold as many `input_lens`",
        ),
        (
            {"input_lens": [1], "output_lens": [1], "ttfts": [0.1], "itls": [[]], "request_rate": 4.0},
            "must say when requests were sent",
        ),
    ],
)
def test_a_benchmark_without_what_is_needed_says_so(found: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found))
    with pytest.raises(rf.SpecError) as error:
        rf.calibrate(path, "h100-sxm", model="llama-3.1-8b")
    assert says in str(error.value)


def test_requests_without_what_is_needed_are_refused() -> None:
    rows = served()
    with pytest.raises(rf.SpecError, match="model must be given for served requests"):
        rf.calibrate(rows, "h100-sxm")
    with pytest.raises(rf.SpecError, match="must have a column `prompt_tokens`"):
        rf.calibrate(rows.drop("prompt_tokens"), "h100-sxm", model="llama-3.1-8b")
    with pytest.raises(rf.SpecError, match="must hold 20 requests with observed times"):
        rf.calibrate(rows.head(5), "h100-sxm", model="llama-3.1-8b")
    both = pl.concat([rows.with_columns(run=pl.lit(name)) for name in ("a", "b")])
    with pytest.raises(rf.SpecError, match="run must name one of the runs of the file, a, b"):
        rf.calibrate(both, "h100-sxm", model="llama-3.1-8b")
    assert rf.calibrate(both, "h100-sxm", model="llama-3.1-8b", run="a").files


def test_settings_of_serving_are_refused_beside_kernels() -> None:
    rows = pl.DataFrame({"op": ["gemm"], "m": [1], "n": [64], "k": [64], "latency_us": [5.0]})
    with pytest.raises(rf.SpecError, match="tp must be given with steps or served requests"):
        rf.calibrate(rows, "h100-sxm", tp=2)
    points = pl.DataFrame({"silicon_tpot_ms": [1.0]})
    with pytest.raises(rf.SpecError, match="must be kernels, steps or served requests"):
        rf.calibrate(points, "h100-sxm")


def test_fits_of_another_device_stand_for_its_own() -> None:
    own = rf.analyze("llama-3.1-8b", "h100-sxm")
    other = rf.analyze("llama-3.1-8b", "h100-sxm", efficiency="b200-sxm")
    assert other.source.startswith("transferred(b200-sxm")
    assert own.source.startswith("fitted(h100-sxm")
    assert other.step_s != own.step_s
    wide = (other.high_s or 0) / other.step_s
    assert wide > (own.high_s or 0) / own.step_s


def test_bounds_of_requests_hold_what_was_simulated() -> None:
    rows = served()
    trace = rf.Trace(
        arrival_s=rows["arrival_s"], prompt_tokens=rows["prompt_tokens"], output_tokens=rows["output_tokens"]
    )
    found = rf.simulate(trace, model="llama-3.1-8b", hw="h100-sxm")
    both = pl.concat([found.requests.select("tpot_s", "e2e_s"), found.request_bands], how="horizontal")
    assert both.filter(pl.col("e2e_low_s") > pl.col("e2e_s") + 1e-9).is_empty()
    assert both.filter(pl.col("e2e_high_s") < pl.col("e2e_s") - 1e-9).is_empty()
    nothing = rf.simulate(trace, model="llama-3.1-8b", hw="h100-sxm", mode="ideal").request_bands
    assert set(nothing.null_count().row(0)) == {rows.height}


def test_the_latencies_of_a_chat_lie_in_their_bands() -> None:
    chat = rf.analyze("llama-3.1-8b", "h100-sxm", phase="chat", batch_size=8)
    assert chat.ttft_low_s is not None
    assert chat.tpot_high_s is not None
    assert chat.ttft_low_s <= (chat.ttft_s or 0) <= (chat.ttft_high_s or 0)
    assert (chat.tpot_low_s or 1) <= (chat.tpot_s or 0) <= chat.tpot_high_s
    ideal = rf.analyze("llama-3.1-8b", "h100-sxm", phase="chat", mode="ideal")
    assert ideal.ttft_low_s is None
    assert ideal.tpot_high_s is None


@needs_data
def test_bars_of_steps_hold() -> None:
    errors = rf.validate(STEPS).errors
    median = dict(zip(errors["group"], errors["median_ape"], strict=True))
    assert median["all"] <= 8
    assert median["variant=calibrated_on_others"] <= 4
    assert median["variant=prefill"] <= 8
    assert median["variant=line"] <= 2


@needs_data
def test_bars_of_replayed_runs_hold_with_fits_of_other_devices() -> None:
    errors = rf.validate(RUNS).errors
    errors = errors.filter(pl.col("group").str.starts_with("variant=means_other_gpu"))
    worst = errors.group_by("metric").agg(pl.col("median_ape").max())
    bars = {"e2e_ms": 8, "tpot_ms": 8, "ttft_ms": 20}
    assert worst.height == 3
    for metric, error in worst.iter_rows():
        assert error <= bars[metric], metric


@needs_data
@pytest.mark.parametrize(
    ("fitted_on", "judged_on", "other"),
    [
        ("RTX4090__Llama-3.1-8B", "RTXPRO6000__Llama-3.1-8B", "b200-sxm"),
        ("RTXPRO6000__Llama-3.1-8B", "RTX4090__Llama-3.1-8B", "l40s"),
    ],
)
def test_bars_of_replayed_runs_hold_after_calibrating_on_the_other(
    fitted_on: str, judged_on: str, other: str, tmp_path: Path
) -> None:
    from roofline_fast.measurements.requests import runs

    others = {"RTX4090__Llama-3.1-8B": "l40s", "RTXPRO6000__Llama-3.1-8B": "b200-sxm"}
    path = tmp_path / "other.toml"
    rf.calibrate(RUNS, run=fitted_on, efficiency=others[fitted_on]).write(path)
    (judged,) = (one for one in runs(RUNS, pl.read_parquet(RUNS)) if one.name == judged_on)
    told = rf.simulate(judged.trace, efficiency=f"{path},{other}", api_latency=0, **judged.settings).requests
    for column, bar in (("e2e_s", 0.03), ("tpot_s", 0.03), ("ttft_s", 0.10)):
        assert abs(told[column].mean() / judged.rows[column].mean() - 1) <= bar, column  # type: ignore[operator]


def slower(path: Path, factor: float = 1.5) -> Path:
    """Write an efficiency file under which multiplications on an H100 take so many times as long."""
    path.write_text(
        'schema = 1\ndevice = "h100-sxm"\narchitecture = "hopper"\n\n[[factor]]\nengine = "vllm"\n'
        f'family = "gemm"\nfactor = {factor}\n'
    )
    return path


POINT = {
    "backend": "vllm",
    "model_path": "llama-3.1-8b",
    "system": "h100_sxm",
    "mode": "agg",
    "isl": 512,
    "osl": 64,
    "tp_size": 1,
    "concurrency": 4,
    "silicon_ttft_ms": 30.0,
    "silicon_tpot_ms": 7.0,
}


def kinds() -> dict[str, tuple[pl.DataFrame, dict[str, Any]]]:
    """Return steps, requests and points of servers, and how each is judged."""
    rows = steps(hw=pl.lit("h100-sxm"))
    return {
        "steps": (rows.with_columns(step_ms=priced(steps())), {}),
        "requests": (served(), {"hw": "h100-sxm", "model": "llama-3.1-8b"}),
        "points": (pl.DataFrame([POINT]), {}),
    }


@pytest.mark.parametrize("kind", ["steps", "requests", "points"])
def test_what_is_served_is_judged_under_an_efficiency_file(kind: str, tmp_path: Path) -> None:
    rows, about = kinds()[kind]
    path, file = slower(tmp_path / "slow.toml"), tmp_path / "rows.csv"
    rows.write_csv(file)
    metric = "step_ms" if kind == "steps" else "tpot_ms"
    flags = [word for name, value in about.items() for word in (f"--{name}", value)]
    bias = []
    for fits in ([], ["--efficiency", str(path)], ["--efficiency", str(path), "--efficiency", "h100-sxm"]):
        out = tmp_path / "out.json"
        assert run(["validate", str(file), *flags, *fits, "--quiet", "-o", str(out)]) == 0
        found = json.loads(out.read_text())
        bias.append(next(one for one in found if (one["metric"], one["group"]) == (metric, "all"))["bias"])
    assert bias[1] > bias[0] + 5
    assert bias[2] == pytest.approx(bias[1], rel=0.2)


@pytest.mark.parametrize("kind", ["steps", "requests", "points"])
def test_an_efficiency_file_that_is_none_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, about = kinds()[kind]
    file, broken = tmp_path / "rows.csv", tmp_path / "broken.toml"
    rows.write_csv(file)
    broken.write_text("this is no toml")
    flags = [word for name, value in about.items() for word in (f"--{name}", value)]
    for path in (tmp_path / "nosuch.toml", broken):
        assert run(["validate", str(file), *flags, "--efficiency", str(path)]) == 2
        assert path.name in capsys.readouterr().err


def test_efficiency_must_be_paths() -> None:
    with pytest.raises(rf.SpecError, match="efficiency must be a path or several"):
        rf.validate(pl.DataFrame([POINT]), efficiency=3)  # type: ignore[arg-type]


def test_a_device_that_every_point_names_is_not_given_again() -> None:
    with pytest.raises(rf.SpecError, match="hw must be left out where every row says it in `system`"):
        rf.validate(pl.DataFrame([POINT]), "b200-sxm")
    with pytest.raises(rf.SpecError, match="engine must be left out where every row says it in `backend`"):
        rf.validate(pl.DataFrame([POINT]), engine="sglang")
    bare = pl.DataFrame([POINT]).drop("system", "backend")
    given = rf.validate(bare, "h100-sxm", engine="vllm").errors
    assert given.drop("group").equals(rf.validate(pl.DataFrame([POINT])).errors.drop("group"))
    assert "`system` must name a device: there is none" in rf.validate(bare).refused["reason"][0]


def test_requests_beside_points_come_after_them(tmp_path: Path) -> None:
    pl.DataFrame([POINT]).write_csv(tmp_path / "points.csv")
    served().write_csv(tmp_path / "requests.csv")
    found = rf.validate(tmp_path, "h100-sxm", model="llama-3.1-8b").errors
    of = found.filter(metric="ttft_ms")
    assert of.filter(group="all")["n"].to_list() == [1]
    assert of.filter(group="variant=requests")["n"].to_list() == [60]
    assert found.filter(metric="e2e_ms", group="all")["n"].to_list() == [60]
    assert found.select("metric", "group").is_unique().all()


def test_offline_batches_are_times_until_all_are_done() -> None:
    batch = {"model": "meta-llama/Meta-Llama-3-8B", "n_gpus": 1, "batch": 4, "isl_eq_osl": 128}
    rows = [
        batch | {"gpu": "H100", "engine": engine, "e2e_latency_s": 1.0} for engine in ("vLLM", "llama.cpp")
    ]
    found = rf.validate(pl.DataFrame(rows)).errors
    told = {row["group"]: (row["n"], row["refused"]) for row in found.iter_rows(named=True)}
    assert (told["all"], told["engine=vllm"], told["engine=llama.cpp"]) == ((1, 1), (1, 0), (0, 1))
    assert told["gpu=h100-sxm"] == (1, 1)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"backend": "zzz"}, "`backend` must name vllm, sglang or trtllm: `zzz`"),
        ({"silicon_tpot_ms": 0.007}, "times are off by a factor of 1000: another unit?"),
        ({"silicon_tpot_ms": 7000.0}, "times are off by a factor of 1000: another unit?"),
        ({"silicon_tpot_ms": 0.0}, "the measured time must be a positive number"),
        ({"concurrency": 0}, "`concurrency` must be a positive number"),
        ({"system": "abacus"}, "no hardware is called `abacus`"),
    ],
)
def test_a_point_that_cannot_be_held_to_says_why(change: dict[str, Any], why: str) -> None:
    found = rf.validate(pl.DataFrame([POINT | change]))
    assert found.refused.filter(metric="tpot_ms")["reason"].to_list() == [why]
    assert found.errors.filter(metric="tpot_ms")["n"].to_list()[0] == 0


def test_points_need_their_columns_and_one_of_both_times() -> None:
    alone = rf.validate(pl.DataFrame([POINT]).drop("silicon_ttft_ms"))
    assert alone.errors["metric"].unique().to_list() == ["tpot_ms"]
    first = rf.validate(pl.DataFrame([POINT]).drop("silicon_tpot_ms"))
    assert first.errors["metric"].unique().to_list() == ["ttft_ms"]
    with pytest.raises(rf.SpecError, match="points must have a column of numbers `concurrency`"):
        rf.validate(pl.DataFrame([POINT]).drop("concurrency"))


def test_the_host_launches_kernels_in_the_time_it_is_given() -> None:
    of = {"phase": "prefill", "batch_size": 1, "input_len": 1024, "tp": 8, "engine": "sglang"}
    said = [
        rf.analyze("llama-3.1-8b", "h100-sxm", host={"h0": 0.0, "launch": launch}, **of)
        for launch in (0.0, 45e-6, 90e-6)
    ]
    assert said[0].step_s < said[1].step_s
    assert said[2].step_s == pytest.approx(2 * said[1].step_s, rel=1e-3), "it is launching alone"
    with pytest.raises(rf.SpecError, match=r"host\.launch must be seconds from 0 to 10: -1"):
        rf.analyze("llama-3.1-8b", "h100-sxm", host={"launch": -1.0}, **of)
