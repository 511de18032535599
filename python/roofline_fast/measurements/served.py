"""Steps, offline batches and served requests beside what is predicted for them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from roofline_fast import _core
from roofline_fast.frames import frame
from roofline_fast.measurements import reader

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.measurements.requests import Observed


class Judged(NamedTuple):
    """Errors, refusals, and how they are told from those a metric has already (`prefill`); nothing for the first."""

    errors: _core.Table
    refused: _core.Table
    variant: str = ""


# Engines whose kernels are known; figures of others are not predicted.
ENGINES = {"vLLM": "vllm", "TensorRT-LLM": "trtllm"}
# Columns of what is predicted.
TIMES = ["step_s", "low_s", "high_s"]
# A100 of the offline batches: 40 GB, inferred from what fits.
BATCH_DEVICES = {"A100": "a100-40gb-sxm", "H100": "h100-sxm"}
# The device of step traces that do not name it.
STEP_DEVICE = "h100-sxm"
# Devices whose fits are tried on another that has fits of its own, or none.
OTHER_GPU = {"rtx-4090": "l40s", "rtx-pro-6000-server": "b200-sxm"}


def steps(rows: pl.DataFrame, hw: Any, engine: str, efficiency: Any) -> list[Judged]:
    """Judge steps by what they took: decode-only ones, and apart those with prompts.

    The time to the next step that vLLM's traces hold belongs to the step before: rows without prompts
    change little from step to step and are taken as they are, others by the step before, where there is one.
    """
    import polars as pl

    known = reader.steps(rows)
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
        tables.append(_judged("", decodes, efficiency, settings))
        tables += _baselines(decodes, efficiency, settings)
    if others.height:
        tables.append(_judged("prefill", others, efficiency, settings))
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


def _judged(variant: str, rows: pl.DataFrame, efficiency: Any, settings: dict[str, Any]) -> Judged:
    """Compare what steps took with what they are predicted to."""
    priced = frame(
        _core.Measurements.price_steps(rows.height, _clean(rows), efficiency=efficiency, **settings)
    )
    tables = _core.Measurements.compare(
        "step_ms",
        _ms(priced["step_s"]),
        rows["measured_ms"].fill_null(float("nan")).to_numpy(),
        band=(_ms(priced["low_s"]), _ms(priced["high_s"])),
        ideal=_ms(priced["ideal_s"]),
        groups=_groups_of_steps(rows, settings),
    )
    return Judged(*tables, variant)


def _groups_of_steps(rows: pl.DataFrame, settings: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return each step's device, engine and model, and what else tells steps apart."""
    import polars as pl

    device, engine = settings["hw"], settings["engine"] or "vllm"
    default = {"hw": "" if device is None else device.name, "engine": engine}
    missing = [pl.lit(value).alias(name) for name, value in default.items() if name not in rows.columns]
    told = rows.with_columns(missing)
    gpus = [_name(hw) if hw else "" for hw in told["hw"].cast(str).to_list()]
    names = ("engine", "model", "tp", "experiment_id")
    return [
        ("gpu", gpus),
        *((name, told[name].cast(str).to_list()) for name in names if name in told.columns),
    ]


def _clean(rows: pl.DataFrame) -> dict[str, Any]:
    """Return the columns of steps with the time under one name."""
    columns = reader.columns(rows.drop("cycle_ms", "step_us", "step_s", strict=False))
    columns["step_ms"] = columns.pop("measured_ms")
    return columns


def _ms(column: pl.Series) -> Any:
    import polars as pl

    return (column.cast(pl.Float64) * 1e3).fill_null(float("nan")).to_numpy()


