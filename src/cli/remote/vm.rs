//! `wsnapd vm`.

use crate::client::{Argument, Client};

use super::super::args::VmCommand;
use super::super::failure::Failure;
use super::super::output::{say, table};
use super::names::{find_machine, machines, path};
use super::progress::finish;

pub(super) async fn run(client: &Client, command: VmCommand) -> Result<(), Failure> {
    match command {
        VmCommand::List => {
            let rows: Vec<Vec<String>> = machines(client)
                .await?
                .iter()
                .map(|machine| {
                    let text = |name| machine.text(name).unwrap_or_default().to_owned();
                    let state = machine.number("EnabledState").map_or("unknown", state_name);
                    vec![text("ElementName"), state.to_owned(), text("Name")]
                })
                .collect();
            table(&["NAME", "STATE", "GUID"], &rows);
            Ok(())
        }
        VmCommand::Start { machine } => change(client, &machine, "2", "start").await,
        VmCommand::Stop { machine } => change(client, &machine, "3", "stop").await,
    }
}

async fn change(client: &Client, wanted: &str, state: &str, verb: &str) -> Result<(), Failure> {
    let machine = find_machine(client, wanted).await?;
    let arguments = [("RequestedState", Argument::Text(state))];
    let output = client.invoke(&path(&machine)?, "RequestStateChange", &arguments).await?;
    let name = machine.text("ElementName").unwrap_or(wanted);
    finish(client, &output, &format!("{verb} of {name}")).await?;
    say(format_args!("{name}: {}", if state == "2" { "started" } else { "stopped" }));
    Ok(())
}

/// The name of an `EnabledState`.
const fn state_name(state: u64) -> &'static str {
    match state {
        2 => "running",
        3 => "off",
        4 => "stopping",
        6 => "saved",
        9 | 32768 => "paused",
        10 => "starting",
        32773 => "saving",
        32776 => "pausing",
        32777 => "resuming",
        _ => "unknown",
    }
}
