//! Where log lines go: standard error or the journal, and a file.

mod daily;
mod journal;
mod queue;

use std::{
    backtrace::Backtrace,
    io::IsTerminal,
    path::{Path, PathBuf},
};

use tracing::{Subscriber, error, warn};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::ParseError,
    fmt,
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

pub(crate) use self::queue::Sink;
use self::{
    daily::DailyFile,
    journal::{Journal, Socket},
    queue::{Flush, Queue},
};

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogConfig {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
    /// Also log to this file.
    pub(crate) file: Option<PathBuf>,
}

impl LogConfig {
    /// For commands that print results: text on standard error.
    pub fn text(level: &str) -> Self {
        Self { level: level.into(), format: LogFormat::Text, file: None }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogFormat {
    Text,
    Json,
    /// The journal's native protocol, which keeps levels and fields.
    Journald,
}

/// Keeps logging running: to be held until the end, when dropping it writes the last lines.
pub struct Logging {
    level: reload::Handle<EnvFilter, Registry>,
    _flush: Vec<Flush>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("RUST_LOG or log.level: {0}")]
    Level(#[from] ParseError),
    #[error("logging was already set up: {0}")]
    Twice(#[from] TryInitError),
    #[error("cannot start a thread for the log: {0}")]
    Thread(#[from] std::io::Error),
    #[error("logging has ended: {0}")]
    Ended(#[from] reload::Error),
}

impl Logging {
    /// Changes what is logged from here on. RUST_LOG still overrides it.
    pub(crate) fn set_level(&self, level: &str) -> Result<(), LoggingError> {
        Ok(self.level.reload(filter(level)?)?)
    }
}

/// Sets up logging for the whole process. If the journal or the file cannot be used, that is only a
/// warning: mining goes on.
pub fn init(log: &LogConfig) -> Result<Logging, LoggingError> {
    let (level, handle) = reload::Layer::new(filter(&log.level)?);
    let is_terminal = std::io::stderr().is_terminal();
    let mut all = Vec::new();
    let mut start = |(queue, flush)| {
        all.push(flush);
        queue
    };
    let standard_error =
        start(queue::spawn(Sink::StandardError, is_terminal, std::io::stderr(), log_dropped)?);
    let (socket, no_journal) = match log.format {
        LogFormat::Journald => split(Socket::open()),
        LogFormat::Text | LogFormat::Json => (None, None),
    };
    let journal = socket.map(|it| queue::spawn(Sink::Journal, false, it, log_dropped));
    let journal = journal.transpose()?.map(&mut start).map(Journal);
    let (file, no_file) = split(log.file.as_ref().map_or(Ok(None), |path| {
        open(path, &standard_error).map(Some).map_err(|error| (path.display(), error))
    }));
    let file = file.flatten().map(&mut start);
    let standard_error = journal.is_none().then(|| text(log.format, is_terminal, standard_error));
    tracing_subscriber::registry()
        .with(level)
        .with(journal)
        .with(standard_error)
        .with(file.map(|file| text(log.format, false, file)))
        .try_init()?;
    log_panics();
    if let Some(error) = no_journal {
        warn!(
            "log.format is \"journald\", but there is no journal to write to ({error}): logging \
               text instead"
        );
    }
    if let Some((path, error)) = no_file {
        warn!("log.file {path} cannot be written, so nothing is logged there: {error}");
    }
    Ok(Logging { level: handle, _flush: all })
}

/// A daily file, whose problems are reported on standard error.
fn open(path: &Path, standard_error: &Queue) -> std::io::Result<(Queue, Flush)> {
    let other = standard_error.clone();
    let file = DailyFile::open(path, move |line| other.put(line.into_bytes()))?;
    queue::spawn(Sink::File, false, file, log_dropped)
}

/// Called on the thread of a sink that flows again.
fn log_dropped(sink: Sink, lines: u64) {
    let sink = sink.name();
    warn!(sink, lines, "log lines were dropped: nobody read them, or the disk was too slow");
}

/// A panic's message goes where other lines go: waiting for a reader would hold up its thread.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        // Only with RUST_BACKTRACE.
        error!(thread, "{panic}\n{}", Backtrace::capture());
    }));
}

/// RUST_LOG helps if the configuration cannot be changed.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    std::env::var("RUST_LOG").as_deref().unwrap_or(level).parse()
}

fn text<S>(format: LogFormat, ansi: bool, queue: Queue) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = fmt::layer().with_ansi(ansi).with_writer(queue);
    match format {
        LogFormat::Json => layer.json().boxed(),
        LogFormat::Text | LogFormat::Journald => layer.with_target(false).boxed(),
    }
}

fn split<T, E>(result: Result<T, E>) -> (Option<T>, Option<E>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    }
}
