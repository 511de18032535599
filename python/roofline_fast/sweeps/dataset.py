"""A sweep as a folder of Parquet parts: resumed, shared out and checked by content.

``plan.json`` says what is swept and into how many parts; each part is written aside, renamed, and then
described by a small file of its own; ``manifest.json`` lists them all once none is missing. A part's bytes
depend on the plan alone, so that any mix of shards, restarts and machines ends in the same folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline_fast.errors import RooflineError, SpecError

if TYPE_CHECKING:
    import polars as pl

PLAN = "plan.json"
MANIFEST = "manifest.json"
PARTS = "parts"
BEST = "best.parquet"
LAYOUT = 2

# Reason, points, and what was wrong with the first of them.
Dropped = list[tuple[str, int, str]]
# What computes one part: its rows, and what was dropped.
Compute = Callable[[int], tuple["pl.DataFrame", Dropped]]


@dataclass(frozen=True)
class Plan:
    """What is swept, and how it is cut into parts.

    Attributes
    ----------
    contents : dict
        Everything that results depend on; the plan's id is made of it.
    points, points_a_part : int
        Points in all, and of each part but the last.
    """

    contents: dict[str, Any]
    points: int
    points_a_part: int

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.points // self.points_a_part)

    @property
    def id(self) -> str:
        """Name of the contents: equal where, and only where, results are."""
        from roofline_fast import __version__

        whole = {
            "layout": LAYOUT,
            "version": __version__,
            "points_a_part": self.points_a_part,
            "contents": self.contents,
        }
        text = json.dumps(whole, sort_keys=True, ensure_ascii=False, allow_nan=False, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def range(self, part: int) -> tuple[int, int]:
        """Return the points of a part, from and to."""
        start = part * self.points_a_part
        return start, min(start + self.points_a_part, self.points)

    def describe(self) -> dict[str, Any]:
        """Return what `plan.json` holds."""
        import polars as pl

        from roofline_fast import __version__

        return {
            "id": self.id,
            "points": self.points,
            "parts": self.parts,
            "points_a_part": self.points_a_part,
            "roofline_fast": __version__,
            "polars": pl.__version__,
            **{name: value for name, value in self.contents.items() if name not in ("models", "devices")},
        }


class DataSet:
    """The folder of one plan.

    Parameters
    ----------
    folder : Path
        Where it lies; made if absent.
    plan : Plan
        What it holds.
    fresh : bool
        Whether what lies there of any plan is removed first.

    Raises
    ------
    SpecError
        Another plan lies there, or files that are none of a sweep's.
    """

    def __init__(self, folder: Path, plan: Plan, *, fresh: bool = False) -> None:
        self.folder = folder
        self.plan = plan
        # Parts whose bytes are known to be those that their description tells of.
        self._whole: set[int] = set()
        try:
            self._open(fresh=fresh)
        except OSError as why:
            hint = "choose a folder that can be written, or made"
            message = f"--output must be a folder that can be written: {folder} ({why.strerror})"
            raise SpecError(message, field="--output", value=str(folder), hint=hint) from None

    def _open(self, *, fresh: bool) -> None:
        file = self.folder / PLAN
        if fresh:
            self._remove()
        if file.exists():
            self._check(file)
        elif self.folder.exists() and any(self.folder.iterdir()):
            hint = "choose another folder, or an empty one"
            message = f"--output must be a folder of this sweep: {self.folder} holds other files"
            raise SpecError(message, field="--output", value=str(self.folder), hint=hint)
        (self.folder / PARTS).mkdir(parents=True, exist_ok=True)
        if not file.exists():
            about = self.plan.describe()
            _write_text(file, json.dumps(about, indent=2, ensure_ascii=False, default=str) + "\n")

    def _check(self, file: Path) -> None:
        try:
            known = json.loads(file.read_text(encoding="utf-8"))["id"]
        except (ValueError, KeyError, TypeError):
            known = "no plan"
        if known != self.plan.id:
            hint = "--fresh to start anew there, or another folder"
            message = (
                f"--output must be a folder of this sweep: {self.folder} holds {known}, not {self.plan.id}"
            )
            raise SpecError(message, field="--output", value=str(self.folder), hint=hint)

    def _remove(self) -> None:
        if (self.folder / PLAN).exists():
            shutil.rmtree(self.folder / PARTS, ignore_errors=True)
            for name in (MANIFEST, BEST, PLAN):
                (self.folder / name).unlink(missing_ok=True)

    def part(self, part: int) -> Path:
        """Return the file of a part."""
        return self.folder / PARTS / f"part-{part:08d}.parquet"

    def _about(self, part: int) -> Path:
        return self.part(part).with_suffix(".json")

    def done(self, part: int) -> bool:
        """Return whether a part is there, whole: its file has the bytes that its description tells of."""
        if part not in self._whole and self._is_whole(part):
            self._whole.add(part)
        return part in self._whole

    def _is_whole(self, part: int) -> bool:
        try:
            return bool(_digest(self.part(part)) == _about_of(self._about(part))["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            # What is not there, or does not describe a part, is computed anew.
            return False

    def missing(self, shard: tuple[int, int] = (0, 1)) -> list[int]:
        """Return the parts of a shard that are not there yet."""
        index, count = shard
        return [part for part in range(index, self.plan.parts, count) if not self.done(part)]

    def write(self, part: int, compute: Compute) -> dict[str, Any]:
        """Compute a part and write it: whole or not at all."""
        rows, dropped = compute(part)
        file = self.part(part)
        with _Aside(file) as aside:
            _save(rows, aside)
            digest = _digest(aside)
            aside.replace(file)
        about = {"part": file.name, "rows": rows.height, "sha256": digest, "dropped": dropped}
        _write_text(self._about(part), json.dumps(about, ensure_ascii=False) + "\n")
        self._whole.add(part)
        return about

    def about(self) -> Iterator[dict[str, Any]]:
        """Yield what is known of each part, in order."""
        for part in range(self.plan.parts):
            yield _about_of(self._about(part))

    def finish(self, pick: Callable[[pl.DataFrame], pl.DataFrame] | None = None) -> dict[str, Any] | None:
        """Write the manifest if no part is missing, and return it.

        Parameters
        ----------
        pick : callable, optional
            Picks the best rows of those that parts kept; they are written to ``best.parquet``.
        """
        if any(not self.done(part) for part in range(self.plan.parts)):
            return None
        parts = list(self.about())
        manifest = {
            **self.plan.describe(),
            "rows": sum(part["rows"] for part in parts),
            "dropped": added(part["dropped"] for part in parts),
            "files": [{name: part[name] for name in ("part", "rows", "sha256")} for part in parts],
        }
        if pick is not None:
            best = pick(self.read())
            with _Aside(self.folder / BEST) as aside:
                _save(best, aside)
                manifest["best"] = {"rows": best.height, "sha256": _digest(aside)}
                aside.replace(self.folder / BEST)
        _write_text(
            self.folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False, default=str) + "\n"
        )
        return manifest

    def scan(self) -> pl.LazyFrame:
        """Return the rows of all parts, lazily."""
        import polars as pl

        files = [self.part(part) for part in range(self.plan.parts) if self.done(part)]
        return pl.scan_parquet(files) if files else pl.LazyFrame()

    def read(self) -> pl.DataFrame:
        """Return the rows of all parts."""
        return self.scan().collect()


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _about_of(file: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return about


def added(dropped: Iterable[Iterable[Any]]) -> Dropped:
    """Return what was dropped in all, by reason."""
    counts: dict[str, tuple[int, str]] = {}
    for part in dropped:
        for reason, points, example in part:
            before, first = counts.get(reason, (0, example))
            counts[reason] = (before + points, first)
    return [(reason, points, example) for reason, (points, example) in sorted(counts.items())]


def shard_of(text: str | None) -> tuple[int, int]:
    """Return which share of the parts is meant by ``i/n``, counted from 0.

    Raises
    ------
    SpecError
        Another text.
    """
    if text is None:
        return (0, 1)
    index, slash, count = text.partition("/")
    if slash and index.strip().isdigit() and count.strip().isdigit() and 0 <= int(index) < int(count):
        return int(index), int(count)
    hint = (
        "0/4, 1/4, 2/4 and 3/4 share a sweep out over four jobs ($SLURM_ARRAY_TASK_ID, $JOB_COMPLETION_INDEX)"
    )
    raise SpecError(
        f"--shard must read i/n with i from 0 to n − 1: {text}", field="--shard", value=text, hint=hint
    )


def _save(rows: pl.DataFrame, file: Path) -> None:
    import polars as pl

    try:
        rows.write_parquet(file, compression="zstd", compression_level=1, statistics=True)
    except (OSError, pl.exceptions.PolarsError) as why:
        raise write_error(file, why) from None


def write_error(file: Path, why: Exception) -> RooflineError:
    """Return the error of a file that could not be written."""
    text = why.strerror if isinstance(why, OSError) and why.strerror else str(why)
    hint = "parts that were written stay; the same command computes only what is missing"
    return RooflineError(f"{file} must be writable: {text}", field="--output", value=str(file), hint=hint)


class _Aside:
    """A file beside the one that is meant, which is gone in the end whatever happens."""

    def __init__(self, file: Path) -> None:
        self.file = file.with_name(f".{file.name}.{os.uname().nodename}.{os.getpid()}")

    def __enter__(self) -> Path:
        return self.file

    def __exit__(self, *_: object) -> None:
        self.file.unlink(missing_ok=True)


def _write_text(file: Path, text: str) -> None:
    try:
        with _Aside(file) as aside:
            aside.write_text(text, encoding="utf-8")
            aside.replace(file)
    except OSError as why:
        raise write_error(file, why) from None


def columns_of(frame: pl.DataFrame, objectives: Iterable[str]) -> Mapping[str, Any]:
    """Return the columns that objectives speak of."""
    names = [objective.rpartition(":")[2] for objective in objectives]
    import polars as pl

    return {name: frame[name].cast(pl.Float64).fill_null(float("nan")) for name in names}
