"""Steps, offline batches and served requests beside what is predicted for them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast import _core, measured
from roofline_fast.frames import frame

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.observed import Observed

Tables = tuple[_core.Table, _core.Table]

# Engines whose kernels are known; figures of others are not predicted.
ENGINES = {"vLLM": "vllm", "TensorRT-LLM": "trtllm"}
# A100 of the offline batches: 40 GB, inferred from what fits.
BATCH_DEVICES = {"A100": "a100-40gb-sxm", "H100": "h100-sxm"}
# The device of step traces that do not name it.
STEP_DEVICE = "h100-sxm"
# Devices whose fits are tried on another that has fits of its own, or none.
OTHER_GPU = {"rtx-4090": "l40s", "rtx-pro-6000-server": "b200-sxm"}


def steps(rows: pl.DataFrame, hw: Any, engine: str, efficiency: Any) -> list[Tables]:
    """Judge steps by what they took: decode-only ones, and apart those with prompts.

    The time to the next step that vLLM's traces hold belongs to the step before: rows without prompts
    change little from step to step and are taken as they are, others by the step before, where there is one.
    """
    import polars as pl

    known = measured.steps(rows)
    trace = "kv.blocks_total_gpu" in known.columns
    timed = _with_time(known)
    if trace:
        timed = timed.filter(pl.col("cycle_ms").is_not_null())
    device = hw.compiled if hw is not None else _device(STEP_DEVICE) if "hw" not in known.columns else None
    prompts = pl.col("prefill_tokens") > 0 if "prefill_tokens" in timed.columns else pl.lit(value=False)
    decodes, others = timed.filter(~prompts), timed.filter(prompts)
    if trace:
        others = _steps_before(known)
    settings = {"hw": device, "engine": engine}
    tables = []
    if decodes.height:
        tables.append(_judged("step_ms", decodes, efficiency, settings))
        tables += _baselines(decodes, efficiency, settings)
    if others.height:
        tables.append(_judged("step_ms:prefill", others, efficiency, settings))
    return tables


def _device(name: str) -> Any:
    from roofline_fast.hardware import find_hardware

    return find_hardware(name).compiled


def _with_time(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with their time in ms, whatever its column."""
    import polars as pl

    units = {"cycle_ms": 1.0, "step_ms": 1.0, "step_us": 1e-3, "step_s": 1e3}
    name = next(name for name in units if name in rows.columns)
    return rows.with_columns(measured_ms=pl.col(name).cast(pl.Float64) * units[name])


def _steps_before(known: pl.DataFrame) -> pl.DataFrame:
    """Return steps with prompts under the time that the step after them recorded."""
    import polars as pl

    after = known.select(
        "experiment_id", "cycle_ms", **{"step.id": pl.col("step.id") - 1}, measured_ms="cycle_ms"
    )
    after = after.filter(pl.col("measured_ms").is_not_null())
    pairs = known.drop("cycle_ms").join(after, on=["experiment_id", "step.id"], how="inner")
    return pairs.filter(pl.col("prefill_tokens") > 0)


def _judged(metric: str, rows: pl.DataFrame, efficiency: Any, settings: dict[str, Any]) -> Tables:
    """Compare what steps took with what they are predicted to."""
    priced = frame(
        _core.Measurements.price_steps(
            rows.height, _clean(rows), efficiency=None if efficiency is None else efficiency, **settings
        )
    )
    groups = [
        (name, rows[name].cast(str).to_list())
        for name in ("model", "hw", "tp", "experiment_id")
        if name in rows.columns
    ]
    return _core.Measurements.compare(
        metric,
        _ms(priced["step_s"]),
        rows["measured_ms"].fill_null(float("nan")).to_numpy(),
        band=(_ms(priced["low_s"]), _ms(priced["high_s"])),
        ideal=_ms(priced["ideal_s"]),
        groups=groups,
    )


def _clean(rows: pl.DataFrame) -> dict[str, Any]:
    """Return the columns of steps with the time under one name."""
    columns = measured.columns(rows.drop("cycle_ms", "step_us", "step_s", strict=False))
    columns["step_ms"] = columns.pop("measured_ms")
    return columns


def _ms(column: pl.Series) -> Any:
    import polars as pl

    return (column.cast(pl.Float64) * 1e3).fill_null(float("nan")).to_numpy()


