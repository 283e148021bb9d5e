//! `wsnapd job`.

use crate::client::{Argument, Client, Object};

use super::super::args::JobCommand;
use super::super::failure::Failure;
use super::super::output::{say, table};
use super::names::path;
use super::progress::{JOB_STARTED, finish, state_name, wait};
use super::{STORAGE, VIRTUALIZATION};

/// The `RequestedState` "Terminate".
const TERMINATE: &str = "4";
/// The states "Terminated" and "Killed".
const CANCELLED: [u64; 2] = [8, 9];

pub(super) async fn run(client: &Client, command: JobCommand) -> Result<(), Failure> {
    match command {
        JobCommand::List => {
            let rows: Vec<Vec<String>> = jobs(client)
                .await?
                .iter()
                .map(|job| {
                    let text = |name| job.text(name).unwrap_or_default().to_owned();
                    vec![
                        id(job).to_owned(),
                        state_name(job.number("JobState").unwrap_or_default()).to_owned(),
                        format!("{} %", job.number("PercentComplete").unwrap_or_default()),
                        Some(text("ErrorDescription"))
                            .filter(|error| !error.is_empty())
                            .unwrap_or_else(|| text("Description")),
                    ]
                })
                .collect();
            table(&["ID", "STATE", "DONE", "DESCRIPTION"], &rows);
            Ok(())
        }
        JobCommand::Wait { id } => {
            let job = find(client, &id).await?;
            let progress = wait(client, &path(&job)?, "job").await?;
            say(format_args!("{id}: {}", state_name(progress.state)));
            Ok(())
        }
        JobCommand::Cancel { id } => {
            let job = path(&find(client, &id).await?)?;
            let arguments = [("RequestedState", Argument::Text(TERMINATE))];
            let output = client.invoke(&job, "RequestStateChange", &arguments).await?;
            if output.return_value() == Some(JOB_STARTED) {
                // What was started is the undoing, and the job itself tells when that is done.
                let progress = client.wait_for_job(&job, |_| {}).await?;
                if !CANCELLED.contains(&progress.state) {
                    return Err(Failure::failed(format!("{id}: {}", state_name(progress.state))));
                }
            } else {
                finish(client, &output, "cancel").await?;
            }
            say(format_args!("{id}: cancelled"));
            Ok(())
        }
    }
}

/// The jobs of machines and of volumes.
async fn jobs(client: &Client) -> Result<Vec<Object>, Failure> {
    let mut jobs = client.enumerate(VIRTUALIZATION, "Msvm_ConcreteJob", None).await?;
    jobs.extend(client.enumerate(STORAGE, "MSFT_SMJob", None).await?);
    Ok(jobs)
}

fn id(job: &Object) -> &str {
    job.text("InstanceID").or_else(|| job.text("ObjectId")).unwrap_or_default()
}

async fn find(client: &Client, wanted: &str) -> Result<Object, Failure> {
    jobs(client).await?.into_iter().find(|job| id(job).eq_ignore_ascii_case(wanted)).ok_or_else(|| {
        Failure::not_found(format!("there is no job {wanted}"))
            .hint("`wsnapd job list` shows them; an ended job stays for five minutes unless configured otherwise.")
    })
}
