//! The reading side of the database, with its own connection. Blocking, but never for long.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use super::{
    HistoryQuery, ReadError, Series,
    file::{FILE, FileId, identity},
    series::{Plan, Point, Step, plan, resample},
    trouble::StoreError,
};
use crate::clock::now;

/// Why a query was not answered, and whether the file is to blame.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) error: ReadError,
    pub(super) is_damage: bool,
}

/// Answers queries, one after the other.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    open: Option<(Connection, FileId)>,
}

impl Reader {
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join(FILE), open: None }
    }

    pub(super) fn history(&mut self, query: &HistoryQuery, now: u64) -> Result<Series, Unread> {
        self.ask(|connection| history(connection, query, now))
    }

    pub(super) fn rejects(
        &mut self,
        worker: Option<&str>,
        window: Duration,
        now: u64,
    ) -> Result<Vec<(String, u64)>, Unread> {
        self.ask(|connection| rejects(connection, worker, window, now))
    }

    fn ask<T>(
        &mut self,
        question: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Unread> {
        let answer = self.connection().and_then(|connection| {
            let deadline = now() + ANSWER_MAX;
            connection.progress_handler(STEPS, Some(move || now() > deadline))?;
            question(connection)
        });
        answer.map_err(|error| {
            // By the next time it may be another file.
            self.open = None;
            if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
                return Unread { error: ReadError::TimedOut, is_damage: false };
            }
            // The writer has the same problem, and says what to do about it.
            let why = format!("{}: {error}", self.path.display());
            let is_damage = StoreError::of(&error, self.path.clone()).is_damage();
            Unread { error: ReadError::Unavailable(why), is_damage }
        })
    }

    /// Connects to the current file.
    fn connection(&mut self) -> Result<&mut Connection, Error> {
        let there = identity(&self.path);
        let is_current = self.open.as_ref().is_some_and(|(_, open)| Some(*open) == there);
        if !is_current {
            self.open = None;
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(ANSWER_MAX)?;
            self.open = Some((connection, there.unwrap_or_default()));
        }
        match &mut self.open {
            Some((connection, _)) => Ok(connection),
            None => Err(Error::InvalidQuery),
        }
    }
}

fn history(connection: &Connection, query: &HistoryQuery, now: u64) -> Result<Series, Error> {
    let of_a_worker = query.worker.is_some() || query.beside_workers;
    let plan = plan_for(connection, of_a_worker, query.window, now)?;
    let Some(name) = &query.worker else {
        let sql = format!(
            "SELECT t, accepted, rejected, difficulty, seconds FROM total_{} \
             WHERE t BETWEEN ? AND ? ORDER BY t",
            plan.step.name()
        );
        let mut rows = connection.prepare_cached(&sql)?;
        let rows = rows.query_map([plan.from, plan.to], point)?.collect::<Result<Vec<_>, _>>()?;
        return Ok(resample(&plan, query.metric, rows.into_iter()));
    };
    let Some(worker) = worker_id(connection, name)? else {
        return Ok(resample(&plan, query.metric, std::iter::empty()));
    };
    // Where gatewayd ran but the worker did not mine, the value is 0.
    let sql = format!(
        "SELECT total.t, coalesce(its.accepted, 0), coalesce(its.rejected, 0), \
         coalesce(its.difficulty, 0.0), total.seconds \
         FROM total_{0} AS total LEFT JOIN worker_{0} AS its \
         ON its.t = total.t AND its.worker = ? \
         WHERE total.t BETWEEN max(?, (SELECT coalesce(min(t), 0) FROM worker_{0})) AND ? \
         ORDER BY total.t",
        plan.step.name()
    );
    let mut rows = connection.prepare_cached(&sql)?;
    let rows = rows.query_map((worker, plan.from, plan.to), point)?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(resample(&plan, query.metric, rows.into_iter()))
}

/// Rejections by reason, the most frequent first.
fn rejects(
    connection: &Connection,
    worker: Option<&str>,
    window: Duration,
    now: u64,
) -> Result<Vec<(String, u64)>, Error> {
    let plan = plan_for(connection, worker.is_some(), window, now)?;
    let worker = match worker {
        None => Some(0),
        Some(name) => worker_id(connection, name)?,
    };
    let Some(worker) = worker else { return Ok(Vec::new()) };
    // The join finds each minute's few rows by key instead of reading everybody's.
    let sql = format!(
        "SELECT reason.name, sum(its.shares) AS shares \
         FROM total_{0} AS total CROSS JOIN reject_{0} AS its \
         ON its.t = total.t AND its.worker = ? JOIN reason ON reason.id = its.reason \
         WHERE total.t BETWEEN ? AND ? GROUP BY reason.id ORDER BY shares DESC, reason.name",
        plan.step.name()
    );
    let mut rows = connection.prepare_cached(&sql)?;
    let rows =
        rows.query_map((worker, plan.from, plan.to), |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn plan_for(
    connection: &Connection,
    of_a_worker: bool,
    window: Duration,
    now: u64,
) -> Result<Plan, Error> {
    let began = |table: &str| {
        let mut first = [None; Step::ALL.len()];
        for (first, step) in first.iter_mut().zip(Step::ALL) {
            let sql = format!("SELECT min(t) FROM {table}_{}", step.name());
            let t: Option<u64> =
                connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
            *first = t.map(|t| t.saturating_mul(step.seconds()));
        }
        Ok::<_, Error>(first)
    };
    let workers = if of_a_worker { began("worker")? } else { [None; Step::ALL.len()] };
    // Before the first worker row, only the total has rows.
    let first = if workers == [None; Step::ALL.len()] { began("total")? } else { workers };
    Ok(plan(window, now, |step| first[step as usize]))
}

fn worker_id(connection: &Connection, name: &str) -> Result<Option<i64>, Error> {
    let mut id = connection.prepare_cached("SELECT id FROM worker WHERE name = ?")?;
    match id.query_row([name], |row| row.get(0)) {
        Err(Error::QueryReturnedNoRows) => Ok(None),
        id => id.map(Some),
    }
}

fn point(row: &rusqlite::Row<'_>) -> Result<Point, Error> {
    Ok(Point {
        t: row.get(0)?,
        accepted: row.get(1)?,
        rejected: row.get(2)?,
        difficulty: row.get(3)?,
        seconds: row.get(4)?,
    })
}

/// A query that takes longer is aborted: others wait behind it.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Checks the clock after this many steps of SQLite's virtual machine, some 20 µs.
const STEPS: i32 = 1_000;
