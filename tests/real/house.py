"""What tests look up in a running server: machines, services, snapshots, collections, volumes."""

from wsman import CLUSTER, STORAGE, V2, class_uri

#: Service class and namespace of every way to the per-machine methods.
MACHINE_SERVICES = [
    ("Msvm_VirtualSystemSnapshotService", V2),
    ("CIM_VirtualSystemSnapshotService", V2),
    ("Msvm_VirtualSystemSnapshotService", CLUSTER),
    ("CIM_VirtualSystemSnapshotService", CLUSTER),
]

#: Seconds in which 95 of 100 answers come while long work goes on. The promise is 0.05 on an idle machine, which the
#: benchmarks measure; here a wall clock shows the noise of the neighbours too.
ANSWERED = 0.5


def only(found, what):
    """The one element of a list."""
    if len(found) != 1:
        raise AssertionError(f"{len(found)} instead of one: {what}: {found}")
    return found[0]


def machine(cim, name, namespace=V2):
    """The reference of a machine by its display name."""
    text = f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = '{name}'"
    return only(cim.query(namespace, text, mode="EnumerateEPR"), name)


def service(cim, cls, namespace=V2):
    """The one service of a class, addressed as that class even if it is an abstract one."""
    return only(cim.references_of_class(namespace, cls), cls).with_uri(class_uri(namespace, cls))


def collection(cim, name):
    text = f"SELECT * FROM Msvm_VirtualSystemCollection WHERE ElementName = '{name}'"
    return only(cim.query(V2, text, mode="EnumerateEPR"), name)


def settings_of(cim, target, namespace=V2):
    """The active configuration record of a machine."""
    found = cim.associated(namespace, target, "Msvm_SettingsDefineState", "Msvm_VirtualSystemSettingData")
    return only(found, "active settings")


def snapshots_of(cim, target, namespace=V2):
    """References of the snapshots of a machine, by association filter and by WQL alike."""
    association, result = "Msvm_SnapshotOfVirtualSystem", "Msvm_VirtualSystemSettingData"
    by_filter = cim.associated(namespace, target, association, result, mode="EnumerateEPR")
    by_query = cim.associators_of(namespace, target, association, result, mode="EnumerateEPR")
    if set(by_filter) != set(by_query):
        raise AssertionError(f"association filter {by_filter} and ASSOCIATORS OF {by_query} differ")
    return by_filter


def affected(cim, job, result, namespace=V2):
    """References of what a job made, by association filter and by WQL alike."""
    association = "Msvm_AffectedJobElement"
    by_filter = cim.associated(namespace, job, association, result, mode="EnumerateEPR")
    by_query = cim.associators_of(namespace, job, association, result, mode="EnumerateEPR")
    if set(by_filter) != set(by_query):
        raise AssertionError(f"association filter {by_filter} and ASSOCIATORS OF {by_query} differ")
    return by_filter


def current_of(cim, target, namespace=V2):
    """References of the snapshot the machine's live state descends from."""
    return cim.associated(
        namespace, target, "Msvm_MostCurrentSnapshotInBranch", "Msvm_VirtualSystemSettingData", mode="EnumerateEPR"
    )


def volume(cim, name):
    """The reference of a volume by its display name."""
    text = f"SELECT * FROM MSFT_SMStorageVolume WHERE DisplayName = '{name}'"
    return only(cim.query(STORAGE, text, mode="EnumerateEPR"), name)


def pool(cim, name):
    text = f"SELECT * FROM MSFT_SMPool WHERE DisplayName = '{name}'"
    return only(cim.query(STORAGE, text, mode="EnumerateEPR"), name)


def take(cim, name, cls="Msvm_VirtualSystemSnapshotService", namespace=V2, **arguments):
    """Takes a snapshot of a machine; gives its reference."""
    arguments.setdefault("SnapshotType", 2)
    target = machine(cim, name, namespace)
    output, job = cim.run(service(cim, cls, namespace), "CreateSnapshot", AffectedSystem=target, **arguments)
    if job is None:
        return output["ResultingSnapshot"]
    return only(affected(cim, output["Job"], "Msvm_VirtualSystemSettingData", namespace), "new snapshot")


def apply(cim, snapshot, cls="Msvm_VirtualSystemSnapshotService", namespace=V2):
    return cim.run(service(cim, cls, namespace), "ApplySnapshot", Snapshot=snapshot)


def destroy(cim, snapshot, cls="Msvm_VirtualSystemSnapshotService", namespace=V2):
    return cim.run(service(cim, cls, namespace), "DestroySnapshot", AffectedSnapshot=snapshot)


def snapshots_by_every_class(cim, tag):
    """`CreateSnapshot` of each of the four classes, once."""
    for cls in ("CIM_VirtualSystemSnapshotService", "Msvm_VirtualSystemSnapshotService"):
        destroy(cim, take(cim, "web01", cls))
    group_service = service(cim, "Msvm_CollectionSnapshotService")
    shop = collection(cim, "shop")
    cim.run(group_service, "CreateSnapshot", Collection=shop, SnapshotSettings="", SnapshotType=1)
    group = only(cim.references_of_class(V2, "Msvm_SnapshotCollection"), "snapshot collection")
    cim.run(group_service, "DestroySnapshot", AffectedSnapshotCollection=group)
    output = cim.invoke(volume(cim, "vol1"), "CreateSnapshot", ElementName=f"vol1-by-{tag}")
    if output.number("ReturnValue") not in (0, 4096):
        raise AssertionError(output.properties)
