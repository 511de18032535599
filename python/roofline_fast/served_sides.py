"""One side of a comparison of served traffic: a simulation, a file of results, or a scenario to simulate."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from roofline_fast.errors import MissingFileError, SpecError
from roofline_fast.json_text import parsed
from roofline_fast.simulation.result import Simulation
from roofline_fast.simulation.run import simulate
from roofline_fast.suggest import nearest
from roofline_fast.technique_files import short
from roofline_fast.traffic import workload
from roofline_fast.traffic.trace import Trace

# What only results have, whoever wrote them.
RESULTS = ("mean_ttft_ms", "mean_tpot_ms", "request_throughput")
# What a file of `vllm bench serve` says of the traffic, under the keywords that generate the same.
SENT = ("request_rate", "burstiness", "max_concurrency")
# Words of a scenario that are no keywords of a function: what a sweep keeps of its many points.
OF_SWEEPS = ("limits", "keep", "objectives", "top", "columns", "points_a_part")
# Other names of keywords, as flags have them.
SYNONYMS = {
    "hardware": "hw",
    "system": "hw",
    "gpu": "hw",
    "isl": "input_len",
    "osl": "output_len",
    "q": "quantization",
    "with": "techniques",
}


@dataclass(frozen=True)
class Side:
    """What is known of one side: times in ms and rates under the names of ``vllm bench serve``."""

    title: str
    summary: Mapping[str, Any]
    simulation: Simulation | None = None
    bounds: Mapping[str, float] = field(default_factory=dict)
    operators: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether it was measured, not simulated."""
        return "offered_rate" not in self.summary

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--format json`` prints of it."""
        kept = {name: value for name, value in self.summary.items() if not isinstance(value, list | dict)}
        return {"title": self.title, "measured": self.measured, **kept}


def of_simulation(simulation: Simulation, title: str = "") -> Side:
    """Return a simulation as a side."""
    return Side(
        title or named(simulation),
        simulation.summary,
        simulation,
        simulation.bounds,
        simulation.operators,
        tuple(simulation.notes),
    )


def named(simulation: Simulation) -> str:
    """Return what was simulated, in a line."""
    inputs = simulation.inputs
    layout = ", ".join(f"{axis} {inputs[axis]}" for axis in ("tp", "pp", "dp", "ep") if inputs[axis] > 1)
    parts = [
        simulation.model.title,
        f"{simulation.deployment.gpus}x {simulation.hardware.title}" + (f" ({layout})" if layout else ""),
        f"{inputs['engine']}, {inputs['quantization']} weights, {inputs['kv_cache_dtype']} KV",
        *map(short, inputs["techniques"]),
    ]
    return " · ".join(parts)


def of_results(results: Mapping[str, Any], origin: str) -> Side:
    """Return results that were read: those of ``vllm bench serve``, or what ``simulate`` wrote.

    Raises
    ------
    SpecError
        A result that is no number.
    """
    summary = dict(results)
    for name in RESULTS:
        value = summary.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            message = f"{origin} must hold numbers: {name} is {value!r}"
            raise SpecError(message, field=name, value=repr(value), hint="a file of `vllm bench serve`")
    notes = []
    if not isinstance(summary.get("mean_e2el_ms"), int | float):
        notes.append(f"{origin} has no E2E (`--percentile-metrics ttft,tpot,itl,e2el` records it)")
    failed = summary.get("failed")
    if isinstance(failed, int) and failed > 0:
        notes.append(f"{failed:,} requests of {origin} failed and are left out of it")
    model = summary.get("model_id") or summary.get("model") or ""
    title = " · ".join(str(part) for part in (Path(origin).name, model, summary.get("hw")) if part)
    bounds, operators = (summary.get(name) for name in ("bounds_s", "operators_s"))
    return Side(
        title,
        summary,
        None,
        bounds if isinstance(bounds, Mapping) else {},
        operators if isinstance(operators, Mapping) else {},
        tuple(notes),
    )


def read(path: str | PathLike[str], field: str = "side") -> tuple[dict[str, Any], str]:
    """Return the content of a side's file, and how it is called; `field` is who names it.

    Raises
    ------
    SpecError
        A file that is absent, or neither TOML nor JSON.
    """
    from roofline_fast.sweeps.scenario import read as content

    place = Path(fspath(path)).expanduser()
    if not place.is_file():
        hint = 'a result of `vllm bench serve`, a scenario, or "key=value …" of one side'
        raise MissingFileError(f"{place} must exist", field=field, value=str(place), hint=hint)
    if place.suffix.lower() not in (".json", ".toml"):
        message = f"a file of settings must end in .json or .toml: {place}"
        raise SpecError(message, field=field, value=str(place))
    if place.suffix.lower() == ".json":
        return _last_record(place), str(place)
    return content(place, field), str(place)


def _last_record(place: Path) -> dict[str, Any]:
    """Return a JSON object; of a file to which several results were appended, the last one."""
    text = place.read_text(encoding="utf-8", errors="replace")
    try:
        found = parsed(text)
    except ValueError as why:
        try:
            found = parsed(text.rstrip().splitlines()[-1])
        except (ValueError, IndexError):
            message = f"{place} must be JSON: {why}"
            raise SpecError(message, field="side", value=str(place)) from None
    if not isinstance(found, dict):
        message = f"{place} must hold named values: {type(found).__name__}"
        raise SpecError(message, field="side", value=str(place))
    return found


def is_result(content: Mapping[str, Any]) -> bool:
    """Return whether a file holds results, not settings."""
    return any(name in content for name in RESULTS)


def settings(content: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return the keywords that a scenario file gives: of `simulate`, or of a sweep that has one point.

    Raises
    ------
    SpecError
        All that is wrong with it, each mistake with its path.
    """
    from roofline_fast import scenario_names
    from roofline_fast.analysis import analyze
    from roofline_fast.sweeps.scenario import several

    known = set(inspect.signature(analyze).parameters) | set(inspect.signature(simulate).parameters)
    known = (known | workload.words() | set(SYNONYMS)) - {"trace_options", "progress"}
    found: dict[str, Any] = {}
    paths: dict[str, str] = {}
    mistakes = []
    for path, value in scenario_names.entries({key: content[key] for key in content if key not in OF_SWEEPS}):
        key = path.rpartition(".")[2].replace("-", "_")
        if key not in known:
            mistakes.append(scenario_names.not_known(path, key, sorted(known)))
            continue
        key = SYNONYMS.get(key, key)
        if key in found:
            mistakes.append(f"{path} must be given once")
            continue
        many = isinstance(value, list) and key not in ("techniques", "trace", "slo", "percentiles")
        if many and len(value) != 1:
            mistakes.append(f"{path} must be one value to be compared: {value!r} (`sweep` takes several)")
            continue
        found[key], paths[key] = value[0] if many else value, path
        mistakes += _misnamed(key, path, found[key])
    mistakes += scenario_names.of_settings(found, paths)
    if mistakes:
        hint = "settings are the keywords of `analyze` and `simulate`; tables only group them"
        raise several(origin, mistakes, "side", hint)
    return found


