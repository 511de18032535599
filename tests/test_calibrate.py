"""Calibration: what is fitted, what is refused, and that the file it writes is used."""

from __future__ import annotations

import ast
import math
import re
import tomllib
from pathlib import Path

import polars as pl
import pytest
import roofline_fast as rf
from hypothesis import given, settings
from hypothesis import strategies as st
from roofline_fast.cli import run
from roofline_fast.measurements import benchmarks

PEAK, BANDWIDTH = 989.5e12, 3.35e12


def seconds(m: int, n: int, k: int) -> float:
    """Return what a multiplication takes at 80 % of either roof after 4 µs of launch."""
    return 4e-6 + max(2 * m * n * k / (0.8 * PEAK), 2 * (n * k + m * k + m * n) / (0.8 * BANDWIDTH))


def gemms(count: int = 240, scale: float = 1.0) -> pl.DataFrame:
    sizes = [1, 2, 4, 8, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
    widths = [1024, 2048, 4096, 5120, 8192, 14336, 16384]
    shapes = [(m, n, k) for m in sizes for n in widths for k in widths if n * k > 2**23][:count]
    rows = [
        {"op": "gemm", "m": m, "n": n, "k": k, "latency_us": 1e6 * scale * seconds(m, n, k)}
        for m, n, k in shapes
    ]
    return pl.DataFrame(rows)


def test_known_numbers_are_found_again() -> None:
    fitted = rf.calibrate(gemms(), "h100-sxm", prior=False)
    fit = fitted.fits.row(0, named=True)
    assert (fit["family"], fit["dtype"], fit["engine"], fit["refused"]) == ("gemm", "bf16", "vllm", None)
    assert fit["median_ape"] < 2
    assert fit["ideal_median_ape"] > 15
    numbers = dict(re.findall(r"^(\w+) = ([\d.e-]+)$", fitted.files["h100-sxm"], flags=re.M))
    assert math.isclose(float(numbers["em"]), 0.8, rel_tol=0.05)


def test_the_same_rows_give_the_same_file() -> None:
    once, again = (rf.calibrate(gemms(), "h100-sxm").files for _ in range(2))
    assert once == again


def test_a_file_that_was_written_is_read_and_used(tmp_path: Path) -> None:
    slow = gemms(scale=3.0)
    path = tmp_path / "mine.toml"
    rf.calibrate(slow, "h100-sxm", prior=False).write(path)
    own = rf.validate(slow, "h100-sxm", efficiency=path).errors.row(0, named=True)
    shipped = rf.validate(slow, "h100-sxm").errors.row(0, named=True)
    assert own["median_ape"] < 3 < 40 < shipped["median_ape"]


def test_other_fits_of_a_file_are_kept_where_it_is_updated(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    rf.calibrate(gemms(), "h100-sxm", engine="vllm").write(path)
    both = rf.calibrate(gemms(), "h100-sxm", engine="sglang", update=path).files["h100-sxm"]
    assert both.count("[[fit]]") == 2
    again = rf.calibrate(gemms(), "h100-sxm", engine="vllm", update=path).files["h100-sxm"]
    assert again.count("[[fit]]") == 1


def test_rows_that_beat_the_datasheet_are_left_out_and_counted() -> None:
    rows = gemms()
    wrong = rows.head(20).with_columns(latency_us=pl.col("latency_us") / 50)
    fit = rf.calibrate(pl.concat([rows, wrong]), "h100-sxm").fits.row(0, named=True)
    assert fit["beats_roofline"] == 20
    assert fit["rows"] == rows.height


@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_times_in_another_unit_are_told(factor: float) -> None:
    fitted = rf.calibrate(gemms(scale=factor), "h100-sxm")
    fit = fitted.fits.row(0, named=True)
    assert fit["rows"] == 0
    assert fit["unit_slip"] == gemms().height
    assert not fitted.files


@pytest.mark.parametrize("factor", [1e3, 1e-3, 1e6])
@pytest.mark.parametrize("share", [20, 3])
def test_rows_in_another_unit_among_others_are_left_out(factor: float, share: int) -> None:
    every = pl.int_range(pl.len()) % share == 0
    mixed = gemms().with_columns(latency_us=pl.col("latency_us") * pl.when(every).then(factor).otherwise(1.0))
    fit = rf.calibrate(mixed, "h100-sxm", prior=False).fits.row(0, named=True)
    assert fit["unit_slip"] + fit["beats_roofline"] == 240 // share
    assert fit["median_ape"] < 3


def test_a_few_slow_rows_do_not_move_a_fit() -> None:
    every = pl.int_range(pl.len()) % 20 == 0
    slow = gemms().with_columns(latency_us=pl.col("latency_us") * pl.when(every).then(10.0).otherwise(1.0))
    fit = rf.calibrate(slow, "h100-sxm", prior=False).fits.row(0, named=True)
    assert fit["rows"] == 240
    assert fit["median_ape"] < 3


def decodes(floor_us: float) -> pl.DataFrame:
    rows = [
        {"op": "generation_attention", "batch": n, "kv_len": context, "latency_us": floor_us}
        for n in (1, 2, 4, 8, 16, 32, 64, 128, 256)
        for context in (128, 512, 2048, 8192)
    ]
    cache = pl.col("batch") * pl.col("kv_len") * 4096.0
    frame = pl.DataFrame(rows).with_columns(heads=32, kv_heads=8, head_dim=128)
    due = 1e6 * cache / (0.9 * BANDWIDTH)
    return frame.with_columns(latency_us=pl.max_horizontal("latency_us", 12 + due))


def test_attention_that_waits_for_its_launch_is_not_fitted() -> None:
    eager = rf.calibrate(decodes(110.0), "h100-sxm", prior=False).fits.row(0, named=True)
    assert eager["launch_floor"] > 20
    graph = rf.calibrate(decodes(0.0), "h100-sxm", prior=False).fits.row(0, named=True)
    assert (graph["launch_floor"], graph["rows"]) == (0, 36)


def test_a_few_rows_promise_no_narrower_a_band_than_is_known(tmp_path: Path) -> None:
    few = gemms().sample(4, seed=2)
    fit = tomllib.loads(rf.calibrate(few, "h100-sxm").files["h100-sxm"])["fit"][0]
    _, low, _, high, _ = fit["error_q"]
    assert low < 0.95
    assert high > 1.05


def bending(m: int, n: int, k: int) -> float:
    """Return what a device takes that slows down the longer it is busy, as none of the numbers says."""
    due = seconds(m, n, k)
    return due * (1 + due / 1e-3)


def test_bands_beyond_the_largest_rows_hold_what_rows_of_a_device_that_slows_down_take(
    tmp_path: Path,
) -> None:
    shapes = [(row["m"], row["n"], row["k"]) for row in gemms(600).iter_rows(named=True)]
    rows = pl.DataFrame(
        {"op": "gemm", "m": m, "n": n, "k": k, "latency_us": 1e6 * bending(m, n, k)} for m, n, k in shapes
    ).sort(pl.col("m").cast(float) * pl.col("n") * pl.col("k"))
    known, larger = rows.head(280), rows.tail(rows.height - 280)
    path = tmp_path / "mine.toml"
    text = rf.calibrate(known, "h100-sxm", prior=False).files["h100-sxm"]
    path.write_text(text)
    fit = tomllib.loads(text)["fit"][0]
    size = max(row["m"] * row["n"] * row["k"] for row in known.iter_rows(named=True))
    assert fit["valid"]["size"][1] == pytest.approx(size, rel=1e-4)
    assert fit["beyond"] > 1.5
    held = rf.validate(larger, "h100-sxm", efficiency=path).errors["coverage"][0]
    path.write_text(re.sub(r"size = \[.*?\]", "bytes = [0.0, 1.0]", text))
    assert held > rf.validate(larger, "h100-sxm", efficiency=path).errors["coverage"][0]


def test_an_operator_far_larger_than_anything_measured_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(rf.calibrate(gemms().filter(pl.col("m") <= 8), "h100-sxm").files["h100-sxm"])
    question = [
        "analyze",
        "llama-3.1-8b",
        "--hw",
        "h100-sxm",
        "--efficiency",
        str(path),
        "--phase",
        "prefill",
    ]
    assert run([*question, "--isl", "8192"]) == 0
    assert "times as large as anything that fitted(mine.toml) was measured on" in capsys.readouterr().out
    assert run([*question, "--isl", "8"]) == 0
    assert "as anything that" not in capsys.readouterr().out


def test_a_table_of_which_most_rows_measure_their_launch_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [(m, n, k) for m in (1, 8, 64, 128) for n in (512, 1024, 2048) for k in (512, 1024, 2048, 3072)]
    floors = [{"op": "gemm", "m": m, "n": n, "k": k, "latency_us": 190.0} for m, n, k in small]
    path = tmp_path / "rows.csv"
    large = gemms(600).filter(pl.col("latency_us") > 500).head(15)
    pl.concat([large, pl.DataFrame(floors)]).write_csv(path)
    run(["calibrate", str(path), "--hw", "h100-sxm"])
    assert "rows of h100-sxm / vllm, gemm bf16 measure their launch" in capsys.readouterr().out


def test_the_floor_of_an_eager_launch_is_not_fitted() -> None:
    small = [(m, n, k) for m in (1, 8, 64, 128) for n in (512, 1024, 2048) for k in (512, 1024, 2048, 3072)]
    floors = [{"op": "gemm", "m": m, "n": n, "k": k, "latency_us": 190.0} for m, n, k in small]
    rows = pl.concat([gemms(), pl.DataFrame(floors)])
    fit = rf.calibrate(rows, "h100-sxm").fits.row(0, named=True)
    assert fit["launch_floor"] >= len(small)


def test_marked_noise_is_left_out() -> None:
    rows = gemms().with_columns(noisy=pl.int_range(pl.len()) < 10)
    fitted = rf.calibrate(rows, "h100-sxm")
    assert fitted.noisy == 10
    assert fitted.fits["rows"].to_list() == [230]


def test_too_few_rows_are_refused_with_what_is_missing() -> None:
    fitted = rf.calibrate(gemms().head(2), "h100-sxm")
    refused = fitted.fits["refused"].to_list()[0]
    assert refused == "needs 3 sound rows beside the numbers there are, has 2: measure 1 more"
    alone = rf.calibrate(gemms().head(5), "h100-sxm", prior=False).fits["refused"].to_list()[0]
    assert alone == "needs 8 sound rows for numbers nothing of its kind is known for, has 5: measure 3 more"


def test_a_prior_makes_few_rows_do() -> None:
    few = gemms().sample(8, seed=1)
    assert rf.calibrate(few, "h100-sxm").fits["median_ape"].to_list()[0] < 25


@settings(max_examples=10, deadline=None)
@given(st.floats(0.4, 0.95), st.floats(0.4, 0.95), st.floats(1e-6, 2e-5))
def test_whatever_the_device_reaches_is_found(ec: float, em: float, launch: float) -> None:
    rows = gemms(120).with_columns(
        latency_us=1e6
        * (
            launch
            + pl.max_horizontal(
                2.0 * pl.col("m") * pl.col("n") * pl.col("k") / (ec * PEAK),
                2.0
                * (pl.col("n") * pl.col("k") + pl.col("m") * (pl.col("k") + pl.col("n")))
                / (em * BANDWIDTH),
            )
        )
    )
    assert rf.calibrate(rows, "h100-sxm", prior=False).fits["median_ape"].to_list()[0] < 5


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (pl.DataFrame({"op": [], "m": []}, schema={"op": pl.String, "m": pl.Int64}), "must have rows: none"),
        (gemms().drop("op"), "measurements must have a column `op` (gemm, "),
        (
            gemms().drop("latency_us"),
            "measurements must have a column of times, one of latency_s, latency_ms",
        ),
        (gemms().with_columns(latency_ms=1.0), "must have one column of times: latency_ms and latency_us"),
    ],
)
def test_columns_that_are_missing_are_named(rows: pl.DataFrame, says: str) -> None:
    with pytest.raises(rf.SpecError) as error:
        rf.calibrate(rows, "h100-sxm")
    assert says in str(error.value)


