"""Snapshots of several running machines: one instant for all of them, and all or nothing."""

import os
import signal
import unittest

import guest
import house
import wsman
from guest import OFF, RUNNING
from wsman import V2

NAMES = ["web01", "db01", "db02"]
#: What the issue allows, and how often a noisy neighbour may spoil it.
SKEW_MS, PAUSE_MS, ROUNDS = 10, 100, 5
STANDARD, RECOVERY = 1, 2


class Groups(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.host = guest.Host(agent_timeout_seconds=3)
        cls.addClassCleanup(cls.host.close)
        for name in NAMES:
            cls.host.add(name)
        cls.host.add("refusing", append="freeze=refused")
        cls.host.collect("shop", NAMES)
        cls.host.collect("with one that refuses", [*NAMES, "refusing"])
        cls.host.start()
        cls.cim = cls.host.pypsrp()
        cls.service = house.service(cls.cim, "Msvm_CollectionSnapshotService")
        cls.shop = house.collection(cls.cim, "shop")
        cls.machines = {one.name: house.machine(cls.cim, one.name) for one in cls.host.guests}
        cls.members = [one for one in cls.host.guests if one.name in NAMES]

    def setUp(self):
        for one in self.host.guests:
            machine = self.machines[one.name]
            if guest.state_of(self.cim, machine) != RUNNING:
                one.serial.forget()
                guest.change(self.cim, machine, RUNNING)
        for one in self.host.guests:
            one.serial.forget()
            one.serial.wait_for_counts(2)

    def tearDown(self):
        for collection in self.cim.references_of_class(V2, "Msvm_SnapshotCollection"):
            self.cim.run(self.service, "DestroySnapshot", AffectedSnapshotCollection=collection)
        self.assertEqual(({}, [], []), self.host.traces())
        for one in self.host.guests:
            one.serial.require_sound()

    def begin(self, kind, collection=None):
        collection = collection or self.shop
        output = self.cim.invoke(self.service, "CreateSnapshot", Collection=collection, SnapshotType=kind)
        self.assertEqual("4096", output["ReturnValue"])
        return output["Job"]

    def take(self, kind):
        job = self.begin(kind)
        state = self.cim.wait(job)
        self.assertEqual("7", state["JobState"], state.get("ErrorDescription"))
        taken = house.only(house.affected(self.cim, job, "Msvm_SnapshotCollection"), "snapshot collection")
        found = self.cim.associated(
            V2, taken, "Msvm_CollectedSnapshots", "Msvm_VirtualSystemSettingData", mode="EnumerateEPR"
        )
        names = {machine.keys["Name"]: name for name, machine in self.machines.items()}
        snapshots = {names[self.cim.get(one)["VirtualSystemIdentifier"]]: one for one in found}
        self.assertEqual(sorted(NAMES), sorted(snapshots))
        return taken, snapshots

    def test_one_instant(self):
        """Stopped within 10 ms of each other, and for 100 ms at most."""
        for kind in (STANDARD, RECOVERY):
            said = []
            for _ in range(ROUNDS):
                monitors = [one.monitor() for one in self.members]
                taken, snapshots = self.take(kind)
                stops = [monitor.moments("STOP")[-1] for monitor in monitors]
                resumes = [monitor.moments("RESUME")[0] for monitor in monitors]
                pauses = [max(monitor.pauses()) for monitor in monitors]
                # There was a moment at which all of them stood still.
                self.assertLess(max(stops), min(resumes))
                for monitor in monitors:
                    self.assertEqual("running", monitor.status())
                    monitor.close()
                for one in self.members:
                    tag = guest.tag_of(snapshots[one.name])
                    facts = [disk.facts(tag) for disk in one.disks]
                    self.assertLessEqual(abs(facts[0][0] - facts[1][0]), 1)
                    self.assertEqual([False, False], [needs for _, needs in facts], one.name)
                    recorded = self.host.record(snapshots[one.name])
                    self.assertTrue(recorded["frozen_ms"] > 0 and not recorded["has_memory"], recorded)
                    kept = "Recovery" if kind == RECOVERY else "Realized"
                    self.assertTrue(self.cim.get(snapshots[one.name])["VirtualSystemType"].endswith(kept))
                skew = max(stops) - min(stops)
                said.append(f"type {kind}: skew {skew:.1f} ms, pauses {', '.join(f'{one:.1f}' for one in pauses)} ms")
                if skew <= SKEW_MS and max(pauses) <= PAUSE_MS:
                    break
                self.cim.run(self.service, "DestroySnapshot", AffectedSnapshotCollection=taken)
            else:
                self.fail("no round was good:\n" + "\n".join(said))
            print("", *said, sep="\n    ")

    def test_apply_and_destroy(self):
        taken, snapshots = self.take(STANDARD)
        then = {
            one.name: [disk.counter(guest.tag_of(snapshots[one.name])) for disk in one.disks] for one in self.members
        }
        for one in self.members:
            one.serial.wait_for_counts(5)
            guest.change(self.cim, self.machines[one.name], OFF)
        self.cim.run(self.service, "ApplySnapshot", SnapshotCollection=taken)
        for one in self.members:
            self.assertEqual(then[one.name], [disk.counter() for disk in one.disks])
            guest.change(self.cim, self.machines[one.name], RUNNING)
        for one in self.members:
            one.serial.forget()
            one.serial.wait_for_counts(3)
        self.cim.run(self.service, "DestroySnapshot", AffectedSnapshotCollection=taken)
        self.assertEqual(({}, [], []), self.host.traces())

    def test_with_memory(self):
        """Machines whose snapshots are standard ones: memory too is of the one instant, and they go on from it."""
        for one in self.members:
            guest.set_up(self.cim, self.machines[one.name], UserSnapshotType=guest.STANDARD)
        monitors = [one.monitor() for one in self.members]
        taken, snapshots = self.take(STANDARD)
        stops = [monitor.moments("STOP")[-1] for monitor in monitors]
        resumes = [monitor.moments("RESUME")[-1] for monitor in monitors]
        self.assertLess(max(stops), min(resumes))
        print("", f"with memory: skew {max(stops) - min(stops):.1f} ms, pauses "
              f"{', '.join(f'{max(monitor.pauses()):.1f}' for monitor in monitors)} ms", sep="\n    ")
        for monitor in monitors:
            monitor.close()
        for one in self.members:
            one.serial.wait_for_counts(5)
            one.serial.require_sound()
            self.assertTrue(self.host.record(snapshots[one.name])["has_memory"])
            guest.change(self.cim, self.machines[one.name], OFF)
        self.cim.run(self.service, "ApplySnapshot", SnapshotCollection=taken)
        for one in self.members:
            machine = self.machines[one.name]
            self.assertEqual(guest.SAVED, guest.state_of(self.cim, machine))
            then = [disk.counter(guest.tag_of(snapshots[one.name])) for disk in one.disks]
            one.serial.forget()
            guest.change(self.cim, machine, RUNNING)
            one.serial.wait_for_counts(3)
            self.assertNotIn("begin", one.serial.text())
            one.serial.require_went_on_from(then)
            guest.set_up(self.cim, machine, UserSnapshotType=guest.PRODUCTION)

    def test_one_member_refuses_to_freeze(self):
        """Nobody has a trace of it, all run, and the job names who it was."""
        collection = house.collection(self.cim, "with one that refuses")
        output = self.cim.invoke(
            self.service, "CreateSnapshot", Collection=collection, SnapshotType=RECOVERY,
            SnapshotSettings=wsman.settings("Msvm_VirtualSystemSnapshotSettingData", ConsistencyLevel=1),
        )
        state = self.cim.wait(output["Job"])
        self.assertEqual(("10", "32768"), (state["JobState"], state["ErrorCode"]))
        self.assertIn("refusing", state["ErrorDescription"])
        self.nothing_is_left()

    def test_one_member_is_gone_in_the_middle(self):
        """A QEMU that stands still cannot answer: the others go on without a trace."""
        victim = self.members[1]
        pid = self.host.pid(victim)
        os.kill(pid, signal.SIGSTOP)
        try:
            job = self.begin(STANDARD)
            state = self.cim.wait(job, timeout=150)
            self.assertEqual("10", state["JobState"])
            self.assertIn(victim.name, state["ErrorDescription"])
            for one in self.members:
                if one is not victim:
                    one.serial.wait_for_counts(3)
        finally:
            os.kill(pid, signal.SIGCONT)
        # What had been sent to it is carried out when it goes on, and is undone.
        guest.eventually("no trace on any member", lambda: self.host.traces() == ({}, [], []), 60)
        self.nothing_is_left()

    def nothing_is_left(self):
        self.assertEqual([], self.cim.references_of_class(V2, "Msvm_SnapshotCollection"))
        self.assertEqual(({}, [], []), self.host.traces())
        for one in self.host.guests:
            with one.monitor() as monitor:
                guest.eventually(f"{one.name} runs", lambda m=monitor: m.status() == "running", 30)
            one.serial.wait_for_counts(3)


if __name__ == "__main__":
    unittest.main()
