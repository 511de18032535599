"""Every combination of some axes, priced where it is looked at: a lazy frame over any number of points."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast import _core, checks, user_files
from roofline_fast.errors import SpecError, UnknownNameError
from roofline_fast.frames import frame
from roofline_fast.hardware import Hardware, find_hardware
from roofline_fast.model import Model, find_model
from roofline_fast.prediction import switches
from roofline_fast.suggest import choice, unknown
from roofline_fast.sweeps import axes as sweep_axes

if TYPE_CHECKING:
    import polars as pl

KEEPS = ("all", "feasible", "pareto", "topk")
# Points that are priced before rows are handed on: enough to keep every core busy, little enough to stay small.
WINDOW = 1 << 17
ENGINE = ("engine", "gpu_memory_utilization", "block_size", "max_num_seqs", "max_num_batched_tokens")


@checks.named
def sweep(
    axes: Mapping[str, Any],
    *,
    keep: str = "feasible",
    objectives: Sequence[str] = (),
    top: int = 10,
    limits: Mapping[str, Any] | None = None,
    threads: int | None = None,
    efficiency: str | PathLike[str] | None = None,
    act_quant: str | None = None,
    launch: str | None = None,
    p2p: bool | None = None,
    host: Mapping[str, float] | None = None,
    compat: str | None = None,
) -> pl.LazyFrame:
    """Price every combination of some axes, lazily: what is not asked for is not computed.

    Parameters
    ----------
    axes : mapping
        The values of each axis, under the names that `evaluate` has: ``model``, ``hw``, ``tp``, ``pp``,
        ``dp``, ``ep``, ``quantization``, ``kv_cache_dtype``, ``phase``, ``batch_size``, ``input_len``,
        ``output_len``, ``prefix_len``, ``chunk``, ``mode``, ``techniques``; ``fusion``, ``flash_attention``,
        ``overlap``;
        ``compute_scale``, ``bandwidth_scale`` and ``link_scale`` for hardware that does not exist; and the
        engine's ``engine``, ``gpu_memory_utilization``, ``block_size``, ``max_num_seqs``,
        ``max_num_batched_tokens``. A value, a list, a range, a numpy array, or a text such as
        ``"1:1024:x2"``; a list among the values of ``techniques`` is these together.
    keep : {"feasible", "all", "pareto", "topk"}
        Points that are possible, fit in memory and hold the limits; every point, with the reason why one is
        impossible; those that no other beats in every objective; the best `top`.
    objectives : sequence of str
        Results that ``pareto`` weighs against each other, or the one that ``topk`` ranks by; ``max:`` or
        ``min:`` before the name says which way is better where that is not plain.
    top : int
        How many ``topk`` keeps.
    limits : mapping, optional
        ``min_gpus``, ``max_gpus``, ``within_context``, and ``max_`` or ``min_`` before the name of any
        result (``max_ttft_s``).
    threads : int, optional
        Threads to use, never more than there are cores; as many unless said.
    efficiency, act_quant, launch, p2p, host : optional
        What predictions are told of the engine's configuration, as for `analyze`.
    compat : str, optional
        ``"llm-viewer"`` or ``"llm-viewer@VERSION"``: that tool's totals at every point, its mistakes included. Axes are
        its arguments (``w_bits``, ``a_bits``, ``kv_bits`` or the survey's schemes as ``quantization``, …).

    Returns
    -------
    LazyFrame
        One row a point: the axes given, then the results of `evaluate`. Columns that are not selected are not
        computed, conditions on axes leave out their other values before anything is priced, and ``head``
        stops early. Rows come in an order that depends on the names of axes alone.

    Raises
    ------
    SpecError
        An axis that is not possible.
    UnknownNameError
        An unknown axis, model, device or result, with the nearest.

    Examples
    --------
    >>> import polars as pl
    >>> import roofline_fast as rf
    >>> space = {"model": "llama-3.1-8b", "hw": ["h100-sxm", "l40s"], "tp": [1, 2], "batch_size": "1:64:x2"}
    >>> steps = rf.sweep(space).filter(pl.col("step_s") < 0.02).select("hw", "tp", "batch_size", "step_s")
    >>> steps.collect().height
    19
    """
    checks.several(objectives=objectives)
    if limits is not None and not isinstance(limits, Mapping):
        raise SpecError(f"limits must be values by name: {limits!r}", field="limits", value=repr(limits))
    switched = switches(efficiency, act_quant, launch, p2p, host)
    if compat is not None:
        from roofline_fast.sweeps.llm_viewer import ViewerRun

        checks.texts(compat=compat)
        asked = {"keep": keep != "feasible", "objectives": bool(objectives), "limits": limits is not None}
        asked |= {name: value is not None for name, value in switched.items()}
        for name, given in asked.items():
            if given:
                message = f"{name} must be left out with compat, whose rows are all of its points"
                raise SpecError(message, field=name)
        run = ViewerRun(axes, compat)
        return run.read(0, run.points)[0].lazy()
    space = Space(axes, switches=switched)
    return space.lazy(keep=keep, objectives=objectives, top=top, limits=limits, threads=threads)


class Space:
    """Every combination of some axes; points are numbers from 0 up.

    Parameters
    ----------
    axes : mapping
        As for `sweep`.
    switches : mapping, optional
        What predictions are told of the engine's configuration, as `prediction.switches` returns it.

    Examples
    --------
    >>> from roofline_fast.sweeps.space import Space
    >>> Space({"model": "llama-3.1-8b", "hw": "h100-sxm", "batch_size": range(1, 1025)}).points
    1024
    """

    def __init__(self, axes: Mapping[str, Any], *, switches: Mapping[str, Any] | None = None) -> None:
        known = _core.Space.settings()
        for name in axes:
            if name not in known:
                raise unknown("axis", str(name), known)
        for name in ("model", "hw"):
            if name not in axes:
                raise SpecError(f"{name} must be given, as an axis of one or more values", field=name)
        self.axes = {name: sweep_axes.values(name, given) for name, given in axes.items()}
        self._models = [find_model(model) for model in self.axes["model"]]
        self._devices = [find_hardware(device) for device in self.axes["hw"]]
        self.axes["model"] = [model.name for model in self._models]
        self.axes["hw"] = [device.name for device in self._devices]
        self._switches = {name: value for name, value in (switches or {}).items() if value is not None}
        self._given = {"model": axes["model"], "hw": axes["hw"]}
        self.compiled = _core.Space(
            self.axes,
            models=[model.compiled for model in self._models],
            devices=[device.compiled for device in self._devices],
            engines=self._engines(),
            **self._switches,
        )

    @property
    def notes(self) -> list[str]:
        """Sentences about how the names of models and devices were taken."""
        notes = [*(model.note for model in self._models), *(device.note for device in self._devices)]
        return [note for note in notes if note is not None]

    def _engines(self) -> list[_core.EngineMemory]:
        """Return how memory is divided: for each device, every combination of the engine's settings."""
        choices = [self.axes.get(name, [None]) for name in ENGINE]
        divided = []
        for device in self._devices:
            for name, *settings in itertools.product(*choices):
                keywords = dict(zip(ENGINE[1:], settings, strict=True))
                divided.append(_core.Engine(name or "vllm", **keywords).memory(device.compiled))
        return divided

    @property
    def points(self) -> int:
        """How many points there are."""
        return self.compiled.points

    @property
    def columns(self) -> list[str]:
        """Its axes, in the order of columns."""
        return self.compiled.columns

    @property
    def models(self) -> list[Model]:
        """Its models."""
        return self._models

    @property
    def devices(self) -> list[Hardware]:
        """Its devices."""
        return self._devices

    def contents(self) -> dict[str, Any]:
        """Return everything that results depend on: axes, models and devices by content."""
        devices = [device.facts.rows() for device in self._devices]
        models = [model.config for model in self._models]
        switches = {name: _file_content(value) for name, value in self._switches.items()}
        axes = {name: self.axes[name] for name in self.columns}
        return {"axes": axes, "models": models, "devices": devices, "switches": switches}

    def recipe(self) -> dict[str, Any]:
        """Return plain values from which another machine makes the same space, files by content."""
        models = {model.name: model.config_text for model in self._models if not _shipped_model(model)}
        devices = {}
        for device, given in zip(self._devices, sweep_axes.values("hw", self._given["hw"]), strict=True):
            file = _device_file(given)
            if file is not None:
                devices[device.name] = file
        switches = {name: _file_content(value) for name, value in self._switches.items()}
        return {"axes": self.axes, "models": models, "devices": devices, "switches": switches}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Space:
        """Make the space that `recipe` describes."""
        import tempfile

        axes = dict(recipe["axes"])
        models = []
        for name in axes["model"]:
            text = recipe["models"].get(name)
            models.append(name if text is None else _model_of(name, text))
        axes["model"] = models
        with tempfile.TemporaryDirectory() as folder:
            devices: list[Any] = []
            for name in axes["hw"]:
                text = recipe["devices"].get(name)
                if text is None:
                    devices.append(name)
                    continue
                file = Path(folder) / f"{len(devices)}.toml"
                file.write_text(text, encoding="utf-8")
                devices.append(Hardware.from_toml(file))
            axes["hw"] = devices
            switches = dict(recipe["switches"])
            if "efficiency" in switches:
                fits = Path(folder) / "efficiency.toml"
                fits.write_text(switches["efficiency"], encoding="utf-8")
                switches["efficiency"] = fits
            return cls(axes, switches=switches)

    def read(
        self,
        start: int,
        stop: int,
        *,
        axes: Sequence[str] | None = None,
        results: Sequence[str] | None = None,
        keep: str = "feasible",
        objectives: Sequence[str] = (),
        top: int = 10,
        limits: Mapping[str, Any] | None = None,
        threads: int | None = None,
        progress: _core.Progress | None = None,
    ) -> tuple[pl.DataFrame, list[tuple[str, int, str]]]:
        """Price points `start` to `stop`.

        Returns
        -------
        frame, dropped
            The rows that are kept, and why others were not: reason, points, and what was wrong with the first.
        """
        checks.positive(threads=threads)
        table, dropped = self.compiled.read(
            start,
            stop,
            axes=None if axes is None else list(axes),
            results=_core.Space.results() if results is None else list(results),
            keep=keep,
            objectives=list(objectives),
            top=top,
            limits=_limits(limits),
            threads=threads,
            progress=progress,
        )
        return frame(table), dropped

    def lazy(
        self,
        *,
        keep: str = "feasible",
        objectives: Sequence[str] = (),
        top: int = 10,
        limits: Mapping[str, Any] | None = None,
        threads: int | None = None,
    ) -> pl.LazyFrame:
        """Return its rows as a lazy frame; see `sweep`."""
        from polars.io.plugins import register_io_source

        choice("keep", keep, KEEPS)
        asked: dict[str, Any] = {
            "keep": keep,
            "objectives": list(objectives),
            "top": top,
            "limits": _limits(limits),
        }
        # Also refuses objectives and limits that are not possible, now and not when rows are read.
        empty, _ = self.read(0, 0, threads=threads, **asked)
        source = _Source(self, asked, threads)
        return register_io_source(source.rows, schema=empty.schema, is_pure=True)


def _limits(limits: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the limits, each of the kind it must be."""
    found = dict(limits or {})
    for name, value in found.items():
        if name in ("min_gpus", "max_gpus"):
            checks.counts(**{name: value})
        elif name != "within_context":
            checks.numbers(**{name: value})
        else:
            checks.switches(within_context=value)
    checks.limits(found)
    return found


class _Source:
    """Rows of a space as polars asks for them."""

    def __init__(self, space: Space, asked: dict[str, Any], threads: int | None) -> None:
        self.space = space
        self.asked = asked
        self.threads = threads

    def rows(
        self,
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows that hold the predicate, with the columns named, until there are enough."""
        import polars as pl

        axes, results = self._columns(with_columns, predicate)
        best = self.asked["keep"] in ("pareto", "topk")
        # Which rows are best depends on all of them: conditions apply afterwards.
        space = self.space.compiled if best else _narrowed(self.space, predicate)
        if space is None:
            yield self._read(self.space.compiled, 0, 0, axes, results, predicate, with_columns)
            return
        left = n_rows
        window = min(WINDOW, max(1024, 2 * n_rows)) if n_rows is not None else batch_size or WINDOW
        if best:
            window = space.points
        start = 0
        given = False
        while start < space.points and (left is None or left > 0):
            if self.asked["keep"] == "feasible":
                start = space.next_possible(start, limits=self.asked["limits"])
            stop = min(start + max(window, 1), space.points)
            rows = self._read(space, start, stop, axes, results, predicate, with_columns)
            if left is not None:
                rows = rows.head(left)
                left -= rows.height
            if rows.height or not given:
                given = True
                yield rows
            start = stop
            window = min(2 * window, max(window, WINDOW))
        if not given:
            yield pl.DataFrame(schema=self._read(space, 0, 0, axes, results, predicate, with_columns).schema)

    def _columns(self, wanted: list[str] | None, predicate: pl.Expr | None) -> tuple[list[str], list[str]]:
        """Return the axes and the results that must be computed."""
        needed = set(self.space.columns + _core.Space.results() if wanted is None else wanted)
        if predicate is not None:
            needed |= set(predicate.meta.root_names())
        axes = [name for name in self.space.columns if name in needed]
        return axes, [name for name in _core.Space.results() if name in needed]

    def _read(
        self,
        space: _core.Space,
        start: int,
        stop: int,
        axes: list[str],
        results: list[str],
        predicate: pl.Expr | None,
        with_columns: list[str] | None,
    ) -> pl.DataFrame:
        # A table without any column has no rows: one axis stands for them.
        some = axes or self.space.columns[:1]
        table, _ = space.read(start, stop, axes=some, results=results, threads=self.threads, **self.asked)
        rows = frame(table)
        if predicate is not None:
            rows = rows.filter(predicate)
        return rows if with_columns is None else rows.select(with_columns)


def _narrowed(space: Space, predicate: pl.Expr | None) -> _core.Space | None:
    """Return the space without values of axes that no row with this predicate has; ``None`` if nothing is left."""
    import polars as pl

    compiled = space.compiled
    for part in _conjuncts(predicate):
        names = part.meta.root_names()
        if len(set(names)) != 1 or names[0] not in space.columns:
            continue
        axis = names[0]
        values = frame(compiled.values(axis))
        held = values.select(part.fill_null(value=False).alias("held"))["held"]
        if held.dtype != pl.Boolean or len(held) != values.height:
            continue
        places = held.arg_true().to_list()
        if not places:
            return None
        if len(places) < values.height:
            compiled = compiled.narrowed(axis, places)
    return compiled


def _conjuncts(predicate: pl.Expr | None) -> list[pl.Expr]:
    """Return the conditions that must all hold."""
    if predicate is None:
        return []
    inputs = predicate.meta.pop()
    if len(inputs) == 2:
        for left, right in (inputs, inputs[::-1]):
            if (left & right).meta.eq(predicate):
                return _conjuncts(left) + _conjuncts(right)
    return [predicate]


def _shipped_model(model: Model) -> bool:
    try:
        return (
            Model(model.name).config_text == model.config_text
            and user_files.find("models", model.name, ()) is None
        )
    except UnknownNameError:
        return False


def _model_of(name: str, config: str) -> Model:
    import json

    model = Model.from_config(json.loads(config))
    model._name = name
    return model


def _file_content(value: Any) -> Any:
    """Return what a file holds, and any other value as it is."""
    return (
        Path(value).read_text(encoding="utf-8")
        if isinstance(value, str | PathLike) and Path(value).is_file()
        else value
    )


def _device_file(given: Any) -> str | None:
    """Return the content of the file that a device was read from, if it was."""
    if isinstance(given, Hardware):
        return None
    own = user_files.find("hardware", given, (".toml",)) if isinstance(given, str) else None
    file = own or (Path(given) if user_files.is_path(str(given), ".toml") else None)
    return None if file is None else file.read_text(encoding="utf-8")
