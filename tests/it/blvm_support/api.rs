//! The stand-in's NodeAPI, written from the protocol, not with gatewayd's codec.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use gatewayd::work::Hash256;

/// What it reports.
#[derive(Clone)]
pub struct ApiScript {
    pub version: &'static str,
    pub tip: Hash256,
    pub height: u64,
    /// In its templates: 16 bytes of target instead of a text.
    pub numeric_target: bool,
    /// Added to the height of its templates.
    pub height_error: u64,
    /// Sent instead of the answer to the next template.
    pub garbage: Option<Vec<u8>>,
}

pub struct FakeApi {
    pub script: Arc<Mutex<ApiScript>>,
    pub templates: Arc<AtomicUsize>,
    pub tips: Arc<AtomicUsize>,
    /// Requests in neither layout.
    pub nonsense: Arc<AtomicUsize>,
    /// The connection being served.
    stream: Arc<Mutex<Option<UnixStream>>>,
}

impl FakeApi {
    pub fn start(socket: &Path, tip: Hash256, version: &'static str) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let script = ApiScript {
            version,
            tip,
            height: 10,
            numeric_target: false,
            height_error: 0,
            garbage: None,
        };
        let api = Self {
            script: Arc::new(Mutex::new(script)),
            templates: Arc::default(),
            tips: Arc::default(),
            nonsense: Arc::default(),
            stream: Arc::default(),
        };
        let script = Arc::clone(&api.script);
        let counters =
            (Arc::clone(&api.templates), Arc::clone(&api.tips), Arc::clone(&api.nonsense));
        let current = Arc::clone(&api.stream);
        thread::spawn(move || {
            // One at a time, like the node.
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                *current.lock().unwrap() = Some(stream.try_clone().unwrap());
                serve(stream, &script, &counters);
                *current.lock().unwrap() = None;
            }
        });
        api
    }

    pub fn set(&self, change: impl FnOnce(&mut ApiScript)) {
        change(&mut self.script.lock().unwrap());
    }

    /// Sends an unsolicited frame.
    pub fn send(&self, message: &[u8]) {
        let stream = self.stream.lock().unwrap();
        write_frame(stream.as_ref().unwrap(), message).unwrap();
    }

    pub fn send_raw(&self, bytes: &[u8]) {
        self.stream.lock().unwrap().as_ref().unwrap().write_all(bytes).unwrap();
    }

    pub fn is_connected(&self) -> bool {
        self.stream.lock().unwrap().is_some()
    }
}

/// An event of a block, as NewBlock (0) or BlockMined (12).
pub fn block_event(kind: u32, hash: Hash256, height: u64) -> Vec<u8> {
    let mut event = [2_u32, kind, kind].map(u32::to_le_bytes).concat();
    event.extend(hash.0);
    event.extend(height.to_le_bytes());
    if kind == 12 {
        event.push(0);
    }
    event
}

type Counters = (Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>);

fn serve(mut stream: UnixStream, script: &Mutex<ApiScript>, counters: &Counters) {
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut message = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        stream.read_exact(&mut message).unwrap();
        let u32_at = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap());
        let script_now = script.lock().unwrap().clone();
        let (id, kind, payload) = (&message[4..12], u32_at(12), u32_at(16));
        let template_tag = if script_now.version < "0.1.56" { 49 } else { 50 };
        let answer = match (kind, payload) {
            (8, 0) => {
                let version = script_now.version.as_bytes();
                let length = (version.len() as u64).to_le_bytes();
                [&0_u32.to_le_bytes()[..], &length, version].concat()
            }
            (4, 5) => {
                counters.1.fetch_add(1, SeqCst);
                [&5_u32.to_le_bytes()[..], &script_now.tip.0].concat()
            }
            (7, 8) => 8_u32.to_le_bytes().to_vec(),
            (14, 14) => chain_info(&script_now),
            (kind, payload) if kind == template_tag && payload == template_tag => {
                counters.0.fetch_add(1, SeqCst);
                if let Some(garbage) = script.lock().unwrap().garbage.take() {
                    stream.write_all(&garbage).unwrap();
                    continue;
                }
                template(&script_now, template_tag - 4)
            }
            // Like the node with what it does not allow.
            _ => {
                counters.2.fetch_add(1, SeqCst);
                return;
            }
        };
        let head = [&1_u32.to_le_bytes()[..], id, &[1, 1]].concat();
        if write_frame(&stream, &[&head[..], &answer, &[0]].concat()).is_err() {
            return;
        }
    }
}

fn write_frame(mut stream: &UnixStream, message: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], message].concat())
}

fn chain_info(script: &ApiScript) -> Vec<u8> {
    let mut info = 14_u32.to_le_bytes().to_vec();
    info.extend(script.tip.0);
    info.extend(script.height.to_le_bytes());
    info.extend(1.5_f64.to_le_bytes());
    info.extend(7_u64.to_le_bytes());
    info.push(1);
    info
}

fn template(script: &ApiScript, tag: u32) -> Vec<u8> {
    let mut out = tag.to_le_bytes().to_vec();
    out.extend(0x2000_0000_i64.to_le_bytes());
    out.extend(script.tip.0);
    out.extend([0; 32]);
    out.extend(1_002_u64.to_le_bytes());
    out.extend(0x207F_FFFF_u64.to_le_bytes());
    out.extend(0_u64.to_le_bytes());
    // The coinbase: one input with an empty script, one output.
    out.extend(1_u64.to_le_bytes());
    out.extend(1_u64.to_le_bytes());
    out.extend([0; 32]);
    out.extend(u32::MAX.to_le_bytes());
    out.extend(0xFFFF_FFFE_u64.to_le_bytes());
    out.extend(0_u64.to_le_bytes());
    out.extend(1_u64.to_le_bytes());
    out.extend(5_000_000_000_i64.to_le_bytes());
    out.extend(1_u64.to_le_bytes());
    out.push(0x51);
    out.extend(script.height.to_le_bytes());
    // No transactions.
    out.extend(0_u64.to_le_bytes());
    if script.numeric_target {
        out.extend([0xFF; 16]);
    } else {
        out.extend(64_u64.to_le_bytes());
        out.extend([b'f'; 64]);
    }
    out.extend((script.height + 1 + script.height_error).to_le_bytes());
    out.extend(1_003_u64.to_le_bytes());
    out
}
