"""Files of measurements as users have them: how they may be written, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import roofline_fast as rf
from roofline_fast.cli import run
from roofline_fast.measurements import reader

PEAK, BANDWIDTH = 989.5e12, 3.35e12


def gemms() -> pl.DataFrame:
    shapes = [(m, n, k) for m in (1, 16, 256, 4096) for n in (2048, 8192) for k in (2048, 4096, 16384)]
    frame = pl.DataFrame(shapes, schema=["m", "n", "k"], orient="row")
    due = 2.0 * pl.col("m") * pl.col("n") * pl.col("k") / (0.78 * PEAK)
    read = 2.0 * pl.col("n") * pl.col("k") / (0.8 * BANDWIDTH)
    return frame.with_columns(
        op=pl.lit("gemm"), system=pl.lit("h100_sxm"), latency_ms=4e-3 + 1e3 * pl.max_horizontal(due, read)
    )


def errors(path: Path) -> list[dict[str, object]]:
    return rf.validate(path).to_list()


def test_columns_may_be_capitals_between_spaces_and_numbers_may_be_texts(tmp_path: Path) -> None:
    plain = tmp_path / "plain.csv"
    gemms().write_csv(plain)
    loud = gemms().rename({"op": "Op", "m": " M ", "latency_ms": "Latency_ms"})
    loud.write_csv(tmp_path / "loud.csv")
    gemms().cast(pl.String).write_parquet(tmp_path / "texts.parquet")
    gemms().write_csv(tmp_path / "semicolons.csv", separator=";")
    gemms().write_csv(tmp_path / "tabs.csv", separator="\t")
    for name in ("loud.csv", "texts.parquet", "semicolons.csv", "tabs.csv"):
        assert errors(tmp_path / name) == errors(plain), name
    assert rf.validate(loud).to_list() == errors(plain)


def test_a_column_that_two_names_would_become_stays_as_it_is() -> None:
    frame = reader.tidy(pl.DataFrame({"M": [1], "m": [2], "TTFT_ms": [3.0], "observed_tpot_ms": ["x"]}))
    assert frame.columns == ["M", "m", "ttft_s", "observed_tpot_s"]
    assert frame["ttft_s"].to_list() == [0.003]


@pytest.mark.parametrize("command", ["validate", "calibrate"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"op": pl.lit("warp_drive")}, "row 1: warp_drive: op must be one of gemm, mla_gen_pre"),
        ({"dtype": pl.lit("fp7")}, "dtype must be one of bf16, fp8, fp8_block"),
        ({"system": pl.lit("h10")}, "no hardware is called `h10` (nearest: h100-"),
        ({"latency_ms": pl.lit(-1.0)}, "row 1: gemm: time must be a positive number: -1 (and 23 more)"),
        ({"latency_ms": pl.lit(float("nan"))}, "row 1: gemm: time must be a positive number: NaN"),
    ],
)
def test_where_nothing_can_be_used_the_command_fails_and_says_which_row_and_why(
    command: str,
    change: dict[str, pl.Expr],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gemms().with_columns(**change).write_csv(tmp_path / "k.csv")
    assert run([command, str(tmp_path / "k.csv"), "--format", "json"]) == 2
    assert says in capsys.readouterr().err


def test_points_of_which_none_can_be_priced_fail_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = {"backend": "vllm", "model_path": "nobody/knows", "system": "h100_sxm", "mode": "agg"}
    point |= {"isl": 1024, "osl": 256, "tp_size": 1, "concurrency": 8}
    pl.DataFrame([point | {"silicon_ttft_ms": 1.0, "silicon_tpot_ms": 1.0}]).write_csv(tmp_path / "p.csv")
    assert run(["validate", str(tmp_path / "p.csv"), "--format", "json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)[0]["n"] == 0
    assert "measurements must hold a row that can be priced: none can" in said.err
    assert "nobody/knows" in said.err


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "k.csv",
            "op,m,n,k,latency_ms\ngemm,1,1,1,12 ms\n",
            "latency_ms must hold numbers, its name says the",
        ),
        ("k.csv", "op,m,n,k,latency_ms\ngemm,1,1,1,12 ms\n", "`12 ms` in row 1"),
        ("k.jsonl", '{"op": "gemm", "m": 1}\nbroken\n', "k.jsonl must be jsonl: line 2: Expecting value"),
        ("k.jsonl", '{"op": "gemm"}\n[1, 2]\n', "k.jsonl must be jsonl: line 2 is no object"),
        ("k.csv", "foo,bar\n1,2\n", "k.csv must be of a kind that is known by its columns: foo, bar"),
        ("k.csv", "foo,bar\n1,2\n", "steps have `step_ms`, `decode_seqs` and `decode_kv_tokens`"),
        ("k.csv", "m,n,k,latency_ms\n1,1,1,1\n", "must have a column `op` (gemm, "),
    ],
)
def test_files_that_cannot_be_read_say_what_is_wrong_and_where(
    name: str, text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    for command in ("validate", "calibrate"):
        assert run([command, str(tmp_path / name), "--hw", "h100-sxm"]) == 2
        assert says in capsys.readouterr().err, command


@pytest.mark.parametrize("times", [1.1, 3.0])
def test_one_long_kernel_near_its_roofline_is_no_slip_of_a_unit(times: float) -> None:
    due = 2.0 * 16384 * 16384 * 8192 / PEAK
    row = {"op": ["gemm"], "m": [16384], "n": [16384], "k": [8192], "latency_ms": [times * due * 1e3]}
    found = rf.validate(pl.DataFrame(row), "h100-sxm")
    assert found.errors["n"].max() == 1
    slipped = pl.DataFrame(row).with_columns(pl.col("latency_ms") * 1000)
    assert "another unit" in rf.validate(slipped, "h100-sxm").refused["reason"][0]


def test_a_floor_is_told_from_a_few_rows_if_not_one_is_quicker() -> None:
    small = [(m, n, k) for m in (1, 16, 63) for n in (256, 1024, 4096) for k in (256, 1024)][:15]
    rows = pl.DataFrame(small, schema=["m", "n", "k"], orient="row").with_columns(
        op=pl.lit("gemm"), latency_us=57.0
    )
    fit = rf.calibrate(rows, "h100-sxm").fits.row(0, named=True)
    assert fit["launch_floor"] == 15
    quick = rows.with_columns(latency_us=5.0 + pl.col("n") * pl.col("k") * 1e-6)
    assert rf.calibrate(quick, "h100-sxm").fits["launch_floor"].to_list() == [0]


def test_errors_of_odd_shapes_are_told_beside_those_of_usual_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = gemms().with_columns(n=pl.col("n") // 32, latency_ms=pl.col("latency_ms") * 0.5)
    pl.concat([gemms(), odd], how="vertical_relaxed").write_csv(tmp_path / "k.csv")
    fit = rf.calibrate(tmp_path / "k.csv", prior=False).fits.row(0, named=True)
    assert fit["odd"] == odd.height
    assert fit["odd_median_ape"] > fit["median_ape"]
    assert run(["calibrate", str(tmp_path / "k.csv"), "-o", str(tmp_path / "mine.toml")]) == 0
    assert "odd: those of shapes that serving hardly meets" in capsys.readouterr().out
    assert f"odd_held_out = {odd.height}" in (tmp_path / "mine.toml").read_text()


def test_bands_of_few_rows_are_wider() -> None:
    rows = gemms().with_columns(
        latency_ms=pl.col("latency_ms") * (1 + 0.1 * (pl.int_range(pl.len()) % 3 - 1))
    )

    def width(frame: pl.DataFrame) -> float:
        line = next(
            line for line in rf.calibrate(frame).files["h100-sxm"].splitlines() if line.startswith("error_q")
        )
        numbers = [float(cell) for cell in line.split("[")[1].rstrip("]").split(",")]
        return numbers[3] / numbers[1]

    many = pl.concat([rows] * 8).with_columns(m=pl.col("m") + pl.int_range(pl.len()) // rows.height * 16)
    assert width(rows) > width(many)


def steps(scale: float) -> pl.DataFrame:
    sequences = list(range(4, 64, 4))
    return pl.DataFrame(
        {
            "decode_seqs": sequences,
            "decode_kv_tokens": [1000 * n for n in sequences],
            "step_ms": [scale * (7.0 + 0.02 * n) for n in sequences],
            "model": "llama-3.1-8b",
        }
    )


@pytest.mark.parametrize("scale", [1e3, 1e-3])
def test_steps_in_another_unit_are_refused(scale: float, tmp_path: Path) -> None:
    fitted = rf.calibrate(steps(scale), "h100-sxm")
    assert not fitted.files
    assert "as predicted: another unit?" in fitted.fits["refused"][0]
    assert rf.calibrate(steps(1.0), "h100-sxm").files


def test_steps_that_cannot_be_used_are_told_once_a_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps(1.0).with_columns(step_ms=-pl.col("step_ms")).write_csv(tmp_path / "s.csv")
    assert run(["calibrate", str(tmp_path / "s.csv"), "--hw", "h100-sxm"]) == 2
    assert "row 1: step_ms: must be a positive time: -7.08 (and 14 more)" in capsys.readouterr().err


def requests(**change: pl.Expr) -> pl.DataFrame:
    count = 24
    return pl.DataFrame(
        {
            "arrival_s": [0.2 * place for place in range(count)],
            "prompt_tokens": [300 + 10 * place for place in range(count)],
            "output_tokens": [40 + place for place in range(count)],
            "observed_ttft_s": [0.02 + 1e-4 * place for place in range(count)],
            "observed_tpot_s": [0.0075] * count,
        }
    ).with_columns(**change)


def test_requests_may_say_milliseconds_and_are_refused_in_another_unit(tmp_path: Path) -> None:
    settings = {"model": "llama-3.1-8b", "tp": 1}
    plain = rf.calibrate(requests(), "h100-sxm", **settings)
    assert plain.files
    times = ["observed_ttft_s", "observed_tpot_s"]
    slipped = requests(**{name: pl.col(name) * 1000 for name in times})
    in_ms = slipped.rename({name: name.replace("_s", "_ms") for name in times})
    same = rf.calibrate(in_ms, "h100-sxm", **settings).fits
    assert same["value"].to_list() == pytest.approx(plain.fits["value"].to_list())
    with pytest.raises(rf.SpecError, match="must be in the unit their columns say: times are typically"):
        rf.calibrate(slipped, "h100-sxm", **settings)
    with pytest.raises(rf.SpecError, match="observed_ttft_s must be a positive time: -1 in row 1"):
        rf.calibrate(requests(observed_ttft_s=pl.lit(-1.0)), "h100-sxm", **settings)


def test_loops_in_the_cache_and_tables_that_beat_the_datasheet_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [(m, n, k) for m in (1, 4, 16) for n in (1024, 1536, 2048) for k in (1024, 1536)]
    hot = pl.DataFrame(small, schema=["m", "n", "k"], orient="row").with_columns(
        op=pl.lit("gemm"),
        system=pl.lit("h100_sxm"),
        latency_ms=3.5e-3 + 1e3 * 2.0 * pl.col("n") * pl.col("k") / (1.6 * BANDWIDTH),
    )
    pl.concat([gemms(), hot], how="diagonal_relaxed").write_csv(tmp_path / "hot.csv")
    count = rf.calibrate(tmp_path / "hot.csv").fits["hot"].sum()
    assert hot.height <= count < hot.height + gemms().height
    assert run(["calibrate", str(tmp_path / "hot.csv")]) == 0
    assert f"loops of {count} rows read from the last-level cache" in capsys.readouterr().out
    beats = gemms().with_columns(latency_ms=pl.col("latency_ms") * 0.4)
    beats.write_csv(tmp_path / "beats.csv")
    assert run(["calibrate", str(tmp_path / "beats.csv")]) == 2
    said = "two fifths of its table and more are faster than the datasheet roofline: none of it is believed"
    assert said in capsys.readouterr().err
    some = gemms().with_columns(
        latency_ms=pl.col("latency_ms") * (1 - 0.5 * (pl.int_range(pl.len()) % 6 == 5))
    )
    some.write_csv(tmp_path / "some.csv")
    run(["calibrate", str(tmp_path / "some.csv")])
    assert "beat the datasheet: are the others of this device" in capsys.readouterr().out


def test_an_engine_of_which_nothing_was_fitted_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gemms().with_columns(backend=pl.lit("llamacpp")).write_csv(tmp_path / "k.csv")
    assert run(["validate", str(tmp_path / "k.csv")]) == 0
    assert "llamacpp: no kernels of this engine were fitted" in capsys.readouterr().err
    assert run(["validate", str(tmp_path / "k.csv"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mine.csv", "output must end in .toml, or be a folder"),
        ("nowhere/mine.toml", "output must lie in a folder that exists"),
    ],
)
def test_a_file_that_is_none_for_efficiencies_is_refused(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gemms().write_csv(tmp_path / "k.csv")
    assert run(["calibrate", str(tmp_path / "k.csv"), "-o", str(tmp_path / name)]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def attentions() -> pl.DataFrame:
    shapes = [(n, context) for n in (1, 8, 64, 256) for context in (512, 4096, 16384)]
    frame = pl.DataFrame(shapes, schema=["batch", "kv_len"], orient="row")
    cache = pl.col("batch") * pl.col("kv_len") * 4096.0
    return frame.with_columns(
        op=pl.lit("generation_attention"), system=pl.lit("h100_sxm"), heads=32, kv_heads=8, head_dim=128,
        latency_ms=0.012 + 1e3 * cache / (0.9 * BANDWIDTH),
    )  # fmt: skip


def modules() -> pl.DataFrame:
    shapes = [(n, context) for n in (8, 32, 128) for context in (1025, 4097)]
    frame = pl.DataFrame(shapes, schema=["batch", "kv_len"], orient="row")
    return frame.with_columns(
        op=pl.lit("mla_generation_module"), system=pl.lit("h100_sxm"), backend=pl.lit("trtllm"), heads=16,
        distribution=pl.lit("bfloat16"), kv_dtype=pl.lit("bfloat16"),
        latency_ms=0.08 + 1e3 * 1152.0 * pl.col("batch") * pl.col("kv_len") / (0.7 * BANDWIDTH),
    )  # fmt: skip


def everything() -> pl.DataFrame:
    return pl.concat([gemms(), attentions(), modules()], how="diagonal_relaxed")


def counted(frame: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Return rows priced and refused by metric."""
    errors = rf.validate(frame, engine="vllm").errors.filter(pl.col("group") == "all")
    return {
        metric: (n, refused) for metric, n, refused in errors.select("metric", "n", "refused").iter_rows()
    }


