//! A client that sends exactly what a test wants, and shows exactly what came back.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// GETs `path`.
#[track_caller]
pub fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, "GET", path, &[], None)
}

/// Sends one request, on a connection of its own.
#[track_caller]
pub fn ask(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    json: Option<&str>,
) -> Answer {
    let mut socket = begin(addr, method, path, headers, json);
    let (status, headers) = head(&mut socket);
    let has = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, it)| it);
    let mut body = Vec::new();
    if has("transfer-encoding").is_some_and(|it| it == "chunked") {
        while let Some(chunk) = chunk(&mut socket) {
            body.extend(chunk);
        }
    } else if method != "HEAD" {
        socket.read_to_end(&mut body).unwrap();
    }
    Answer { status, headers, body }
}

/// Requests server-sent events: reads them one at a time.
pub struct Events {
    socket: BufReader<TcpStream>,
    pending: String,
}

impl Events {
    #[track_caller]
    pub fn open(addr: SocketAddr, path: &str) -> Self {
        let mut socket = begin(addr, "GET", path, &[], None);
        let (status, headers) = head(&mut socket);
        let content_type = ("content-type".to_owned(), "text/event-stream".to_owned());
        assert!(status == 200 && headers.contains(&content_type), "{status} {headers:?}");
        Self { socket, pending: String::new() }
    }

    /// The next event of this name, with its data.
    #[track_caller]
    pub fn next(&mut self, name: &str) -> Value {
        loop {
            while let Some((event, rest)) = self.pending.split_once("\n\n") {
                let event = event.to_owned();
                self.pending = rest.to_owned();
                let field = |field: &str| event.lines().find_map(|line| line.strip_prefix(field));
                if field("event: ") == Some(name) {
                    return serde_json::from_str(field("data: ").unwrap()).unwrap();
                }
            }
            let chunk = chunk(&mut self.socket).expect("events go on");
            self.pending.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

fn begin(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    json: Option<&str>,
) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request += &format!("Host: {addr}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if let Some(json) = json {
        let len = json.len();
        request += &format!("Content-Type: application/json\r\nContent-Length: {len}\r\n");
    }
    request += "\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    // The answer may arrive before all of the body is sent: that is for the test to judge.
    let _ = socket.write_all(json.unwrap_or_default().as_bytes());
    BufReader::new(socket)
}

fn head(socket: &mut BufReader<TcpStream>) -> (u16, Vec<(String, String)>) {
    let mut line = || {
        let mut line = String::new();
        socket.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let status = line();
    let status = status.split(' ').nth(1).and_then(|it| it.parse().ok()).expect(&status);
    let mut headers = Vec::new();
    loop {
        let line = line();
        let Some((name, value)) = line.split_once(':') else { return (status, headers) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn chunk(socket: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    socket.read_line(&mut line).unwrap();
    let len = usize::from_str_radix(line.trim_end(), 16).ok().filter(|len| *len > 0)?;
    let mut chunk = vec![0; len + 2];
    socket.read_exact(&mut chunk).unwrap();
    chunk.truncate(len);
    Some(chunk)
}

const PATIENCE: Duration = Duration::from_secs(20);
