//! The commands on collections themselves.

use smol_str::SmolStr;

use super::group::contains;
use super::runner::Inner;
use super::settings::check_name;
use super::{Collection, CollectionChange, CollectionKind, DefineCollection, EngineError, ReferencePoint, Snapshot};
use crate::time::Guid;

impl Inner {
    pub(super) async fn define_collection(&self, request: DefineCollection) -> Result<Guid, EngineError> {
        self.check_open()?;
        check_name(&request.name)?;
        let DefineCollection { name, id, kind } = request;
        let id = id.unwrap_or_else(|| self.ids.new_guid());
        let created = self.now();
        self.ledger
            .transact(|draft| {
                if draft.view().collection(id).is_some() {
                    return Err(EngineError::AlreadyExists(id));
                }
                let members = Vec::new();
                draft.put_collection(Collection {
                    id,
                    name,
                    kind,
                    members,
                    configured: false,
                    created,
                    last_applied: None,
                });
                Ok(id)
            })
            .await
    }

    pub(super) async fn destroy_collection(&self, id: Guid) -> Result<(), EngineError> {
        self.check_open()?;
        self.ledger
            .transact(|draft| {
                draft.collection(id)?;
                if draft.view().jobs_of(id).any(|job| !job.state.is_final()) {
                    return Err(EngineError::Busy);
                }
                let sets: Vec<_> = draft.view().snapshot_collections_of(id).cloned().collect();
                for set in sets {
                    for snapshot in
                        set.snapshots.iter().filter_map(|id| draft.view().snapshot(*id)).cloned().collect::<Vec<_>>()
                    {
                        draft.put_snapshot(Snapshot { snapshot_collection: None, ..Snapshot::clone(&snapshot) });
                    }
                    draft.delete_snapshot_collection(set.id);
                }
                let sets: Vec<_> = draft.view().reference_point_collections_of(id).cloned().collect();
                for set in sets {
                    let points: Vec<_> =
                        set.points.iter().filter_map(|id| draft.view().reference_point(*id)).cloned().collect();
                    for point in points {
                        draft.put_reference_point(ReferencePoint { collection: None, ..ReferencePoint::clone(&point) });
                    }
                    draft.delete_reference_point_collection(set.id);
                }
                let containers: Vec<_> = draft.view().collections_with(id).cloned().collect();
                for container in containers {
                    let mut container = Collection::clone(&container);
                    container.members.retain(|member| *member != id);
                    draft.put_collection(container);
                }
                draft.delete_collection(id);
                Ok(())
            })
            .await
    }

    pub(super) async fn rename_collection(&self, id: Guid, name: SmolStr) -> Result<(), EngineError> {
        self.check_open()?;
        check_name(&name)?;
        self.ledger
            .transact(|draft| {
                let collection = Collection { name, ..Collection::clone(draft.collection(id)?) };
                draft.put_collection(collection);
                Ok(())
            })
            .await
    }

    pub(super) async fn change_collection(&self, id: Guid, change: CollectionChange) -> Result<(), EngineError> {
        self.check_open()?;
        self.ledger
            .transact(|draft| {
                let mut collection = Collection::clone(draft.collection(id)?);
                match change {
                    CollectionChange::Remove(member) => collection.members.retain(|known| *known != member),
                    CollectionChange::Add(member) if collection.members.contains(&member) => return Ok(()),
                    CollectionChange::Add(member) => {
                        match collection.kind {
                            CollectionKind::Machines => draft.system(member).map(|_| ())?,
                            CollectionKind::Collections => draft.collection(member).map(|_| ())?,
                        }
                        if contains(draft.view(), member, id) {
                            let reason = "the collection would contain itself";
                            return Err(EngineError::InvalidParameter { parameter: "Member", reason });
                        }
                        collection.members.push(member);
                    }
                }
                draft.put_collection(collection);
                Ok(())
            })
            .await
    }
}
