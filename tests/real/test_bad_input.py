"""Bad input that needs a live server: each gets its return code, its fault, or a job in state 10 that
names the disk, the step and the cause, and nothing half-made stays."""

import fcntl
import os
import subprocess
import time
import unittest

import house
import mounts
import server
import wsman
from wsman import STORAGE, V2, ref

GONE = "00000000-1111-2222-3333-444444444444"
MB = 1 << 20


class Refused(unittest.TestCase):
    """What is refused at once."""

    @classmethod
    def setUpClass(cls):
        cls.demo = server.Demo()
        cls.addClassCleanup(cls.demo.close)
        for name in ("passing", "locked"):
            server.fill(cls.demo.data / "pool1" / name, MB)
        cls.demo.start()
        cls.cim = cls.demo.cim()
        cls.service = house.service(cls.cim, "Msvm_VirtualSystemSnapshotService")
        cls.groups = house.service(cls.cim, "Msvm_CollectionSnapshotService")
        cls.web01 = house.machine(cls.cim, "web01")
        cls.shop = house.collection(cls.cim, "shop")

    def tearDown(self):
        self.assertEqual([], self.demo.snapshot_files())
        self.assertEqual([], self.demo.leftovers())

    def returns(self, code, target, method, **arguments):
        output = self.cim.invoke(target, method, **arguments)
        self.assertEqual(str(code), output["ReturnValue"], arguments)
        self.assertIsNone(output.get("Job"), arguments)
        self.assertIsNone(output.get("ResultingSnapshot"), arguments)

    def faults(self, subcode, call):
        with self.assertRaises(wsman.WsmanFault) as caught:
            call()
        self.assertEqual((500, subcode), (caught.exception.status, caught.exception.subcode), caught.exception)

    def test_machine_that_is_gone(self):
        gone = ref(V2, "Msvm_ComputerSystem", CreationClassName="Msvm_ComputerSystem", Name=GONE)
        for system in [
            gone,
            ref(V2, "Msvm_VirtualSystemSettingData", InstanceID=f"Microsoft:{GONE}"),
            self.web01.with_uri(wsman.class_uri("root/cimv2", "Msvm_ComputerSystem")),
            self.shop,
            None,
        ]:
            self.returns(32773, self.service, "CreateSnapshot", AffectedSystem=system, SnapshotType=2)
        self.returns(32773, self.service, "CreateSnapshot", SnapshotType=2)
        self.faults("DestinationUnreachable", lambda: self.cim.get(gone))
        self.faults("DestinationUnreachable", lambda: self.cim.invoke(gone, "RequestStateChange", RequestedState=2))

    def test_snapshot_that_is_gone(self):
        snapshot = house.take(self.cim, "web01")
        house.destroy(self.cim, snapshot)
        for one in [snapshot, ref(V2, "Msvm_VirtualSystemSettingData", InstanceID=f"Microsoft:{GONE}"), self.web01]:
            self.returns(32773, self.service, "ApplySnapshot", Snapshot=one)
            self.returns(32773, self.service, "DestroySnapshot", AffectedSnapshot=one)
            self.returns(32773, self.service, "DestroySnapshotTree", SnapshotSettingData=one)
            self.returns(32773, self.service, "ClearSnapshotState", SnapshotSettingData=one)

    def test_the_active_settings_are_no_snapshot(self):
        active = ref(V2, "Msvm_VirtualSystemSettingData", InstanceID=f"Microsoft:{self.web01.keys['Name']}")
        self.assertEqual("Microsoft:Hyper-V:System:Realized", self.cim.get(active)["VirtualSystemType"])
        self.returns(32773, self.service, "ApplySnapshot", Snapshot=active)
        self.returns(32773, self.service, "DestroySnapshot", AffectedSnapshot=active)

    def test_collection_that_is_gone(self):
        gone = ref(V2, "Msvm_VirtualSystemCollection", CollectionID=GONE)
        for collection in (gone, self.web01, None):
            self.returns(32773, self.groups, "CreateSnapshot", Collection=collection, SnapshotType=1)
        gone = ref(V2, "Msvm_SnapshotCollection", CollectionID=GONE)
        self.returns(32773, self.groups, "ApplySnapshot", SnapshotCollection=gone)
        self.returns(32773, self.groups, "DestroySnapshot", AffectedSnapshotCollection=gone)

    def test_pool_and_volume_that_are_gone(self):
        vol1 = house.volume(self.cim, "vol1")
        before = sorted((self.demo.data / "pool1").iterdir())
        output = self.cim.invoke(vol1, "CreateSnapshot", TargetPool=ref(STORAGE, "MSFT_SMPool", ObjectId=GONE))
        self.assertEqual("5", output["ReturnValue"])
        self.assertIsNone(output.get("Job"))
        self.assertIsNotNone(output.get("ExtendedStatus"))
        gone = ref(STORAGE, "MSFT_SMStorageVolume", ObjectId=GONE)
        self.faults("DestinationUnreachable", lambda: self.cim.invoke(gone, "CreateSnapshot"))
        self.assertEqual(before, sorted((self.demo.data / "pool1").iterdir()))

    def test_a_volume_removed_behind_our_back(self):
        path = self.demo.data / "pool1" / "passing"
        target = house.volume(self.cim, "passing")
        path.unlink()
        self.faults("DestinationUnreachable", lambda: self.cim.invoke(target, "CreateSnapshot"))
        self.assertEqual([], self.demo.leftovers())

    def test_a_locked_volume(self):
        path = self.demo.data / "pool1" / "locked"
        target = house.volume(self.cim, "locked")
        with open(path, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            output = self.cim.invoke(target, "CreateSnapshot")
        self.assertEqual("40304", output["ReturnValue"])

    def test_bad_names_of_volumes(self):
        vol1 = house.volume(self.cim, "vol1")
        before = sorted((self.demo.data / "pool1").iterdir())
        for name in ("../escape", "a/b", ".hidden", "..", "x" * 300, "nul\u0085"):
            output = self.cim.invoke(vol1, "CreateSnapshot", ElementName=name)
            value = output.number("ReturnValue")
            # Refused, or taken as a display name only: never a file outside the pool.
            self.assertIn(value, (0, 5, 4096), name)
            if value == 4096:
                self.assertEqual("7", self.cim.wait(output["Job"])["JobState"], name)
        self.assertFalse((self.demo.data / "escape").exists())
        for path in set((self.demo.data / "pool1").iterdir()) - set(before):
            self.assertTrue(path.is_file())
            path.unlink()

    def test_job_that_is_gone(self):
        job = ref(V2, "Msvm_ConcreteJob", InstanceID=GONE)
        self.faults("DestinationUnreachable", lambda: self.cim.get(job))
        self.faults("DestinationUnreachable", lambda: self.cim.invoke(job, "RequestStateChange", RequestedState=4))

    def test_snapshot_types(self):
        for kind in (0, 1, 4, 2000, 32767, 32769, 65535):
            self.returns(6, self.service, "CreateSnapshot", AffectedSystem=self.web01, SnapshotType=kind)
        for kind in (0, 3, 32768):
            self.returns(6, self.groups, "CreateSnapshot", Collection=self.shop, SnapshotType=kind)

    def test_settings(self):
        for text in [
            "no settings",
            "<INSTANCE",
            "<INSTANCE CLASSNAME='Msvm_NoSuchClass'></INSTANCE>",
            wsman.settings("Msvm_VirtualSystemSnapshotSettingData", ConsistencyLevel=9),
            '<INSTANCE CLASSNAME="Msvm_VirtualSystemSnapshotSettingData"><PROPERTY NAME="ConsistencyLevel" '
            'TYPE="uint8"><VALUE>many</VALUE></PROPERTY></INSTANCE>',
            "instance of Msvm_VirtualSystemSettingData { ElementName = ; };",
            '<!DOCTYPE x [<!ENTITY a "b">]><INSTANCE CLASSNAME="CIM_SettingData"></INSTANCE>',
        ]:
            self.returns(
                32773,
                self.service,
                "CreateSnapshot",
                AffectedSystem=self.web01,
                SnapshotSettings=text,
                SnapshotType=2,
            )

    def test_requests_that_are_wrong_in_themselves(self):
        create = {"AffectedSystem": self.web01, "SnapshotType": 2}
        for subcode, call in [
            ("ActionNotSupported", lambda: self.cim.invoke(self.service, "MakeSnapshot", **create)),
            ("DestinationUnreachable", lambda: self.cim.enumerate(wsman.class_uri(V2, "Msvm_NoSuchClass"))),
            ("DestinationUnreachable", lambda: self.cim.enumerate(wsman.class_uri("root/none", "Msvm_ComputerSystem"))),
            ("InvalidSelectors", lambda: self.cim.get(ref(V2, "Msvm_ConcreteJob", Colour="red"))),
        ]:
            self.faults(subcode, call)
        for arguments in [{**create, "SnapshotType": "two"}, {**create, "Colour": "red"}]:
            with self.assertRaises(wsman.WsmanFault) as caught:
                self.cim.invoke(self.service, "CreateSnapshot", **arguments)
            self.assertEqual(500, caught.exception.status)

    def test_machine_in_the_wrong_state(self):
        """Machines of files are always off; starting one is what this back-end can never do."""
        output = self.cim.invoke(self.web01, "RequestStateChange", RequestedState=2)
        self.assertEqual("32770", output["ReturnValue"])
        output = self.cim.invoke(self.web01, "RequestStateChange", RequestedState=54321)
        self.assertEqual("32773", output["ReturnValue"])


class WrongState(unittest.TestCase):
    """Machines that run, on the simulated back-end."""

    def test_a_running_machine_takes_no_apply(self):
        demo = server.Demo()
        self.addCleanup(demo.close)
        demo.data.mkdir(parents=True)
        (demo.data / "wsnapd.toml").write_text(server.EMPTY_CONFIG + '[backend]\nkind = "simulated"\n')
        demo.add_machine("vm1", [{"name": "system", "path": "/nowhere/vm1.img"}])
        with demo:
            cim = demo.cim()
            vm1 = house.machine(cim, "vm1")
            service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
            snapshot = house.take(cim, "vm1")
            cim.run(vm1, "RequestStateChange", RequestedState=2)
            self.assertEqual("2", cim.get(vm1)["EnabledState"])
            output = cim.invoke(service, "ApplySnapshot", Snapshot=snapshot)
            self.assertEqual("32775", output["ReturnValue"])
            self.assertIsNone(output.get("Job"))
            cim.run(vm1, "RequestStateChange", RequestedState=3)
            house.apply(cim, snapshot)


class Failing(unittest.TestCase):
    """Jobs that end in state 10 and say why."""

    def fails(self, cim, code, words, target, method, **arguments):
        """The call makes a job; the job ends in 10 with the code and a text with all the words."""
        output = cim.invoke(target, method, **arguments)
        self.assertEqual("4096", output["ReturnValue"])
        job = cim.wait(output["Job"])
        self.assertEqual("10", job["JobState"], job.properties)
        text = job["ErrorDescription"]
        self.assertEqual(str(code), job["ErrorCode"], text)
        for word in words:
            self.assertIn(word, text)
        self.assertTrue(job["ErrorSummaryDescription"])
        self.assertEqual("6", job.list("OperationalStatus")[0])
        error = cim.invoke(output["Job"], "GetErrorEx")
        self.assertEqual("0", error["ReturnValue"])
        self.assertIn("Msvm_Error", "".join(error.list("Errors")))
        return text

    def demo_with(self, *machines):
        demo = server.Demo()
        self.addCleanup(demo.close)
        for name, disks in machines:
            demo.add_machine(name, disks)
            for disk in disks:
                if disk.get("made", True) and not str(disk["path"]).startswith("/dev/"):
                    server.fill(demo.data / "machines.d" / disk["path"], 2 * MB)
        return demo

    def nothing_stays(self, demo, kept=()):
        self.assertEqual(sorted(kept), demo.snapshot_files())
        self.assertEqual([], demo.leftovers())
        if not kept:
            self.assertEqual([], list((demo.state() / "snapshots").iterdir()))

    def test_disks_that_cannot_be_snapshotted(self):
        good = {"name": "system", "path": "../disks/good.img"}
        demo = self.demo_with(
            ("ro01", [good, {"name": "media", "path": "../disks/media.img", "read_only": True}]),
            ("pt01", [{**good, "path": "../disks/good2.img"}, {"name": "raw", "path": "/dev/null", "pass_through": True}]),
        )
        with demo:
            cim = demo.cim()
            service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
            for name, disk in [("ro01", "media"), ("pt01", "raw")]:
                target = house.machine(cim, name)
                self.fails(cim, 32770, [disk], service, "CreateSnapshot", AffectedSystem=target, SnapshotType=2)
                self.nothing_stays(demo)
                self.assertEqual([], house.snapshots_of(cim, target))
                text = wsman.settings("Msvm_VirtualSystemSnapshotSettingData", IgnoreNonSnapshottableDisks=True)
                snapshot = house.take(cim, name, SnapshotSettings=text)
                self.assertEqual([server.digest(demo.disks(name)[0])], server.digests(demo.snapshot_files()))
                house.destroy(cim, snapshot)
                self.nothing_stays(demo)

    def test_a_disk_that_is_missing(self):
        demo = self.demo_with(("m1", [{"name": "system", "path": "../disks/m1.img"}, {"name": "data", "path": "../disks/m1-data.img"}]))
        with demo:
            cim = demo.cim()
            service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
            target = house.machine(cim, "m1")
            missing = demo.disks("m1")[1]
            missing.rename(missing.with_suffix(".away"))
            words = ["data", missing.name, "not found"]
            self.fails(cim, 32777, words, service, "CreateSnapshot", AffectedSystem=target, SnapshotType=2)
            self.nothing_stays(demo)
            missing.mkdir()
            self.fails(cim, 32770, ["data"], service, "CreateSnapshot", AffectedSystem=target, SnapshotType=2)
            self.nothing_stays(demo)
            missing.rmdir()
            missing.with_suffix(".away").rename(missing)
            snapshot = house.take(cim, "m1")
            self.assertEqual(sorted(server.digests(demo.disks("m1"))), sorted(server.digests(demo.snapshot_files())))
            house.destroy(cim, snapshot)

    def test_a_disk_locked_by_another_process(self):
        demo = self.demo_with(("m1", [{"name": "system", "path": "../disks/m1.img"}, {"name": "data", "path": "../disks/m1-data.img"}]))
        with demo:
            cim = demo.cim()
            service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
            target, disk = house.machine(cim, "m1"), demo.disks("m1")[1]
            snapshot = house.take(cim, "m1")
            kept = demo.snapshot_files()
            before = server.digests(demo.disks("m1"))
            with open(disk, "r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX)
                words = ["data", "locked"]
                self.fails(cim, 32775, words, service, "CreateSnapshot", AffectedSystem=target, SnapshotType=2)
                self.nothing_stays(demo, kept)
                self.fails(cim, 32775, words, service, "ApplySnapshot", Snapshot=snapshot)
                self.nothing_stays(demo, kept)
            self.assertEqual(before, server.digests(demo.disks("m1")))
            house.apply(cim, snapshot)

    def test_a_group_is_all_or_nothing(self):
        with self.demo_with() as demo:
            cim = demo.cim()
            groups, shop = house.service(cim, "Msvm_CollectionSnapshotService"), house.collection(cim, "shop")
            with open(demo.disks("db01")[1], "r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX)
                self.fails(cim, 32775, ["data"], groups, "CreateSnapshot", Collection=shop, SnapshotType=1)
            self.nothing_stays(demo)
            for name in ("web01", "db01"):
                self.assertEqual([], house.snapshots_of(cim, house.machine(cim, name)))
            self.assertEqual([], cim.enumerate(wsman.class_uri(V2, "Msvm_SnapshotCollection")))

    def test_a_snapshot_file_that_is_gone(self):
        with self.demo_with() as demo:
            cim = demo.cim()
            service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
            snapshot = house.take(cim, "db01")
            before = server.digests(demo.disks("db01"))
            files = demo.snapshot_files()
            self.assertEqual(2, len(files))
            files[1].unlink()
            self.fails(cim, 32779, ["not found"], service, "ApplySnapshot", Snapshot=snapshot)
            self.assertEqual(before, server.digests(demo.disks("db01")))
            self.nothing_stays(demo, files[:1])
            # Deleting is always possible.
            house.destroy(cim, snapshot)
            self.nothing_stays(demo)

    def test_no_space(self):
        with mounts.Mounted("tmpfs", 96) as mounted:
            demo = server.Demo(mounted.path)
            try:
                demo.add_machine("big", [{"name": "small", "path": "../disks/s.img"}, {"name": "huge", "path": "../disks/b.img"}])
                server.fill(demo.data / "disks" / "s.img", MB)
                server.fill(demo.data / "disks" / "b.img", 30 * MB)
                server.fill(demo.data / "pool1" / "wide", 35 * MB)
                with demo:
                    cim = demo.cim()
                    service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
                    words = ["huge", "space", "bytes"]
                    target = house.machine(cim, "big")
                    self.fails(cim, 32768, words, service, "CreateSnapshot", AffectedSystem=target, SnapshotType=2)
                    self.nothing_stays(demo)
                    before = sorted((demo.data / "pool1").iterdir())
                    output = cim.invoke(house.volume(cim, "wide"), "CreateSnapshot", ElementName="copy")
                    self.assertEqual("4", output["ReturnValue"])
                    self.assertIsNone(output.get("Job"))
                    self.assertIn("space", str(output.get("ExtendedStatus")))
                    self.assertEqual(before, sorted((demo.data / "pool1").iterdir()))
                    # Smaller ones still fit.
                    house.destroy(cim, house.take(cim, "web01"))
            finally:
                demo.close()

    def test_space_that_runs_out_on_the_way(self):
        with mounts.Mounted("ext4", 1536) as mounted:
            demo = server.Demo(mounted.path)
            try:
                demo.add_machine("big", [{"name": "system", "path": "../disks/b.img"}])
                server.fill(demo.data / "disks" / "b.img", 600 * MB)
                with demo:
                    cim = demo.cim()
                    service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
                    target = house.machine(cim, "big")
                    output = cim.invoke(service, "CreateSnapshot", AffectedSystem=target, SnapshotType=2)
                    deadline = time.monotonic() + 60
                    while not demo.leftovers() and time.monotonic() < deadline:
                        time.sleep(0.002)
                    with open(mounted.path / "ballast", "wb") as ballast:
                        free = os.statvfs(mounted.path)
                        os.posix_fallocate(ballast.fileno(), 0, (free.f_bavail - 1024) * free.f_frsize)
                        job = cim.wait(output["Job"])
                    self.assertEqual(("10", "32768"), (job["JobState"], job["ErrorCode"]), job.properties)
                    self.assertIn("system", job["ErrorDescription"])
                    self.assertIn("space", job["ErrorDescription"].lower())
                    self.nothing_stays(demo)
                    os.unlink(mounted.path / "ballast")
                    house.destroy(cim, house.take(cim, "big"))
            finally:
                demo.close()


class Qcow2(unittest.TestCase):
    """Disks in qcow2, with QEMU's own tools as witnesses."""

    def test_a_disk_in_qcow2(self):
        demo = server.Demo()
        self.addCleanup(demo.close)
        disk = demo.data / "disks" / "q.qcow2"
        disk.parent.mkdir(parents=True)
        mounts.call("qemu-img", "create", "-q", "-f", "qcow2", disk, "64M")
        mounts.call("qemu-io", "-c", "write -P 0x11 0 4M", disk)
        demo.add_machine("q1", [{"name": "system", "path": "../disks/q.qcow2", "format": "qcow2"}])
        with demo:
            cim = demo.cim()
            service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
            snapshot = house.take(cim, "q1")
            (file,) = demo.snapshot_files()
            mounts.call("qemu-img", "check", "-q", file)
            mounts.call("qemu-img", "compare", "-q", file, disk)
            mounts.call("qemu-io", "-c", "write -P 0x22 1M 2M", disk)
            with self.assertRaises(AssertionError):
                mounts.call("qemu-img", "compare", "-q", file, disk)
            # A hypervisor that has the disk open keeps us away from it.
            socket = demo.directory / "nbd.sock"
            holder = subprocess.Popen(
                ["qemu-nbd", "--persistent", "--format=qcow2", f"--socket={socket}", str(disk)],
                stdin=subprocess.DEVNULL,
            )
            try:
                deadline = time.monotonic() + 20
                while not socket.exists() and time.monotonic() < deadline:
                    time.sleep(0.02)
                output = cim.invoke(service, "ApplySnapshot", Snapshot=snapshot)
                job = cim.wait(output["Job"])
                self.assertEqual(("10", "32775"), (job["JobState"], job["ErrorCode"]))
                self.assertIn("system", job["ErrorDescription"])
            finally:
                holder.terminate()
                holder.wait(20)
            house.apply(cim, snapshot)
            mounts.call("qemu-img", "check", "-q", disk)
            mounts.call("qemu-img", "compare", "-q", file, disk)
            mounts.call("qemu-io", "-c", "read -P 0x11 0 4M", disk)


if __name__ == "__main__":
    unittest.main()
