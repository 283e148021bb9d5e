//! Writing snapshots to a directory: whole disks by `qemu-img`, and only what changed by reading just that.
//!
//! A snapshot inside a disk is read while the machine goes on: nothing of it changes until it is destroyed, and no other
//! operation on the machine runs meanwhile. What a bitmap marks is read after the snapshot was taken, so that parts which
//! changed since are among it; their content is that of the snapshot all the same.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::super::copy::{self, on_thread};
use super::super::export::{Staging, create_file, write_file};
use super::super::{
    BackendError, Cause, ChangedParts, DiskFormat, DiskImage, ExportMember, ExportRequest, Progress, StepControl,
};
use super::QemuHypervisor;
use super::changes;
use super::machine::Machine;
use super::nbd::{Reader, Server};
use super::qcow2::{Parts, within};
use super::raw::{is_layered, is_tagged};

const STEP: &str = "export the snapshot";
/// Bytes read at once.
const CHUNK: u64 = 1 << 20;

/// Where the content of a disk of a snapshot is.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) format: DiskFormat,
    /// The tag of the snapshot, when it lies inside the file.
    pub(super) tag: Option<String>,
}

impl Source {
    /// Finds the content.
    ///
    /// # Errors
    /// [`Cause::FileNotFound`] when it is gone.
    async fn find(machine: &Machine, member: &ExportMember, disk: &DiskImage) -> Result<Self, BackendError> {
        if is_layered(disk) {
            let layer = machine.overlays().image(&disk.disk, member.snapshot)?;
            let lost = || BackendError::new(STEP, Cause::FileNotFound(disk.file.clone()));
            return layer.map(|layer| Self { file: layer.file, format: layer.format, tag: None }).ok_or_else(lost);
        }
        let (file, format) = (disk.file.clone(), disk.format);
        if !is_tagged(disk) {
            return Ok(Self { file, format, tag: None });
        }
        let tag = member.snapshot.to_string();
        if !machine.images.info(&file).await?.snapshots.iter().any(|known| known.name == tag) {
            let text = format!("{} with the snapshot {tag} inside", file.display());
            return Err(BackendError::new(STEP, Cause::FileNotFound(text.into())));
        }
        Ok(Self { file, format, tag: Some(tag) })
    }

    /// What `qemu-img` and its kin want to know about it.
    pub(super) fn options(&self) -> Vec<String> {
        let tag = self.tag.iter().flat_map(|tag| ["-l".to_owned(), format!("snapshot.name={tag}")]);
        ["-f".to_owned(), driver(self.format).to_owned()].into_iter().chain(tag).collect()
    }
}

/// One disk on its way into an export.
struct DiskPlan {
    machine: Arc<Machine>,
    name: String,
    source: Source,
    target: PathBuf,
    /// Layout of the target.
    format: DiskFormat,
    /// Where to say which parts are in it, and the parts; `None` for a whole disk.
    changed: Option<(PathBuf, Parts)>,
    /// Bytes that will be written, as far as can be told.
    bytes: u64,
}

/// What `qemu-img measure` says.
#[derive(Debug, Deserialize)]
struct Measure {
    required: u64,
}

/// How far the whole export is.
struct Meter<'a> {
    control: &'a StepControl,
    before: u64,
    total: u64,
}

impl Meter<'_> {
    /// Says how much of the present disk is done.
    fn report(&self, done: u64) {
        let done = self.before.saturating_add(done).min(self.total);
        self.control.report(Progress { done, total: self.total });
    }
}

impl QemuHypervisor {
    pub(super) async fn export(&self, request: &ExportRequest, control: &StepControl) -> Result<(), BackendError> {
        let staging = Staging::begin(request, control).await?;
        let filled = tokio::select! {
            biased;
            () = control.cancelled().cancelled() => Err(BackendError::new(STEP, Cause::Cancelled)),
            filled = self.fill(request, &staging, control) => filled,
        };
        staging.finish(filled, control).await
    }

