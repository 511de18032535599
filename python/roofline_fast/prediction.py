"""What turns a roofline into a prediction, as users say it."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from roofline_fast import _core, checks
from roofline_fast.errors import SpecError
from roofline_fast.suggest import choice

MODES = ("predicted", "ideal")
# What a client waits outside the engine: HTTP and tokenizer, measured before a vLLM server on an H100.
API_LATENCY_MS = 4.5


def switches(
    efficiency: str | PathLike[str] | None,
    act_quant: str | None,
    launch: str | None,
    p2p: bool | None,
    host: Mapping[str, float] | None,
    enforce_eager: bool | None = None,
) -> dict[str, Any]:
    """Return what a prediction is told of the engine's configuration, as the compiled half takes it."""
    checks.texts(act_quant=act_quant, launch=launch)
    checks.switches(p2p=p2p, enforce_eager=enforce_eager)
    if launch is None and enforce_eager:
        launch = "eager"
    return {
        "efficiency": efficiency,
        "act_quant": act_quant,
        "launch": launch,
        "p2p": p2p,
        "host": None if host is None else _host(host),
    }


def _host(host: Any) -> tuple[float, float, float | None]:
    if not isinstance(host, Mapping):
        hint = 'for example {"h0": 0.0007, "h1": 1e-5}'
        message = f"host must be seconds by name: {host!r}"
        raise SpecError(message, field="host", value=repr(host), hint=hint)
    for name in host:
        choice("host", name, ("h0", "h1", "launch"))
    checks.numbers(**{f"host.{name}": value for name, value in host.items()})
    launch = host.get("launch")
    return float(host.get("h0", 0.0)), float(host.get("h1", 0.0)), None if launch is None else float(launch)


def api_latency_s(
    api_latency: float | None, mode: str, step_cost: str | None, efficiency: str | PathLike[str] | None = None
) -> float:
    """Return what clients wait outside the engine, seconds.

    What an efficiency file measured where nothing is said; nothing by default where nothing is predicted.
    """
    checks.numbers(api_latency=api_latency)
    if api_latency is None:
        if mode != "predicted" or step_cost is not None:
            return 0.0
        known = None if efficiency is None else _core.Measurements.api_latency_s(efficiency)
        return API_LATENCY_MS / 1e3 if known is None else known
    if not 0 <= api_latency < float("inf"):
        message = f"api_latency must be milliseconds, not negative: {api_latency}"
        raise SpecError(message, field="api_latency", value=str(api_latency))
    return api_latency / 1e3
