//! The writing side of the database. Blocking: for a thread that may wait.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{CachedStatement, Connection, Error, OpenFlags, Transaction, params};
use rustc_hash::FxHashMap;

use super::{
    BestShare, BlockRecord, NodeAnswer,
    book::{Batch, Stored, StoredTotals, StoredWorker, WORKERS_MAX},
    file::{FILE, FileId, identity, keep_private, lock},
    found::BLOCKS_MAX,
    minute::{Minute, Row},
    schema::{self, SchemaState},
    series::Step,
    sum::Sum,
    trouble::StoreError,
};
use crate::work::{BlockOutcome, Reject};

/// An open database that nobody else writes to.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    connection: Connection,
    /// The ids of names in the file.
    ids: FxHashMap<Arc<str>, i64>,
    /// In the order of `Reject::ALL`.
    reasons: [i64; Reject::ALL.len()],
    identity: Option<FileId>,
    /// Only held, never read.
    _lock: Option<File>,
}

impl Store {
    /// Opens the file in `dir`, creating it if necessary, and reads its contents.
    pub(super) fn open(dir: &Path) -> Result<(Self, Stored), StoreError> {
        let path = dir.join(FILE);
        fs::create_dir_all(dir)
            .map_err(|error| StoreError::NoFolder { path: dir.to_owned(), error })?;
        keep_private(dir);
        let lock = lock(&path)?;
        let trouble = |error: Error| StoreError::of(&error, path.clone());
        let mut connection = connect(&path).map_err(trouble)?;
        // A file is not touched before it is known to be ours.
        match schema::migrate(&mut connection).map_err(trouble)? {
            SchemaState::Ours => {}
            SchemaState::Newer(version) => {
                return Err(StoreError::Newer { path, version, known: schema::VERSION });
            }
            SchemaState::Foreign => return Err(StoreError::Foreign { path }),
        }
        tune(&connection).map_err(trouble)?;
        let reasons = reasons(&connection).map_err(trouble)?;
        let stored = load(&connection).map_err(trouble)?;
        let ids = ids(&connection).map_err(trouble)?;
        let identity = identity(&path);
        Ok((Self { path, connection, ids, reasons, identity, _lock: lock }, stored))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// False if the file was removed or replaced.
    pub(super) fn is_in_place(&self) -> bool {
        self.identity.is_some() && identity(&self.path) == self.identity
    }

    /// Writes all of a batch, or nothing.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.try_write(batch).map_err(|error| StoreError::of(&error, self.path.clone()))
    }

    fn try_write(&mut self, batch: &Batch) -> Result<(), Error> {
        let transaction = self.connection.transaction()?;
        if let Some(totals) = &batch.totals {
            write_totals(&transaction, totals)?;
        }
        write_workers(&transaction, &batch.workers, &mut self.ids)?;
        for name in &batch.forgotten {
            transaction.prepare_cached("DELETE FROM worker WHERE name = ?")?.execute([&**name])?;
            self.ids.remove(name);
        }
        for minute in &batch.minutes {
            for step in Step::ALL {
                write_minute(&transaction, minute, step, &self.ids, &self.reasons)?;
            }
        }
        for block in &batch.blocks {
            write_block(&transaction, block)?;
        }
        transaction.commit()
    }

    /// Deletes what is too old at `now` (unix seconds; None: the clock cannot be trusted), and
    /// whatever exceeds the size limits in any case.
    pub(super) fn prune(&mut self, now: Option<u64>, keep: Duration) -> Result<(), StoreError> {
        self.try_prune(now, keep, WORKER_ROWS_MAX)
            .map_err(|error| StoreError::of(&error, self.path.clone()))
    }

