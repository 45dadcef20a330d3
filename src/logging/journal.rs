//! systemd's journal, with levels and fields in its native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>). Entries are made here and sent by a queue's
//! thread: a journal that hangs must not hold anybody up.

use std::{
    fmt,
    io::{self, IoSlice, Write},
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::PathBuf,
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr},
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::queue::Queue;

/// The journal's socket; each write is an entry.
pub(super) struct Socket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        Self::open_at(PATH.into())
    }

    fn open_at(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // The journal discards an empty entry: it only shows that somebody is listening.
        socket.set_write_timeout(Some(PROBE_TIME_MAX))?;
        socket.send_to(&[], &path)?;
        socket.set_write_timeout(None)?;
        Ok(Self { socket, path })
    }

    /// Entries too long for a datagram are passed in a memory file.
    fn send_file(&self, entry: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = std::fs::File::from(memfd_create("gatewayd-log", flags)?);
        file.write_all(entry)?;
        fcntl_add_seals(
            &file,
            SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
        )?;
        let files = [file.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
        let to = SocketAddrUnix::new(&self.path)?;
        sendmsg_addr(&self.socket, &to, &[IoSlice::new(&[])], &mut ancillary, SendFlags::empty())?;
        Ok(())
    }
}

impl Write for Socket {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        match self.socket.send_to(entry, &self.path) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::MSGSIZE) => {
                self.send_file(entry)?;
            }
            sent => drop(sent?),
        }
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Turns each event into an entry.
pub(super) struct Journal(pub(super) Queue);

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry(Vec::with_capacity(512));
        let about = event.metadata();
        entry.put("PRIORITY", priority(*about.level()));
        entry.put("SYSLOG_IDENTIFIER", "gatewayd");
        entry.put("TARGET", about.target());
        if let Some(file) = about.file() {
            entry.put("CODE_FILE", file);
        }
        if let Some(line) = about.line() {
            entry.put("CODE_LINE", &line.to_string());
        }
        event.record(&mut entry);
        self.0.put(entry.0);
    }
}

/// syslog's priority: info is below notice.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// Fields as they are sent.
struct Entry(Vec<u8>);

impl Entry {
    /// With the value's length in front, so that nothing in it can begin another field.
    fn put(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return self.put("MESSAGE", value);
        }
        let upper = field.name().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_');
        let name: String = "F_".chars().chain(upper.map(|c| c.to_ascii_uppercase())).collect();
        self.put(&name, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

const PATH: &str = "/run/systemd/journal/socket";
const PROBE_TIME_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, mem::MaybeUninit};

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    /// The last that can be done for a block is to log it whole.
    #[test]
    fn an_entry_of_any_size_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut socket = Socket::open_at(path).unwrap();
        let mut small = [0; 64];
        assert_eq!(journal.recv(&mut small).unwrap(), 0, "the probe");
        socket.write_all(b"small").unwrap();
        let len = journal.recv(&mut small).unwrap();
        assert_eq!(&small[..len], b"small");

        let mut entry = Entry(Vec::new());
        entry.put("MESSAGE", &"ab".repeat(4_000_000));
        socket.write_all(&entry.0).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [io::IoSliceMut::new(&mut small)];
        recvmsg(&journal, &mut into, &mut ancillary, RecvFlags::empty()).unwrap();
        let file = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        let mut file = File::from(file.unwrap());
        let mut read = Vec::new();
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut read).unwrap();
        assert!(read == entry.0);
    }
}
