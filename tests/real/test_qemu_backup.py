"""What backup programs do (`W2` and `W6` of the snapshot semantics), from pypsrp, on guests that run under QEMU.

The steps are those of `test_backup.py`. Here the guest itself writes on its disks, and each export is compared with
what the disks held at the instant of its snapshot.
"""

import json
import pathlib
import tempfile
import time
import unittest

import guest
import house
import server
import test_backup
from guest import OFF, RUNNING, SAVED
from test_backup import MACHINE


class Running(test_backup.Workflows, unittest.TestCase):
    """Two machines that run, with agents in their guests."""

    @classmethod
    def begin_server(cls, exports):
        # Sockets lie deep below it, and the name of a socket has 107 bytes at most.
        directory = tempfile.mkdtemp(prefix="q-")
        cls.addClassCleanup(lambda: server.shutil.rmtree(directory, ignore_errors=True))
        cls.host = guest.Host(settings=f"[export]\ndirectories = [{json.dumps(str(exports))}]", directory=directory)
        cls.one = cls.host.add(MACHINE)
        cls.other = cls.host.add("db01")
        cls.host.collections.append({
            "name": test_backup.GROUP, "id": test_backup.GROUP_ID, "members": [cls.one.id, cls.other.id]
        })
        return cls.host.start()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for one in (cls.one, cls.other):
            guest.change(cls.cim, house.machine(cls.cim, one.name), RUNNING)
        for one in (cls.one, cls.other):
            one.serial.wait_for_counts(3)

    def tearDown(self):
        for one in (self.one, self.other):
            one.serial.require_sound()
        super().tearDown()
        self.assertEqual(({}, [], []), self.host.traces())
        self.assertEqual([], [path for path in self.host.data.rglob("wsnapd-*") if path.suffix != ".toml"])
        for one in (self.one, self.other):
            self.assertEqual([], self.bitmaps(one))

    def guest_writes(self):
        self.one.serial.wait_for_counts(3)

    def bitmaps(self, one):
        """The names of the dirty bitmaps of a machine that runs."""
        with one.monitor() as monitor:
            drives = monitor.execute("query-block")
        return [bitmap["name"] for drive in drives for bitmap in drive["inserted"].get("dirty-bitmaps", [])]

    def then(self, snapshot):
        """What each disk held at the instant of a snapshot."""
        with tempfile.TemporaryDirectory() as directory:
            raws = [disk.raw(directory, guest.tag_of(snapshot)) for disk in self.one.disks]
            return [raw.read_bytes() for raw in raws]

    def content(self, path):
        """What an exported disk holds, as a guest would see it."""
        guest.call("qemu-img", "check", path)
        with tempfile.TemporaryDirectory() as directory:
            raw = pathlib.Path(directory) / "raw"
            guest.call("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
            return raw.read_bytes()

    def test_a_chain_of_backups_restores_each_instant(self):
        """A full export and three of what changed: laid one over the other they are the disks of each instant."""
        self.track()
        snapshot = self.snapshot()
        then = self.then(snapshot)
        directory, about = self.export("0", snapshot)
        restored = [self.content(directory / disk["file"]) for disk in about["disks"]]
        self.assertTrue(restored == then)
        point = self.convert(snapshot)
        for number, ends in ((1, None), (2, OFF), (3, SAVED)):
            self.guest_writes()
            if ends is not None:
                # The bitmaps outlive the process of the machine.
                guest.change(self.cim, self.machine, ends)
                guest.change(self.cim, self.machine, RUNNING)
                self.guest_writes()
            # The agent of a guest that has just booted may not be there yet.
            snapshot = self.snapshot(1 if ends is None else 2)
            then = self.then(snapshot)
            self.guest_writes()
            self.assertFalse(restored == then)
            directory, about = self.export(str(number), snapshot, point)
            for index, disk in enumerate(about["disks"]):
                changes = json.loads((directory / disk["changes"]).read_text())
                changed = self.content(directory / disk["file"])
                self.assertEqual((len(changed), len(changed)), (changes["length"], len(restored[index])))
                self.assertLess(sum(length for _, length in changes["extents"]), changes["length"] // 2)
                whole = bytearray(restored[index])
                for offset, length in changes["extents"]:
                    whole[offset : offset + length] = changed[offset : offset + length]
                restored[index] = bytes(whole)
                self.assertTrue(restored[index] == then[index], f"disk {index} of backup {number}")
            newer = self.convert(snapshot)
            self.cim.run(self.points, "DestroyReferencePoint", AffectedReferencePoint=point)
            point = newer
        self.assertEqual([point], self.points_of())

    def test_the_point_begins_in_the_pause_of_the_snapshot(self):
        """The guest counts without end: what its disks held then and what has changed since are all there is."""
        self.track()
        first = self.snapshot()
        before = self.then(first)
        point = self.convert(first)
        later = self.snapshot()
        after = self.then(later)
        directory, about = self.export("changes", later, point)
        for index, disk in enumerate(about["disks"]):
            changes = json.loads((directory / disk["changes"]).read_text())["extents"]
            for offset in range(0, len(before[index]), 4096):
                if before[index][offset : offset + 4096] != after[index][offset : offset + 4096]:
                    self.assertTrue(any(at <= offset < at + length for at, length in changes), offset)

    def test_qemu_killed(self):
        """After that nothing about changes is known, and the server says so; a new chain can begin."""
        self.track()
        snapshot = self.snapshot()
        point = self.convert(snapshot)
        kept = self.snapshot()
        guest.end(self.host.pid(self.one))
        guest.eventually("the machine is off", lambda: guest.state_of(self.cim, self.machine) == OFF)
        guest.change(self.cim, self.machine, RUNNING)
        self.assertEqual([False], [one["valid"] for one in self.host.records("reference_point")])
        self.one.serial.forget()
        self.guest_writes()
        later = self.snapshot(2)
        with self.assertRaisesRegex(AssertionError, "a full export is needed"):
            self.export("changes", later, point)
        with self.assertRaises(AssertionError):
            self.convert(kept)
        self.assertEqual([], list(self.exports.iterdir()))
        self.export("full", later)
        self.convert(later)

    def test_the_server_killed(self):
        """Points and their bitmaps stay; what was under way is finished or undone, and nothing is left of it."""
        self.track()
        point = self.convert(self.snapshot())
        for delay in (0.0, 0.05, 0.15, 0.3):
            guest.begin(self.cim, self.snapshots, self.machine, 32768, ConsistencyLevel=2)
            time.sleep(delay)
            self.restart()
            for snapshot in house.snapshots_of(self.cim, self.machine):
                self.convert(snapshot)
            self.assertIn(point, self.points_of())
            wanted = sorted(f"wsnapd-{one['snapshot']}" for one in self.host.records("reference_point"))
            self.assertEqual(wanted, sorted(set(self.bitmaps(self.one))))
        self.guest_writes()
        snapshot = self.snapshot()
        job = self.begin_export("changes", snapshot, point)
        time.sleep(0.1)
        self.restart()
        self.assertIn([path.name for path in self.exports.iterdir()], ([], ["changes"]))
        server.shutil.rmtree(self.exports / "changes", ignore_errors=True)
        self.assertIn(self.cim.wait(job)["JobState"], ("7", "10"))
        self.export("again", snapshot, point)
        self.guest_writes()

    def begin_export(self, name, snapshot, base):
        text = test_backup.export_settings(self.cim, self.machine, snapshot, base)
        output = self.cim.invoke(
            self.management,
            "ExportSystemDefinition",
            ComputerSystem=self.machine,
            ExportDirectory=str(self.exports / name),
            ExportSettingData=text,
        )
        return output["Job"]

    def restart(self):
        """Kills the server and starts it again; the machines go on."""
        self.host.kill()
        self.host.start()
        type(self).cim = self.host.pypsrp()

    def test_applying_ends_the_tracking(self):
        self.track()
        guest.set_up(self.cim, self.machine, UserSnapshotType=guest.STANDARD)
        standard = house.take(self.cim, MACHINE)
        point = self.convert(self.snapshot())
        guest.change(self.cim, self.machine, OFF)
        house.apply(self.cim, standard)
        guest.change(self.cim, self.machine, RUNNING)
        self.one.serial.forget()
        self.guest_writes()
        later = self.snapshot()
        with self.assertRaisesRegex(AssertionError, "a full export is needed"):
            self.export("changes", later, point)
        guest.set_up(self.cim, self.machine, UserSnapshotType=guest.PRODUCTION)


class Raw(unittest.TestCase):
    """A raw disk lies in layers; an export of it is whole, also when the machine has gone on meanwhile."""

    def test_export(self):
        host = guest.Host(overlay_raw_disks=True)
        self.addCleanup(host.close)
        exports = host.data / "exports"
        exports.mkdir(parents=True)
        host.settings = f"[export]\ndirectories = [{json.dumps(str(exports))}]"
        raw = host.data / "disks" / "raw.img"
        server.fill(raw, 4 << 20)
        one = host.add(MACHINE, [{"name": "raw", "path": raw, "format": "raw"}])
        host.start()
        cim = host.pypsrp()
        machine = house.machine(cim, MACHINE)
        guest.set_up(cim, machine, UserSnapshotType=guest.STANDARD)
        then = server.digest(raw)
        for name, state in (("off", OFF), ("running", RUNNING)):
            if state == RUNNING:
                guest.change(cim, machine, RUNNING)
                one.serial.wait_for_counts(2)
            snapshot = house.take(cim, MACHINE, SnapshotType=32768)
            self.assertEqual(3, len(host.record(snapshot)["disks"]))
            text = test_backup.export_settings(cim, machine, snapshot)
            cim.run(
                house.service(cim, "Msvm_VirtualSystemManagementService"),
                "ExportSystemDefinition",
                ComputerSystem=machine,
                ExportDirectory=str(exports / name),
                ExportSettingData=text,
            )
            self.assertEqual(then, server.digest(exports / name / "raw.raw"))
        guest.change(cim, machine, OFF)
        host.stop()


if __name__ == "__main__":
    unittest.main()
