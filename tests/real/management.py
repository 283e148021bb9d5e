"""Programs that manage Hyper-V hosts, as far as they speak: libvirt's driver and virt-who.

Each sends what the real one sends and is as narrow as the real one in what it takes: one instance from a
PullResponse, elements by their literal prefix, every scalar property of a class or nothing.
"""

import re
import time
import uuid
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape

import wsman
from wsman import V2, A, N, S, W, class_uri, local

CIMV2 = "root/cimv2"
#: Number types with the letters of the table below.
LIMITS = {"1": 8, "2": 16, "4": 32, "8": 64}
COMMON = (
    "InstanceID Caption Description ElementName ResourceType:2 OtherResourceType ResourceSubType PoolID "
    "ConsumerVisibility:2 HostResource[] AllocationUnits VirtualQuantity:8 Reservation:8 Limit:8 Weight:4 "
    "AutomaticAllocation:b AutomaticDeallocation:b Parent Connection[] Address MappingBehavior:2 AddressOnParent "
    "VirtualQuantityUnits "
)
ELEMENT = (
    "InstanceID Caption Description ElementName InstallDate:d OperationalStatus[] StatusDescriptions[] Status "
    "HealthState:2 CommunicationStatus:2 DetailedStatus:2 OperatingStatus:2 PrimaryStatus:2 EnabledState:2 "
    "OtherEnabledState RequestedState:2 EnabledDefault:2 TimeOfLastStateChange:d AvailableRequestedStates[] "
    "TransitioningToState:2 CreationClassName "
)
PORT = "DesiredVLANEndpointMode:2 OtherEndpointMode "
#: What is counted of a virtual processor, each a number of eight bytes.
COUNTED = (
    "Frequency_Object Frequency_PerfTime Frequency_Sys100NS Timestamp_Object Timestamp_PerfTime Timestamp_Sys100NS "
    "AddressDomainFlushesPersec AddressSpaceEvictionsPersec AddressSpaceFlushesPersec "
    "AddressSpaceSwitchesPersec APICEOIAccessesPersec APICIPIsSentPersec APICMMIOAccessesPersec "
    "APICSelfIPIsSentPersec APICTPRAccessesPersec ControlRegisterAccessesCost "
    "ControlRegisterAccessesPersec CPUIDInstructionsCost CPUIDInstructionsPersec CPUWaitTimePerDispatch "
    "CPUWaitTimePerDispatch_Base DebugRegisterAccessesCost DebugRegisterAccessesPersec "
    "EmulatedInstructionsCost EmulatedInstructionsPersec ExternalInterruptsCost ExternalInterruptsPersec "
    "GlobalGVARangeFlushesPersec GPASpaceHypercallsPersec GuestPageTableMapsPersec "
    "HardwareInterruptsPersec HLTInstructionsCost HLTInstructionsPersec HypercallsCost HypercallsPersec "
    "IOInstructionsCost IOInstructionsPersec IOInterceptMessagesPersec LargePageTLBFillsPersec "
    "LocalFlushedGVARangesPersec LogicalProcessorDispatchesPersec LogicalProcessorHypercallsPersec "
    "LogicalProcessorMigrationsPersec LongSpinWaitHypercallsPersec MemoryInterceptMessagesPersec "
    "MSRAccessesCost MSRAccessesPersec MWAITInstructionsCost MWAITInstructionsPersec "
    "NestedPageFaultInterceptsCost NestedPageFaultInterceptsPersec OtherHypercallsPersec "
    "OtherInterceptsCost OtherInterceptsPersec OtherMessagesPersec PageFaultInterceptsCost "
    "PageFaultInterceptsPersec PageInvalidationsCost PageInvalidationsPersec PageTableAllocationsPersec "
    "PageTableEvictionsPersec PageTableReclamationsPersec PageTableResetsPersec "
    "PageTableValidationsPersec PageTableWriteInterceptsPersec PendingInterruptsCost "
    "PendingInterruptsPersec PercentGuestRunTime PercentHypervisorRunTime PercentRemoteRunTime "
    "PercentTotalRunTime ReflectedGuestPageFaultsPersec SmallPageTLBFillsPersec "
    "SyntheticInterruptHypercallsPersec SyntheticInterruptsPersec TotalInterceptsCost "
    "TotalInterceptsPersec TotalMessagesPersec VirtualInterruptHypercallsPersec VirtualInterruptsPersec "
    "VirtualProcessorHypercallsPersec "
)
VIRTUAL_PROCESSOR = "Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor"
#: What libvirt's driver insists on, class by class: `[]` marks arrays, a letter the type (none: string).
INSISTED = {
    "Win32_ComputerSystemProduct": "Caption Description IdentifyingNumber Name SKUNumber UUID Vendor Version",
    "Win32_OperatingSystem": (
        "BootDevice BuildNumber BuildType Caption CodeSet CountryCode CreationClassName CSCreationClassName CSDVersion "
        "CSName CurrentTimeZone:s2 DataExecutionPrevention_Available:b DataExecutionPrevention_32BitApplications:b "
        "DataExecutionPrevention_Drivers:b DataExecutionPrevention_SupportPolicy:1 Debug:b Description Distributed:b "
        "EncryptionLevel:4 ForegroundApplicationBoost:1 FreePhysicalMemory:8 FreeSpaceInPagingFiles:8 "
        "FreeVirtualMemory:8 InstallDate:d LargeSystemCache:4 LastBootUpTime:d LocalDateTime:d Locale Manufacturer "
        "MaxNumberOfProcesses:4 MaxProcessMemorySize:8 MUILanguages[] Name NumberOfLicensedUsers:4 NumberOfProcesses:4 "
        "NumberOfUsers:4 OperatingSystemSKU:4 Organization OSArchitecture OSLanguage:4 OSProductSuite:4 OSType:2 "
        "OtherTypeDescription PAEEnabled:b PlusProductID PlusVersionNumber Primary:b ProductType:4 RegisteredUser "
        "SerialNumber ServicePackMajorVersion:2 ServicePackMinorVersion:2 SizeStoredInPagingFiles:8 Status SuiteMask:4 "
        "SystemDevice SystemDirectory SystemDrive TotalSwapSpaceSize:8 TotalVirtualMemorySize:8 "
        "TotalVisibleMemorySize:8 Version WindowsDirectory"
    ),
    "Win32_ComputerSystem": (
        "AdminPasswordStatus:2 AutomaticManagedPagefile:b AutomaticResetBootOption:b AutomaticResetCapability:b "
        "BootOptionOnLimit:2 BootOptionOnWatchDog:2 BootROMSupported:b BootupState Caption ChassisBootupState:2 "
        "CreationClassName CurrentTimeZone:s2 DaylightInEffect:b Description DNSHostName Domain DomainRole:2 "
        "EnableDaylightSavingsTime:b FrontPanelResetStatus:2 InfraredSupported:b InstallDate:d "
        "KeyboardPasswordStatus:2 LastLoadInfo Manufacturer Model Name NameFormat NetworkServerModeEnabled:b "
        "NumberOfLogicalProcessors:4 NumberOfProcessors:4 OEMLogoBitmap[] OEMStringArray[] PartOfDomain:b "
        "PauseAfterReset:s8 PCSystemType:2 PowerManagementCapabilities[] PowerManagementSupported:b "
        "PowerOnPasswordStatus:2 PowerState:2 PowerSupplyState:2 PrimaryOwnerContact PrimaryOwnerName "
        "ResetCapability:2 ResetCount:s2 ResetLimit:s2 Roles[] Status SupportContactDescription[] "
        "SystemStartupDelay:2 SystemStartupOptions[] SystemStartupSetting:1 SystemType ThermalState:2 "
        "TotalPhysicalMemory:8 UserName WakeUpType:2 Workgroup"
    ),
    "Win32_Processor": (
        "AddressWidth:2 Architecture:2 Availability:2 Caption ConfigManagerErrorCode:4 ConfigManagerUserConfig:b "
        "CpuStatus:2 CreationClassName CurrentClockSpeed:4 CurrentVoltage:2 DataWidth:2 Description DeviceID "
        "ErrorCleared:b ErrorDescription ExtClock:4 Family:2 InstallDate:d L2CacheSize:4 L2CacheSpeed:4 L3CacheSize:4 "
        "L3CacheSpeed:4 LastErrorCode:4 Level:2 LoadPercentage:2 Manufacturer MaxClockSpeed:4 Name NumberOfCores:4 "
        "NumberOfLogicalProcessors:4 OtherFamilyDescription PNPDeviceID PowerManagementCapabilities[] "
        "PowerManagementSupported:b ProcessorId ProcessorType:2 Revision:2 Role SocketDesignation Status StatusInfo:2 "
        "Stepping SystemCreationClassName SystemName UniqueId UpgradeMethod:2 Version VoltageCaps:4"
    ),
    VIRTUAL_PROCESSOR: "Caption Description Name " + " ".join(f"{name}:8" for name in COUNTED.split()),
    "Msvm_ProcessorSettingData": COMMON
    + "LimitCPUID:b LimitProcessorFeatures:b MaxProcessorsPerNumaNode:8 MaxNumaNodesPerSocket:8",
    "Msvm_MemorySettingData": COMMON
    + "DynamicMemoryEnabled:b TargetMemoryBuffer:4 IsVirtualized:b SwapFilesInUse:b MaxMemoryBlocksPerNumaNode:8",
    "Msvm_ResourceAllocationSettingData": COMMON + "VirtualSystemIdentifiers[]",
    "Msvm_StorageAllocationSettingData": COMMON
    + "VirtualResourceBlockSize:8 Access:2 HostResourceBlockSize:8 HostExtentStartingAddress:8 HostExtentName "
    "HostExtentNameFormat:2 OtherHostExtentNameFormat HostExtentNameNamespace:2 OtherHostExtentNameNamespace "
    "IOPSLimit:8 IOPSReservation:8 IOPSAllocationUnits PersistentReservationsSupported:b",
    "Msvm_SyntheticEthernetPortSettingData": COMMON
    + PORT
    + "VirtualSystemIdentifiers[] StaticMacAddress:b ClusterMonitored:b",
    "Msvm_EthernetPortAllocationSettingData": COMMON
    + PORT
    + "EnabledState:2 RequiredFeatures[] RequiredFeatureHints[] TestReplicaPoolID TestReplicaSwitchName",
    "Msvm_SerialPortSettingData": COMMON + "VirtualSystemIdentifiers[] DebuggerMode:b",
    "Msvm_VirtualEthernetSwitch": ELEMENT
    + "Name PrimaryOwnerName PrimaryOwnerContact Roles[] NameFormat OtherIdentifyingInfo[] IdentifyingDescriptions[] "
    "Dedicated[] OtherDedicatedDescriptions[] ResetCapability:2 PowerManagementCapabilities[] MaxVMQOffloads:4 "
    "MaxIOVOffloads:4",
    "Msvm_ShutdownComponent": ELEMENT
    + "Name SystemCreationClassName SystemName DeviceID PowerManagementSupported:b PowerManagementCapabilities[] "
    "Availability:2 StatusInfo:2 LastErrorCode:4 ErrorDescription ErrorCleared:b OtherIdentifyingInfo[] PowerOnHours:8 "
    "TotalPowerOnHours:8 IdentifyingDescriptions[] AdditionalAvailability[] MaxQuiesceTime:8",
    "Msvm_DiskDrive": ELEMENT
    + "Name SystemCreationClassName SystemName DeviceID PowerManagementSupported:b PowerManagementCapabilities[] "
    "Availability:2 StatusInfo:2 LastErrorCode:4 ErrorDescription ErrorCleared:b OtherIdentifyingInfo[] PowerOnHours:8 "
    "TotalPowerOnHours:8 IdentifyingDescriptions[] AdditionalAvailability[] MaxQuiesceTime:8 Capabilities[] "
    "CapabilityDescriptions[] ErrorMethodology CompressionMethod NumberOfMediaSupported:4 MaxMediaSize:8 "
    "DefaultBlockSize:8 MaxBlockSize:8 MinBlockSize:8 NeedsCleaning:b MediaIsLocked:b Security:2 LastCleaned:d "
    "MaxAccessTime:8 UncompressedDataRate:4 LoadTime:8 UnloadTime:8 MountCount:8 TimeOfLastMount:d TotalMountTime:8 "
    "UnitsDescription MaxUnitsBeforeCleaning:8 UnitsUsed:8 DriveNumber:4",
    "Msvm_ComputerSystem": ELEMENT + "Name ProcessID:4 OnTimeInMilliseconds:8 ResetCapability:2 NumberOfNumaNodes:2",
    "Msvm_ConcreteJob": "InstanceID Caption JobState:2 ErrorCode:2 ErrorDescription ErrorSummaryDescription "
    "PercentComplete:2 OperationalStatus[] StatusDescriptions[] Name",
    "Msvm_VirtualSystemSettingData": "InstanceID ElementName Notes[] AutomaticStartupAction:2 VirtualSystemIdentifier "
    "VirtualSystemType Parent CreationTime:d BIOSGUID ConfigurationID",
}