@pytest.mark.parametrize("change", [str.upper, str.title])
def test_words_may_be_capitals(change: object) -> None:
    loud = everything().with_columns(
        pl.col("op", "distribution", "kv_dtype").map_elements(change, return_dtype=pl.String)
    )
    assert rf.validate(loud).to_list() == rf.validate(everything()).to_list()


def test_no_sound_row_is_refused() -> None:
    assert {refused for _, refused in counted(everything()).values()} == {0}


@pytest.mark.parametrize("factor", [1e3, 1e-3, 1e6])
@pytest.mark.parametrize("op", ["gemm", "generation_attention", "mla_generation_module"])
def test_a_family_in_another_unit_is_refused_and_the_others_are_not(op: str, factor: float) -> None:
    scale = pl.when(pl.col("op") == op).then(factor).otherwise(1.0)
    slipped = everything().with_columns(latency_ms=pl.col("latency_ms") * scale)
    refused = {metric for metric, (n, _) in counted(slipped).items() if n == 0}
    assert len(refused) == 1
    told = rf.validate(slipped).refused
    assert all("another unit" in why or "faster than" in why for why in told["reason"])
    if not op.endswith("module"):
        assert op not in rf.calibrate(slipped).fits.filter(pl.col("rows") > 0)["family"]


@pytest.mark.parametrize("command", ["validate", "calibrate"])
def test_a_table_much_of_which_beats_its_datasheet_is_not_believed_at_all(command: str) -> None:
    wrong = gemms().with_columns(latency_ms=pl.col("latency_ms") * 0.4)
    if command == "calibrate":
        fit = rf.calibrate(wrong).fits.row(0, named=True)
        assert (fit["rows"], fit["beats_roofline"]) == (0, wrong.height)
        return
    told = rf.validate(wrong)
    assert told.errors["n"].max() == 0
    assert "two fifths of its table and more are faster than the datasheet" in " ".join(
        told.refused["reason"]
    )


