"""Why one configuration is faster than another, and where a technique begins to pay."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, overload

from roofline_fast import _core, checks
from roofline_fast.analysis import INPUT_LEN, Analysis, analyze
from roofline_fast.errors import SpecError
from roofline_fast.frames import frame
from roofline_fast.hardware import Hardware
from roofline_fast.model import Model
from roofline_fast.suggest import nearest

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.served_comparison import ServedComparison
    from roofline_fast.served_sides import Side
    from roofline_fast.simulation.result import Simulation

Config = Mapping[str, Any] | str | PathLike[str] | None


@overload
def compare(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None, **shared: Any) -> Comparison: ...
@overload
def compare(
    a: Config | Simulation, b: Config | Simulation, **shared: Any
) -> Comparison | ServedComparison: ...
@checks.named
def compare(a: Config | Simulation, b: Config | Simulation, **shared: Any) -> Comparison | ServedComparison:
    """Explain why `b` is faster or slower than `a`.

    Parameters
    ----------
    a, b : mapping, path, Simulation or None
        Keywords that one of both has alone: of `analyze`, or of `simulate` where they name traffic (``trace``,
        ``num_prompts``, …). Or a file: a scenario with such keywords (TOML or JSON), what ``vllm bench serve`` wrote,
        or what ``simulate`` printed as JSON. Or a simulation. Nothing beside a measured file is a simulation of the
        traffic that the file tells of.
    **shared
        Keywords that both have.

    Returns
    -------
    Comparison or ServedComparison
        Both answers, and a waterfall from one to the other that adds up: of a step by operator and resource, of served
        traffic by phase of a request, and of the engine's time by operator and by resource.

    Raises
    ------
    SpecError
        A keyword that is not known; two different phases; a step beside traffic.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> found = rf.compare(None, {"techniques": "weight-quant:bits=4"}, model="llama-2-13b", hw="a6000")
    >>> found.b_s < found.a_s
    True
    >>> found.waterfall["op"][0], found.waterfall["resource"][0]
    ('gate_up_proj', 'weights')
    >>> served = rf.compare({}, {"tp": 2}, hw="h100-sxm", num_prompts=10, input_len=512, output_len=16)
    >>> {"prefill", "decode"} <= set(served.waterfall["phase"])
    True
    """
    from roofline_fast import served_sides as served

    sides = [_opened(side) for side in (a, b)]
    words = served.serving_words()
    settings = [{**shared, **side} for side in sides if isinstance(side, dict)]
    if len(settings) < len(sides) or any(words & set(side) for side in settings):
        return _served(sides, shared)
    for side in settings:
        _check(side)
    first, second = (analyze(side.pop("model"), side.pop("hw"), **side) for side in settings)
    phases = [side.inputs["phase"] for side in (first, second)]
    if phases[0] != phases[1]:
        message = f"both sides must be asked about the same phase: {phases[0]} and {phases[1]}"
        raise SpecError(message, field="phase", value=phases[1])
    return Comparison(first, second)


def _opened(side: Config | Simulation) -> dict[str, Any] | Side:
    """Return the keywords of a side, or its results."""
    from roofline_fast import served_sides as served

    if side is None:
        return {}
    if isinstance(side, str | PathLike):
        content, origin = served.read(side)
        if served.is_result(content):
            return served.of_results(content, origin)
        return served.settings(content, origin)
    if isinstance(side, Mapping):
        return served.of_results(side, "results") if served.is_result(side) else dict(side)
    if hasattr(side, "summary"):
        return served.of_simulation(side)
    hint = "keywords, a file, or a simulation"
    raise SpecError(
        f"a side must be a mapping or a path: {side!r}", field="side", value=repr(side), hint=hint
    )


def _served(sides: Sequence[dict[str, Any] | Side], shared: Mapping[str, Any]) -> ServedComparison:
    from roofline_fast import served_sides as served
    from roofline_fast.served_comparison import ServedComparison

    other = next((side for side in sides if isinstance(side, served.Side)), None)

    def known(side: dict[str, Any] | Side) -> Side:
        if isinstance(side, served.Side):
            return side
        keywords = {**shared, **side}
        return served.simulated(keywords if other is None else served.like(other, keywords))

    first, second = map(known, sides)
    return ServedComparison(first, second)


def _check(side: Mapping[str, Any]) -> None:
    known = set(inspect.signature(analyze).parameters) - {"compat", "kv_bits"}
    for name, value in side.items():
        if name not in known:
            hint = "nearest: " + ", ".join(nearest(name, known))
            message = f"compare must be given keywords of analyze: {name}"
            raise SpecError(message, field=name, value=repr(value), hint=hint)
    for name in ("model", "hw"):
        if side.get(name) is None:
            raise SpecError(f"{name} must be given for both sides", field=name)


class Comparison:
    """Two answers to the same question, and what lies between them; times in seconds.

    The time of a decode step is that of one token: of the step divided by the tokens it brings.
    """

    def __init__(self, a: Analysis, b: Analysis) -> None:
        self.a = a
        self.b = b

    def _table(self, by: str) -> pl.DataFrame:
        return frame(self.a._answer.compare(self.b._answer, by))

    @cached_property
    def waterfall(self) -> pl.DataFrame:
        """A row an operator and resource, largest change first: ``op, resource, a_s, b_s, delta_s, …``."""
        return self._table("piece")

    @cached_property
    def by_op(self) -> pl.DataFrame:
        """The same, one row an operator."""
        return self._table("op")

    @cached_property
    def by_resource(self) -> pl.DataFrame:
        """The same, one row a resource."""
        return self._table("resource")

    @property
    def a_s(self) -> float:
        """Seconds of `a`: a token of a decode step, else what was asked about."""
        return _seconds(self.a)

    @property
    def b_s(self) -> float:
        """Seconds of `b`."""
        return _seconds(self.b)

    @property
    def delta_s(self) -> float:
        """What `b` takes more."""
        return self.b_s - self.a_s

    @property
    def notes(self) -> list[str]:
        """Sentences about what was assumed, of both."""
        return list(dict.fromkeys([*self.a.notes, *self.b.notes]))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, texts, lists and dictionaries (``--format json``)."""
        return {
            "a": self.a.inputs,
            "b": self.b.inputs,
            "a_s": self.a_s,
            "b_s": self.b_s,
            "delta_s": self.delta_s,
            "waterfall": self.waterfall.to_dicts(),
            "by_op": self.by_op.to_dicts(),
            "by_resource": self.by_resource.to_dicts(),
            "notes": self.notes,
        }

    def __repr__(self) -> str:
        return f"Comparison({self.a_s * 1e3:.3g} ms, {self.b_s * 1e3:.3g} ms)"


