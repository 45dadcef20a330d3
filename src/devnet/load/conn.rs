//! One of many connections: logs in, notes when work comes, and keeps submits under way.

use std::{
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::yield_now,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    board::Board,
    line::{NotifyHead, accepted_id, is_notify},
    now,
};
use crate::{
    devnet::miner::{
        message::{
            Extranonce, ParseError, ServerMessage, SubmitFields, plain, write_request, write_submit,
        },
        scan::{Cursor, Found, HashWork},
    },
    work::VERSION_ROLLING_MASK,
};

#[derive(Debug, Error)]
enum ConnError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the server hung up")]
    HungUp,
    #[error("a line of more than {LINE_LEN_MAX} bytes")]
    LineTooLong,
    #[error("the server sent {0}")]
    Parse(#[from] ParseError),
}

/// A miner of the load, over all its reconnections.
pub(super) struct Conn {
    pub(super) board: Arc<Board>,
    pub(super) address: SocketAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) user: String,
    pub(super) user_agent: String,
    /// How many submits to keep under way.
    pub(super) in_flight: watch::Receiver<usize>,
    /// There will be some: jobs must be kept.
    pub(super) submits: bool,
    pub(super) shutdown: CancellationToken,
}

impl Conn {
    pub(super) async fn run(self) {
        let shutdown = self.shutdown.clone();
        let board = Arc::clone(&self.board);
        let mut arrived = false;
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => return,
                stream = self.connect() => stream,
            };
            match stream {
                Ok(stream) => {
                    let mut talk = Talk::new(&self, stream, arrived);
                    let ended = tokio::select! {
                        () = shutdown.cancelled() => return,
                        ended = talk.serve() => ended,
                    };
                    if talk.tip.is_some() {
                        board.connected.fetch_sub(1, Relaxed);
                    }
                    arrived = talk.arrived;
                    board.disconnects.fetch_add(1, Relaxed);
                    if let Err(error) = ended {
                        debug!(user = self.user, "load: {error}");
                    }
                }
                Err(error) => {
                    board.connect_failures.fetch_add(1, Relaxed);
                    debug!(user = self.user, "load: cannot connect: {error}");
                }
            }
            sleep(RETRY).await;
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let socket =
            if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// One connection.
struct Talk<'a> {
    conn: &'a Conn,
    in_flight: watch::Receiver<usize>,
    stream: TcpStream,
    input: BytesMut,
    out: String,
    extranonce: Option<Extranonce>,
    version_mask: Option<u32>,
    difficulty: f64,
    /// The latest notify, not yet looked into.
    notify: Vec<u8>,
    work: Option<Arc<HashWork>>,
    serial: u64,
    cursor: Cursor,
    solved: Vec<Found>,
    under_way: usize,
    submit_id: u64,
    /// The prevhash of the latest work, and whether any on it was full.
    tip: Option<[u8; 64]>,
    tip_is_full: bool,
    arrived: bool,
}

impl<'a> Talk<'a> {
    fn new(conn: &'a Conn, stream: TcpStream, arrived: bool) -> Self {
        let mut out = String::new();
        let params = format!(
            r#"[["version-rolling"],{{"version-rolling.mask":"{VERSION_ROLLING_MASK:08x}"}}]"#
        );
        write_request(ID_CONFIGURE, "mining.configure", &params, &mut out);
        let params = format!(r#"["{}"]"#, plain(&conn.user_agent));
        write_request(ID_SUBSCRIBE, "mining.subscribe", &params, &mut out);
        let params = format!(r#"["{}","x"]"#, plain(&conn.user));
        write_request(ID_AUTHORIZE, "mining.authorize", &params, &mut out);
        Self {
            conn,
            in_flight: conn.in_flight.clone(),
            stream,
            input: BytesMut::new(),
            out,
            extranonce: None,
            version_mask: None,
            difficulty: 1.0,
            notify: Vec::new(),
            work: None,
            serial: 0,
            cursor: Cursor::default(),
            solved: Vec::new(),
            under_way: 0,
            submit_id: ID_SUBMIT_FIRST,
            tip: None,
            tip_is_full: false,
            arrived,
        }
    }

    async fn serve(&mut self) -> Result<(), ConnError> {
        loop {
            let hungry = self.submit_more()?;
            if !self.out.is_empty() {
                let write = self.stream.write_all(self.out.as_bytes());
                timeout(WRITE_TIMEOUT, write).await.map_err(io::Error::from)??;
                self.out.clear();
            }
            self.input.reserve(READ_AT_ONCE);
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.input) => {
                    if read? == 0 {
                        return Err(ConnError::HungUp);
                    }
                    self.on_input()?;
                }
                changed = self.in_flight.changed() => {
                    if changed.is_err() {
                        // Nobody is left to change it.
                        pending::<()>().await;
                    }
                }
                () = yield_now(), if hungry => {}
            }
        }
    }

