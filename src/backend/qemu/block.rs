//! Commands about block nodes and jobs, with the parts of the answers that we read.

use std::path::{Path, PathBuf};

use qapi::qmp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::commands::{AT_ONCE, WITH_DISKS};
use super::machine::canonical;
use super::monitor::{Monitor, MonitorError};
use crate::time::Guid;

type Answer<T> = Result<T, MonitorError>;

/// An entry of `query-named-block-nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Node {
    #[serde(rename = "node-name")]
    pub(super) name: Option<String>,
    pub(super) file: String,
    pub(super) drv: String,
}

/// An entry of `query-jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) current_progress: u64,
    #[serde(default)]
    pub(super) total_progress: u64,
}

impl Job {
    pub(super) fn is_concluded(&self) -> bool {
        self.status == "concluded"
    }
}

/// `blockdev-add` with options as JSON: the schema's type for them has some hundred variants of some fifty fields.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
struct AddNode(Value);

impl qapi::Command for AddNode {
    const NAME: &'static str = "blockdev-add";
    const ALLOW_OOB: bool = false;
    type Ok = Value;
}

impl qmp::QmpCommand for AddNode {}

/// `block-commit`: the crate's type has deprecated fields, which cannot be left out.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Commit {
    job_id: String,
    device: String,
    top_node: String,
    base_node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_file: Option<PathBuf>,
    auto_finalize: bool,
    auto_dismiss: bool,
}

impl qapi::Command for Commit {
    const NAME: &'static str = "block-commit";
    const ALLOW_OOB: bool = false;
    type Ok = Value;
}

impl qmp::QmpCommand for Commit {}

impl Monitor {
    /// All block nodes.
    pub(super) async fn nodes(&self) -> Answer<Vec<Node>> {
        self.query(qmp::query_named_block_nodes { flat: Some(true) }, WITH_DISKS).await
    }

    /// Opens an overlay that lies on nothing yet: what it lies on is told by the transaction.
    pub(super) async fn add_overlay(&self, node: &str, file: &Path) -> Answer<()> {
        let options = json!({
            "driver": "qcow2",
            "node-name": node,
            "discard": "unmap",
            "backing": null,
            "file": {"driver": "file", "filename": file, "discard": "unmap"},
        });
        self.execute(AddNode(options), WITH_DISKS).await.map(drop)
    }

    /// Closes a node.
    pub(super) async fn remove_node(&self, node: &str) -> Answer<()> {
        self.execute(qmp::blockdev_del { node_name: node.to_owned() }, WITH_DISKS).await.map(drop)
    }

    /// The job with this id, if there is one.
    pub(super) async fn job(&self, id: Guid) -> Answer<Option<Job>> {
        let id = name_of(id);
        let jobs: Vec<Job> = self.query(qmp::query_jobs {}, WITH_DISKS).await?;
        Ok(jobs.into_iter().find(|job| job.id == id))
    }

    /// Moves the content of `top` down into `base`. The job stays in the list after its end, so that its error can be
    /// read; it finishes by itself, but for the topmost layer, which waits for [`Monitor::complete`] once it is ready.
    ///
    /// `file` is the file of `base`, unless the layer is the topmost one. It goes into the header of what lies above: the
    /// words that QEMU has for a node may hold things only that process knows.
    pub(super) async fn commit(
        &self,
        job: Guid,
        root: &str,
        (top, base): (&str, &str),
        file: Option<&Path>,
    ) -> Answer<()> {
        let command = Commit {
            job_id: name_of(job),
            device: root.to_owned(),
            top_node: top.to_owned(),
            base_node: base.to_owned(),
            backing_file: file.map(Path::to_path_buf),
            auto_finalize: true,
            auto_dismiss: false,
        };
        self.execute(command, WITH_DISKS).await.map(drop)
    }

    /// Ends a job that is ready by making its target the disk.
    pub(super) async fn complete(&self, job: Guid) -> Answer<()> {
        self.execute(qmp::job_complete { id: name_of(job) }, WITH_DISKS).await.map(drop)
    }

    /// Tells a job to give up. One that has ended already is no error.
    pub(super) async fn cancel(&self, job: Guid) -> Answer<()> {
        match self.execute(qmp::job_cancel { id: name_of(job) }, AT_ONCE).await {
            Ok(_) | Err(MonitorError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Forgets a job that has ended. One that is forgotten already is no error.
    pub(super) async fn dismiss(&self, job: Guid) -> Answer<()> {
        match self.execute(qmp::job_dismiss { id: name_of(job) }, AT_ONCE).await {
            Ok(_) | Err(MonitorError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The name of a job: QEMU's names begin with a letter, which a GUID need not do.
fn name_of(job: Guid) -> String {
    format!("job-{job}")
}

/// The node that gives a file its layout: the nodes of the plain file and of filters have the same file name.
pub(super) fn node_of<'a>(nodes: &'a [Node], file: &Path, driver: &str) -> Option<&'a str> {
    let wanted = canonical(file);
    let same = |node: &&Node| node.drv == driver && canonical(&file_of(&node.file)) == wanted;
    nodes.iter().find(same).and_then(|node| node.name.as_deref())
}

/// The file of a node. QEMU describes one in JSON whose options do not follow from the file, as with an overlay that is
/// not attached to what its header names.
pub(super) fn file_of(name: &str) -> PathBuf {
    let described = name.strip_prefix("json:").and_then(|text| serde_json::from_str::<Value>(text).ok());
    let mut value = described.as_ref();
    while let Some(options) = value {
        if let Some(file) = options.get("filename").and_then(Value::as_str) {
            return PathBuf::from(file);
        }
        value = options.get("file");
    }
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_node_is_found_in_either_spelling() {
        assert_eq!(file_of("/d/disk.qcow2"), Path::new("/d/disk.qcow2"));
        let text = r#"json:{"backing": null, "driver": "qcow2", "file": {"driver": "file", "filename": "/d/o"}}"#;
        assert_eq!(file_of(text), Path::new("/d/o"));
        assert_eq!(file_of("json:{"), Path::new("json:{"));
    }
}
