//! `wsnapd snapshot`.

use crate::cim::ObjectPath;
use crate::client::{Argument, Associators, Client, ClientError, JobProgress, Object};
use crate::xml::Writer;

use super::super::args::{SnapshotCommand, SnapshotKind};
use super::super::failure::Failure;
use super::super::output::{say, table};
use super::VIRTUALIZATION;
use super::names::{find_collection, find_machine, find_snapshot, machines, path, service, snapshots};
use super::progress::finish;
use super::tree::print_trees;

pub(super) async fn run(client: &Client, command: SnapshotCommand) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Create { machine, kind, collection: true, .. } => {
            create_of_collection(client, &machine, kind).await
        }
        SnapshotCommand::Create { machine, name, kind, .. } => create(client, &machine, name.as_deref(), kind).await,
        SnapshotCommand::List { machine } => list(client, machine.as_deref()).await,
        SnapshotCommand::Tree { machine } => print_trees(client, &chosen(client, machine.as_deref()).await?).await,
        SnapshotCommand::Apply { machine, snapshot } => {
            act(client, &machine, &snapshot, ("ApplySnapshot", "Snapshot"), "applied").await
        }
        SnapshotCommand::Destroy { machine, snapshot, tree: false } => {
            act(client, &machine, &snapshot, ("DestroySnapshot", "AffectedSnapshot"), "destroyed").await
        }
        SnapshotCommand::Destroy { machine, snapshot, tree: true } => {
            let method = ("DestroySnapshotTree", "SnapshotSettingData");
            act(client, &machine, &snapshot, method, "destroyed with all below it").await
        }
    }
}

async fn chosen(client: &Client, machine: Option<&str>) -> Result<Vec<Object>, Failure> {
    match machine {
        Some(machine) => Ok(vec![find_machine(client, machine).await?]),
        None => machines(client).await,
    }
}

async fn list(client: &Client, machine: Option<&str>) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let outcomes = outcomes(client).await?;
    for machine in chosen(client, machine).await? {
        for snapshot in snapshots(client, &machine).await? {
            let text = |name| snapshot.text(name).unwrap_or_default().to_owned();
            rows.push(vec![
                machine.text("ElementName").unwrap_or_default().to_owned(),
                text("ElementName"),
                kind(&snapshot).to_owned(),
                when(&snapshot),
                reached(&outcomes, &snapshot),
                guid(&snapshot).to_owned(),
            ]);
        }
    }
    table(&["MACHINE", "SNAPSHOT", "KIND", "TAKEN", "REACHED", "GUID"], &rows);
    Ok(())
}

