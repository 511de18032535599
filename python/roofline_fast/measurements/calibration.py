"""Efficiencies from a user's own measurements."""

from __future__ import annotations

from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast import _core, checks
from roofline_fast.atomic_file import write_text
from roofline_fast.errors import SpecError
from roofline_fast.frames import frame
from roofline_fast.hardware import find_hardware
from roofline_fast.measurements import reader

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.hardware import Hardware
    from roofline_fast.measurements.requests import Observed


class Calibration:
    """Fits of kernel families, and the efficiency files that hold them.

    Attributes
    ----------
    fits : polars.DataFrame
        One row a group of kernels (`hw`, `engine`, `family`, `dtype`): `rows` that were sound, those of them
        whose loops read from the last-level cache (`hot`), how many were dropped (`beats_roofline`,
        `unit_slip`, `launch_floor`), errors in percent on rows that were not fitted (`median_ape`, `mape`,
        `p90_ape`, `bias`), the pure roofline's (`ideal_median_ape`), those of the `odd` such rows whose shapes
        serving hardly meets (`odd_median_ape`, `odd_p90_ape`), what the numbers were `drawn_to`, and why a
        group was `refused`.
        Of whole steps and served requests: one row a number found (`family`, `number`, `value`, what it was
        drawn to as `prior`), or why none was.
    files : dict of str to str
        The text of an efficiency file for each device.
    noisy : int
        Rows left out because they are marked noisy.
    unusable : polars.DataFrame
        Rows that cannot be used: the first `row` (from 1) of each kind, why, and what was there.
    errors : polars.DataFrame
        Of whole steps and served requests: errors in percent on what was not fitted, by `metric`, beside
        those before (`before_median_ape`) and the pure roofline's. Empty for kernels, whose fits hold them.
    """

    def __init__(
        self,
        fits: pl.DataFrame,
        files: dict[str, str],
        noisy: int = 0,
        unusable: pl.DataFrame | None = None,
        errors: pl.DataFrame | None = None,
    ) -> None:
        import polars as pl

        self.fits = fits
        self.files = files
        self.noisy = noisy
        self.unusable = pl.DataFrame() if unusable is None else unusable
        self.errors = pl.DataFrame() if errors is None else errors

    def write(self, path: str | PathLike[str]) -> list[Path]:
        """Write the file of the one device, or one file a device into a folder; return what was written."""
        place = Path(path)
        if not self.files:
            raise SpecError(
                "a calibration must have a fit to be written: every group was refused", field="output"
            )
        if place.suffix == ".toml":
            if len(self.files) > 1:
                names = ", ".join(self.files)
                message = f"--output must be a folder for measurements of several devices: {names}"
                raise SpecError(message, field="output", value=str(place))
            if not place.parent.is_dir():
                message = f"output must lie in a folder that exists: {place}"
                raise SpecError(message, field="output", value=str(place), hint=f"make {place.parent} first")
            write_text(place, next(iter(self.files.values())))
            return [place]
        if place.suffix and not place.is_dir():
            message = f"output must end in .toml, or be a folder: {place}"
            raise SpecError(
                message, field="output", value=str(place), hint=f"write {place.with_suffix('.toml')}"
            )
        place.mkdir(parents=True, exist_ok=True)
        written = []
        for device, text in self.files.items():
            written.append(place / f"{device}.toml")
            write_text(written[-1], text)
        return written

    def __repr__(self) -> str:
        refused = self.fits["refused"].is_not_null().sum()
        return (
            f"Calibration({self.fits.height - refused} fits, {refused} refused, for {', '.join(self.files)})"
        )


