//! Pools, volumes and their snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};
use tracing::warn;

use super::ledger::Draft;
use super::report::Chain;
use super::runner::{Inner, NewJob};
use super::settings::{check_name, default_name};
use super::{
    CreateVolumeSnapshot, ElementRef, EngineError, JobKind, Pool, View, Volume, VolumeOutcome, VolumeUsage, Work,
};
use crate::backend::{BackendError, Cause, VolumePoolReport, VolumeReport, VolumeSnapshotRequest};
use crate::time::{Guid, Timestamp};

impl Inner {
    /// Makes the snapshot at once or as a job. A clone whose record was not written before a stop of the server is
    /// adopted at the next start, see [`Inner::refresh_volumes`].
    pub(super) async fn create_volume_snapshot(
        self: &Arc<Self>,
        request: CreateVolumeSnapshot,
        user: &str,
    ) -> Result<VolumeOutcome, EngineError> {
        self.check_open()?;
        if let Some(name) = &request.name {
            check_name(name)?;
        }
        let (call, source, pool) = self.plan_volume_snapshot(&request)?;
        let offset = self.settings.utc_offset_seconds;
        let name = request.name.clone().unwrap_or_else(|| default_name(&source.name, self.now(), offset));
        let id = call.id;
        match self.volumes.instant_snapshot(&call).await {
            Ok(Some(report)) => {
                self.record_snapshot(&source, pool, name, id, &report).await?;
                return Ok(VolumeOutcome::Done { volume: id });
            }
            Ok(None) => {}
            Err(BackendError { cause: Cause::NotSupported(text), .. }) => {
                return Err(EngineError::PoolCannotSnapshot(text));
            }
            Err(BackendError { cause: Cause::InUse(_), .. }) => {
                return Err(EngineError::VolumeNotUsable("another process uses it"));
            }
            // Removed behind our back; the next look at the pool forgets it.
            Err(BackendError { cause: Cause::FileNotFound(path), .. }) if path == source.path => {
                return Err(EngineError::NoSuchVolume(source.id));
            }
            Err(error) => return Err(error.into()),
        }
        let job = self.submit(user, |draft| {
            draft.view().volume(source.id).ok_or(EngineError::NoSuchVolume(source.id))?;
            Ok(NewJob {
                kind: JobKind::CopyVolume,
                target: ElementRef::Volume(source.id),
                caption: format_smolstr!("Copying volume {}", source.name),
                affected: vec![ElementRef::Volume(source.id)],
                lanes: vec![pool],
                work: Work::CopyVolume { source: source.id, pool, name, request: call },
            })
        });
        Ok(VolumeOutcome::Started { job: job.await?, volume: id })
    }

    fn plan_volume_snapshot(
        &self,
        request: &CreateVolumeSnapshot,
    ) -> Result<(VolumeSnapshotRequest, Arc<Volume>, Guid), EngineError> {
        let view = self.view();
        let source = view.volume(request.source).ok_or(EngineError::NoSuchVolume(request.source))?;
        if source.snapshot_of.is_some() {
            return Err(EngineError::VolumeNotUsable("it is a snapshot itself"));
        }
        let find = |id| view.pool(id).ok_or(EngineError::NoSuchPool(id));
        let from = find(source.pool)?;
        let to = find(request.target_pool.unwrap_or(source.pool))?;
        if to.read_only {
            return Err(EngineError::PoolCannotSnapshot("the target pool is read-only".to_owned()));
        }
        let id = self.ids.new_guid();
        let call = VolumeSnapshotRequest {
            source_pool: from.name.to_string(),
            source: source.file_name.to_string(),
            target_pool: to.name.to_string(),
            target: format!("{}.{id}.snapshot", source.file_name),
            id,
        };
        Ok((call, Arc::clone(source), to.id))
    }

    async fn record_snapshot(
        &self,
        source: &Volume,
        pool: Guid,
        name: SmolStr,
        id: Guid,
        report: &VolumeReport,
    ) -> Result<(), EngineError> {
        let created = self.now();
        self.ledger
            .transact(|draft| {
                let snapshot = Volume {
                    pool,
                    name,
                    snapshot_of: Some(source.id),
                    usage: VolumeUsage::LocalReplica,
                    ..new_volume(id, pool, report, created)
                };
                draft.put_volume(snapshot);
                Ok(())
            })
            .await
    }

    /// Deletes a snapshot, its file first: a record without a file is forgotten at the next look at the pool, so a stop
    /// of the server in between leaves nothing wrong.
    pub(super) async fn delete_volume(&self, id: Guid) -> Result<(), EngineError> {
        self.check_open()?;
        let view = self.view();
        let volume = view.volume(id).ok_or(EngineError::NoSuchVolume(id))?;
        let pool = view.pool(volume.pool).ok_or(EngineError::NoSuchPool(volume.pool))?;
        if volume.snapshot_of.is_none() && volume.usage != VolumeUsage::LocalReplica {
            return Err(EngineError::NotSupported("deleting a volume that is no snapshot"));
        }
        if view.systems().any(|system| system.disks.iter().any(|disk| disk.path == volume.path)) {
            return Err(EngineError::VolumeInUse("it is a disk of a virtual system"));
        }
        if view.jobs_of(id).any(|job| !job.state.is_final()) {
            return Err(EngineError::Busy);
        }
        match self.volumes.delete_volume(&pool.name, &volume.file_name).await {
            Ok(()) | Err(BackendError { cause: Cause::FileNotFound(_), .. }) => {}
            Err(BackendError { cause: Cause::InUse(_), .. }) => {
                return Err(EngineError::VolumeInUse("another process uses it"));
            }
            Err(error) => return Err(error.into()),
        }
        self.ledger
            .transact(|draft| {
                draft.delete_volume(id);
                Ok(())
            })
            .await
    }