def test_few_rows_that_beat_the_datasheet_do_not_cost_the_others() -> None:
    wrong = pl.when(pl.int_range(pl.len()) % 10 == 9).then(0.3).otherwise(1.0)
    mixed = gemms().with_columns(latency_ms=pl.col("latency_ms") * wrong)
    n, refused = counted(mixed)["kernel:gemm"]
    assert (n, refused) == (mixed.height - refused, refused)
    assert 0 < refused <= 3


def test_one_slow_matrix_does_not_wait_for_its_launch_and_slow_ones_of_all_shapes_do() -> None:
    tokens = [1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128]
    rows = pl.DataFrame({"op": "gemm", "system": "h100_sxm", "m": tokens, "n": 512, "k": 16384})
    rows = rows.with_columns(latency_ms=pl.lit(0.048))
    told = rf.validate(rows)
    assert (told.errors["n"][0], told.errors["refused"][0]) == (len(tokens), 0)
    others = rows.with_columns(n=256, k=8192)
    assert rf.validate(pl.concat([rows, others])).refused["reason"].to_list() == [
        "measures an eager launch, not the kernel"
    ]


def test_refused_rows_are_counted_by_device_and_engine_too() -> None:
    gone = gemms().with_columns(latency_ms=pl.when(pl.col("m") == 1).then(None).otherwise("latency_ms"))
    errors = rf.validate(gone).errors
    assert errors.filter(pl.col("refused") == 6)["group"].to_list() == ["all", "gpu=h100-sxm", "engine=vllm"]