@checks.named
def calibrate(
    measurements: str | PathLike[str] | pl.DataFrame,
    hw: str | Hardware | None = None,
    *,
    engine: str = "",
    source: str | None = None,
    remark: str = "blind",
    prior: bool = True,
    extrapolate: bool = False,
    update: str | PathLike[str] | None = None,
    efficiency: str | PathLike[str] | None = None,
    run: str | None = None,
    **serving: Any,
) -> Calibration:
    """Fit efficiencies to measured kernels, to whole steps, or to served requests.

    Parameters
    ----------
    measurements : path or DataFrame
        CSV, Parquet or JSON Lines, told apart by their columns. Kernels: a column ``op`` (``gemm``,
        ``context_attention``, ``generation_attention``, ``moe``, …), the operation's dimensions (``m``,
        ``n``, ``k``; ``batch``, ``q_len``, ``kv_len``, ``heads``, ``kv_heads``, ``head_dim``; …), and a time
        whose name says its unit (``latency_us``, ``latency_ms``, ``latency_s``). Steps: ``step_ms``,
        ``decode_seqs``, ``decode_kv_tokens``, ``prefill_seqs``, ``prefill_tokens``. Served requests:
        ``arrival_s``, ``prompt_tokens``, ``output_tokens``, ``observed_ttft_s``, ``observed_tpot_s``; a
        request trace that holds them; or the JSON of ``vllm bench serve --save-detailed``.
    hw : str or Hardware, optional
        The device, where no column (``system``, ``gpu``, …) names one.
    engine : str, optional
        Whose kernels they are, where no column (``backend``, ``engine``) says; ``vllm`` unless said.
    source, remark : str, optional
        Noted in the file: where the measurements come from, and what was chosen after seeing them.
    prior : bool
        Draws numbers of kernels to the nearest that are known, which is what makes few rows do.
    extrapolate : bool
        Fits kernels without the largest quarter and judges there, to see how numbers carry on.
    update : path, optional
        A folder of efficiency files, or one file: its other fits are kept.
    efficiency : path, optional
        What steps and requests are predicted with before anything is fitted, as for `simulate`.
    run : str, optional
        Which of the runs of a file of served requests.
    **serving
        How requests were served, keywords of `simulate` (``model``, ``tp``, ``max_num_seqs``, …): what is
        recorded beside the file holds where nothing is said. Of steps: ``model``.

    Returns
    -------
    Calibration
        Fits, errors on what was not fitted, refusals and files.

    Raises
    ------
    SpecError
        Columns that are missing, a device that nothing names, no usable row.

    Examples
    --------
    >>> import polars as pl, roofline_fast as rf
    >>> sizes = [(m, n, 4096) for m in (1, 16, 256, 4096) for n in (1024, 4096, 16384)]
    >>> rows = pl.DataFrame(sizes, schema=["m", "n", "k"], orient="row").with_columns(
    ...     op=pl.lit("gemm"),
    ...     latency_us=5 + pl.col("m") * pl.col("n") * 1.2e-5 + pl.col("n") * 2.9e-3,
    ... )
    >>> rf.calibrate(rows, "h100-sxm").fits["family"].to_list()
    ['gemm']
    """
    notes = {"source": source, "remark": remark, "date": datetime.now(tz=UTC).date().isoformat()}
    whole = _whole(measurements)
    if whole is not None:
        notes["source"] = source or whole.name
        return _served(whole, hw, engine, notes, _present(update), efficiency, serving)
    rows, name, path = _rows(measurements)
    notes["source"] = source or name
    kind = reader.kind(rows.columns)
    if kind == "steps":
        return _steps(rows, hw, engine, notes, _present(update), efficiency, serving)
    if kind == "requests":
        found = _run(path, rows, run)
        return _served(found, hw, engine, notes, _present(update), efficiency, serving)
    if kind in ("points", "batches"):
        message = f"measurements must be kernels, steps or served requests to be fitted: {name} holds {kind}"
        raise SpecError(message, field="measurements", value=name, hint="validate takes them")
    if serving:
        named = ", ".join(serving)
        message = f"{named} must be given with steps or served requests: {name} holds kernels"
        raise SpecError(message, field=next(iter(serving)), value=named)
    if kind is None and not reader.is_timed(rows.columns):
        raise reader.unknown(name, rows.columns)
    rows, noisy = reader.without_noise(rows)
    read = reader.kernels(rows, find_hardware(hw) if hw is not None else None, engine)
    table, files = read.calibrate(
        prior=prior, extrapolate=extrapolate, present=_present(update), **_texts(notes)
    )
    return Calibration(frame(table), dict(files), noisy, reader.unusable(frame(read.refused)))


def _texts(notes: dict[str, str | None]) -> dict[str, str]:
    return {key: value or "" for key, value in notes.items()}