/// What was reached when each snapshot was taken; nothing where a server does not tell.
async fn outcomes(client: &Client) -> Result<Vec<Object>, Failure> {
    match client.enumerate(VIRTUALIZATION, "Wsnapd_SnapshotOutcome", None).await {
        Ok(outcomes) => Ok(outcomes),
        // Only our own server has the class.
        Err(ClientError::Fault(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// `application, paused 12 ms, frozen 300 ms`: times only where there were any.
fn reached(outcomes: &[Object], snapshot: &Object) -> String {
    let Some(outcome) = outcomes.iter().find(|outcome| outcome.text("InstanceID") == snapshot.text("InstanceID"))
    else {
        return String::new();
    };
    let times = [("PausedTime", "paused"), ("FrozenTime", "frozen")].into_iter().filter_map(|(name, word)| {
        let milliseconds = outcome.number(name).filter(|milliseconds| *milliseconds > 0)?;
        Some(format!("{word} {milliseconds} ms"))
    });
    let level = consistency(outcome.number("ConsistencyLevel")).to_owned();
    std::iter::once(level).chain(times).collect::<Vec<_>>().join(", ")
}

/// The word for a consistency level.
pub(super) const fn consistency(level: Option<u64>) -> &'static str {
    match level {
        Some(1) => "application",
        Some(2) => "crash",
        _ => "unknown",
    }
}

/// What a `VirtualSystemType` ends with says which kind it is.
fn kind(snapshot: &Object) -> &str {
    let text = snapshot.text("VirtualSystemType").unwrap_or_default();
    match text.rsplit(':').next().unwrap_or_default() {
        "Realized" => "standard",
        "Recovery" => "recovery",
        other => other,
    }
}

/// The GUID in an `InstanceID`.
pub(super) fn guid(snapshot: &Object) -> &str {
    let id = snapshot.text("InstanceID").unwrap_or_default();
    id.split_once(':').map_or(id, |(_, guid)| guid)
}

/// The creation time without the parts nobody reads.
pub(super) fn when(snapshot: &Object) -> String {
    let text = snapshot.text("CreationTime").unwrap_or_default();
    text.get(..19).unwrap_or(text).replace('T', " ")
}

async fn create(client: &Client, wanted: &str, name: Option<&str>, kind: SnapshotKind) -> Result<(), Failure> {
    let machine = find_machine(client, wanted).await?;
    let service = service(client, "Msvm_VirtualSystemSnapshotService").await?;
    let what = format!("snapshot of {}", machine.text("ElementName").unwrap_or(wanted));
    let snapshot_type = match kind {
        SnapshotKind::Full => "2",
        SnapshotKind::Disk => "3",
        SnapshotKind::Recovery => "32768",
    };
    let machine = path(&machine)?;
    let settings = name.map(settings).unwrap_or_default();
    let arguments = create_arguments("AffectedSystem", &machine, &settings, snapshot_type);
    let output = client.invoke(&service, "CreateSnapshot", &arguments).await?;
    let job = finish(client, &output, &what).await?;
    match made(client, &output, job.as_ref()).await? {
        Some(snapshot) => {
            let name = snapshot.text("ElementName").unwrap_or_default();
            say(format_args!("{name} ({})", guid(&snapshot)));
        }
        None => say(format_args!("{what}: done")),
    }
    Ok(())
}

async fn create_of_collection(client: &Client, wanted: &str, kind: SnapshotKind) -> Result<(), Failure> {
    let collection = path(&find_collection(client, wanted).await?)?;
    let service = service(client, "Msvm_CollectionSnapshotService").await?;
    let snapshot_type = match kind {
        SnapshotKind::Full | SnapshotKind::Disk => "1",
        SnapshotKind::Recovery => "2",
    };
    let arguments = create_arguments("Collection", &collection, "", snapshot_type);
    let output = client.invoke(&service, "CreateSnapshot", &arguments).await?;
    finish(client, &output, &format!("snapshot of {wanted}")).await?;
    say(format_args!("snapshot of {wanted}: done"));
    Ok(())
}

/// The arguments of a CreateSnapshot.
pub(in super::super) fn create_arguments<'a>(
    subject: &'a str,
    of: &'a ObjectPath,
    settings: &'a str,
    snapshot_type: &'a str,
) -> [(&'a str, Argument<'a>); 3] {
    [
        (subject, Argument::Reference(of)),
        ("SnapshotSettings", Argument::Text(settings)),
        ("SnapshotType", Argument::Text(snapshot_type)),
    ]
}

/// The embedded instance that names a snapshot, as CIM-XML.
fn settings(name: &str) -> String {
    let mut w = Writer::with_capacity(200);
    w.element_with("INSTANCE", &[("CLASSNAME", "Msvm_VirtualSystemSettingData")], |w| {
        w.element_with("PROPERTY", &[("NAME", "ElementName"), ("TYPE", "string")], |w| w.text_element("VALUE", name));
    });
    w.finish()
}

/// The snapshot that a call made: named by it, or affected by its job.
async fn made(
    client: &Client,
    output: &crate::client::Output,
    job: Option<&JobProgress>,
) -> Result<Option<Object>, Failure> {
    if let Some(path) = output.reference("ResultingSnapshot") {
        let path = if path.namespace().is_some() { path } else { path.in_namespace(VIRTUALIZATION) };
        return Ok(Some(client.get(&path).await?));
    }
    let Some(job) = job.and_then(|progress| progress.job.path.as_ref()) else { return Ok(None) };
    let wanted = Associators {
        association: Some("Msvm_AffectedJobElement"),
        result_class: Some("Msvm_VirtualSystemSettingData"),
        ..Associators::default()
    };
    Ok(client.associators(job, wanted).await?.into_iter().next())
}

async fn act(
    client: &Client,
    machine: &str,
    snapshot: &str,
    (method, parameter): (&str, &str),
    done: &str,
) -> Result<(), Failure> {
    let machine = find_machine(client, machine).await?;
    let snapshot = find_snapshot(client, &machine, snapshot).await?;
    let service = service(client, "Msvm_VirtualSystemSnapshotService").await?;
    let name = snapshot.text("ElementName").unwrap_or_default();
    let target = path(&snapshot)?;
    let output = client.invoke(&service, method, &[(parameter, Argument::Reference(&target))]).await?;
    finish(client, &output, &format!("{method} {name}")).await?;
    say(format_args!("{name}: {done}"));
    Ok(())
}
