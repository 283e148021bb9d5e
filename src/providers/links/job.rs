//! Jobs, what they work on and who owns them (`snapshot-semantics` §5).

use std::sync::Arc;

use super::common::one;
use crate::engine::{ElementEffect, ElementRef, Job, JobKind, JobState};
use crate::providers::association::{Association, end, ends_only};
use crate::providers::element::{Element, collection_element, point_element, points_element};
use crate::providers::family::Elements;
use crate::providers::job::{is_virtualization_job, jobs};
use crate::providers::records::Service;
use crate::providers::scope::Scope;
use crate::time::Guid;

fn each_job(scope: &Scope) -> Elements<'_> {
    Box::new(jobs(scope).map(|job| Element::Job(job.id)))
}

/// Job to what it works on and to what it made (`hyperv-host.md` §7).
pub(in crate::providers) static AFFECTED_JOB_ELEMENT: Association = Association {
    class: "Msvm_AffectedJobElement",
    ends: [end("AffectingElement"), end("AffectedElement")],
    starts: each_job,
    forward: |scope, element| match element {
        Element::Job(id) => scope.view.job(id).map_or_else(Vec::new, |job| affected(scope, job)),
        _ => Vec::new(),
    },
    backward: |scope, element| {
        let Some(id) = identity(element) else { return Vec::new() };
        let jobs = scope.view.jobs_of(id).filter(|job| affected(scope, job).contains(&element));
        jobs.map(|job| Element::Job(job.id)).collect()
    },
    fill: |scope, builder, [job, element]| {
        let effect = match job {
            Element::Job(id) => scope.view.job(id).and_then(|job| {
                let mut found =
                    job.affected.iter().filter(|affected| element_of(scope, affected.element) == Some(element));
                found.next().map(|affected| affected.effect)
            }),
            _ => None,
        };
        builder.set("ElementEffects", [effect.unwrap_or(ElementEffect::Unknown).number()])
    },
};

/// What a job shows: what it works on that still exists, and what it made and was not destroyed since.
fn affected(scope: &Scope, job: &Job) -> Vec<Element> {
    if !is_virtualization_job(job) {
        return Vec::new();
    }
    let shown = job.affected.iter().filter(|affected| {
        // What is being made must not be seen before the job is completed.
        affected.effect != ElementEffect::Creates || job.state == JobState::Completed
    });
    shown.filter_map(|affected| element_of(scope, affected.element)).collect()
}

/// The element a job names, if it exists.
fn element_of(scope: &Scope, element: ElementRef) -> Option<Element> {
    match element {
        ElementRef::System(id) => scope.view.system(id).map(|_| Element::System(id)),
        ElementRef::Snapshot(id) => scope.view.snapshot(id).map(|_| Element::Snapshot(id)),
        ElementRef::Collection(id) => scope.view.collection(id).map(|found| collection_element(id, found.kind)),
        ElementRef::SnapshotCollection(id) => {
            scope.view.snapshot_collection(id).map(|_| Element::SnapshotCollection(id))
        }
        ElementRef::ReferencePoint(id) => scope.view.reference_point(id).map(|point| point_element(point)),
        ElementRef::ReferencePointCollection(id) => {
            scope.view.reference_point_collection(id).map(|set| points_element(set))
        }
        ElementRef::Volume(_) => None,
    }
}

/// The identity under which jobs remember an element.
const fn identity(element: Element) -> Option<Guid> {
    match element {
        Element::System(id)
        | Element::Snapshot(id)
        | Element::SystemCollection(id)
        | Element::ManagementCollection(id)
        | Element::SnapshotCollection(id)
        | Element::ReferencePoint { point: id, .. }
        | Element::ReferencePointCollection { set: id, .. } => Some(id),
        _ => None,
    }
}

/// Service or machine that owns a job.
pub(in crate::providers) static OWNING_JOB_ELEMENT: Association = Association {
    class: "Msvm_OwningJobElement",
    ends: [end("OwnedElement"), end("OwningElement")],
    starts: each_job,
    forward: |scope, element| match element {
        Element::Job(id) => one(scope.view.job(id).and_then(|job| owner(scope, job))),
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::System(id) => owned(scope, &mut scope.view.jobs_of(id), element),
        Element::Service(_) => owned(scope, &mut scope.view.jobs(), element),
        _ => Vec::new(),
    },
    fill: ends_only,
};

fn owned(scope: &Scope, jobs: &mut dyn Iterator<Item = &Arc<Job>>, element: Element) -> Vec<Element> {
    jobs.filter(|job| owner(scope, job) == Some(element)).map(|job| Element::Job(job.id)).collect()
}

fn owner(scope: &Scope, job: &Job) -> Option<Element> {
    let service = match (job.kind, job.target) {
        (JobKind::CopyVolume, _) => return None,
        (JobKind::ChangeState, ElementRef::System(id)) => return Some(Element::System(id)),
        (JobKind::CreateReferencePoint | JobKind::DestroyReferencePoint, _) => Service::ReferencePoints,
        (JobKind::CreateGroupReferencePoint | JobKind::DestroyGroupReferencePoint, _) => {
            Service::CollectionReferencePoints
        }
        (JobKind::Export, ElementRef::Snapshot(_)) => Service::Management,
        (_, ElementRef::Collection(_) | ElementRef::SnapshotCollection(_)) => Service::CollectionSnapshots,
        _ => Service::Snapshots,
    };
    service.is_in(&scope.shared.schema).then_some(Element::Service(service))
}