def test_a_cell_that_is_no_number_costs_its_row(tmp_path: Path) -> None:
    odd = pl.when(pl.int_range(pl.len()) == 2).then(pl.lit("many")).otherwise(pl.col("m").cast(pl.String))
    gemms().with_columns(m=odd).write_csv(tmp_path / "k.csv")
    told = rf.validate(tmp_path / "k.csv")
    assert (told.errors["n"][0], told.errors["refused"][0]) == (gemms().height - 1, 1)
    assert told.refused["reason"].to_list() == ["`m` must be a positive number"]


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "text"),
    [("deep.jsonl", DEEP + "\n"), ("none.csv", "op,m,n,k,latency_ms\n"), ("torn.parquet", "PAR1")],
)
def test_files_of_a_folder_that_hold_no_measurements_are_skipped(
    name: str, text: str, tmp_path: Path
) -> None:
    gemms().write_csv(tmp_path / "k.csv")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / name).write_text(text)
    found = rf.validate(tmp_path)
    assert (found.errors["n"][0], len(found.skipped)) == (gemms().height, 1)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("b.json", DEEP, "b.json must be JSON: nested too deeply"),
        ("k.jsonl", DEEP, "k.jsonl must be jsonl: line 1: nested too deeply"),
        ("k.csv", "op,m,n,k,latency_ms\n", "measurements must have rows: none"),
        ("p.csv", "model_path,system,silicon_ttft_ms\n", "measurements must have rows: none"),
    ],
)
def test_a_file_without_anything_to_read_is_refused(
    name: str, text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert run(["validate", str(tmp_path / name)]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "runs.json must be JSON: "),
        ('{"run": 1}', "runs.json must be a list of objects, one a run: dict"),
    ],
)
def test_settings_beside_requests_must_be_a_list_of_runs(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"arrival_s": [0.0], "prompt_tokens": [9], "output_tokens": [3], "ttft_s": [0.1]}).write_csv(
        tmp_path / "r.csv"
    )
    (tmp_path / "runs.json").write_text(text)
    assert run(["validate", str(tmp_path / "r.csv")]) == 2
    assert says in capsys.readouterr().err


