//! Where log lines go: standard error or the journal, and a file. What they say is everybody's own.

mod daily;

use std::io::IsTerminal;

use tracing::{Subscriber, warn};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::ParseError,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

use crate::config::{Log, LogFormat};
use daily::DailyFile;

/// Logging as it was set up: to be kept until the end, which writes the last lines.
pub struct Logging {
    level: reload::Handle<EnvFilter, Registry>,
    _file: Option<WorkerGuard>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("RUST_LOG or log.level: {0}")]
    Level(#[from] ParseError),
    #[error("logging was set up before: {0}")]
    Twice(#[from] TryInitError),
    #[error("logging has ended: {0}")]
    Ended(#[from] reload::Error),
}

impl Logging {
    /// Changes what is logged from here on. RUST_LOG stays above it.
    pub fn set_level(&self, level: &str) -> Result<(), LoggingError> {
        Ok(self.level.reload(filter(level)?)?)
    }
}

/// Sets up logging for the whole process. A journal or a file that cannot be had is warned of: it is
/// no reason not to mine.
pub fn init(log: &Log) -> Result<Logging, LoggingError> {
    let (level, handle) = reload::Layer::new(filter(&log.level)?);
    let (journal, no_journal) = match log.format {
        LogFormat::Journald => split(journal()),
        LogFormat::Text | LogFormat::Json => (None, None),
    };
    let (file, no_file) = split(log.file.as_ref().map_or(Ok(None), |path| {
        DailyFile::open(path).map(Some).map_err(|error| (path.display(), error))
    }));
    let file = file.flatten();
    let (writer, guard) = file.map(non_blocking).unzip();
    let is_terminal = std::io::stderr().is_terminal();
    let standard_error = journal.is_none().then(|| text(log.format, is_terminal, std::io::stderr));
    tracing_subscriber::registry()
        .with(level)
        .with(journal)
        .with(standard_error)
        .with(writer.map(|writer| text(log.format, false, writer)))
        .try_init()?;
    if let Some(error) = no_journal {
        warn!("log.format = \"journald\" but no journal to write to ({error}): text it is");
    }
    if let Some((path, error)) = no_file {
        warn!("log.file {path} cannot be written, so nothing goes there: {error}");
    }
    Ok(Logging { level: handle, _file: guard })
}

/// RUST_LOG helps when a configuration cannot be changed.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    std::env::var("RUST_LOG").as_deref().unwrap_or(level).parse()
}

fn journal<S>() -> std::io::Result<impl Layer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    use tracing_journald::{Priority, PriorityMappings};
    // The crate's own would show our info as notices.
    let priorities = PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        ..PriorityMappings::new()
    };
    let layer = tracing_journald::layer()?;
    Ok(layer.with_syslog_identifier("gatewayd".into()).with_priority_mappings(priorities))
}

fn text<S, W>(format: LogFormat, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_ansi(ansi).with_writer(writer);
    match format {
        LogFormat::Json => layer.json().boxed(),
        LogFormat::Text | LogFormat::Journald => layer.with_target(false).boxed(),
    }
}

/// A disk that stalls must not hold up what logs.
fn non_blocking(file: DailyFile) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING_MAX)
        .thread_name("log file")
        .finish(file)
}

fn split<T, E>(result: Result<T, E>) -> (Option<T>, Option<E>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    }
}

/// A megabyte or two, if the disk never comes back; lines after that are left out.
const LINES_WAITING_MAX: usize = 8_192;