def _baselines(rows: pl.DataFrame, efficiency: Any, settings: dict[str, Any]) -> list[Tables]:
    """Judge a line over sequences, and what is predicted after calibrating on the other experiments."""
    import polars as pl

    name = next((name for name in ("experiment_id", "model") if name in rows.columns), None)
    if name is None or rows[name].n_unique() < 2:
        return []
    line = _core.Measurements.line(
        rows["decode_seqs"].cast(pl.Float64).to_numpy(),
        rows["measured_ms"].to_numpy(),
        rows[name].cast(str).to_list(),
    )
    groups = [(name, rows[name].cast(str).to_list())]
    tables = [
        _core.Measurements.compare(
            "step_ms:line", pl.Series(line), rows["measured_ms"].to_numpy(), groups=groups
        )
    ]
    judged = []
    with tempfile.TemporaryDirectory() as folder:
        for (one,), held in rows.group_by([name], maintain_order=True):
            others = rows.filter(pl.col(name) != one)
            path = Path(folder) / "others.toml"
            *_, files, _ = _core.Measurements.steps(
                others.height, _clean(others), source="", date="", efficiency=efficiency, **settings
            )
            if not files:
                return tables
            path.write_text(files[0][1])
            both = path if efficiency is None else f"{path},{efficiency}"
            priced = frame(
                _core.Measurements.price_steps(held.height, _clean(held), efficiency=both, **settings)
            )
            judged.append(pl.concat([held.select(name, "measured_ms"), priced], how="horizontal"))
    all_of = pl.concat(judged)
    tables.append(
        _core.Measurements.compare(
            "step_ms:calibrated_on_others",
            _ms(all_of["step_s"]),
            all_of["measured_ms"].to_numpy(),
            band=(_ms(all_of["low_s"]), _ms(all_of["high_s"])),
            groups=[(name, all_of[name].cast(str).to_list())],
        )
    )
    return tables


def batches(rows: pl.DataFrame, efficiency: Any) -> list[Tables]:
    """Judge offline batches, prompt as long as answer, by the time until all are done."""
    import polars as pl

    known = rows["engine"].is_in(list(ENGINES))
    tables = []
    for name, engine in ENGINES.items():
        one = rows.filter(pl.col("engine") == name)
        if not one.height:
            continue
        shapes = one.select(
            model="model",
            hw=pl.col("gpu").replace(BATCH_DEVICES),
            tp="n_gpus",
            batch_size="batch",
            input_len="isl_eq_osl",
            output_len="isl_eq_osl",
        )
        everything = pl.repeat(value=True, n=one.height, eager=True)
        measured = one["e2e_latency_s"] * 1e3
        groups = ["hw", "model", "tp"]
        tables.append(
            _judge(
                f"batch_ms:{engine}",
                shapes,
                measured,
                everything,
                groups,
                engine=engine,
                phase="chat",
                efficiency=efficiency,
            )
        )
    others = rows.filter(~known)
    if others.height:
        unpriced = pl.Series([float("nan")] * others.height)
        latency = (others["e2e_latency_s"] * 1e3).to_numpy()
        names = [("engine", others["engine"].to_list())]
        tables.append(_core.Measurements.compare("batch_ms:others", unpriced, latency, groups=names))
    return tables


def _judge(
    metric: str,
    shapes: pl.DataFrame,
    measured: pl.Series,
    usable: pl.Series,
    groups: list[str],
    **settings: Any,
) -> Tables:
    """Price the usable rows in both modes and compare."""
    import polars as pl

    from roofline_fast.evaluation import evaluate

    rows = shapes.with_row_index("row").filter(usable)
    named = pl.DataFrame({"row": range(shapes.height)}, schema={"row": rows.schema["row"]})
    columns = ["step_s", "low_s", "high_s"]

    def priced(mode: str) -> pl.DataFrame:
        told = {key: value for key, value in settings.items() if value is not None}
        found = evaluate(rows, mode=mode, columns=columns, phase=told.pop("phase", "decode"), **told)
        return named.join(pl.DataFrame(found).select("row", *columns), on="row", how="left").sort("row")

    predicted, ideal = priced("predicted"), priced("ideal")

    texts = [(name, shapes[name].cast(pl.String).to_list()) for name in groups if name in shapes.columns]
    if "engine" in settings:
        texts.append(("engine", [settings["engine"]] * shapes.height))
    return _core.Measurements.compare(
        metric,
        _ms(predicted["step_s"]),
        measured.cast(pl.Float64).to_numpy(),
        band=(_ms(predicted["low_s"]), _ms(predicted["high_s"])),
        ideal=_ms(ideal["step_s"]),
        groups=texts,
    )


