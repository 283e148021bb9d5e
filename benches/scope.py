#!/usr/bin/env python3
"""What a user with a scope could learn from the time of answers.

    .venv/bin/python benches/scope.py [--requests N]

Starts the release build of `wsnapd demo` with ten machines that a user may see, and with ten and a thousand that do
not exist for him. He asks for one of those and for a machine that nobody has, by turns, and lists and counts what there
is for him. The CPU time is that of the server alone, as in `load.py`, in the middle of many pieces.
"""

import argparse
import statistics
import subprocess

from load import Connection, Load, house, server, with_demo, wsman
from wsman import V2

PIECES = 40
VISIBLE = 10
HIDDEN = (10, 1000)
PASSWORD = "the password of bob"
CONFIG = server.EMPTY_CONFIG + '[service]\nMaxConcurrentOperationsPerUser = 10000\n[backend]\nkind = "simulated"\n'


def prepare(demo, hidden):
    (demo.data / "wsnapd.toml").write_text(CONFIG)
    for kind, count in (("mine", VISIBLE), ("other", hidden)):
        for number in range(count):
            disk = {"name": "system", "path": f"/nowhere/{kind}{number}.img"}
            identity = demo.add_machine(f"{kind}{number:04}", [disk])
    demo.hidden = identity


def add_bob(demo):
    password = demo.directory / "bob"
    password.write_text(PASSWORD)
    command = [server.BINARY, "user", "add", "bob", "--role", "operator", "--scope", "machine=mine*"]
    command += ["--password-file", password, "--users-file", demo.data / "users"]
    subprocess.run(command, check=True, timeout=30, capture_output=True)


class Refused(Connection):
    """Gets faults only."""

    EXPECTED = b"HTTP/1.1 500 "


class Bob:
    """The requests of a user with a scope."""

    def __init__(self, demo):
        self.demo = demo
        add_bob(demo)
        cim = wsman.Cim(wsman.RequestsSend(demo.http_url, "bob", PASSWORD), "bob")
        self.service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
        self.load = self.connection(Connection)
        self.refused = self.connection(Refused)

    def connection(self, kind):
        load = Load(self.demo, self.demo.http_url, 0, "bob", PASSWORD)
        load.connections = [kind(self.demo.http_url)]
        return load

    @staticmethod
    def machine(identity):
        return wsman.ref(V2, "Msvm_ComputerSystem", CreationClassName="Msvm_ComputerSystem", Name=identity)

    def get(self, identity):
        machine = self.machine(identity)
        return wsman.envelope(f"{wsman.X}/Get", machine.uri, None, machine.selectors)

    def create(self, identity):
        uri = self.service.uri
        body = wsman.ET.Element(f"{{{uri}}}CreateSnapshot_INPUT")
        wsman.add_ref(wsman.ET.SubElement(body, f"{{{uri}}}AffectedSystem"), self.machine(identity))
        wsman.ET.SubElement(body, f"{{{uri}}}SnapshotType").text = "2"
        return wsman.envelope(f"{uri}/CreateSnapshot", uri, body, self.service.selectors)

    @staticmethod
    def enumerate():
        uri = wsman.class_uri(V2, "Msvm_ComputerSystem")
        body = wsman.ET.Element(f"{{{wsman.N}}}Enumerate")
        wsman.ET.SubElement(body, f"{{{wsman.W}}}OptimizeEnumeration")
        wsman.ET.SubElement(body, f"{{{wsman.W}}}MaxElements").text = "100"
        return wsman.envelope(f"{wsman.N}/Enumerate", uri, body)

    @staticmethod
    def costs(load, texts, count, check):
        """Microseconds of CPU time of each of some requests, by turns."""
        requests = [load.request(text) for text in texts]
        pieces = [
            [load.run(count // PIECES, lambda *_, request=request: request, check)[0] * 1e6 for request in requests]
            for _ in range(PIECES)
        ]
        return [statistics.median(figures) for figures in zip(*pieces)]


def measure(demo, hidden, count):
    bob = Bob(demo)
    both = (demo.hidden, str(wsman.uuid.uuid4()).upper())
    for what, load, text, check in (
        ("Get", bob.refused, bob.get, b"Fault>"),
        ("CreateSnapshot", bob.load, bob.create, b">32773<"),
    ):
        there, nowhere = bob.costs(load, [text(identity) for identity in both], count, check)
        print(f"{hidden} hidden: {what} of one {there:.1f} µs, of nothing {nowhere:.1f} µs")
    (listed,) = bob.costs(bob.load, [bob.enumerate()], count // 4, b"EndOfSequence")
    print(f"{hidden} hidden: Enumerate of the {VISIBLE} that are not {listed:.1f} µs")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=8000, help="requests for each figure")
    options = parser.parse_args()
    for hidden in HIDDEN:
        with_demo(lambda demo: prepare(demo, hidden), lambda demo: measure(demo, hidden, options.requests))


if __name__ == "__main__":
    main()
