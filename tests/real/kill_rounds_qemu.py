"""`kill -9` of the server, or of QEMU, at random instants while machines run.

    kill_rounds_qemu.py --rounds 1000 --kill server [--seed N] [--keep]

Three small guests run under QEMU, each with a qcow2 disk and a raw one. In each round clients take full, disk-only and recovery snapshots of them and
of their collection, apply and destroy them, turn machines off and start them; at a random instant the server (or
one QEMU) is killed, the server is started again, sometimes after further kills, and everything is compared with
what the clients know:

* every job a client was told of is there and has ended, and tells the truth about its effect;
* no machine is left paused or frozen, and none has been ended: it counts on;
* every acknowledged snapshot has its tag on all disks and its memory file, of one instant; what was destroyed is gone;
* no file, no layer, no tag and no step of the journal belongs to nobody, and what destroyed snapshots have left in the
  layers of the raw disks is merged; in part of the rounds merges are slow, and the kill waits for one;
* memory and disks of a guest always agree, and `qemu-img check` is clean on every disk; that of a QEMU that was
  killed may hold clusters nobody uses until its machine is started again.
"""

import argparse
import pathlib
import random
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field

import requests

import guest
import house
import wsman
from guest import OFF, RUNNING, SAVED
from wsman import V2

NAMES = ["web01", "db01", "db02"]
#: The kill comes within this time after the clients have begun.
LONGEST = 1.2
#: More snapshots than this and destroying becomes likelier.
MANY = 3
FULL, DISKS, RECOVERY = 2, 3, 32768
#: Bytes a second of a merge that is slowed.
SLOW = 256 << 10
#: The kill waits so long for one.
MEETING = 5.0
#: No job has been at work for so long when everything is looked at.
QUIET = 1.0


class Broken(Exception):
    """A promise that was not kept."""


def require(holds, message):
    if not holds:
        raise Broken(message)


def is_bare(raw):
    """Whether a disk has no layers, by what lies there and by what is known."""
    try:
        return not raw.overlays()
    except AssertionError:
        return False  # A merge is at work, and the two differ.


@dataclass
class Operation:
    """What a client has asked for and does not know the end of yet."""

    kind: str
    target: object = None
    #: The snapshot, the type of the snapshot, or the state that is asked for.
    detail: object = None
    #: The counters on the disks before an apply.
    before: list | None = None
    job: wsman.Ref | None = None
    state: int | None = None


@dataclass
class Known:
    """An acknowledged snapshot."""

    memory: bool
    counters: list


@dataclass(eq=False)
class Machine:
    """What the clients know of a machine."""

    guest: guest.Guest
    ref: wsman.Ref | None = None
    state: int = RUNNING
    snapshots: dict = field(default_factory=dict)

    @property
    def name(self):
        return self.guest.name

    def counters(self, tag=None):
        return [disk.counter(tag) for disk in self.guest.disks]


