#!/usr/bin/env python3
"""Server CPU time per request and memory of the whole server, over real connections.

    .venv/bin/python benches/load.py [--requests N]

Starts the release build of `wsnapd demo` on directories of its own and keeps 1, 8, 64 and 1,000 connections
busy, each with one request at a time. The CPU time is that of the server alone: what the kernel has charged to
its threads (`/proc/PID/task/*/schedstat`, in nanoseconds, system time included) between the first and the last
answer; each figure is the least of three. The client runs in this process and does not count. Bounded: a few
minutes.
"""

import argparse
import base64
import contextlib
import os
import pathlib
import platform
import re
import resource
import select
import socket
import ssl
import subprocess
import sys
import time
from urllib.parse import urlsplit

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "real"))

import house  # noqa: E402
import server  # noqa: E402
import wsman  # noqa: E402
from wsman import V2  # noqa: E402

CONNECTIONS = (1, 8, 64, 1000)
MACHINES = 1000
BATCH = 100
#: Each figure is the least of so many: neighbours on the machine only add.
REPEATS = 3
CONFIG = server.EMPTY_CONFIG + "[service]\nMaxConnections = 1100\nMaxConcurrentOperationsPerUser = 10000\n"


def cpu_seconds(pid):
    """CPU time of all threads of a process. Threads for blocking work end when nobody needs them."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_megabytes(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) / 1024


class Connection:
    """A connection with one request under way."""

    #: How every answer begins.
    EXPECTED = b"HTTP/1.1 200 "

    def __init__(self, url, context=None):
        address = urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = bytearray()
        self.tls = context is not None

    def answered(self):
        """Reads what is there; the body when the answer is whole."""
        piece = self.socket.recv(1 << 20)
        while self.tls and self.socket.pending():
            piece += self.socket.recv(1 << 20)
        if not piece:
            raise AssertionError("the server closed a connection")
        self.buffer += piece
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return None
        if not self.buffer.startswith(self.EXPECTED):
            raise AssertionError(bytes(self.buffer[:2000]))
        length = int(re.search(rb"content-length: *(\d+)", self.buffer[:head], re.I)[1])
        if len(self.buffer) < head + 4 + length:
            return None
        body = bytes(self.buffer[head + 4 : head + 4 + length])
        del self.buffer[: head + 4 + length]
        return body


class Load:
    """Many connections to one server."""

    def __init__(self, demo, url, count, user=None, password=None):
        self.demo = demo
        context = ssl.create_default_context(cafile=demo.ca) if url.startswith("https") else None
        credentials = base64.b64encode(f"{user or demo.user}:{password or demo.password}".encode()).decode()
        self.head = (
            "POST /wsman HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/soap+xml;charset=UTF-8\r\n"
            f"Authorization: Basic {credentials}\r\nContent-Length: %d\r\n\r\n"
        )
        self.connections = [Connection(url, context) for _ in range(count)]

    def close(self):
        for connection in self.connections:
            connection.socket.close()

    def request(self, text):
        body = text.encode()
        return (self.head % len(body)).encode() + body

    def run(self, total, following, check):
        """Sends until `total` answers are there; gives CPU seconds of the server an answer, and answers a second.

        `following(connection, body)` is the next request of a connection; there is no body before its first one.
        """
        poll = select.epoll()
        by_number = {connection.socket.fileno(): connection for connection in self.connections}
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        before, begun = cpu_seconds(self.demo.process.pid), time.perf_counter()
        sent = done = 0
        for connection in self.connections[:total]:
            connection.socket.sendall(following(connection, b""))
            sent += 1
        while done < sent:
            for number, _ in poll.poll(30):
                connection = by_number[number]
                body = connection.answered()
                if body is None:
                    continue
                done += 1
                if check not in body:
                    raise AssertionError(body[:2000])
                if sent < total:
                    connection.socket.sendall(following(connection, body))
                    sent += 1
        taken = time.perf_counter() - begun
        used = cpu_seconds(self.demo.process.pid) - before
        poll.close()
        return used / done, done / taken


def simple(load, total, text, check):
    request = load.request(text)
    load.run(max(len(load.connections), total // 10), lambda *_: request, check)
    return min(load.run(max(len(load.connections), total), lambda *_: request, check) for _ in range(REPEATS))


def requests_of(demo):
    """The requests and what must be in each answer."""
    cim = demo.cim()
    machine, service = house.machine(cim, "web01"), house.service(cim, "Msvm_VirtualSystemSnapshotService")
    invoke = wsman.ET.Element(f"{{{service.uri}}}CreateSnapshot_INPUT")
    wsman.add_ref(wsman.ET.SubElement(invoke, f"{{{service.uri}}}AffectedSystem"), machine)
    wsman.ET.SubElement(invoke, f"{{{service.uri}}}SnapshotType").text = "4"
    return [
        ("Identify", 22, wsman.identify_envelope(), b"IdentifyResponse"),
        ("Get (Msvm_ComputerSystem)", 40, wsman.envelope(f"{wsman.X}/Get", machine.uri, None, machine.selectors), b">web01<"),
        (
            "Invoke (CreateSnapshot, refused)",
            40,
            wsman.envelope(f"{service.uri}/CreateSnapshot", service.uri, invoke, service.selectors),
            b"ReturnValue>6<",
        ),
    ]


def pull(load, instances):
    """Enumerates again and again; gives CPU seconds an instance and instances a second."""
    uri = wsman.class_uri(V2, "Msvm_ComputerSystem")
    first = load.request(wsman.envelope(f"{wsman.N}/Enumerate", uri, wsman.ET.Element(f"{{{wsman.N}}}Enumerate")))
    found = 0

    def following(_, body):
        nonlocal found
        found += body.count(b"</p:Msvm_ComputerSystem>")
        context = re.search(rb"EnumerationContext>([^<]+)<", body)
        if not context:
            return first
        element = wsman.ET.Element(f"{{{wsman.N}}}Pull")
        wsman.ET.SubElement(element, f"{{{wsman.N}}}EnumerationContext").text = context[1].decode()
        wsman.ET.SubElement(element, f"{{{wsman.N}}}MaxElements").text = str(BATCH)
        return load.request(wsman.envelope(f"{wsman.N}/Pull", uri, element))

    # Of twelve answers one is that of Enumerate.
    total = max(len(load.connections) * 12, instances // BATCH)
    per_answer, rate = load.run(total, following, b"Response")
    return per_answer * total / found, rate * found / total


def machine():
    """What all this ran on."""
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    system = pathlib.Path("/etc/os-release").read_text()
    name = re.search(r'PRETTY_NAME="(.*)"', system)
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}, "
        f"{name[1] if name else ''}, {rustc}"
    )


def with_demo(prepare, work):
    demo = server.Demo()
    try:
        demo.data.mkdir(parents=True)
        prepare(demo)
        demo.start()
        return work(demo)
    finally:
        demo.close()


def measure_requests(demo, total, rows):
    for protocol, url in (("HTTP", demo.http_url), ("HTTPS", demo.https_url)):
        for name, goal, text, check in requests_of(demo):
            cells = []
            for count in CONNECTIONS:
                load = Load(demo, url, count)
                used, rate = simple(load, total, text, check)
                load.close()
                cells.append((used * 1e6, rate))
                print(f"{protocol} {name}, {count} connections: {used * 1e6:.1f} µs, {rate:.0f}/s", file=sys.stderr)
            rows.append((f"{name}, {protocol}", goal, cells))


def measure_pull(demo, total, rows):
    cells = []
    for count in CONNECTIONS:
        load = Load(demo, demo.http_url, count)
        used, rate = min(pull(load, total) for _ in range(REPEATS))
        load.close()
        cells.append((used * 1e6, rate))
        print(f"Pull, {count} connections: {used * 1e6:.1f} µs an instance, {rate:.0f}/s", file=sys.stderr)
    rows.append(("Enumerate and Pull (Msvm_ComputerSystem), an instance, HTTP", 10, cells))


def measure_memory(url_of):
    """Resident memory without and with 1,000 connections that have all had an answer."""

    def work(demo):
        time.sleep(1)
        idle = resident_megabytes(demo.process.pid)
        # The password is verified once and then remembered.
        demo.requests().post(wsman.identify_envelope())
        load = Load(demo, url_of(demo), 1000)
        simple(load, 2000, wsman.identify_envelope(), b"IdentifyResponse")
        time.sleep(1)
        busy = resident_megabytes(demo.process.pid)
        load.close()
        return idle, busy

    return with_demo(lambda demo: (demo.data / "wsnapd.toml").write_text(CONFIG), work)


def many_machines(demo):
    (demo.data / "wsnapd.toml").write_text(CONFIG + '[backend]\nkind = "simulated"\n')
    for number in range(MACHINES):
        demo.add_machine(f"vm{number:04}", [{"name": "system", "path": f"/nowhere/{number}.img"}])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000, help="requests for each figure")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    rows = []
    # The collection of the demo is not needed here: the configuration has none.
    with_demo(
        lambda demo: (demo.data / "wsnapd.toml").write_text(CONFIG),
        lambda demo: measure_requests(demo, options.requests, rows),
    )
    with_demo(many_machines, lambda demo: measure_pull(demo, options.requests * 10, rows))
    memory = [
        ("HTTP", *measure_memory(lambda demo: demo.http_url)),
        ("HTTPS", *measure_memory(lambda demo: demo.https_url)),
    ]
    print(f"\nMachine: {machine()}\n")
    print("| server CPU time, µs | goal |" + "".join(f" {count:,} |" for count in CONNECTIONS))
    print("| --- | ---: |" + " ---: |" * len(CONNECTIONS))
    for name, goal, cells in rows:
        print(f"| {name} | ≤ {goal} |" + "".join(f" {used:.1f} |" for used, _ in cells))
    print("\n| resident memory, MB | goal | HTTP | HTTPS |\n| --- | ---: | ---: | ---: |")
    print("| idle | ≤ 16 |" + "".join(f" {idle:.1f} |" for _, idle, _ in memory))
    print("| with 1,000 connections | ≤ 50 |" + "".join(f" {busy:.1f} |" for _, _, busy in memory))
    missed = [name for name, goal, cells in rows if "HTTPS" not in name and max(used for used, _ in cells) > goal]
    missed += ["idle memory"] * (max(one[1] for one in memory) > 16)
    missed += ["memory with 1,000 connections"] * (max(one[2] for one in memory) > 50)
    print(f"\nGoals missed: {', '.join(missed) if missed else 'none'}")


if __name__ == "__main__":
    main()
