#!/bin/sh
# The proxy against Kamailio, by the bench kit: each workload of both within minutes, round by round. Prints the medians,
# their ratio and the target; the same goes to docs/performance/compare.md, what was measured to compare.jsonl beside it.
#
# usage: benches/compare.sh KIT [ROUNDS]     KIT: the kit's folder, ROUNDS: 5 by default
# Needs the kit's generator and certificates, Kamailio with its TLS modules, python3, and root for a network namespace.
set -eu
usage() {
    sed -n '2,/^set/s/^# //p' "$0" >&2
    exit 2
}
[ $# -ge 1 ] && [ -x "$1/bench" ] || usage
checkout=$(cd "$(dirname "$0")/.." && pwd)
kit=$(cd "$1" && pwd)
results=$checkout/docs/performance
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$checkout" && cargo build --release --locked)

# `measure NAME WORKLOAD COMMAND`. A run that fails is left out of the medians, and seen here.
measure() {
    "$kit/bench" --name "$1" --workloads "$2" --cmd "$3" --out "$scratch/rows" --tmp "$scratch/$1" ||
        echo "benches/compare.sh: $1 $2 has failed" >&2
}

for round in $(seq "${2:-5}"); do
    echo "round $round"
    for workload in B C D E F G1 G2 H1 H2 H3 H4; do
        measure sip-proxy "$workload" "$checkout/benches/start.sh"
        measure kamailio "$workload" "$kit/peers/kamailio/start.sh kamailio"
    done
done
mkdir -p "$results"
cp "$scratch/rows" "$results/compare.jsonl"
"$checkout/benches/ratios.py" "$results/compare.jsonl" | tee "$results/compare.md"
