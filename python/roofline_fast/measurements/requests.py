"""Served requests as users have them: what was sent, what was observed, and how the engine was set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast.errors import RooflineError, SpecError
from roofline_fast.json_text import parsed
from roofline_fast.measurements.reader import SUFFIXES

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.traffic.trace import Trace

# Columns under every name, the documented one first.
ARRIVAL = ("arrival_s", "trace_arrival_s", "sent_s")
PROMPT = ("prompt_tokens", "input_tokens", "input_toks")
OUTPUT = ("output_tokens", "output_toks")
TTFT = ("observed_ttft_s", "ttft_s")
TPOT = ("observed_tpot_s", "tpot_s")
E2E = ("observed_e2e_s", "e2e_s")
# Columns that tell runs of one file apart.
RUN = ("run_id", "run")
# Devices as recorded runs name them. The edition of the RTX PRO 6000 is not recorded: a single sequence's steps move
# 1.46 TB/s at the end of the run, 92 % of the server edition's memory.
GPUS = {
    "NVIDIA GeForce RTX 4090 24GB": "rtx-4090",
    "NVIDIA RTX PRO 6000 Blackwell 96GB": "rtx-pro-6000-server",
    "8xH100SXM5": "h100-sxm",
}
# Settings of recorded runs, and the keyword each is.
SETTINGS = {
    "model": "model",
    "model_id": "model",
    "tp": "tp",
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "max_model_len": "max_model_len",
    "num_gpu_blocks": "num_gpu_blocks_override",
}


@dataclass
class Observed:
    """Requests of one run.

    Attributes
    ----------
    name : str
        Its id, or the file's name.
    trace : Trace
        What was sent.
    rows : polars.DataFrame
        What was observed, one row a request of the trace: `ttft_s`, `tpot_s`, `e2e_s`; null where nothing was.
    settings : dict
        Keywords of `simulate` that are recorded with it.
    assumed : bool
        Whether some of them are assumed.
    outside : bool
        Whether clients took the times, and not the engine.
    """

    name: str
    trace: Trace
    rows: pl.DataFrame
    settings: dict[str, Any] = field(default_factory=dict)
    assumed: bool = False
    outside: bool = False


def runs(path: Path | None, rows: pl.DataFrame) -> list[Observed]:
    """Return the runs of a frame in order, with the settings of the ``runs.json`` beside their file."""
    import polars as pl

    named = _first(rows, RUN)
    if named is None:
        return [_run(path, "" if path is None else path.name, rows, {})]
    about = _about(path)
    found = []
    for (name,), run in rows.group_by([pl.col(named)], maintain_order=True):
        found.append(_run(path, str(name), run, about.get(str(name), {})))
    return found


def of_file(path: Path | None, rows: pl.DataFrame) -> list[Observed]:
    """Return the runs of a file: as a trace where it is one that holds observed times, else by its columns."""
    alone = path is not None and _first(rows, RUN) is None and not _about(path)
    trace = traced(path) if alone and path is not None else None
    return runs(path, rows) if trace is None else [trace]


def by_suffix(path: Path) -> Observed | None:
    """Return the requests of a benchmark's JSON or of a trace that is no plain table (``.jsonl.zst``)."""
    if path.suffix.lower() == ".json":
        return bench(path)
    return None if path.suffix.lower() in SUFFIXES or not path.is_file() else traced(path)


def traced(path: Path) -> Observed | None:
    """Return the requests of a trace that holds observed times, as the trace says they came; nothing of another file.

    Prefixes, conversations and priorities of the trace are kept, which columns alone would lose.
    """
    import polars as pl

    from roofline_fast.traffic.trace import Trace

    try:
        trace = Trace.read(path)
    except RooflineError:
        return None
    requests = trace.requests
    seen = {name.removeprefix("observed_"): name for name in (TTFT[0], TPOT[0], E2E[0])}
    if not any(name in requests.columns for name in seen.values()):
        return None
    times = requests.select(
        (pl.col(column) if column in requests.columns else pl.lit(None)).cast(pl.Float64).alias(name)
        for name, column in seen.items()
    )
    settings = {} if trace.model is None else {"model": trace.model}
    rows = _completed(times, requests["output_tokens"])
    return Observed(path.name, trace, rows, settings, outside=True)


def _completed(times: pl.DataFrame, counts: pl.Series) -> pl.DataFrame:
    """Return times with that of a further token and the answer's end, each from the others where not observed."""
    import polars as pl

    each = (pl.col("e2e_s") - pl.col("ttft_s")) / (counts - 1)
    end = pl.col("ttft_s") + pl.when(counts > 1).then(pl.col("tpot_s") * (counts - 1)).otherwise(0.0)
    return times.with_columns(
        tpot_s=pl.when(counts > 1).then(pl.coalesce(pl.col("tpot_s"), each)),
        e2e_s=pl.coalesce(pl.col("e2e_s"), end),
    )


