#!/usr/bin/env python3
"""Pauses, progress, cancelling, freezing and answers with running machines, as a table.

    .venv/bin/python benches/live.py [--repeats N] [--memory auto|background|precopy|stop]

Starts the release build with real Linux guests under QEMU's translator (no KVM, so that every machine can repeat
it): one of 1 GiB with 700 MiB of live memory of which 500 pages are rewritten each second, and three of 128 MiB
with two disks each. Pauses are those between QEMU's own STOP and RESUME events. All values are shown as least,
median and most. Bounded: a few minutes.
"""

import argparse
import os
import pathlib
import platform
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "real"))

import guest  # noqa: E402
import house  # noqa: E402
import wsman  # noqa: E402

MEMBERS = ["web01", "db01", "db02"]


def row(what, goal, values, unit="ms", digits=0):
    """A line of the table: least, median and most."""
    if not values:
        print(f"| {what} | {goal} | none | | |")
        return
    least, middle, most = min(values), statistics.median(values), max(values)
    print(f"| {what} | {goal} | {least:.{digits}f} | {middle:.{digits}f} | {most:.{digits}f} {unit} |", flush=True)


class Live:
    def __init__(self, memory, repeats):
        self.repeats = repeats
        self.host = guest.Host(memory)
        self.big = self.host.add("big", megabytes=1024, append="ballast=700 dirty=500")
        self.members = [self.host.add(name) for name in MEMBERS]
        self.host.collect("shop", MEMBERS)
        self.host.start()
        self.cim = self.host.cim()
        self.service = house.service(self.cim, "Msvm_VirtualSystemSnapshotService")
        self.groups = house.service(self.cim, "Msvm_CollectionSnapshotService")
        self.refs = {one.name: house.machine(self.cim, one.name) for one in self.host.guests}
        for one in self.host.guests:
            guest.change(self.cim, self.refs[one.name], guest.RUNNING)
        self.big.serial.wait_for("^ballast")
        for one in self.host.guests:
            one.serial.wait_for_counts(3)
        guest.set_up(self.cim, self.refs["big"], UserSnapshotType=guest.STANDARD)

    def ended(self, job, state="7"):
        seen = self.cim.wait(job, pause=0.005)
        if seen["JobState"] != state:
            raise AssertionError(f"the job ended in {seen['JobState']}: {seen.get('ErrorDescription')}")

    def destroy_all(self):
        for reference in self.refs.values():
            for snapshot in house.snapshots_of(self.cim, reference):
                house.destroy(self.cim, snapshot)

    # -- the rows --------------------------------------------------------------------------------

    def full(self):
        pauses, totals, values = [], [], []
        for _ in range(self.repeats):
            with self.big.monitor() as monitor:
                begun, seen = time.monotonic(), set()
                job = guest.begin(self.cim, self.service, self.refs["big"])
                while (state := self.cim.get(job))["JobState"] == "4":
                    seen.add(int(state["PercentComplete"]))
                    time.sleep(0.01)
                totals.append(time.monotonic() - begun)
                self.ended(job)
                pauses.append(max(monitor.pauses()))
                values.append(len(seen))
            self.destroy_all()
        row("full snapshot of 1 GiB, 700 MiB live: pause", "≤ 250", pauses)
        row("the same, from the call to the end of the job", "", totals, "s", 2)
        row("the same, distinct values of PercentComplete", "≥ 5", values, "")

    def cancel(self):
        taken = []
        for _ in range(self.repeats):
            job = guest.begin(self.cim, self.service, self.refs["big"])
            guest.eventually("it is written", lambda j=job: int(self.cim.get(j)["PercentComplete"]) >= 5, pause=0.002)
            begun = time.monotonic()
            self.cim.invoke(job, "RequestStateChange", RequestedState=4)
            self.ended(job, "8")
            taken.append((time.monotonic() - begun) * 1000)
            if self.host.traces() != ({}, [], []):
                raise AssertionError(f"a cancelled snapshot left {self.host.traces()}")
        row("cancel while memory is written, to the end of the job", "≤ 1000", taken)

    def answers(self):
        send = self.host.requests()
        cim, times, made = wsman.Cim(send), {"Identify": [], "Get": [], "CreateSnapshot of another machine": []}, []

        def timed(name, call):
            begun = time.perf_counter()
            result = call()
            times[name].append((time.perf_counter() - begun) * 1000)
            return result

        for _ in range(self.repeats):
            job, last = guest.begin(cim, self.service, self.refs["big"]), time.monotonic()
            while cim.get(job)["JobState"] == "4":
                timed("Identify", lambda: send.post(wsman.identify_envelope()))
                timed("Get", lambda: cim.get(self.refs["big"]))
                if time.monotonic() - last > 0.3:
                    last = time.monotonic()
                    made.append(timed("CreateSnapshot of another machine", lambda: guest.begin(
                        cim, self.service, self.refs["web01"], 3, ConsistencyLevel=2
                    )))
                time.sleep(0.005)
            for one in [job, *made]:
                self.ended(one)
            made.clear()
            self.destroy_all()
        for name, values in times.items():
            ordered = sorted(values)
            high = ordered[int(len(ordered) * 0.95)] if ordered else 0
            print(f"| while memory is written: {name}, {len(ordered)} answers | ≤ 50 | {ordered[0]:.1f} | "
                  f"{statistics.median(ordered):.1f}, 95 % {high:.1f} | {ordered[-1]:.1f} ms |", flush=True)

    def group(self, kind, words):
        skews, pauses = [], []
        for _ in range(self.repeats * 2):
            monitors = [one.monitor() for one in self.members]
            output = self.cim.invoke(
                self.groups, "CreateSnapshot", Collection=house.collection(self.cim, "shop"), SnapshotType=kind
            )
            self.ended(output["Job"])
            stops = [monitor.moments("STOP")[-1] for monitor in monitors]
            skews.append(max(stops) - min(stops))
            pauses.append(max(max(monitor.pauses()) for monitor in monitors))
            for monitor in monitors:
                monitor.close()
            self.destroy_all()
        row(f"group of three machines, {words}: skew of the stops", "≤ 10", skews, "ms", 1)
        row("the same, longest pause of a machine", "≤ 100", pauses)

    def freeze(self):
        frozen, paused = [], []
        for _ in range(self.repeats):
            job = guest.begin(self.cim, self.service, self.refs["web01"], 32768, ConsistencyLevel=1)
            self.ended(job)
            snapshot = house.only(house.affected(self.cim, job, "Msvm_VirtualSystemSettingData"), "snapshot")
            if any(disk.needs_recovery(guest.tag_of(snapshot)) for disk in self.members[0].disks):
                raise AssertionError("a frozen file system needs recovery")
            record = self.host.record(snapshot)
            frozen.append(record["frozen_ms"])
            paused.append(record["paused_ms"])
            self.destroy_all()
        row("recovery snapshot of one machine: file systems frozen", "", frozen)
        row("the same, pause", "", paused)

    def thaw(self):
        """The server is killed during a freeze; how long the guest stays frozen after the start of the next."""
        taken = []
        one = self.members[0]
        for _ in range(self.repeats):
            while True:
                one.serial.forget()
                guest.begin(self.cim, self.service, self.refs["web01"], 32768, ConsistencyLevel=1)
                one.serial.wait_for("^hook freeze$")
                self.host.kill()
                one.serial.forget()
                one.serial.wait_for_beats(10)
                caught, begun = not one.serial.counts(), time.monotonic()
                self.host.start()
                if caught:
                    one.serial.wait_for("^hook thaw$", 30)
                    taken.append(time.monotonic() - begun)
                self.cim = self.host.cim()
                self.destroy_all()
                one.serial.wait_for_counts(3)
                if caught:
                    break
        row("kill -9 during a freeze: thawed after the start", "≤ 5", taken, "s", 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", default="auto", choices=["auto", "background", "precopy", "stop"])
    options = parser.parse_args()
    version = guest.call("qemu-system-x86_64", "--version").splitlines()[0]
    print(f"{platform.platform()}, {os.cpu_count()} processors, {version}, memory = {options.memory}, "
          f"load {os.getloadavg()[0]:.1f}\n")
    print("| what | goal | least | median | most |\n| --- | ---: | ---: | ---: | ---: |")
    live = Live(options.memory, options.repeats)
    try:
        live.full()
        live.cancel()
        live.answers()
        live.group(1, "standard")
        live.group(2, "recovery")
        live.freeze()
        live.thaw()
        for one in live.host.guests:
            one.serial.require_sound()
    finally:
        live.host.close()
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
