"""What backup programs do (`W2` and `W6` of the snapshot semantics), from pypsrp, step by step.

The steps do not know what the machines run on. `Simulated` runs them on the simulated host; another
back-end derives from `Workflows` and says how its server is started, what a write of the guest is, and
what an export holds. `Files` has no change tracking: it goes as far as a full export, and says so then.
"""

import json
import pathlib
import re
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as ET
from urllib.parse import urlsplit

import house
import server
import wsman
from wsman import CLUSTER, V2, Ref, class_uri

MACHINE, GROUP, GROUP_ID = "web01", "shop", "C0FFEE00-0001-4A59-9F30-9F2B7F1B6A01"
POINT = "Msvm_VirtualSystemReferencePoint"
SCHEMA = "http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2"


def value_of(reference):
    """An object path as text, as Windows writes it into string properties."""
    keys = ",".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\")) for name, value in reference.selectors if name[0] != "_"
    )
    return rf"\\.\root\virtualization\v2:{reference.cls}.{keys}"


def bag(cls, **properties):
    """An embedded instance with properties of any type: (type, value) or a text."""
    root = ET.Element("INSTANCE", CLASSNAME=cls)
    for name, given in properties.items():
        kind, value = given if isinstance(given, tuple) else ("string", given)
        ET.SubElement(ET.SubElement(root, "PROPERTY", NAME=name, TYPE=kind), "VALUE").text = str(value)
    return ET.tostring(root, encoding="unicode")


def export_settings(cim, machine, snapshot, base=None):
    """The export settings of a machine, changed for one of its snapshots, as a text to be sent back."""
    association, result = "Msvm_SystemExportSettingData", "Msvm_VirtualSystemExportSettingData"
    record = house.only(cim.associated(V2, machine, association, result), "export settings")
    return bag(
        record.cls,
        InstanceID=record["InstanceID"],
        CopySnapshotConfiguration=("uint8", 3),
        CopyVmStorage=("boolean", "true"),
        CopyVmRuntimeInformation=("boolean", "false"),
        CreateVmExportSubdirectory=("boolean", "false"),
        SnapshotVirtualSystem=value_of(snapshot),
        DifferentialBackupBase=value_of(base) if base else "",
        BackupIntent=("uint8", 1),
    )


