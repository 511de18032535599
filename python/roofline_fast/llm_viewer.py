"""LLM-Viewer's figures, its mistakes included, for those who move over from it."""

from __future__ import annotations

from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

from roofline_fast import _core
from roofline_fast.analysis import Analysis
from roofline_fast.frames import frame, record
from roofline_fast.hardware import Hardware
from roofline_fast.suggest import choice

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.model import Model

# What the tool answers; it always prices prefill and decode together.
PHASES = ("prefill", "decode", "chat")
DEFAULT_BITS = 16


def inputs(
    *,
    batch_size: int,
    input_len: int,
    w_bits: int | None,
    a_bits: int | None,
    kv_bits: int | None,
    flash_attention: bool,
    tp: int,
) -> _core.ViewerInputs:
    """Return the tool's arguments for ours, with its defaults: a KV element is as wide as an activation."""
    activation = DEFAULT_BITS if a_bits is None else a_bits
    return _core.ViewerInputs(
        batchsize=batch_size,
        seqlen=input_len,
        w_bit=DEFAULT_BITS if w_bits is None else w_bits,
        a_bit=activation,
        kv_bit=activation if kv_bits is None else kv_bits,
        use_flashattention=flash_attention,
        tp_size=tp,
    )


def analyze(
    model: Model,
    hardware: str | PathLike[str] | Hardware,
    inputs: _core.ViewerInputs,
    phase: str,
    output_len: int,
    version: str,
) -> ViewerAnalysis:
    """Ask for one layer's operators and the totals of prefill and decode, or for a request (``chat``)."""
    choice("phase", phase, PHASES)
    name = hardware.name if isinstance(hardware, Hardware) else str(hardware)
    config = model.config_text
    if phase == "chat":
        generation = _core.llm_viewer_generate(config, name, inputs, output_len, version)
        return ViewerAnalysis(model, name, phase, version, None, record(generation))
    ops, totals = _core.llm_viewer_analyze(config, name, inputs, version)
    by_phase = {row.pop("phase"): row for row in frame(totals).to_dicts()}
    return ViewerAnalysis(model, name, phase, version, ops, by_phase)


class ViewerAnalysis(Analysis):
    """LLM-Viewer's answer: its operators and totals, under its names; it has none of the other figures."""

    def __init__(
        self,
        model: Model,
        hardware: str,
        phase: str,
        version: str,
        ops: _core.Table | None,
        totals: dict[str, Any],
    ) -> None:
        self.model = model
        self._inputs = {"model": model.name, "hw": hardware, "phase": phase, "compat": version}
        self._ops = ops
        self._totals = totals

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"LLM-Viewer has no such figure: {name}")

    @property
    def step_s(self) -> float:
        """The tool's ``inference_time`` of the phase, s."""
        totals = self._totals.get(self._inputs["phase"], self._totals)
        seconds: float = totals["inference_time"]
        return seconds

    @cached_property
    def ops(self) -> pl.DataFrame:
        """One row an operator **of one layer**: ``phase``, ``op``, then the tool's fields under its names."""
        if self._ops is None:
            raise AttributeError("LLM-Viewer shows no operators of a whole request")
        return frame(self._ops)

    @property
    def totals(self) -> dict[str, Any]:
        """The tool's ``total_results``; of a request (``chat``) its times of inference and prefill."""
        return dict(self._totals)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, texts, lists and dictionaries (``--format json``)."""
        answer = {**self.inputs, "step_s": self.step_s, "totals": self.totals}
        return answer if self._ops is None else {**answer, "ops": self.ops.to_dicts()}

    def __repr__(self) -> str:
        return f"ViewerAnalysis({self.model.name} on {self._inputs['hw']}: {self.step_s:.6g} s)"
