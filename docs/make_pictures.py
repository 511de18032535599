"""Draws the pictures of the README from the real output of their commands: `python docs/make_pictures.py`."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent

# A picture must not fetch anything: the reader's own monospace font does.
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)

PICTURES = {
    "analyze.svg": "roofline-fast analyze llama-3.1-70b --hw h100 --tp 8 -q fp8 -b 32 --input-len 2048",
    "simulate.svg": "roofline-fast simulate examples/chat.jsonl --hw h100 --slo 'ttft:500 tpot:50'",
}


def output(command: str) -> str:
    """Return what the command prints on stdout."""
    _, *arguments = shlex.split(command)
    run = [sys.executable, "-m", "roofline_fast", *arguments]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=HERE.parent)
    return done.stdout


def main() -> None:
    """Write one SVG a command."""
    for name, command in PICTURES.items():
        text = output(command)
        width = max(len(line) for line in [command, *text.splitlines()]) + 2
        console = Console(record=True, width=width, file=StringIO(), force_terminal=True)
        console.print(Text(f"$ {command}", style="bold"))
        console.print(Text(text.rstrip("\n")))
        picture = console.export_svg(title="roofline-fast", unique_id=name.partition(".")[0])
        (HERE / name).write_text(FONTS.sub("", picture), encoding="utf-8")


if __name__ == "__main__":
    main()