class Backup:
    """The steps, and a server on which they are taken."""

    #: Disks of the machine.
    DISKS = 2
    #: Whether only the changes since a reference point can be exported.
    DIFFERENTIAL = True

    @classmethod
    def begin_server(cls, exports):
        """Starts a server that may export to `exports`; gives a `server.Demo`."""
        raise NotImplementedError

    def guest_writes(self):
        """The guest changes something on its disks."""

    def check_export(self, directory, about):
        """What an export of whole disks holds."""
        for disk in about["disks"]:
            self.assertTrue((directory / disk["file"]).is_file(), disk)

    @classmethod
    def setUpClass(cls):
        cls.place = pathlib.Path(tempfile.mkdtemp(prefix="wsnapd-backup-"))
        cls.addClassCleanup(lambda: server.shutil.rmtree(cls.place, ignore_errors=True))
        cls.exports = cls.place / "exports"
        cls.exports.mkdir()
        cls.demo = cls.begin_server(cls.exports)
        cls.addClassCleanup(cls.demo.close)
        address = urlsplit(cls.demo.https_url)
        send = wsman.PypsrpSend(address.hostname, address.port, cls.demo.user, cls.demo.password, cls.demo.ca)
        cls.cim = wsman.Cim(send, "pypsrp")
        cls.machine = house.machine(cls.cim, MACHINE)
        cls.snapshots = house.service(cls.cim, "Msvm_VirtualSystemSnapshotService")
        cls.management = house.service(cls.cim, "Msvm_VirtualSystemManagementService")
        cls.points = house.service(cls.cim, "Msvm_VirtualSystemReferencePointService")

    def tearDown(self):
        for snapshot in house.snapshots_of(self.cim, self.machine):
            self.cim.run(self.snapshots, "DestroySnapshot", AffectedSnapshot=snapshot)
        for point in self.points_of():
            self.cim.run(self.points, "DestroyReferencePoint", AffectedReferencePoint=point)
        for directory in self.exports.iterdir():
            server.shutil.rmtree(directory)

    # -- the steps -------------------------------------------------------------------------------

    def track(self, machine=None):
        """Backup programs switch incremental backup on before anything else."""
        machine = machine or self.machine
        settings = house.settings_of(self.cim, machine)
        text = bag(
            "Msvm_VirtualSystemSettingData",
            InstanceID=settings["InstanceID"],
            IncrementalBackupEnabled=("boolean", "true"),
        )
        self.cim.run(self.management, "ModifySystemSettings", SystemSettings=text)
        self.assertEqual("true", house.settings_of(self.cim, machine)["IncrementalBackupEnabled"])

    def snapshot(self, level=1):
        """W2.2 to W2.4, W6.3 and W6.4: a recovery snapshot, found as the only one through its job."""
        text = bag(
            "Msvm_VirtualSystemSnapshotSettingData",
            ConsistencyLevel=("uint8", level),
            IgnoreNonSnapshottableDisks=("boolean", "true"),
        )
        output = self.cim.invoke(
            self.snapshots, "CreateSnapshot", AffectedSystem=self.machine, SnapshotSettings=text, SnapshotType=32768
        )
        self.assertEqual(4096, output.number("ReturnValue"))
        job = self.cim.wait(output["Job"])
        self.assertEqual("7", job["JobState"], job.get("ErrorDescription"))
        found = self.cim.associated(V2, output["Job"], None, "CIM_VirtualSystemSettingData", mode="EnumerateEPR")
        return house.only(found, "snapshot")

    def export(self, name, snapshot, base=None):
        """W2.5 and W6.5: the settings of the machine, changed and sent back; gives directory and description."""
        text = export_settings(self.cim, self.machine, snapshot, base)
        directory = self.exports / name
        self.cim.run(
            self.management,
            "ExportSystemDefinition",
            ComputerSystem=self.machine,
            ExportDirectory=str(directory),
            ExportSettingData=text,
        )
        return directory, json.loads((directory / "machine.json").read_text())

    def convert(self, snapshot):
        """W2.6 and W6.5: without settings; the point is the only one of the job."""
        output, _ = self.cim.run(self.snapshots, "ConvertToReferencePoint", AffectedSnapshot=snapshot)
        self.assertNotIn(snapshot, house.snapshots_of(self.cim, self.machine))
        return house.only(house.affected(self.cim, output["Job"], POINT), "reference point")

    def points_of(self):
        association = "Msvm_ReferencePointOfVirtualSystem"
        return self.cim.associated(V2, self.machine, association, POINT, mode="EnumerateEPR")


