"""Steps, offline batches and served requests beside what is predicted for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast import _core

if TYPE_CHECKING:
    import polars as pl

Tables = tuple[_core.Table, _core.Table]

# Engines whose kernels are known; figures of others are not predicted.
ENGINES = {"vLLM": "vllm", "TensorRT-LLM": "trtllm"}
# A100 of the offline batches: 40 GB, inferred from what fits.
BATCH_DEVICES = {"A100": "a100-40gb-sxm", "H100": "h100-sxm"}
GPUS = {
    "NVIDIA GeForce RTX 4090 24GB": "rtx-4090",
    "NVIDIA RTX PRO 6000 Blackwell 96GB": "rtx-pro-6000-workstation",
}
BLOCK = 16


def steps(rows: pl.DataFrame, efficiency: Any) -> list[Tables]:
    """Judge decode-only steps by the time to the next one; prompts' rows count as not predicted."""
    import polars as pl

    timed = rows.filter(pl.col("cycle_ms").is_not_null())
    blocks = pl.col("kv.blocks_total_gpu") - pl.col("kv.blocks_free_gpu")
    running = pl.col("batch.num_decode_reqs")
    shapes = timed.select(
        model=pl.col("model").str.strip_suffix("-hf"),
        tp="tp",
        batch_size=running.clip(1),
        input_len=(blocks * BLOCK // running.clip(1)).clip(1),
    )
    decodes = timed["batch.num_prefill_reqs"] == 0
    return [
        _judge(
            "step_ms",
            shapes,
            timed["cycle_ms"],
            decodes,
            ["model", "tp"],
            hw="h100-sxm",
            efficiency=efficiency,
        )
    ]


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
        unpriced = [float("nan")] * others.height
        groups = [("engine", others["engine"].to_list())]
        measured = (others["e2e_latency_s"] * 1e3).to_numpy()
        tables.append(
            _core.Measurements.compare("batch_ms:others", pl.Series(unpriced), measured, groups=groups)
        )
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

    def ms(column: pl.Series) -> Any:
        return (column.cast(pl.Float64) * 1e3).fill_null(float("nan")).to_numpy()

    texts = [(name, shapes[name].cast(pl.String).to_list()) for name in groups if name in shapes.columns]
    if "engine" in settings:
        texts.append(("engine", [settings["engine"]] * shapes.height))
    return _core.Measurements.compare(
        metric,
        ms(predicted["step_s"]),
        measured.cast(pl.Float64).to_numpy(),
        band=(ms(predicted["low_s"]), ms(predicted["high_s"])),
        ideal=ms(ideal["step_s"]),
        groups=texts,
    )


def requests(path: Path, rows: pl.DataFrame, efficiency: Any) -> list[Tables]:
    """Replay runs whose arrivals and settings are known (`runs.json` beside the file); judge means."""
    import polars as pl

    from roofline_fast.simulation import simulate
    from roofline_fast.trace import Trace

    if "run_id" not in rows.columns or "trace_arrival_s" not in rows.columns:
        return []
    settings = {run["run_id"]: run for run in json.loads((path.parent / "runs.json").read_text())}
    means: dict[str, list[tuple[str, float, float, float]]] = {"ttft_s": [], "tpot_s": [], "e2e_s": []}
    for (name,), run in rows.sort("trace_arrival_s").group_by(["run_id"], maintain_order=True):
        about = settings[str(name)]
        trace = Trace(
            arrival_s=run["trace_arrival_s"],
            prompt_tokens=run["input_toks"],
            output_tokens=run["output_toks"],
        )
        served = {
            mode: simulate(
                trace,
                model=about["model"],
                hw=GPUS[about["gpu"]],
                tp=about["tp"],
                mode=mode,
                max_num_seqs=about["max_num_seqs"],
                max_num_batched_tokens=about["max_num_batched_tokens"],
                max_model_len=about["max_model_len"],
                num_gpu_blocks_override=about["num_gpu_blocks"],
                **({} if efficiency is None else {"efficiency": efficiency}),
            ).requests
            for mode in ("predicted", "ideal")
        }
        for metric, values in means.items():
            measured, told, bound = (
                _mean(frame, metric) for frame in (run, served["predicted"], served["ideal"])
            )
            values.append((GPUS[about["gpu"]], told, measured, bound))
    tables = []
    for metric, values in means.items():
        gpus, told, measured, bound = (pl.Series(column) for column in zip(*values, strict=True))
        name = f"mean_{metric.removesuffix('_s')}_ms"
        groups = [("gpu", gpus.to_list())]
        tables.append(
            _core.Measurements.compare(name, told * 1e3, measured * 1e3, ideal=bound * 1e3, groups=groups)
        )
    return tables


def _mean(frame: pl.DataFrame, column: str) -> float:
    value = frame[column].mean()
    return float(value) if isinstance(value, int | float) else float("nan")
