//! Log lines on their way out, each sink with its own thread: a reader that hangs, a full pipe or a
//! slow disk does not hold up anybody who logs. Lines without room are counted, and the count is
//! logged once lines flow again.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

use crate::work::printable;

/// Where lines go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sink {
    StandardError,
    File,
    Journal,
}

impl Sink {
    pub(crate) const ALL: [Self; 3] = [Self::StandardError, Self::File, Self::Journal];

    /// Its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::StandardError => "stderr",
            Self::File => "file",
            Self::Journal => "journal",
        }
    }

    /// Lines that this process has dropped there.
    pub(crate) fn dropped(self) -> u64 {
        DROPPED[self as usize].load(Relaxed)
    }
}

/// Per process, like logging itself.
static DROPPED: [AtomicU64; Sink::ALL.len()] = [const { AtomicU64::new(0) }; Sink::ALL.len()];

/// The sending side, for any thread.
#[derive(Clone)]
pub(super) struct Queue {
    shared: Arc<Shared>,
    /// Terminals get colours; nothing else may contain an escape sequence.
    ansi: bool,
}

/// When dropped, writes waiting lines as far as they are read within a moment.
pub(super) struct Flush(Arc<Shared>);

struct Shared {
    sink: Sink,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Dropped lines that were not reported yet.
    untold: u64,
    ending: bool,
    ended: bool,
}

/// Starts the thread; it calls `tell` with the number of dropped lines once there is room again.
pub(super) fn spawn(
    sink: Sink,
    ansi: bool,
    out: impl Write + Send + 'static,
    tell: fn(Sink, u64),
) -> io::Result<(Queue, Flush)> {
    let shared = Arc::new(Shared { sink, state: Mutex::default(), changed: Condvar::new() });
    let writer = Arc::clone(&shared);
    let name = format!("log {}", sink.name());
    thread::Builder::new().name(name).spawn(move || writer.run(out, tell))?;
    Ok((Queue { shared: Arc::clone(&shared), ansi }, Flush(shared)))
}

impl Queue {
    /// Queues a line with its line end, or counts it if there is no room. Never waits for the
    /// reader.
    pub(super) fn put(&self, line: Vec<u8>) {
        let Shared { state, changed, .. } = &*self.shared;
        let mut state = lock(state);
        let fits = state.lines.len() < LINES_WAITING_MAX
            && (state.bytes + line.len() <= BYTES_WAITING_MAX || state.lines.is_empty());
        if !fits || state.ending {
            state.untold += 1;
            DROPPED[self.shared.sink as usize].fetch_add(1, Relaxed);
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        changed.notify_all();
    }
}

/// One log event, which is written as a whole.
pub(super) struct Entry<'a>(&'a Queue);

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Entry<'a>;

    fn make_writer(&'a self) -> Entry<'a> {
        Entry(self)
    }
}

impl Write for Entry<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.put(one_line(event, self.0.ansi));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event as a single line, whatever is quoted in it: quoted text cannot begin another line or
/// control a terminal.
fn one_line(event: &[u8], ansi: bool) -> Vec<u8> {
    let event = event.strip_suffix(b"\n").unwrap_or(event);
    // The formatter has neutralised escapes in quoted text; the remaining ones are its own.
    let is_fine = |c: char| printable::is_printable(c) || (ansi && c == '\u{1b}');
    let mut line = Vec::with_capacity(event.len() + 1);
    for chunk in event.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.find(|c| !is_fine(c)) {
            let (fine, odd) = rest.split_at(at);
            line.extend_from_slice(fine.as_bytes());
            let mut chars = odd.chars();
            if let Some(c) = chars.next() {
                line.extend_from_slice(c.escape_default().to_string().as_bytes());
            }
            rest = chars.as_str();
        }
        line.extend_from_slice(rest.as_bytes());
        for byte in chunk.invalid() {
            line.extend_from_slice(byte.escape_ascii().to_string().as_bytes());
        }
    }
    line.push(b'\n');
    line
}

impl Shared {
    fn run(&self, mut out: impl Write, tell: fn(Sink, u64)) {
        while let Some((line, untold)) = self.next() {
            if !write(&mut out, &line) {
                DROPPED[self.sink as usize].fetch_add(1, Relaxed);
            }
            if untold > 0 {
                tell(self.sink, untold);
            }
        }
        lock(&self.state).ended = true;
        self.changed.notify_all();
    }

