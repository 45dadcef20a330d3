//! The gateway's process, as the kernel reports it, and this process's limits.

use std::{
    fs, io,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::{
    param::clock_ticks_per_second,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// A process being measured.
pub(super) struct Server {
    pid: u32,
}

impl Server {
    pub(super) fn new(pid: u32) -> io::Result<Self> {
        fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Ok(Self { pid })
    }

    /// User and system time so far, in steps of a clock tick (10 ms).
    pub(super) fn cpu(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let ticks = cpu_ticks(&stat)?;
        let ticks_per_second = clock_ticks_per_second().max(1);
        Some(Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64))
    }

    /// Memory in RAM.
    pub(super) fn rss_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }
}

/// utime + stime. The command's name, in parentheses, may contain anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    // The state is field 3, utime field 14.
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut field = || fields.next()?.parse::<u64>().ok();
    Some(field()? + field()?)
}

/// Lets this process open `wanted` files; the error says how many it wanted and why it may not.
pub(super) fn raise_open_files(wanted: u64) -> Result<(), (u64, io::Error)> {
    let limit = getrlimit(Resource::Nofile);
    // None means no limit.
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
        .map_err(|error| (wanted, error.into()))
}

/// Runs `command` and waits for it.
pub(super) fn shell(command: &str) -> io::Result<()> {
    let mut shell = Command::new("sh");
    let status = shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_after_any_command_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 31 11 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn this_process_can_be_measured() {
        let server = Server::new(std::process::id()).unwrap();
        assert!(server.cpu().is_some());
        assert!(server.rss_bytes().unwrap() > 100_000);
    }

    #[test]
    fn a_few_files_are_always_allowed() {
        raise_open_files(20).unwrap();
    }
}
