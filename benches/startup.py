#!/usr/bin/env python3
"""How long a start takes with stored registrations: benches/startup.py PROGRAM [BINDINGS]

One UC server registers that many users over TCP; the proxy is killed (SIGKILL) and started again, three times. Prints the
time from the start of the process to `ready:`, and what the log says of reading the registrations. Loopback only.
"""
import os, pathlib, re, signal, socket, subprocess, sys, tempfile, time

PROGRAM = os.path.abspath(sys.argv[1])
BINDINGS = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
HOST, PORT, WINDOW = "127.83.0.1", 5060, 200

CONFIGURATION = f"""
[service]
presence_domains = ["example.org"]
[lan]
bind_to_ip_address = "{HOST}"
port = {PORT}
[wan]
network_interface = []
[diagnostics]
log_file_directory = ""
log_level = {{ default = "info", router = "warning" }}
"""


def start(directory):
    """Starts the proxy: the process, and the seconds until it is ready."""
    begun = time.monotonic()
    log = open(directory / "log", "w")
    process = subprocess.Popen([PROGRAM, "--config", directory / "sip-proxy.toml"], stdout=subprocess.PIPE, stderr=log)
    line = process.stdout.readline()
    if not line.startswith(b"ready: 1 interface"):
        process.kill()
        sys.exit(f"not ready: {line!r} {(directory / 'log').read_text()}")
    return process, time.monotonic() - begun


def register(count):
    """Registers `count` users, with a window of requests under way."""
    stream = socket.create_connection((HOST, PORT), source_address=("127.83.0.2", 0))
    answered, sent, rest = 0, 0, b""
    while answered < count:
        batch = []
        while sent < count and sent - answered < WINDOW:
            batch.append(
                f"REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/TCP 127.83.0.2;branch=z9hG4bK{sent}\r\nMax-Forwards: 70\r\n"
                f"From: <sip:user{sent}@example.org>;tag=t\r\nTo: <sip:user{sent}@example.org>\r\nCall-ID: c{sent}\r\n"
                f"CSeq: 1 REGISTER\r\nContact: <sip:user{sent}@127.83.0.2:5070;transport=tcp>\r\nExpires: 3600\r\n"
                "Content-Length: 0\r\n\r\n"
            )
            sent += 1
        if batch:
            stream.sendall("".join(batch).encode())
        octets = stream.recv(1 << 18)
        if not octets:
            sys.exit("the proxy has closed the connection")
        rest += octets
        *whole, rest = rest.split(b"\r\n\r\n")
        for answer in whole:
            if not answer.startswith(b"SIP/2.0 200"):
                sys.exit(answer.decode())
            answered += 1


with tempfile.TemporaryDirectory() as scratch:
    directory = pathlib.Path(scratch)
    (directory / "sip-proxy.toml").write_text(CONFIGURATION)
    process, empty = start(directory)
    print(f"without registrations: ready after {empty * 1000:.0f} ms")
    begun = time.monotonic()
    register(BINDINGS)
    print(f"{BINDINGS} registered in {time.monotonic() - begun:.1f} s")
    for _ in range(3):
        process.send_signal(signal.SIGKILL)
        process.wait()
        process, ready = start(directory)
        said = re.search(r"registrations_restored .*", (directory / "log").read_text())
        print(f"after kill -9: ready after {ready * 1000:.0f} ms; {said.group(0) if said else 'nothing restored'}")
    process.terminate()
    process.wait()
