"""Application consistency: real guests with a real agent, and what agents do wrong.

The witness is ext4 itself: a file system that was frozen has no `needs_recovery`, one that was not has it.
"""

import re
import time
import unittest

import guest
import house
from guest import OFF, PAUSED, RUNNING

#: ConsistencyLevel.
UNKNOWN, APPLICATION, CRASH = 0, 1, 2
#: SnapshotType.
FULL, DISKS, RECOVERY = 2, 3, 32768


class Frozen(unittest.TestCase):
    """Guests with an agent that answers."""

    @classmethod
    def setUpClass(cls):
        cls.host = guest.Host(agent_timeout_seconds=3)
        cls.addClassCleanup(cls.host.close)
        cls.one = cls.host.add("web01")
        cls.silent = cls.host.add("silent", append="agent=silent")
        cls.absent = cls.host.add("absent", append="agent=off")
        cls.late = cls.host.add("late", append="freeze=5")
        cls.refusing = cls.host.add("refusing", append="freeze=refused")
        cls.host.start()
        cls.cim = cls.host.pypsrp()
        cls.service = house.service(cls.cim, "Msvm_VirtualSystemSnapshotService")
        cls.machines = {one.name: house.machine(cls.cim, one.name) for one in cls.host.guests}
        for machine in cls.machines.values():
            guest.change(cls.cim, machine, RUNNING)
        for one in cls.host.guests:
            one.serial.wait_for_counts(3)
        guest.eventually("the agents are there", lambda: all(cls.agent_open(one) for one in (cls.one, cls.silent)))

    @classmethod
    def agent_open(cls, one):
        with one.monitor() as monitor:
            devices = monitor.execute("query-chardev")
        return any(device["frontend-open"] for device in devices if "agent" in device["filename"])

    def setUp(self):
        for one in self.host.guests:
            one.serial.forget()

    def tearDown(self):
        for one in self.host.guests:
            with one.monitor() as monitor:
                self.assertEqual("running", monitor.status(), one.name)
            one.serial.wait_for_counts(3)
            one.serial.require_sound()
        for machine in self.machines.values():
            for snapshot in house.snapshots_of(self.cim, machine):
                house.destroy(self.cim, snapshot)
        self.assertEqual(({}, [], []), self.host.traces())

    def take(self, one, kind, **settings):
        """A snapshot; gives its record, and whether the journals on its disks need recovery."""
        job = guest.begin(self.cim, self.service, self.machines[one.name], kind, **settings)
        state = self.cim.wait(job)
        self.assertEqual("7", state["JobState"], state.get("ErrorDescription"))
        snapshot = house.only(house.affected(self.cim, job, "Msvm_VirtualSystemSettingData"), "snapshot")
        facts = [disk.facts(guest.tag_of(snapshot)) for disk in one.disks]
        counters = [counter for counter, _ in facts]
        self.assertLessEqual(max(counters) - min(counters), 1)
        return self.host.record(snapshot), [needs for _, needs in facts]

    def fails(self, one, kind, within=30.0, **settings):
        begun = time.monotonic()
        job = guest.begin(self.cim, self.service, self.machines[one.name], kind, **settings)
        state = self.cim.wait(job)
        self.assertEqual("10", state["JobState"])
        self.assertLess(time.monotonic() - begun, within)
        self.assertEqual("32768", state["ErrorCode"])
        self.assertEqual([], house.snapshots_of(self.cim, self.machines[one.name]))
        self.assertEqual(({}, [], []), self.host.traces())
        return state["ErrorDescription"]

    def test_with_and_without_freeze(self):
        for kind in (DISKS, RECOVERY):
            for level, consistency, needs in [
                (APPLICATION, "application", False), (UNKNOWN, "application", False), (CRASH, "crash", True)
            ]:
                with self.subTest(kind=kind, level=level):
                    self.one.serial.forget()
                    record, journals = self.take(self.one, kind, ConsistencyLevel=level)
                    self.assertEqual(consistency, record["consistency"])
                    self.assertEqual([needs] * 2, journals)
                    self.assertFalse(record["has_memory"])
                    self.assertEqual(not needs, record["frozen_ms"] > 0, record["frozen_ms"])
                    self.one.serial.wait_for_counts(2)
                    hooks = re.findall(r"(?m)^hook (\w+)$", self.one.serial.text())
                    self.assertEqual([] if needs else ["freeze", "thaw"], hooks)

    def test_nobody_answers(self):
        """No agent, one that is silent, one that refuses, one that is late: named, and the guest is thawed."""
        self.assertRegex(self.fails(self.absent, DISKS, ConsistencyLevel=APPLICATION), "agent.*not connected")
        for one in (self.silent, self.late, self.refusing):
            with self.subTest(one.name):
                text = self.fails(one, RECOVERY, ConsistencyLevel=APPLICATION)
                self.assertRegex(text, "(?i)freeze|froz|agent|quiesce")
                one.serial.wait_for_counts(3)
                # A late freeze must not stay either: the hook takes five seconds and then it is carried out.
                time.sleep(6 if one is self.late else 0)
                one.serial.wait_for_counts(5, 15)

    def test_fall_back_to_crash_consistency(self):
        for one in (self.absent, self.silent, self.refusing, self.late):
            with self.subTest(one.name):
                record, journals = self.take(one, DISKS, ConsistencyLevel=UNKNOWN)
                self.assertEqual("crash", record["consistency"])
                self.assertEqual([True, True], journals)
                time.sleep(6 if one is self.late else 0)
                one.serial.wait_for_counts(5, 15)

    def test_the_type_of_the_machine_decides(self):
        """UserSnapshotType 2 to 5, for a snapshot of type 2."""
        for one, kind, memory in [
            (self.one, guest.PRODUCTION, False), (self.one, guest.PRODUCTION_ONLY, False),
            (self.one, guest.STANDARD, True), (self.absent, guest.PRODUCTION, True),
            (self.absent, guest.STANDARD, True),
        ]:
            with self.subTest(machine=one.name, kind=kind):
                guest.set_up(self.cim, self.machines[one.name], UserSnapshotType=kind)
                record, journals = self.take(one, FULL)
                self.assertEqual(memory, record["has_memory"])
                self.assertEqual("application", record["consistency"])
                self.assertEqual([memory] * 2, journals)
        for name in ("web01", "absent"):
            for snapshot in house.snapshots_of(self.cim, self.machines[name]):
                house.destroy(self.cim, snapshot)
        guest.set_up(self.cim, self.machines["absent"], UserSnapshotType=guest.PRODUCTION_ONLY)
        self.assertRegex(self.fails(self.absent, FULL), "agent")
        guest.set_up(self.cim, self.machines["absent"], UserSnapshotType=guest.DISABLED)
        job = guest.begin(self.cim, self.service, self.machines["absent"], FULL)
        state = self.cim.wait(job)
        self.assertEqual(("10", "32770"), (state["JobState"], state["ErrorCode"]))
        for name in ("web01", "absent"):
            guest.set_up(self.cim, self.machines[name], UserSnapshotType=guest.PRODUCTION)

    def test_a_paused_machine_needs_no_freeze(self):
        machine = self.machines["web01"]
        guest.change(self.cim, machine, PAUSED)
        for level in (APPLICATION, UNKNOWN, CRASH):
            record, _ = self.take(self.one, RECOVERY, ConsistencyLevel=level)
            self.assertEqual(("crash", 0), (record["consistency"], record["frozen_ms"]))
            self.assertEqual(PAUSED, guest.state_of(self.cim, machine))
        guest.change(self.cim, machine, RUNNING)
        self.one.serial.wait_for_counts(5)
        self.assertNotIn("hook", self.one.serial.text())

    def test_a_machine_that_is_off(self):
        machine = self.machines["web01"]
        guest.change(self.cim, machine, OFF)
        record, _ = self.take(self.one, RECOVERY, ConsistencyLevel=APPLICATION)
        self.assertEqual("application", record["consistency"])
        guest.change(self.cim, machine, RUNNING)
        self.one.serial.forget()
        self.one.serial.wait_for_counts(3)


