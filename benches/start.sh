#!/bin/sh
# Starts the proxy as the bench kit's contract has it, in the foreground: 127.0.0.1, UDP and TCP on port 5060, TLS on
# 5061, presence domain home.test. Of the kit's environment it reads BENCH_WORKLOAD, BENCH_AUTH, BENCH_CORES and
# BENCH_TMP; BENCH_TLS names the folder with home.pem, home.key and ca.pem (the kit runs this in its own folder).
# Registrations go to BENCH_TMP and are as durable as the second argument says (registrar.durability).
#
# usage: benches/start.sh [binary [process|disk]]
#        defaults: target/release/sip-proxy of this checkout, process
set -eu
checkout=$(cd "$(dirname "$0")/.." && pwd)
binary=${1:-$checkout/target/release/sip-proxy}
certificates=$(cd "${BENCH_TLS:-tls}" && pwd)
directory=$(mktemp -d "${BENCH_TMP:-${TMPDIR:-/tmp}}/sip-proxy.XXXXXX")
password=
[ -n "${BENCH_AUTH:-}" ] && password=secret

cat >"$directory/sip-proxy.toml" <<TOML
[service]
presence_domains = ["home.test"]
state_directory = "state"
control_socket = "control.sock"
worker_threads = ${BENCH_CORES:-0}

[certificate]
chain = "$certificates/home.pem"
private_key = "$certificates/home.key"
trusted_cas = "$certificates/ca.pem"

[lan]
user_name = "ucserver"
password = "$password"
bind_to_ip_address = "127.0.0.1"
port = 5060
transport_protocol = ["udp", "tcp"]

[[lan.network_interface]]
ip_address = "127.0.0.1"
port = 5061
protocol = "tls"

[[wan.network_interface]]
ip_address = "127.0.0.1"
port = 5062
protocol = "mtls"

[[static_routes.route]]
domain_name = "peer.test"
access_server = "127.0.0.1"
port = 5071
transport_protocol = "mtls"

[registrar]
durability = "${2:-process}"
digest_algorithms = ["MD5"]

[limits]
maximum_connections_per_address = 50000
maximum_transactions = 4000000

[diagnostics]
log_level = "warning"
log_file_directory = ""
TOML
exec "$binary" run --config "$directory/sip-proxy.toml"
