"""`CreateSnapshot` on each of the four classes with each client library, proved by the bytes of the disks."""

import re
import unittest

import house
import server
import wsman
from wsman import CLUSTER, STORAGE, V2


class Cycles:
    """What is done to each class, on the server `demo`."""

    def machine_cycle(self, cim, cls, namespace, name="db01"):
        """Create, find, change the disks, apply, destroy."""
        disks = self.demo.disks(name)
        self.assertTrue(disks)
        target = house.machine(cim, name, namespace)
        service = house.service(cim, cls, namespace)
        before = server.digests(disks)
        label = f"{cim.name} and <{cls}>"
        output = cim.invoke(
            service,
            "CreateSnapshot",
            AffectedSystem=target,
            SnapshotSettings=wsman.settings(ElementName=label),
            SnapshotType=2,
        )
        self.assertIn(output.number("ReturnValue"), (0, 4096))
        if output.number("ReturnValue") == 4096:
            self.assertIsNone(output.get("ResultingSnapshot"))
            job = output["Job"]
            self.assertRegex(job.keys["InstanceID"], r"^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$")
            done = cim.wait(job)
            self.assertEqual("7", done["JobState"], done.properties)
            self.assertEqual(("0", "100"), (done["ErrorCode"], done["PercentComplete"]))
            self.assertEqual(["17", "2"], done.list("OperationalStatus"))
            self.assertEqual("", done["ErrorDescription"])
            snapshot = house.only(
                house.affected(cim, job, "Msvm_VirtualSystemSettingData", namespace), "snapshot of the job"
            )
            machines = house.affected(cim, job, "Msvm_ComputerSystem", namespace)
            self.assertEqual([target.keys["Name"]], [one.keys["Name"] for one in machines])
        else:
            snapshot = output["ResultingSnapshot"]
        record = cim.get(snapshot)
        self.assertEqual(label, record["ElementName"])
        self.assertEqual("Microsoft:Hyper-V:Snapshot:Realized", record["VirtualSystemType"])
        self.assertEqual(target.keys["Name"], record["VirtualSystemIdentifier"])
        self.assertIn(snapshot, house.snapshots_of(cim, target, namespace))
        self.assertEqual([snapshot], house.current_of(cim, target, namespace))
        active = house.settings_of(cim, target, namespace)
        self.assertIn(snapshot.keys["InstanceID"], active["Parent"])
        # The snapshot files hold the disks of that instant.
        guid = snapshot.keys["InstanceID"].removeprefix("Microsoft:")
        files = [path for path in self.demo.snapshot_files() if guid in str(path)]
        self.assertEqual(sorted(before), sorted(server.digests(files)))

        server.scribble(disks)
        changed = server.digests(disks)
        self.assertTrue(all(old != new for old, new in zip(before, changed, strict=True)))
        self.assertEqual(sorted(before), sorted(server.digests(files)), "the snapshot changed with the disk")

        output = cim.invoke(service, "ApplySnapshot", Snapshot=snapshot)
        self.assertEqual("4096", output["ReturnValue"])
        self.assertEqual("7", cim.wait(output["Job"])["JobState"])
        self.assertEqual(before, server.digests(disks), "the disks are not those of the snapshot")
        self.assertEqual([snapshot], house.current_of(cim, target, namespace))
        if namespace == V2:
            applied = cim.associated(
                V2, target, "Msvm_LastAppliedSnapshot", "Msvm_VirtualSystemSettingData", mode="EnumerateEPR"
            )
            self.assertEqual([snapshot], applied)

        server.scribble(disks)
        changed = server.digests(disks)
        _, _ = cim.run(service, "DestroySnapshot", AffectedSnapshot=snapshot)
        self.assertEqual(changed, server.digests(disks), "destroying a snapshot touched the disks")
        self.assertNotIn(snapshot, house.snapshots_of(cim, target, namespace))
        self.assertFalse([path for path in self.demo.snapshot_files() if guid in str(path)])
        self.assertEqual([], self.demo.leftovers())
        with self.assertRaises(wsman.WsmanFault):
            cim.get(snapshot)

    def group_cycle(self, cim):
        names = ["web01", "db01"]
        disks = [disk for name in names for disk in self.demo.disks(name)]
        self.assertEqual(3, len(disks))
        shop = house.collection(cim, "shop")
        service = house.service(cim, "Msvm_CollectionSnapshotService")
        before = server.digests(disks)
        output = cim.invoke(service, "CreateSnapshot", Collection=shop, SnapshotSettings="", SnapshotType=1)
        self.assertEqual("4096", output["ReturnValue"])
        self.assertEqual("7", cim.wait(output["Job"])["JobState"])
        group = house.only(house.affected(cim, output["Job"], "Msvm_SnapshotCollection"), "snapshot collection")
        members = cim.associated(
            V2, group, "Msvm_CollectedSnapshots", "Msvm_VirtualSystemSettingData", mode="EnumerateEPR"
        )
        self.assertEqual(2, len(members))
        machines = {cim.get(member)["VirtualSystemIdentifier"] for member in members}
        self.assertEqual({house.machine(cim, name).keys["Name"] for name in names}, machines)
        of_group = cim.associated(
            V2, shop, "Msvm_SnapshotOfVirtualSystemCollection", "Msvm_SnapshotCollection", mode="EnumerateEPR"
        )
        self.assertIn(group, of_group)

        server.scribble(disks)
        self.assertNotEqual(before, server.digests(disks))
        cim.run(service, "ApplySnapshot", SnapshotCollection=group)
        self.assertEqual(before, server.digests(disks), "the disks are not those of the group snapshot")

        cim.run(service, "DestroySnapshot", AffectedSnapshotCollection=group)
        self.assertEqual([], self.demo.snapshot_files())
        self.assertEqual([], self.demo.leftovers())
        for name in names:
            self.assertEqual([], house.snapshots_of(cim, house.machine(cim, name)))
        with self.assertRaises(wsman.WsmanFault):
            cim.get(group)

    def volume_cycle(self, cim):
        source = self.demo.data / "pool1" / "vol1"
        target = house.volume(cim, "vol1")
        before, known = server.digest(source), set((self.demo.data / "pool1").iterdir())
        label = f"vol1-by-{cim.name}"
        output = cim.invoke(target, "CreateSnapshot", ElementName=label)
        self.assertIn(output.number("ReturnValue"), (0, 4096), output.properties)
        made = output["TargetStorageVolume"]
        self.assertIsInstance(made, wsman.Ref)
        if output.number("ReturnValue") == 4096:
            done = cim.wait(output["Job"])
            self.assertEqual("7", done["JobState"], done.properties)
            found = cim.associated(
                STORAGE, output["Job"], "MSFT_SMJobToStorageVolume", "MSFT_SMStorageVolume", mode="EnumerateEPR"
            )
            self.assertIn(made, found)
            found = cim.associators_of(
                STORAGE, output["Job"], "MSFT_SMJobToStorageVolume", "MSFT_SMStorageVolume", mode="EnumerateEPR"
            )
            self.assertIn(made, found)
        else:
            self.assertIsNone(output.get("Job"))
        instance = cim.get(made)
        self.assertEqual("true", instance["IsSnapshot"])
        self.assertIn(instance["Usage"], ("8", "12"))
        self.assertEqual(label, instance["DisplayName"])
        pairs = cim.associated(
            STORAGE, target, "MSFT_SMStorageSynchronized", "MSFT_SMStorageVolume", mode="EnumerateEPR"
        )
        self.assertIn(made, pairs)
        new = house.only(sorted(set((self.demo.data / "pool1").iterdir()) - known), "new file in the pool")
        self.assertEqual(before, server.digest(new))
        server.scribble([source])
        self.assertNotEqual(before, server.digest(source))
        self.assertEqual(before, server.digest(new), "the snapshot changed with its source")
        again = cim.invoke(made, "CreateSnapshot", ElementName="snapshot of a snapshot")
        self.assertEqual("40304", again["ReturnValue"])


class FourClasses(Cycles, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.demo = server.Demo()
        cls.addClassCleanup(cls.demo.close)
        cls.demo.start()
        cls.clients = {client.name: client for client in cls.demo.clients()}


def _cases():
    """One test for each client and class."""
    for client in ("pypsrp", "pywinrm", "requests", "curl"):
        for cls, namespace in house.MACHINE_SERVICES:

            def test(self, client=client, cls=cls, namespace=namespace):
                self.machine_cycle(self.clients[client], cls, namespace)

            where = "cluster" if namespace == CLUSTER else "host"
            yield f"test_{client}_{cls}_{where}", test
        yield f"test_{client}_collection", lambda self, client=client: self.group_cycle(self.clients[client])
        yield f"test_{client}_volume", lambda self, client=client: self.volume_cycle(self.clients[client])


for _name, _test in _cases():
    setattr(FourClasses, re.sub(r"\W", "_", _name), _test)

if __name__ == "__main__":
    unittest.main()