class Workflows(Backup):
    """The workflows of a back-end that tracks changes; a mixin, so that it is no test of its own."""

    def test_w2_the_sample_of_microsoft(self):
        service = Ref(f"{SCHEMA}/Msvm_VirtualSystemSnapshotSettingData", (("__cimnamespace", V2),))
        definition = self.cim.send(f"{wsman.X}/Get", service.uri, None, service.selectors)
        self.assertIn("ConsistencyLevel", ET.tostring(definition, encoding="unicode"))
        self.track()
        snapshot = self.snapshot()
        directory, about = self.export("full", snapshot)
        self.assertEqual((MACHINE, None), (about["machine"]["name"], about["base"]))
        self.assertEqual(self.DISKS, len(about["disks"]))
        self.check_export(directory, about)
        point = self.convert(snapshot)
        self.assertEqual([point], self.points_of())
        recovery = [
            one
            for one in self.cim.associated(
                V2, self.machine, "Msvm_SnapshotOfVirtualSystem", "CIM_VirtualSystemSettingData"
            )
            if one["VirtualSystemType"] == "Microsoft:Hyper-V:Snapshot:Recovery"
        ]
        self.assertEqual([], recovery)
        self.guest_writes()
        later = self.snapshot(2)
        if self.DIFFERENTIAL:
            directory, about = self.export("changes", later, point)
            self.assertEqual(point.keys["InstanceID"], f"Microsoft:{about['base']}")
            for disk in about["disks"]:
                changes = json.loads((directory / disk["changes"]).read_text())
                self.assertLessEqual(sum(length for _, length in changes["extents"]), changes["length"])
        newer = self.convert(later)
        self.assertEqual([point, newer], self.points_of())
        self.cim.run(self.points, "DestroyReferencePoint", AffectedReferencePoint=point)
        self.assertEqual([newer], self.points_of())

    def test_w6_the_backup_agent(self):
        """The agent reads signed numbers and needs a reference for the job; a missing class ends it."""
        for cls in (
            "Msvm_VirtualSystemSnapshotService",
            "Msvm_VirtualSystemManagementService",
            "Msvm_VirtualSystemReferencePointService",
            "Msvm_VirtualSystemExportSettingData",
            POINT,
        ):
            definition = Ref(f"{SCHEMA}/{cls}", (("__cimnamespace", V2),))
            answer = self.cim.send(f"{wsman.X}/Get", definition.uri, None, definition.selectors)
            self.assertIn(cls, ET.tostring(answer, encoding="unicode"))
        rows = self.cim.query(V2, "SELECT * FROM Msvm_VirtualSystemSnapshotService")
        self.assertEqual("vssnapsvc", rows[0]["Name"])
        self.track()
        snapshot = self.snapshot()
        self.export("full", snapshot)
        point = self.cim.get(self.convert(snapshot))
        disks, changes = point.list("VirtualDiskIdentifiers"), point.list("ResilientChangeTrackingIdentifiers")
        self.assertEqual((self.DISKS, self.DISKS), (len(disks), len(changes)))
        self.assertTrue(all(disks) and all(changes), point.properties)
        self.assertEqual("2", point["ReferencePointType"])

    def test_what_is_refused(self):
        """A directory that is not allowed, and one that is in use, are told by the job in words."""
        snapshot = self.snapshot()
        (self.exports / "theirs").mkdir()
        (self.exports / "theirs" / "file").write_text("theirs")
        for name, words in [("theirs", "not empty"), ("../elsewhere", "without dots"), ("no/parent", "not found")]:
            with self.assertRaisesRegex(AssertionError, words):
                self.export(name, snapshot)
        self.assertEqual(["theirs"], [path.name for path in self.exports.iterdir()])
        self.assertEqual("theirs", (self.exports / "theirs" / "file").read_text())
        self.assertFalse((self.place / "elsewhere").exists())
        kind = 2
        _, job = self.cim.run(self.snapshots, "CreateSnapshot", AffectedSystem=self.machine, SnapshotType=kind)
        path = Ref(class_uri(V2, "Msvm_ConcreteJob"), (("InstanceID", job["InstanceID"]),))
        standard = house.only(house.affected(self.cim, path, "Msvm_VirtualSystemSettingData"), "snapshot")
        output = self.cim.invoke(self.snapshots, "ConvertToReferencePoint", AffectedSnapshot=standard)
        self.assertEqual(32773, output.number("ReturnValue"))

    def test_a_group(self):
        """A recovery collection becomes a collection of reference points, in both namespaces."""
        members = [house.machine(self.cim, name) for name in (MACHINE, "db01")]
        for machine in members:
            self.track(machine)
        for namespace in (V2, CLUSTER):
            service = house.service(self.cim, "Msvm_CollectionSnapshotService", namespace)
            group = wsman.ref(namespace, "Msvm_VirtualSystemCollection", CollectionID=GROUP_ID)
            output, _ = self.cim.run(service, "CreateSnapshot", Collection=group, SnapshotType=2)
            made = house.affected(self.cim, output["Job"], "Msvm_SnapshotCollection", namespace)
            snapshots = house.only(made, "snapshot collection")
            output, _ = self.cim.run(service, "ConvertToReferencePoint", AffectedSnapshotCollection=snapshots)
            made = house.affected(self.cim, output["Job"], "Msvm_ReferencePointCollection", namespace)
            points = house.only(made, "reference point collection")
            found = self.cim.associated(namespace, points, "Msvm_CollectedReferencePoints", POINT)
            self.assertEqual(len(members), len(found))
        collections = house.service(self.cim, "Msvm_CollectionReferencePointService")
        for points in self.cim.references_of_class(V2, "Msvm_ReferencePointCollection"):
            self.cim.run(collections, "DestroyReferencePoint", AffectedReferencePointCollection=points)
        self.assertEqual([], self.cim.references_of_class(V2, POINT))

    def test_the_command_line_shows_them(self):
        self.track()
        demo = self.demo
        connection = ["--url", demo.https_url, "--user", demo.user, "--ca", demo.ca]
        connection += ["--password-file", demo.ready["password_file"]]

        def call(*arguments):
            environment = server.clean_environment(self.place)
            done = subprocess.run(
                [server.BINARY, *arguments, *connection], capture_output=True, text=True, timeout=60, env=environment
            )
            self.assertEqual(0, done.returncode, done.stderr)
            return done.stdout

        snapshot = self.snapshot(2)
        self.assertRegex(call("snapshot", "list", MACHINE), r"(?m)^MACHINE .*REACHED.*$[\s\S]*recovery .*(application|crash)")
        self.convert(snapshot)
        listing = call("reference-point", "list", MACHINE)
        identity = re.search(r"[0-9A-F-]{36}", listing).group()
        self.assertIn("tracked", listing)
        self.assertIn("destroyed", call("reference-point", "destroy", MACHINE, identity))
        self.assertNotIn(identity, call("reference-point", "list"))


