//! Snapshots that were found in the disks of machines and that this server did not make: shown, never changed.

use std::collections::BTreeMap;

use chrono::DateTime;
use md5::{Digest, Md5};

use super::runner::Inner;
use super::{ConsistencyLevel, EngineError, Snapshot, SnapshotKind, VirtualSystem};
use crate::backend::{ForeignSnapshot, MachineReport};
use crate::time::{Guid, Timestamp};

/// The identity of a foreign snapshot: the same at every start, for it has no record of its own anywhere else.
fn identity(system: Guid, tag: &str) -> Guid {
    let digest = Md5::new().chain_update(system.as_uuid().as_bytes()).chain_update(tag.as_bytes()).finalize();
    Guid::from_uuid(uuid::Builder::from_md5_bytes(digest.into()).into_uuid())
}

/// The record of a foreign snapshot; what only its maker knows stays as the machine has it today.
fn record(system: &VirtualSystem, found: &ForeignSnapshot, sequence: u64, now: Timestamp) -> Snapshot {
    Snapshot {
        id: identity(system.id, &found.tag),
        sequence,
        system: system.id,
        parent: None,
        name: found.tag.as_str().into(),
        notes: String::new(),
        created: DateTime::from_timestamp(found.created, 0).unwrap_or(now),
        kind: SnapshotKind::Standard,
        automatic: false,
        has_memory: found.has_memory,
        memory_file: None,
        wanted_consistency: ConsistencyLevel::Unknown,
        consistency: ConsistencyLevel::Crash,
        disks: found.disks.clone(),
        skipped_disks: Vec::new(),
        missing: false,
        foreign: true,
        snapshot_collection: None,
        paused_ms: 0,
        frozen_ms: 0,
        bytes: 0,
        launch: None,
        memory_mb: system.memory_mb,
        processors: system.processors,
        ports: system.ports.clone(),
        tracking: Vec::new(),
        tracking_lost: false,
    }
}

impl Inner {
    /// Finds out which snapshots have lost their files, and what others have made or removed.
    pub(super) async fn look_at_snapshots(&self) -> Result<(), EngineError> {
        self.find_missing().await?;
        let machines = self.hypervisor.machines().await?;
        self.show_foreign(&machines).await
    }

    /// Shows what others have put into the disks since the last look, and forgets what they have taken out.
    /// A tag that is a GUID is one of ours, or of another server like this.
    pub(super) async fn show_foreign(&self, machines: &[MachineReport]) -> Result<(), EngineError> {
        let now = self.now();
        self.ledger
            .transact(|draft| {
                for report in machines {
                    let Some(system) = draft.view().system(report.definition.id).cloned() else { continue };
                    let Some(inside) = &report.foreign else { continue };
                    let theirs = inside.iter().filter(|found| found.tag.parse::<Guid>().is_err());
                    let mut found: BTreeMap<Guid, &ForeignSnapshot> =
                        theirs.map(|found| (identity(system.id, &found.tag), found)).collect();
                    let known: Vec<Guid> = draft
                        .view()
                        .snapshots_of(system.id)
                        .filter(|snapshot| snapshot.foreign)
                        .map(|snapshot| snapshot.id)
                        .collect();
                    for id in known {
                        if found.remove(&id).is_none() {
                            draft.delete_snapshot(id);
                        }
                    }
                    for foreign in found.into_values() {
                        let sequence = draft.next_sequence();
                        draft.put_snapshot(record(&system, foreign, sequence, now));
                    }
                }
                Ok(())
            })
            .await
    }
}