class Narrow(Exception):
    """What the real program could not have read."""


def take_instance(element):
    """An instance as libwsman's decoder takes it: any scalar that is missing or is no value is the end of it."""
    cls = local(element)
    canonical = class_uri(CIMV2 if cls.startswith("Win32_") else V2, cls)
    if element.tag != f"{{{canonical}}}{cls}":
        raise Narrow(f"{element.tag} instead of {canonical}")
    found = {}
    for child in element:
        found.setdefault(local(child), []).append(child)
    values = {}
    for part in INSISTED[cls].split():
        name, _, kind = part.partition(":")
        array = name.endswith("[]")
        name = name.removesuffix("[]")
        given = found.get(name, [])
        nil = [child.get(f"{{{wsman.XSI}}}nil") == "true" for child in given]
        if array:
            if any(nil):
                raise Narrow(f"{cls}.{name}: a nil element is read as one NULL string")
            values[name] = [wsman.read_value(child) for child in given]
            continue
        if len(given) != 1:
            raise Narrow(f"handling of element {name} of {cls} failed: {len(given)} times")
        value = None if nil[0] else wsman.read_value(given[0])
        if kind == "b" and value not in ("true", "false", None):
            raise Narrow(f"{cls}.{name} is no boolean: {value}")
        if kind.lstrip("s") in LIMITS and value is not None:
            bits = LIMITS[kind.lstrip("s")]
            low, high = (-(1 << bits - 1), 1 << bits - 1) if kind.startswith("s") else (0, 1 << bits)
            if not low <= int(value) < high:
                raise Narrow(f"{cls}.{name} is beyond its type: {value}")
        values[name] = value
    return wsman.Instance(cls, values)


