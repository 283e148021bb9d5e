"""`kill -9` at random instants: what was acknowledged stays, what was not leaves nothing behind.

    kill_rounds.py --rounds 300 [--seed N] [--keep]

Each round starts the server on the same data directory, lets clients create, apply and destroy snapshots of
two machines, of their collection and of a volume, kills the server at a random instant (sometimes once more
while it recovers), starts it again and compares everything with what the clients know:

* every job a client was told of is there and has ended, and tells the truth about its effect;
* every acknowledged snapshot is there with the right bytes, every destroyed one is gone;
* every file in the snapshot directories belongs to a record and every file of a record exists;
* the disks of a machine are all as before an apply or all as after it, also over a whole collection;
* no temporary file and no journal of an ended job is left.
"""

import argparse
import json
import os
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

import house
import server
import wsman
from wsman import STORAGE, V2

MB = 1 << 20
#: The server is killed within this time after the clients have begun.
LONGEST = 1.2
#: More snapshots than this and destroying becomes likelier.
MANY = 4


class Broken(Exception):
    """A promise that was not kept."""


def require(holds, message):
    if not holds:
        raise Broken(message)


@dataclass
class Operation:
    """What a client has asked for and does not know the end of yet."""

    kind: str
    target: object = None
    job: wsman.Ref | None = None
    state: int | None = None
    before: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)


class Machine:
    """What the clients know of a machine."""

    def __init__(self, name, disks):
        self.name, self.disks = name, disks
        self.state = self.measure()
        self.snapshots = {}
        self.ref = None

    def measure(self):
        return server.digests(self.disks)

    def scribble(self, chance):
        server.scribble(self.disks, chance.random())
        self.state = self.measure()


