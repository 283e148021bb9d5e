#!/usr/bin/env python3
"""Server CPU time per request of two builds, side by side.

    .venv/bin/python benches/compare.py OLD NEW [--rounds N] [--connections N]

OLD and NEW are `wsnapd` programs. Both serve a demo of their own at the same time, and short runs of each request go
to the one and the other in turn, so that whatever else the machine does meets both; each figure is the least of all
rounds. Bounded: a round takes about five seconds.
"""

import argparse
import subprocess
import sys

import load
from load import resource, server, wsman

REQUESTS = 1600
#: One Enumerate answers with so many: host and two machines of every demo, and what is added.
MACHINES = 50


def enumerate_50():
    """An Enumerate that answers with all machines at once."""
    body = wsman.ET.Element(f"{{{wsman.N}}}Enumerate")
    wsman.ET.SubElement(body, f"{{{wsman.W}}}OptimizeEnumeration")
    wsman.ET.SubElement(body, f"{{{wsman.W}}}MaxElements").text = str(2 * MACHINES)
    uri = wsman.class_uri(wsman.V2, "Msvm_ComputerSystem")
    return wsman.envelope(f"{wsman.N}/Enumerate", uri, body)


def start(binary, machines):
    """A demo of this program, with so many machines or its own."""
    server.BINARY = binary
    demo = server.Demo()
    options = subprocess.run([binary, "demo", "--help"], capture_output=True, text=True, check=True).stdout
    # An older build may not know every option of the tests.
    demo.options = [option for option in demo.options if option in options]
    demo.data.mkdir(parents=True)
    text = load.CONFIG + ('[backend]\nkind = "simulated"\n' if machines else "")
    (demo.data / "wsnapd.toml").write_text(text)
    for number in range(machines - 3):
        demo.add_machine(f"vm{number:04}", [{"name": "system", "path": f"/nowhere/{number}.img"}])
    return demo.start()


def measure(demos, rounds, connections, name, works):
    """The least CPU time of each build, in seconds for what its `work` does once."""
    loads = [load.Load(demo, demo.http_url, connections) for demo in demos]
    try:
        for work, one in zip(works, loads):
            work(one)
        least = [
            min(times) for times in zip(*([work(one) for work, one in zip(works, loads)] for _ in range(rounds)))
        ]
    finally:
        for one in loads:
            one.close()
    old, new = least
    print(f"| {name} | {old * 1e6:.1f} | {new * 1e6:.1f} | {new / old:.2f} |", flush=True)
    return new / old


def sending(text, check):
    def work(one):
        request = one.request(text)
        return one.run(REQUESTS, request, lambda *_: request, check)[0]

    return work


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--most", type=float, default=1.1, help="the greatest ratio that is no failure")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print(f"Machine: {load.machine()}\n\n| server CPU time, µs | old | new | ratio |\n| --- | ---: | ---: | ---: |")
    ratios = []
    for machines in (0, MACHINES):
        demos = []
        try:
            for binary in (options.old, options.new):
                demos.append(start(binary, machines))
            if machines:
                works = {
                    f"Enumerate of {MACHINES}": [sending(enumerate_50(), b"EndOfSequence")] * 2,
                    "Pull, an instance": [lambda one: load.pull(one, 10 * REQUESTS)[0]] * 2,
                }
            else:
                both = zip(*(load.requests_of(demo) for demo in demos))
                works = {each[0][0]: [sending(text, check) for _, _, text, check in each] for each in both}
            for name, each in works.items():
                ratios.append(measure(demos, options.rounds, options.connections, name, each))
        finally:
            for demo in demos:
                demo.close()
    if max(ratios) > options.most:
        sys.exit(f"\nslower than {options.most} times")


if __name__ == "__main__":
    main()
