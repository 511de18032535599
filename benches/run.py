"""Times whole units of work: what the shell and Python users wait for."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

REPEATS = 11

SCRIPTS = {
    "roofline-fast --help": "from roofline_fast.cli import run; run(['--help'])",
    "import roofline_fast": "import roofline_fast",
    "import the library": "from roofline_fast import _core",
}


def seconds(work: Callable[[], object]) -> list[float]:
    """Return how long each of several runs took."""
    spent = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return spent


def python(script: str) -> Callable[[], object]:
    """Return work that runs the script in a fresh interpreter."""
    return lambda: subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Print the machine, then one line a bench: median and fastest."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    machine = platform.processor() or platform.machine()
    print(f"{machine}, Python {platform.python_version()}, {commit.stdout.strip()}")
    empty = statistics.median(seconds(python("")))
    print(f"{'an empty Python':<28} median {1e3 * empty:8.1f} ms")
    for name, script in SCRIPTS.items():
        spent = seconds(python(script))
        median, fastest = 1e3 * statistics.median(spent), 1e3 * min(spent)
        print(f"{name:<28} median {median:8.1f} ms   fastest {fastest:8.1f} ms")


if __name__ == "__main__":
    main()