class Simulated(Workflows, unittest.TestCase):
    """On the simulated host, whose machines run."""

    @classmethod
    def begin_server(cls, exports):
        demo = server.Demo(cls.place)
        demo.data.mkdir(parents=True)
        ids = []
        for name, disks in ((MACHINE, cls.DISKS), ("db01", 1)):
            paths = [{"name": f"disk{number}", "path": f"../disks/{name}-{number}.img"} for number in range(disks)]
            ids.append(demo.add_machine(name, paths))
        config = server.EMPTY_CONFIG
        config += '[backend]\nkind = "simulated"\n[backend.simulated]\nrunning = ["web01"]\ncreate_ms = 200\n'
        config += f'[[collection]]\nname = "{GROUP}"\nid = "{GROUP_ID}"\nmembers = {json.dumps(ids)}\n'
        config += f"[export]\ndirectories = [{json.dumps(str(exports))}]\n"
        (demo.data / "wsnapd.toml").write_text(config)
        return demo.start()


class Files(Backup, unittest.TestCase):
    """Machines that are off, as files: snapshots for backups and full exports, and no change tracking."""

    @classmethod
    def begin_server(cls, exports):
        demo = server.Demo(cls.place)
        demo.data.mkdir(parents=True)
        paths = [{"name": f"disk{number}", "path": f"../disks/{number}.img"} for number in range(cls.DISKS)]
        demo.add_machine(MACHINE, paths)
        cls.paths = [demo.data / "disks" / f"{number}.img" for number in range(cls.DISKS)]
        for number, path in enumerate(cls.paths):
            server.fill(path, 4 << 20, seed=number)
        config = server.EMPTY_CONFIG + '[backend]\nkind = "files"\n'
        config += f"[export]\ndirectories = [{json.dumps(str(exports))}]\n"
        (demo.data / "wsnapd.toml").write_text(config)
        return demo.start()

    def test_the_workflows_up_to_the_reference_point(self):
        self.track()
        then = server.digests(self.paths)
        snapshot = self.snapshot()
        server.scribble(self.paths)
        self.assertNotEqual(then, server.digests(self.paths))
        directory, about = self.export("full", snapshot)
        self.assertEqual((MACHINE, None), (about["machine"]["name"], about["base"]))
        self.assertEqual(then, server.digests(directory / disk["file"] for disk in about["disks"]))
        output = self.cim.invoke(self.snapshots, "ConvertToReferencePoint", AffectedSnapshot=snapshot)
        self.assertEqual((32770, None), (output.number("ReturnValue"), output.get("Job")))
        self.assertEqual(([snapshot], []), (house.snapshots_of(self.cim, self.machine), self.points_of()))


if __name__ == "__main__":
    unittest.main()
