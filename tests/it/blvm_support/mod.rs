//! A stand-in for blvm-node, with its dialect and its faults: JSON-RPC, and the NodeAPI on a
//! socket.

pub mod api;

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use gatewayd::{
    node::{Auth, BlvmConfig, NodeConfig, NodeKind},
    work::Hash256,
};
use tempfile::TempDir;

/// The node's current state and behaviour.
#[derive(Clone)]
pub struct Script {
    pub tip: Hash256,
    pub height: u32,
    pub chain: &'static str,
    pub is_downloading: bool,
    pub cookie: String,
    /// Requests longer than this are refused.
    pub request_max: usize,
    /// Connections in total; further ones are closed without a word.
    pub connections_max: usize,
    /// Raw transactions of the template, in hex, with their txid and hash.
    pub transactions: Vec<(String, String, String)>,
    /// What `submitblock` answers: null, or error -32602 with this message.
    pub refusal: Option<&'static str>,
    /// An accepted block becomes the tip.
    pub connects: bool,
    /// A block that it stored for the next height and then failed to connect.
    pub stranded: Option<Hash256>,
    /// Hangs up instead of answering these methods.
    pub hangs_up_on: &'static str,
    /// Takes the height of its templates from before the tip.
    pub lags_in_height: bool,
    /// Each answer takes this long.
    pub delay: Duration,
    pub connections: usize,
    /// Method and parameters.
    pub calls: Vec<(String, String)>,
}

pub struct FakeBlvm {
    pub address: SocketAddr,
    pub script: Arc<Mutex<Script>>,
    dir: TempDir,
}

impl FakeBlvm {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = TempDir::with_prefix("gatewayd-blvm-").unwrap();
        let script = Arc::new(Mutex::new(Script {
            tip: Hash256([1; 32]),
            height: 10,
            chain: "regtest",
            is_downloading: false,
            cookie: "__cookie__:00ff".into(),
            request_max: usize::MAX,
            connections_max: usize::MAX,
            transactions: Vec::new(),
            refusal: None,
            connects: true,
            stranded: None,
            hangs_up_on: "",
            lags_in_height: false,
            delay: Duration::ZERO,
            connections: 0,
            calls: Vec::new(),
        }));
        let node =
            Self { address: listener.local_addr().unwrap(), script: Arc::clone(&script), dir };
        node.write_cookie();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let is_welcome = {
                    let mut script = script.lock().unwrap();
                    script.connections += 1;
                    script.connections <= script.connections_max
                };
                if is_welcome {
                    let script = Arc::clone(&script);
                    thread::spawn(move || serve(&stream, &script));
                }
            }
        });
        node
    }

    pub fn set<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock().unwrap())
    }

    pub fn write_cookie(&self) {
        std::fs::write(self.dir.path().join(".cookie"), self.set(|it| it.cookie.clone())).unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("node.sock")
    }

    pub fn connections(&self) -> usize {
        self.set(|script| script.connections)
    }

    pub fn calls(&self, method: &str) -> Vec<String> {
        self.set(|script| {
            let calls = script.calls.iter().filter(|(called, _)| called == method);
            calls.map(|(_, params)| params.clone()).collect()
        })
    }

    fn auth(&self) -> Auth {
        Auth::CookieFile(self.dir.path().join(".cookie"))
    }

    pub fn config(&self) -> NodeConfig {
        NodeConfig {
            name: "blvm".into(),
            rpc_url: format!("http://{}", self.address).parse().unwrap(),
            auth: self.auth(),
            zmq_hashblock: None,
            submit_only: false,
            kind: NodeKind::Blvm(BlvmConfig {
                nodeapi_socket: Some(self.socket()),
                module_id: "gatewayd_test".into(),
            }),
        }
    }
}