    /// The next line, and how many were dropped before there was room again. None: the end.
    fn next(&self) -> Option<(Vec<u8>, u64)> {
        let mut state = lock(&self.state);
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                let flows = state.lines.len() <= LINES_WAITING_MAX / 2 && !state.ending;
                let untold = if flows { std::mem::take(&mut state.untold) } else { 0 };
                return Some((line, untold));
            }
            if state.ending {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.ending = true;
        self.0.changed.notify_all();
        let unread = |state: &mut State| !state.ended;
        // Do not wait any longer for a reader.
        let _ = self.0.changed.wait_timeout_while(state, FLUSH_TIME_MAX, unread);
    }
}

/// False: it cannot be written.
fn write(out: &mut impl Write, mut line: &[u8]) -> bool {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return false,
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                // Some programs leave the pipe that they start others with in this state.
                io::ErrorKind::WouldBlock => thread::sleep(RETRY_AFTER),
                _ => return false,
            },
        }
    }
    true
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // No panic can leave the data inconsistent under the lock.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A megabyte or two of ordinary lines, if nobody reads them.
const LINES_WAITING_MAX: usize = 8_192;
/// As a last resort, a block is logged in full: eight megabytes in hex.
const BYTES_WAITING_MAX: usize = 16 * 1024 * 1024;
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    static TOLD: AtomicU64 = AtomicU64::new(0);

    fn note(_: Sink, lines: u64) {
        TOLD.fetch_add(lines, Relaxed);
    }

    /// A pipe: each write waits for a reader.
    struct Pipe {
        ready: Receiver<()>,
        lines: Sender<String>,
    }

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.ready.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            let _ = self.lines.send(String::from_utf8(line.to_vec()).unwrap());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_who_does_not_read_and_what_is_left_out_is_counted() {
        let ((read, ready), (lines, written)) = (channel(), channel());
        let (queue, flush) = spawn(Sink::File, false, Pipe { ready, lines }, note).unwrap();
        let before = Sink::File.dropped();
        for n in 0..LINES_WAITING_MAX + 1000 {
            queue.make_writer().write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        // One may be with the writer.
        let dropped = Sink::File.dropped() - before;
        assert!((999..=1000).contains(&dropped), "{dropped}");
        for _ in 0..LINES_WAITING_MAX + 1 {
            let _ = read.send(());
        }
        for n in 0..LINES_WAITING_MAX {
            assert_eq!(written.recv_timeout(Duration::from_secs(20)).unwrap(), format!("{n}\n"));
        }
        drop(flush);
        assert_eq!(TOLD.load(Relaxed), dropped);
    }

    #[test]
    fn bytes_have_a_limit_as_well_but_a_block_always_fits() {
        let ((read, ready), (lines, _written)) = (channel(), channel());
        let (queue, flush) = spawn(Sink::Journal, false, Pipe { ready, lines }, |_, _| {}).unwrap();
        let before = Sink::Journal.dropped();
        for _ in 0..20 {
            queue.put(vec![b'x'; 1024 * 1024]);
        }
        let dropped = Sink::Journal.dropped() - before;
        assert!((3..=4).contains(&dropped), "{dropped}");
        drop(read);
        drop(flush);
    }

    #[test]
    fn what_is_quoted_begins_no_line_and_commands_no_terminal() {
        for (event, line) in [
            ("INFO pool says: all is well\n", "INFO pool says: all is well\n"),
            ("a\nINFO forged\n", "a\\nINFO forged\n"),
            ("\u{1b}[31mred\r\n", "\\u{1b}[31mred\\r\n"),
            ("a\u{202e}b\u{85}\u{2028}c \u{fc}", "a\\u{202e}b\\u{85}\\u{2028}c \u{fc}\n"),
        ] {
            assert_eq!(String::from_utf8(one_line(event.as_bytes(), false)).unwrap(), line);
        }
        assert_eq!(one_line(b"\x1b[31mred\x1b[0m\x07\n", true), b"\x1b[31mred\x1b[0m\\u{7}\n");
        assert_eq!(one_line(b"\xff\n", false), b"\\xff\n");
    }
}
