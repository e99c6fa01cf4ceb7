#!/bin/sh
# Everything of docs/performance.md that needs the bench kit or takes minutes, one after the other.
#
# usage: benches/measure.sh KIT [ROUNDS]     as benches/compare.sh
set -eu
cd "$(dirname "$0")/.."
benches/compare.sh "$@"
benches/scale.py "$1"
cargo bench --locked --bench steadiness -- 10 | tee docs/performance/steadiness.md
