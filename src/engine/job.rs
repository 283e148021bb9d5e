//! Jobs: work that outlives its request.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{ConsistencyLevel, ExportSettings, JobState, RequestedState, SnapshotKind, SnapshotSettings};
use crate::backend::{
    ApplyRequest, DestroyRequest, ExportRequest, SnapshotRequest, TrackingRequest, VolumeSnapshotRequest,
};
use crate::time::{Guid, Timestamp};

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Creates a snapshot.
    CreateSnapshot,
    /// Applies a snapshot.
    ApplySnapshot,
    /// Destroys a snapshot or a tree of them.
    DestroySnapshot,
    /// Drops the memory of a snapshot.
    ClearSnapshotState,
    /// Changes the state of a system.
    ChangeState,
    /// Copies a volume.
    CopyVolume,
    /// Turns recovery snapshots into reference points.
    ConvertToReferencePoint,
    /// Makes a reference point without a snapshot.
    CreateReferencePoint,
    /// Makes reference points of a collection without snapshots.
    CreateGroupReferencePoint,
    /// Destroys a reference point.
    DestroyReferencePoint,
    /// Destroys a reference point collection.
    DestroyGroupReferencePoint,
    /// Exports snapshots.
    Export,
    /// Merges what snapshots that are gone have left in the disks of a system.
    MergeDisks,
}

impl JobKind {
    /// The job type number of Hyper-V (`snapshot-semantics` §5).
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::CreateSnapshot => 70,
            Self::ApplySnapshot => 71,
            Self::DestroySnapshot => 72,
            Self::ClearSnapshotState => 73,
            Self::ChangeState => 2,
            Self::CopyVolume => 0,
            Self::ConvertToReferencePoint => 200,
            Self::CreateReferencePoint => 201,
            Self::CreateGroupReferencePoint => 205,
            Self::DestroyReferencePoint => 202,
            Self::DestroyGroupReferencePoint => 208,
            Self::Export => 62,
            Self::MergeDisks => 50,
        }
    }

    /// True for jobs that can be cancelled once they run, because what they do can be undone or be left half done.
    #[must_use]
    pub const fn can_be_undone(self) -> bool {
        matches!(
            self,
            Self::CreateSnapshot
                | Self::ApplySnapshot
                | Self::CopyVolume
                | Self::ConvertToReferencePoint
                | Self::CreateReferencePoint
                | Self::CreateGroupReferencePoint
                | Self::Export
                | Self::MergeDisks
        )
    }
}

/// Something a job works on or makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElementRef {
    /// A virtual system.
    System(Guid),
    /// A snapshot.
    Snapshot(Guid),
    /// A collection.
    Collection(Guid),
    /// A snapshot collection.
    SnapshotCollection(Guid),
    /// A volume.
    Volume(Guid),
    /// A reference point.
    ReferencePoint(Guid),
    /// A reference point collection.
    ReferencePointCollection(Guid),
}

impl ElementRef {
    /// The identity of the element.
    #[must_use]
    pub const fn id(self) -> Guid {
        match self {
            Self::System(id)
            | Self::Snapshot(id)
            | Self::Collection(id)
            | Self::SnapshotCollection(id)
            | Self::Volume(id)
            | Self::ReferencePoint(id)
            | Self::ReferencePointCollection(id) => id,
        }
    }
}

/// What a job does to an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElementEffect {
    /// 0: it works on it.
    Unknown,
    /// 5: it made it.
    Creates,
}

impl ElementEffect {
    /// The number of the value map of `ElementEffects`.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Unknown => 0,
            Self::Creates => 5,
        }
    }
}

/// An element and what a job does to it. Elements the job makes appear when it is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffectedElement {
    /// The element.
    pub element: ElementRef,
    /// What happens to it.
    pub effect: ElementEffect,
}

/// Why a job failed: one value for each error code a job can carry (`snapshot-semantics` §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// 32768: no space, the guest did not quiesce, or the back-end failed.
    Failed,
    /// 32769: the host refuses our own account.
    AccessDenied,
    /// 32770: snapshots are disabled, or a disk cannot be snapshotted.
    NotSupported,
    /// 32772: the back-end did not answer in time.
    Timeout,
    /// 32773: what the job was to work on is gone.
    InvalidParameter,
    /// 32775: the state changed before the job got to it.
    InvalidState,
    /// 32777: machine or storage not reachable.
    Unreachable,
    /// 32778: memory exhausted.
    OutOfMemory,
    /// 32779: a snapshot file is not found.
    FileNotFound,
}

impl Failure {
    /// The job error code of Hyper-V.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Failed => 32768,
            Self::AccessDenied => 32769,
            Self::NotSupported => 32770,
            Self::Timeout => 32772,
            Self::InvalidParameter => 32773,
            Self::InvalidState => 32775,
            Self::Unreachable => 32777,
            Self::OutOfMemory => 32778,
            Self::FileNotFound => 32779,
        }
    }
}

