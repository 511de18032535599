"""Known measurements beside what is predicted for them."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast import _core, checks
from roofline_fast.errors import SpecError
from roofline_fast.frames import frame
from roofline_fast.hardware import find_hardware
from roofline_fast.measurements import reader, served
from roofline_fast.measurements.served import Judged

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.hardware import Hardware
    from roofline_fast.measurements.requests import Observed

COLUMNS = ("metric", "group", "n", "refused", "median_ape", "mape", "p90_ape", "bias", "coverage")


class Validation:
    """Errors of predictions over known measurements.

    Attributes
    ----------
    errors : polars.DataFrame
        One row a `metric` (``tpot_ms``, ``ttft_ms``, ``e2e_ms``, ``step_ms``, ``kernel:gemm``, …) and
        `group` (``all`` once a metric, then ``gpu=…``, ``engine=…``, ``model=…``, ``dtype=…``; what else a
        metric is judged by comes after, as ``variant=means``, ``variant=means,gpu=…``): rows priced (`n`)
        and `refused`, errors in percent (`median_ape`, `mape`, `p90_ape`, `bias`), the share of rows inside
        the 80 % band (`coverage`), and the pure roofline's `ideal_median_ape`.
    refused : polars.DataFrame
        Why rows were not priced: `metric`, `reason`, `rows`.
    skipped : list of str
        Files of a folder that hold no measurements.
    unusable : polars.DataFrame
        Of kernels: the first `row` (from 1) of each kind that cannot be priced, why, and what was there.
    """

    def __init__(
        self,
        errors: pl.DataFrame,
        refused: pl.DataFrame,
        skipped: list[str],
        unusable: pl.DataFrame | None = None,
    ) -> None:
        import polars as pl

        self.errors = errors
        self.refused = refused
        self.skipped = skipped
        self.unusable = pl.DataFrame() if unusable is None else unusable

    def to_list(self) -> list[dict[str, Any]]:
        """Return the errors as a list of objects."""
        return self.errors.to_dicts()

    def __repr__(self) -> str:
        return f"Validation({self.errors['metric'].n_unique()} metrics, {self.errors.height} groups)"


@checks.named
def validate(
    measurements: str | PathLike[str] | pl.DataFrame,
    hw: str | Hardware | None = None,
    *,
    engine: str = "",
    efficiency: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
    **serving: Any,
) -> Validation:
    """Hold predictions against measurements.

    Parameters
    ----------
    measurements : path or DataFrame
        A file (Parquet, CSV, JSON Lines) or a folder of them, told apart by their columns: kernel timings,
        steps and served requests as for `calibrate`, points of servers. A request trace that holds
        ``observed_ttft_s``, ``observed_tpot_s`` or ``observed_e2e_s`` is replayed as the trace it is, and so
        is the JSON of ``vllm bench serve --save-detailed``.
    hw, engine : optional
        As for `calibrate`.
    efficiency : path or sequence of paths, optional
        Efficiency files, or devices, whose fits come before the shipped ones.
    **serving
        How requests were served, keywords of `simulate` (``model``, ``tp``, ``max_num_seqs``, …), where
        nothing recorded beside the file says it.

    Returns
    -------
    Validation
        Errors by metric and group, and what was refused.

    Raises
    ------
    SpecError
        No file of measurements, or columns that are missing.
    """
    device = find_hardware(hw) if hw is not None else None
    fits = _one(efficiency)
    kernels, skipped = [], []
    found: dict[str, list[pl.DataFrame]] = {}
    runs: list[Observed] = []
    given = {key: value for key, value in {"hw": hw, "engine": engine or None, **serving}.items() if value}
    whole = _whole(measurements)
    if whole is not None:
        return _joined(served.requests(_replayable([whole], given), fits), [])
    frames = _frames(measurements)
    for name, rows in frames:
        kind = reader.kind(rows.columns)
        if kind is not None and rows.height == 0:
            raise SpecError("measurements must have rows: none", field="measurements", value=name)
        if kind is None and len(frames) == 1 and not reader.is_timed(rows.columns):
            raise reader.unknown(name, rows.columns)
        if kind == "kernels" or (kind is None and len(frames) == 1):
            kernels.append(reader.kernels(rows, device, engine))
        elif kind == "requests" and (found_runs := _runs(measurements, name, rows, given)):
            runs += found_runs
        elif kind in ("points", "steps", "batches"):
            found.setdefault(kind, []).append(reader.steps(rows) if kind == "steps" else rows)
        else:
            skipped.append(name)
    tables: list[Judged] = []
    if kernels:
        tables.append(Judged(*kernels[0].validate(fits, kernels[1:])))
    if points := found.get("points"):
        rows = _together(points)
        alone = not kernels and not runs and len(found) == 1
        settings = _where_no_column_says(rows, device, engine, alone=alone)
        tables.append(
            Judged(*_core.Measurements.points(rows.height, reader.columns(rows), efficiency=fits, **settings))
        )
    if steps := found.get("steps"):
        tables += served.steps(_together(steps), device, engine, fits)
    tables += served.requests(runs, fits)
    if batches := found.get("batches"):
        tables += served.batches(_together(batches), fits)
    if found and not tables:
        message = "measurements must hold a row that can be priced: none can"
        hint = "steps of vLLM's traces are timed by the step that follows them"
        raise SpecError(message, field="measurements", hint=hint)
    unusable = _unusable(kernels[0]) if kernels else None
    return _joined(tables, skipped, unusable)


def _unusable(kernels: _core.Measurements) -> pl.DataFrame:
    """Return kernels that cannot be used; modules are none, and their reasons are listed with what was refused."""
    import polars as pl

    told = reader.unusable(frame(kernels.refused))
    return told.filter(~pl.col("field").str.to_lowercase().is_in(reader.MODULES))


def _one(efficiency: Any) -> str | None:
    """Return efficiency files, or devices whose fits are taken, as one text."""
    if efficiency is None:
        return None
    several = list(efficiency) if isinstance(efficiency, list | tuple) else [efficiency]
    if not several or not all(isinstance(one, str | PathLike) for one in several):
        message = f"efficiency must be a path or several: {efficiency!r}"
        raise SpecError(message, field="efficiency", value=repr(efficiency))
    return ",".join(map(str, several))


def _where_no_column_says(rows: pl.DataFrame, device: Any, engine: str, *, alone: bool) -> dict[str, Any]:
    """Return the device and the engine of points of servers that do not name their own.

    Raises
    ------
    SpecError
        All of them do, and nothing else is judged.
    """
    for field, given, column in (("hw", device, "system"), ("engine", engine or None, "backend")):
        says = column in rows.columns and rows[column].null_count() == 0
        if given is not None and says and alone:
            message = f"{field} must be left out where every row says it in `{column}`"
            raise SpecError(message, field=field, hint=f"leave out --{field}, or the column")
    return {"hw": None if device is None else device.compiled, "engine": engine}


def _together(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the rows of several files of one kind, so that each metric is judged once."""
    import polars as pl

    return pl.concat(frames, how="diagonal_relaxed")


