"""Parts of a sweep on a real local Ray cluster, one worker of which is killed while it works."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import roofline_fast as rf
from roofline_fast.sweeps import ray as sweep_ray
from roofline_fast.sweeps.run import Run
from roofline_fast.sweeps.space import Space


def run_of() -> Run:
    axes = {"model": "llama-3.1-8b", "hw": "h100-sxm", "batch_size": "1:400", "input_len": "1:200"}
    return Run(Space({**axes, "mode": "ideal"}), points_a_part=2000)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def workers() -> list[int]:
    """Return the processes that write parts right now: Ray names a worker by what it does."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes()
        except (OSError, NotADirectoryError):
            continue
        if words.startswith(b"ray::write_parts"):
            found.append(int(process.name))
    return found


def test_a_killed_worker_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'roofline-fast[ray]'")
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("workers are found by their processes, which only Linux shows this way")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    run = run_of()
    local = run.data_set(tmp_path / "local")
    for part in local.missing():
        local.write(part, run.compute)
    local.finish()

    cluster = run.data_set(tmp_path / "ray")
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            for pid in workers():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
            time.sleep(0.001)

    seen: list[int] = []
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=sweep_ray.environment())
    try:
        killer = threading.Thread(target=kill)
        killer.start()
        sweep_ray.run_on_ray(run.recipe(), tmp_path / "ray", cluster.missing(), seen=seen.append)
        killer.join()
    finally:
        ray.shutdown()
    assert len(killed) == 1
    assert sum(seen) == run.plan.parts
    assert cluster.finish() is not None
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")


def test_without_ray_the_executor_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def absent(name: str, *rest: Any, **keywords: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *rest, **keywords)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(rf.SpecError, match="--executor ray must find Ray: it is not installed") as caught:
        sweep_ray.run_on_ray({}, tmp_path, [0])
    assert "roofline-fast[ray]" in caught.value.hint


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'roofline-fast[ray]'")
    # Nobody listens at port 1.
    with pytest.raises(rf.SpecError, match="must be reachable by Ray"):
        sweep_ray.run_on_ray(run_of().recipe(), tmp_path, [0], address="127.0.0.1:1")
