"""Sweeps as folders: whole parts, identical bytes whatever the shards and restarts, and what a kill leaves behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import roofline_fast as rf
from hypothesis import given, settings
from hypothesis import strategies as st
from roofline_fast.errors import RooflineError
from roofline_fast.sweeps import dataset as sweep_dataset
from roofline_fast.sweeps.run import Run
from roofline_fast.sweeps.simulations import SimulateRun, known_figures
from roofline_fast.sweeps.space import Space

AXES = {
    "model": "llama-3.1-8b",
    "hw": ["h100-sxm", "l40s"],
    "tp": [1, 2, 3],
    "batch_size": "1:256:x2",
    "input_len": "100:4000:100",
}


def run_of(**asked: Any) -> Run:
    return Run(Space(AXES), points_a_part=200, columns=("step_s", "tokens_per_gpu_s", "bound"), **asked)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("whole")
    run = run_of()
    data = run.data_set(folder)
    for part in data.missing():
        data.write(part, run.compute)
    assert data.finish() is not None
    return digests(folder)


def test_a_folder_holds_the_rows_of_the_sweep(tmp_path: Path, whole: dict[str, str]) -> None:
    run = run_of()
    data = run.data_set(tmp_path)
    for part in data.missing():
        data.write(part, run.compute)
    manifest = data.finish()
    assert manifest is not None
    assert digests(tmp_path) == whole
    rows = pl.read_parquet(tmp_path / "parts" / "*.parquet")
    assert rows.equals(rf.sweep(AXES).select(rows.columns).collect())
    assert manifest["rows"] == rows.height
    assert (
        manifest["points"]
        == run.points
        == manifest["rows"] + sum(count for _, count, _ in manifest["dropped"])
    )
    for file in manifest["files"]:
        content = (tmp_path / "parts" / file["part"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]


@settings(max_examples=12, deadline=None)
@given(
    shards=st.integers(1, 4),
    order=st.randoms(),
    threads=st.sampled_from([1, 2, None]),
    killed=st.integers(0, 5),
)
def test_any_mix_of_shards_and_restarts_ends_in_the_same_bytes(
    shards: int,
    order: Any,
    threads: int | None,
    killed: int,
    whole: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("mixed")
    todo = list(range(shards))
    order.shuffle(todo)
    for shard in todo:
        run = run_of(threads=threads)
        data = run.data_set(folder)
        missing = data.missing((shard, shards))
        for part in missing[:killed]:
            data.write(part, run.compute)
        # A killed run may leave a part without its description, and files aside.
        for part in missing[:1]:
            data.part(part).with_suffix(".json").unlink(missing_ok=True)
        again = run_of().data_set(folder)
        for part in again.missing((shard, shards)):
            again.write(part, run.compute)
        again.finish()
    assert digests(folder) == whole


def test_a_plan_is_named_by_its_content(tmp_path: Path) -> None:
    plans = [run_of().plan, run_of(limits={"max_gpus": 2}).plan, run_of(keep="all").plan]
    plans.append(Run(Space({**AXES, "tp": [1, 2]}), points_a_part=200).plan)
    plans.append(Run(Space({**AXES, "model": "llama-3-8b"}), points_a_part=200).plan)
    plans.append(Run(Space(AXES), points_a_part=300).plan)
    assert len({plan.id for plan in plans}) == len(plans)
    reordered = dict(reversed(AXES.items()))
    assert Run(Space(reordered), points_a_part=200).plan.id == Run(Space(AXES), points_a_part=200).plan.id
    assert run_of(threads=1).plan.id == run_of().plan.id
    run_of().data_set(tmp_path)
    with pytest.raises(rf.SpecError, match="must be a folder of this sweep"):
        run_of(keep="all").data_set(tmp_path)
    assert run_of(keep="all").data_set(tmp_path, fresh=True).missing()


def test_another_process_makes_the_same_run(tmp_path: Path) -> None:
    device = tmp_path / "mine.toml"
    shipped = Path(__file__).parent.parent / "rust" / "core" / "data" / "hardware" / "h100-sxm.toml"
    device.write_text(shipped.read_text().replace('name = "h100-sxm"', 'name = "mine"'))
    config = tmp_path / "config.json"
    config.write_text(json.dumps(rf.Model("llama-3.1-8b").config))
    run = Run(Space({"model": str(config), "hw": [str(device), "l40s"], "tp": [1, 2]}), keep="all")
    recipe = json.loads(json.dumps(run.recipe()))
    device.unlink()
    config.unlink()
    again = Run.from_recipe(recipe)
    assert again.plan.id == run.plan.id
    assert again.read(0, 4)[0].equals(run.read(0, 4)[0])


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(rf.SpecError, match="holds other files"):
        run_of().data_set(tmp_path)
    with pytest.raises(rf.SpecError, match="holds other files"):
        run_of().data_set(tmp_path, fresh=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_write_error_leaves_whole_parts_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, str]
) -> None:
    run = run_of()
    data = run.data_set(tmp_path)
    data.write(0, run.compute)
    write = pl.DataFrame.write_parquet

    def full(self: pl.DataFrame, file: Path, **how: Any) -> None:
        write(self, file, **how)
        with file.open("r+b") as half:
            half.truncate(100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(RooflineError, match="must be writable: No space left on device") as caught:
        data.write(1, run.compute)
    assert "computes only what is missing" in caught.value.hint
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "part-00000000.json",
        "part-00000000.parquet",
    ]
    assert data.finish() is None
    for part in data.missing():
        data.write(part, run.compute)
    data.finish()
    assert digests(tmp_path) == whole


def test_a_front_over_parts_is_that_of_the_whole(tmp_path: Path) -> None:
    objectives = ("tokens_per_gpu_s", "tokens_per_user_s")
    run = Run(Space(AXES), keep="pareto", objectives=objectives, points_a_part=100)
    data = run.data_set(tmp_path)
    for part in data.missing():
        data.write(part, run.compute)
    manifest = data.finish(run.pick)
    assert manifest is not None
    best = pl.read_parquet(tmp_path / "best.parquet")
    assert best.equals(rf.sweep(AXES, keep="pareto", objectives=objectives).collect())
    assert manifest["best"]["rows"] == best.height < manifest["rows"]


@pytest.mark.parametrize("text", ["4/4", "-1/4", "1", "a/b", "1/0", "/"])
def test_a_shard_is_one_of_so_many(text: str) -> None:
    with pytest.raises(rf.SpecError, match="--shard must read i/n"):
        sweep_dataset.shard_of(text)


def test_the_order_of_axes_changes_no_scenario() -> None:
    axes = {"hw": ["h100-sxm", "l40s"], "tp": [1, 2], "model": "llama-3.1-8b"}
    one, other = (SimulateRun(None, dict(each)) for each in (axes.items(), reversed(axes.items())))
    assert one.plan.id == other.plan.id
    scenarios = [[run.scenario(point) for point in range(run.points)] for run in (one, other)]
    assert scenarios[0] == scenarios[1]
    assert one.columns == other.columns


def test_scenarios_of_the_simulator_are_rows_and_parts_too(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    lines = [{"timestamp": 100 * at, "input_length": 100 + at, "output_length": 5} for at in range(20)]
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    axes = {"model": "llama-3.1-8b", "hw": ["h100-sxm", "l40s"], "tp": [1, 2, 3], "max_num_seqs": [2, 64]}
    run = SimulateRun(str(trace), axes, points_a_part=5)
    rows, dropped = run.read(0, run.points)
    assert (rows.height, dropped[0][:2]) == (8, ("layout.tp is not possible", 4))
    for row in rows.iter_rows(named=True):
        alone = rf.simulate(str(trace), **{name: row[name] for name in axes})
        assert row["mean_ttft_ms"] == alone.summary["mean_ttft_ms"]
        assert row["completed"] == 20
    again = SimulateRun.from_recipe(json.loads(json.dumps(run.recipe())))
    assert again.plan.id == run.plan.id
    data = again.data_set(tmp_path / "out")
    for part in reversed(data.missing()):
        data.write(part, again.compute)
    manifest = data.finish()
    assert manifest is not None
    assert manifest["rows"] == 8
    assert data.read()["mean_ttft_ms"].to_list() == rows["mean_ttft_ms"].to_list()


def test_parts_of_scenarios_are_read_together_whatever_each_of_them_holds(tmp_path: Path) -> None:
    trace = rf.Trace(arrival_s=[0.0, 0.1], prompt_tokens=[100, 200], output_tokens=[10, 20])
    axes = {"hw": "h100-sxm", "model": "llama-3.1-8b", "tp": [1, 2], "overlap": [0, 0.5], "seed": [1]}
    run = SimulateRun(trace, axes, limits={"min_gpus": 2}, points_a_part=1)
    data = run.data_set(tmp_path)
    for part in data.missing():
        data.write(part, run.compute)
    assert data.missing() == []
    manifest = data.finish()
    assert manifest is not None
    assert [file["rows"] for file in manifest["files"]] == [0, 0, 1, 1]
    assert manifest["dropped"] == [("gpus must be at least 2", 2, "it is 1")]
    rows = pl.read_parquet(tmp_path / "parts" / "*.parquet")
    assert rows.equals(data.read())
    assert rows.select("tp", "overlap").rows() == [(2, 0.0), (2, 0.5)]
    none = SimulateRun(trace, axes, limits={"min_gpus": 4}, points_a_part=1)
    data = none.data_set(tmp_path / "none")
    for part in data.missing():
        data.write(part, none.compute)
    assert data.finish() is not None
    assert data.read().is_empty()


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"hw": "h100-sxm", "tpp": 1}, r"^no axis is called `tpp`"),
        ({"hw": "h100-sxm", "tp": []}, r"^tp must have values: none"),
        ({"tp": [1]}, r"^hw must be given"),
        ({"hw": ["h100-sxm", "nope"]}, r"^no hardware is called `nope`"),
        ({"hw": "h100-sxm", "engine": ["vllm", "vlm"]}, r"^no engine is called `vlm`"),
        ({"hw": "h100-sxm", "max_num_seqs": [4, 0]}, r"^max_num_seqs must be at least 1: 0"),
        ({"hw": "h100-sxm", "request_rate": [4, "fast"]}, r"^request_rate must be above 0, or `inf`: fast"),
        ({"hw": "h100-sxm", "slo": [None, "ttft"]}, r"^slo must read"),
        (
            {"hw": "h100-sxm", "enable_prefix_caching": [True, "yes"]},
            r"^enable_prefix_caching must be True or False",
        ),
        ({"hw": "h100-sxm", "tp": [1, None]}, r"^tp must be given in every scenario: None"),
        ({"hw": "h100-sxm", "watermark": "much"}, r"^watermark must be a number"),
    ],
)
def test_a_wrong_axis_of_the_simulator_is_refused(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(rf.RooflineError, match=message):
        SimulateRun("trace.jsonl", axes)


def test_the_scenarios_of_a_missing_trace_are_no_row_each(command: Callable[..., Any]) -> None:
    done = command("sweep --trace nowhere.jsonl --hw h100-sxm --tp 1,2")
    assert done.code == 2, done
    assert "nowhere.jsonl" in done.err


def test_a_part_that_was_damaged_is_computed_anew(tmp_path: Path, whole: dict[str, str]) -> None:
    run = run_of()
    data = run.data_set(tmp_path)
    for part in data.missing():
        data.write(part, run.compute)
    data.part(1).write_bytes(b"not a part")
    data.part(2).with_suffix(".json").write_text("not a description")
    data.part(0).unlink()
    again = run.data_set(tmp_path)
    assert again.finish() is None
    assert again.missing() == [0, 1, 2]
    for part in again.missing():
        again.write(part, run.compute)
    assert again.finish() is not None
    assert digests(tmp_path) == whole


def test_all_parts_of_simulations_have_the_same_columns(tmp_path: Path) -> None:
    trace = rf.Trace(arrival_s=[0.0, 0.5, 4.0], prompt_tokens=[100, 200, 50], output_tokens=[10, 20, 30])
    axes = {
        "hw": "h100-sxm",
        "model": ["llama-3.1-8b", "llama-3.1-405b"],
        "slo": [None, "ttft:500"],
        "mode": ["ideal", "predicted"],
        "engine": ["vllm", "sglang"],
    }
    run = SimulateRun(trace, axes, points_a_part=1)
    data = run.data_set(tmp_path)
    for part in data.missing():
        data.write(part, run.compute)
    manifest = data.finish()
    assert manifest is not None
    assert manifest["rows"] == 8
    assert {
        tuple(pl.read_parquet_schema(file).items()) for file in (tmp_path / "parts").glob("*.parquet")
    } == {tuple(run.schema.items())}
    rows = pl.read_parquet(tmp_path / "parts" / "*.parquet")
    assert rows.equals(run.read(0, run.points)[0])
    assert rows["slo_attainment"].null_count() == 4
    assert rows["mean_ttft_low_ms"].null_count() == 4


def test_every_figure_of_a_summary_is_a_column_of_sweeps(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    row = '{{"arrival_s": {}, "prompt_tokens": 10, "output_tokens": 5, "deadline_s": 2}}\n'
    path.write_text("".join(row.format(place) for place in range(4)))
    run = rf.simulate(path, model="llama-3.1-8b", hw="h100-sxm", slo="ttft:500")
    assert list(run.summary) == list(known_figures())
    for name, value in run.summary.items():
        assert value is None or pl.Series([value]).dtype == known_figures()[name], name


def test_unknown_figures_are_refused_before_anything_is_simulated() -> None:
    for asked in ({"figures": ("ttft",)}, {"keep": "topk", "objectives": ("min:ttft",)}):
        with pytest.raises(rf.UnknownNameError, match="no figure is called `ttft`"):
            SimulateRun("no-such-file.jsonl", {"hw": "h100-sxm"}, **asked)
