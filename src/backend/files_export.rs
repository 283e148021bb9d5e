//! Exporting snapshots that are files: copies of them, shared with the snapshot where the filesystem can.

use std::fs::File;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::copy::{self, on_thread};
use super::export::{Staging, create_file};
use super::{BackendError, Cause, ExportMember, ExportRequest, Progress, StepControl};

const STEP: &str = "export the snapshot";

/// One file to be copied.
struct FilePlan {
    /// The disk, if it is one.
    disk: Option<String>,
    source: PathBuf,
    target: PathBuf,
}

impl FilePlan {
    /// The error with the disk that is to blame.
    fn named(&self, error: BackendError) -> BackendError {
        match &self.disk {
            Some(disk) => error.on_disk(disk),
            None => error,
        }
    }

    fn io(&self, path: &Path, error: std::io::Error) -> BackendError {
        self.named(BackendError::io(STEP, path, error))
    }
}

pub(super) async fn export(request: &ExportRequest, control: &StepControl) -> Result<(), BackendError> {
    if request.members.iter().any(|member| member.base.is_some()) {
        let cause = Cause::NotSupported("this back-end has no change tracking".to_owned());
        return Err(BackendError::new(STEP, cause));
    }
    let staging = Staging::begin(request, control).await?;
    let plans: Vec<FilePlan> = request.members.iter().flat_map(|member| plan(member, &staging)).collect();
    let (parent, meter) = (request.directory.parent().unwrap_or(Path::new("/")).to_path_buf(), control.clone());
    let filled = on_thread(STEP, control.cancelled(), move |cancel| fill(&parent, &plans, &meter, cancel)).await;
    staging.finish(filled, control).await
}

fn plan(member: &ExportMember, staging: &Staging) -> Vec<FilePlan> {
    let directory = staging.directory_of(member);
    let disk = |disk: &super::DiskImage| FilePlan {
        disk: Some(disk.disk.clone()),
        source: disk.file.clone(),
        target: directory.join(ExportMember::disk_file(disk)),
    };
    let memory = member.memory.iter().map(|file| FilePlan {
        disk: None,
        source: file.clone(),
        target: directory.join(ExportMember::MEMORY),
    });
    member.disks.iter().map(disk).chain(memory).collect()
}

fn fill(
    directory: &Path,
    plans: &[FilePlan],
    meter: &StepControl,
    cancel: &CancellationToken,
) -> Result<(), BackendError> {
    let (mut copies, mut total) = (Vec::new(), 0);
    for plan in plans {
        let source = File::open(&plan.source).map_err(|error| plan.io(&plan.source, error))?;
        let target = create_file(&plan.target).map_err(|error| plan.named(error))?;
        if copy::try_clone(&source, &target).map_err(|error| plan.io(&plan.target, error))? {
            target.sync_all().map_err(|error| plan.io(&plan.target, error))?;
            continue;
        }
        let extents = copy::data_extents(&source).map_err(|error| plan.io(&plan.source, error))?;
        total += extents.iter().map(|(start, end)| end - start).sum::<u64>();
        copies.push((plan, source, target));
    }
    copy::check_space("check the space for the export", directory, total)?;
    let mut done = 0;
    for (plan, source, target) in &copies {
        copy::copy_sparse(source, target, cancel, &mut |bytes| {
            done += bytes;
            meter.report(Progress { done: done.min(total), total });
        })
        .map_err(|error| plan.named(error.at(STEP, &plan.target)))?;
    }
    if cancel.is_cancelled() {
        // Whoever waited may be gone and have removed the directory already.
        return Err(BackendError::new(STEP, Cause::Cancelled));
    }
    Ok(())
}
