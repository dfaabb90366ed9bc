#!/usr/bin/env python3
"""Draws a part of a trace as SVG, on standard output: FILE FROM_MS TO_MS [PROCESS].

FILE is what --trace of `twinstream simulate` or `bench` wrote, or an engine. PROCESS is a run's name
as it stands in the file, by default the first. A bar is an upload, a batch or a download with its
images; above them stand arrivals and the number of those that wait for their upload.
"""

import json
import sys
from html import escape

WIDTH, LEFT, RIGHT, ROW, GAP = 920, 86, 12, 26, 8
ROWS = ["upload", "compute", "download"]
WAITING_TOP, WAITING_HEIGHT = 44, 56
ARRIVALS_TOP = WAITING_TOP + WAITING_HEIGHT + GAP
BARS_TOP = ARRIVALS_TOP + 14 + GAP
AXIS_TOP = BARS_TOP + len(ROWS) * (ROW + GAP)
HEIGHT = AXIS_TOP + 30
STYLE = """
text { font: 12px sans-serif; fill: #333 } .title { font-size: 15px }
.ground { fill: #fff } .bar { stroke: #fff } .len { fill: #fff; text-anchor: middle }
.upload { fill: #0072b2 } .compute { fill: #d55e00 } .download { fill: #009e73 }
.waiting { fill: #e69f00 } .tick { stroke: #333 } .grid { stroke: #e6e6e6 }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .ground { fill: #16181c } .bar { stroke: #16181c } .tick { stroke: #ddd }
.grid { stroke: #34383f } }
"""


def events_of(path, name):
    """The events of a process, and its name."""
    with open(path, encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    names = {e["args"]["name"]: e["pid"] for e in events if e["name"] == "process_name"}
    name = name or next(iter(names), None)
    if name not in names:
        sys.exit(f"{path} has no process {name}, only {', '.join(names)}")
    return [event for event in events if event["pid"] == names[name]], name


def step(ms):
    """A round distance of about a tenth of a span."""
    power = 10.0 ** len(str(int(ms))) / 100
    return next(n * power for n in (0.1, 0.2, 0.5, 1, 2, 5, 10) if n * power * 10 >= ms)


def draw(events, name, start, end):
    """The lines of the picture."""
    scale = (WIDTH - LEFT - RIGHT) / (end - start)
    x = lambda ms: LEFT + (min(max(ms, start), end) - start) * scale
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" role="img">'
    yield f"<title>{escape(name)}</title><style>{STYLE}</style>"
    yield f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>'
    yield f'<text class="title" x="12" y="24">{escape(name)}</text>'
    tick = step(end - start)
    for place in range(int((end - start) / tick + 1e-9) + 1):
        at = x(start + place * tick)
        yield f'<path class="grid" d="M{at:.1f} {WAITING_TOP}V{AXIS_TOP}"/>'
        yield f'<text x="{at - 4:.1f}" y="{AXIS_TOP + 16}">{place * tick:g}</text>'
    yield f'<text x="12" y="{AXIS_TOP + 16}">ms</text>'
    yield from draw_waiting(events, x, start, end)
    yield f'<text x="12" y="{ARRIVALS_TOP + 12}">arrivals</text>'
    at = [e["ts"] / 1e3 for e in events if e["name"] == "arrival"]
    ticks = "".join(f"M{x(ms):.1f} {ARRIVALS_TOP}v14" for ms in at if start <= ms <= end)
    yield f'<path class="tick" d="{ticks}"/>'
    for number, row in enumerate(ROWS):
        top = BARS_TOP + number * (ROW + GAP)
        yield f'<text x="12" y="{top + 17}">{row}</text>'
        for event in (e for e in events if e["ph"] == "X" and e["cat"] == row):
            left, right = event["ts"] / 1e3, (event["ts"] + event["dur"]) / 1e3
            if right < start or left > end:
                continue
            left, width = x(left), x(right) - x(left)
            yield f'<rect class="bar {row}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW}"/>'
            if width > 9 * len(event["name"]):
                middle = left + width / 2
                yield f'<text class="len" x="{middle:.1f}" y="{top + 17}">{event["name"]}</text>'
    yield "</svg>"


def draw_waiting(events, x, start, end):
    counts = [(e["ts"] / 1e3, e["args"]["requests"]) for e in events if e["ph"] == "C"]
    before = [count for ms, count in counts if ms < start]
    shown = [(start, before[-1] if before else 0)]
    shown += [(ms, count) for ms, count in counts if start <= ms <= end]
    most = max(max(count for _, count in shown), 1)
    bottom = WAITING_TOP + WAITING_HEIGHT
    heights = [(x(ms), bottom - WAITING_HEIGHT * count / most) for ms, count in shown]
    path = "".join(f"H{at:.1f}V{height:.1f}" for at, height in heights)
    yield f'<path class="waiting" d="M{x(start):.1f} {bottom}{path}H{x(end):.1f}V{bottom}Z"/>'
    yield f'<text x="12" y="{WAITING_TOP + 12}">waiting</text>'
    yield f'<text x="12" y="{WAITING_TOP + 28}">up to {most}</text>'


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    path, start, end = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    events, name = events_of(path, sys.argv[4] if len(sys.argv) == 5 else None)
    print("\n".join(draw(events, name, start, end)))


main()