def bench(path: Path) -> Observed:
    """Return the requests of a file that ``vllm bench serve --save-result --save-detailed`` wrote."""
    import polars as pl

    try:
        found = parsed(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as why:
        raise SpecError(f"{path} must be JSON: {why}", field="measurements", value=str(path)) from None
    if not isinstance(found, Mapping) or "ttfts" not in found or "itls" not in found:
        raise SpecError(
            f"{path} must hold each request's times, `ttfts` and `itls`",
            field="measurements",
            value=str(path),
            hint="run `vllm bench serve` with --save-result --save-detailed",
        )
    lengths = [len(found.get(name, ())) for name in ("input_lens", "output_lens", "ttfts", "itls")]
    if len(set(lengths)) != 1:
        message = f"{path} must hold as many `input_lens`, `output_lens`, `ttfts` and `itls`: {lengths}"
        raise SpecError(message, field="measurements", value=str(lengths))
    gaps = [sum(gaps) if gaps else None for gaps in found["itls"]]
    rows = pl.DataFrame(
        {
            "arrival_s": _sent(path, found),
            "prompt_tokens": found["input_lens"],
            "output_tokens": found["output_lens"],
            "ttft_s": found["ttfts"],
            "tpot_s": [
                None if gap is None or tokens < 2 else gap / (tokens - 1)
                for gap, tokens in zip(gaps, found["output_lens"], strict=True)
            ],
        },
        strict=False,
    ).filter(pl.col("output_tokens") > 0)
    limit = found.get("max_concurrency")
    settings = {} if limit is None else {"max_concurrency": int(limit)}
    if isinstance(found.get("model_id"), str):
        settings["model"] = found["model_id"]
    return replace(_run(None, path.name, rows, {}, settings), outside=True)


def _sent(path: Path, found: Mapping[str, Any]) -> list[float]:
    """Return when each request was sent, seconds after the first."""
    count = len(found["ttfts"])
    if len(found.get("start_times") or ()) == count:
        first = min(found["start_times"])
        return [float(start) - first for start in found["start_times"]]
    if str(found.get("request_rate")) == "inf":
        return [0.0] * count
    raise SpecError(
        f"{path} must say when requests were sent: no `start_times`, and `request_rate` is not inf",
        field="start_times",
        value=str(found.get("request_rate")),
        hint="newer versions of vLLM write `start_times`; or run with --request-rate inf --max-concurrency N",
    )


def _first(rows: pl.DataFrame, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in rows.columns), None)


def _about(path: Path | None) -> dict[str, dict[str, Any]]:
    """Return what ``runs.json`` says of each run."""
    place = None if path is None else path.parent / "runs.json"
    if place is None or not place.exists():
        return {}
    try:
        found = parsed(place.read_text(encoding="utf-8"))
    except ValueError as why:
        raise SpecError(f"{place} must be JSON: {why}", field="runs.json", value=str(place)) from None
    if not (isinstance(found, list) and all(isinstance(run, Mapping) for run in found)):
        message = f"{place} must be a list of objects, one a run: {type(found).__name__}"
        raise SpecError(message, field="runs.json", value=str(place))
    return {str(run.get("run_id", run.get("run"))): run for run in found}


def _run(
    path: Path | None,
    name: str,
    rows: pl.DataFrame,
    about: Mapping[str, Any],
    settings: dict[str, Any] | None = None,
) -> Observed:
    import polars as pl

    from roofline_fast.traffic.trace import Trace

    rate = about.get("request_rate")
    arrival = _first(rows, ARRIVAL)
    if arrival is None and rate:
        rows = rows.with_columns(arrival_s=pl.int_range(pl.len()) / float(rate))
        arrival = "arrival_s"
    columns = {
        "arrival_s": arrival,
        "prompt_tokens": _first(rows, PROMPT),
        "output_tokens": _first(rows, OUTPUT),
    }
    for wanted, column in columns.items():
        if column is None:
            message = f"served requests must have a column `{wanted}`: columns {', '.join(rows.columns)}"
            raise SpecError(message, field=wanted, value=", ".join(rows.columns))
    rows = rows.filter(pl.col(str(columns["output_tokens"])) > 0).sort(str(arrival), maintain_order=True)
    seen = {"ttft_s": _first(rows, TTFT), "tpot_s": _first(rows, TPOT), "e2e_s": _first(rows, E2E)}
    times = rows.select(
        (pl.lit(None, dtype=pl.Float64) if column is None else pl.col(column).cast(pl.Float64)).alias(name)
        for name, column in seen.items()
    )
    counts = rows[str(columns["output_tokens"])]
    times = _completed(times, counts)
    trace = _recorded(path, about, rows[str(columns["prompt_tokens"])]) or Trace(
        arrival_s=rows[str(arrival)],
        prompt_tokens=rows[str(columns["prompt_tokens"])],
        output_tokens=counts,
    )
    known = {**recorded(about), **(settings or {})}
    return Observed(name, trace, times, known, assumed=bool(about) and "max_num_seqs" not in about)


def recorded(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of `simulate` that a record of ``runs.json`` says."""
    found = {SETTINGS[key]: value for key, value in about.items() if key in SETTINGS and value is not None}
    gpu = str(about.get("gpu", about.get("dir", ""))).removesuffix("-serving")
    if gpu in GPUS:
        found["hw"] = GPUS[gpu]
    if gpu == "8xH100SXM5":
        # Published with how it was started, eagerly on all eight; what else was set is not recorded.
        found |= {"tp": 8, "enforce_eager": True, "engine": "vllm-v0"}
    return found


def _recorded(path: Path | None, about: Mapping[str, Any], prompts: pl.Series) -> Trace | None:
    """Return the trace a run was driven by, with its token identities, where it lies among the shared traces."""
    from roofline_fast.traffic.trace import Trace

    workload = about.get("workload")
    if path is None or not workload:
        return None
    place = path.resolve().parents[2] / "traces" / "llmservingsim" / f"{workload}.jsonl.zst"
    if not place.exists():
        return None
    try:
        trace = Trace.read(place)
    except RooflineError:
        return None
    same = trace.requests["prompt_tokens"].to_list() == prompts.to_list()
    return trace if same else None