def _misnamed(key: str, path: str, value: Any) -> list[str]:
    from roofline_fast import scenario_names

    if key == "techniques":
        wrong = not isinstance(value, str) and not _texts(value)
        return [f"{path} must be texts: {value!r}"] if wrong else list(scenario_names.of_set(value, path))
    return scenario_names.of_value(key, path, value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def serving_words() -> set[str]:
    """Return the keywords that only make sense where traffic is served."""
    from roofline_fast.analysis import analyze

    of_steps = set(inspect.signature(analyze).parameters)
    return (set(inspect.signature(simulate).parameters) | workload.words()) - of_steps - {"trace_options"}


def simulated(keywords: Mapping[str, Any]) -> Side:
    """Simulate what keywords describe.

    Raises
    ------
    SpecError
        A keyword that `simulate` does not have; none that says on what.
    """
    known = set(inspect.signature(simulate).parameters) | workload.words() - {"trace_options"}
    for name, value in keywords.items():
        if name not in known:
            hint = "nearest: " + ", ".join(nearest(name, known))
            message = f"compare must be given keywords of simulate where traffic is served: {name}"
            raise SpecError(message, field=name, value=repr(value), hint=hint)
    if keywords.get("hw") is None:
        hint = "for example `--hw h100`"
        raise SpecError("hw must be given to simulate a side", field="hw", hint=hint)
    return of_simulation(simulate(**keywords))


def like(other: Side, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return keywords that send what another side was sent, where `keywords` do not say other traffic."""
    if other.simulation is None:
        return as_measured(other.summary, keywords)
    run = other.simulation
    found = {"trace": run.trace, "model": run.model, "hw": run.hardware}
    elsewhere = any(word in keywords for word in ("num_prompts", "duration"))
    return {**{name: value for name, value in found.items() if name != "trace" or not elsewhere}, **keywords}


def as_measured(results: Mapping[str, Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return keywords that send the traffic of a file of results, where `keywords` do not say other traffic.

    Requests have the lengths that the file lists (``--save-detailed``), else its mean lengths.

    Raises
    ------
    SpecError
        A file that does not say how many requests of what length there were.
    """
    model = results.get("model_id") or results.get("model")
    found: dict[str, Any] = {"model": model} if model else {}
    if any(word in keywords for word in ("trace", "num_prompts", "duration")):
        return {**found, **keywords}
    if isinstance(results.get("trace"), str):
        return {**found, "trace": results["trace"], **keywords}
    offered = {"request_rate": results.get("offered_rate")}
    sent = {
        name: value for name, value in {**offered, **results}.items() if name in SENT and value is not None
    }
    prompts, answers = results.get("input_lens"), results.get("output_lens")
    starts = results.get("start_times")
    if isinstance(prompts, list) and isinstance(answers, list) and len(prompts) == len(answers) > 0:
        answered = [place for place, tokens in enumerate(answers) if tokens > 0]
        recorded = isinstance(starts, list) and len(starts) == len(prompts)
        first = min(starts) if recorded and starts else 0.0
        found["trace"] = Trace(
            arrival_s=[starts[place] - first if recorded and starts else 0.0 for place in answered],
            prompt_tokens=[prompts[place] for place in answered],
            output_tokens=[answers[place] for place in answered],
        )
        if recorded:
            sent = {name: value for name, value in sent.items() if name == "max_concurrency"}
        return {**found, **sent, **keywords}
    counts = [results.get(name) for name in ("completed", "total_input_tokens", "total_output_tokens")]
    if not all(isinstance(count, int | float) and count > 0 for count in counts):
        hint = "give the traffic: trace=…, or num_prompts=…, input_len=…, output_len=…"
        message = "results must hold completed, total_input_tokens and total_output_tokens to be simulated"
        raise SpecError(message, field="results", hint=hint)
    requests, prompt_tokens, output_tokens = (float(count or 0) for count in counts)
    found |= {
        "num_prompts": int(results.get("num_prompts") or requests),
        "input_len": max(round(prompt_tokens / requests), 1),
        "output_len": max(round(output_tokens / requests), 1),
    }
    return {**found, **sent, **keywords}
