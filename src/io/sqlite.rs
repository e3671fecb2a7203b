//! The journal's database: one SQLite file, `<store>/sotto.db`, in write-ahead mode.
//!
//! In come numbered events in batches; out come the rows of a call. Appending is atomic for a batch and may be
//! repeated: a row that is there already stays as it is. Knows nothing of numbering, publishing or retrying.

use crate::event::{Event, EventId, Recorded, What};
use crate::id::{CallId, LegId, Tenant};
use crate::time::MediaTime;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The version of the payloads' form. Payloads only grow, so readers of a later form read this one too.
const SCHEMA: i64 = 1;

/// How long a write waits for another process that holds the database before it fails and is repeated.
const BUSY: Duration = Duration::from_secs(1);

/// How long a reader waits for one of the reading connections.
const READER_WAIT: Duration = Duration::from_secs(5);

/// Connections for reading. Readers never wait for the writer in write-ahead mode.
const READERS: u32 = 4;

/// Why the database could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The environment: a folder or file cannot be used.
    #[error("{path} cannot be used: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The environment: somebody else is there.
    #[error("{0} is in use by another sotto: stop it, or give this one its own [store] url")]
    InUse(PathBuf),
    /// The environment: SQLite refuses.
    #[error("the journal's database: {0}")]
    Database(#[from] sqlx::Error),
    /// The environment: the file is from another version, or damaged.
    #[error("the journal's database cannot be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The file holds something this version cannot read.
    #[error("the journal's row {row} cannot be read: {why}")]
    Unreadable {
        /// `call:epoch:seq`, as far as it is known.
        row: String,
        /// Why.
        why: String,
    },
}

/// The reading half: shared, and cheap to clone.
#[derive(Clone)]
pub struct Reader {
    pool: SqlitePool,
    tenant: Tenant,
}

/// The writing half: one connection. The lock on the folder is held as long as it lives.
pub struct Appender {
    connection: SqliteConnection,
    _lock: File,
}

/// A call that has no `call.ended`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCall {
    /// Whose.
    pub tenant: Tenant,
    /// Which.
    pub call: CallId,
    /// The last epoch in which something of it was written.
    pub epoch: u32,
    /// The latest media time of it that is known.
    pub last: MediaTime,
}

/// A recording that has no `recording.ended`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRecording {
    /// Whose.
    pub tenant: Tenant,
    /// Of which call.
    pub call: CallId,
    /// Of which leg; none means the whole call.
    pub leg: Option<LegId>,
    /// The last epoch in which something of the call was written.
    pub epoch: u32,
    /// When it began.
    pub began: MediaTime,
}

/// Opens the database in `dir`, makes it where there is none, and brings its tables up to date. Folder and files are
/// readable by the owner alone. The reader sees `tenant`'s rows only.
pub async fn open(dir: &Path, tenant: &Tenant) -> Result<(Appender, Reader), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| unusable(dir, e))?;
    let lock = lock(dir)?;
    let path = dir.join("sotto.db");
    // SQLite would make the file readable by all; its write-ahead files inherit the mode of this one.
    private(&path).map_err(|e| unusable(&path, e))?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        // A commit survives the death of the process; that of the machine may cost the last ones (DESIGN §5).
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY);
    // Statements hold what people said: they are never logged.
    let options = options.disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options).await?;
    sqlx::migrate!("./migrations").run(&mut connection).await?;
    let pool = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(READER_WAIT)
        .connect_lazy_with(options.read_only(true));
    Ok((Appender { connection, _lock: lock }, Reader { pool, tenant: tenant.clone() }))
}

impl Appender {
    /// Writes a batch, all or nothing. A row that is there already stays: a batch whose commit was in doubt is
    /// simply written again.
    pub async fn append(&mut self, batch: &[Arc<Recorded>]) -> Result<(), StoreError> {
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        for recorded in batch {
            insert(&mut transaction, recorded).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The calls, of every tenant, that have no `call.ended`.
    pub async fn open_calls(&mut self) -> Result<Vec<OpenCall>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant, call, max(epoch) AS epoch,
                    (SELECT max(media_time) FROM event m WHERE m.tenant = f.tenant AND m.call = f.call) AS last
             FROM event f
             WHERE seq = 1 AND NOT EXISTS
                 (SELECT 1 FROM event e WHERE e.tenant = f.tenant AND e.call = f.call AND e.type = 'call.ended')
             GROUP BY tenant, call",
        )
        .fetch_all(&mut self.connection)
        .await?;
        rows.iter().map(open_call).collect()
    }

    /// The recordings, of every tenant, that have no `recording.ended`.
    pub async fn open_recordings(&mut self) -> Result<Vec<OpenRecording>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant, call, leg, min(media_time) AS began,
                    (SELECT max(epoch) FROM event m WHERE m.tenant = s.tenant AND m.call = s.call) AS epoch
             FROM event s
             WHERE type = 'recording.started' AND NOT EXISTS
                 (SELECT 1 FROM event e WHERE e.tenant = s.tenant AND e.call = s.call AND e.leg IS s.leg
                                          AND e.type = 'recording.ended')
             GROUP BY tenant, call, leg",
        )
        .fetch_all(&mut self.connection)
        .await?;
        rows.iter().map(open_recording).collect()
    }

    /// Writes everything into the one file and closes it.
    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.connection.close().await?)
    }
}