def known(found: list[Observed], settings: dict[str, Any]) -> list[Observed]:
    """Return the runs that can be simulated: those whose model and device are recorded or given."""
    for run in found:
        run.settings |= settings
    return [run for run in found if {"model", "hw"} <= run.settings.keys()]


def requests(found: list[Observed], efficiency: Any) -> list[Tables]:
    """Replay runs; judge means of runs, then every request.

    Where another device's fits are to be tried on a run's device, a second line of means is with those.
    Runs whose settings are partly assumed are judged apart.
    """
    tables: list[Tables] = []
    for suffix, some in (
        ("", [run for run in found if not run.assumed]),
        (":assumed_settings", [run for run in found if run.assumed]),
    ):
        replays = [(run, _replay(run, efficiency), _replay(run, None, mode="ideal")) for run in some]
        if not replays:
            continue
        tables += _means(suffix, replays)
        others = [run for run in some if efficiency is None and _name(run.settings["hw"]) in OTHER_GPU]
        if others:
            elsewhere = [(run, _replay(run, OTHER_GPU[_name(run.settings["hw"])]), None) for run in others]
            tables += _means(f"{suffix}:other_gpu", elsewhere)
        tables += _each(suffix, replays)
    return tables


def _replay(run: Observed, efficiency: Any, mode: str = "predicted") -> pl.DataFrame:
    """Simulate a run with the settings it had; requests in the order of what was observed."""
    from roofline_fast.simulation import simulate

    latency = None if run.outside else 0.0
    found = simulate(run.trace, mode=mode, efficiency=efficiency, api_latency=latency, **run.settings)
    rows = found.requests
    return rows.with_columns(*found.request_bands) if mode == "predicted" else rows


def _means(
    suffix: str, replays: Sequence[tuple[Observed, pl.DataFrame, pl.DataFrame | None]]
) -> list[Tables]:
    """Judge runs by the means of their requests."""
    import polars as pl

    tables = []
    for metric in ("ttft", "tpot", "e2e"):
        column = f"{metric}_s"
        known = [
            (run, told, bound)
            for run, told, bound in replays
            if run.rows[column].null_count() < run.rows.height
        ]
        told, real, bound = (
            pl.Series([_mean(one, column) for one in frames], dtype=pl.Float64) * 1e3
            for frames in (
                [told for _, told, _ in known],
                [run.rows for run, _, _ in known],
                [told if bound is None else bound for _, told, bound in known],
            )
        )
        if not known:
            continue
        groups = [
            ("gpu", [_name(run.settings["hw"]) for run, _, _ in known]),
            ("run", [run.name for run, _, _ in known]),
        ]
        ideal = None if suffix.endswith("other_gpu") else bound.to_numpy()
        tables.append(
            _core.Measurements.compare(
                f"mean_{metric}_ms{suffix}", told.to_numpy(), real.to_numpy(), ideal=ideal, groups=groups
            )
        )
    return tables


def _each(suffix: str, replays: list[tuple[Observed, pl.DataFrame, pl.DataFrame]]) -> list[Tables]:
    """Judge every request, with its band."""
    import polars as pl

    tables = []
    names = {"ttft": "request_ttft_ms", "tpot": "request_tpot_ms", "e2e": "e2e_ms"}
    for metric, name in names.items():
        columns = [f"{metric}_s", f"{metric}_low_s", f"{metric}_high_s"]
        told = pl.concat([told.select(columns) for _, told, _ in replays])
        bound = pl.concat([bound.select(columns[0]) for _, _, bound in replays])
        real = pl.concat([run.rows[columns[0]] for run, _, _ in replays])
        gpus = [_name(run.settings["hw"]) for run, told, _ in replays for _ in range(told.height)]
        tables.append(
            _core.Measurements.compare(
                f"{name}{suffix}",
                _ms(told[columns[0]]),
                _ms(real),
                band=(_ms(told[columns[1]]), _ms(told[columns[2]])),
                ideal=_ms(bound[columns[0]]),
                groups=[("gpu", gpus)],
            )
        )
    return tables


def _name(hw: Any) -> str:
    from roofline_fast.hardware import find_hardware

    return find_hardware(hw).name


def _mean(frame: pl.DataFrame, column: str) -> float:
    value = frame[column].mean()
    return float(value) if isinstance(value, int | float) else float("nan")