class Rounds:
    def __init__(self, demo, seed):
        self.demo, self.chance = demo, random.Random(seed)
        self.lock = threading.Lock()
        self.machines, self.groups, self.volumes = [], {}, {}
        self.pending = []
        self.counts = {}
        self.failures = []
        self.file_digests = {}

    # -- the clients -----------------------------------------------------------------------------

    def prepare(self):
        """Disks with enough content that every operation takes a while."""
        demo = self.demo
        server.fill(demo.data / "disks" / "web01-system.img", 24 * MB, 1)
        server.fill(demo.data / "disks" / "db01-system.img", 20 * MB, 2)
        server.fill(demo.data / "disks" / "db01-data.img", 28 * MB, 3)
        server.fill(demo.data / "pool1" / "vol1", 24 * MB, 4)
        demo.start()
        self.machines = [Machine(name, demo.disks(name)) for name in ("web01", "db01")]
        self.source = demo.data / "pool1" / "vol1"
        demo.kill()

    def connect(self):
        """A client for one thread, and the references everybody needs."""
        cim = self.demo.cim()
        for machine in self.machines:
            machine.ref = house.machine(cim, machine.name)
        self.service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
        self.group_service = house.service(cim, "Msvm_CollectionSnapshotService")
        self.shop = house.collection(cim, "shop")
        self.volume = house.volume(cim, "vol1")
        return cim

    def work(self, job, seed):
        """The loop of one client: ends when the server is gone."""
        chance = random.Random(seed)
        cim = wsman.Cim(self.demo.requests(self.demo.http_url))
        try:
            while True:
                job(cim, chance)
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
        require(value in (0, 4096), f"{operation.kind} returned {value}")
        if value == 4096:
            operation.job = output["Job"]
            done = cim.wait(operation.job, timeout=60)
            operation.state = done.number("JobState")
            text = done.get("ErrorDescription")
            require(operation.state == 7, f"{operation.kind} ended in {operation.state}: {text}")
        else:
            operation.state = 7
        self.conclude(cim, operation, output)
        with self.lock:
            self.pending.remove(operation)
            self.counts[operation.kind] = self.counts.get(operation.kind, 0) + 1

    def one_machine(self, machine):
        def step(cim, chance):
            if chance.random() < 0.5:
                machine.scribble(chance)
            draw = chance.random()
            if not machine.snapshots or (draw < 0.4 and len(machine.snapshots) < 2 * MANY):
                operation = Operation("create", machine, before={machine.name: list(machine.state)})
                self.carry_out(
                    cim, operation, self.service, "CreateSnapshot", AffectedSystem=machine.ref, SnapshotType=2
                )
                return
            snapshot = chance.choice(list(machine.snapshots))
            if draw < 0.7 and len(machine.snapshots) < MANY:
                operation = Operation("apply", machine)
                operation.before[machine.name] = list(machine.state)
                operation.after[machine.name] = list(machine.snapshots[snapshot])
                self.carry_out(cim, operation, self.service, "ApplySnapshot", Snapshot=snapshot)
            else:
                operation = Operation("destroy", (machine, snapshot))
                self.carry_out(cim, operation, self.service, "DestroySnapshot", AffectedSnapshot=snapshot)

        return step

    def group_step(self, cim, chance):
        for machine in self.machines:
            if chance.random() < 0.3:
                machine.scribble(chance)
        draw = chance.random()
        now = {machine.name: list(machine.state) for machine in self.machines}
        if not self.groups or (draw < 0.5 and len(self.groups) < MANY):
            operation = Operation("group create", before=now)
            self.carry_out(
                cim, operation, self.group_service, "CreateSnapshot", Collection=self.shop, SnapshotType=1
            )
            return
        group = chance.choice(list(self.groups))
        members = self.groups[group]
        if draw < 0.8 and len(members) == len(self.machines) and len(self.groups) < MANY:
            operation = Operation("group apply", group, before=now)
            for machine in self.machines:
                operation.after[machine.name] = list(machine.snapshots[members[machine.name]])
            self.carry_out(cim, operation, self.group_service, "ApplySnapshot", SnapshotCollection=group)
        else:
            operation = Operation("group destroy", group)
            arguments = {"AffectedSnapshotCollection": group}
            self.carry_out(cim, operation, self.group_service, "DestroySnapshot", **arguments)

    def volume_step(self, cim, chance):
        if chance.random() < 0.5:
            server.scribble([self.source], chance.random())
        name = f"copy-{chance.randrange(1 << 30)}"
        operation = Operation("volume", name, before={"vol1": [server.digest(self.source)]})
        self.carry_out(cim, operation, self.volume, "CreateSnapshot", ElementName=name)
        time.sleep(0.05)

    # -- what an operation means -----------------------------------------------------------------

    def conclude(self, cim, operation, output=None):
        """The operation has succeeded: the model follows. Asks the server, so it may find it gone."""
        kind = operation.kind
        if kind == "create":
            machine = operation.target
            if operation.job is None:
                snapshot = output["ResultingSnapshot"]
            else:
                found = house.affected(cim, operation.job, "Msvm_VirtualSystemSettingData")
                require(len(found) == 1, f"a completed creation made {found}")
                snapshot = found[0]
            machine.snapshots[snapshot] = operation.before[machine.name]
        elif kind == "group create":
            found = house.affected(cim, operation.job, "Msvm_SnapshotCollection")
            require(len(found) == 1, f"a completed group creation made {found}")
            self.adopt_group(cim, found[0], operation.before)
        elif kind in ("apply", "group apply"):
            for machine in self.machines:
                if machine.name in operation.after:
                    machine.state = operation.after[machine.name]
        elif kind == "destroy":
            self.forget(*operation.target)
        elif kind == "group destroy":
            members = self.groups.pop(operation.target)
            for machine in self.machines:
                if machine.name in members:
                    machine.snapshots.pop(members[machine.name], None)
        elif kind == "volume":
            found = cim.query(STORAGE, f"SELECT * FROM MSFT_SMStorageVolume WHERE DisplayName = '{operation.target}'")
            require(len(found) == 1, f"a completed copy made {found}")
            path = self.copies()[operation.target]
            require([server.digest(path)] == operation.before["vol1"], f"the copy {path} has the wrong bytes")
            self.volumes[operation.target] = path

    def adopt_group(self, cim, group, before):
        members = {}
        found = cim.associated(
            V2, group, "Msvm_CollectedSnapshots", "Msvm_VirtualSystemSettingData", mode="EnumerateEPR"
        )
        names = {machine.ref.keys["Name"]: machine for machine in self.machines}
        for snapshot in found:
            machine = names[cim.get(snapshot)["VirtualSystemIdentifier"]]
            machine.snapshots[snapshot] = before[machine.name]
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

    def records(self, table):
        """What the store holds."""
        database = self.demo.state() / "wsnapd.db"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return [json.loads(row[0]) for row in connection.execute(f"SELECT data FROM {table}")]

    def copies(self):
        """The snapshots of volumes by display name."""
        return {one["name"]: pathlib.Path(one["path"]) for one in self.records("volume") if one["snapshot_of"]}

    # -- after the restart -----------------------------------------------------------------------

    def settle(self, cim, operation):
        """Finds out how an interrupted operation ended, and that its job says so."""
        if operation.job is not None:
            done = cim.wait(operation.job, timeout=30)
            ended = done.number("JobState")
            require(operation.state in (None, ended), f"a job seen in {operation.state} is now in {ended}")
            require(ended == 7 or done.get("ErrorDescription"), f"a failed job without words: {done.properties}")
            if ended == 7:
                self.conclude(cim, operation)
            else:
                self.undone(operation)
            return ended
        # The answer never came: it may have happened or not, but not by halves.
        return self.guess(cim, operation)

    def undone(self, operation):
        if operation.kind == "volume":
            require(operation.target not in self.copies(), f"a failed copy left {operation.target}")

    def guess(self, cim, operation):
        kind = operation.kind
        if kind in ("create", "group create"):
            known = {snapshot for machine in self.machines for snapshot in machine.snapshots}
            names = {machine.ref.keys["Name"]: machine for machine in self.machines}
            if kind == "group create":
                new = set(self.all_groups(cim)) - set(self.groups)
                require(len(new) <= 1, f"several unknown groups: {new}")
                for group in new:
                    self.adopt_group(cim, group, operation.before)
                return bool(new)
            new = set(house.snapshots_of(cim, operation.target.ref)) - known
            require(len(new) <= 1, f"several unknown snapshots: {new}")
            for snapshot in new:
                require(cim.get(snapshot)["VirtualSystemIdentifier"] in names, "a snapshot of nobody")
                operation.target.snapshots[snapshot] = operation.before[operation.target.name]
            return bool(new)
        if kind in ("apply", "group apply"):
            machines = [machine for machine in self.machines if machine.name in operation.after]
            done = all(machine.measure() == operation.after[machine.name] for machine in machines)
            if done:
                self.conclude(cim, operation)
            return done
        if kind == "destroy":
            machine, snapshot = operation.target
            done = snapshot not in house.snapshots_of(cim, machine.ref)
            if done:
                self.forget(machine, snapshot)
            return done
        if kind == "group destroy":
            done = operation.target not in self.all_groups(cim)
            if done:
                self.conclude(cim, operation)
            return done
        done = operation.target in self.copies()
        if done:
            self.conclude(cim, operation)
        return done

    def unfinished(self, cim):
        jobs = cim.enumerate(wsman.class_uri(V2, "Msvm_ConcreteJob"))
        jobs += cim.enumerate(wsman.class_uri(STORAGE, "MSFT_SMJob"))
        return [job.properties for job in jobs if job.number("JobState") not in wsman.FINAL]

    def wait_for_all_jobs(self, cim):
        """Jobs that nobody heard of may still be at work, so that what they make comes later."""
        deadline = time.monotonic() + 60
        while stuck := self.unfinished(cim):
            require(time.monotonic() < deadline, f"jobs without an end: {stuck}")
            time.sleep(0.02)

    def all_groups(self, cim):
        return cim.references_of_class(V2, "Msvm_SnapshotCollection")

    def check(self, cim):
        """Everything the clients know against what is there."""
        for machine in self.machines:
            now = machine.measure()
            require(now == machine.state, f"the disks of {machine.name} are neither as before nor as after")
            found = set(house.snapshots_of(cim, machine.ref))
            lost = set(machine.snapshots) - found
            require(not lost, f"lost snapshots of {machine.name}: {lost}")
            extra = found - set(machine.snapshots)
            require(not extra, f"snapshots of {machine.name} nobody asked for: {extra}")
        require(set(self.all_groups(cim)) == set(self.groups), "the snapshot collections are not those known")
        stuck = self.unfinished(cim)
        require(not stuck, f"jobs without an end: {stuck}")
        self.check_files()
        require(self.copies() == self.volumes, f"copies {self.copies()}, known {self.volumes}")
        files = {path for path in (self.demo.data / "pool1").iterdir() if path.name.endswith(".snapshot")}
        require(files == set(self.volumes.values()), f"files of copies {files}, known {self.volumes}")

    def check_files(self):
        records = self.records("snapshot")
        parents = [record["parent"] for record in records if record["parent"]]
        database = self.demo.state() / "wsnapd.db"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            journal = connection.execute("SELECT count(*) FROM journal").fetchone()[0]
        require(journal == 0, f"{journal} steps of ended jobs are still in the journal")
        identities = {record["id"].upper() for record in records}
        require({parent.upper() for parent in parents} <= identities, "a parent that is not there")
        owned = {disk["file"] for record in records for disk in record["disks"]}
        present = {str(path) for path in self.demo.snapshot_files()}
        require(not present - owned, f"orphaned files: {present - owned}")
        require(not owned - present, f"lost files: {owned - present}")
        for directory in (self.demo.state() / "snapshots").iterdir():
            require(directory.name.upper() in identities, f"an orphaned directory: {directory}")
        require(not self.demo.leftovers(), f"temporary files: {self.demo.leftovers()}")
        wanted = {
            snapshot.keys["InstanceID"].removeprefix("Microsoft:").upper(): (machine.disks, digests)
            for machine in self.machines
            for snapshot, digests in machine.snapshots.items()
        }
        require(identities == set(wanted), f"records {identities ^ set(wanted)} are not those known")
        for record in records:
            disks, digests = wanted[record["id"].upper()]
            require(len(record["disks"]) == len(disks), f"a snapshot with the disks {record['disks']}")
            content = {os.path.normpath(disk["source"]): self.digest(disk["file"]) for disk in record["disks"]}
            require(
                [content[str(disk)] for disk in disks] == digests, f"snapshot {record['id']} has the wrong bytes"
            )

    def digest(self, file):
        """The digest of a snapshot file; files that did not change are not read again."""
        status = self.demo.state().joinpath(file).stat()
        key = (file, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        if key not in self.file_digests:
            self.file_digests[key] = server.digest(file)
        return self.file_digests[key]

    # -- one round -------------------------------------------------------------------------------

    def round(self):
        chance = self.chance
        if len(self.volumes) > MANY:
            # There is no method for it yet; a volume is removed by removing its file.
            for path in self.volumes.values():
                path.unlink()
            self.volumes = {}
        self.demo.start()
        self.connect()
        if chance.random() < 0.4:
            steps = [self.group_step]
        else:
            steps = [self.one_machine(machine) for machine in self.machines]
        if chance.random() < 0.5:
            steps.append(self.volume_step)
        self.pending, self.failures = [], []
        threads = [threading.Thread(target=self.work, args=(step, chance.random())) for step in steps]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.0, LONGEST))
        self.demo.kill()
        for thread in threads:
            thread.join(90)
            require(not thread.is_alive(), "a client did not end")
        require(not self.failures, "; ".join(self.failures))
        for _ in range(chance.choice([0, 0, 0, 1, 2])):
            self.kill_while_starting(chance.uniform(0.0, 0.5))
        self.demo.start()
        cim = self.connect()
        self.wait_for_all_jobs(cim)
        ends = [(operation.kind, operation.job is not None, self.settle(cim, operation)) for operation in self.pending]
        self.check(cim)
        self.demo.kill() if chance.random() < 0.5 else self.demo.stop()
        return ends

    def kill_while_starting(self, after):
        killer = threading.Timer(after, lambda: self.demo.process and self.demo.process.kill())
        # The process is there a moment after `start` began; the timer waits at least that long.
        killer.start()
        try:
            self.demo.start()
        except AssertionError:
            if self.demo.process.wait(10) != -9:
                raise
        killer.cancel()
        killer.join()
        self.demo.kill()