def point(**change: object) -> pl.DataFrame:
    about = {"backend": "vllm", "model_path": "Qwen/Qwen3-14B-FP8", "system": "h100_sxm", "precision": "fp8"}
    about |= {"isl": 1024, "osl": 256, "tp_size": 1, "concurrency": 8}
    about |= {"silicon_ttft_ms": 100.0, "silicon_tpot_ms": 9.0}
    return pl.DataFrame([about | change], infer_schema_length=None)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"concurrency": 10**9}, "`concurrency` must be at most 65536, `isl` and `osl` at most 4194304"),
        ({"osl": 4_000_000, "concurrency": 64}, "must ask for at most 20 million steps"),
        ({"precision": "fp7"}, "`precision` must be one of bf16, fp16, bfloat16, float16, fp8, "),
        ({"system": None}, "`system` must name a device: there is none"),
        ({"model_path": None}, "`model_path` must name a model: there is none"),
        ({"model_path": "nobody/knows-FP8"}, "no model is called `nobody/knows-FP8`"),
    ],
)
def test_a_point_that_cannot_be_priced_says_why(change: dict[str, object], why: str) -> None:
    told = rf.validate(point(**change))
    assert told.errors["n"].max() == 0
    assert why in told.refused["reason"][0]


def test_a_name_means_the_same_model_to_every_command() -> None:
    asked = "RedHatAI/Qwen3-14B-FP8-dynamic"
    model = rf.Model(asked)
    assert (model.name, model.quantization) == ("qwen3-14b-fp8-tensor", "fp8")
    assert sum(f"`{asked}` taken as" in note for note in model.notes) == 1
    assert model.parameters == rf.Model("qwen3-14b").parameters
    assert rf.Model.from_config(model.config).quantization == "fp8"
    assert "as the name says" in model.source
    by_name, asked_for = (
        rf.analyze(name, "h100-sxm", quantization=quantization, batch_size=8).step_s
        for name, quantization in ((asked, None), ("qwen3-14b", "fp8"))
    )
    assert by_name == asked_for
    steps = [
        rf.validate(point(model_path=name)).errors["bias"].to_list() for name in (asked, "Qwen/Qwen3-14B")
    ]
    assert steps[0] == steps[1]
    trace = rf.Trace(arrival_s=[0.0], prompt_tokens=[64], output_tokens=[4])
    served = rf.simulate(trace, model=asked, hw="h100-sxm")
    assert any(asked in note for note in served.notes)


