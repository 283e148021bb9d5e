"""Programs that manage Hyper-V, in the order in which they ask: libvirt's driver, virt-who, a backup client.

The real virsh in Debian is built without the Hyper-V driver and virt-who is not packaged, so `management.py`
speaks for them. A generic CIM browser finds its way from the profiles and from the list of namespaces.
"""

import os
import pathlib
import re
import time
import unittest
import uuid

import guest
import house
import management
import server
import wsman
from guest import OFF, PAUSED, RUNNING, SAVED
from management import CIMV2, Narrow, VirtWho, Virsh
from wsman import V2, class_uri

CARDS = """
[[network]]
name = "lan"
mac = "52:54:00:0a:0B:0c"
bridge = "br-test"

[[network]]
name = "spare"
mac = "52:54:00:0a:0b:0d"
"""


class Asking(unittest.TestCase):
    """What is asked of machines that are off, and of the host."""

    @classmethod
    def setUpClass(cls):
        cls.host = server.Demo()
        cls.addClassCleanup(cls.host.close)
        cls.host.start()
        cls.host.stop()
        definition = cls.host.data / "machines.d" / "web01.toml"
        text = definition.read_text()
        definition.write_text(text.replace("\n\n[[disk]]", "\nprocessors = 3\nmemory_mb = 768\n\n[[disk]]", 1) + CARDS)
        cls.host.start()
        cls.virsh = Virsh(cls.host)
        cls.cim = cls.host.cim()

    def test_connect_and_nodeinfo(self):
        product, system = self.virsh.connect()
        release = pathlib.Path("/proc/sys/kernel/osrelease").read_text()
        self.assertTrue(release.startswith(re.match(r"\d+\.\d+", system["Version"])[0]))
        boot = re.search(r"btime (\d+)", pathlib.Path("/proc/stat").read_text())[1]
        self.assertEqual(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(boot))), system["LastBootUpTime"])
        computer, processors = self.virsh.nodeinfo()
        memory = re.search(r"MemTotal: +(\d+) kB", pathlib.Path("/proc/meminfo").read_text())[1]
        self.assertEqual(int(memory) * 1024, int(computer["TotalPhysicalMemory"]))
        self.assertEqual(memory, system["TotalVisibleMemorySize"])
        self.assertLessEqual(int(system["FreePhysicalMemory"]), int(memory))
        threads = len(re.findall(r"^processor\s*:", pathlib.Path("/proc/cpuinfo").read_text(), re.M))
        self.assertEqual(threads, sum(int(one["NumberOfLogicalProcessors"]) for one in processors))
        self.assertEqual(computer["Name"], processors[0]["SystemName"])
        # What the host does not tell is nil: there is no Windows here.
        self.assertIsNone(system["WindowsDirectory"])
        # The same by the class and by its keys.
        for cls in ("Win32_ComputerSystemProduct", "Win32_OperatingSystem", "Win32_ComputerSystem", "Win32_Processor"):
            for found in self.cim.references_of_class(CIMV2, cls):
                self.assertEqual(cls, self.cim.get(found).cls)
        self.assertIsNotNone(product["UUID"])

    def test_list_and_dominfo(self):
        self.assertEqual({"web01", "db01"}, {one["ElementName"] for one in self.virsh.list()})
        self.assertEqual([], self.virsh.list(active=True))
        self.assertEqual({"web01", "db01"}, {one["ElementName"] for one in self.virsh.list(active=False)})
        self.assertEqual("shut off", self.virsh.domstate("web01"))
        machine, processors, memory, limit = self.virsh.dominfo("web01")
        self.assertEqual((3, 768, 768), (processors, memory, limit))
        by_guid = self.virsh.machines(f"AND Name = '{machine['Name'].lower()}'")
        self.assertEqual(["web01"], [one["ElementName"] for one in by_guid])
        with self.assertRaises(Narrow):
            self.virsh.machine("nobody")

    def test_maxvcpus_and_vcpuinfo(self):
        self.assertEqual(4096, self.virsh.maxvcpus())
        # A machine that is off has no processor that runs.
        self.assertEqual([None] * 3, self.virsh.vcpuinfo("web01"))
        # What stands in the definitions is reached from what can be allocated.
        for cls, quantities in {
            "Msvm_ProcessorSettingData": {"Default": 1, "Minimum": 1, "Maximum": 4096, "Increment": 1},
            "Msvm_MemorySettingData": {"Default": 1024, "Minimum": 1, "Maximum": 1 << 24, "Increment": 1},
        }.items():
            query = f"SELECT * FROM {cls} WHERE InstanceID LIKE 'Microsoft:Definition%'"
            found = {one["InstanceID"].rsplit("\\", 1)[1]: int(one["VirtualQuantity"]) for one in self.virsh.select(query)}
            self.assertEqual(quantities, found)
            identity = self.virsh.select(query)[0]["InstanceID"].rsplit("\\", 1)[0]
            capabilities = wsman.ref(V2, "Msvm_AllocationCapabilities", InstanceID=identity)
            settings = self.cim.associated(V2, capabilities, "Msvm_SettingsDefineCapabilities", mode="EnumerateEPR")
            self.assertEqual([cls] * 4, [one.cls for one in settings])

    def test_dumpxml(self):
        notes, disks, cards, ports = self.virsh.dumpxml("db01")
        self.assertEqual(["The database of the shop, on two disks"], notes)
        files = [str(path) for path in self.host.disks("db01")]
        disks = [(os.path.normpath(file), *place) for file, *place in disks]
        # Drives on a SCSI controller.
        self.assertEqual([(file, 17, 6, place) for place, file in enumerate(files)], disks)
        self.assertEqual(([], []), (cards, ports))
        _, _, cards, _ = self.virsh.dumpxml("web01")
        (address, bridge, switch) = house.only(cards, "connected card")
        self.assertEqual(("5254000A0B0C", "br-test"), (address, bridge))
        found = self.virsh.select("SELECT * FROM Msvm_VirtualEthernetSwitch WHERE HealthState = 5")
        self.assertEqual([switch], [one["Name"] for one in found])
        for condition in (f"Name = '{str(uuid.UUID(switch))}'", "ElementName = 'br-test'"):
            found = self.virsh.select(f"SELECT * FROM Msvm_VirtualEthernetSwitch WHERE {condition}")
            self.assertEqual([switch], [one["Name"] for one in found])
        settings = self.virsh.settings(self.virsh.machine("web01"))
        connections = self.virsh.devices(settings, "Msvm_EthernetPortAllocationSettingData")
        self.assertEqual(["2", "3"], [one["EnabledState"] for one in connections])
        # A class that is known and has no instances is no error.
        self.assertEqual([], self.virsh.select("SELECT * FROM Msvm_ShutdownComponent WHERE SystemName = 'x'"))

    def test_a_snapshot_keeps_the_hardware(self):
        snapshot = house.take(self.cim, "web01")
        self.addCleanup(house.destroy, self.cim, snapshot)
        identity = snapshot.keys["InstanceID"]
        for cls in management.INSISTED:
            if not cls.endswith("SettingData") or cls in ("Msvm_VirtualSystemSettingData", "Msvm_SerialPortSettingData"):
                continue
            records = self.virsh.devices({"InstanceID": identity}, cls)
            self.assertTrue(records, cls)
            for one in records:
                self.assertTrue(one["InstanceID"].startswith(identity + "\\"), one["InstanceID"])
                read = self.cim.get(wsman.ref(V2, cls, InstanceID=one["InstanceID"]))
                self.assertEqual(one["InstanceID"], read["InstanceID"])

    def test_changes(self):
        self.assertEqual(0, self.virsh.autostart("db01", True))
        self.assertEqual("4", self.virsh.settings(self.virsh.machine("db01"))["AutomaticStartupAction"])
        self.assertEqual(0, self.virsh.autostart("db01", False))
        self.assertEqual("2", self.virsh.settings(self.virsh.machine("db01"))["AutomaticStartupAction"])
        # Hardware comes from the definition: what is sent back as it is is taken, a change is not supported.
        self.assertEqual(0, self.virsh.modify("web01", "Msvm_ProcessorSettingData", VirtualQuantity=3))
        self.assertEqual(32770, self.virsh.modify("web01", "Msvm_ProcessorSettingData", VirtualQuantity=4))
        self.assertEqual(32770, self.virsh.modify("web01", "Msvm_MemorySettingData", VirtualQuantity=512))
        text = management.embedded("Msvm_MemorySettingData", InstanceID="Microsoft:x", VirtualQuantity=512)
        body = f"<p:ResourceSettings>{management.escape(text)}</p:ResourceSettings>"
        self.assertEqual(32773, self.virsh.service("ModifyResourceSettings", body))
        for answer in (self.virsh.define("new"), self.virsh.undefine("web01"), self.virsh.attach_disk("web01")):
            self.assertEqual(32770, answer)
        self.assertEqual((3, 768), self.virsh.dominfo("web01")[1:3])
        # The machines of the `files` back-end cannot be started.
        self.assertIn(self.virsh.change("web01", RUNNING), (1, 32770))

    def test_virt_who(self):
        program = VirtWho(self.host)
        empty = program.send.session.post(program.send.url, data=b"", auth=("", ""), timeout=30)
        self.assertEqual(401, empty.status_code)
        self.assertIn("Basic", empty.headers["WWW-Authenticate"])
        host, guests = program.run()
        self.assertEqual((500, ["2150858778"]), program.version_1)
        self.assertEqual(len(self.virsh.nodeinfo()[1]), int(host["NumberOfProcessors"]))
        machines = {uuid.UUID(one["Name"]): one["EnabledState"] for one in self.virsh.list()}
        self.assertEqual(machines, guests)
        with self.assertRaises(wsman.WsmanFault) as caught:
            program.summaries("root/virtualization")
        self.assertEqual(500, caught.exception.status)

    def test_the_backup_client(self):
        text = self.host.requests().post(wsman.identify_envelope()).text
        self.assertRegex(text, r"ProductVersion>OS: (6|10)\.\d+\.\d+ SP: \d+\.\d+ Stack: 3\.0<")
        system = house.only(self.cim.enumerate(class_uri(CIMV2, "Win32_OperatingSystem")), "operating system")
        computer = house.only(self.cim.enumerate(class_uri(CIMV2, "Win32_ComputerSystem")), "computer")
        self.assertEqual(computer["Name"], system["CSName"])
        cls = "Msvm_VirtualSystemSnapshotService"
        selectors = {"Name": "vssnapsvc", "SystemCreationClassName": "Msvm_ComputerSystem", "CreationClassName": cls}
        service = wsman.ref(V2, cls, **selectors)
        name = house.machine(self.cim, "db01").keys["Name"]
        machine = wsman.ref(V2, "Msvm_ComputerSystem", Name=name)
        # Nothing about settings; null arguments are nil.
        output = self.cim.invoke(service, "CreateSnapshot", AffectedSystem=machine, SnapshotType=2, ResultingSnapshot=None)
        self.assertLessEqual(set(output.properties), {"ReturnValue", "ResultingSnapshot", "Job"})
        self.assertEqual("4096", output["ReturnValue"])
        job = self.cim.wait(output["Job"], pause=0.1)
        self.assertEqual("7", job["JobState"])
        self.assertTrue(job.list("StatusDescriptions"))
        active = self.cim.get(wsman.ref(V2, "Msvm_VirtualSystemSettingData", InstanceID=f"Microsoft:{name.upper()}"))
        identity = re.search(r'InstanceID="(Microsoft:.{36})"$', active["Parent"])[1]
        manager = wsman.ref(V2, "Msvm_VirtualSystemManagementService", CreationClassName="Msvm_VirtualSystemManagementService")
        text = (
            '<INSTANCE CLASSNAME="Msvm_VirtualSystemSettingData"><PROPERTY NAME="Caption" TYPE="string"></PROPERTY>'
            f'<PROPERTY NAME="InstanceID" TYPE="string"><VALUE>{identity}</VALUE></PROPERTY>'
            '<PROPERTY NAME="ElementName" TYPE="string"><VALUE>restore point</VALUE></PROPERTY>'
            '<PROPERTY.ARRAY NAME="Notes" TYPE="string"><VALUE.ARRAY><VALUE>by a backup</VALUE></VALUE.ARRAY></PROPERTY.ARRAY>'
            '<PROPERTY NAME="LockOnDisconnect" TYPE="boolean"></PROPERTY></INSTANCE>'
        )
        self.assertEqual("0", self.cim.invoke(manager, "ModifySystemSettings", SystemSettings=text)["ReturnValue"])
        snapshot = wsman.ref(V2, "Msvm_VirtualSystemSettingData", InstanceID=identity)
        read = self.cim.get(snapshot)
        self.assertEqual(("restore point", ["by a backup"]), (read["ElementName"], read.list("Notes")))
        text = (
            f"ASSOCIATORS OF {{Msvm_VirtualSystemSettingData.InstanceID='{identity}'}} WHERE AssocClass = "
            "Msvm_VirtualSystemSettingDataComponent ResultClass = Msvm_StorageAllocationSettingData "
            "ResultRole = PartComponent Role = GroupComponent"
        )
        self.assertEqual(2, len(self.cim.query(V2, text)))
        output, _ = self.cim.run(service, "DestroySnapshot", AffectedSnapshot=snapshot)
        self.assertEqual([], house.snapshots_of(self.cim, house.machine(self.cim, "db01")))

    def test_fog(self):
        uri = class_uri(V2, "*")
        items = self.virsh.query(uri, 'SELECT Name FROM Msvm_ComputerSystem WHERE Caption = "Hosting Computer System"')
        self.assertEqual(["XmlFragment"], [wsman.local(item) for item in items])
        items = self.virsh.query(uri, "SELECT ElementName,Name FROM Msvm_VirtualEthernetSwitch")
        self.assertEqual(["br-test"], [item[0].text for item in items])
        items = self.virsh.query(class_uri(CIMV2, "*"), "SELECT Version FROM Win32_OperatingSystem")
        self.assertEqual(1, len(items))
        with self.assertRaises(wsman.WsmanFault):
            self.virsh.query(class_uri("root/mscluster", "*"), "SELECT Name FROM MSCluster_ResourceGroup")