def run(rounds, seed, keep=False, out=print, every=25, directory=None):
    """Runs the rounds; gives the sentence with the result. Raises `Broken` with the round and the seed."""
    demo = server.Demo(tempfile.mkdtemp(prefix="wsnapd-kill-", dir=directory))
    runner = Rounds(demo, seed)
    interrupted = {}
    begun = time.monotonic()
    try:
        runner.prepare()
        for number in range(1, rounds + 1):
            try:
                for kind, known, end in runner.round():
                    key = f"{kind} ({'job known' if known else 'answer not seen'}, end {end})"
                    interrupted[key] = interrupted.get(key, 0) + 1
            except (Broken, wsman.WsmanFault, AssertionError) as problem:
                keep = True
                raise Broken(
                    f"round {number} of seed {seed}: {problem}\npending: {runner.pending}\n"
                    f"data directory {demo.directory}\n{demo.log()}"
                ) from problem
            if number % every == 0:
                out(f"    {number} rounds, {time.monotonic() - begun:.0f} s")
    finally:
        if demo.process is not None:
            demo.kill()
        if not keep:
            shutil.rmtree(demo.directory, ignore_errors=True)
    done = ", ".join(f"{count} {kind}" for kind, count in sorted(runner.counts.items()))
    cut = "\n".join(f"    {count:4} {what}" for what, count in sorted(interrupted.items()))
    return (
        f"{rounds} rounds of kill -9 (seed {seed}, {time.monotonic() - begun:.0f} s): all promises kept\n"
        f"  completed operations: {done}\n  interrupted operations:\n{cut}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true", help="keep the data directory")
    parser.add_argument("--directory", help="where the data directory is made")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    try:
        print(run(options.rounds, seed, options.keep, directory=options.directory))
    except Broken as problem:
        sys.exit(f"FAILED in {problem}")


if __name__ == "__main__":
    main()
