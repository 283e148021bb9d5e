//! The commands we give a monitor, with the parts of its answers that we read.

use std::time::Duration;

use qapi::qmp;
use serde::{Deserialize, Serialize};

use super::image::Tag;
use super::launch::AGENT_CHANNEL;
use super::monitor::{Monitor, MonitorError};

/// How long an answer may take that QEMU gives at once.
pub(super) const AT_ONCE: Duration = Duration::from_secs(5);
/// How long an answer may take that waits for disks.
pub(super) const WITH_DISKS: Duration = Duration::from_secs(30);

type Answer<T> = Result<T, MonitorError>;

/// `query-status`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Status {
    pub(super) status: String,
    #[serde(default)]
    pub(super) running: bool,
}

/// `query-migrate`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct MigrationInfo {
    #[serde(default)]
    pub(super) status: String,
    pub(super) ram: Option<MigrationRam>,
    pub(super) error_desc: Option<String>,
}

/// Bytes of memory on their way.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct MigrationRam {
    #[serde(default)]
    pub(super) total: u64,
    #[serde(default)]
    pub(super) remaining: u64,
    #[serde(default)]
    pub(super) dirty_sync_count: u64,
}

/// An entry of `query-block`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct BlockDevice {
    pub(super) inserted: Option<InsertedMedium>,
}

/// What is in a drive.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct InsertedMedium {
    pub(super) file: String,
    pub(super) node_name: Option<String>,
    pub(super) image: MediumImage,
}

/// The image behind a medium.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct MediumImage {
    #[serde(default)]
    pub(super) snapshots: Vec<Tag>,
}

/// An entry of `query-migrate-capabilities`.
#[derive(Debug, Clone, Deserialize)]
struct Capability {
    capability: String,
}

/// A capability of migration and whether it is to be on.
#[derive(Debug, Clone, Serialize)]
struct CapabilityState {
    capability: &'static str,
    state: bool,
}

/// `migrate-set-capabilities` with names as texts, so that one a QEMU lacks can be left out.
#[derive(Debug, Clone, Serialize)]
struct SetCapabilities {
    capabilities: Vec<CapabilityState>,
}

impl qapi::Command for SetCapabilities {
    const NAME: &'static str = "migrate-set-capabilities";
    const ALLOW_OOB: bool = false;
    type Ok = serde_json::Value;
}

impl qmp::QmpCommand for SetCapabilities {}

/// The parameters of `migrate-set-parameters` that we set.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SetParameters {
    max_bandwidth: u64,
    downtime_limit: u64,
}

impl qapi::Command for SetParameters {
    const NAME: &'static str = "migrate-set-parameters";
    const ALLOW_OOB: bool = false;
    type Ok = serde_json::Value;
}

impl qmp::QmpCommand for SetParameters {}

/// `blockdev-set-active` without a node: all of them. QEMU has it from version 10 on.
#[derive(Debug, Clone, Serialize)]
struct SetActive {
    active: bool,
}

impl qapi::Command for SetActive {
    const NAME: &'static str = "blockdev-set-active";
    const ALLOW_OOB: bool = false;
    type Ok = serde_json::Value;
}

impl qmp::QmpCommand for SetActive {}

/// An entry of `query-chardev`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Chardev {
    label: String,
    #[serde(default)]
    frontend_open: bool,
}

impl Monitor {
    pub(super) async fn status(&self) -> Answer<Status> {
        self.query(qmp::query_status {}, AT_ONCE).await
    }

    pub(super) async fn stop(&self) -> Answer<()> {
        self.execute(qmp::stop {}, WITH_DISKS).await.map(drop)
    }

    /// Lets the guest run. QEMU calls a transfer of memory completed a moment before it allows that.
    pub(super) async fn cont(&self) -> Answer<()> {
        let deadline = tokio::time::Instant::now() + AT_ONCE;
        loop {
            match self.execute(qmp::cont {}, WITH_DISKS).await {
                Err(MonitorError::Refused { text, .. })
                    if text.contains("not finalized") && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                other => return other.map(drop),
            }
        }
    }

