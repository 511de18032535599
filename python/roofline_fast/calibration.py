"""Efficiencies from a user's own measurements."""

from __future__ import annotations

from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast import checks, measured
from roofline_fast.aside import write_text
from roofline_fast.errors import SpecError
from roofline_fast.frames import frame
from roofline_fast.hardware import find_hardware

if TYPE_CHECKING:
    import polars as pl

    from roofline_fast.hardware import Hardware


class Calibration:
    """Fits of kernel families, and the efficiency files that hold them.

    Attributes
    ----------
    fits : polars.DataFrame
        One row a group of kernels (`hw`, `engine`, `family`, `dtype`): `rows` that were sound, how many
        were dropped (`beats_roofline`, `unit_slip`, `launch_floor`), errors in percent on rows that were
        not fitted (`median_ape`, `mape`, `p90_ape`, `bias`), the pure roofline's (`ideal_median_ape`), what
        the numbers were `drawn_to`, and why a group was `refused`.
    files : dict of str to str
        The text of an efficiency file for each device.
    noisy : int
        Rows left out because they are marked noisy.
    """

    def __init__(self, fits: pl.DataFrame, files: dict[str, str], noisy: int) -> None:
        self.fits = fits
        self.files = files
        self.noisy = noisy

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
            write_text(place, next(iter(self.files.values())))
            return [place]
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
) -> Calibration:
    """Fit the efficiency of kernel families to measured kernels.

    Parameters
    ----------
    measurements : path or DataFrame
        CSV, Parquet or JSON Lines: a column ``op`` (``gemm``, ``context_attention``,
        ``generation_attention``, ``moe``, …), the operation's dimensions (``m``, ``n``, ``k``; ``batch``,
        ``q_len``, ``kv_len``, ``heads``, ``kv_heads``,
        ``head_dim``; …), and a time whose name says its unit (``latency_us``, ``latency_ms``, ``latency_s``).
    hw : str or Hardware, optional
        The device, where no column (``system``, ``gpu``, …) names one.
    engine : str, optional
        Whose kernels they are, where no column (``backend``, ``engine``) says; ``vllm`` unless said.
    source, remark : str, optional
        Noted in the file: where the measurements come from, and what was chosen after seeing them.
    prior : bool
        Draws numbers to the nearest that are known, which is what makes few rows do.
    extrapolate : bool
        Fits without the largest quarter of the problems and judges there, to see how numbers carry on.
    update : path, optional
        A folder of efficiency files, or one file: its other fits are kept.

    Returns
    -------
    Calibration
        Fits, refusals and files.

    Raises
    ------
    SpecError
        Columns that are missing, or a device that nothing names.

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
    rows, name = _rows(measurements)
    rows, noisy = measured.without_noise(rows)
    found = measured.kernels(rows, find_hardware(hw) if hw is not None else None, engine)
    table, files = found.calibrate(
        source=source or name,
        date=datetime.now(tz=UTC).date().isoformat(),
        remark=remark,
        prior=prior,
        extrapolate=extrapolate,
        present=_present(update),
    )
    return Calibration(frame(table), dict(files), noisy)


def _rows(measurements: Any) -> tuple[pl.DataFrame, str]:
    """Return the rows, and what to call them in a file."""
    if not isinstance(measurements, str | PathLike):
        import polars as pl

        return pl.DataFrame(measurements), "a data frame"
    files = measured.files(Path(measurements))
    if len(files) > 1:
        message = f"measurements must be one file: {measurements} holds {len(files)}"
        raise SpecError(message, field="measurements", value=str(measurements))
    return measured.read(files[0]), files[0].name


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
