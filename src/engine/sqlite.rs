//! The store in one SQLite file.

use std::path::Path;

use super::{Change, Lease, Records, Store, StoreError};
use crate::backend::BoxFuture;
use crate::time::Timestamp;

/// Records in an SQLite database (WAL, `synchronous=FULL`) with a thread of its own.
pub struct SqliteStore(());

impl SqliteStore {
    /// Opens or makes the database at `path` and brings it to the newest schema.
    ///
    /// # Errors
    /// A [`StoreError`] when that is not possible.
    pub fn open(_path: &Path) -> Result<Self, StoreError> {
        todo!()
    }
}

impl Store for SqliteStore {
    fn acquire<'a>(&'a self, _: &'a str, _: Timestamp, _: Timestamp) -> BoxFuture<'a, Result<Lease, StoreError>> {
        todo!()
    }
    fn renew<'a>(&'a self, _: &'a Lease, _: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        todo!()
    }
    fn release<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, Result<(), StoreError>> {
        todo!()
    }
    fn load<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, Result<Records, StoreError>> {
        todo!()
    }
    fn commit<'a>(&'a self, _: &'a Lease, _: Vec<Change>) -> BoxFuture<'a, Result<(), StoreError>> {
        todo!()
    }
}
