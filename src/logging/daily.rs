//! A log file for each day: `gatewayd.log` is today's, `gatewayd.log.2026-11-20` yesterday's.
//!
//! Days are in UTC, like the times in the lines. Only files with such names are ever deleted.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use time::{Date, Month, OffsetDateTime};

pub(super) struct DailyFile {
    path: PathBuf,
    file: File,
    /// The day of the lines in the file.
    day: Date,
    /// The mode of the first file: later ones are created under another umask.
    permissions: fs::Permissions,
    now: fn() -> SystemTime,
    /// Where a full disk is reported; logging it would end up here again.
    tell: Box<dyn Fn(String) + Send>,
    /// A failure is reported once.
    failed: bool,
}

impl DailyFile {
    #[expect(clippy::disallowed_methods, reason = "the log's days follow the wall clock")]
    pub(super) fn open(path: &Path, tell: impl Fn(String) + Send + 'static) -> io::Result<Self> {
        Self::open_at(path, SystemTime::now, Box::new(tell))
    }

    fn open_at(
        path: &Path,
        now: fn() -> SystemTime,
        tell: Box<dyn Fn(String) + Send>,
    ) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // A file from an earlier run belongs to the day on which it was last written.
        let written = fs::metadata(path).and_then(|it| it.modified()).map(date);
        let file = append(path)?;
        let day = written.unwrap_or_else(|_| date(now()));
        let permissions = file.metadata()?.permissions();
        Ok(Self { path: path.to_owned(), file, day, permissions, now, tell, failed: false })
    }

    /// Renames the file of the day that is over, and begins one for `today`.
    fn rotate(&mut self, today: Date) -> io::Result<()> {
        let aside = self.of_day(self.day);
        self.day = today;
        // The clock may have been set back: then two days share a file, and no line is lost.
        if !aside.exists() {
            fs::rename(&self.path, aside)?;
            self.file = append(&self.path)?;
            // Log collectors may still be reading.
            self.file.set_permissions(self.permissions.clone())?;
            self.prune()?;
        }
        Ok(())
    }

    fn prune(&self) -> io::Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut days: Vec<_> =
            fs::read_dir(folder)?.filter_map(|entry| self.day_of(&entry.ok()?.path())).collect();
        days.sort_unstable();
        let surplus = days.len().saturating_sub(DAYS_KEPT);
        days.iter().take(surplus).try_for_each(|day| fs::remove_file(self.of_day(*day)))
    }

    fn of_day(&self, day: Date) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{day}"));
        name.into()
    }

    /// The day in the name of a renamed file; None for any other file.
    fn day_of(&self, path: &Path) -> Option<Date> {
        let name = path.file_name()?.to_str()?;
        let day = name.strip_prefix(self.path.file_name()?.to_str()?)?.strip_prefix('.')?;
        let mut parts = day.splitn(3, '-').map(str::parse::<u16>);
        let (year, month, of_month) = (parts.next()?, parts.next()?, parts.next()?);
        let month = Month::try_from(u8::try_from(month.ok()?).ok()?).ok()?;
        let of_month = u8::try_from(of_month.ok()?).ok()?;
        let date = Date::from_calendar_date(year.ok()?.into(), month, of_month).ok()?;
        (date.to_string() == day).then_some(date)
    }
}

impl Write for DailyFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let today = date((self.now)());
        let rotated = if today == self.day { Ok(()) } else { self.rotate(today) };
        let written = rotated.and_then(|()| self.file.write(line));
        if let Err(error) = &written
            && !self.failed
        {
            let path = self.path.display();
            (self.tell)(format!("gatewayd: log.file {path} cannot be written: {error}\n"));
        }
        self.failed = written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The day of a time; None for a time outside the calendar.
fn date(at: SystemTime) -> Date {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = i64::try_from(seconds).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH).date()
}

/// Enough to read up on the week before last.
const DAYS_KEPT: usize = 14;

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use super::*;

    static DAYS: AtomicU64 = AtomicU64::new(0);

    /// Days after 2026-11-01, each later than any file that the test makes by itself.
    fn now() -> SystemTime {
        let first = Duration::from_secs(1_793_491_200);
        SystemTime::UNIX_EPOCH + first + Duration::from_secs(86_400 * DAYS.load(Ordering::Relaxed))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn each_day_has_its_file_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/gatewayd");
        let mut log = DailyFile::open_at(&path, now, Box::new(drop)).unwrap();
        for name in ["gatewayd.toml", "gatewayd.2020-01-1", "other.2020-01-01"] {
            fs::write(path.with_file_name(name), "not a log").unwrap();
        }
        for day in 0..20 {
            DAYS.store(day, Ordering::Relaxed);
            log.write_all(format!("day {day}\n").as_bytes()).unwrap();
            log.write_all(b"second line\n").unwrap();
        }
        let names = names(path.parent().unwrap());
        let days: Vec<_> = (6..=19).map(|day| format!("gatewayd.2026-11-{day:02}")).collect();
        let others = ["gatewayd.2020-01-1", "gatewayd.toml", "other.2020-01-01"];
        for name in days.iter().map(String::as_str).chain(others).chain(["gatewayd"]) {
            assert!(names.iter().any(|it| it == name), "{name} of {names:?}");
        }
        assert_eq!(names.len(), DAYS_KEPT + 1 + others.len(), "{names:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "day 19\nsecond line\n");
        let first_kept = fs::read_to_string(path.with_file_name(&days[0])).unwrap();
        assert_eq!(first_kept, "day 5\nsecond line\n");
    }

    #[test]
    fn what_an_earlier_run_left_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gatewayd.log");
        fs::write(&path, "earlier\n").unwrap();
        let earlier = File::options().write(true).open(&path).unwrap();
        let written = earlier.metadata().unwrap().modified().unwrap();
        let yesterday = written - Duration::from_secs(86_400);
        earlier.set_modified(yesterday).unwrap();
        let mut log = DailyFile::open(&path, drop).unwrap();
        log.write_all(b"now\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "now\n");
        let aside = folder.path().join(format!("gatewayd.log.{}", date(yesterday)));
        assert_eq!(fs::read_to_string(aside).unwrap(), "earlier\n");

        drop(log);
        let mut log = DailyFile::open(&path, drop).unwrap();
        log.write_all(b"again\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "now\nagain\n");
    }
}
