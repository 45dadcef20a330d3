//! A Stratum V1 miner of the load generator.

use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::{
    conn::{HASHES_PER_SCAN, HASHES_PER_TURN, LEN_MAX, LoadClient, LoadConn, LoadError},
    line::{NotifyHead, accepted_id, is_notify},
    log::{Log, News, Sight},
};
use crate::{
    devnet::miner::{
        message::{
            Extranonce, ID_AUTHORIZE, ID_CONFIGURE, ID_SUBMIT_FIRST, ID_SUBSCRIBE, ServerMessage,
            SubmitFields, plain, write_request, write_submit,
        },
        scan::{Cursor, Found, HashWork},
    },
    work::VERSION_ROLLING_MASK,
};

/// One connection.
pub(super) struct Sv1LoadClient {
    log: Log,
    sight: Sight,
    user: String,
    /// Jobs are kept.
    submits: bool,
    out: String,
    extranonce: Option<Extranonce>,
    version_mask: Option<u32>,
    difficulty: f64,
    /// The latest notify, not parsed yet.
    notify: Vec<u8>,
    work: Option<Arc<HashWork>>,
    serial: u64,
    cursor: Cursor,
    solved: Vec<Found>,
    under_way: usize,
    submit_id: u64,
}

impl Sv1LoadClient {
    pub(super) fn new(conn: &LoadConn, log: Log) -> Self {
        let user = conn.users.first().cloned().unwrap_or_default();
        let mut out = String::new();
        let params = format!(
            r#"[["version-rolling"],{{"version-rolling.mask":"{VERSION_ROLLING_MASK:08x}"}}]"#
        );
        write_request(ID_CONFIGURE, "mining.configure", &params, &mut out);
        let params = format!(r#"["{}"]"#, plain(&conn.user_agent));
        write_request(ID_SUBSCRIBE, "mining.subscribe", &params, &mut out);
        let params = format!(r#"["{}","x"]"#, plain(&user));
        write_request(ID_AUTHORIZE, "mining.authorize", &params, &mut out);
        Self {
            log,
            sight: Sight::default(),
            user,
            submits: conn.submits,
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
        }
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), LoadError> {
        if let Some(id) = accepted_id(line).filter(|id| *id >= ID_SUBMIT_FIRST) {
            debug_assert!(id < self.submit_id, "the server answered a request that was never sent");
            self.under_way = self.under_way.saturating_sub(1);
            self.log.on_accepted(1);
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
                    self.log.on_rejected(format!("{} {}", error.code, error.text));
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
        let NotifyHead { empty, prevhash, clean } = *head;
        self.log.on_work(&mut self.sight, News { tip: prevhash, clean, empty });
        if self.submits {
            self.notify.clear();
            self.notify.extend_from_slice(line);
            // Difficulty and job belong together in the order in which they were sent.
            self.work = None;
            if head.clean {
                self.solved.clear();
            }
        }
    }

    fn work(&mut self) -> Result<Option<Arc<HashWork>>, LoadError> {
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

    fn send_share(&mut self, found: &Found) {
        let fields = SubmitFields {
            username: &self.user,
            job_id: &found.work.job.id,
            extranonce2: found.extranonce2(),
            ntime: found.ntime,
            nonce: found.nonce,
            version_bits: found.version_bits(),
        };
        write_submit(self.submit_id, &fields, &mut self.out);
        self.submit_id += 1;
        self.under_way += 1;
        self.log.on_submitted();
    }
}

impl LoadClient for Sv1LoadClient {
    fn on_input(&mut self, input: &mut BytesMut) -> Result<(), LoadError> {
        while let Some(end) = memchr::memchr(b'\n', input) {
            self.on_line(&input[..end])?;
            input.advance(end + 1);
        }
        if input.len() > LEN_MAX { Err(LoadError::TooLong) } else { Ok(()) }
    }

    fn submit(&mut self, wanted: usize) -> Result<bool, LoadError> {
        if self.under_way >= wanted {
            return Ok(false);
        }
        let Some(work) = self.work()? else { return Ok(false) };
        let mut hashes = 0;
        while self.under_way < wanted {
            if let Some(found) = self.solved.pop() {
                self.send_share(&found);
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

    fn out(&self) -> &[u8] {
        self.out.as_bytes()
    }

    fn on_sent(&mut self) {
        self.out.clear();
    }

    fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    fn state(&self) -> String {
        format!("working={}, {} in flight", self.log.working, self.under_way)
    }
}
