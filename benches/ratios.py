#!/usr/bin/env python3
"""The table of benches/compare.sh: medians of the proxy and of Kamailio, their ratio, and the target.

usage: benches/ratios.py ROWS     ROWS: what the bench kit has written with --out
"""

import collections
import json
import statistics
import sys

OURS, PEER = "sip-proxy", "kamailio"

# CPU time per unit at saturation, as a share of the peer's.
AT_SATURATION = {"B": 0.6, "C": 0.6, "D": 0.6, "E": 0.6, "F": 0.7, "G1": 1.3, "G2": 1.1}
AT_FIXED_RATE = 0.85
LATENCY = 1.0
MEMORY = 0.2

# Workload, value, what it is, the most that it may be.
ABSOLUTE = [
    ("H1", "bytes_per_registration", "octets per registration", 600),
    ("H2", "bytes_per_conn", "octets per idle TCP connection", 5000),
    ("H3", "bytes_per_conn", "octets per idle TLS connection", 20000),
    ("H4", "ready_ms", "ms from start to ready", 50),
]


def read(path):
    """The rows by workload, phase (`r`: fixed rate, `c`: saturation, none for memory) and name."""
    rows = collections.defaultdict(list)
    with open(path) as lines:
        for row in map(json.loads, lines):
            rows[row["workload"], row.get("plan", "")[:1], row["name"]].append(row)
    return rows


def wanted():
    """Workload, phase, value, what it is, target, and whether that is a ratio."""
    for workload, target in AT_SATURATION.items():
        yield workload, "c", "cpu_us_unit", "CPU µs at saturation", target, True
        yield workload, "r", "cpu_us_unit", "CPU µs at the fixed rate", AT_FIXED_RATE, True
        yield workload, "r", "p99_us", "p99 µs at the fixed rate", LATENCY, True
    yield "B", "c", "pss_kb", "PSS kB after saturation", MEMORY, True
    for workload, value, what, target in ABSOLUTE:
        yield workload, "", value, what, target, False


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = read(sys.argv[1])
    failures = sum(row.get("failures", 0) for (*_, name), list_ in rows.items() if name == OURS for row in list_)
    print("| | | n | sip-proxy | Kamailio | ratio | target | |\n|---|---|---|---|---|---|---|---|")
    for workload, phase, value, what, target, is_ratio in wanted():
        ours, theirs = ([row[value] for row in rows[workload, phase, name]] for name in (OURS, PEER))
        if not ours or not theirs:
            print(f"| {workload} | {what} | 0 | | | | {target:g} | not measured |")
            continue
        own, other = statistics.median(ours), statistics.median(theirs)
        ratio = own / other if other else float("inf")
        verdict = "reached" if (ratio if is_ratio else own) <= target else "**missed**"
        goal = f"{target:g} ×" if is_ratio else f"{target:g}"
        counts = f"{len(ours)}" if len(ours) == len(theirs) else f"{len(ours)}, {len(theirs)}"
        print(f"| {workload} | {what} | {counts} | {own:.1f} | {other:.1f} | {ratio:.2f} | {goal} | {verdict} |")
    print(f"\nTransactions of sip-proxy's that failed: {failures}.")


main()