def test_a_device_must_be_named_somewhere() -> None:
    with pytest.raises(rf.SpecError, match="must name a device, in a column"):
        rf.calibrate(gemms())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"op": pl.lit("warp_drive")}, "op must be one of gemm, "),
        ({"latency_us": pl.lit(-1.0)}, "time must be a positive number"),
        ({"latency_us": pl.lit(0.0)}, "time must be a positive number"),
        ({"latency_us": pl.lit(float("nan"))}, "time must be a positive number"),
        ({"m": pl.lit(0)}, "`m` must be a positive number"),
        ({"dtype": pl.lit("fp7")}, "dtype must be one of bf16, fp8, "),
        ({"system": pl.lit("h10")}, "no hardware is called `h10` (nearest: h100-"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_with_the_reason(change: dict[str, pl.Expr], why: str) -> None:
    rows = gemms().head(1).with_columns(**change)
    found = rf.validate(pl.concat([gemms(), rows], how="diagonal_relaxed"), "h100-sxm")
    assert any(why in reason for reason in found.refused["reason"].to_list())
    assert found.errors["n"].max() == 240


@pytest.mark.parametrize(
    ("hw", "count"), [("h100-sxm", 80), ("a100-80gb-sxm", 68), ("rtx-4090", 80), ("mi300x", 80), ("l4", 80)]
)
def test_the_plan_is_some_sixty_kernels_that_the_device_runs_and_calibrate_reads(hw: str, count: int) -> None:
    plan = benchmarks.benchmarks(rf.Hardware(hw))
    assert plan.height == count
    timed = plan.with_columns(latency_us=pl.lit(1e4))
    said = rf.validate(timed, hw)
    assert said.errors["n"].sum() > 0
    assert not said.refused["reason"].str.contains("unknown|must").any()
    assert (plan["kv_len"] > plan["q_len"]).sum() > 10


def plan_script(hw: str, engine: str = "any") -> str:
    return benchmarks.script(rf.Hardware(hw), engine)


@pytest.mark.parametrize("hw", ["h100-sxm", "a100-80gb-sxm", "rtx-4090", "mi300x", "arc-pro-b60", "v100-sxm"])
def test_the_script_of_the_plan_is_python_and_holds_every_kernel(hw: str) -> None:
    text = plan_script(hw)
    names = {
        node.targets[0].id
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert {"GEMMS", "FP8_GEMMS", "DECODES", "PREFILLS", "PASSES", "EXCHANGES", "CACHE_BYTES"} <= names
    assert not re.search("DEVICE_NAME|ENGINE_NAME|TABLES", text)
    assert f'"{hw}"' in text


def test_the_loop_of_the_plan_outgrows_the_cache() -> None:
    cache = int(re.search(r"CACHE_BYTES = (\d+)", plan_script("b200-sxm"))[1])
    assert cache >= 2 * 126 * 2**20


def test_the_script_of_the_plan_runs_on_a_processor(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    import subprocess
    import sys

    script, out = tmp_path / "bench.py", tmp_path / "m.csv"
    script.write_text(plan_script("h100-sxm"))
    subprocess.run([sys.executable, script, "--device", "cpu", "--quick", "--output", out], check=True)
    assert rf.validate(out).errors.height


def measured_by_script(hw: str) -> pl.DataFrame:
    """Return what the script would write on a device that reaches 80 % of its roofs."""
    plan = benchmarks.benchmarks(rf.Hardware(hw)).filter(pl.col("op") == "gemm")
    work = 2.0 * pl.col("m") * pl.col("n") * pl.col("k")
    peak = pl.when(pl.col("dtype") == "fp8").then(2 * PEAK).otherwise(PEAK)
    element = pl.when(pl.col("dtype") == "fp8").then(1).otherwise(2)
    moved = element * (pl.col("n") + pl.col("m")) * pl.col("k") + 2.0 * pl.col("m") * pl.col("n")
    seconds = 4e-6 + pl.max_horizontal(work / (0.8 * peak), moved / (0.8 * BANDWIDTH))
    about = {"system": pl.lit(hw), "backend": pl.lit("any"), "copies": pl.lit(64)}
    return plan.with_columns(latency_us=1e6 * seconds, **about)


def test_what_the_plan_measures_comes_before_what_is_shipped_under_every_engine(tmp_path: Path) -> None:
    csv, out = tmp_path / "measurements.csv", tmp_path / "mine.toml"
    measured_by_script("h100-sxm").write_csv(csv)
    assert run(["calibrate", str(csv), "-o", str(out), "--quiet"]) == 0
    for engine in ("vllm", "trtllm"):
        ops = rf.analyze("llama-3.1-8b", "h100-sxm", efficiency=out, engine=engine).ops
        assert ops.filter(op="qkv_proj")["source"].to_list() == ["fitted(mine.toml)"]


def test_rows_that_say_they_are_cold_are_held_to_the_memory(tmp_path: Path) -> None:
    # Faster than memory, which loops over one copy of a small weight may be, and over sixty-four may not.
    quick = gemms().filter(pl.col("n") * pl.col("k") < 2e7, pl.col("m") == 1)
    quick = quick.with_columns(latency_us=4 + 0.2 * pl.col("latency_us"))
    dropped = [
        rf.calibrate(pl.concat([gemms(), quick]).with_columns(copies=count), "h100-sxm").fits[
            "beats_roofline"
        ][0]
        for count in (1, 64)
    ]
    assert dropped[0] < dropped[1]


def test_the_command_writes_a_file_and_prints_the_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gemms().write_csv(tmp_path / "m.csv")
    out = tmp_path / "mine.toml"
    assert run(["calibrate", str(tmp_path / "m.csv"), "--hw", "h100-sxm", "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert "gemm" in said.out
    assert "errors of rows that were not fitted" in said.out
    assert f"--efficiency {out}" in said.err
    assert out.read_text().startswith("schema = 1\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["calibrate"], "MEASUREMENTS"),
        (["calibrate", "nowhere.csv"], "nowhere.csv"),
        (["calibrate", "--plan"], "--hw"),
        (
            ["calibrate", "--plan", "--hw", "h100", "-o", "x.txt"],
            "--output must end in .py with --plan: x.txt",
        ),
        (["validate"], "FILE_OR_FOLDER"),
    ],
)
def test_bad_input_is_refused_in_a_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert says in capsys.readouterr().err


def test_files_that_are_no_measurements_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.parquet").write_text("not parquet")
    assert run(["validate", str(tmp_path / "a.csv")]) == 2
    assert "must be of a kind that is known by its columns" in capsys.readouterr().err
    assert run(["validate", str(tmp_path / "b.parquet")]) == 2
    assert "must be parquet" in capsys.readouterr().err
    assert run(["validate", str(tmp_path / "none")]) == 2
    (tmp_path / "empty").mkdir()
    assert run(["validate", str(tmp_path / "empty")]) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"op": pl.lit("warp_drive")}, "row 1: warp_drive: op must be one of gemm, "),
        ({"latency_us": pl.lit(-1.0)}, "row 1: gemm: time must be a positive number: -1 (and 2 more)"),
        ({"latency_us": pl.lit(float("nan"))}, "row 1: gemm: time must be a positive number: NaN"),
        ({"n": pl.lit(0)}, "row 1: gemm: `n` must be a positive number: 0"),
        ({"dtype": pl.lit("fp7")}, "mxfp4, mxfp4_mxfp8: `fp7` (and 2 more)"),
    ],
)
def test_where_no_row_can_be_used_each_kind_is_told_with_its_first_row(
    change: dict[str, pl.Expr], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gemms().head(3).with_columns(**change).write_csv(tmp_path / "k.csv")
    assert run(["calibrate", str(tmp_path / "k.csv"), "--hw", "h100-sxm"]) == 2
    said = capsys.readouterr()
    assert says in said.err


def number(file: str, name: str) -> float:
    return float(dict(re.findall(r"^(\w+) = ([\d.e-]+)$", file, flags=re.M))[name])


def test_odd_shapes_have_a_band_of_their_own(tmp_path: Path) -> None:
    shapes = [
        (m, k, slower) for m in (1, 8, 64, 512) for k in (2048, 4096, 8192) for slower in (1, 1.3, 1.6, 1.9)
    ]
    odd = [
        {"op": "gemm", "m": m, "n": 256, "k": k, "latency_us": 1e6 * slower * seconds(m, 256, k)}
        for m, k, slower in shapes
    ]
    noise = 1 + 0.02 * (pl.int_range(pl.len()) % 7 - 3)
    usual_rows = gemms().with_columns(latency_us=pl.col("latency_us") * noise)
    rows = pl.concat([usual_rows, pl.DataFrame(odd)], how="vertical_relaxed")
    fitted = rf.calibrate(rows, "h100-sxm", prior=False)
    file = fitted.files["h100-sxm"]
    found = (re.findall(rf"{key} = \[(.*)\]", file)[0].split(",") for key in ("error_q", "odd_q"))
    usual, odd_ones = ([float(cell) for cell in cells] for cells in found)
    assert odd_ones[3] / odd_ones[1] > 1.4 * usual[3] / usual[1]
    path = tmp_path / "mine.toml"
    fitted.write(path)
    line = rf.validate(rows, "h100-sxm", efficiency=path).errors.row(0, named=True)
    assert 70 <= line["coverage"] <= 90


def test_short_multiplications_promise_no_peak_that_long_ones_never_reach() -> None:
    short = gemms().filter(pl.col("m") <= 64)
    fitted = rf.calibrate(short, "h100-sxm", prior=False)
    assert 0.7 < number(fitted.files["h100-sxm"], "ec") < 0.85


def test_slow_instructions_are_not_taken_for_slow_memory(tmp_path: Path) -> None:
    # (bytes/s, multiprocessors, clocks/s); 1.05 passes and 0.1 clocks a byte on both.
    devices = {"a100-80gb-sxm": (2.039e12, 108, 1.41e9), "a40": (0.696e12, 84, 1.74e9)}
    frames = {}
    for name, (bandwidth, cores, clock) in devices.items():
        bytes_moved = [4 * 4096 * 2**power for power in range(16)]
        frames[name] = pl.DataFrame(
            {
                "op": "rmsnorm",
                "m": [2**power for power in range(16)],
                "n": 4096,
                "latency_us": [
                    3 + 1e6 * one * (1.05 / bandwidth + 0.1 / (cores * clock)) for one in bytes_moved
                ],
            }
        )
    path = tmp_path / "a100.toml"
    rf.calibrate(frames["a100-80gb-sxm"], "a100-80gb-sxm", prior=False).write(path)
    path.write_text(path.read_text().replace('device = "a100-80gb-sxm"', 'device = "a40"'))
    line = rf.validate(frames["a40"], "a40", efficiency=path).errors.row(0, named=True)
    assert line["median_ape"] < 3


def test_products_of_heads_are_fitted_apart_from_whole_weights() -> None:
    shapes = [(m, heads) for m in (1, 4, 16, 64, 256, 1024) for heads in (8, 16, 32, 128)]
    rows = [
        {"op": op, "m": m, "heads": heads, "latency_us": 4 + 1e-4 * m * heads + 0.05 * heads}
        for op in ("mla_gen_pre", "mla_gen_post")
        for m, heads in shapes
    ]
    fit = rf.calibrate(pl.DataFrame(rows), "h100-sxm", prior=False).fits.row(0, named=True)
    assert (fit["family"], fit["dtype"], fit["rows"]) == ("gemm", "bf16-heads", 48)
    assert fit["median_ape"] < 15