class Rounds:
    def __init__(self, host, seed, victim):
        self.host, self.chance, self.victim = host, random.Random(seed), victim
        self.lock = threading.Lock()
        self.machines, self.groups = [], {}
        self.pending, self.failures, self.counts = [], [], {}
        #: A machine whose QEMU was killed in this round.
        self.killed = None
        #: Clients of this round destroy what they can, and the kill waits until a merge is met.
        self.merging, self.met = False, threading.Event()
        #: Recovery snapshots, which cannot be applied.
        self.recovery = set()

    def prepare(self):
        for name in NAMES:
            self.machines.append(Machine(self.host.add(name, disks=1, raw=1, append="every=250")))
        self.host.collect("shop", NAMES)
        self.host.start()
        cim = self.connect()
        for machine in self.machines:
            guest.set_up(cim, machine.ref, UserSnapshotType=guest.STANDARD)
            guest.change(cim, machine.ref, RUNNING)
        for machine in self.machines:
            machine.guest.serial.wait_for_counts(3)

    def connect(self):
        cim = self.host.cim()
        for machine in self.machines:
            machine.ref = house.machine(cim, machine.name)
        self.service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
        self.group_service = house.service(cim, "Msvm_CollectionSnapshotService")
        self.shop = house.collection(cim, "shop")
        return cim

    # -- the clients -----------------------------------------------------------------------------

    def work(self, step, seed, until):
        """The loop of one client: ends when the server is gone, or at its time."""
        chance = random.Random(seed)
        cim = wsman.Cim(self.host.requests(self.host.http_url))
        try:
            while time.monotonic() < until:
                step(cim, chance)
        except requests.exceptions.RequestException:
            pass
        except Exception as problem:  # noqa: BLE001 — whatever it is, the round has failed
            self.failures.append(f"{type(problem).__name__}: {problem}")

    def carry_out(self, cim, operation, target, method, **arguments):
        """Calls the method and follows the job; `pending` holds what is not known yet."""
        with self.lock:
            self.pending.append(operation)
        output = cim.invoke(target, method, **arguments)
        value = output.number("ReturnValue")
        if value == 32775 and self.excused(operation):
            with self.lock:
                self.pending.remove(operation)
            return False
        require(value in (0, 4096), f"{operation.kind} of {self.names(operation)} returned {value}")
        if value == 4096:
            operation.job = output["Job"]
            done = cim.wait(operation.job, timeout=90)
            operation.state = done.number("JobState")
            text = done.get("ErrorDescription")
            allowed = operation.state == 7 or self.excused(operation)
            require(allowed, f"{operation.kind} of {self.names(operation)} ended in {operation.state}: {text}")
        else:
            operation.state = 7
        succeeded = operation.state == 7
        if succeeded:
            self.conclude(cim, operation, output)
        with self.lock:
            self.pending.remove(operation)
            kind = operation.kind if succeeded else f"{operation.kind} (failed with its QEMU)"
            self.counts[kind] = self.counts.get(kind, 0) + 1
        return succeeded

    def excused(self, operation):
        """It may fail: the QEMU it works on was killed."""
        killed = self.killed
        return killed is not None and (operation.target is killed or operation.kind.startswith("group"))

    @staticmethod
    def names(operation):
        return operation.target.name if isinstance(operation.target, Machine) else "shop"

    def machine_steps(self, machine):
        def step(cim, chance):
            if machine.state != RUNNING:
                if machine.snapshots and chance.random() < 0.5:
                    self.apply(cim, machine, chance)
                self.change(cim, machine, RUNNING)
                return
            draw = 1.0 if self.merging else chance.random()
            if not machine.snapshots or (draw < 0.5 and len(machine.snapshots) < 2 * MANY):
                self.create(cim, machine, chance)
            elif draw < 0.6:
                if self.change(cim, machine, chance.choice([OFF, OFF, SAVED])):
                    self.apply(cim, machine, chance)
            else:
                snapshot = chance.choice(list(machine.snapshots))
                tree = chance.random() < 0.1 and not self.groups and snapshot not in self.recovery
                method, name = (
                    ("DestroySnapshotTree", "SnapshotSettingData") if tree else ("DestroySnapshot", "AffectedSnapshot")
                )
                operation = Operation("destroy tree" if tree else "destroy", machine, snapshot)
                self.carry_out(cim, operation, self.service, method, **{name: snapshot})

        return step

    def create(self, cim, machine, chance):
        kind = chance.choice([FULL, FULL, DISKS, RECOVERY, RECOVERY])
        # A guest that has just begun may have no agent yet, so that nothing may depend on it.
        level = 2 if kind == DISKS else 0
        settings = "" if kind == FULL else wsman.settings(
            "Msvm_VirtualSystemSnapshotSettingData", ConsistencyLevel=level
        )
        words = {FULL: "full", DISKS: "disk-only", RECOVERY: "recovery"}
        operation = Operation(f"create {words[kind]}", machine, kind)
        self.carry_out(
            cim, operation, self.service, "CreateSnapshot",
            AffectedSystem=machine.ref, SnapshotSettings=settings, SnapshotType=kind,
        )

    def apply(self, cim, machine, chance):
        usable = [one for one in machine.snapshots if one not in self.recovery]
        if usable:
            snapshot = chance.choice(usable)
            operation = Operation("apply", machine, snapshot, machine.counters())
            self.carry_out(cim, operation, self.service, "ApplySnapshot", Snapshot=snapshot)

    def change(self, cim, machine, state):
        words = {OFF: "off", SAVED: "save", RUNNING: "start"}
        operation = Operation(words[state], machine, state)
        return self.carry_out(cim, operation, machine.ref, "RequestStateChange", RequestedState=state)

    def group_step(self, cim, chance):
        running = all(machine.state == RUNNING for machine in self.machines)
        if not self.groups or (chance.random() < 0.6 and len(self.groups) < MANY):
            kind = chance.choice([1, 2]) if running else 1
            operation = Operation("group create", None, kind)
            self.carry_out(
                cim, operation, self.group_service, "CreateSnapshot", Collection=self.shop, SnapshotType=kind
            )
        else:
            group = chance.choice(list(self.groups))
            operation = Operation("group destroy", None, group)
            self.carry_out(cim, operation, self.group_service, "DestroySnapshot", AffectedSnapshotCollection=group)

    def slow_down(self, machine, over):
        """Makes the merges of a machine slow, until it ends or the clients do."""
        seen = False
        try:
            with machine.guest.monitor() as monitor:
                while not over.wait(0.01):
                    jobs = monitor.execute("query-block-jobs")
                    for job in jobs:
                        monitor.execute("block-job-set-speed", device=job["device"], speed=SLOW)
                    if jobs and not seen:
                        with self.lock:
                            self.counts["slow merge"] = self.counts.get("slow merge", 0) + 1
                        self.met.set()
                    seen = bool(jobs)
        except (OSError, guest.Refusal):
            # QEMU has ended, or the merge has.
            pass

    # -- what an operation means -----------------------------------------------------------------

    def conclude(self, cim, operation, output=None):
        """The operation has succeeded: the model follows. Asks the server, so it may find it gone."""
        kind, machine = operation.kind, operation.target
        if kind.startswith("create"):
            if operation.job is None:
                found = [output["ResultingSnapshot"]]
            else:
                found = house.affected(cim, operation.job, "Msvm_VirtualSystemSettingData")
            require(len(found) == 1, f"a completed creation made {found}")
            self.adopt(cim, machine, found[0])
        elif kind == "group create":
            found = house.affected(cim, operation.job, "Msvm_SnapshotCollection")
            require(len(found) == 1, f"a completed group creation made {found}")
            self.adopt_group(cim, found[0])
        elif kind == "apply":
            machine.state = SAVED if machine.snapshots[operation.detail].memory else OFF
            now, then = machine.counters(), machine.snapshots[operation.detail].counters
            require(now == then, f"{machine.name} has {now} on its disks after an apply of {then}")
        elif kind == "destroy":
            self.forget(machine, operation.detail)
        elif kind == "destroy tree":
            now = set(house.snapshots_of(cim, machine.ref))
            require(operation.detail not in now, "the root of a destroyed tree is still there")
            for snapshot in set(machine.snapshots) - now:
                self.forget(machine, snapshot)
        elif kind == "group destroy":
            for name, snapshot in self.groups.pop(operation.detail).items():
                next(one for one in self.machines if one.name == name).snapshots.pop(snapshot, None)
        else:
            machine.state = operation.detail
            if machine.state == RUNNING:
                machine.guest.serial.forget()

    def adopt(self, cim, machine, snapshot):
        """A new snapshot: its disks are of one instant, and of one near to now."""
        record = self.host.record(snapshot)
        counters = machine.counters(guest.tag_of(snapshot))
        require(
            0 <= counters[0] - counters[1] <= 1, f"snapshot {record['id']} of {machine.name} has {counters} on its disks"
        )
        machine.snapshots[snapshot] = Known(record["has_memory"], counters)
        if "Recovery" in cim.get(snapshot)["VirtualSystemType"]:
            self.recovery.add(snapshot)

    def adopt_group(self, cim, group):
        found = cim.associated(
            V2, group, "Msvm_CollectedSnapshots", "Msvm_VirtualSystemSettingData", mode="EnumerateEPR"
        )
        names = {machine.ref.keys["Name"]: machine for machine in self.machines}
        members = {}
        for snapshot in found:
            machine = names[cim.get(snapshot)["VirtualSystemIdentifier"]]
            self.adopt(cim, machine, snapshot)
            members[machine.name] = snapshot
        require(len(members) == len(self.machines), f"a group snapshot with the members {members}")
        self.groups[group] = members

    def forget(self, machine, snapshot):
        """A snapshot is gone; it leaves its collection, and an empty collection goes too."""
        machine.snapshots.pop(snapshot, None)
        with self.lock:
            for group, members in list(self.groups.items()):
                if members.get(machine.name) == snapshot:
                    del members[machine.name]
                    if not members:
                        del self.groups[group]

    # -- after the restart -----------------------------------------------------------------------

    def settle(self, cim, operation):
        """Finds out how an interrupted operation ended, and that its job says so."""
        if operation.job is None:
            return self.guess(cim, operation)
        done = cim.wait(operation.job, timeout=60)
        ended = done.number("JobState")
        require(operation.state in (None, ended), f"a job seen in {operation.state} is now in {ended}")
        require(ended == 7 or done.get("ErrorDescription"), f"a failed job without words: {done.properties}")
        if ended == 7:
            self.conclude(cim, operation)
        else:
            self.undone(cim, operation)
        return ended

    def undone(self, cim, operation):
        """A job that failed has had no effect; states are looked at with everything else."""
        machine = operation.target
        if operation.kind.startswith("destroy"):
            require(operation.detail in house.snapshots_of(cim, machine.ref), "destroying failed, and it is gone")
        elif operation.kind == "apply":
            now = machine.counters()
            require(now == operation.before, f"an apply failed, and {machine.name} has {now}, not {operation.before}")
        elif operation.kind in ("off", "save", "start"):
            self.change_seen(cim, operation)

    def change_seen(self, cim, operation):
        """A change of the state is whole or has not been."""
        machine = operation.target
        before, machine.state = machine.state, guest.state_of(cim, machine.ref)
        allowed = machine is self.killed or machine.state in (before, operation.detail)
        require(allowed, f"{machine.name} went from {before} to {machine.state}, asked for {operation.detail}")
        return machine.state == operation.detail

    def guess(self, cim, operation):
        """The answer never came: it may have happened or not, but not by halves."""
        kind, machine = operation.kind, operation.target
        if kind.startswith("create"):
            new = set(house.snapshots_of(cim, machine.ref)) - set(machine.snapshots)
            require(len(new) <= 1, f"several unknown snapshots: {new}")
            for snapshot in new:
                self.adopt(cim, machine, snapshot)
            return bool(new)
        if kind == "group create":
            new = set(self.all_groups(cim)) - set(self.groups)
            require(len(new) <= 1, f"several unknown groups: {new}")
            for group in new:
                self.adopt_group(cim, group)
            return bool(new)
        if kind == "apply":
            state = guest.state_of(cim, machine.ref)
            now, known = machine.counters(), machine.snapshots[operation.detail]
            require(
                now in (operation.before, known.counters),
                f"{machine.name} has {now} on its disks, neither {operation.before} nor {known.counters}",
            )
            allowed = (machine.state, SAVED if known.memory else OFF)
            require(state in allowed, f"{machine.name} is in state {state} after an apply")
            machine.state = state
            return now == known.counters
        if kind in ("destroy", "destroy tree"):
            now = set(house.snapshots_of(cim, machine.ref))
            done = operation.detail not in now
            if done:
                self.conclude(cim, operation)
            return done
        if kind == "group destroy":
            done = operation.detail not in self.all_groups(cim)
            if done:
                self.conclude(cim, operation)
            return done
        return self.change_seen(cim, operation)

    def all_groups(self, cim):
        return cim.references_of_class(V2, "Msvm_SnapshotCollection")

    def wait_for_all_jobs(self, cim):
        """Jobs that nobody heard of may still be at work, so that what they make comes later.

        A merge begins a moment after the job that made it necessary has ended.
        """
        deadline, quiet = time.monotonic() + 90, None
        while True:
            jobs = cim.enumerate(wsman.class_uri(V2, "Msvm_ConcreteJob"))
            stuck = [job.properties for job in jobs if job.number("JobState") not in wsman.FINAL]
            now = time.monotonic()
            quiet = None if stuck else quiet or now
            if quiet and now - quiet > QUIET:
                return
            require(now < deadline, f"jobs without an end: {stuck}")
            time.sleep(0.02)

    # -- the promises ----------------------------------------------------------------------------

    def check(self, cim):
        seen = guest.running_of(cim)
        counting = {}
        for machine in self.machines:
            require(seen[machine.name] == machine.state, f"{machine.name}: {seen[machine.name]}, known {machine.state}")
            found = set(house.snapshots_of(cim, machine.ref))
            lost, extra = set(machine.snapshots) - found, found - set(machine.snapshots)
            require(not lost, f"lost snapshots of {machine.name}: {lost}")
            require(not extra, f"snapshots of {machine.name} nobody asked for: {extra}")
            if machine.state == RUNNING and self.has_booted(machine):
                counting[machine] = len(machine.guest.serial.counts())
        require(set(self.all_groups(cim)) == set(self.groups), "the snapshot collections are not those known")
        self.check_store()
        self.check_disks()
        for machine, before in counting.items():
            serial = machine.guest.serial
            serial.require_sound()
            guest.eventually(
                f"{machine.name} counts on after {serial.text()[-200:]!r}", lambda: len(serial.counts()) > before, 60
            )

    def has_booted(self, machine):
        """One that is still booting counts in a later round; that it does is asked then."""
        if machine.guest.serial.counts():
            return True
        pid = self.host.pid(machine.guest)
        require(pid, f"{machine.name} runs and has no process")
        age = time.time() - pathlib.Path(f"/proc/{pid}").stat().st_ctime
        require(age < guest.BOOT, f"{machine.name} has not counted for {age:.0f} s: {machine.guest.serial.text()!r}")
        return False

    def check_store(self):
        records = self.host.records("snapshot")
        database = self.host.state() / "wsnapd.db"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            # Merges begin by themselves, so that one may be under way now.
            journal = connection.execute(
                "SELECT count(*) FROM journal LEFT JOIN job ON job.id = journal.job"
                " WHERE coalesce(json_extract(data, '$.state'), 'killed')"
                " IN ('completed', 'terminated', 'killed', 'exception')"
            ).fetchone()[0]
        require(journal == 0, f"{journal} steps of ended jobs are still in the journal")
        owned = {record["memory_file"] for record in records if record["memory_file"]}
        present = {str(path) for path in self.host.snapshot_files()}
        require(not present - owned, f"orphaned files: {present - owned}")
        require(not owned - present, f"lost files: {owned - present}")
        require(not self.host.leftovers(), f"temporary files: {self.host.leftovers()}")

    def check_disks(self):
        """Tags as known, and clean. Guests are stopped for it, through the monitor that is not the server's."""
        for machine in self.machines:
            tags = sorted(guest.tag_of(snapshot) for snapshot in machine.snapshots)
            if not tags:
                # The job that merges them begins a moment after the one that made it necessary has ended.
                raw = machine.guest.disks[1]
                guest.eventually(f"{machine.name} has no snapshot and no layer", lambda raw=raw: is_bare(raw), 60)
            monitor = None
            if machine.state == RUNNING:
                monitor = machine.guest.monitor()
                status = monitor.status()
                require(status == "running", f"{machine.name} was left {status}")
            try:
                self.check_standing(machine, tags, monitor)
            finally:
                if monitor:
                    monitor.execute("cont")
                    monitor.close()

    def check_standing(self, machine, tags, monitor, attempts=3):
        """QEMU that has just cancelled a transfer may go on by itself, and files that move say nothing."""
        if monitor:
            # It writes everything it has in mind, so that the file is whole while it stands still.
            monitor.execute("stop")
        try:
            for disk in machine.guest.disks:
                found = sorted(tag.upper() for tag in disk.tags())
                require(found == tags, f"{disk.path.name} has the tags {found}, known {tags}")
                disk.check(running=monitor is not None, leaks=monitor is None and machine is self.killed)
        except (AssertionError, Broken):
            if attempts == 1 or monitor is None or monitor.status() != "running":
                raise
            self.check_standing(machine, tags, monitor, attempts - 1)

    # -- one round -------------------------------------------------------------------------------

    def round(self):
        chance = self.chance
        self.pending, self.failures, self.killed = [], [], None
        group = chance.random() < 0.3
        steps = [self.group_step] if group else [self.machine_steps(machine) for machine in self.machines]
        self.merging = not group and any(machine.snapshots for machine in self.machines) and chance.random() < 0.4
        self.met.clear()
        delay = chance.uniform(0.0, LONGEST)
        until = time.monotonic() + (delay + self.merging * MEETING if self.victim == "qemu" else 600)
        threads = [threading.Thread(target=self.work, args=(step, chance.random(), until)) for step in steps]
        over = threading.Event()
        running = [machine for machine in self.machines if machine.state == RUNNING]
        brakes = [threading.Thread(target=self.slow_down, args=(machine, over)) for machine in running]
        brakes = brakes if self.merging else []
        for thread in [*threads, *brakes]:
            thread.start()
        if self.merging:
            self.met.wait(MEETING)
        time.sleep(delay)
        self.host.kill() if self.victim == "server" else self.kill_qemu(chance)
        for thread in threads:
            thread.join(150)
            require(not thread.is_alive(), "a client did not end")
        over.set()
        for thread in brakes:
            thread.join(30)
        require(not self.failures, "; ".join(self.failures))
        if self.victim == "server":
            for _ in range(chance.choice([0, 0, 0, 1, 2])):
                self.kill_while_starting(chance.uniform(0.0, 0.5))
            self.host.start()
        cim = self.connect()
        self.wait_for_all_jobs(cim)
        ends = [(operation.kind, operation.job is not None, self.settle(cim, operation)) for operation in self.pending]
        self.pending = []
        self.bury(cim)
        self.check(cim)
        self.revive(cim)
        return ends

    def kill_qemu(self, chance):
        machine = chance.choice(self.machines)
        pid = self.host.pid(machine.guest)
        if pid:
            self.killed = machine
            guest.end(pid)

    def bury(self, cim):
        """A machine whose QEMU was killed is off, or saved when it had not begun; it is not running."""
        machine = self.killed
        if machine is None:
            return
        if self.host.pid(machine.guest):
            # A client has started it again.
            guest.eventually("it is seen as running", lambda: guest.state_of(cim, machine.ref) == RUNNING)
        else:
            guest.eventually("it is seen as ended", lambda: guest.state_of(cim, machine.ref) in (OFF, SAVED))
        machine.state = guest.state_of(cim, machine.ref)

    def revive(self, cim):
        """Machines that stand are started now and then, so that most of them run."""
        for machine in self.machines:
            if machine.state != RUNNING and (self.victim == "qemu" or self.chance.random() < 0.5):
                self.killed = None
                self.change(cim, machine, RUNNING)

    def kill_while_starting(self, after):
        killer = threading.Timer(after, lambda: self.host.process and self.host.process.kill())
        killer.start()
        try:
            self.host.start()
        except AssertionError:
            if self.host.process.wait(10) != -9:
                raise
        killer.cancel()
        killer.join()
        self.host.kill()


