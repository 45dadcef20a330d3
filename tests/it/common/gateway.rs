//! The real gatewayd binary in a process of its own, ended when dropped.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::eventually;

/// A running gateway and every line it has written.
pub struct Gateway {
    child: Child,
    log: Arc<Log>,
    dir: Arc<TempDir>,
}

/// Lines of standard output and standard error, in the order in which they arrived.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Gateway {
    /// Starts `gatewayd --config FILE run`. In the configuration, `{dir}` stands for a directory
    /// of this gateway's own, which `restart` keeps.
    pub fn start(config_toml: &str) -> Self {
        let dir = Arc::new(TempDir::with_prefix("gatewayd-").unwrap());
        let config = config_toml.replace("{dir}", dir.path().to_str().unwrap());
        fs::write(dir.path().join("gatewayd.toml"), config).unwrap();
        Self::run_in(dir)
    }

    /// The binary, without those parts of the caller's environment that would change what it does.
    pub fn command() -> Command {
        let mut command = Command::new(option_env!("CARGO_BIN_EXE_gatewayd").unwrap_or("gatewayd"));
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("GATEWAYD_") {
                command.env_remove(name);
            }
        }
        command.env_remove("RUST_LOG").env("NO_COLOR", "1").env("RUST_BACKTRACE", "1");
        command
    }

    /// Starts any command as if it were the gateway: for the harness's own tests.
    pub fn start_command(command: Command) -> Self {
        Self::spawn(command, Arc::new(TempDir::with_prefix("gatewayd-").unwrap()))
    }

    fn run_in(dir: Arc<TempDir>) -> Self {
        let mut command = Self::command();
        command.arg("--config").arg(dir.path().join("gatewayd.toml")).arg("run");
        Self::spawn(command, dir)
    }

    fn spawn(mut command: Command, dir: Arc<TempDir>) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        Self { child, log, dir }
    }

    /// Restarts a gateway that has exited or was killed, with the same configuration and directory.
    pub fn restart(mut self) -> Self {
        self.kill9();
        Self::run_in(Arc::clone(&self.dir))
    }

    /// The directory that `{dir}` stands for.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line that contains `pattern`, whenever it was written.
    #[track_caller]
    pub fn wait_for_line(&self, pattern: &str, timeout: Duration) -> String {
        self.wait_for_line_after(0, pattern, timeout)
    }

    /// The first line from number `start` on that contains `pattern`; see `line_count`.
    #[track_caller]
    pub fn wait_for_line_after(&self, start: usize, pattern: &str, timeout: Duration) -> String {
        let found = self.log.wait(start, timeout, |line| line.contains(pattern));
        found.unwrap_or_else(|| panic!("no line with {pattern:?} within {timeout:?}"))
    }

    /// How many lines there are so far: a position to wait from.
    pub fn line_count(&self) -> usize {
        self.log.lines.lock().unwrap().len()
    }

    pub fn lines(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().clone()
    }

    /// The address bound for a protocol, from its line `listening protocol=… addr=…`.
    #[track_caller]
    pub fn addr(&self, protocol: &str) -> SocketAddr {
        let line = self.log.wait(0, LISTEN_TIMEOUT, |line| {
            line.contains("listening") && field(line, "protocol") == Some(protocol)
        });
        let line = line.unwrap_or_else(|| panic!("not listening for {protocol}"));
        field(&line, "addr").and_then(|addr| addr.parse().ok()).expect("the line has an address")
    }

    /// Sends a signal by name: `TERM`, `HUP`, `USR1`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    #[track_caller]
    pub fn wait_exit(&mut self, timeout: Duration) -> ExitStatus {
        let child = &mut self.child;
        let status = eventually("gatewayd exits", timeout, || child.try_wait().unwrap());
        self.log.wait_for_end();
        status
    }

    /// Ends the gateway as a power cut would.
    pub fn kill9(&mut self) {
        // An error means that it has already exited.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill9();
        if thread::panicking() {
            let lines = self.lines();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
            eprintln!("the end of gatewayd's log:\n{}", tail.join("\n"));
        }
    }
}

impl Log {
    fn follow(self: &Arc<Self>, source: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n') {
                let Ok(line) = line else { return };
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                log.lines.lock().unwrap().push(line);
                log.grown.notify_all();
            }
        });
    }

    fn wait(
        &self,
        start: usize,
        timeout: Duration,
        accept: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let deadline = Instant::now() + timeout;
        let mut lines = self.lines.lock().unwrap();
        let mut next = start;
        loop {
            while let Some(line) = lines.get(next) {
                if accept(line) {
                    return Some(line.clone());
                }
                next += 1;
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            lines = self.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until both readers are done: an exited process may have lines in flight.
    fn wait_for_end(self: &Arc<Self>) {
        eventually("the log ends", LISTEN_TIMEOUT, || (Arc::strong_count(self) == 1).then_some(()));
    }
}

/// The value of `name=value` in a log line, without quotes.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| {
        let (key, value) = word.split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    })
}

/// Sends a signal with the shell's own `kill`, which is available everywhere.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}: {status}");
}

const LISTEN_TIMEOUT: Duration = Duration::from_secs(30);
const LOG_TAIL_LINES: usize = 80;