impl Reader {
    /// The events of a call after (`epoch`, `seq`), in order, at most `limit`.
    pub async fn events(&self, call: CallId, after: (u32, u64), limit: u32) -> Result<Vec<Recorded>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant, call, epoch, seq, media_time, wall_time, type, leg, payload FROM event
             WHERE tenant = ? AND call = ? AND (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT ?",
        )
        .bind(&*self.tenant.0)
        .bind(call.to_string())
        .bind(after.0)
        .bind(number(after.1))
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(recorded).collect()
    }

    /// The events of a call that are of one type, in order, at most `limit`.
    pub async fn events_of_type(&self, call: CallId, name: &str, limit: u32) -> Result<Vec<Recorded>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant, call, epoch, seq, media_time, wall_time, type, leg, payload FROM event
             WHERE tenant = ? AND call = ? AND type = ? ORDER BY epoch, seq LIMIT ?",
        )
        .bind(&*self.tenant.0)
        .bind(call.to_string())
        .bind(name)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(recorded).collect()
    }
}

async fn insert(connection: &mut SqliteConnection, r: &Recorded) -> Result<(), StoreError> {
    let payload = payload(&r.event.what).map_err(|e| unreadable(&r.id.to_string(), e))?;
    sqlx::query(
        "INSERT INTO event (tenant, call, epoch, seq, media_time, wall_time, type, schema, leg, payload)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(&*r.tenant.0)
    .bind(r.id.call.to_string())
    .bind(r.id.epoch)
    .bind(number(r.id.seq))
    .bind(r.event.at.0)
    .bind(r.wall_ms)
    .bind(r.event.what.name())
    .bind(SCHEMA)
    .bind(r.event.leg.map(|leg| leg.to_string()))
    .bind(payload.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// What an event tells beyond its type, as JSON.
pub fn payload(what: &What) -> Result<serde_json::Value, serde_json::Error> {
    Ok(serde_json::to_value(what)?.get_mut("data").map(serde_json::Value::take).unwrap_or_default())
}

fn recorded(row: &SqliteRow) -> Result<Recorded, StoreError> {
    let call: String = row.try_get("call")?;
    let seq: i64 = row.try_get("seq")?;
    let epoch = row.try_get("epoch")?;
    let name = format!("{call}:{epoch}:{seq}");
    let wrong = |e: &dyn std::fmt::Display| unreadable(&name, e);
    let leg: Option<String> = row.try_get("leg")?;
    let event = Event {
        at: MediaTime(row.try_get("media_time")?),
        leg: leg.map(|leg| leg.parse()).transpose().map_err(|e| wrong(&e))?,
        what: what(row.try_get("type")?, row.try_get("payload")?).map_err(|e| wrong(&e))?,
    };
    let call = call.parse().map_err(|e| wrong(&e))?;
    let seq = seq.try_into().map_err(|e| wrong(&e))?;
    let tenant = Tenant(row.try_get::<&str, _>("tenant")?.into());
    Ok(Recorded { tenant, id: EventId { call, epoch, seq }, wall_ms: row.try_get("wall_time")?, event })
}

fn what(name: &str, payload: &str) -> Result<What, serde_json::Error> {
    let data: serde_json::Value = serde_json::from_str(payload)?;
    serde_json::from_value(serde_json::json!({ "type": name, "data": data }))
}

fn open_call(row: &SqliteRow) -> Result<OpenCall, StoreError> {
    let call: &str = row.try_get("call")?;
    Ok(OpenCall {
        tenant: Tenant(row.try_get::<&str, _>("tenant")?.into()),
        call: call.parse().map_err(|e| unreadable(call, e))?,
        epoch: row.try_get("epoch")?,
        last: MediaTime(row.try_get("last")?),
    })
}

fn open_recording(row: &SqliteRow) -> Result<OpenRecording, StoreError> {
    let call: &str = row.try_get("call")?;
    let leg: Option<String> = row.try_get("leg")?;
    Ok(OpenRecording {
        tenant: Tenant(row.try_get::<&str, _>("tenant")?.into()),
        call: call.parse().map_err(|e| unreadable(call, e))?,
        leg: leg.map(|leg| leg.parse()).transpose().map_err(|e| unreadable(call, e))?,
        epoch: row.try_get("epoch")?,
        began: MediaTime(row.try_get("began")?),
    })
}

/// SQLite's integers are signed; no call comes near the difference.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Two servers on one folder would each take the other's live calls for those of a dead one. The kernel lets go of
/// the lock when the process dies, however it dies.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = private(&path).map_err(|e| unusable(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(dir.to_path_buf())),
        Err(TryLockError::Error(e)) => Err(unusable(&path, e)),
    }
}

/// Opens or makes a file that its owner alone may read.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

fn unusable(path: &Path, source: io::Error) -> StoreError {
    StoreError::File { path: path.to_path_buf(), source }
}

fn unreadable(row: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable { row: row.to_owned(), why: why.to_string() }
}
