//! Why the ledger cannot be written, in words for the operator.

use std::{io, path::PathBuf};

use rusqlite::{Error, ErrorCode};

#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error(
        "{} cannot be created: {error}. Set ledger.data_dir to a folder that gatewayd may write to",
        path.display()
    )]
    NoFolder { path: PathBuf, error: io::Error },
    #[error(
        "{} is a folder, but the history file should be there: move it away",
        path.display()
    )]
    IsFolder { path: PathBuf },
    #[error(
        "another gatewayd uses {}: give each its own ledger.data_dir",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error(
        "{} was written by a newer gatewayd (file version {version}; this one supports {known}): \
         run the newer one again, or move the file away to begin a new one",
        path.display()
    )]
    Newer { path: PathBuf, version: i64, known: i64 },
    #[error("{} belongs to another program: move it away", path.display())]
    Foreign { path: PathBuf },
    #[error("{} is damaged ({why})", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("the disk that {} is on is full: free some space", path.display())]
    Full { path: PathBuf },
    #[error(
        "{} cannot be written to ({why}): make it and its folder writable for gatewayd's user",
        path.display()
    )]
    ReadOnly { path: PathBuf, why: String },
    #[error(
        "the disk fails to read or write {} ({why}): look for disk errors in the system's log \
         (dmesg), and check whether a quota has been reached",
        path.display()
    )]
    Disk { path: PathBuf, why: String },
    #[error("{} cannot be used: {why}", path.display())]
    Other { path: PathBuf, why: String },
}

impl StoreError {
    /// What a database's error means for the file at `path`.
    pub(super) fn of(error: &Error, path: PathBuf) -> Self {
        let why = error.to_string();
        let Error::SqliteFailure(failure, _) = error else {
            return Self::of_values(error, path, why);
        };
        match failure.code {
            _ if path.is_dir() => Self::IsFolder { path },
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged { path, why },
            ErrorCode::DiskFull => Self::Full { path },
            ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::AuthorizationForStatementDenied => Self::ReadOnly { path, why },
            ErrorCode::SystemIoFailure => Self::Disk { path, why },
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::InUse { path },
            _ => Self::Other { path, why },
        }
    }

    /// Values of another type than were written are damage, too.
    fn of_values(error: &Error, path: PathBuf, why: String) -> Self {
        match error {
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..) => Self::Damaged { path, why },
            _ => Self::Other { path, why },
        }
    }

    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}