def _whole(measurements: Any) -> Observed | None:
    """Return the requests of a file that is no table: a benchmark's JSON, a compressed trace."""
    from roofline_fast.measurements.requests import by_suffix

    return by_suffix(Path(measurements)) if isinstance(measurements, str | PathLike) else None


def _runs(measurements: Any, name: str, rows: pl.DataFrame, given: dict[str, Any]) -> list[Observed]:
    """Return the runs of a file that can be replayed; of a folder's others none, of one file why not."""
    from roofline_fast.measurements.requests import of_file

    path = Path(name) if isinstance(measurements, str | PathLike) else None
    found = of_file(path, rows)
    if path is None or path == Path(measurements).expanduser():
        return _replayable(found, given)
    return served.known(found, given)


def _replayable(found: list[Observed], given: dict[str, Any]) -> list[Observed]:
    """Return runs with their settings.

    Raises
    ------
    SpecError
        Nothing says what was served on which device.
    """
    known = served.known(found, given)
    if len(known) < len(found):
        run = next(run for run in found if run not in known)
        missing = next(name for name in ("hw", "model") if name not in run.settings)
        message = f"{missing} must be given for served requests: nothing beside {run.name or 'them'} says it"
        raise SpecError(message, field=missing, hint=f"add --{missing}")
    return known


def _frames(measurements: Any) -> list[tuple[str, pl.DataFrame]]:
    if not isinstance(measurements, str | PathLike):
        import polars as pl

        return [("a data frame", reader.tidy(pl.DataFrame(measurements)))]
    files = reader.files(Path(measurements))
    if len(files) == 1:
        return [(str(files[0]), reader.read(files[0]))]
    return [(str(path), _known(path)) for path in files]


def _known(path: Path) -> pl.DataFrame:
    """Read a file of a folder; what cannot be read or is none of measurements comes back without columns."""
    import polars as pl

    nothing = pl.DataFrame()
    try:
        found = reader.read(path) if reader.kind(reader.columns_of(path)) else nothing
        return found if found.height else nothing
    except SpecError:
        return nothing


def _joined(tables: list[Judged], skipped: list[str], unusable: pl.DataFrame | None = None) -> Validation:
    import polars as pl

    if not tables:
        raise reader.unknown("one of these files", skipped)
    errors: list[pl.DataFrame] = []
    seen: set[str] = set()
    for judged in tables:
        rows = frame(judged.errors)
        # What comes first of a metric has its `all`.
        if not seen.isdisjoint(rows["metric"]):
            group = pl.when(pl.col("group") == "all").then(pl.lit("")).otherwise("," + pl.col("group"))
            rows = rows.with_columns(group=f"variant={judged.variant}" + group)
        seen.update(rows["metric"])
        errors.append(rows)
    refused = pl.concat([frame(judged.refused) for judged in tables])
    return Validation(pl.concat(errors), refused, skipped, unusable)
