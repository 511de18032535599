"""Validation: errors by metric and group, and the numbers the documentation shows."""

from __future__ import annotations

import functools
import importlib
import json
import re
from pathlib import Path

import polars as pl
import pytest
import roofline_fast as rf
from roofline_fast.cli import run
from roofline_fast.measurements.validation import COLUMNS

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "validation.md"
# How far an aggregate may lie from the page before the page is out of date, percentage points.
CLOSE = 0.15

needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared measurements are not here")


def rows() -> pl.DataFrame:
    shapes = [(m, n, 4096) for m in (1, 64, 4096) for n in (4096, 14336)]
    frame = pl.DataFrame(shapes, schema=["m", "n", "k"], orient="row")
    return frame.with_columns(op=pl.lit("gemm"), system=pl.lit("h100_sxm"), latency_ms=pl.lit(1.0))


def test_every_line_has_the_documented_keys_and_all_comes_once_a_metric() -> None:
    found = rf.validate(rows()).to_list()
    assert all(set(COLUMNS) <= set(line) for line in found)
    assert [line["group"] for line in found[:4]] == ["all", "gpu=h100-sxm", "engine=vllm", "dtype=bf16"]
    assert found[0]["metric"] == "kernel:gemm"
    assert found[0]["n"] == 6


def test_percentages_are_percentages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows().write_csv(tmp_path / "k.csv")
    assert run(["validate", str(tmp_path / "k.csv"), "--format", "json"]) == 0
    line = json.loads(capsys.readouterr().out)[0]
    assert 50 < line["median_ape"] <= 100
    assert line["bias"] < 0
    assert 0 <= line["coverage"] <= 100


def test_prompts_that_their_window_hides_nothing_of_are_judged_as_plain_ones() -> None:
    about = {"op": "context_attention", "system": "h100_sxm", "backend": "trtllm", "latency_ms": 0.1}
    shape = {"batch": 4, "heads": 32, "kv_heads": 8, "head_dim": 128}

    def judged(q_len: int, kv_len: int, window: int) -> list[dict[str, object]]:
        row = about | shape | {"q_len": q_len, "kv_len": kv_len, "window": window}
        return rf.validate(pl.DataFrame([row])).to_list()

    assert judged(512, 1024, 1024) == judged(512, 1024, 0)
    assert judged(512, 1025, 1024) != judged(512, 1025, 0)
    assert [line["group"] for line in judged(512, 1025, 1024)][3] == "dtype=bf16-window"


def test_two_files_are_judged_together(tmp_path: Path) -> None:
    rows().write_csv(tmp_path / "a.csv")
    rows().rename({"latency_ms": "median_ms", "m": "M", "n": "N", "k": "K"}).write_parquet(
        tmp_path / "b.parquet"
    )
    found = rf.validate(tmp_path).errors
    once = found.filter((pl.col("metric") == "kernel:gemm") & (pl.col("group") == "all"))
    assert once["n"].to_list() == [12]


def test_a_csv_is_judged_as_its_parquet(tmp_path: Path) -> None:
    rows().write_csv(tmp_path / "k.csv")
    rows().write_parquet(tmp_path / "k.parquet")
    assert rf.validate(tmp_path / "k.csv").to_list() == rf.validate(tmp_path / "k.parquet").to_list()


def test_points_of_servers_are_priced_or_refused_with_the_reason() -> None:
    point = {
        "backend": "vllm",
        "model_path": "meta-llama/Llama-3.1-70B",
        "system": "h100_sxm",
        "precision": "fp8",
        "mode": "agg",
        "isl": 1024,
        "osl": 256,
        "tp_size": 4,
        "concurrency": 8,
        "silicon_ttft_ms": 100.0,
        "silicon_tpot_ms": 12.0,
    }
    wrong = [
        point | {"mode": "disagg"},
        point | {"model_path": "nobody/knows"},
        point | {"silicon_tpot_ms": -1.0},
    ]
    found = rf.validate(pl.DataFrame([point, *wrong], infer_schema_length=None))
    everything = {line["metric"]: line for line in found.to_list() if line["group"] == "all"}
    assert (everything["tpot_ms"]["n"], everything["tpot_ms"]["refused"]) == (1, 3)
    assert everything["tpot_ms"]["median_ape"] < 60
    reasons = found.refused["reason"].to_list()
    assert any("different devices" in reason for reason in reasons)
    assert any("nobody/knows" in reason for reason in reasons)


def test_the_screen_shows_the_errors_and_what_was_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wrong = rows().head(1).with_columns(op=pl.lit("warp"))
    pl.concat([rows(), wrong]).write_csv(tmp_path / "k.csv")
    assert run(["validate", str(tmp_path / "k.csv")]) == 0
    said = capsys.readouterr().out
    assert "kernel:gemm" in said
    assert "not priced:" in said
    assert "op must be one of gemm, " in said