@pytest.mark.parametrize("factor", [1e3, 1e-3])
@pytest.mark.parametrize("times", ["observed_ttft_s", "step_ms"])
def test_requests_and_steps_in_another_unit_are_refused(times: str, factor: float) -> None:
    requests = pl.DataFrame({"arrival_s": [0.0, 1.0], "prompt_tokens": [512, 512], "output_tokens": [8, 8]})
    requests = requests.with_columns(observed_ttft_s=0.03 * factor)
    steps = pl.DataFrame({"decode_seqs": [8, 16], "decode_kv_tokens": [8192, 16384], "step_ms": 9.0 * factor})
    steps = steps.with_columns(model=pl.lit("llama-3.1-8b"))
    told = rf.validate(requests if times == "observed_ttft_s" else steps, "h100-sxm", **(
        {"model": "llama-3.1-8b"} if times == "observed_ttft_s" else {}
    ))  # fmt: skip
    assert told.errors["n"].max() == 0
    assert any("another unit" in why for why in told.refused["reason"])


@pytest.mark.parametrize("milliseconds", [-9.0, 0.0])
def test_a_step_that_took_no_time_says_so(milliseconds: float) -> None:
    step = {"decode_seqs": 8, "decode_kv_tokens": 8192, "step_ms": milliseconds, "model": "llama-3.1-8b"}
    told = rf.validate(pl.DataFrame([step]), "h100-sxm")
    assert told.refused["reason"].to_list() == ["the measured time must be a positive number"]


def test_steps_of_a_trace_that_nothing_follows_are_refused() -> None:
    step = {"experiment_id": "a", "step.id": 1, "cycle_ms": 9.0, "model": "llama-3.1-8b"}
    step |= {"batch.num_decode_reqs": 2, "batch.num_prefill_reqs": 1, "batch.prefill_tokens": 64}
    step |= {"kv.blocks_total_gpu": 1000, "kv.blocks_free_gpu": 900}
    with pytest.raises(rf.SpecError, match="must hold a row that can be priced: none can"):
        rf.validate(pl.DataFrame([step]), "h100-sxm")