class PassThrough(unittest.TestCase):
    def test_a_disk_of_the_host_is_shown(self):
        host = server.Demo()
        self.addCleanup(host.close)
        disks = [{"name": "system", "path": "../disks/raw01.img"}, {"name": "raw", "path": "/dev/null", "pass_through": True}]
        host.add_machine("raw01", disks)
        server.fill(host.data / "disks" / "raw01.img", 1 << 20)
        with host:
            virsh = Virsh(host)
            self.assertEqual([("/dev/null", 0, 1)], virsh.physical_disks("raw01"))
            _, images, _, _ = virsh.dumpxml("raw01")
            self.assertEqual([str(host.data / "disks" / "raw01.img")], [os.path.normpath(image[0]) for image in images])


class Browsing(unittest.TestCase):
    """A generic CIM browser."""

    @classmethod
    def setUpClass(cls):
        cls.host = server.Demo()
        cls.addClassCleanup(cls.host.close)
        cls.host.start()
        cls.cim = cls.host.cim()

    def test_from_the_root_to_every_namespace(self):
        found, names = [], ["root"]
        while names:
            name = names.pop()
            found.append(name)
            below = self.cim.enumerate(class_uri(name, "__NAMESPACE"))
            names += [f"{name}/{one['Name']}" for one in below]
        for name in (V2, wsman.CLUSTER, wsman.STORAGE, CIMV2, "root/interop", "root/omi"):
            self.assertIn(name, found)
        self.assertEqual(len(set(found)), len(found))
        one = self.cim.get(wsman.ref("root", "__NAMESPACE", Name="CIMV2"))
        self.assertEqual("cimv2", one["Name"])

    def test_from_the_profiles_to_the_machines(self):
        profiles = {}
        for found in self.cim.references_of_class("root/interop", "CIM_RegisteredProfile"):
            profiles[self.cim.get(found)["RegisteredName"]] = found
        self.assertEqual({"System Virtualization", "Virtual System"}, set(profiles))
        central, namespaces = {}, set()
        for name, profile in profiles.items():
            elements = self.cim.associated(
                "root/interop", profile, "CIM_ElementConformsToProfile", result_role="ManagedElement", mode="EnumerateEPR"
            )
            central[name] = sorted(self.cim.get(one)["ElementName"] for one in elements)
            # The ends lie in the two namespaces of virtual machines.
            namespaces |= {one.uri.removeprefix(wsman.WMI).rsplit("/", 1)[0] for one in elements}
            objects = self.cim.associated(
                "root/interop", profile, "CIM_ElementConformsToProfile", result_role="ManagedElement"
            )
            self.assertEqual(central[name], sorted(one["ElementName"] for one in objects))
        self.assertEqual(["db01", "db01", "web01", "web01"], central["Virtual System"])
        self.assertEqual(2, len(central["System Virtualization"]))
        self.assertEqual({V2, wsman.CLUSTER}, namespaces)
        # From the profile of the host to the one it builds on.
        builds_on = self.cim.associated(
            "root/interop", profiles["System Virtualization"], "CIM_ReferencedProfile", result_role="Antecedent"
        )
        self.assertEqual(["Virtual System"], [one["RegisteredName"] for one in builds_on])
        # On from a machine: its settings and their devices.
        machine = house.machine(self.cim, "db01")
        settings = house.settings_of(self.cim, machine)
        reference = wsman.ref(V2, settings.cls, InstanceID=settings["InstanceID"])
        devices = self.cim.associated(V2, reference, "CIM_VirtualSystemSettingDataComponent", mode="EnumerateEPR")
        kinds = sorted({one.cls for one in devices})
        wanted = ["Memory", "Processor", "ResourceAllocation", "StorageAllocation"]
        self.assertEqual([f"Msvm_{kind}SettingData" for kind in wanted], kinds)
        for one in devices:
            back = self.cim.associated(V2, one, "CIM_VirtualSystemSettingDataComponent", mode="EnumerateEPR")
            self.assertEqual([reference], back)


