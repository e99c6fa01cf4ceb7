#!/usr/bin/env python3
"""What a MESSAGE costs as bindings, connections and cores grow, measured with the bench kit at saturation.

usage: benches/scale.py KIT [--bindings N,N,..] [--connections N,N,..] [--repeat N] [--draw]

Writes docs/performance/scale.jsonl, a row for each measurement, and from it scale.svg and the table scale.md; --draw
does only that. Workload B has the bindings (UDP), D the connections (TCP, half of them callers), B again one and two
cores.

Needs the kit's generator and certificates, python3, root for a network namespace of its own, and a limit of open files
(ulimit -Hn) a thousand above the connections, else those are left out.
"""

import argparse
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = CHECKOUT / "docs" / "performance"
# A transaction over UDP stays for half a minute: a million registrations at once are a million transactions.
TRANSACTIONS = {"SIP_PROXY__LIMITS__MAXIMUM_TRANSACTIONS": "4000000"}
# Open files of a process that are not connections of a measurement.
OTHER_FILES = 1_000
# From one address to one port there are not more connections than ports: in the namespace nearly all are to be had.
PORTS = "10000 65000"


def isolate():
    """Own session at top weight, own network namespace; the kit need not do it again."""
    if os.environ.get("BENCH_ISOLATED"):
        return
    script = (
        "echo -20 >/proc/self/autogroup; ip link set lo up;"
        f'echo "{PORTS}" >/proc/sys/net/ipv4/ip_local_port_range; exec "$@"'
    )
    command = ["setsid", "-w", "unshare", "-n", "bash", "-c", script, "x", sys.executable, *sys.argv]
    os.execvpe("setsid", command, {**os.environ, "BENCH_ISOLATED": "1"})


def measure(kit, workload, layout, generator, repeat):
    """The kit's rows of one setting."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = pathlib.Path(scratch) / "rows"
        command = [kit / "bench", "--name", "sip-proxy", "--cmd", CHECKOUT / "benches/start.sh", "--no-rate"]
        command += ["--workloads", workload, "--layout", layout, "--repeat", str(repeat), "--gen-args", generator]
        command += ["--out", rows, "--tmp", scratch]
        subprocess.run([*map(str, command)], env={**os.environ, **TRANSACTIONS}, check=False)
        measured = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
        # A row without a speed is one of a run that has failed, and says why.
        return [row for row in measured if "units_s" in row]


def settings(arguments):
    """Series, value on its axis, workload, layout, arguments of the generator."""
    for cores, layout in ((1, "1c"), (2, "2c")):
        yield "cores", cores, "B", layout, "--users 10000"
    for bindings in arguments.bindings:
        yield "bindings", bindings, "B", "1c", f"--users {bindings} --reg-window 256"
    for connections in arguments.connections:
        yield "connections", connections, "D", "1c", f"--uac-n {connections // 2} --uas-n {connections // 2}"


def run(arguments):
    _, open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=CHECKOUT, check=True)
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / "scale.jsonl", "w") as out:
        for series, value, workload, layout, generator in settings(arguments):
            if series == "connections" and value > open_files - OTHER_FILES:
                print(f"benches/scale.py: {value} connections are more than {open_files} open files", file=sys.stderr)
                continue
            for row in measure(arguments.kit.resolve(), workload, layout, generator, arguments.repeat):
                kept = ("units_s", "cpu_us_unit", "proxy_cores", "gen_cores", "p99_us", "pss_kb", "failures")
                out.write(json.dumps({"series": series, "x": value, **{key: row[key] for key in kept}}) + "\n")
                out.flush()


def medians(rows, series, key, scale):
    """Points of a curve."""
    values = {}
    for row in rows:
        if row["series"] == series:
            values.setdefault(row["x"], []).append(row[key] * scale)
    return [(x, statistics.median(list_)) for x, list_ in sorted(values.items())]


def panel(left, top, title, unit, points):
    """A curve over a logarithmic axis, as SVG."""
    width, height = 300, 150
    if len(points) < 2:
        return ""
    logs = [math.log10(x) for x, _ in points]
    highest = max(y for _, y in points) * 1.15
    place = [
        (left + (log - logs[0]) / (logs[-1] - logs[0]) * width, top + height * (1 - y / highest), x, y)
        for log, (x, y) in zip(logs, points)
    ]
    curve = " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in place)
    parts = [
        f'<text x="{left}" y="{top - 12}" class="title">{title}, {unit}</text>',
        f'<path d="M{left},{top}v{height}h{width}" class="axis"/>',
        f'<polyline points="{curve}"/>',
    ]
    for x, y, value, cost in place:
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
        parts.append(f'<text x="{x:.1f}" y="{y - 8:.1f}" class="value">{cost:.1f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{top + height + 16}" class="value">{value:,}</text>')
    return "\n".join(parts)


def draw():
    rows = [json.loads(line) for line in (RESULTS / "scale.jsonl").read_text().splitlines()]
    costs = [("CPU at saturation", "µs per MESSAGE", "cpu_us_unit", 1), ("Memory", "MB", "pss_kb", 1 / 1024)]
    panels = [
        panel(50 + 400 * column, 50 + 230 * row, f"{title} by {series}", unit, medians(rows, series, key, scale))
        for row, (title, unit, key, scale) in enumerate(costs)
        for column, series in enumerate(("bindings", "connections"))
    ]
    style = (
        "text{font:12px sans-serif}.title{font-weight:bold}.value{text-anchor:middle;font-size:11px}"
        ".axis{fill:none;stroke:#888}polyline{fill:none;stroke:#1f6feb;stroke-width:2}circle{fill:#1f6feb}"
    )
    body = "\n".join(filter(None, panels))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 470">\n'
        f'<style>{style}</style>\n<rect width="800" height="470" fill="#fff"/>\n{body}\n</svg>\n'
    )
    (RESULTS / "scale.svg").write_text(svg)
    table = ["| | | MESSAGE/s | CPU µs | p99 µs | PSS MB | failures |", "|---|---|---|---|---|---|---|"]
    columns = (("units_s", 1), ("cpu_us_unit", 1), ("p99_us", 1), ("pss_kb", 1 / 1024), ("failures", 1))
    for series in ("cores", "bindings", "connections"):
        for at in zip(*(medians(rows, series, *column) for column in columns)):
            figures = " | ".join(f"{y:.1f}" if y < 1000 else f"{y:.0f}" for _, y in at)
            table.append(f"| {series} | {at[0][0]:,} | {figures} |")
    (RESULTS / "scale.md").write_text("\n".join(table) + "\n")
    print("\n".join(table))


def main():
    numbers = lambda text: [int(number) for number in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kit", type=pathlib.Path)
    parser.add_argument("--bindings", type=numbers, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--connections", type=numbers, default=[1_000, 10_000, 50_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--draw", action="store_true")
    arguments = parser.parse_args()
    if not arguments.draw:
        isolate()
        run(arguments)
    draw()


main()