fn serve(stream: &TcpStream, script: &Mutex<Script>) {
    let mut reader = BufReader::new(stream);
    let mut stream = stream;
    loop {
        let max = script.lock().unwrap().request_max;
        let request = match request(&mut reader, max) {
            Ok(request) => request,
            Err(Refused::Closed) => return,
            Err(Refused::TooLong) => {
                // Like hyper: it answers, and reads no further.
                let _ = write_answer(stream, 413, r#"{"error":{"code":413}}"#);
                return;
            }
        };
        let (authorization, body) = request;
        let method = body.split("\"method\":\"").nth(1).unwrap().split('"').next().unwrap();
        let params = body.split_once("\"params\":").map_or("", |(_, params)| params);
        let params = params.split_inclusive(']').next().unwrap_or_default();
        let params: String = params.split_whitespace().collect();
        let expected = {
            let mut script = script.lock().unwrap();
            script.calls.push((method.to_owned(), params.clone()));
            if script.hangs_up_on == method {
                return;
            }
            bitcoincore_rpc::jsonrpc::base64::encode(&script.cookie)
        };
        if authorization != expected {
            let _ = write_answer(stream, 401, r#"{"error":{"code":401,"message":"no"}}"#);
            return;
        }
        if method == "waitfornewblock" {
            wait(script, &params);
        }
        let id = body.split("\"id\":").nth(1).unwrap().split([',', '}']).next().unwrap();
        let answer = match answer(&mut script.lock().unwrap(), method, &params) {
            Ok(result) => format!(r#"{{"jsonrpc":"2.0","result":{result},"id":{id}}}"#),
            Err((code, message)) => format!(
                r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":"{message}"}},"id":{id}}}"#
            ),
        };
        let delay = script.lock().unwrap().delay;
        thread::sleep(delay);
        if write_answer(stream, 200, &answer).is_err() {
            return;
        }
        let _ = stream.flush();
    }
}

fn write_answer(mut stream: &TcpStream, status: u16, answer: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", answer.len());
    stream.write_all((head + answer).as_bytes())
}

/// Until there is another tip, or for as many seconds as the request says.
fn wait(script: &Mutex<Script>, params: &str) {
    let seconds: u32 = params.trim_matches(['[', ']', '}']).parse().unwrap();
    let tip = script.lock().unwrap().tip;
    for _ in 0..seconds * 50 {
        if script.lock().unwrap().tip != tip {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

enum Refused {
    Closed,
    TooLong,
}

fn request(reader: &mut impl BufRead, max: usize) -> Result<(String, String), Refused> {
    let (mut authorization, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).map_err(|_| Refused::Closed)? == 0 {
            return Err(Refused::Closed);
        }
        let line = line.trim_end();
        let (name, value) = line.split_once(": ").unwrap_or_default();
        if name.eq_ignore_ascii_case("authorization") {
            value.trim_start_matches("Basic ").clone_into(&mut authorization);
        } else if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().unwrap();
        } else if line.is_empty() {
            let mut body = vec![0; length.min(max)];
            reader.read_exact(&mut body).map_err(|_| Refused::Closed)?;
            if length > max {
                return Err(Refused::TooLong);
            }
            return Ok((authorization, String::from_utf8(body).unwrap()));
        }
    }
}

fn answer(script: &mut Script, method: &str, params: &str) -> Result<String, (i32, String)> {
    let (tip, height) = (script.tip, script.height);
    Ok(match method {
        "getblockchaininfo" => format!(
            r#"{{"chain":"{}","blocks":{height},"headers":{height},"initialblockdownload":{}}}"#,
            script.chain, script.is_downloading
        ),
        "getnetworkinfo" => r#"{"version":70015,"subversion":"/BitcoinCommons:0.1.83/"}"#.into(),
        "getbestblockhash" => format!("\"{tip}\""),
        "waitfornewblock" => format!(r#"{{"hash":"{tip}","height":{height}}}"#),
        // Confirmations of a second ago, as in its cache.
        "getblockheader" if params.contains(&tip.to_string()) => format!(
            r#"{{"hash":"{tip}","confirmations":0,"height":{height},"bits":"207fffff","mediantime":1000}}"#
        ),
        "getblockheader" if script.stranded.is_some_and(|it| params.contains(&it.to_string())) => {
            format!(r#"{{"confirmations":0,"height":{}}}"#, height + 1)
        }
        "getblockcount" => height.to_string(),
        "getblockhash" if params.contains(&(height + 1).to_string()) => {
            format!("\"{}\"", script.stranded.unwrap_or(tip))
        }
        "getblockheader" => return Err((-32603, "Block not found: ".into())),
        "getblockhash" => format!("\"{tip}\""),
        "getblocktemplate" => template(script),
        "submitblock" => {
            if let Some(words) = script.refusal {
                return Err((-32602, format!("submitblock: {words}")));
            }
            let hex = params.trim_start_matches("[\"").get(..160).unwrap();
            let mut header = [0; 80];
            faster_hex::hex_decode(hex.as_bytes(), &mut header).unwrap();
            if script.connects {
                script.tip = Hash256::sha256d(&header);
                script.height += 1;
            }
            "null".into()
        }
        _ => return Err((-32601, "Method not found".into())),
    })
}

/// Without default_witness_commitment, and without depends.
fn template(script: &Script) -> String {
    let mut transactions = String::new();
    for (at, (data, txid, hash)) in script.transactions.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        write!(
            transactions,
            r#"{comma}{{"data":"{data}","txid":"{txid}","hash":"{hash}","fee":1,"sigops":1,"weight":{}}}"#,
            data.len() / 2
        )
        .unwrap();
    }
    format!(
        r#"{{"capabilities":["proposal"],"version":4,"rules":["csv","segwit","taproot"],
        "vbavailable":{{}},"previousblockhash":"{}","transactions":[{transactions}],
        "coinbasevalue":{},"longpollid":"x","mintime":1001,"curtime":1002,"bits":"207fffff",
        "sigoplimit":80000,"sizelimit":4000000,"weightlimit":4000000,"height":{}}}"#,
        script.tip,
        5_000_000_000 + script.transactions.len(),
        script.height + u32::from(!script.lags_in_height)
    )
}