class Raw:
    """Envelopes in the form of libwsman, over HTTP Basic."""

    def __init__(self, host, url=None):
        self.send = host.requests(url or host.http_url)

    def call(self, action, uri, body, selectors=()):
        keys = "".join(f'<w:Selector Name="{name}">{escape(value)}</w:Selector>' for name, value in selectors)
        keys = keys and f"<w:SelectorSet>{keys}</w:SelectorSet>"
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{S}" xmlns:a="{A}" xmlns:n="{N}" xmlns:w="{W}">'
            f'<s:Header><a:Action s:mustUnderstand="true">{action}</a:Action><a:To s:mustUnderstand="true">'
            f'{self.send.url}</a:To><w:ResourceURI s:mustUnderstand="true">{uri}</w:ResourceURI>'
            f'<a:MessageID s:mustUnderstand="true">uuid:{uuid.uuid4()}</a:MessageID><a:ReplyTo><a:Address>'
            f"{wsman.ANONYMOUS}</a:Address></a:ReplyTo>{keys}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
        )
        answer = self.send.post(text)
        if answer.status_code not in (200, 400, 500):
            raise Narrow(f"HTTP {answer.status_code} hides the fault")
        self.text = answer.content.decode()
        return wsman.read_answer(answer.content, answer.status_code)

    def query(self, uri, text, pull_uri=None, mode="", dialect=wsman.WQL):
        """The items, each by a Pull of its own."""
        mode = mode and f"<w:EnumerationMode>{mode}</w:EnumerationMode>"
        body = f'<n:Enumerate>{mode}<w:Filter Dialect="{dialect}">{escape(text)}</w:Filter></n:Enumerate>'
        answer = self.call(f"{N}/Enumerate", uri, body)[0]
        if local(answer[0]) != "EnumerationContext" or not answer[0].text:
            raise Narrow("the first child is no context")
        context, items = answer[0].text, []
        while context:
            pull = f"<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext></n:Pull>"
            answer = self.call(f"{N}/Pull", pull_uri or uri, pull)[0]
            found = answer.find(f"{{{N}}}Items")
            if found is None:
                raise Narrow("Could not lookup pull response items")
            if len(found) > 1:
                raise Narrow("several instances in a PullResponse: the rest would be lost")
            items += list(found)
            context = answer.findtext(f"{{{N}}}EnumerationContext")
        return items