    fn on_input(&mut self) -> Result<(), ConnError> {
        let mut input = std::mem::take(&mut self.input);
        while let Some(end) = memchr::memchr(b'\n', &input) {
            self.on_line(&input[..end])?;
            input.advance(end + 1);
        }
        if input.len() > LINE_LEN_MAX {
            return Err(ConnError::LineTooLong);
        }
        // An idle connection keeps no buffer: there are many of them.
        self.input = if input.is_empty() && self.under_way == 0 { BytesMut::new() } else { input };
        Ok(())
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), ConnError> {
        if let Some(id) = accepted_id(line).filter(|id| *id >= ID_SUBMIT_FIRST) {
            debug_assert!(id < self.submit_id, "the server made up an answer");
            self.under_way = self.under_way.saturating_sub(1);
            self.conn.board.accepted.fetch_add(1, Relaxed);
            return Ok(());
        }
        if is_notify(line)
            && let Some(head) = NotifyHead::read(line)
        {
            self.on_notify(&head, line);
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match ServerMessage::parse(line)? {
            ServerMessage::Answer(answer) => match answer.id {
                Some(ID_CONFIGURE) => self.version_mask = answer.version_mask(),
                Some(ID_SUBSCRIBE) => self.extranonce = Some(answer.extranonce()?),
                Some(id) if id >= ID_SUBMIT_FIRST => {
                    let error = answer.error.unwrap_or_default();
                    self.under_way = self.under_way.saturating_sub(1);
                    self.conn.board.add_rejected(format!("{} {}", error.code, error.text));
                }
                _ => {}
            },
            ServerMessage::SetDifficulty(difficulty) => self.difficulty = difficulty,
            ServerMessage::SetExtranonce(extranonce) => self.extranonce = Some(extranonce),
            ServerMessage::SetVersionMask(mask) if self.version_mask.is_some() => {
                self.version_mask = Some(mask);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_notify(&mut self, head: &NotifyHead, line: &[u8]) {
        let at = now();
        let board = &self.conn.board;
        if !self.arrived {
            self.arrived = true;
            board.arrivals().push(at.duration_since(board.began));
        }
        match &self.tip {
            None => {
                // What was there before this connection is no news.
                board.connected.fetch_add(1, Relaxed);
                self.tip_is_full = true;
            }
            Some(tip) if *tip != head.prevhash => {
                self.tip_is_full = false;
                if head.clean {
                    board.tips().on_clean(&head.prevhash, at);
                }
            }
            Some(_) => {}
        }
        self.tip = Some(head.prevhash);
        if !head.empty && !self.tip_is_full {
            self.tip_is_full = true;
            board.tips().on_full(&head.prevhash, at);
        }
        if self.conn.submits {
            self.notify.clear();
            self.notify.extend_from_slice(line);
            // Difficulty and job belong together, as they were sent.
            self.work = None;
            if head.clean {
                self.solved.clear();
            }
        }
    }

    /// Fills up what is under way. True when it takes more hashing than one turn may do.
    fn submit_more(&mut self) -> Result<bool, ConnError> {
        let wanted = *self.in_flight.borrow_and_update();
        if self.under_way >= wanted {
            return Ok(false);
        }
        let Some(work) = self.work()? else { return Ok(false) };
        let mut hashes = 0;
        while self.under_way < wanted {
            if let Some(found) = self.solved.pop() {
                self.submit(&found);
                continue;
            }
            if hashes >= HASHES_PER_TURN {
                return Ok(true);
            }
            hashes += match self.cursor.scan(&work, HASHES_PER_SCAN, &mut self.solved) {
                0 => return Ok(false),
                count => count,
            };
        }
        Ok(false)
    }

    fn work(&mut self) -> Result<Option<Arc<HashWork>>, ConnError> {
        if self.work.is_none()
            && let Some(extranonce) = self.extranonce.clone()
            && !self.notify.is_empty()
            && let ServerMessage::Notify(job) = ServerMessage::parse(&self.notify)?
        {
            self.serial += 1;
            self.cursor.restart();
            let (mask, difficulty) = (self.version_mask, self.difficulty);
            let work = HashWork::new(self.serial, Arc::new(*job), extranonce, mask, difficulty);
            self.work = Some(Arc::new(work));
        }
        Ok(self.work.clone())
    }

    fn submit(&mut self, found: &Found) {
        let fields = SubmitFields {
            username: &self.conn.user,
            job_id: &found.work.job.id,
            extranonce2: found.extranonce2(),
            ntime: found.ntime,
            nonce: found.nonce,
            version_bits: found.version_bits(),
        };
        write_submit(self.submit_id, &fields, &mut self.out);
        self.submit_id += 1;
        self.under_way += 1;
        self.conn.board.submitted.fetch_add(1, Relaxed);
    }
}

const ID_CONFIGURE: u64 = 1;
const ID_SUBSCRIBE: u64 = 2;
const ID_AUTHORIZE: u64 = 3;
const ID_SUBMIT_FIRST: u64 = 10;
/// A share at the smallest difficulty needs 4.3 hashes.
const HASHES_PER_SCAN: u32 = 64;
/// Then others have their turn: two milliseconds' work.
const HASHES_PER_TURN: u32 = 16_384;
const READ_AT_ONCE: usize = 4096;
const RETRY: Duration = Duration::from_millis(200);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Far more than a notify with the largest coinbase that any gateway writes.
const LINE_LEN_MAX: usize = 256 * 1024;