def _baselines(rows: pl.DataFrame, efficiency: Any, settings: dict[str, Any]) -> list[Judged]:
    """Judge a line over sequences, and what is predicted after calibrating on the other experiments."""
    import polars as pl

    name = next((name for name in ("experiment_id", "model") if name in rows.columns), None)
    if name is None or rows[name].n_unique() < 2:
        return []
    line, low, high = _core.Measurements.line(
        rows["decode_seqs"].cast(pl.Float64).to_numpy(),
        rows["measured_ms"].to_numpy(),
        rows[name].cast(str).to_list(),
    )
    groups = [(name, rows[name].cast(str).to_list())]
    real = rows["measured_ms"].to_numpy()
    found = _core.Measurements.compare(
        "step_ms", pl.Series(line), real, band=(pl.Series(low), pl.Series(high)), groups=groups
    )
    tables = [Judged(*found, "line")]
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
    found = _core.Measurements.compare(
        "step_ms",
        _ms(all_of["step_s"]),
        all_of["measured_ms"].to_numpy(),
        band=(_ms(all_of["low_s"]), _ms(all_of["high_s"])),
        groups=[(name, all_of[name].cast(str).to_list())],
    )
    return [*tables, Judged(*found, "calibrated_on_others")]


def batches(rows: pl.DataFrame, efficiency: Any) -> list[Judged]:
    """Judge offline batches, prompt as long as answer, by the time until all are done."""
    import polars as pl

    rows = rows.with_columns(
        hw=pl.col("gpu").replace(BATCH_DEVICES),
        kernels=pl.col("engine").replace_strict(ENGINES, default=None, return_dtype=pl.String),
    ).with_row_index("row")

    def priced(mode: str) -> pl.DataFrame:
        known = rows.filter(pl.col("kernels").is_not_null())
        parts = [
            _batches_of(one, mode=mode, engine=str(engine), efficiency=efficiency)
            for (engine,), one in known.group_by(["kernels"], maintain_order=True)
        ]
        nothing = pl.DataFrame(schema={"row": pl.UInt32} | dict.fromkeys(TIMES, pl.Float64))
        found = pl.concat([nothing, *parts], how="vertical_relaxed").with_columns(
            pl.col("row").cast(pl.UInt32)
        )
        return rows.select("row").join(found, on="row", how="left", maintain_order="left")

    predicted, ideal = priced("predicted"), priced("ideal")
    groups = [
        ("gpu", rows["hw"].to_list()),
        ("engine", pl.select(pl.coalesce(rows["kernels"], rows["engine"])).to_series().to_list()),
        *(
            (name, rows[column].cast(pl.String).to_list())
            for name, column in (("model", "model"), ("tp", "n_gpus"))
        ),
    ]
    tables = _core.Measurements.compare(
        "e2e_ms",
        _ms(predicted["step_s"]),
        (rows["e2e_latency_s"] * 1e3).cast(pl.Float64).to_numpy(),
        band=(_ms(predicted["low_s"]), _ms(predicted["high_s"])),
        ideal=_ms(ideal["step_s"]),
        groups=groups,
    )
    return [Judged(*tables, "offline_batches")]


def _batches_of(rows: pl.DataFrame, **settings: Any) -> pl.DataFrame:
    """Return what each batch takes in all, by its row."""
    import polars as pl

    from roofline_fast.evaluation import evaluate

    shapes = rows.select(
        "row",
        model="model",
        hw="hw",
        tp="n_gpus",
        batch_size="batch",
        input_len="isl_eq_osl",
        output_len="isl_eq_osl",
    )
    told = {key: value for key, value in settings.items() if value is not None}
    return pl.DataFrame(evaluate(shapes, columns=TIMES, phase="chat", **told)).select("row", *TIMES)


def known(found: list[Observed], settings: dict[str, Any]) -> list[Observed]:
    """Return the runs that can be simulated: those whose model and device are recorded or given."""
    for run in found:
        run.settings |= settings
    return [run for run in found if {"model", "hw"} <= run.settings.keys()]