    pub(super) async fn quit(&self) -> Answer<()> {
        match self.execute(qmp::quit {}, WITH_DISKS).await {
            // It may be gone before its answer is.
            Ok(_) | Err(MonitorError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn power_down(&self) -> Answer<()> {
        self.execute(qmp::system_powerdown {}, AT_ONCE).await.map(drop)
    }

    pub(super) async fn reset(&self) -> Answer<()> {
        self.execute(qmp::system_reset {}, AT_ONCE).await.map(drop)
    }

    /// Takes all disks back after a transfer of memory has let them go.
    pub(super) async fn activate_disks(&self) -> Answer<()> {
        self.execute(SetActive { active: true }, WITH_DISKS).await.map(drop)
    }

    /// True when the guest has opened the channel of its agent, of a machine that we started.
    pub(super) async fn agent_is_open(&self) -> Answer<bool> {
        let devices: Vec<Chardev> = self.query(qmp::query_chardev {}, AT_ONCE).await?;
        Ok(devices.iter().any(|device| device.label == AGENT_CHANNEL && device.frontend_open))
    }

    /// The media in all drives.
    pub(super) async fn media(&self) -> Answer<Vec<InsertedMedium>> {
        let devices: Vec<BlockDevice> = self.query(qmp::query_block {}, WITH_DISKS).await?;
        Ok(devices.into_iter().filter_map(|device| device.inserted).collect())
    }

    pub(super) async fn transaction(&self, actions: Vec<qmp::TransactionAction>) -> Answer<()> {
        self.execute(qmp::transaction { properties: None, actions }, WITH_DISKS).await.map(drop)
    }

    /// Removes a snapshot from a disk; one that is not there is no error.
    pub(super) async fn remove_tag(&self, node: &str, tag: &str) -> Answer<()> {
        let command = qmp::blockdev_snapshot_delete_internal_sync {
            device: node.to_owned(),
            id: None,
            name: Some(tag.to_owned()),
        };
        match self.query::<_, serde_json::Value>(command, WITH_DISKS).await {
            Ok(_) => Ok(()),
            Err(MonitorError::Refused { text, .. }) if text.contains("does not exist") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The names of the migration capabilities this QEMU knows.
    pub(super) async fn migration_capabilities(&self) -> Answer<Vec<String>> {
        let all: Vec<Capability> = self.query(qmp::query_migrate_capabilities {}, AT_ONCE).await?;
        Ok(all.into_iter().map(|capability| capability.capability).collect())
    }

    pub(super) async fn set_migration_capabilities(&self, states: &[(&'static str, bool)]) -> Answer<()> {
        let capabilities = states.iter().map(|&(capability, state)| CapabilityState { capability, state }).collect();
        self.execute(SetCapabilities { capabilities }, AT_ONCE).await.map(drop)
    }

    /// Bandwidth in bytes a second (0 for no limit), and the longest last pass in milliseconds.
    pub(super) async fn set_migration_parameters(&self, max_bandwidth: u64, downtime_limit: u64) -> Answer<()> {
        self.execute(SetParameters { max_bandwidth, downtime_limit }, AT_ONCE).await.map(drop)
    }

    pub(super) async fn migrate(&self, uri: String) -> Answer<()> {
        let command = qmp::migrate { channels: None, detach: None, resume: None, uri: Some(uri) };
        self.execute(command, WITH_DISKS).await.map(drop)
    }

    pub(super) async fn migrate_continue(&self) -> Answer<()> {
        let command = qmp::migrate_continue { state: qmp::MigrationStatus::pre_switchover };
        self.execute(command, WITH_DISKS).await.map(drop)
    }

    pub(super) async fn migrate_incoming(&self, uri: String) -> Answer<()> {
        let command = qmp::migrate_incoming { channels: None, exit_on_error: None, uri: Some(uri) };
        self.execute(command, WITH_DISKS).await.map(drop)
    }

    pub(super) async fn migrate_cancel(&self) -> Answer<()> {
        self.execute(qmp::migrate_cancel {}, WITH_DISKS).await.map(drop)
    }

    pub(super) async fn migration(&self) -> Answer<MigrationInfo> {
        self.query(qmp::query_migrate {}, WITH_DISKS).await
    }
}

/// The action that makes a snapshot inside a disk, as part of a transaction.
pub(super) fn internal_snapshot(node: &str, tag: &str) -> qmp::TransactionAction {
    let data = qmp::BlockdevSnapshotInternal { device: node.to_owned(), name: tag.to_owned() };
    qmp::TransactionAction::blockdev_snapshot_internal_sync(data.into())
}