    /// Looks at pools and volumes, and at the state of every machine.
    pub(super) async fn refresh(&self) -> Result<(), EngineError> {
        self.refresh_volumes().await?;
        let systems: Vec<Guid> = self.view().systems().map(|system| system.id).collect();
        for system in systems {
            self.look_at(system).await;
        }
        Ok(())
    }

    /// Takes over what the pools hold now: known volumes keep their identity, new ones get one, gone ones go.
    pub(super) async fn refresh_volumes(&self) -> Result<(), EngineError> {
        // What is recorded while the lists are made may be missing in them, and is not gone.
        let before = self.view();
        let mut found = Vec::new();
        for pool in self.volumes.pools().await? {
            match self.volumes.volumes(&pool.name).await {
                Ok(volumes) => found.push((pool, volumes)),
                Err(error) => warn!(pool = pool.name, error = %Chain(&error), "The volumes of a pool are not known"),
            }
        }
        let now = self.now();
        self.ledger
            .transact(|draft| {
                for (report, volumes) in &found {
                    self.take_over_pool(draft, &before, report, volumes, now);
                }
                Ok(())
            })
            .await
    }

    fn take_over_pool(
        &self,
        draft: &mut Draft,
        before: &View,
        report: &VolumePoolReport,
        volumes: &[VolumeReport],
        now: Timestamp,
    ) {
        let known = draft.view().pools().find(|pool| pool.name == report.name.as_str()).cloned();
        let id = known.as_ref().map_or_else(|| self.ids.new_guid(), |pool| pool.id);
        let pool = pool_of(id, report);
        match known.as_deref() {
            Some(known) if *known == pool => {}
            Some(known) if *known == (Pool { free_bytes: known.free_bytes, ..pool.clone() }) => draft.show_pool(pool),
            _ => draft.put_pool(pool),
        }
        let of_pool = draft.view().volumes_of(id);
        let mut old: BTreeMap<SmolStr, Arc<Volume>> =
            of_pool.map(|volume| (volume.file_name.clone(), Arc::clone(volume))).collect();
        for report in volumes {
            if let Some(known) = old.remove(report.name.as_str()) {
                let volume = Volume {
                    path: report.path.clone(),
                    bytes: report.bytes,
                    allocated_bytes: report.allocated_bytes,
                    ..Volume::clone(&known)
                };
                if volume.path != known.path {
                    draft.put_volume(volume);
                } else if volume != *known {
                    draft.show_volume(volume);
                }
                continue;
            }
            let volume = self.adopt(draft.view(), id, report, now);
            if !is_being_made(draft.view(), volume.id) {
                draft.put_volume(volume);
            }
        }
        for gone in old.values().filter(|volume| before.volume(volume.id).is_some()) {
            draft.delete_volume(gone.id);
        }
    }

    /// The record of a file that had none. The name of a snapshot file says which volume and which identity it has,
    /// so that a clone whose record was not written before a stop of the server is a snapshot all the same.
    fn adopt(&self, view: &View, pool: Guid, report: &VolumeReport, now: Timestamp) -> Volume {
        let named = report.name.strip_suffix(".snapshot").and_then(|name| name.rsplit_once('.'));
        if let Some((source, id)) = named.and_then(|(source, id)| Some((source, id.parse::<Guid>().ok()?)))
            && view.volume(id).is_none()
        {
            let source = view.volumes_of(pool).find(|volume| volume.file_name == source).map(|volume| volume.id);
            let usage = if source.is_some() { VolumeUsage::LocalReplica } else { VolumeUsage::Ordinary };
            return Volume {
                snapshot_of: source,
                usage,
                ..new_volume(id, pool, report, report.created.unwrap_or(now))
            };
        }
        new_volume(self.ids.new_guid(), pool, report, report.created.unwrap_or(now))
    }
}

/// True while a job that makes this volume has not ended.
fn is_being_made(view: &View, volume: Guid) -> bool {
    let makes = |work: &Work| matches!(work, Work::CopyVolume { request, .. } if request.id == volume);
    view.jobs().any(|job| !job.state.is_final() && makes(&job.work))
}

fn pool_of(id: Guid, report: &VolumePoolReport) -> Pool {
    Pool {
        id,
        name: report.name.as_str().into(),
        path: report.path.clone(),
        instant_clone: report.instant_clone,
        copy: report.copy,
        read_only: report.read_only,
        total_bytes: report.total_bytes,
        free_bytes: report.free_bytes,
    }
}

fn new_volume(id: Guid, pool: Guid, report: &VolumeReport, created: Timestamp) -> Volume {
    Volume {
        id,
        pool,
        file_name: report.name.as_str().into(),
        name: report.name.as_str().into(),
        path: report.path.clone(),
        snapshot_of: None,
        usage: VolumeUsage::Ordinary,
        bytes: report.bytes,
        allocated_bytes: report.allocated_bytes,
        created,
    }
}
