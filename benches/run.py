"""Times whole commands in fresh processes: wall and processor seconds, and the most memory they held.

``python benches/run.py`` prints a line a command, ``--json`` a JSON line; words choose commands by their names.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

SERVED = ["--model", "llama-3.1-8b", "--hw", "h100-sxm"]
CALL = [sys.executable, "-m", "roofline_fast"]


@dataclass(frozen=True)
class Case:
    """A command, how often it runs, and what it may take."""

    name: str
    words: list[str]
    repeats: int
    most_wall_s: float = float("inf")
    most_processor_s: float = float("inf")
    most_gib: float = float("inf")


@dataclass(frozen=True)
class Spent:
    """What a process took."""

    wall_s: float
    processor_s: float
    gib: float


def cases(folder: Path) -> list[Case]:
    """Return the commands; those that read a trace find it in the folder."""
    million, thousand = folder / "million.jsonl", folder / "thousand.jsonl"
    simulate = [*CALL, "simulate", "--quiet"]
    generated = [
        *simulate,
        "--input-len",
        "100:1500",
        "--output-len",
        "20:400",
        "--request-rate",
        "20",
        *SERVED,
    ]
    return [
        Case("an empty Python", [sys.executable, "-c", ""], 11),
        Case("import roofline_fast", [sys.executable, "-c", "import roofline_fast"], 11),
        Case("roofline-fast --help", [*CALL, "--help"], 11),
        Case("analyze", [*CALL, "analyze", "llama-3.1-8b", "--hw", "h100"], 11),
        Case("simulate 1,000 requests", [*simulate, str(thousand), *SERVED], 11, most_processor_s=0.35),
        Case("simulate 1 M requests", [*simulate, str(million), *SERVED], 5),
        Case(
            "simulate 1 M requests to requests.parquet",
            [*simulate, str(million), *SERVED, "--requests", str(folder / "requests.parquet")],
            5,
            most_wall_s=2.0,
            most_gib=1e9 / 2**30,
        ),
        Case(
            "simulate 1 M requests to a folder",
            [*simulate, str(million), *SERVED, "--output", str(folder / "results")],
            3,
        ),
        Case(
            "simulate 10 M generated requests",
            [*generated, "--num-prompts", "10000000"],
            1,
            most_wall_s=10.0,
            most_gib=1e9 / 2**30,
        ),
        Case(
            "simulate 44 M generated requests",
            [*generated, "--num-prompts", "44000000"],
            1,
            most_wall_s=60.0,
            most_gib=4e9 / 2**30,
        ),
    ]


def write_traces(folder: Path) -> None:
    """Write chat-like requests, 20 a second, as slim JSON Lines: a million, and the first thousand of them."""
    draw, arrival_s = random.Random(1), 0.0
    with (folder / "million.jsonl").open("w") as million, (folder / "thousand.jsonl").open("w") as thousand:
        for place in range(1_000_000):
            arrival_s += draw.expovariate(20)
            prompt, answer = draw.randint(50, 1500), draw.randint(20, 400)
            line = f'{{"arrival_s":{arrival_s:.3f},"input_tokens":{prompt},"output_tokens":{answer}}}\n'
            million.write(line)
            if place < 1000:
                thousand.write(line)


def run(words: list[str]) -> Spent:
    """Run a command to its end."""
    start = perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return Spent(perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


def measure(case: Case) -> dict[str, object]:
    """Return medians of the repeats, and whether the case holds what it may take."""
    spent = [run(case.words) for _ in range(case.repeats)]
    wall_s = statistics.median(one.wall_s for one in spent)
    processor_s = statistics.median(one.processor_s for one in spent)
    gib = max(one.gib for one in spent)
    limits = [
        (wall_s, case.most_wall_s, "s"),
        (processor_s, case.most_processor_s, "s of processor"),
        (gib, case.most_gib, "GiB"),
    ]
    bars = [f"<= {most:.3g} {unit}" for _, most, unit in limits if most < float("inf")]
    holds = all(took <= most for took, most, _ in limits)
    return {
        "case": case.name,
        "wall_s": round(wall_s, 3),
        "processor_s": round(processor_s, 3),
        "gib": round(gib, 3),
        "repeats": case.repeats,
        "bar": ", ".join(bars),
        "verdict": ("holds" if holds else "MISSED") if bars else "",
    }


def main() -> None:
    """Print the machine, then a line a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="a JSON line a command")
    parser.add_argument("words", nargs="*", help="of the commands' names")
    asked = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    machine = {
        "commit": commit,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
    }
    print(
        json.dumps(machine) if asked.json else ", ".join(f"{key} {value}" for key, value in machine.items())
    )
    with tempfile.TemporaryDirectory() as folder:
        write_traces(Path(folder))
        for case in cases(Path(folder)):
            if asked.words and not any(word in case.name for word in asked.words):
                continue
            row = measure(case)
            if asked.json:
                print(json.dumps(row), flush=True)
            else:
                figures = (
                    f"{row['wall_s']:8.3f} s {row['processor_s']:8.3f} s of processor {row['gib']:7.3f} GiB"
                )
                print(f"{case.name:<44} {figures}   {row['bar']} {row['verdict']}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