def _seconds(side: Analysis) -> float:
    a_token = side.inputs["phase"] in ("decode", "mixed")
    return side.tpot_s if a_token and side.tpot_s is not None else side.step_s


# What a question about break-even decides itself.
OF_BREAK_EVEN = ("phase", "output_len", "prefix_len", "chunk", "compat", "kv_bits")
# What is left out to see what it brings: formats, and what techniques say.
FORMATS = ("quantization", "kv_cache_dtype", "w_bits", "a_bits")
TECHNIQUES = ("techniques", "spec_method", "spec_model", "num_speculative_tokens", "spec_acceptance")


@checks.named
def break_even(
    model: str | PathLike[str] | Mapping[str, Any] | Model,
    hw: str | PathLike[str] | Hardware,
    *,
    techniques: str | Sequence[str] | None = None,
    batch_size: int = 1,
    input_len: int = INPUT_LEN,
    mode: str = "ideal",
    **settings: Any,
) -> pl.DataFrame:
    """Solve where techniques begin and cease to pay in decode, on the exact cost.

    Parameters
    ----------
    model, hw, techniques, mode
        As for `analyze`. Each technique, and each format that is asked for, is compared with the same without it
        alone; what decides the formats of weights and activations is one thing.
    batch_size, input_len : int
        Sequences and context of the step that is asked about.
    **settings
        Other keywords of `analyze`: layout, formats, drafts, lowering.

    Returns
    -------
    polars.DataFrame
        ``name, technique, value, unit, about``, one row an answer: tokens from which linear layers are
        compute-bound, of each technique the batches from and up to which it gains, of drafts the acceptance from
        which they pay, contexts at which the cache outweighs the weights. A null: that never happens.

    Raises
    ------
    SpecError
        A keyword it does not have, or a step that is not possible.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> answers = rf.break_even("llama-2-13b", "a6000", techniques="weight-quant:bits=4")
    >>> answers.filter(name="compute_bound_from")["value"].round(1).item()
    50.4
    """
    checks.counts(batch_size=batch_size, input_len=input_len)
    known = set(inspect.signature(analyze).parameters) - set(OF_BREAK_EVEN)
    for name, value in settings.items():
        if name not in known:
            hint = "nearest: " + ", ".join(nearest(name, known))
            message = f"break_even must be given keywords it has: {name}"
            raise SpecError(message, field=name, value=repr(value), hint=hint)
    asked = {"phase": "decode", "batch_size": batch_size, "input_len": input_len, "mode": mode, **settings}

    def without(*names: str) -> Analysis:
        kept = {name: value for name, value in asked.items() if name not in names}
        return analyze(model, hw, **kept)

    stem, base = without(*TECHNIQUES), without(*TECHNIQUES, *FORMATS)
    changed = analyze(model, hw, techniques=techniques, **asked)
    point = _core.Point("decode", batch_size=batch_size, input_len=input_len)
    memory = _core.Engine(changed.inputs["engine"]).memory(changed.hardware.compiled)
    return frame(
        _core.Analysis.break_even(changed.deployment, stem.deployment, base.deployment, point, memory)
    )


@checks.named
def bound_map(
    model: str | PathLike[str] | Mapping[str, Any] | Model,
    hw: str | PathLike[str] | Hardware,
    *,
    batch_size: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    context: Sequence[int] = (256, 1024, 4096, 16384, 65536),
    mode: str = "ideal",
    **settings: Any,
) -> pl.DataFrame:
    """Map what bounds a decode step over batch and context.

    Parameters
    ----------
    model, hw, mode
        As for `analyze`.
    batch_size, context : sequence of int
        Every pair of them is a row.
    **settings
        Other keywords of `analyze`: layout, formats, techniques.

    Returns
    -------
    polars.DataFrame
        ``batch_size, context, bound, step_s, kv_share``, the last the cache's share of the bytes moved.

    Examples
    --------
    >>> import roofline_fast as rf
    >>> rf.bound_map("llama-3.1-8b", "h100", batch_size=[1, 1024], context=[1])["bound"].to_list()
    ['memory', 'compute']
    """
    sizes = {"batch_size": batch_size, "context": context}
    batches, contexts = (checks.sizes(name, given) for name, given in sizes.items())
    answer = analyze(model, hw, phase="decode", mode=mode, **settings)
    memory = _core.Engine("vllm").memory(answer.hardware.compiled)
    return frame(_core.Analysis.bound_map(answer.deployment, memory, batches, contexts))