    fn try_prune(&self, now: Option<u64>, keep: Duration, rows_max: i64) -> Result<(), Error> {
        for step in Step::ALL {
            let name = step.name();
            if let Some(last) = self.crowded(step, rows_max)? {
                self.drop_slots(step, &["worker", "reject"], last)?;
                // Counted again the next time: not all of it may have been deleted in this round.
                let sql = format!("UPDATE total_{name} SET rows = NULL WHERE t <= ? AND rows > 0");
                self.connection.execute(&sql, [last])?;
            }
            let Some(now) = now else { continue };
            if let Some(kept) = step.kept(keep) {
                let last = now.saturating_sub(kept.as_secs()) / step.seconds();
                self.drop_slots(step, &["total", "worker", "reject"], signed(last))?;
            }
            // Written while the clock was wrong.
            let future = signed(now.saturating_add(FUTURE_S) / step.seconds());
            for table in ["total", "worker", "reject"] {
                let sql = format!("DELETE FROM {table}_{name} WHERE t > ?");
                self.connection.execute(&sql, [future])?;
            }
        }
        let sql = "DELETE FROM worker WHERE id NOT IN \
                   (SELECT id FROM worker ORDER BY last_seen DESC, id DESC LIMIT ?)";
        if self.ids.len() > WORKERS_MAX {
            self.connection.execute(sql, [WORKERS_MAX])?;
        }
        let sql = "DELETE FROM block WHERE rowid NOT IN \
                   (SELECT rowid FROM block ORDER BY at DESC, rowid DESC LIMIT ?)";
        if self.connection.execute(sql, [BLOCKS_MAX])? > 0 {
            let sql = "DELETE FROM submission WHERE hash NOT IN (SELECT hash FROM block)";
            self.connection.execute(sql, [])?;
        }
        // So that a power cut costs only minutes.
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// The last slot whose worker rows must be deleted to leave at most `rows_max`.
    fn crowded(&self, step: Step, rows_max: i64) -> Result<Option<i64>, Error> {
        let name = step.name();
        // The latest slot is still being written.
        let count = format!(
            "UPDATE total_{name} SET rows = \
             (SELECT count(*) FROM worker_{name} AS w WHERE w.t = total_{name}.t) + \
             (SELECT count(*) FROM reject_{name} AS r WHERE r.t = total_{name}.t) \
             WHERE rows IS NULL AND t < (SELECT max(t) FROM total_{name})"
        );
        self.connection.execute(&count, [])?;
        let last = format!(
            "SELECT max(t) FROM \
             (SELECT t, sum(rows) OVER (ORDER BY t DESC) AS n FROM total_{name}) WHERE n > ?"
        );
        self.connection.query_row(&last, [rows_max], |row| row.get(0))
    }

    /// Deletes slots up to `last`, the oldest first, one at a time, so that no transaction becomes
    /// large.
    fn drop_slots(&self, step: Step, tables: &[&str], last: i64) -> Result<(), Error> {
        for table in tables {
            let name = step.name();
            let sql = format!(
                "DELETE FROM {table}_{name} WHERE t = \
                 (SELECT min(t) FROM {table}_{name}) AND t <= ?"
            );
            let mut drop = self.connection.prepare_cached(&sql)?;
            for _ in 0..SLOTS_DROPPED_MAX {
                if drop.execute([last])? == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads the whole file, and reports what is wrong with it.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let found = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        match found {
            Ok(text) if text == "ok" => Ok(()),
            Ok(why) => Err(StoreError::Damaged { path: self.path.clone(), why }),
            Err(error) => Err(StoreError::of(&error, self.path.clone())),
        }
    }
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn tune(connection: &Connection) -> Result<(), Error> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)
}

fn reasons(connection: &Connection) -> Result<[i64; Reject::ALL.len()], Error> {
    let mut ids = [0; Reject::ALL.len()];
    for (id, reject) in ids.iter_mut().zip(Reject::ALL) {
        let name = reject.to_string();
        let known =
            connection.query_row("SELECT id FROM reason WHERE name = ?", [&name], |row| row.get(0));
        *id = match known {
            Err(Error::QueryReturnedNoRows) => connection.query_row(
                "INSERT INTO reason (name) VALUES (?) RETURNING id",
                [&name],
                |row| row.get(0),
            )?,
            known => known?,
        };
    }
    Ok(ids)
}

fn load(connection: &Connection) -> Result<Stored, Error> {
    let totals = connection.query_row(
        "SELECT accepted, difficulty, rejects, blocks, since, best, best_worker, best_at FROM total",
        [],
        |row| {
            let best = BestShare { difficulty: row.get(5)?, worker: row.get(6)?, at: row.get(7)? };
            let best = (best.difficulty > 0.0).then_some(best);
            Ok(StoredTotals { sum: sum(row, 0)?, since: row.get(4)?, best })
        },
    );
    let totals = match totals {
        Err(Error::QueryReturnedNoRows) => None,
        totals => Some(totals?),
    };
    let mut workers = connection.prepare(
        "SELECT accepted, difficulty, rejects, blocks, name, best, best_at, first_seen, last_seen \
         FROM worker ORDER BY last_seen DESC, id DESC LIMIT ?",
    )?;
    let workers = workers.query_map([WORKERS_MAX], |row| {
        Ok(StoredWorker {
            name: row.get(4)?,
            sum: sum(row, 0)?,
            best: row.get(5)?,
            best_at: row.get(6)?,
            first_seen: row.get(7)?,
            last_seen: row.get(8)?,
        })
    })?;
    let workers = workers.collect::<Result<_, _>>()?;
    Ok(Stored { totals, workers, blocks: load_blocks(connection)? })
}

/// Reads the four columns of a sum.
fn sum(row: &rusqlite::Row<'_>, at: usize) -> Result<Sum, Error> {
    let mut sum = Sum {
        accepted: row.get(at)?,
        difficulty: row.get(at + 1)?,
        blocks: row.get(at + 3)?,
        ..Sum::default()
    };
    sum.set_rejects(row.get_ref(at + 2)?.as_str()?);
    Ok(sum)
}

fn load_blocks(connection: &Connection) -> Result<Vec<BlockRecord>, Error> {
    let mut blocks = connection.prepare(
        "SELECT height, hash, at, worker FROM block ORDER BY at DESC, rowid DESC LIMIT ?",
    )?;
    let blocks = blocks.query_map([BLOCKS_MAX], |row| {
        let (height, hash) = (row.get(0)?, row.get(1)?);
        let (at, worker) = (row.get(2)?, row.get(3)?);
        Ok(BlockRecord { height, hash, at, worker, submissions: Vec::new() })
    })?;
    let mut blocks: Vec<_> = blocks.collect::<Result<_, _>>()?;
    blocks.reverse();
    let mut answers = connection
        .prepare("SELECT node, result, reason, at FROM submission WHERE hash = ? ORDER BY at")?;
    for block in &mut blocks {
        let answers = answers.query_map([&block.hash], |row| {
            let name: String = row.get(1)?;
            let outcome = BlockOutcome::of_name(&name, row.get(2)?);
            Ok(NodeAnswer { node: row.get(0)?, outcome, at: row.get(3)? })
        })?;
        block.submissions = answers.collect::<Result<_, _>>()?;
    }
    Ok(blocks)
}

fn ids(connection: &Connection) -> Result<FxHashMap<Arc<str>, i64>, Error> {
    let mut ids = connection.prepare("SELECT name, id FROM worker")?;
    ids.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn write_totals(transaction: &Transaction<'_>, totals: &StoredTotals) -> Result<(), Error> {
    let StoredTotals { sum, since, best } = totals;
    let (best, worker, at) = match best {
        Some(best) => (best.difficulty, best.worker.as_str(), best.at),
        None => (0.0, "", 0),
    };
    let rejects = sum.rejects_text();
    transaction
        .prepare_cached("INSERT OR REPLACE INTO total VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)")?
        .execute(params![
            signed(sum.accepted),
            sum.difficulty,
            rejects,
            signed(sum.blocks),
            signed(*since),
            best,
            worker,
            signed(at),
        ])
        .map(|_| ())
}

fn write_workers(
    transaction: &Transaction<'_>,
    workers: &[StoredWorker],
    ids: &mut FxHashMap<Arc<str>, i64>,
) -> Result<(), Error> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO worker (accepted, difficulty, rejects, blocks, best, best_at, first_seen, \
         last_seen, name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )?;
    let mut update = transaction.prepare_cached(
        "UPDATE worker SET accepted = ?, difficulty = ?, rejects = ?, blocks = ?, best = ?, \
         best_at = ?, first_seen = ?, last_seen = ? WHERE id = ?",
    )?;
    for worker in workers {
        let StoredWorker { name, sum, best, best_at, first_seen, last_seen } = worker;
        let id = ids.get(name);
        let statement = if id.is_some() { &mut update } else { &mut insert };
        statement.raw_bind_parameter(1, signed(sum.accepted))?;
        statement.raw_bind_parameter(2, sum.difficulty)?;
        statement.raw_bind_parameter(3, sum.rejects_text())?;
        statement.raw_bind_parameter(4, signed(sum.blocks))?;
        statement.raw_bind_parameter(5, best)?;
        statement.raw_bind_parameter(6, signed(*best_at))?;
        statement.raw_bind_parameter(7, signed(*first_seen))?;
        statement.raw_bind_parameter(8, signed(*last_seen))?;
        if let Some(id) = id {
            statement.raw_bind_parameter(9, id)?;
            statement.raw_execute()?;
        } else {
            statement.raw_bind_parameter(9, &**name)?;
            let mut rows = statement.raw_query();
            if let Some(row) = rows.next()? {
                ids.insert(Arc::clone(name), row.get(0)?);
            }
            // An insertion completes when its rows are exhausted.
            rows.next()?;
        }
    }
    Ok(())
}

/// Adds a minute to its row of one table, and to those of its workers.
fn write_minute(
    transaction: &Transaction<'_>,
    minute: &Minute,
    step: Step,
    ids: &FxHashMap<Arc<str>, i64>,
    reasons: &[i64; Reject::ALL.len()],
) -> Result<(), Error> {
    let name = step.name();
    let t = signed(minute.t * Step::Minute.seconds() / step.seconds());
    let add = "accepted = accepted + excluded.accepted, \
               difficulty = difficulty + excluded.difficulty, \
               rejected = rejected + excluded.rejected";
    let Minute { seconds, total, workers, .. } = minute;
    transaction
        .prepare_cached(&format!(
            "INSERT INTO total_{name} VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT (t) DO UPDATE SET \
             {add}, seconds = seconds + excluded.seconds, rows = NULL"
        ))?
        .execute(params![
            t,
            signed(total.accepted),
            total.difficulty,
            signed(total.rejected()),
            seconds
        ])?;
    let mut worker = transaction.prepare_cached(&format!(
        "INSERT INTO worker_{name} VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (t, worker) DO UPDATE SET {add}"
    ))?;
    let mut reject = transaction.prepare_cached(&format!(
        "INSERT INTO reject_{name} VALUES (?, ?, ?, ?) \
         ON CONFLICT (t, worker, reason) DO UPDATE SET shares = shares + excluded.shares"
    ))?;
    write_rejects(&mut reject, t, 0, total, reasons)?;
    // Inserted in the order of the table, where neighbours share a page.
    let known = workers.iter().filter_map(|(name, row)| Some((*ids.get(name)?, row)));
    let mut known: Vec<_> = known.collect();
    known.sort_unstable_by_key(|(id, _)| *id);
    for (id, row) in known {
        let (accepted, rejected) = (signed(row.accepted), signed(row.rejected()));
        worker.execute(params![t, id, accepted, row.difficulty, rejected])?;
        write_rejects(&mut reject, t, id, row, reasons)?;
    }
    Ok(())
}

fn write_rejects(
    statement: &mut CachedStatement<'_>,
    t: i64,
    worker: i64,
    row: &Row,
    reasons: &[i64; Reject::ALL.len()],
) -> Result<(), Error> {
    for (reject, shares) in &row.rejects {
        statement.execute(params![t, worker, reasons[*reject as usize], signed(*shares)])?;
    }
    Ok(())
}

fn write_block(transaction: &Transaction<'_>, block: &BlockRecord) -> Result<(), Error> {
    let BlockRecord { height, hash, at, worker, submissions } = block;
    transaction
        .prepare_cached(
            "INSERT INTO block (height, hash, at, worker) VALUES (?, ?, ?, ?) \
             ON CONFLICT (hash) DO UPDATE SET at = excluded.at, worker = excluded.worker",
        )?
        .execute(params![height, hash, signed(*at), worker])?;
    let mut answer =
        transaction.prepare_cached("INSERT OR REPLACE INTO submission VALUES (?, ?, ?, ?, ?)")?;
    for NodeAnswer { node, outcome, at } in submissions {
        answer.execute(params![hash, node, outcome.name(), outcome.reason(), signed(*at)])?;
    }
    Ok(())
}

/// SQLite has no unsigned numbers; nothing counted here comes near the limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Rows of workers in each of the three tables, some 25 bytes each: 100 MB. Ten workers never reach
/// it; a thousand keep their minutes for 3 days and their hours for 5 months; ten thousand for
/// 6 hours and 2 weeks.
const WORKER_ROWS_MAX: i64 = 4_000_000;
/// Slots that one round deletes from a table: more than are added meanwhile.
const SLOTS_DROPPED_MAX: usize = 240;
/// Rows may be this many seconds ahead of the clock: a day in any time zone.
const FUTURE_S: u64 = 86_400;
/// How long another program (a backup) may lock the file.
const BUSY: Duration = Duration::from_secs(5);
/// Bytes of the write-ahead log that stay on disk after it was larger.
const WAL_KEPT: i64 = 8 << 20;
const CACHE_KIB: i64 = 8 << 10;
/// More than all that are ever used.
const STATEMENTS: usize = 48;

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
