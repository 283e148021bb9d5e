//! Machines, snapshots, collections, volumes and jobs (rank 3).
//!
//! Reading is free of waiting: [`Engine::view`] gives an immutable [`View`] of everything.
//! Changing is a command, an `async` method of [`Engine`] that returns once its record is durable.
//! Work that takes longer than the command becomes a [`Job`]; what has changed is read with [`Engine::events_after`].
//!
//! Invariants: the view never shows what is not durable (except the percentage of a running job, and sizes that are measured again);
//! a step of a job is durable before it is executed; a job that was acknowledged ends, also across a crash.
//! Whoever acts for somebody else goes through the [`Gate`], which knows roles and scopes and keeps the record.
//! The engine knows no CIM class, no URI and no return value: `providers` translates.

mod collections;
mod command;
mod commands;
mod error;
mod events;
mod export;
mod foreign;
mod gate;
mod gate_commands;
mod group;
mod job;
mod job_state;
mod journal;
mod ledger;
mod merging;
mod model;
mod options;
mod power;
mod queue;
mod reach;
mod recovery;
mod reference_point;
mod reference_points;
mod report;
mod runner;
mod settings;
mod snapshots;
mod sqlite;
mod start;
mod store;
mod view;
mod volumes;
mod work;

pub use command::{
    BackupIntent, CancelMode, CollectionChange, CreateGroupSnapshot, CreateSnapshot, CreateVolumeSnapshot,
    DefineCollection, ExportSettings, GroupSnapshotType, Outcome, RequestedState, SnapshotSettings, SnapshotType,
    SystemChange, VolumeOutcome,
};
pub use commands::Engine;
pub use error::EngineError;
pub use events::{Event, EventChange, EventWindow, JournalLimits, Subscription, Transition};
pub use gate::Gate;
pub use job::{AffectedElement, ElementEffect, ElementRef, Failure, Job, JobFailure, JobKind, Work};
pub use job_state::{Effect, InvalidTransition, JobEvent, JobState, step};
pub use model::{
    Activity, Collection, CollectionKind, ConsistencyLevel, Disk, GuestBackupType, Pool, Ports, ShutdownAction,
    Snapshot, SnapshotCollection, SnapshotKind, StartupAction, SystemState, UserSnapshotType, VirtualSystem, Volume,
    VolumeUsage,
};
pub use options::EngineOptions;
pub use reach::Reach;
pub use reference_point::{ReferenceDisk, ReferencePoint, ReferencePointCollection};
pub use report::Chain;
pub use sqlite::SqliteStore;
pub use store::{Change, Lease, Records, Store, StoreError};
pub use view::View;
