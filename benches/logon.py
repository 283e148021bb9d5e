#!/usr/bin/env python3
"""Server CPU time of sealed messages against clear ones, and of logons.

    .venv/bin/python benches/logon.py [--gets N] [--logons N]

Starts the release build of `wsnapd demo` on a directory of its own. pypsrp reads a machine over plain HTTP, in clear
with Basic and sealed with NTLM, each on one kept-alive connection, by turns in short pieces, because what a machine
costs its programs changes from minute to minute; the figures are the middle ones of all pieces, the ratio is the middle
one of those of neighbours. Then it logs on again and again, each time on a new connection; that figure is the least of
three. The CPU time is that of the server alone, as in `load.py`. While others log on with Basic and wrong passwords,
which costs the most, a client that is logged on goes on reading.
"""

import argparse
import base64
import concurrent.futures
import re
import statistics
import time
from urllib.parse import urlsplit

import spnego
from load import REPEATS, Connection, Load, cpu_seconds, house, requests_of, server, wsman

#: The clear and the sealed Gets are done in so many turns.
PIECES = 40
#: So many are busy at once in the second comparison.
CONNECTIONS = 8


class Sealed(Connection):
    """A connection that is logged on with NTLM and has its requests sealed already."""

    HEAD = (
        b"POST /wsman HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nContent-Type: multipart/encrypted;"
        b'protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"\r\n%s\r\n'
    )
    BODY = (
        b"--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
        b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n--Encrypted Boundary\r\n"
        b"\tContent-Type: application/octet-stream\r\n%s%s%s--Encrypted Boundary--\r\n"
    )

    def __init__(self, demo, text, count):
        super().__init__(demo.http_url)
        client = spnego.client(demo.user, demo.password, "localhost", service="http", protocol="ntlm")
        token = None
        while not client.complete:
            token = base64.b64encode(client.step(token))
            self.socket.sendall(self.HEAD % (0, b"Authorization: Negotiate %s\r\n" % token))
            answer = self.socket.recv(1 << 16)
            found = re.search(rb"www-authenticate: *negotiate +(\S+)", answer, re.I)
            token = base64.b64decode(found[1]) if found else None
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise AssertionError(answer)
        #: The last one is the first to send.
        self.requests = [self.sealed(client.wrap_winrm(text), len(text)) for _ in range(count)][::-1]

    def sealed(self, message, length):
        header = len(message.header).to_bytes(4, "little")
        body = self.BODY % (length, header, message.header, message.data)
        return self.HEAD % (len(body), b"") + body


class Logon:
    def __init__(self, demo):
        self.demo = demo

    def client(self, auth, password=None):
        address = urlsplit(self.demo.http_url)
        encryption = {"encryption": "never"} if auth == "basic" else {}
        credentials = (self.demo.user, password or self.demo.password, self.demo.ca)
        send = wsman.PypsrpSend(address.hostname, address.port, *credentials, auth=auth, ssl=False, **encryption)
        return wsman.Cim(send, auth)

    def cost(self, work, count):
        """Microseconds of CPU time the server takes for one of so many."""
        before = cpu_seconds(self.demo.process.pid)
        for _ in range(count):
            work()
        return (cpu_seconds(self.demo.process.pid) - before) / count * 1e6

    def gets(self, count):
        """The cost of a clear and of a sealed Get, piece by piece."""
        clear, sealed = (self.client(auth) for auth in ("basic", "ntlm"))
        machine = house.machine(clear, "web01")
        return [
            [self.cost(lambda: cim.get(machine), count // PIECES) for cim in (clear, sealed)] for _ in range(PIECES)
        ]

    def busy(self, count):
        """The same while several connections have a request each under way all the time."""
        load = Load(self.demo, self.demo.http_url, CONNECTIONS)
        text = next(text for name, _, text, _ in requests_of(self.demo) if name.startswith("Get"))
        clear = load.request(text)
        sealed = Load(self.demo, self.demo.http_url, 0)
        # Some connections get more done than others.
        sealed.connections = [Sealed(self.demo, text.encode(), 2 * count // CONNECTIONS) for _ in range(CONNECTIONS)]
        kinds = (
            (load, lambda *_: clear, b">web01<"),
            (sealed, lambda connection, _: connection.requests.pop(), b"Encrypted Boundary"),
        )
        pieces = [[load.run(count // PIECES, *kind)[0] * 1e6 for load, *kind in kinds] for _ in range(PIECES)]
        load.close()
        sealed.close()
        return pieces

    def logons(self, auth, count):
        machine = house.machine(self.client("basic"), "web01")
        return min(self.cost(lambda: self.client(auth).get(machine), count) for _ in range(REPEATS))

    def beside(self, count):
        """Seconds of each Get of one client while others try passwords."""
        cim, times = self.client("ntlm"), []
        machine = house.machine(cim, "web01")

        def attempt(number):
            send = wsman.RequestsSend(self.demo.http_url, f"nobody{number}", "wrong")
            return send.post(wsman.identify_envelope()).status_code

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            tried = [pool.submit(attempt, number) for number in range(count)]
            while not all(one.done() for one in tried):
                begun = time.perf_counter()
                cim.get(machine)
                times.append(time.perf_counter() - begun)
        refused = sum(one.result() == 401 for one in tried)
        return times, refused


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--gets", type=int, default=8000)
    arguments.add_argument("--logons", type=int, default=300)
    chosen = arguments.parse_args()
    with server.Demo() as demo:
        logon = Logon(demo)
        for what, pieces in (
            ("one connection of pypsrp", logon.gets(chosen.gets)),
            (f"{CONNECTIONS} busy connections", logon.busy(chosen.gets)),
        ):
            clear, sealed = (statistics.median(figures) for figures in zip(*pieces))
            ratio = statistics.median(sealed / clear for clear, sealed in pieces)
            print(f"Get, {what}: clear {clear:.1f} µs, sealed by NTLM {sealed:.1f} µs, {ratio:.2f} times")
        # Not "negotiate": without a ticket the client looks for a realm first, for seconds at each logon.
        cost = logon.logons("ntlm", chosen.logons)
        print(f"NTLM: {cost:.0f} µs for a connection, a logon and a Get; {1e6 / cost:.0f} a second on one core")
        times, refused = logon.beside(64)
        print(
            f"Get while {refused} wrong passwords are refused: median {statistics.median(times) * 1000:.1f} ms, "
            f"most {max(times) * 1000:.1f} ms of {len(times)}"
        )


if __name__ == "__main__":
    main()
