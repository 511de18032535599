"""Kinds of traffic by name: distributions that others published, as words of a generator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roofline_fast.errors import MissingFileError, SpecError
from roofline_fast.json_text import parsed
from roofline_fast.suggest import unknown

# From inference-perf's workload catalogue (kubernetes-sigs/inference-perf, Apache-2.0): tokens, turns and, between
# turns, milliseconds. Bimodal ones, of which it has no modes, are log-normal with their mean and deviation.
WORKLOADS: dict[str, dict[str, str]] = {
    "interactive-chat": {
        "input_len": "lognormal(mean=50,std=40,min=10,max=1000)",
        "output_len": "normal(mean=300,std=150,min=10,max=1000)",
        "turns": "lognormal(mean=4,std=2.5,min=1,max=15)",
        "turn_delay": "lognormal(mean=45000,std=40000,min=5000,max=300000)",
        "prefix_len": "1000",
    },
    "code-generation": {
        "input_len": "lognormal(mean=1500,std=1200,min=100,max=10000)",
        "output_len": "lognormal(mean=425,std=825,min=50,max=10000)",
        "turns": "lognormal(mean=540,std=48600,min=1,max=3000)",
        "turn_delay": "lognormal(mean=15000,std=55000,min=1000,max=1000000)",
        "prefix_len": "3000",
    },
    "deep-research": {
        "input_len": "lognormal(mean=3000,std=2500,min=500,max=15000)",
        "output_len": "lognormal(mean=300,std=850,min=50,max=4000)",
        "turns": "normal(mean=15,std=8.5,min=2,max=50)",
        "turn_delay": "normal(mean=25000,std=12000,min=5000,max=60000)",
        "prefix_len": "2000",
    },
    "reasoning": {
        "input_len": "lognormal(mean=1000,std=800,min=100,max=5000)",
        "output_len": "exponential(mean=8000,min=500,max=32000)",
        "prefix_len": "250",
    },
    "batch-rag": {
        "input_len": "lognormal(mean=15000,std=22000,min=1000,max=80000)",
        "output_len": "normal(mean=500,std=300,min=50,max=2000)",
        "prefix_len": "500",
    },
    "synthetic-data": {
        "input_len": "lognormal(mean=500,std=1200,min=50,max=15000)",
        "output_len": "uniform(500,8000)",
        "prefix_len": "2000",
    },
    # Replayed agents, of which the catalogue has moments and no shapes: log-normal, and of prompts what is not
    # shared with the call before, as variable as the whole prompt is.
    "agentic": {
        "input_len": "lognormal(mean=4504.96,std=12732.5,min=1,max=97139)",
        "output_len": "lognormal(mean=659.416,std=3072.7,min=1,max=146112)",
        "turns": "lognormal(mean=21.8859,std=23.4138,min=1,max=300)",
        "turn_delay": "lognormal(mean=13028.3,std=176446,min=1,max=7199569)",
    },
}


def expanded(traffic: Mapping[str, Any]) -> dict[str, Any]:
    """Return words of a generator with those of the ``workload`` that they name, beneath them.

    Raises
    ------
    UnknownNameError
        No workload is called that.
    SpecError
        A file that describes none.
    """
    given = {word: value for word, value in traffic.items() if value is not None}
    name = given.pop("workload", None)
    if name is None:
        return given
    own = _of_file(Path(str(name))) if str(name).endswith(".json") else WORKLOADS.get(str(name))
    if own is None:
        raise unknown("workload", str(name), WORKLOADS)
    if "shared_prefix_ratio" in given:
        own = {word: text for word, text in own.items() if word != "prefix_len"}
    return {**own, **given}


def _of_file(path: Path) -> dict[str, str]:
    """Read a file of inference-perf's catalogue, or of that shape."""
    try:
        content = parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"{path} must exist", field="workload", value=str(path)) from None
    except ValueError as why:
        raise SpecError(f"{path} must be JSON: {why}", field="workload", value=str(path)) from None
    if isinstance(content, dict) and "shared_prefix_tokens_per_call" in content:
        content = _of_calls(content)
    turns = bool(content.get("multi_turn")) if isinstance(content, dict) else False
    fields = {"input_len": "input_sequence_length_per_turn" if turns else "input_sequence_length"}
    fields["output_len"] = "output_sequence_length"
    if turns:
        fields |= {"turns": "number_of_turns", "turn_delay": "time_between_turns"}
    try:
        words = {
            word: _distribution(content[field], 1000 if word == "turn_delay" else 1)
            for word, field in fields.items()
        }
        if float(content.get("system_prompt", {}).get("mean", 0)) > 0:
            words["prefix_len"] = _distribution(content["system_prompt"], 1)
    except (KeyError, TypeError, ValueError, AttributeError) as why:
        hint = "each of them has distribution_type, mean, standard_deviation, min and max"
        message = f"{path} must hold {', '.join(fields.values())}: {why!r}"
        raise SpecError(message, field="workload", value=str(path), hint=hint) from None
    return words


def _of_calls(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return calls of agents as conversations: each prompt is what it shares with the call before, and what is new."""
    try:
        prompt, shared = told["input_sequence_length"], told["shared_prefix_tokens_per_call"]
        mean, most = prompt["mean"] - shared["mean"], prompt["max"] - shared["max"]
        new = {"mean": mean, "standard_deviation": mean * prompt["standard_deviation"] / prompt["mean"]}
    except (KeyError, TypeError, ZeroDivisionError):
        return dict(told)
    new |= {"min": 1, "max": most}
    fields = {**told, "input_sequence_length_per_turn": new, "multi_turn": True}
    least = {"output_sequence_length": 1, "time_between_turns": 0.001}
    for name in (
        "input_sequence_length_per_turn",
        "output_sequence_length",
        "number_of_turns",
        "time_between_turns",
    ):
        if isinstance(field := fields.get(name), dict):
            fields[name] = {
                "distribution_type": "log_normal",
                **field,
                "min": max(field.get("min", 0), least.get(name, 0)),
            }
    return fields


def _distribution(told: Mapping[str, Any], scale: float) -> str:
    """Return a distribution as the text of a flag."""
    mean, std, low, high = (float(told[key]) * scale for key in ("mean", "standard_deviation", "min", "max"))
    kind = told["distribution_type"]
    bounds = f"min={low:.0f},max={high:.0f}"
    if std == 0 or low == high:
        return f"{mean:.0f}"
    if kind == "uniform":
        return f"uniform({low:.0f},{high:.0f})"
    if kind == "exponential":
        return f"exponential(mean={mean:g},{bounds})"
    if kind not in ("normal", "log_normal", "bimodal"):
        raise ValueError(kind)
    return f"{'normal' if kind == 'normal' else 'lognormal'}(mean={mean:g},std={std:g},{bounds})"