def shown(mark: str) -> dict[tuple[str, str], list[float]]:
    """Return figures of a table of the page by metric and group: n, refused, median, mean, P90, bias."""
    text = PAGE.read_text().split(f"<!-- {mark} -->")[1].split(f"<!-- /{mark} -->")[0]
    table = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 8 and cells[2].replace(",", "").isdigit():
            numbers = [float(cell.replace(",", "")) for cell in cells[2:8] if cell != "–"]
            table[cells[0].strip("`"), cells[1].strip("`")] = numbers
    return table


# Tables of the page, and whose measurements they show.
TABLES = {
    "errors": ("kernels/gpu_kernels.parquet", "e2e/server_points.parquet"),
    "served": ("e2e/h100_steps", "e2e/llmservingsim_vllm/requests.parquet"),
    "batches": ("e2e/static_batch",),
}


@functools.cache
def judged(path: str) -> pl.DataFrame:
    """Return the errors of predictions beside a file of the shared measurements."""
    return rf.validate(SHARED / path).errors


@needs_data
@pytest.mark.parametrize("mark", TABLES)
def test_the_page_shows_what_validate_says(mark: str) -> None:
    table = shown(mark)
    assert len(table) > 10
    errors = pl.concat([judged(path) for path in TABLES[mark]])
    said = {(row["metric"], row["group"]): row for row in errors.iter_rows(named=True)}
    moved = []
    for key, numbers in table.items():
        row = said[key]
        now = [
            row[name]
            for name in ("n", "refused", "median_ape", "mape", "p90_ape", "bias")
            if row[name] is not None
        ]
        moved += (
            [(key, numbers, now)]
            if any(abs(a - b) > CLOSE for a, b in zip(numbers, now, strict=True))
            else []
        )
    assert not moved, (
        "an aggregate moved: run `python benches/validation_page.py` and say why in CHANGELOG, Numbers"
    )


# Bars of kernels that do not hold, each for a reason that the page gives.
MISSED = {"engines' own all-reduce bf16-eager, NVLink"}


@needs_data
def test_bars_of_kernels_hold_and_the_page_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benches")
    bars = importlib.import_module("bars")
    lines, bands = bars.halved(pl.read_parquet(SHARED / "kernels" / "gpu_kernels.parquet"), tmp_path)
    assert {line.what for line in lines if not line.holds()} <= MISSED
    assert [band for band in bands if not 70 <= band["coverage"] <= 91] == []
    text = PAGE.read_text().split("<!-- bars -->")[1].split("<!-- /bars -->")[0]
    page = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[3:8]]
        for line in text.splitlines()[3:]
        if line
    }
    for line in lines:
        now = [float(cell.replace(",", "")) for cell in line.cells()[2:7]]
        then = [float(cell.replace(",", "")) for cell in page[line.what]]
        assert now == pytest.approx(then, abs=CLOSE), line.what


# Bars of served points, percent: what, over which rows, median and P90 at most.
BARS = [
    ("tpot_ms", "kind=dense", 7.0, 20.0),
    ("tpot_ms", "kind=moe", 12.0, 30.0),
    ("ttft_ms", "all", 25.0, 70.0),
]


@needs_data
def test_bars_of_served_points_hold() -> None:
    errors = judged("e2e/server_points.parquet")
    said = {(row["metric"], row["group"]): row for row in errors.iter_rows(named=True)}
    for metric, group, median, ninth in BARS:
        row = said[metric, group]
        assert row["median_ape"] <= median, (metric, group)
        assert row["p90_ape"] <= ninth, (metric, group)
    for metric in ("tpot_ms", "ttft_ms"):
        assert said[metric, "mode=agg"]["refused"] == 0, metric
    outside = errors.filter((pl.col("n") > 0) & ~pl.col("coverage").is_between(70, 90))
    assert outside.select("metric", "group", "coverage").rows() == []


def told(page: Path, sentence: str) -> list[float]:
    """Return the figures of a sentence of a page, for each pair of braces one."""
    text = " ".join(page.read_text(encoding="utf-8").split())
    found = re.search(re.escape(sentence).replace(r"\{\}", r"([\d.]+)"), text)
    assert found is not None, sentence
    return [float(figure) for figure in found.groups()]


@needs_data
@pytest.mark.parametrize(
    ("model", "engine", "precision", "shown"),
    [
        ("Llama-3.1-70B", "vllm", None, "Llama-3.1-70B {} % under vLLM"),
        ("Llama-3.1-70B", "trtllm", None, "and {} % under TensorRT-LLM, of DeepSeek"),
        ("DeepSeek-V3", "trtllm", None, "of DeepSeek-V3 {} % under TensorRT-LLM"),
        ("DeepSeek-V3", "sglang", "fp4", "and {} % under SGLang in NVFP4"),
    ],
)
def test_bands_of_first_tokens_hold_where_they_were_not_chosen(
    model: str, engine: str, precision: str | None, shown: str
) -> None:
    points = pl.read_parquet(SHARED / "e2e" / "server_points.parquet")
    kept = pl.col("model_path").str.ends_with(model) & (pl.col("backend") == engine)
    kept &= pl.col("mode") == "agg"
    if precision is not None:
        kept &= pl.col("precision") == precision
    errors = rf.validate(points.filter(kept)).errors
    (coverage,) = errors.filter((pl.col("group") == "all") & (pl.col("metric") == "ttft_ms"))["coverage"]
    assert 65 <= coverage <= 95
    assert told(PAGE, shown) == pytest.approx([coverage], abs=1.5)