/// A failure with a sentence that names the disk, the step and the cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// Its code.
    pub failure: Failure,
    /// The sentence for the user.
    pub description: String,
}

/// What a job has to do, stored with it so that it can be done or undone after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Takes one snapshot, or one of each member of a collection.
    Create {
        /// The snapshot collection to be and its collection.
        group: Option<(Guid, Guid)>,
        /// System and identity of each snapshot to be.
        members: Vec<(Guid, Guid)>,
        /// What the caller wants.
        settings: SnapshotSettings,
        /// What it is for.
        kind: SnapshotKind,
        /// Memory may be in it.
        full: bool,
        /// Taken by the host by itself.
        automatic: bool,
        /// Set when the job begins: the calls to the back-end.
        #[serde(default)]
        requests: Vec<SnapshotRequest>,
    },
    /// Applies one snapshot, or all of a snapshot collection.
    Apply {
        /// The snapshot collection.
        group: Option<Guid>,
        /// The snapshots.
        snapshots: Vec<Guid>,
        /// Set when the job begins: the calls to the back-end.
        #[serde(default)]
        requests: Vec<ApplyRequest>,
    },
    /// Destroys snapshots.
    Destroy {
        /// The snapshot collection that goes with them.
        group: Option<Guid>,
        /// The root of a tree whose members are looked up when the job begins.
        tree: Option<Guid>,
        /// The snapshots, descendants first.
        snapshots: Vec<Guid>,
        /// Set when the job begins: the calls to the back-end.
        #[serde(default)]
        requests: Vec<DestroyRequest>,
    },
    /// Drops the memory of a snapshot.
    ClearState {
        /// The snapshot.
        snapshot: Guid,
    },
    /// Changes the state of a system.
    ChangeState {
        /// The system.
        system: Guid,
        /// The state wanted.
        requested: RequestedState,
    },
    /// Copies a volume.
    CopyVolume {
        /// The source.
        source: Guid,
        /// The pool of the copy.
        pool: Guid,
        /// Display name of the copy.
        name: SmolStr,
        /// The call to the back-end.
        request: VolumeSnapshotRequest,
    },
    /// Turns recovery snapshots into reference points.
    Convert {
        /// The snapshot collection, and the reference point collection to be.
        group: Option<(Guid, Guid)>,
        /// Snapshot and identity of each reference point to be.
        points: Vec<(Guid, Guid)>,
        /// Set when the job begins: the calls to the back-end.
        #[serde(default)]
        requests: Vec<DestroyRequest>,
    },
    /// Makes reference points without snapshots.
    CreateReferencePoints {
        /// The reference point collection to be and its collection.
        group: Option<(Guid, Guid)>,
        /// System and identity of each reference point to be.
        members: Vec<(Guid, Guid)>,
        /// How consistent they must be.
        consistency: ConsistencyLevel,
        /// Set when the job begins: the calls to the back-end.
        #[serde(default)]
        requests: Vec<SnapshotRequest>,
    },
    /// Destroys reference points.
    DestroyReferencePoints {
        /// The reference point collection that goes with them.
        group: Option<Guid>,
        /// The reference points.
        points: Vec<Guid>,
        /// Set when the job begins: the calls to the back-end.
        #[serde(default)]
        requests: Vec<TrackingRequest>,
    },
    /// Exports snapshots.
    Export {
        /// The snapshot collection.
        group: Option<Guid>,
        /// The snapshots.
        snapshots: Vec<Guid>,
        /// What the caller wants.
        settings: ExportSettings,
        /// Set when the job begins: the call to the back-end.
        #[serde(default)]
        request: Option<ExportRequest>,
    },
    /// Merges what snapshots that are gone have left in the disks of a system.
    MergeDisks {
        /// The system.
        system: Guid,
    },
}

impl Work {
    /// What consistency is wanted, for a creation.
    #[must_use]
    pub const fn wanted_consistency(&self) -> Option<ConsistencyLevel> {
        match self {
            Self::Create { settings, .. } => Some(settings.consistency),
            _ => None,
        }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its identity.
    pub id: Guid,
    /// Position in the order of submission.
    pub sequence: u64,
    /// What it does.
    pub kind: JobKind,
    /// What it was asked to work on.
    pub target: ElementRef,
    /// Its name for progress displays, such as `Creating snapshot of web01`.
    pub caption: SmolStr,
    /// Where it is.
    pub state: JobState,
    /// Whole percent, never falling; 100 only when completed.
    pub percent: u8,
    /// Why it failed.
    pub failure: Option<JobFailure>,
    /// When it was accepted.
    pub submitted: Timestamp,
    /// When its work began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// When it last changed.
    pub changed: Timestamp,
    /// A cancel request would be accepted now.
    pub cancellable: bool,
    /// The user who asked for it.
    pub owner: SmolStr,
    /// What it works on, and once it is completed, what it made.
    pub affected: Vec<AffectedElement>,
    /// What it has to do.
    pub work: Work,
}
