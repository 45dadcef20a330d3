//! Why the ledger is not being kept, in words for whoever must do something about it.

use std::{io, path::PathBuf};

use rusqlite::{Error, ErrorCode};

#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(
        "{} cannot be made: {error}. Make ledger.data_dir a folder that gatewayd may write to",
        path.display()
    )]
    NoFolder { path: PathBuf, error: io::Error },
    #[error(
        "{} is a folder where the history's file should be: move it away",
        path.display()
    )]
    IsFolder { path: PathBuf },
    #[error(
        "another gatewayd keeps its history in {}: give each one a ledger.data_dir of its own",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error(
        "{} was written by a newer gatewayd (version {version} of the file; this one knows \
         {known}): run that one again, or move the file away to begin a new one",
        path.display()
    )]
    Newer { path: PathBuf, version: i64, known: i64 },
    #[error("{} is another program's file: move it away", path.display())]
    Foreign { path: PathBuf },
    #[error("{} is damaged ({why})", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("the disk that {} is on is full: free some space", path.display())]
    Full { path: PathBuf },
    #[error(
        "{} cannot be written to ({why}): make it and its folder writable for the user that \
         gatewayd runs as",
        path.display()
    )]
    ReadOnly { path: PathBuf, why: String },
    #[error(
        "the disk fails to read or write {} ({why}): look for disk errors in the system's log \
         (dmesg), and whether a quota is reached",
        path.display()
    )]
    Disk { path: PathBuf, why: String },
    #[error("{} cannot be used: {why}", path.display())]
    Other { path: PathBuf, why: String },
}

impl Trouble {
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

    /// Values of another kind than were written are damage, too.
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
