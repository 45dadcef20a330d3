//! The database schema, and migrations from older versions.

use rusqlite::{Connection, Error, TransactionBehavior};

/// Marks the file as ours: "gwld".
const APPLICATION: i64 = 0x6777_6C64;
/// The migrations from version n to n + 1. Never changed once released; only added to.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];
/// The version that this gatewayd writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// What a file turned out to be.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum SchemaState {
    /// Of the current version, or migrated to it.
    Ours,
    /// Of this later version.
    Newer(i64),
    Foreign,
}

/// Migrates the file to the current version.
pub(super) fn migrate(connection: &mut Connection) -> Result<SchemaState, Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let number = |name: &str| transaction.pragma_query_value(None, name, |row| row.get(0));
    let (version, application): (i64, i64) = (number("user_version")?, number("application_id")?);
    if application != APPLICATION {
        let tables: i64 =
            transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 || application != 0 || version != 0 {
            return Ok(SchemaState::Foreign);
        }
    }
    let done = match usize::try_from(version) {
        Ok(done) if done <= MIGRATIONS.len() => done,
        Ok(_) => return Ok(SchemaState::Newer(version)),
        Err(_) => return Ok(SchemaState::Foreign),
    };
    if done < MIGRATIONS.len() {
        for migration in &MIGRATIONS[done..] {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
    }
    transaction.commit()?;
    Ok(SchemaState::Ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_becomes_ours_once() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert_eq!(migrate(&mut connection), Ok(SchemaState::Ours));
        connection.execute("INSERT INTO reason (name) VALUES ('x')", []).unwrap();
        assert_eq!(migrate(&mut connection), Ok(SchemaState::Ours));
        let kept: i64 =
            connection.query_row("SELECT count(*) FROM reason", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 1);
    }

    #[test]
    fn files_of_others_and_of_the_future_are_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert_eq!(migrate(&mut connection), Ok(SchemaState::Foreign));
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", VERSION + 3).unwrap();
        assert_eq!(migrate(&mut connection), Ok(SchemaState::Newer(VERSION + 3)));
    }
}
