//! Finds what a name or a GUID on the command line means.

use crate::cim::ObjectPath;
use crate::client::{Client, Object};

use super::super::failure::Failure;
use super::{STORAGE, VIRTUALIZATION};

/// The path of an object that the server named.
pub(super) fn path(object: &Object) -> Result<ObjectPath, Failure> {
    object.path.clone().ok_or_else(|| Failure::failed("the server names no path for what it shows"))
}

/// Chooses by id, else by name; a name must fit exactly one.
fn choose(kind: &str, wanted: &str, objects: Vec<Object>, id: &str, names: &[&str]) -> Result<Object, Failure> {
    let is =
        |object: &Object, property: &str| object.text(property).is_some_and(|text| text.eq_ignore_ascii_case(wanted));
    if let Some(object) = objects.iter().find(|object| is(object, id)) {
        return Ok(object.clone());
    }
    let mut fitting = objects.into_iter().filter(|object| names.iter().any(|name| is(object, name)));
    match (fitting.next(), fitting.next()) {
        (Some(object), None) => Ok(object),
        (None, _) => Err(Failure::not_found(format!("there is no {kind} {wanted}"))),
        (Some(_), Some(_)) => Err(Failure::not_found(format!("several {kind}s are named {wanted}"))
            .hint(format!("Give the {id}, as the list shows it."))),
    }
}

/// The machines, without the host that holds them.
pub(super) async fn machines(client: &Client) -> Result<Vec<Object>, Failure> {
    let mut machines = client.enumerate(VIRTUALIZATION, "Msvm_ComputerSystem", None).await?;
    machines.retain(|machine| machine.text("Caption") != Some("Hosting Computer System"));
    machines.sort_by(|a, b| a.text("ElementName").cmp(&b.text("ElementName")));
    Ok(machines)
}

/// The machine of a name or GUID.
pub(in super::super) async fn find_machine(client: &Client, wanted: &str) -> Result<Object, Failure> {
    choose("machine", wanted, machines(client).await?, "Name", &["ElementName"])
        .map_err(|failure| failure.hint("`wsnapd vm list` shows names and GUIDs."))
}

/// The collection of a name or GUID.
pub(in super::super) async fn find_collection(client: &Client, wanted: &str) -> Result<Object, Failure> {
    let collections = client.enumerate(VIRTUALIZATION, "Msvm_VirtualSystemCollection", None).await?;
    choose("collection", wanted, collections, "CollectionID", &["ElementName", "InstanceID"])
}

/// The snapshots of a machine, oldest first.
pub(super) async fn snapshots(client: &Client, machine: &Object) -> Result<Vec<Object>, Failure> {
    let wanted = crate::client::Associators {
        association: Some("Msvm_SnapshotOfVirtualSystem"),
        result_class: Some("Msvm_VirtualSystemSettingData"),
        ..Default::default()
    };
    let mut snapshots = client.associators(&path(machine)?, wanted).await?;
    snapshots.sort_by(|a, b| a.text("CreationTime").cmp(&b.text("CreationTime")));
    Ok(snapshots)
}

/// The snapshot of a machine by name or GUID, with or without `Microsoft:` in front.
pub(super) async fn find_snapshot(client: &Client, machine: &Object, wanted: &str) -> Result<Object, Failure> {
    let snapshots = snapshots(client, machine).await?;
    let with_prefix = format!("Microsoft:{wanted}");
    let by_guid =
        snapshots.iter().find(|one| one.text("InstanceID").is_some_and(|id| id.eq_ignore_ascii_case(&with_prefix)));
    match by_guid {
        Some(snapshot) => Ok(snapshot.clone()),
        None => choose("snapshot", wanted, snapshots, "InstanceID", &["ElementName"])
            .map_err(|failure| failure.hint("`wsnapd snapshot list` shows names and GUIDs.")),
    }
}

/// The volumes.
pub(super) async fn volumes(client: &Client) -> Result<Vec<Object>, Failure> {
    let mut volumes = client.enumerate(STORAGE, "MSFT_SMStorageVolume", None).await?;
    volumes.sort_by(|a, b| volume_name(a).cmp(volume_name(b)));
    Ok(volumes)
}

/// The name by which people know a volume.
pub(super) fn volume_name(volume: &Object) -> &str {
    volume.text("DisplayName").or_else(|| volume.text("Name")).unwrap_or_default()
}

/// The volume of a name or object id.
pub(in super::super) async fn find_volume(client: &Client, wanted: &str) -> Result<Object, Failure> {
    choose("volume", wanted, volumes(client).await?, "ObjectId", &["DisplayName", "Name"])
        .map_err(|failure| failure.hint("`wsnapd volume list` shows names and object ids."))
}

/// The path of the only instance of a service class.
pub(in super::super) async fn service(client: &Client, class: &str) -> Result<ObjectPath, Failure> {
    let services = client.enumerate(VIRTUALIZATION, class, None).await?;
    let service = services.first().ok_or_else(|| Failure::failed(format!("the server has no {class}")))?;
    path(service)
}
