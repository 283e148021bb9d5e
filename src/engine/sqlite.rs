//! The store in one `SQLite` file.
//!
//! The connection lives on a thread of its own with a bounded queue. The engine hands over what several callers
//! changed as one list, which becomes one transaction: one sync for all of them.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use super::{Change, Event, Lease, Records, Store, StoreError};
use crate::backend::{BoxFuture, JournalStep};
use crate::time::{Guid, Timestamp};

/// Calls that may wait for the thread.
const QUEUE: usize = 64;

/// One entry a schema version: the statements that lead to it from the version before.
const MIGRATIONS: [&str; 3] = [
    "
    CREATE TABLE lease (id INTEGER PRIMARY KEY CHECK (id = 1), owner TEXT NOT NULL, epoch INTEGER NOT NULL,
        until INTEGER NOT NULL);
    CREATE TABLE system (id TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE snapshot (id TEXT PRIMARY KEY, parent TEXT, data TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE collection (id TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE snapshot_collection (id TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE pool (id TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE volume (id TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE job (id TEXT PRIMARY KEY, state INTEGER NOT NULL, data TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE journal (position INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, step TEXT NOT NULL);
    CREATE INDEX journal_of_job ON journal (job);
",
    "
    CREATE TABLE subscription (id TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE event (position INTEGER PRIMARY KEY, data TEXT NOT NULL);
",
    "
    CREATE TABLE reference_point (id TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE reference_point_collection (id TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
",
];

/// How often a lock of somebody else is tried, two seconds in all: a program that a killed server was just starting
/// still holds it until it has begun.
const ATTEMPTS: u32 = 200;
/// Between two attempts.
const ATTEMPT: Duration = Duration::from_millis(10);

type Task = Box<dyn FnOnce(&mut Connection) + Send>;

/// Records in an `SQLite` database (WAL, `synchronous=FULL`) with a thread of its own.
pub struct SqliteStore {
    tasks: mpsc::Sender<Task>,
    /// Held as long as the store lives: a second server on the same file is refused.
    _lock: File,
}

impl SqliteStore {
    /// Opens or makes the database at `path` and brings it to the newest schema.
    ///
    /// # Errors
    /// A [`StoreError`] when that is not possible, [`StoreError::Held`] when another process has it open as its own.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.with_extension("lock"))?;
        let mut attempts = ATTEMPTS;
        while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            attempts -= 1;
            if attempts == 0 {
                return Err(StoreError::Held("another process".to_owned()));
            }
            std::thread::sleep(ATTEMPT);
        }
        let mut connection = Connection::open(path)?;
        prepare(&mut connection)?;
        let (tasks, mut queue) = mpsc::channel::<Task>(QUEUE);
        std::thread::Builder::new().name("wsnapd-store".to_owned()).spawn(move || {
            while let Some(task) = queue.blocking_recv() {
                task(&mut connection);
            }
        })?;
        Ok(Self { tasks, _lock: lock })
    }

    async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let task: Task = Box::new(move |connection| {
            // A caller that went away does not need the answer; the work is done all the same.
            let _ = sender.send(work(connection));
        });
        self.tasks.send(task).await.map_err(|_| StoreError::Closed)?;
        receiver.await.map_err(|_| StoreError::Closed)?
    }
}

fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -256; PRAGMA busy_timeout = 5000;
         PRAGMA wal_autocheckpoint = 256; PRAGMA journal_size_limit = 4194304;",
    )?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    let transaction = connection.transaction()?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

fn write<T: Serialize>(table: &'static str, record: &T) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|source| StoreError::Damaged { table, source })
}

fn put<T: Serialize>(on: &Transaction<'_>, table: &'static str, id: Guid, record: &T) -> Result<(), StoreError> {
    let sql = format!("INSERT INTO {table} (id, data) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET data = ?2");
    on.prepare_cached(&sql)?.execute(params![id.to_string(), write(table, record)?])?;
    Ok(())
}

fn delete(on: &Transaction<'_>, table: &'static str, id: Guid) -> Result<(), StoreError> {
    on.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?.execute([id.to_string()])?;
    Ok(())
}

fn apply(on: &Transaction<'_>, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::PutSystem(system) => put(on, "system", system.id, system),
        Change::PutSnapshot(snapshot) => {
            let parent = snapshot.parent.map(|parent| parent.to_string());
            on.prepare_cached(
                "INSERT INTO snapshot (id, parent, data) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET parent = ?2, data = ?3",
            )?
            .execute(params![snapshot.id.to_string(), parent, write("snapshot", snapshot)?])?;
            Ok(())
        }
        Change::DeleteSnapshot(id) => delete(on, "snapshot", *id),
        Change::PutCollection(collection) => put(on, "collection", collection.id, collection),
        Change::DeleteCollection(id) => delete(on, "collection", *id),
        Change::PutSnapshotCollection(set) => put(on, "snapshot_collection", set.id, set),
        Change::DeleteSnapshotCollection(id) => delete(on, "snapshot_collection", *id),
        Change::PutReferencePoint(point) => put(on, "reference_point", point.id, point),
        Change::DeleteReferencePoint(id) => delete(on, "reference_point", *id),
        Change::PutReferencePointCollection(set) => put(on, "reference_point_collection", set.id, set),
        Change::DeleteReferencePointCollection(id) => delete(on, "reference_point_collection", *id),
        Change::PutPool(pool) => put(on, "pool", pool.id, pool),
        Change::PutVolume(volume) => put(on, "volume", volume.id, volume),
        Change::DeleteVolume(id) => delete(on, "volume", *id),
        Change::PutJob(job) => {
            on.prepare_cached(
                "INSERT INTO job (id, state, data) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET state = ?2, data = ?3",
            )?
            .execute(params![job.id.to_string(), job.state.number(), write("job", job)?])?;
            if job.state.is_final() {
                on.prepare_cached("DELETE FROM journal WHERE job = ?1")?.execute([job.id.to_string()])?;
            }
            Ok(())
        }
        Change::DeleteJob(id) => delete(on, "job", *id),
        Change::AppendStep { job, step } => {
            on.prepare_cached("INSERT INTO journal (job, step) VALUES (?1, ?2)")?
                .execute(params![job.to_string(), write("journal", step)?])?;
            Ok(())
        }
        Change::PutSubscription(subscription) => put(on, "subscription", subscription.id, subscription),
        Change::DeleteSubscription(id) => delete(on, "subscription", *id),
        Change::AppendEvent(event) => {
            on.prepare_cached("INSERT INTO event (position, data) VALUES (?1, ?2)")?
                .execute(params![position(event.position), write("event", event)?])?;
            Ok(())
        }
        Change::DeleteEvents { up_to } => {
            on.prepare_cached("DELETE FROM event WHERE position <= ?1")?.execute([position(*up_to)])?;
            Ok(())
        }
    }
}

fn read<T: DeserializeOwned>(connection: &Connection, table: &'static str) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare(&format!("SELECT data FROM {table} ORDER BY id"))?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    rows.map(|row| serde_json::from_str(&row?).map_err(|source| StoreError::Damaged { table, source })).collect()
}

fn read_journal(connection: &Connection) -> Result<Vec<(Guid, JournalStep)>, StoreError> {
    let damaged = |source| StoreError::Damaged { table: "journal", source };
    let mut statement = connection.prepare("SELECT job, step FROM journal ORDER BY position")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (job, step) = row?;
        let job = serde_json::from_value(serde_json::Value::String(job)).map_err(damaged)?;
        Ok((job, serde_json::from_str(&step).map_err(damaged)?))
    })
    .collect()
}

/// Positions count events one by one and never leave the range of the database.
fn position(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

fn read_events(connection: &Connection) -> Result<Vec<Event>, StoreError> {
    let mut statement = connection.prepare("SELECT data FROM event ORDER BY position")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let damaged = |source| StoreError::Damaged { table: "event", source };
    rows.map(|row| serde_json::from_str(&row?).map_err(damaged)).collect()
}

fn epoch_number(lease: &Lease) -> i64 {
    i64::try_from(lease.epoch).unwrap_or(i64::MAX)
}

/// Fails unless the lease is still the one in the database.
fn check(connection: &Connection, lease: &Lease) -> Result<(), StoreError> {
    let epoch: Option<i64> = connection
        .prepare_cached("SELECT epoch FROM lease WHERE owner = ?1")?
        .query_row([&lease.owner], |row| row.get(0))
        .optional()?;
    if epoch == Some(epoch_number(lease)) { Ok(()) } else { Err(StoreError::LeaseLost) }
}

impl Store for SqliteStore {
    /// The lock on the file proves that no other server lives, so the lease of a former one is always taken over.
    fn acquire<'a>(
        &'a self,
        owner: &'a str,
        _: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<Lease, StoreError>> {
        let owner = owner.to_owned();
        Box::pin(self.run(move |connection| {
            let epoch: i64 = connection.query_row(
                "INSERT INTO lease (id, owner, epoch, until) VALUES (1, ?1, 1, ?2)
                 ON CONFLICT (id) DO UPDATE SET owner = ?1, epoch = epoch + 1, until = ?2 RETURNING epoch",
                params![owner, until.timestamp_millis()],
                |row| row.get(0),
            )?;
            Ok(Lease { owner, epoch: u64::try_from(epoch).unwrap_or(0) })
        }))
    }

    fn renew<'a>(&'a self, lease: &'a Lease, until: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        let lease = lease.clone();
        Box::pin(self.run(move |connection| {
            check(connection, &lease)?;
            connection.execute("UPDATE lease SET until = ?1", [until.timestamp_millis()])?;
            Ok(())
        }))
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), StoreError>> {
        let lease = lease.clone();
        Box::pin(self.run(move |connection| {
            check(connection, &lease)?;
            connection.execute("UPDATE lease SET until = 0", [])?;
            Ok(())
        }))
    }

    fn load<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Records, StoreError>> {
        let lease = lease.clone();
        Box::pin(self.run(move |connection| {
            check(connection, &lease)?;
            Ok(Records {
                systems: read(connection, "system")?,
                snapshots: read(connection, "snapshot")?,
                collections: read(connection, "collection")?,
                snapshot_collections: read(connection, "snapshot_collection")?,
                reference_points: read(connection, "reference_point")?,
                reference_point_collections: read(connection, "reference_point_collection")?,
                pools: read(connection, "pool")?,
                volumes: read(connection, "volume")?,
                jobs: read(connection, "job")?,
                journal: read_journal(connection)?,
                subscriptions: read(connection, "subscription")?,
                events: read_events(connection)?,
            })
        }))
    }

    fn commit<'a>(&'a self, lease: &'a Lease, changes: Vec<Change>) -> BoxFuture<'a, Result<(), StoreError>> {
        let lease = lease.clone();
        Box::pin(self.run(move |connection| {
            let transaction = connection.transaction()?;
            check(&transaction, &lease)?;
            for change in &changes {
                apply(&transaction, change)?;
            }
            transaction.commit()?;
            Ok(())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn one_server_writes_and_a_stale_one_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wsnapd.db");
        let store = SqliteStore::open(&path).unwrap();
        assert!(matches!(SqliteStore::open(&path), Err(StoreError::Held(_))));
        let (now, until) = (at("2026-11-21T14:00:00Z"), at("2026-11-21T15:00:00Z"));
        let first = store.acquire("alpha", now, until).await.unwrap();
        store.renew(&first, until).await.unwrap();
        let second = store.acquire("beta", now, until).await.unwrap();
        assert_eq!((first.epoch, second.epoch), (1, 2));
        let late = store.commit(&first, vec![Change::DeleteJob(Guid::from_uuid(uuid::Uuid::nil()))]).await;
        assert!(matches!(late, Err(StoreError::LeaseLost)));
        for result in
            [store.renew(&first, until).await, store.release(&first).await, store.load(&first).await.map(drop)]
        {
            assert!(matches!(result, Err(StoreError::LeaseLost)), "{result:?}");
        }
        store.commit(&second, Vec::new()).await.unwrap();
        store.release(&second).await.unwrap();
    }

    #[tokio::test]
    async fn records_of_an_older_version_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wsnapd.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        // As the first version wrote it: nothing about tracking.
        let snapshot = r#"{"id":"00000000-0000-0000-0000-000000000001","sequence":4,
            "system":"00000000-0000-0000-0000-00000000A001","parent":null,"name":"before","notes":"",
            "created":"2026-11-21T14:05:09Z","kind":"recovery","automatic":false,"has_memory":false,"memory_file":null,
            "wanted_consistency":"unknown","consistency":"crash","disks":[],"skipped_disks":[],"missing":false,
            "foreign":false,"snapshot_collection":null,"paused_ms":0,"frozen_ms":0,"bytes":0,"memory_mb":512,
            "processors":1}"#;
        let id = "00000000-0000-0000-0000-000000000001";
        connection.execute("INSERT INTO snapshot (id, data) VALUES (?1, ?2)", [id, snapshot]).unwrap();
        drop(connection);
        let until = at("2026-11-21T15:00:00Z");
        let point = super::super::ReferencePoint {
            id: Guid::from_uuid(uuid::Uuid::from_u128(2)),
            sequence: 5,
            system: Guid::from_uuid(uuid::Uuid::from_u128(0xA001)),
            snapshot: Guid::from_uuid(uuid::Uuid::from_u128(1)),
            created: until,
            consistency: super::super::ConsistencyLevel::Crash,
            disks: Vec::new(),
            collection: None,
            valid: true,
        };
        {
            let store = SqliteStore::open(&path).unwrap();
            let lease = store.acquire("alpha", until, until).await.unwrap();
            let records = store.load(&lease).await.unwrap();
            let [snapshot] = records.snapshots.as_slice() else { panic!("{records:?}") };
            assert!(snapshot.name == "before" && snapshot.tracking.is_empty() && !snapshot.tracking_lost);
            assert!(records.reference_points.is_empty() && records.reference_point_collections.is_empty());
            let change = Change::PutReferencePoint(std::sync::Arc::new(point.clone()));
            store.commit(&lease, vec![change]).await.unwrap();
            let records = store.load(&lease).await.unwrap();
            assert_eq!(records.reference_points, [point]);
        }
        let version: i64 =
            Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, 3);
    }

    #[test]
    fn records_of_a_newer_version_are_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wsnapd.db");
        drop(SqliteStore::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let refused = SqliteStore::open(&path).map(drop);
        assert!(matches!(refused, Err(StoreError::NewerSchema { found: 99, known: 3 })), "{refused:?}");
    }
}
