//! The commands on snapshots of one machine, and on the settings of machines and snapshots.

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::ledger::Draft;
use super::runner::{Inner, NewJob};
use super::settings::{check_apply, check_creation, check_name};
use super::{
    CreateSnapshot, ElementRef, EngineError, JobKind, Outcome, Snapshot, SnapshotKind, SnapshotType, SystemChange,
    VirtualSystem, Work,
};
use crate::time::Guid;

/// Fails for a snapshot that cannot be applied, whatever the state of its machine.
pub(super) fn check_applicable(snapshot: &Snapshot) -> Result<(), EngineError> {
    let reason = if snapshot.kind == SnapshotKind::Recovery {
        "a recovery snapshot cannot be applied"
    } else if snapshot.missing {
        "the files of the snapshot are missing"
    } else if snapshot.foreign {
        "the snapshot was not made by this server"
    } else {
        return Ok(());
    };
    Err(EngineError::InvalidParameter { parameter: "Snapshot", reason })
}

/// A job on one snapshot and its machine.
fn snapshot_job(draft: &Draft, snapshot: Guid, kind: JobKind, verb: &str, work: Work) -> Result<NewJob, EngineError> {
    let snapshot = draft.snapshot(snapshot)?;
    Ok(NewJob {
        kind,
        target: ElementRef::Snapshot(snapshot.id),
        caption: format_smolstr!("{verb} {}", snapshot.name),
        affected: vec![ElementRef::System(snapshot.system)],
        lanes: vec![snapshot.system],
        work,
    })
}

impl Inner {
    pub(super) async fn create_snapshot(
        self: &Arc<Self>,
        request: CreateSnapshot,
        user: &str,
    ) -> Result<Outcome<Guid>, EngineError> {
        let CreateSnapshot { system: id, snapshot_type, settings } = request;
        if let Some(name) = &settings.name {
            check_name(name)?;
        }
        let snapshot = self.ids.new_guid();
        let can = self.hypervisor.capabilities();
        let kind =
            if snapshot_type == SnapshotType::Recovery { SnapshotKind::Recovery } else { SnapshotKind::Standard };
        let job = self.submit(user, |draft| {
            let system = draft.system(id)?;
            check_creation(system.state, can)?;
            Ok(NewJob {
                kind: JobKind::CreateSnapshot,
                target: ElementRef::System(id),
                caption: format_smolstr!("Creating a snapshot of {}", system.name),
                affected: vec![ElementRef::System(id)],
                lanes: vec![id],
                work: Work::Create {
                    group: None,
                    members: vec![(id, snapshot)],
                    settings,
                    kind,
                    full: matches!(snapshot_type, SnapshotType::Full | SnapshotType::Automatic),
                    automatic: snapshot_type == SnapshotType::Automatic,
                    requests: Vec::new(),
                },
            })
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn apply_snapshot(self: &Arc<Self>, id: Guid, user: &str) -> Result<Outcome<()>, EngineError> {
        let system = self.view().snapshot(id).map(|snapshot| snapshot.system);
        self.look_at(system.ok_or(EngineError::NoSuchSnapshot(id))?).await;
        let job = self.submit(user, |draft| {
            let snapshot = draft.snapshot(id)?;
            check_applicable(snapshot)?;
            check_apply(draft.system(snapshot.system)?.state)?;
            let work = Work::Apply { group: None, snapshots: vec![id], requests: Vec::new() };
            snapshot_job(draft, id, JobKind::ApplySnapshot, "Applying snapshot", work)
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn destroy_snapshot(self: &Arc<Self>, id: Guid, user: &str) -> Result<Outcome<()>, EngineError> {
        self.destroy(id, None, "Destroying snapshot", user).await
    }

    pub(super) async fn destroy_snapshot_tree(
        self: &Arc<Self>,
        root: Guid,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        self.destroy(root, Some(root), "Destroying snapshots from", user).await
    }

    async fn destroy(
        self: &Arc<Self>,
        id: Guid,
        tree: Option<Guid>,
        verb: &str,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        let job = self.submit(user, |draft| {
            let snapshot = draft.snapshot(id)?;
            if tree.is_some() && snapshot.kind == SnapshotKind::Recovery {
                let reason = "a recovery snapshot has no tree";
                return Err(EngineError::InvalidParameter { parameter: "SnapshotSettingData", reason });
            }
            if snapshot.foreign {
                let reason = "the snapshot was not made by this server";
                return Err(EngineError::InvalidParameter { parameter: "AffectedSnapshot", reason });
            }
            let work = Work::Destroy { group: None, tree, snapshots: vec![id], requests: Vec::new() };
            snapshot_job(draft, id, JobKind::DestroySnapshot, verb, work)
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn clear_snapshot_state(
        self: &Arc<Self>,
        id: Guid,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        let view = self.view();
        if !view.snapshot(id).ok_or(EngineError::NoSuchSnapshot(id))?.has_memory {
            return Ok(Outcome::Done(()));
        }
        let job = self.submit(user, |draft| {
            if draft.snapshot(id)?.foreign {
                let reason = "the snapshot was not made by this server";
                return Err(EngineError::InvalidParameter { parameter: "SnapshotSettingData", reason });
            }
            let work = Work::ClearState { snapshot: id };
            snapshot_job(draft, id, JobKind::ClearSnapshotState, "Clearing the state of", work)
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn modify_system(&self, id: Guid, change: SystemChange) -> Result<(), EngineError> {
        self.check_open()?;
        if let Some(name) = &change.name {
            check_name(name)?;
        }
        let now = self.now();
        self.ledger
            .transact(|draft| {
                let mut system = VirtualSystem::clone(draft.system(id)?);
                system.name = change.name.unwrap_or(system.name);
                system.notes = change.notes.unwrap_or(system.notes);
                system.user_snapshot_type = change.user_snapshot_type.unwrap_or(system.user_snapshot_type);
                system.incremental_backup = change.incremental_backup.unwrap_or(system.incremental_backup);
                system.startup_action = change.startup_action.unwrap_or(system.startup_action);
                system.shutdown_action = change.shutdown_action.unwrap_or(system.shutdown_action);
                system.config_changed = now;
                draft.put_system(system);
                Ok(())
            })
            .await
    }

    pub(super) async fn modify_snapshot(
        &self,
        id: Guid,
        name: Option<SmolStr>,
        notes: Option<String>,
    ) -> Result<(), EngineError> {
        self.check_open()?;
        if let Some(name) = &name {
            check_name(name)?;
        }
        self.ledger
            .transact(|draft| {
                let mut snapshot = Snapshot::clone(draft.snapshot(id)?);
                if snapshot.foreign {
                    let reason = "the snapshot was not made by this server";
                    return Err(EngineError::InvalidParameter { parameter: "SystemSettings", reason });
                }
                snapshot.name = name.unwrap_or(snapshot.name);
                snapshot.notes = notes.unwrap_or(snapshot.notes);
                draft.put_snapshot(snapshot);
                Ok(())
            })
            .await
    }
}