def _whole(measurements: Any) -> Observed | None:
    """Return the requests of a file that is no table: a benchmark's JSON, a compressed trace."""
    from roofline_fast.measurements.requests import by_suffix

    return by_suffix(Path(measurements)) if isinstance(measurements, str | PathLike) else None


def _steps(
    rows: pl.DataFrame,
    hw: Any,
    engine: str,
    notes: dict[str, str | None],
    present: list[tuple[str, str]],
    efficiency: Any,
    serving: dict[str, Any],
) -> Calibration:
    """Fit whole steps; of vLLM's step traces those without prompts, whose time is their own."""
    import polars as pl

    steps = reader.steps(rows)
    if "kv.blocks_total_gpu" in steps.columns:
        steps = steps.filter(pl.col("cycle_ms").is_not_null() & (pl.col("prefill_tokens") == 0))
    device = find_hardware(hw).compiled if hw is not None else None
    numbers, errors, files, refused = _core.Measurements.steps(
        steps.height,
        reader.columns(steps),
        hw=device,
        engine=engine,
        model=str(serving.get("model") or ""),
        efficiency=efficiency,
        present=present,
        **_texts(notes),
    )
    return Calibration(frame(numbers), dict(files), 0, reader.together(frame(refused)), frame(errors))


def _run(path: Path | None, rows: pl.DataFrame, run: str | None) -> Observed:
    """Return the one run of a file that is meant."""
    from roofline_fast.measurements.requests import of_file

    found = of_file(path, rows)
    chosen = [one for one in found if run is None or one.name == run]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(one.name for one in found)
    message = f"run must name one of the runs of the file, {names}: {run}"
    raise SpecError(message, field="run", value=str(run), hint=f"--run {found[0].name}")


def _served(
    found: Observed,
    hw: Any,
    engine: str,
    notes: dict[str, str | None],
    present: list[tuple[str, str]],
    efficiency: Any,
    serving: dict[str, Any],
) -> Calibration:
    """Fit served requests by simulating them."""
    from roofline_fast.prediction import api_latency_s
    from roofline_fast.simulation.run import simulate

    said = {"hw": hw, "engine": engine or None, **serving}
    settings = {**found.settings, **{key: value for key, value in said.items() if value is not None}}
    if settings.get("model") is None or settings.get("hw") is None:
        missing = "model" if settings.get("model") is None else "hw"
        message = f"{missing} must be given for served requests: nothing beside {found.name} says it"
        raise SpecError(message, field=missing, hint=f"add --{missing}")
    simulation = simulate(found.trace, efficiency=efficiency, **settings)
    device = simulation.hardware.name
    numbers, errors, files, refused = simulation.server.calibrate(
        simulation.deployment,
        found.trace.compiled,
        _floats(found.rows, "tpot_s"),
        _floats(found.rows, "ttft_s"),
        present=next((text for name, text in present if name == device), None),
        api_latency_s=api_latency_s(settings.get("api_latency"), "predicted", None, efficiency),
        load=(max(1, simulation.summary["max_running"] // 2), 1024),
        concurrency=settings.get("concurrency"),
        max_concurrency=settings.get("max_concurrency"),
        **_texts(notes),
    )
    return Calibration(frame(numbers), dict(files), 0, frame(refused), frame(errors))


def _floats(rows: pl.DataFrame, column: str) -> Any:
    return rows[column].fill_null(float("nan")).to_numpy()


def _rows(measurements: Any) -> tuple[pl.DataFrame, str, Path | None]:
    """Return the rows, what to call them in a file, and where they are from."""
    if not isinstance(measurements, str | PathLike):
        import polars as pl

        return reader.tidy(pl.DataFrame(measurements)), "a data frame", None
    files = reader.files(Path(measurements))
    if len(files) > 1:
        message = f"measurements must be one file: {measurements} holds {len(files)}"
        raise SpecError(message, field="measurements", value=str(measurements))
    return reader.read(files[0]), files[0].name, files[0]


def _present(update: str | PathLike[str] | None) -> list[tuple[str, str]]:
    """Return device and text of the efficiency files at a path."""
    if update is None:
        return []
    place = Path(update)
    files = sorted(place.glob("*.toml")) if place.is_dir() else [place]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return [(_device(text), text) for text in texts]


def _device(text: str) -> str:
    import tomllib

    return str(tomllib.loads(text).get("device", ""))
