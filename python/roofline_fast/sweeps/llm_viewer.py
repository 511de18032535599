"""Sweeps of LLM-Viewer's own figures: every combination of that tool's arguments, one row of its totals each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roofline_fast.errors import RooflineError, SpecError, UnknownNameError
from roofline_fast.suggest import choice, unknown
from roofline_fast.sweeps import axes as sweep_axes

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.sweeps.dataset import Dropped

# The tool's arguments under our names.
AXES = (
    "model",
    "hw",
    "phase",
    "tp",
    "quantization",
    "w_bits",
    "a_bits",
    "kv_bits",
    "flash_attention",
    "batch_size",
    "input_len",
)
ASSUMED = {"phase": "decode", "batch_size": 1, "input_len": 2048}
# The tool's totals, and the rate that its notebooks make of them.
RESULTS = (
    "inference_time",
    "throughput",
    "OPs",
    "memory_access",
    "load_weight",
    "load_act",
    "store_act",
    "load_kv_cache",
    "store_kv_cache",
    "memory_consumption",
    "memory_consumption_weight",
    "memory_consumption_kv_cache",
    "memory_consumption_tmp_act",
)
PHASES = ("decode", "prefill")
# The survey's schemes: w4, kv4, w4kv4, w4a4; what is not named has 16 bits, keys and values those of activations.
SCHEME = re.compile(r"(?:w(?P<w_bits>\d+))?(?:a(?P<a_bits>\d+))?(?:kv(?P<kv_bits>\d+))?", flags=re.I)


class ViewerRun:
    """Every combination of some of the tool's arguments; rows keep the order of the axes.

    Parameters
    ----------
    axes : mapping
        Values by name, as for `sweep`: ``model``, ``hw`` (names of the tool's own table), ``phase``, ``tp``,
        ``w_bits``, ``a_bits``, ``kv_bits`` or all three as ``quantization`` (the survey's ``fp16``, ``w4``, ``w4kv4``,
        ``w4a4``), ``flash_attention``, ``batch_size``, ``input_len``.
    compat : str
        ``llm-viewer`` or ``llm-viewer@VERSION``.
    results : sequence of str, optional
        The tool's totals that are returned; all, and the ``throughput`` of its notebooks, unless said.

    Raises
    ------
    SpecError
        An axis that the tool does not have, or values that are not possible.

    Examples
    --------
    >>> from roofline_fast.sweeps.llm_viewer import ViewerRun
    >>> run = ViewerRun({"model": "llama-2-13b", "hw": "a6000", "w_bits": "16,4"}, "llm-viewer")
    >>> rows, dropped = run.read(0, run.points)
    >>> rows["w_bits"].to_list(), rows["inference_time"].round(4).to_list()
    ([16, 4], [0.0357, 0.0106])
    """

    keep = "feasible"
    objectives: tuple[str, ...] = ()
    picks = False
    points_a_part = 1 << 12

    def __init__(self, axes: Mapping[str, Any], compat: str, results: Sequence[str] | None = None) -> None:
        for name in axes:
            if name not in AXES:
                error = unknown("axis", str(name), AXES)
                error.hint = f"{compat} has {', '.join(AXES)}"
                raise error
        for name in ("model", "hw"):
            if name not in axes:
                raise SpecError(f"{name} must be given, as an axis of one or more values", field=name)
        for name in results or ():
            choice("column", name, RESULTS)
        self.compat = compat
        given = {**ASSUMED, **axes}
        self.axes = {name: sweep_axes.values(name, given[name]) for name in AXES if name in given}
        for phase in self.axes["phase"]:
            choice("phase", phase, PHASES)
        if "quantization" in axes:
            for name in ("w_bits", "a_bits", "kv_bits"):
                if name in axes:
                    message = f"{name} must be left out with quantization, which says it too"
                    raise SpecError(message, field=name)
            for scheme in self.axes["quantization"]:
                _bits(scheme)
        self.results = [name for name in RESULTS if results is None or name in results]

    @property
    def points(self) -> int:
        """How many points there are."""
        count = 1
        for values in self.axes.values():
            count *= len(values)
        return count

    @property
    def varied(self) -> dict[str, list[Any]]:
        """Its axes of more than one value, in the order of columns."""
        return {name: values for name, values in self.axes.items() if len(values) > 1}

    def read(self, start: int, stop: int) -> tuple[pl.DataFrame, Dropped]:
        """Return the rows of points `start` to `stop`, and why others were dropped."""
        import polars as pl

        from roofline_fast.model import find_model

        models = {str(model): find_model(model) for model in self.axes["model"]}
        rows: list[dict[str, Any]] = []
        dropped: dict[str, tuple[int, str]] = {}
        combinations = itertools.product(*self.axes.values())
        for values in itertools.islice(combinations, start, stop):
            point = dict(zip(self.axes, values, strict=True))
            try:
                rows.append({**point, **self._totals({**point, "model": models[str(point["model"])]})})
            except UnknownNameError:
                raise  # a name is wrong at every point
            except RooflineError as error:
                reason = f"{error.field or 'point'} is not possible"
                count, example = dropped.get(reason, (0, str(error).splitlines()[0]))
                dropped[reason] = (count + 1, example)
        reasons = [(reason, count, example) for reason, (count, example) in sorted(dropped.items())]
        frame = pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame(schema=list(self.axes))
        return frame, reasons

    def _totals(self, point: dict[str, Any]) -> dict[str, Any]:
        from roofline_fast.analysis import analyze

        point |= _bits(point.pop("quantization", "fp16"))
        totals = analyze(**point, compat=self.compat).totals[point["phase"]]
        found = {**totals, "throughput": point["batch_size"] / totals["inference_time"]}
        return {name: found[name] for name in self.results}


def _bits(scheme: str) -> dict[str, int]:
    """Return the widths that a scheme of the survey names.

    Raises
    ------
    SpecError
        No such scheme.
    """
    found = SCHEME.fullmatch(scheme)
    if scheme.lower() == "fp16":
        return {}
    if found is None or not scheme:
        message = f"quantization must be a scheme of the survey with --compat: {scheme}"
        hint = "for example fp16, w4, kv4, w4kv4 or w4a4"
        raise SpecError(message, field="quantization", value=scheme, hint=hint)
    return {name: int(bits) for name, bits in found.groupdict().items() if bits}
