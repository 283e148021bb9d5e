"""Machines that outlive the server, and machines that somebody else runs."""

import os
import signal
import socket
import time
import unittest

import guest
import house
from guest import OFF, PAUSED, RUNNING, SAVED


class Life(unittest.TestCase):
    """Start, pause, save, off; and restarts of the server with machines running."""

    def setUp(self):
        self.host = guest.Host()
        self.addCleanup(self.host.close)

    def connect(self):
        self.cim = self.host.pypsrp()
        self.machines = {one.name: house.machine(self.cim, one.name) for one in self.host.guests}

    def test_states(self):
        one = self.host.add("web01")
        self.host.start()
        self.connect()
        machine = self.machines["web01"]
        self.assertEqual(OFF, guest.state_of(self.cim, machine))
        self.assertIsNone(self.host.pid(one))
        guest.change(self.cim, machine, RUNNING)
        one.serial.wait_for_counts(3)
        guest.change(self.cim, machine, PAUSED)
        beats = one.serial.beats()
        time.sleep(0.5)
        self.assertEqual(beats, one.serial.beats())
        guest.change(self.cim, machine, RUNNING)
        one.serial.wait_for_counts(2)
        guest.change(self.cim, machine, SAVED)
        self.assertIsNone(self.host.pid(one))
        last = one.serial.counts()[-1]
        self.host.stop()
        self.host.start()
        self.connect()
        machine = self.machines["web01"]
        self.assertEqual(SAVED, guest.state_of(self.cim, machine))
        one.serial.forget()
        guest.change(self.cim, machine, RUNNING)
        one.serial.wait_for_counts(3)
        self.assertIn(one.serial.counts()[0], (last, last + 1))
        one.serial.require_sound()
        guest.change(self.cim, machine, OFF)
        self.assertIsNone(self.host.pid(one))
        for disk in one.disks:
            disk.check()
        self.host.stop()

    def test_machines_survive_the_server(self):
        running, paused = self.host.add("web01"), self.host.add("db01")
        self.host.start()
        self.connect()
        for one in (running, paused):
            guest.change(self.cim, self.machines[one.name], RUNNING)
            one.serial.wait_for_counts(2)
        guest.change(self.cim, self.machines["db01"], PAUSED)
        pids = [self.host.pid(one) for one in (running, paused)]
        for end in (self.host.stop, self.host.kill):
            end()
            self.assertEqual(pids, [self.host.pid(one) for one in (running, paused)])
            running.serial.wait_for_counts(3)
            self.host.start()
            self.connect()
            self.assertEqual({"web01": RUNNING, "db01": PAUSED}, guest.running_of(self.cim))
            self.assertEqual(pids, [self.host.pid(one) for one in (running, paused)])
            house.take(self.cim, "web01")
        # A machine that ended while nobody looked is off.
        self.host.kill()
        guest.end(pids[0])
        self.host.start()
        self.connect()
        self.assertEqual({"web01": OFF, "db01": PAUSED}, guest.running_of(self.cim))
        # And one that ends while the server looks.
        guest.end(pids[1])
        guest.eventually("db01 is off", lambda: guest.running_of(self.cim)["db01"] == OFF)
        for one in (running, paused):
            one.serial.forget()
            guest.change(self.cim, self.machines[one.name], RUNNING)
            one.serial.wait_for_counts(2)
        self.host.stop()