def modules(**change: object) -> pl.DataFrame:
    """Return modules of latent attention of one layer of DeepSeek-V3 on an eighth of its heads."""
    rows = [
        {
            "op": "mla_generation_module",
            "batch": n,
            "q_len": 1,
            "kv_len": keys,
            "heads": 16,
            "latency_ms": 0.09,
        }
        for n in (8, 32, 128)
        for keys in (1025, 4097)
    ]
    about = {"system": "h100_sxm", "backend": "trtllm", "distribution": "bfloat16", "kv_dtype": "bfloat16"}
    return pl.DataFrame(rows).with_columns(
        **{name: pl.lit(value) for name, value in (about | change).items()}
    )


def test_a_module_of_latent_attention_is_priced_as_a_step_prices_it() -> None:
    frame = modules().head(1)
    ops = rf.analyze(
        "deepseek-v3", "h100-sxm", phase="decode", batch_size=8, input_len=1024, tp=8, quantization="bf16",
        kv_cache_dtype="bf16", engine="trtllm",
    ).ops  # fmt: skip
    layer = ops.filter((pl.col("repeat") == 61) & (pl.col("family") != "link"))
    milliseconds = 1e3 * layer["predicted_s"].sum() / 61
    told = rf.validate(frame.with_columns(latency_ms=pl.lit(milliseconds))).errors.row(0, named=True)
    assert told["metric"] == "kernel:mla_generation_module"
    assert (told["n"], told["refused"]) == (1, 0)
    assert told["median_ape"] < 0.01


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"distribution": "fp7"}, "`distribution` must name the format of a module's projections: `fp7`"),
        ({"heads": 0}, "`heads` must be a positive number"),
        ({"latency_ms": -1.0}, "time must be a positive number"),
        ({"system": "abacus"}, "no hardware is called `abacus`"),
    ],
)
def test_a_module_that_cannot_be_priced_says_why(change: dict[str, object], why: str) -> None:
    said = rf.validate(modules(**change), "h100-sxm")
    assert said.refused["reason"].unique().to_list() == [why]
    assert said.errors["refused"].max() == 6


def test_nothing_is_fitted_to_modules() -> None:
    fitted = rf.calibrate(modules())
    assert not fitted.files
    assert "a chain of kernels, each fitted apart" in fitted.unusable["must"].to_list()[0]


CALIBRATION = ROOT / "docs" / "calibration.md"
# Sentences of pages with figures of the tables: the page, the sentence, and whose figures (metric, group, column).
SENTENCES = [
    (
        PAGE,
        "now {} / {} and {} %",
        [("tpot_ms", "kind=dense", 0), ("tpot_ms", "kind=moe", 0), ("ttft_ms", "all", 0)],
    ),
    (PAGE, "{} % lie in the band of E2E", [("e2e_ms", "all", 4)]),
    (PAGE, "and {} % of the steps", [("step_ms", "all", 4)]),
    (PAGE, "are held by the same bands at {} %", [("tpot_ms", "all", 4)]),
    (PAGE, "TTFT {} % (SGLang {}, TensorRT-LLM {}, vLLM {})", [("ttft_ms", "all", 4), ("ttft_ms", "engine=sglang", 4),
      ("ttft_ms", "engine=trtllm", 4), ("ttft_ms", "engine=vllm", 4)]),
    (
        CALIBRATION,
        "vLLM's steps on H100 from {} to {} %",
        [("step_ms", "all", 0), ("step_ms", "variant=calibrated_on_others", 0)],
    ),
    (CALIBRATION, "the third judged, {} % over all three", [("step_ms", "variant=calibrated_on_others", 0)]),
    (CALIBRATION, "({} % without fitting)", [("step_ms", "model=codellama-34b", 0)]),
]  # fmt: skip


@pytest.mark.parametrize(("page", "sentence", "figures"), SENTENCES)
def test_the_text_says_what_the_tables_say(
    page: Path, sentence: str, figures: list[tuple[str, str, int]]
) -> None:
    cells = {}
    for mark in ("served", "errors"):
        text = PAGE.read_text(encoding="utf-8").split(f"<!-- {mark} -->")[1].split(f"<!-- /{mark} -->")[0]
        for line in text.splitlines():
            row = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
            if len(row) > 8 and row[4][:1].isdigit():
                cells[row[0], row[1]] = [float(cell) for cell in row[4:9]]
    shown = [cells[metric, group][column] for metric, group, column in figures]
    # Text follows figures that move, tables at once.
    assert told(page, sentence) == pytest.approx(shown, abs=0.3 if figures[0][2] == 0 else 1.5)