def run(rounds, seed, victim="server", keep=False, out=print, every=25, directory=None):
    """Runs the rounds; gives the sentence with the result. Raises `Broken` with the round and the seed."""
    host = guest.Host(directory=tempfile.mkdtemp(prefix="k-", dir=directory), overlay_raw_disks=True)
    runner = Rounds(host, seed, victim)
    interrupted, number = {}, 0
    begun = time.monotonic()
    try:
        try:
            runner.prepare()
            for number in range(1, rounds + 1):
                for kind, known, end in runner.round():
                    key = f"{kind} ({'job known' if known else 'answer not seen'}, end {end})"
                    interrupted[key] = interrupted.get(key, 0) + 1
                if number % every == 0:
                    out(f"    {number} rounds, {time.monotonic() - begun:.0f} s", flush=True)
        except (Broken, wsman.WsmanFault, AssertionError, guest.Refusal) as problem:
            keep = True
            raise Broken(
                f"round {number} of seed {seed}, killing {victim}: {problem}\npending: {runner.pending}\n"
                f"data directory {host.directory}\n{host.log()}"
            ) from problem
    finally:
        host.close()
        if not keep:
            shutil.rmtree(host.directory, ignore_errors=True)
    done = ", ".join(f"{count} {kind}" for kind, count in sorted(runner.counts.items()))
    cut = "\n".join(f"    {count:4} {what}" for what, count in sorted(interrupted.items()))
    return (
        f"{rounds} rounds of kill -9 of {victim} (seed {seed}, {time.monotonic() - begun:.0f} s): all promises kept\n"
        f"  completed operations: {done}\n  interrupted operations:\n{cut}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--kill", choices=["server", "qemu"], default="server")
    parser.add_argument("--keep", action="store_true", help="keep the data directory")
    parser.add_argument("--directory", help="where the data directory is made; a short path, it holds sockets")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    try:
        print(run(options.rounds, seed, options.kill, options.keep, directory=options.directory))
    except Broken as problem:
        sys.exit(f"FAILED in {problem}")


if __name__ == "__main__":
    main()