class Attached(unittest.TestCase):
    """A machine that runs already, with the command line that `docs/operating.md` gives."""

    def setUp(self):
        self.host = guest.Host(agent_timeout_seconds=3)
        self.addCleanup(self.host.close)
        self.one = self.host.attach("web01")
        self.host.start()
        self.cim = self.host.pypsrp()
        self.machine = house.machine(self.cim, "web01")
        self.service = house.service(self.cim, "Msvm_VirtualSystemSnapshotService")

    def take(self, kind, **settings):
        job = guest.begin(self.cim, self.service, self.machine, kind, **settings)
        state = self.cim.wait(job)
        self.assertEqual("7", state["JobState"], state.get("ErrorDescription"))
        return house.only(house.affected(self.cim, job, "Msvm_VirtualSystemSettingData"), "snapshot")

    def test_snapshots(self):
        self.assertEqual(RUNNING, guest.state_of(self.cim, self.machine))
        frozen = self.take(32768, ConsistencyLevel=1)
        self.assertEqual([False, False], [disk.needs_recovery(guest.tag_of(frozen)) for disk in self.one.disks])
        guest.set_up(self.cim, self.machine, UserSnapshotType=guest.STANDARD)
        full = self.take(2)
        self.assertTrue(self.host.record(full)["has_memory"])
        self.assertEqual("running", self.one.monitor().status())
        self.host.kill()
        self.host.start()
        self.cim = self.host.pypsrp()
        self.assertEqual(RUNNING, guest.state_of(self.cim, self.machine))
        self.assertEqual({frozen, full}, set(house.snapshots_of(self.cim, self.machine)))
        for snapshot in (frozen, full):
            house.destroy(self.cim, snapshot)
        self.assertEqual(({}, [], []), self.host.traces())
        self.one.serial.wait_for_counts(3)
        self.one.serial.require_sound()

    def test_the_machine_ends_and_comes_back(self):
        guest.set_up(self.cim, self.machine, UserSnapshotType=guest.STANDARD)
        snapshot = self.take(2)
        self.one.end()
        guest.eventually("the machine is off", lambda: guest.state_of(self.cim, self.machine) == OFF)
        output = self.cim.invoke(self.machine, "RequestStateChange", RequestedState=RUNNING)
        if output["ReturnValue"] == "4096":
            state = self.cim.wait(output["Job"])
            self.assertEqual("10", state["JobState"])
            self.assertTrue(state["ErrorDescription"])
        else:
            self.assertIn(output["ReturnValue"], ("1", "32770"))
        self.one.serial.forget()
        self.one.start()
        guest.eventually("the machine runs", lambda: guest.state_of(self.cim, self.machine) == RUNNING)
        house.destroy(self.cim, snapshot)
        self.one.serial.wait_for_counts(3)

    def test_the_monitor_is_taken_by_somebody_else(self):
        """QEMU greets one client only. The job says so, and it works again when the other one is gone."""
        self.host.stop()
        other = guest.Qmp(self.one.own("monitor"))
        self.host.start()
        self.cim = self.host.pypsrp()
        # Somebody runs it, and nothing more is known.
        seen = self.cim.get(self.machine)
        self.assertEqual((str(RUNNING), "25"), (seen["EnabledState"], seen["HealthState"]))
        output = self.cim.invoke(self.service, "CreateSnapshot", AffectedSystem=self.machine, SnapshotType=3)
        if output["ReturnValue"] == "4096":
            state = self.cim.wait(output["Job"], timeout=60)
            self.assertEqual("10", state["JobState"])
            self.assertIn(state["ErrorCode"], ("32772", "32777"))
            self.assertRegex(state["ErrorDescription"], "monitor|qmp|QMP")
        else:
            self.assertEqual("32775", output["ReturnValue"])
        self.assertEqual(({}, [], []), self.host.traces())
        self.one.serial.wait_for_counts(3)
        other.close()
        guest.eventually("the machine is seen", lambda: self.cim.get(self.machine)["HealthState"] == "5", 60)
        self.take(3)

    def test_an_impostor_on_the_socket(self):
        """Something that is no monitor listens there, or nothing: the server starts and says what it knows."""
        self.host.stop()
        self.one.end()
        path = self.one.own("monitor")
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(str(path))
        listener.listen(16)
        self.host.start()
        self.cim = self.host.pypsrp()
        begun = time.monotonic()
        self.assertEqual("web01", self.cim.get(self.machine)["ElementName"])
        self.assertLess(time.monotonic() - begun, 5)
        output = self.cim.invoke(self.machine, "RequestStateChange", RequestedState=PAUSED)
        if output["ReturnValue"] == "4096":
            self.assertEqual("10", self.cim.wait(output["Job"], timeout=60)["JobState"])


class Standing(unittest.TestCase):
    def test_a_monitor_that_blocks(self):
        """QEMU stands still (SIGSTOP): the job ends, and when QEMU goes on nothing is left of it."""
        host = guest.Host(settings="[jobs]\nbackend_timeout_seconds = 5", agent_timeout_seconds=2)
        self.addCleanup(host.close)
        one, other = host.add("web01"), host.add("db01", append="agent=off")
        host.start()
        cim = host.cim()
        service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
        machines = {each.name: house.machine(cim, each.name) for each in host.guests}
        for each in host.guests:
            guest.change(cim, machines[each.name], RUNNING)
            each.serial.wait_for_counts(2)
        pid = host.pid(one)
        os.kill(pid, signal.SIGSTOP)
        try:
            job = guest.begin(cim, service, machines["web01"], 3)
            beside = guest.begin(cim, service, machines["db01"], 3)
            self.assertEqual("7", cim.wait(beside)["JobState"])
            state = cim.wait(job, timeout=60)
            self.assertEqual("10", state["JobState"])
            self.assertIn("no answer in time", state["ErrorDescription"])
        finally:
            os.kill(pid, signal.SIGCONT)
        house.destroy(cim, house.only(house.snapshots_of(cim, machines["db01"]), "snapshot"))
        guest.eventually("nothing is left", lambda: host.traces() == ({}, [], []), 60)
        with one.monitor() as monitor:
            guest.eventually("web01 runs", lambda: monitor.status() == "running", 30)
        one.serial.wait_for_counts(3)
        job = guest.begin(cim, service, machines["web01"], 3)
        self.assertEqual("7", cim.wait(job)["JobState"])
        host.stop()


if __name__ == "__main__":
    unittest.main()
