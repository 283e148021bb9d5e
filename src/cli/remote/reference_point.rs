//! `wsnapd reference-point`.

use crate::client::{Argument, Associators, Client, Object};

use super::super::args::ReferencePointCommand;
use super::super::failure::Failure;
use super::super::output::{say, table};
use super::names::{find_machine, machines, path, service};
use super::progress::finish;
use super::snapshot::{consistency, guid};

pub(super) async fn run(client: &Client, command: ReferencePointCommand) -> Result<(), Failure> {
    match command {
        ReferencePointCommand::List { machine } => list(client, machine.as_deref()).await,
        ReferencePointCommand::Destroy { machine, point } => destroy(client, &machine, &point).await,
    }
}

async fn points_of(client: &Client, machine: &Object) -> Result<Vec<Object>, Failure> {
    let wanted = Associators {
        association: Some("Msvm_ReferencePointOfVirtualSystem"),
        result_class: Some("Msvm_VirtualSystemReferencePoint"),
        ..Associators::default()
    };
    Ok(client.associators(&path(machine)?, wanted).await?)
}

async fn list(client: &Client, machine: Option<&str>) -> Result<(), Failure> {
    let chosen = match machine {
        Some(machine) => vec![find_machine(client, machine).await?],
        None => machines(client).await?,
    };
    let mut rows = Vec::new();
    for machine in chosen {
        for point in points_of(client, &machine).await? {
            rows.push(vec![
                machine.text("ElementName").unwrap_or_default().to_owned(),
                consistency(point.number("ConsistencyLevel")).to_owned(),
                point.text("Description").unwrap_or_default().to_owned(),
                guid(&point).to_owned(),
            ]);
        }
    }
    table(&["MACHINE", "CONSISTENCY", "DESCRIPTION", "GUID"], &rows);
    Ok(())
}

async fn destroy(client: &Client, machine: &str, wanted: &str) -> Result<(), Failure> {
    let machine = find_machine(client, machine).await?;
    let points = points_of(client, &machine).await?;
    let point = points.iter().find(|point| guid(point).eq_ignore_ascii_case(wanted)).ok_or_else(|| {
        Failure::not_found(format!("there is no reference point {wanted}"))
            .hint("`wsnapd reference-point list` shows the GUIDs.")
    })?;
    let service = service(client, "Msvm_VirtualSystemReferencePointService").await?;
    let target = path(point)?;
    let arguments = [("AffectedReferencePoint", Argument::Reference(&target))];
    let output = client.invoke(&service, "DestroyReferencePoint", &arguments).await?;
    finish(client, &output, &format!("DestroyReferencePoint {wanted}")).await?;
    say(format_args!("{wanted}: destroyed"));
    Ok(())
}