class Virsh(Raw):
    """libvirt's Hyper-V driver: each method is a command of virsh."""

    def select(self, text, namespace=V2, cls=None):
        uri = class_uri(namespace, "*")
        items = self.query(uri, text, class_uri(namespace, cls) if cls else None)
        return [take_instance(item) for item in items]

    def connect(self):
        product = self.select("SELECT * FROM Win32_ComputerSystemProduct ", CIMV2)[0]
        uuid.UUID(product["UUID"])
        system = self.select("SELECT * FROM Win32_OperatingSystem ", CIMV2)[0]
        numbers = [int(number) for number in system["Version"].split(".")]
        if len(numbers) != 3 or max(numbers[1:]) > 999:
            raise Narrow(f"version {system['Version']}")
        return product, system

    def machines(self, condition=""):
        return self.select(f"SELECT * FROM Msvm_ComputerSystem WHERE Name != __SERVER {condition}")

    def list(self, active=None):
        if active is None:
            return self.machines()
        if active:
            return self.machines("AND (EnabledState != 0 and EnabledState != 3 and EnabledState != 32769) ")
        return self.machines("AND (EnabledState = 0 or EnabledState = 3 or EnabledState = 32769) ")

    def machine(self, name):
        found = self.machines(f"AND ElementName = '{name}'")
        if len(found) != 1:
            raise Narrow(f"No domain with name {name}")
        return found[0]

    def nodeinfo(self):
        system = self.select("SELECT * FROM Win32_ComputerSystem ", CIMV2)[0]
        text = (
            f"ASSOCIATORS OF {{Win32_ComputerSystem.Name='{system['Name']}'}} "
            "WHERE AssocClass = Win32_ComputerSystemProcessor ResultClass = Win32_Processor"
        )
        processors = self.select(text, CIMV2)
        if not processors or not all(int(one["NumberOfCores"]) for one in processors):
            raise Narrow("no processors")
        return system, processors

    def settings(self, machine):
        """The active settings. The driver writes names in lower case."""
        name = machine["Name"].lower()
        text = (
            f"ASSOCIATORS OF {{Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{name}'}} "
            "WHERE AssocClass = Msvm_SettingsDefineState ResultClass = Msvm_VirtualSystemSettingData"
        )
        return self.select(text)[0]

    def devices(self, settings, cls):
        text = (
            f"ASSOCIATORS OF {{Msvm_VirtualSystemSettingData.InstanceID='{settings['InstanceID']}'}} "
            f"WHERE AssocClass = Msvm_VirtualSystemSettingDataComponent ResultClass = {cls}"
        )
        items = self.query(class_uri(V2, "*"), text, class_uri(V2, cls))
        # The decoder takes what it expects and overlooks the rest of a derived class.
        return [take_instance(item) for item in items if local(item) in (cls, "Msvm_SerialPortSettingData")]

    def dominfo(self, name):
        machine = self.machine(name)
        settings = self.settings(machine)
        processor = self.devices(settings, "Msvm_ProcessorSettingData")[0]
        memory = self.devices(settings, "Msvm_MemorySettingData")[0]
        return machine, int(processor["VirtualQuantity"]), int(memory["VirtualQuantity"]), int(memory["Limit"])

    def by_path(self, cls, path, quotes='"'):
        doubled = path.replace("\\", "\\\\").replace('"', quotes)
        return self.select(f"SELECT * FROM {cls} WHERE __PATH = '{doubled}'")[0]

    def dumpxml(self, name):
        """What the description of a machine is made of: disks with controller and place, cards, serial ports."""
        settings = self.settings(self.machine(name))
        resources = self.devices(settings, "Msvm_ResourceAllocationSettingData")
        if not resources:
            raise Narrow("no resources")

        def owner(record):
            """The record whose path is the Parent: both end with the InstanceID, backslashes doubled, and a quote."""
            ends = {one["InstanceID"].replace("\\", "\\\\") + '"': one for one in resources}
            return next(one for end, one in ends.items() if record["Parent"].endswith(end))

        disks = []
        for image in self.devices(settings, "Msvm_StorageAllocationSettingData"):
            drive = owner(image)
            controller = owner(drive)
            place = (int(controller["ResourceType"]), int(drive["AddressOnParent"]))
            disks.append((image["HostResource"][0], int(drive["ResourceType"]), *place))
        cards = []
        for connection in self.devices(settings, "Msvm_EthernetPortAllocationSettingData"):
            if connection["EnabledState"] != "2":
                continue
            card = self.by_path("Msvm_SyntheticEthernetPortSettingData", connection["Parent"])
            switch = self.by_path("Msvm_VirtualEthernetSwitch", connection["HostResource"][0])
            cards.append((card["Address"], switch["ElementName"], switch["Name"]))
        serial = self.devices(settings, "Msvm_SerialPortSettingData")
        ports = [(one["ElementName"], one["Connection"][0]) for one in serial]
        return settings["Notes"], disks, cards, ports

    def physical_disks(self, name):
        """The disks of the host that a machine uses, with their places, as dumpxml shows them."""
        resources = self.devices(self.settings(self.machine(name)), "Msvm_ResourceAllocationSettingData")
        found = []
        for drive in resources:
            if drive["ResourceSubType"] == "Microsoft:Hyper-V:Physical Disk Drive" and drive["ResourceType"] == "17":
                disk = self.by_path("Msvm_DiskDrive", drive["HostResource"][0], quotes='\\"')
                found.append((disk["Name"], int(disk["DriveNumber"] or 0), int(drive["AddressOnParent"])))
        return found

    def domstate(self, name):
        known = {"2": "running", "3": "shut off", "6": "saved", "9": "paused"}
        return known.get(self.machine(name)["EnabledState"], "no state")

    def maxvcpus(self):
        text = "SELECT * FROM Msvm_ProcessorSettingData WHERE InstanceID LIKE 'Microsoft:Definition%Maximum'"
        found = self.select(text)
        if not found:
            raise Narrow("Could not get maximum definition of Msvm_ProcessorSettingData")
        return int(found[0]["VirtualQuantity"])

    def vcpuinfo(self, name):
        """The time of each processor in nanoseconds, none for one that is offline."""
        times = []
        for number in range(self.dominfo(name)[1]):
            query = f"SELECT * FROM {VIRTUAL_PROCESSOR} WHERE Name = '{name}:Hv VP {number}'"
            found = self.select(query, CIMV2)
            times.append(int(found[0]["PercentTotalRunTime"]) * 100 if found else None)
        return times

    def invoke(self, cls, method, selectors, body, namespace=V2):
        """A method call; waits for its job and gives the return value."""
        uri = class_uri(namespace, cls)
        content = f'<p:{method}_INPUT xmlns:p="{uri}">{body}</p:{method}_INPUT>'
        self.call(f"{uri}/{method}", uri, content, selectors)
        # Found by literal prefix; only those in scope on Envelope and on the first child of Body are known.
        envelope = re.match(r"<s:Envelope[^>]*>", self.text)
        if not envelope or any(f'xmlns:{prefix}="' not in envelope[0] for prefix in ("s", "a", "w")):
            raise Narrow(f"the envelope does not declare s, a and w: {self.text[:300]}")
        if not re.search(rf'<s:Body><p:{method}_OUTPUT [^>]*xmlns:p="{re.escape(uri)}"', self.text):
            raise Narrow(f"no p:{method}_OUTPUT: {self.text}")
        value = int(re.search(r"<p:ReturnValue>(\d+)</p:ReturnValue>", self.text)[1])
        if value == 4096:
            path = r'<p:Job[ >].*<w:SelectorSet>.*<w:Selector Name="InstanceID">([^<]+)</w:Selector>'
            job = re.search(path, self.text)
            if not job:
                raise Narrow("no job")
            self.wait(job[1])
            return 0
        return value

    def wait(self, job):
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            found = self.select(f"SELECT * FROM Msvm_ConcreteJob WHERE InstanceID = '{job}'")[0]
            state = int(found["JobState"])
            if state == 7:
                return
            if state not in (2, 3, 4, 6):
                raise Narrow(f"job in state {state}: {found['ErrorDescription']}")
            time.sleep(0.1)
        raise Narrow("the job does not end")

    def change(self, name, state):
        """start and resume 2, destroy 3, managedsave 6, suspend 9, reboot 10, reset 11."""
        uri = class_uri(V2, "Msvm_ComputerSystem")
        selectors = [("Name", self.machine(name)["Name"].lower()), ("CreationClassName", "Msvm_ComputerSystem")]
        body = f'<p:RequestedState xmlns:p="{uri}">{state}</p:RequestedState>'
        return self.invoke("Msvm_ComputerSystem", "RequestStateChange", selectors, body)

    def service(self, method, body):
        cls = "Msvm_VirtualSystemManagementService"
        return self.invoke(cls, method, [("CreationClassName", cls)], body)

    def autostart(self, name, on):
        identity = self.settings(self.machine(name))["InstanceID"]
        text = embedded("Msvm_VirtualSystemSettingData", AutomaticStartupAction=4 if on else 2, InstanceID=identity)
        return self.service("ModifySystemSettings", f"<p:SystemSettings>{escape(text)}</p:SystemSettings>")

    def modify(self, name, cls, **changes):
        """setvcpus and setmem."""
        identity = self.devices(self.settings(self.machine(name)), cls)[0]["InstanceID"]
        text = embedded(cls, InstanceID=identity, **changes)
        return self.service("ModifyResourceSettings", f"<p:ResourceSettings>{escape(text)}</p:ResourceSettings>")

    def define(self, name):
        text = embedded("Msvm_VirtualSystemSettingData", ElementName=name)
        return self.service("DefineSystem", f"<p:SystemSettings>{escape(text)}</p:SystemSettings>")

    def reference(self, query):
        """The first reference of a query, as it came."""
        items = self.query(class_uri(V2, "*"), query, mode="EnumerateEPR")
        parts = {local(part): part for part in items[0]}
        return "".join(ET.tostring(parts[name], encoding="unicode") for name in ("Address", "ReferenceParameters"))

    def undefine(self, name):
        target = self.reference(f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = '{name}'")
        return self.service("DestroySystem", f"<p:AffectedSystem>{target}</p:AffectedSystem>")

    def attach_disk(self, name):
        identity = self.settings(self.machine(name))["InstanceID"]
        query = f"SELECT * FROM Msvm_VirtualSystemSettingData WHERE InstanceID = '{identity}'"
        text = embedded("Msvm_ResourceAllocationSettingData", ResourceType=17, Address="0")
        target = f"<p:AffectedConfiguration>{self.reference(query)}</p:AffectedConfiguration>"
        settings = f"<p:ResourceSettings>{escape(text)}</p:ResourceSettings>"
        return self.service("AddResourceSettings", target + settings)

    def shutdown(self, name):
        system = self.machine(name)["Name"]
        found = self.select(f"SELECT * FROM Msvm_ShutdownComponent WHERE SystemName = '{system.lower()}'")
        if not found:
            raise Narrow("no component")
        cls = "Msvm_ShutdownComponent"
        keys = ("CreationClassName", "DeviceID", "SystemCreationClassName", "SystemName")
        selectors = [(key, found[0][key]) for key in keys]
        body = "<p:Force>False</p:Force><p:Reason>Planned shutdown via libvirt</p:Reason>"
        return self.invoke(cls, "InitiateShutdown", selectors, body)


def embedded(cls, **properties):
    """CIM-XML over several lines, with a declaration in front."""
    lines = ['<?xml version="1.0"?>', f'<INSTANCE CLASSNAME="{cls}">']
    for name, value in properties.items():
        kind = "string" if isinstance(value, str) else "uint16" if name == "AutomaticStartupAction" else "uint64"
        lines += [f'  <PROPERTY NAME="{name}" TYPE="{kind}">', f"    <VALUE>{escape(str(value))}</VALUE>", "  </PROPERTY>"]
    return "\n".join([*lines, "</INSTANCE>", ""])


class VirtWho(Raw):
    """virt-who: the order and the shape of its questions."""

    def first(self, namespace, text):
        """The values of the first item of each Pull, by local name."""
        # Line breaks stand around the URI, and the Pull names another resource.
        uri = f"\n{class_uri(namespace, '*')}\n"
        items = self.query(uri, text, class_uri("root/virtualization", "*"))
        return [{local(child): child.text for child in item} for item in items]

    def summaries(self, namespace):
        cls = "Msvm_VirtualSystemManagementService"
        uri = class_uri(namespace, cls)
        numbers = "".join(f'<q:RequestedInformation xmlns:q="{uri}">{number}</q:RequestedInformation>' for number in (0, 1, 100))
        # The wrapper is in the wrong namespace.
        body = f'<w:GetSummaryInformation_INPUT xmlns:w="{W}">{numbers}</w:GetSummaryInformation_INPUT>'
        selectors = [("CreationClassName", cls), ("SystemCreationClassName", "Msvm_ComputerSystem")]
        answer = self.call(f"{uri}/GetSummaryInformation", uri, body, selectors)[0]
        inner = f"{{{class_uri(namespace, 'Msvm_SummaryInformation')}}}"
        found = {}
        for one in answer:
            if local(one) == "SummaryInformation":
                found[one.findtext(f"{inner}Name")] = one.findtext(f"{inner}EnabledState")
        return found

    def run(self):
        """The report: hypervisor, and its guests with their states."""
        fields = "select BIOSGUID, VirtualSystemIdentifier from Msvm_VirtualSystemSettingData where "
        try:
            self.first("root/virtualization", fields + "SettingType = 3")
            raise Narrow("version 1 answers")
        except wsman.WsmanFault as fault:
            codes = re.findall(r"<[^>]*error_Code[^>]*>(\d+)<", self.text)
            self.version_1 = (fault.status, codes)
        guests = self.first(V2, fields + "VirtualSystemType = 'Microsoft:Hyper-V:System:Realized'")
        states = self.summaries(V2)
        self.first(CIMV2, "select * from CIM_Datafile where Path = '\\\\windows\\\\system32\\\\' and FileName='vmms'")
        host = self.first(CIMV2, "select DNSHostName, NumberOfProcessors from Win32_ComputerSystem")[0]
        product = self.first(CIMV2, "select UUID from Win32_ComputerSystemProduct")[0]
        uuid.UUID(product["UUID"])
        return host, {
            uuid.UUID(one["BIOSGUID"].strip("{}")): states[one["VirtualSystemIdentifier"]] for one in guests
        }