    async fn fill(
        &self,
        request: &ExportRequest,
        staging: &Staging,
        control: &StepControl,
    ) -> Result<(), BackendError> {
        let (mut plans, mut memories) = (Vec::new(), Vec::new());
        for member in &request.members {
            let directory = staging.directory_of(member);
            for disk in &member.disks {
                plans.push(self.plan(member, disk, &directory).await.map_err(|error| error.on_disk(&disk.disk))?);
            }
            memories.extend(member.memory.iter().map(|file| (file.clone(), directory.join(ExportMember::MEMORY))));
        }
        let mut total = plans.iter().map(|plan| plan.bytes).sum::<u64>();
        for (file, _) in &memories {
            total += copy::allocated(&fs::metadata(file).map_err(|error| BackendError::io(STEP, file, error))?);
        }
        let parent = request.directory.parent().unwrap_or(Path::new("/"));
        // What changed is gathered in a file of its own before it becomes an image.
        let twice = plans.iter().filter(|plan| plan.changed.is_some()).map(|plan| plan.bytes).sum::<u64>();
        copy::check_space("check the space for the export", parent, total.saturating_add(twice))?;
        let mut meter = Meter { control, before: 0, total };
        for plan in plans {
            let (name, bytes) = (plan.name.clone(), plan.bytes);
            self.write(plan, &meter).await.map_err(|error| error.on_disk(name))?;
            meter.before += bytes;
            meter.report(0);
        }
        for (source, target) in memories {
            let copied = copy_memory(source, target, control.cancelled()).await?;
            meter.before += copied;
            meter.report(0);
        }
        Ok(())
    }

    async fn plan(&self, member: &ExportMember, disk: &DiskImage, directory: &Path) -> Result<DiskPlan, BackendError> {
        let machine = self.machine(member.machine)?;
        let source = Source::find(&machine, member, disk).await?;
        let tracked = member.base.iter().flat_map(|base| &base.disks).find(|tracked| tracked.disk == disk.disk);
        let (changed, bytes) = match tracked {
            Some(tracked) => {
                let parts = changes::since(&machine, tracked).await?;
                let bytes = parts.iter().map(|(_, length)| length).sum();
                (Some((directory.join(ExportMember::changes_file(disk)), parts)), bytes)
            }
            None => (None, measure(&machine, &source, disk.format).await?),
        };
        let target = directory.join(ExportMember::disk_file(disk));
        Ok(DiskPlan { machine, name: disk.disk.clone(), source, target, format: disk.format, changed, bytes })
    }

    async fn write(&self, mut plan: DiskPlan, meter: &Meter<'_>) -> Result<(), BackendError> {
        create_file(&plan.target)?;
        let Some((description, parts)) = plan.changed.take() else {
            return self.convert_image(&plan.source, (&plan.target, plan.format), plan.bytes, meter).await;
        };
        // qemu-nbd comes with qemu-img.
        let program = self.settings().image_tool.with_file_name("qemu-nbd");
        let mut server = Server::start(&program, &plan.source, &plan.machine.directory)?;
        let stream = server.connect().await?;
        let whole = plan.format == DiskFormat::Raw;
        let raw = if whole { plan.target.clone() } else { plan.target.with_extension("partial") };
        if !whole {
            create_file(&raw)?;
        }
        let control = meter.control.clone();
        let (before, total, path) = (meter.before, meter.total, raw.clone());
        on_thread(STEP, meter.control.cancelled(), move |cancel| {
            let meter = Meter { control: &control, before, total };
            let reader =
                Reader::new(stream).map_err(|error| BackendError::new("open the snapshot", Cause::Io(error)))?;
            copy_parts(reader, &parts, &path, &description, &meter, cancel)
        })
        .await?;
        drop(server);
        super::nbd::forget(&plan.machine.directory)?;
        if whole {
            return Ok(());
        }
        let gathered = Source { file: raw, format: DiskFormat::Raw, tag: None };
        self.convert_image(&gathered, (&plan.target, plan.format), 0, meter).await?;
        copy::remove_file(STEP, &gathered.file)
    }

    /// Copies an image, or a snapshot inside of it, into a new image of `size` bytes that depends on no other.
    async fn convert_image(
        &self,
        source: &Source,
        (target, to): (&Path, DiskFormat),
        size: u64,
        meter: &Meter<'_>,
    ) -> Result<(), BackendError> {
        let program = &self.settings().image_tool;
        let mut command = Command::new(program);
        command.args(["convert", "-p", "-U"]).args(source.options());
        command.args(["-O", driver(to)]).arg(&source.file).arg(target);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| BackendError::io(STEP, program, error))?;
        let output = child.stdout.take();
        let failed = |error| BackendError::new(STEP, Cause::Io(error));
        let (followed, ended) = tokio::join!(follow(output, size, meter), child.wait_with_output());
        followed.map_err(failed)?;
        let ended = ended.map_err(failed)?;
        if !ended.status.success() {
            let text = String::from_utf8_lossy(&ended.stderr).trim().replace('\n', "; ");
            return Err(BackendError::new(STEP, Cause::Failed(text)));
        }
        let target = target.to_path_buf();
        on_thread(STEP, meter.control.cancelled(), move |_| {
            let synced = File::open(&target).and_then(|file| file.sync_all());
            synced.map_err(|error| BackendError::io(STEP, &target, error))
        })
        .await
    }
}

