"""What goes wrong around a running machine: each ends in its code or in a job in state 10 that names disk,
step and cause, and the machine is as it was before."""

import contextlib
import itertools
import os
import pathlib
import unittest

import guest
import house
import mounts
from guest import OFF, RUNNING, SAVED

MB = 1 << 20


class Bad(unittest.TestCase):
    def begin(self, host, **settings):
        host.start()
        self.addCleanup(host.close)
        self.host, self.cim = host, host.pypsrp()
        self.service = house.service(self.cim, "Msvm_VirtualSystemSnapshotService")
        self.machine = house.machine(self.cim, "web01")
        if settings:
            guest.set_up(self.cim, self.machine, **settings)
        guest.change(self.cim, self.machine, RUNNING)
        self.one = host.guests[0]
        self.one.serial.wait_for_counts(3)

    def fails(self, code, kind=2, **settings):
        """The job fails with this code and leaves nothing; gives its words."""
        job = guest.begin(self.cim, self.service, self.machine, kind, **settings)
        state = self.cim.wait(job)
        self.ended(state, code)
        return state["ErrorDescription"]

    def ended(self, state, code):
        self.assertEqual(("10", str(code)), (state["JobState"], state["ErrorCode"]), state["ErrorDescription"])
        self.assertEqual([], house.snapshots_of(self.cim, self.machine))
        self.assertEqual(({}, [], []), self.host.traces())

    def goes_on(self):
        with self.one.monitor() as monitor:
            self.assertEqual("running", monitor.status())
        self.one.serial.wait_for_counts(3)
        self.one.serial.require_sound()

    # -- disks -----------------------------------------------------------------------------------

    def with_extra_disk(self, **keys):
        host = guest.Host()
        extra = host.data / "disks" / "extra.raw"
        extra.parent.mkdir(parents=True)
        extra.write_bytes(bytes(MB))
        host.add("web01", extra_disks=[{"name": "extra", "path": extra, "format": "raw", **keys}])
        self.begin(host)
        return extra

    def test_a_raw_disk(self):
        """It cannot hold a tag: refused by name, or left out when that is allowed."""
        self.with_extra_disk()
        for kind in (2, 3, 32768):
            self.assertIn("extra", self.fails(32770, kind, IgnoreNonSnapshottableDisks=False))
            self.goes_on()
        job = guest.begin(self.cim, self.service, self.machine, 3, IgnoreNonSnapshottableDisks=True)
        self.assertEqual("7", self.cim.wait(job)["JobState"])
        snapshot = house.only(house.snapshots_of(self.cim, self.machine), "snapshot")
        self.assertEqual(["extra"], self.host.record(snapshot)["skipped_disks"])
        self.goes_on()

    def test_a_read_only_disk(self):
        """It can take no tag: refused by name, or left out when that is allowed."""
        extra = self.with_extra_disk(read_only=True)
        self.assertIn("extra", self.fails(32770, 3, IgnoreNonSnapshottableDisks=False))
        job = guest.begin(self.cim, self.service, self.machine, 3, IgnoreNonSnapshottableDisks=True)
        state = self.cim.wait(job)
        self.assertEqual("7", state["JobState"], state.get("ErrorDescription"))
        self.assertEqual(bytes(MB), extra.read_bytes())
        self.goes_on()

    def test_a_tag_that_is_gone(self):
        host = guest.Host()
        host.add("web01")
        self.begin(host, UserSnapshotType=guest.STANDARD)
        snapshot = house.take(self.cim, "web01")
        self.one.serial.wait_for_counts(5)
        guest.change(self.cim, self.machine, OFF)
        first, second = self.one.disks
        tag = second.tags()[0]
        self.assertEqual([tag], first.tags())
        guest.call("qemu-img", "snapshot", "-d", tag, second.path)
        before = [disk.counter() for disk in self.one.disks]
        output = self.cim.invoke(self.service, "ApplySnapshot", Snapshot=snapshot)
        if output["ReturnValue"] == "4096":
            state = self.cim.wait(output["Job"])
            self.assertEqual(("10", "32779"), (state["JobState"], state["ErrorCode"]))
            self.assertIn(second.path.stem, state["ErrorDescription"])
        else:
            self.assertEqual("32773", output["ReturnValue"])
        self.assertEqual(before, [disk.counter() for disk in self.one.disks])
        self.assertEqual(OFF, guest.state_of(self.cim, self.machine))
        self.host.stop()
        self.host.start()
        self.cim = self.host.pypsrp()
        self.assertEqual("Microsoft:Hyper-V:Snapshot:Missing", self.cim.get(snapshot)["VirtualSystemType"])
        house.destroy(self.cim, snapshot)
        self.assertEqual(({}, [], []), self.host.traces())
        for disk in self.one.disks:
            disk.check()

    def test_a_tag_of_somebody_else(self):
        """It is shown, and nobody takes it away."""
        host = guest.Host()
        host.add("web01")
        self.begin(host)
        guest.change(self.cim, self.machine, OFF)
        for disk in self.one.disks:
            guest.call("qemu-img", "snapshot", "-c", "before the update", disk.path)
        self.host.kill()
        self.host.start()
        self.cim = self.host.pypsrp()
        snapshot = house.only(house.snapshots_of(self.cim, self.machine), "snapshot")
        self.assertEqual("before the update", self.cim.get(snapshot)["ElementName"])
        output = self.cim.invoke(self.service, "DestroySnapshot", AffectedSnapshot=snapshot)
        if output["ReturnValue"] == "4096":
            self.assertEqual("10", self.cim.wait(output["Job"])["JobState"])
        own = house.take(self.cim, "web01")
        house.destroy(self.cim, own)
        for disk in self.one.disks:
            self.assertEqual(["before the update"], disk.tags())

    # -- memory ----------------------------------------------------------------------------------

    def small_disk(self, megabytes, memory, ballast):
        """A host whose snapshots lie on a filesystem of their own."""
        mounted = mounts.Mounted("ext4", megabytes)
        mounted.__enter__()
        self.addCleanup(mounted.__exit__)
        host = guest.Host(directory=None)
        state = host.data / "state"
        state.mkdir(parents=True)
        (state / "snapshots").symlink_to(mounted.path)
        host.add("web01", megabytes=memory, append=f"ballast={ballast}")
        self.begin(host, UserSnapshotType=guest.STANDARD)
        self.one.serial.wait_for("^ballast")
        return mounted

    def test_no_space_for_the_memory(self):
        """Found before anything is done, with sizes."""
        self.small_disk(64, 256, 100)
        self.assertRegex(self.fails(32768), r"(?is)space.*\d")
        self.goes_on()

    def test_the_disk_is_full_in_the_middle(self):
        mounted = self.small_disk(700, 512, 300)
        job = guest.begin(self.cim, self.service, self.machine)
        guest.eventually("it is written", lambda: int(self.cim.get(job)["PercentComplete"]) >= 1, pause=0.002)
        filler = pathlib.Path(mounted.path) / "filler"
        with open(filler, "wb") as file:
            with contextlib.suppress(OSError):
                for step in itertools.count():
                    os.posix_fallocate(file.fileno(), step * 4 * MB, 4 * MB)
        state = self.cim.wait(job)
        filler.unlink()
        self.ended(state, 32768)
        self.assertTrue(state["ErrorDescription"])
        self.goes_on()
        house.take(self.cim, "web01")

    def test_qemu_is_killed_in_the_middle(self):
        self.begin_with_ballast(256)
        job = guest.begin(self.cim, self.service, self.machine)
        guest.eventually("it is written", lambda: int(self.cim.get(job)["PercentComplete"]) >= 1, pause=0.005)
        guest.end(self.host.pid(self.one))
        state = self.cim.wait(job)
        self.assertEqual("10", state["JobState"])
        self.assertIn(state["ErrorCode"], ("32768", "32775", "32777"))
        self.assertTrue(state["ErrorDescription"])
        guest.eventually("the machine is off", lambda: guest.state_of(self.cim, self.machine) == OFF)
        self.assertEqual([], house.snapshots_of(self.cim, self.machine))
        self.assertEqual(({}, [], []), self.host.traces())
        for disk in self.one.disks:
            disk.check()
        self.one.serial.forget()
        guest.change(self.cim, self.machine, RUNNING)
        self.one.serial.wait_for_counts(3)

    def begin_with_ballast(self, ballast):
        host = guest.Host()
        host.add("web01", megabytes=ballast + 128, append=f"ballast={ballast}")
        self.begin(host, UserSnapshotType=guest.STANDARD)
        self.one.serial.wait_for("^ballast")

    def test_two_snapshots_at_once(self):
        """The second waits for the first, and both are whole."""
        self.begin_with_ballast(64)
        jobs = [guest.begin(self.cim, self.service, self.machine) for _ in range(3)]
        for job in jobs:
            state = self.cim.wait(job)
            self.assertEqual("7", state["JobState"], state.get("ErrorDescription"))
        snapshots = house.snapshots_of(self.cim, self.machine)
        self.assertEqual(3, len(snapshots))
        for snapshot in snapshots:
            counters = [disk.counter(guest.tag_of(snapshot)) for disk in self.one.disks]
            self.assertLessEqual(max(counters) - min(counters), 1)
        self.goes_on()

    def test_the_state_changes_before_the_job_gets_to_it(self):
        """Apply is accepted while a machine is saved; a start in between is a queue, not a surprise."""
        self.begin_with_ballast(32)
        snapshot = house.take(self.cim, "web01")
        guest.change(self.cim, self.machine, SAVED)
        start = self.cim.invoke(self.machine, "RequestStateChange", RequestedState=RUNNING)
        self.assertEqual("4096", start["ReturnValue"])
        apply = self.cim.invoke(self.service, "ApplySnapshot", Snapshot=snapshot)
        self.assertEqual("7", self.cim.wait(start["Job"])["JobState"])
        if apply["ReturnValue"] == "4096":
            state = self.cim.wait(apply["Job"])
            self.assertEqual(("10", "32775"), (state["JobState"], state["ErrorCode"]))
        else:
            self.assertEqual("32775", apply["ReturnValue"])
        self.goes_on()


if __name__ == "__main__":
    unittest.main()
