"""Numbers as screens show them: three digits and a unit."""

from __future__ import annotations

GIB = 2.0**30

# Where the values of a screen's lines begin: what is broken goes on there.
HANG = 14

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def digits(value: float) -> str:
    """Return a number with three significant digits, thousands with commas: ``1,234``, ``63.1``, ``7.97``."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.0095 else f"{value:.2g}"


def scaled(value: float, unit: str = "") -> str:
    """Return a number with an SI prefix: ``53.7 G``, ``0.85 GB``."""
    for size, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * size:
            return f"{digits(value / size)} {prefix}{unit}".rstrip()
    return f"{digits(value)} {unit}".rstrip()


def seconds(value: float) -> str:
    """Return a duration in the unit that fits: ``254 us``, ``5.13 ms``."""
    if value == 0:
        return "0 s"
    size, unit = _fitting(value)
    return f"{digits(value / size)} {unit}"


def band(low: float, high: float, around: float) -> str:
    """Return a range of durations in the unit of what lies between them: ``4.78–5.51 ms``."""
    size, unit = _fitting(around)
    return f"{digits(low / size)}–{digits(high / size)} {unit}"


def _fitting(value: float) -> tuple[float, str]:
    return next((fits for fits in _TIMES if abs(value) >= 0.9995 * fits[0]), _TIMES[-1])


def milliseconds(value: float) -> str:
    """Return a latency in milliseconds, without the unit."""
    return digits(value * 1e3)


def gib(value: float) -> str:
    """Return bytes in GiB, without the unit."""
    return f"{value / GIB:,.1f}"


def percent(share: float) -> str:
    """Return a share in percent: ``78 %``; near nothing ``<1 %``, near everything ``>99 %``."""
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{share * 100:.0f} %"


def change(share: float) -> str:
    """Return a relative change with its sign: ``−6.9 %``, ``±0 %``."""
    if abs(share) < 0.0005:
        return "±0 %"
    return f"{'−' if share < 0 else '+'}{abs(share) * 100:.1f} %"


def bar(share: float, width: int = 12) -> str:
    """Return a bar as long as the share, in eighths of a character."""
    eighths = round(share * width * 8)
    whole, part = divmod(eighths, 8)
    return "█" * whole + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[part]


def folded(text: str, width: int) -> str:
    """Return the text with lines that are wider broken between words, and continued under their values."""
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width))


def _parts(line: str, width: int) -> list[str]:
    indent = " " * min(HANG if line.startswith("  ") else 4, width // 2)
    parts = []
    if len(line) > width and "▏" in line:
        # A bar says again what its row says.
        line = line[: line.rindex("▏")].rstrip()
    while len(line) > width:
        # Between figures rather than within one, unless that leaves most of the line empty.
        cut = max(line.rfind("  ", 0, width), line.rfind(" · ", 0, width), line.rfind(", ", 0, width - 1) + 1)
        if cut < width // 2:
            cut = line.rfind(" ", 0, width + 1)
        if cut <= 0 or not line[:cut].strip():
            break
        parts.append(line[:cut].rstrip())
        line = indent + line[cut:].lstrip(" ·")
    return [*parts, line]


def table(header: list[str], rows: list[list[str]], left: tuple[int, ...] = (0,)) -> list[str]:
    """Return lines of aligned columns: those in ``left`` to the left, the others to the right."""
    widths = [max(len(row[place]) for row in [header, *rows]) for place in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = zip(row, widths, strict=True)
        aligned = [
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(cells)
        ]
        lines.append("  ".join(aligned).rstrip())
    return lines