pub(super) const fn driver(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
    }
}

/// How many bytes a copy of a snapshot will take.
async fn measure(machine: &Machine, source: &Source, to: DiskFormat) -> Result<u64, BackendError> {
    const STEP: &str = "measure the snapshot";
    let mut arguments = vec!["measure".to_owned(), "-U".to_owned(), "--output=json".to_owned()];
    arguments.extend(source.options());
    arguments.extend(["-O".to_owned(), driver(to).to_owned()]);
    let text = machine.images.run(STEP, &source.file, &arguments).await?;
    let measure: Measure = serde_json::from_slice(&text)
        .map_err(|error| BackendError::new(STEP, Cause::Failed(format!("{}: {error}", source.file.display()))))?;
    Ok(measure.required)
}

/// Reads `    (12.34/100%)` over and over and passes it on.
async fn follow(output: Option<ChildStdout>, size: u64, meter: &Meter<'_>) -> io::Result<()> {
    let Some(mut output) = output else { return Ok(()) };
    let (mut text, mut buffer) = (String::new(), [0; 256]);
    loop {
        let length = output.read(&mut buffer).await?;
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { return Ok(()) };
        text.push_str(&String::from_utf8_lossy(read));
        let percent = text.rsplit('(').filter_map(|part| part.split_once("/100%")).find_map(|(number, _)| {
            let whole = number.split('.').next()?;
            whole.trim().parse::<u64>().ok()
        });
        if let Some(percent) = percent {
            meter.report(size / 100 * percent.min(100));
            text = text.rsplit('(').next().map(|rest| format!("({rest}")).unwrap_or_default();
        }
    }
}

/// Copies these parts of a disk to their places in a file with nothing between them, and describes them in another.
fn copy_parts(
    mut reader: Reader,
    parts: &Parts,
    path: &Path,
    description: &Path,
    meter: &Meter<'_>,
    cancel: &CancellationToken,
) -> Result<(), BackendError> {
    let failed = |error| BackendError::io(STEP, path, error);
    let length = reader.size;
    let parts = within(parts.clone(), length);
    let file = File::options().write(true).open(path).map_err(failed)?;
    file.set_len(length).map_err(failed)?;
    let mut done = 0;
    for &(start, size) in &parts {
        let (mut at, end) = (start, start + size);
        while at < end {
            if cancel.is_cancelled() {
                return Err(BackendError::new(STEP, Cause::Cancelled));
            }
            let wanted = (end - at).min(CHUNK);
            let mut buffer = vec![0; usize::try_from(wanted).unwrap_or(0)];
            reader
                .read_at(at, &mut buffer)
                .map_err(|error| BackendError::new("read the snapshot", Cause::Io(error)))?;
            // What is empty reads the same as a hole.
            if buffer.iter().any(|byte| *byte != 0) {
                file.write_all_at(&buffer, at).map_err(failed)?;
            }
            at += wanted;
            done += wanted;
            meter.report(done);
        }
    }
    file.sync_all().map_err(failed)?;
    let text = serde_json::to_vec_pretty(&ChangedParts { length, extents: parts })
        .map_err(|error| BackendError::new(STEP, Cause::Failed(error.to_string())))?;
    write_file(description, &text)
}

/// Copies the memory of a snapshot; gives the bytes copied.
async fn copy_memory(source: PathBuf, target: PathBuf, cancel: &CancellationToken) -> Result<u64, BackendError> {
    on_thread(STEP, cancel, move |cancel| {
        let from = File::open(&source).map_err(|error| BackendError::io(STEP, &source, error))?;
        let into = create_file(&target)?;
        if copy::try_clone(&from, &into).map_err(|error| BackendError::io(STEP, &target, error))? {
            into.sync_all().map_err(|error| BackendError::io(STEP, &target, error))?;
            return Ok(0);
        }
        let mut copied = 0;
        copy::copy_sparse(&from, &into, cancel, &mut |bytes| copied += bytes)
            .map_err(|error| error.at(STEP, &target))?;
        Ok(copied)
    })
    .await
}
