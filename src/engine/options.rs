//! What the engine is opened with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{JournalLimits, Store};
use crate::access::{AuditTrail, NoAudit};
use crate::backend::{CollectionDefinition, Hypervisor, VolumeManager};
use crate::time::{Clock, IdSource};

/// Everything the engine gets from outside.
pub struct EngineOptions {
    /// Where records are kept.
    pub store: Arc<dyn Store>,
    /// The machines.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The pools and volumes.
    pub volumes: Arc<dyn VolumeManager>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New identifiers.
    pub ids: Arc<dyn IdSource>,
    /// The record of what users change.
    pub audit: Arc<dyn AuditTrail>,
    /// The name of this host: owner of the store's lease.
    pub host_name: String,
    /// Seconds east of UTC, for the names of snapshots.
    pub utc_offset_seconds: i32,
    /// Directories below which exports may lie; none means that nothing can be exported.
    pub export_directories: Vec<PathBuf>,
    /// Collections of the configuration.
    pub collections: Vec<CollectionDefinition>,
    /// How long an ended job stays readable.
    pub job_retention: Duration,
    /// How many jobs may wait for one machine or pool.
    pub queue_limit: usize,
    /// How long a call to a hypervisor may take without any progress before its job fails.
    pub backend_timeout: Duration,
    /// How many events are kept, and how long.
    pub journal: JournalLimits,
    /// How long shutdown waits for running jobs before it interrupts them.
    pub shutdown_grace: Duration,
}

impl EngineOptions {
    /// Options with the published defaults: jobs stay five minutes, 32 jobs may wait, ten seconds of grace.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        hypervisor: Arc<dyn Hypervisor>,
        volumes: Arc<dyn VolumeManager>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        Self {
            store,
            hypervisor,
            volumes,
            clock,
            ids,
            audit: Arc::new(NoAudit),
            host_name: "localhost".to_owned(),
            utc_offset_seconds: 0,
            export_directories: Vec::new(),
            collections: Vec::new(),
            job_retention: Duration::from_secs(300),
            queue_limit: 32,
            backend_timeout: Duration::from_secs(120),
            journal: JournalLimits::default(),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}