class Running(unittest.TestCase):
    """The commands that change a machine, with a guest that runs."""

    def test_the_life_of_a_machine(self):
        host = guest.Host()
        self.addCleanup(host.close)
        one = host.add("web01")
        definition = host.data / "guests" / "web01.toml"
        definition.write_text(definition.read_text() + CARDS.replace('bridge = "br-test"\n', ""))
        host.start()
        virsh = Virsh(host)
        virsh.connect()
        self.assertEqual("shut off", virsh.domstate("web01"))
        self.assertEqual(0, virsh.change("web01", RUNNING))
        one.serial.wait_for_counts(2)
        machine = house.only(virsh.list(active=True), "active machine")
        (before,) = virsh.vcpuinfo("web01")
        # To start and to count takes time on the processor, more and more of it.
        self.assertGreater(before, 0)
        one.serial.wait_for_counts(4)
        self.assertGreater(virsh.vcpuinfo("web01")[0], before)
        self.assertEqual(str(host.pid(one)), machine["ProcessID"])
        by_number = virsh.machines(f"AND ProcessID = {host.pid(one)}")
        self.assertEqual(["web01"], [found["ElementName"] for found in by_number])
        _, disks, cards, ports = virsh.dumpxml("web01")
        self.assertEqual([str(disk.path) for disk in one.disks], [disk[0] for disk in disks])
        self.assertEqual(([], [("COM 1", str(one.serial.path))]), (cards, ports))
        with one.monitor() as monitor:
            devices = {device["qdev_id"] for bus in monitor.execute("query-pci") for device in bus["devices"]}
            self.assertLessEqual({"nic0", "nic1"}, devices)
        self.assertEqual(0, virsh.change("web01", PAUSED))
        self.assertEqual("paused", virsh.domstate("web01"))
        self.assertEqual(0, virsh.change("web01", RUNNING))
        self.assertEqual("running", virsh.domstate("web01"))
        self.assertEqual(0, virsh.change("web01", SAVED))
        self.assertEqual("saved", virsh.domstate("web01"))
        self.assertIsNone(virsh.machine("web01")["ProcessID"])
        self.assertEqual(0, virsh.change("web01", RUNNING))
        one.serial.wait_for_counts(2)
        # VirtWho sees the same.
        _, guests = VirtWho(host).run()
        self.assertEqual({uuid.UUID(one.id): str(RUNNING)}, guests)
        self.assertEqual(0, virsh.change("web01", OFF))
        self.assertEqual("shut off", virsh.domstate("web01"))
        self.assertEqual([], virsh.list(active=True))
        with self.assertRaises(Narrow):
            virsh.shutdown("web01")
        host.stop()


if __name__ == "__main__":
    unittest.main()
