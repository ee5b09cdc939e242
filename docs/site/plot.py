#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Draws the figure of docs/benchmarks.md from the table there: plot.py, which writes
docs/images/latency.svg. Run it after the table has changed; tests/checks/docs_test.py compares."""

import math
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
IMAGE = os.path.join(ROOT, "docs", "images", "latency.svg")
WIDTH, ROW, LEFT, RIGHT = 720, 34, 215, 85
FIRST, LAST = 0, 6   # powers of ten on the axis, microseconds
UNITS = {0: "1 µs", 1: "10 µs", 2: "100 µs", 3: "1 ms", 4: "10 ms", 5: "100 ms", 6: "1 s"}


def rows(document):
    """Returns (path, microseconds) of the table of round trips."""
    table = document.split("| path | round trip | |\n", maxsplit=1)[1].split("\n\n", maxsplit=1)[0]
    found = re.findall(r"^\| ([^|]+?) \| ([\d.,]+) µs \|", table, re.MULTILINE)
    return [(path, float(number.replace(",", ""))) for path, number in found]


def text_of(us):
    if us < 1000:
        return f"{us:g} µs"
    return f"{us / 1000:.3g} ms"


def svg(data):
    height = ROW * len(data) + 60
    bottom = ROW * len(data) + 14
    scale = (WIDTH - LEFT - RIGHT) / (LAST - FIRST)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
           f'font-family="sans-serif" font-size="13">',
           '<title>Round trip of an addition from inside a VM, by path, logarithmic scale</title>',
           f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
    for power in range(FIRST, LAST + 1):
        x = LEFT + (power - FIRST) * scale
        out += [f'<line x1="{x:.1f}" y1="8" x2="{x:.1f}" y2="{bottom}" stroke="#d5d5d5"/>',
                f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#444">'
                f'{UNITS[power]}</text>']
    for index, (path, us) in enumerate(data):
        y = 12 + index * ROW
        length = (math.log10(us) - FIRST) * scale
        color = "#2a6fb0" if index < 2 else "#9aa3ab"
        out += [f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end" fill="#222">{path}</text>',
                f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{ROW - 10}" fill="{color}"/>',
                f'<text x="{LEFT + length + 6:.1f}" y="{y + 17}" fill="#222">{text_of(us)}</text>']
    out += [f'<text x="{LEFT}" y="{height - 8}" fill="#444">round trip, median, logarithmic '
            'scale</text>', "</svg>", ""]
    return "\n".join(out)


def drawn():
    with open(os.path.join(ROOT, "docs", "benchmarks.md"), encoding="utf-8") as file:
        return svg(rows(file.read()))


if __name__ == "__main__":
    os.makedirs(os.path.dirname(IMAGE), exist_ok=True)
    with open(IMAGE, "w", encoding="utf-8") as target:
        target.write(drawn())
