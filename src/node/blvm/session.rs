//! One session with blvm-node's NodeAPI: bytes in, bytes and events out. Pure.

use std::collections::VecDeque;

use super::{
    message::{
        self, ApiTemplate, CHAIN_INFO_WIDTHS, ChainInfo, Event, Identity, Incoming, Layout,
        NodeApiRequest, Target,
    },
    wire::{Frames, Reader, WireError},
};
use crate::work::{Hash256, printable};

/// What the node said.
#[derive(Debug, Eq, PartialEq)]
pub enum NodeApiMessage {
    /// It accepts us as a module; this is its version, and the message layout that follows from it.
    Welcome {
        version: String,
        layout: Layout,
    },
    Subscribed,
    Tip(Hash256),
    Info(ChainInfo),
    Template(Box<ApiTemplate>),
    Event(Event),
    /// It refuses this request, for this reason.
    Refused {
        ask: NodeApiRequest,
        reason: String,
    },
    /// Its answer cannot be decoded in any known layout.
    Unreadable {
        ask: NodeApiRequest,
        error: WireError,
    },
}

/// Why a session must end.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NodeApiError {
    #[error("its message cannot be parsed: {0}")]
    Wire(#[from] WireError),
    #[error("it refuses us as a module: {0}")]
    Refused(String),
    #[error("it sends an answer that was not asked for")]
    Unasked,
}

/// Our side of the session.
#[derive(Debug)]
pub struct NodeApiSession {
    identity: (Box<str>, Box<str>),
    layout: Layout,
    frames: Frames,
    /// Unanswered requests, oldest first.
    asked: VecDeque<(u64, NodeApiRequest)>,
    next_id: u64,
}

impl NodeApiSession {
    /// Starts with the handshake, which is appended to `out`.
    pub fn new(module_id: &str, module_name: &str, out: &mut Vec<u8>) -> Self {
        let mut client = Self {
            identity: (module_id.into(), module_name.into()),
            layout: Layout::B,
            frames: Frames::default(),
            asked: VecDeque::new(),
            next_id: 1,
        };
        client.ask(NodeApiRequest::Handshake, out);
        client
    }

    /// Sends a request, unless the same one is pending or the node is behind with its answers.
    pub fn ask(&mut self, ask: NodeApiRequest, out: &mut Vec<u8>) {
        if self.asked.len() >= ASKED_MAX || self.asked.iter().any(|(_, asked)| *asked == ask) {
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.asked.push_back((id, ask));
        let (module_id, module_name) = (&self.identity.0, &self.identity.1);
        message::append(ask, id, self.layout, Identity { module_id, module_name }, out);
    }

    /// True while an answer is due.
    pub fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Takes received bytes; appends what the node said to `said`, and our answers to `out`.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        said: &mut Vec<NodeApiMessage>,
        out: &mut Vec<u8>,
    ) -> Result<(), NodeApiError> {
        let mut frames = std::mem::take(&mut self.frames);
        frames.push(bytes);
        while let Some(frame) = frames.next()? {
            match message::incoming(frame)? {
                Incoming::Event(event) => said.push(NodeApiMessage::Event(event)),
                Incoming::Response { correlation_id, body } => {
                    let news = self.on_response(correlation_id, body, out)?;
                    said.push(news);
                }
                Incoming::Ignored => {}
            }
        }
        self.frames = frames;
        Ok(())
    }

    fn on_response(
        &mut self,
        correlation_id: u64,
        body: Reader<'_>,
        out: &mut Vec<u8>,
    ) -> Result<NodeApiMessage, NodeApiError> {
        let at = self.asked.iter().position(|(id, _)| *id == correlation_id);
        let (_, ask) = at.and_then(|at| self.asked.remove(at)).ok_or(NodeApiError::Unasked)?;
        let read = match ask {
            NodeApiRequest::Handshake => return self.on_handshake(body, out),
            NodeApiRequest::ChainTip => {
                message::answer(body, message::chain_tip).map(|it| it.map(NodeApiMessage::Tip))
            }
            NodeApiRequest::SubscribeEvents => message::answer(body, message::subscribed)
                .map(|it| it.map(|()| NodeApiMessage::Subscribed)),
            NodeApiRequest::ChainInfo => {
                let tries = CHAIN_INFO_WIDTHS
                    .map(|widths| move || message::answer(body, message::chain_info(widths)));
                first_good(tries).map(|it| it.map(NodeApiMessage::Info))
            }
            NodeApiRequest::BlockTemplate => self.on_template(body),
        };
        Ok(match read {
            Ok(Ok(news)) => news,
            Ok(Err(reason)) => NodeApiMessage::Refused { ask, reason },
            Err(error) => NodeApiMessage::Unreadable { ask, error },
        })
    }

    fn on_handshake(
        &mut self,
        body: Reader<'_>,
        out: &mut Vec<u8>,
    ) -> Result<NodeApiMessage, NodeApiError> {
        let version = message::answer(body, message::handshake)?.map_err(NodeApiError::Refused)?;
        self.layout = Layout::of(version);
        self.ask(NodeApiRequest::SubscribeEvents, out);
        self.ask(NodeApiRequest::ChainInfo, out);
        self.ask(NodeApiRequest::ChainTip, out);
        let version = printable(version, VERSION_LEN_MAX).into();
        Ok(NodeApiMessage::Welcome { version, layout: self.layout })
    }

    /// The version tells the layout, but a patched node may use neither.
    fn on_template(
        &mut self,
        body: Reader<'_>,
    ) -> Result<Result<NodeApiMessage, String>, WireError> {
        let mine = self.layout;
        let other = if mine == Layout::A { Layout::B } else { Layout::A };
        let ways = [
            (mine, Target::Text),
            (mine, Target::Number),
            (other, Target::Text),
            (other, Target::Number),
        ];
        let tries = ways.map(|(layout, target)| {
            move || message::answer(body, message::template(layout, target))
        });
        first_good(tries).map(|it| it.map(|template| NodeApiMessage::Template(Box::new(template))))
    }
}

/// The first decoding that leaves nothing over, or else what was wrong with the most likely one.
fn first_good<T, F: FnOnce() -> Result<T, WireError>>(
    tries: impl IntoIterator<Item = F>,
) -> Result<T, WireError> {
    let mut first = None;
    for read in tries {
        match read() {
            Ok(value) => return Ok(value),
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    Err(first.unwrap_or(WireError::Other))
}

/// As many as there are kinds of requests.
const ASKED_MAX: usize = 8;
const VERSION_LEN_MAX: usize = 40;

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
