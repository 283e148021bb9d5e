#!/usr/bin/env python3
"""Server CPU time of sealed messages against clear ones, and of logons.

    .venv/bin/python benches/logon.py [--gets N] [--logons N]

Starts the release build of `wsnapd demo` on a directory of its own. pypsrp reads a machine over plain HTTP, in clear
with Basic and sealed with NTLM, each on one kept-alive connection; then it logs on again and again, each time on a new
connection. The CPU time is that of the server alone, as in `load.py`; each figure is the least of three. While others
log on with Basic and wrong passwords, which costs the most, a client that is logged on goes on reading.
"""

import argparse
import concurrent.futures
import statistics
import time
from urllib.parse import urlsplit

from load import REPEATS, cpu_seconds, server, wsman

import house


class Logon:
    def __init__(self, demo):
        self.demo = demo

    def client(self, auth, password=None):
        address = urlsplit(self.demo.http_url)
        encryption = {"encryption": "never"} if auth == "basic" else {}
        credentials = (self.demo.user, password or self.demo.password, self.demo.ca)
        send = wsman.PypsrpSend(address.hostname, address.port, *credentials, auth=auth, ssl=False, **encryption)
        return wsman.Cim(send, auth)

    def least(self, work, count):
        """Microseconds of CPU time the server takes for one of so many."""
        figures = []
        for _ in range(REPEATS):
            before = cpu_seconds(self.demo.process.pid)
            for _ in range(count):
                work()
            figures.append((cpu_seconds(self.demo.process.pid) - before) / count * 1e6)
        return min(figures)

    def gets(self, auth, count):
        cim = self.client(auth)
        machine = house.machine(cim, "web01")
        return self.least(lambda: cim.get(machine), count)

    def logons(self, auth, count):
        machine = house.machine(self.client("basic"), "web01")
        return self.least(lambda: self.client(auth).get(machine), count)

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
    arguments.add_argument("--gets", type=int, default=3000)
    arguments.add_argument("--logons", type=int, default=300)
    chosen = arguments.parse_args()
    with server.Demo() as demo:
        logon = Logon(demo)
        clear, sealed = (logon.gets(auth, chosen.gets) for auth in ("basic", "ntlm"))
        print(f"Get, clear: {clear:.1f} µs; sealed by NTLM: {sealed:.1f} µs; {sealed / clear:.2f} times")
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