def requests(found: list[Observed], efficiency: Any) -> list[Judged]:
    """Replay runs; judge means of runs, then every request.

    Where another device's fits are to be tried on a run's device, a second line of means is with those.
    Runs whose settings are partly assumed are judged apart.
    """
    tables: list[Judged] = []
    for about, some in (
        ("", [run for run in found if not run.assumed]),
        ("assumed_settings", [run for run in found if run.assumed]),
    ):
        replays = [(run, _replay(run, efficiency), _replay(run, None, mode="ideal")) for run in some]
        if not replays:
            continue
        tables += _each(about or "requests", replays)
        tables += _means(f"{about}_means" if about else "means", replays)
        others = [run for run in some if efficiency is None and _name(run.settings["hw"]) in OTHER_GPU]
        if others:
            elsewhere = [
                (run, _replay(run, OTHER_GPU[_name(run.settings["hw"])]), bound)
                for run, _, bound in replays
                if run in others
            ]
            tables += _means("means_other_gpu", elsewhere)
    return tables


def _replay(run: Observed, efficiency: Any, mode: str = "predicted") -> pl.DataFrame:
    """Simulate a run with the settings it had; requests in the order of what was observed."""
    from roofline_fast.simulation.run import simulate

    latency = None if run.outside else 0.0
    found = simulate(run.trace, mode=mode, efficiency=efficiency, api_latency=latency, **run.settings)
    rows = found.requests
    return rows.with_columns(*found.request_bands) if mode == "predicted" else rows


Replayed = tuple["Observed", "pl.DataFrame", "pl.DataFrame"]


def _means(variant: str, replays: Sequence[Replayed]) -> list[Judged]:
    """Judge runs by the means of their requests; their bands are the means of those of requests."""
    import polars as pl

    def of(frames: Sequence[pl.DataFrame], column: str) -> Any:
        return (pl.Series([_mean(one, column) for one in frames], dtype=pl.Float64) * 1e3).to_numpy()

    tables = []
    for metric in ("ttft", "tpot", "e2e"):
        column = f"{metric}_s"
        known = [one for one in replays if one[0].rows[column].null_count() < one[0].rows.height]
        if not known:
            continue
        told, bound = [told for _, told, _ in known], [bound for *_, bound in known]
        found = _core.Measurements.compare(
            f"{metric}_ms",
            of(told, column),
            of([run.rows for run, *_ in known], column),
            band=(of(told, f"{metric}_low_s"), of(told, f"{metric}_high_s")),
            ideal=of(bound, column),
            groups=[(name, [_about(run)[name] for run, *_ in known]) for name in GROUPS],
        )
        tables.append(Judged(*found, variant))
    return tables


def _each(variant: str, replays: list[Replayed]) -> list[Judged]:
    """Judge every request, with its band."""
    import polars as pl

    tables = []
    for metric in ("ttft", "tpot", "e2e"):
        columns = [f"{metric}_s", f"{metric}_low_s", f"{metric}_high_s"]
        told = pl.concat([told.select(columns) for _, told, _ in replays])
        bound = pl.concat([bound.select(columns[0]) for _, _, bound in replays])
        real = pl.concat([run.rows[columns[0]] for run, _, _ in replays])
        groups = [
            (name, [_about(run)[name] for run, told, _ in replays for _ in range(told.height)])
            for name in GROUPS
        ]
        found = _core.Measurements.compare(
            f"{metric}_ms",
            _ms(told[columns[0]]),
            _ms(real),
            band=(_ms(told[columns[1]]), _ms(told[columns[2]])),
            ideal=_ms(bound[columns[0]]),
            groups=groups,
        )
        tables.append(Judged(*found, variant))
    return tables


# What tells runs apart.
GROUPS = ("gpu", "engine", "model", "run")


def _about(run: Observed) -> dict[str, str]:
    settings = run.settings
    return {
        "gpu": _name(settings["hw"]),
        "engine": str(settings.get("engine", "vllm")),
        "model": getattr(settings["model"], "name", str(settings["model"])),
        "run": run.name,
    }


def _name(hw: Any) -> str:
    from roofline_fast.hardware import find_hardware

    return find_hardware(hw).name


def _mean(frame: pl.DataFrame, column: str) -> float:
    value = frame[column].mean()
    return float(value) if isinstance(value, int | float) else float("nan")