class Killed(unittest.TestCase):
    """`kill -9` of the server while a guest is frozen."""

    def test_thawed_within_five_seconds_of_the_restart(self):
        host = guest.Host()
        self.addCleanup(host.close)
        one = host.add("web01", append="freeze=1")
        host.start()
        cim = host.cim()
        machine = house.machine(cim, "web01")
        service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
        guest.change(cim, machine, RUNNING)
        one.serial.wait_for_counts(3)
        # The hook takes a second; then the guest freezes, and nobody is there to thaw it.
        one.serial.forget()
        job = guest.begin(cim, service, machine, RECOVERY, ConsistencyLevel=APPLICATION)
        one.serial.wait_for("^hook freeze$")
        host.kill()
        time.sleep(2)
        one.serial.forget()
        one.serial.wait_for_beats(5)
        self.assertEqual([], one.serial.counts(), "the guest is not frozen")
        begun = time.monotonic()
        host.start()
        one.serial.wait_for("^hook thaw$", 5.0 - (time.monotonic() - begun))
        taken = time.monotonic() - begun
        one.serial.wait_for_counts(3)
        one.serial.require_sound()
        cim = host.cim()
        state = cim.wait(job)
        self.assertEqual("10", state["JobState"])
        self.assertTrue(state["ErrorDescription"])
        self.assertEqual(RUNNING, guest.state_of(cim, machine))
        self.assertEqual([], house.snapshots_of(cim, machine))
        self.assertEqual(({}, [], []), host.traces())
        print(f"    thawed {taken:.2f} s after the start of the server")
        host.stop()


if __name__ == "__main__":
    unittest.main()
