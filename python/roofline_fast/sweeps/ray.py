"""Parts of a sweep on a Ray cluster: only their numbers travel, workers write the files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from roofline_fast.errors import RooflineError, SpecError


def write_parts(recipe: Mapping[str, Any], folder: str, parts: Sequence[int]) -> int:
    """Write parts of a sweep, in a worker; those that are there already are left alone."""
    from roofline_fast.sweeps.run import Run
    from roofline_fast.sweeps.simulations import SimulateRun

    run = (SimulateRun if "trace" in recipe else Run).from_recipe(recipe)
    data = run.data_set(Path(folder))
    for part in parts:
        if not data.done(part):
            data.write(part, run.compute)
    return len(parts)


def run_on_ray(
    recipe: Mapping[str, Any],
    folder: Path,
    parts: Sequence[int],
    *,
    address: str | None = None,
    each: int = 1,
    seen: Callable[[int], None] = lambda _: None,
) -> None:
    """Write parts on a Ray cluster.

    Parameters
    ----------
    recipe : mapping
        What `Run.recipe` returns.
    folder : Path
        Where parts go: a folder that every machine of the cluster sees.
    parts : sequence of int
        Which.
    address : str, optional
        The cluster's; a local one is started unless said.
    each : int
        Parts of one task.
    seen : callable
        Told how many parts each finished task wrote.

    Raises
    ------
    SpecError
        Ray is not installed, or the cluster cannot be reached.
    """
    # Told to nobody unless the user says so: sweeps may name unreleased hardware.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        hint = "pip install 'roofline-fast[ray]'"
        raise SpecError(
            "--executor ray must find Ray: it is not installed", field="--executor", hint=hint
        ) from None
    started = not ray.is_initialized()
    if started:
        _start(ray, address)
    try:
        task = ray.remote(max_retries=-1, num_cpus=1)(write_parts)
        shared: Any = ray.put(dict(recipe))
        batches = [list(parts[at : at + each]) for at in range(0, len(parts), each)]
        waiting = [task.remote(shared, str(folder.resolve()), batch) for batch in batches]
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=1.0)
            for done in ready:
                seen(ray.get(done))
    except ray.exceptions.RayTaskError as why:
        cause = why.cause if isinstance(why.cause, RooflineError) else None
        raise cause or RooflineError(f"a worker must finish its part: {why}") from None
    finally:
        if started:
            ray.shutdown()


def _reach(address: str | None) -> None:
    """Refuse an address that nobody listens at: Ray itself would wait for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as why:
        raise _unreachable(str(address), why) from None


def _unreachable(address: str, why: Exception) -> SpecError:
    hint = "is it running, and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) set where it asks for a token?"
    reason = str(why).splitlines()[0]
    message = f"{address} must be reachable by Ray: {reason}"
    return SpecError(message, field="--address", value=address, hint=hint)


def environment() -> dict[str, Any]:
    """Return what workers are told: where this package is, and to use one core each."""
    package = str(Path(__file__).parent.parent.parent)
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"env_vars": {"PYTHONPATH": paths, "RAYON_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}}


def _start(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one here; tokens are Ray's own (``RAY_AUTH_MODE``, ``RAY_AUTH_TOKEN``)."""
    _reach(address)
    try:
        ray.init(
            address=address,
            runtime_env=environment(),
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (ConnectionError, RuntimeError, ValueError) as why:
        raise _unreachable(address or "a local cluster", why) from None
