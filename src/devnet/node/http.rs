//! As much of HTTP/1.1 as JSON-RPC clients need. Pure.

/// The relevant parts of a request's head.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) body_len: usize,
    pub(super) authorization: Option<String>,
    /// The client wants to keep the connection.
    pub(super) keeps: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
}

/// Why a request is refused before its body is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum BadHead {
    #[error("the head is not HTTP")]
    NotHttp,
    #[error("the head is longer than {HEAD_LEN_MAX} bytes")]
    HeadTooLong,
    #[error("the method is not POST")]
    Method,
    #[error("the body's length is missing or not a number")]
    Length,
    #[error("the body is longer than {BODY_LEN_MAX} bytes")]
    BodyTooLong,
}

impl BadHead {
    pub(super) fn status(self) -> u16 {
        match self {
            Self::NotHttp => 400,
            Self::HeadTooLong => 431,
            Self::Method => 405,
            Self::Length => 411,
            Self::BodyTooLong => 413,
        }
    }
}

/// The head at the start of `bytes` and its length; none if it is incomplete.
pub(super) fn read_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, BadHead> {
    let window = &bytes[..bytes.len().min(HEAD_LEN_MAX)];
    match memchr::memmem::find(window, b"\r\n\r\n") {
        Some(at) => Ok(Some((parse_head(&window[..at])?, at + 4))),
        None if bytes.len() >= HEAD_LEN_MAX => Err(BadHead::HeadTooLong),
        None => Ok(None),
    }
}

fn parse_head(head: &[u8]) -> Result<Head, BadHead> {
    let text = std::str::from_utf8(head).map_err(|_| BadHead::NotHttp)?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, version) = (words.next(), words.nth(1).unwrap_or_default());
    if !version.starts_with("HTTP/1.") {
        return Err(BadHead::NotHttp);
    }
    if method != Some("POST") {
        return Err(BadHead::Method);
    }
    let mut length = None;
    let (mut authorization, mut expects_continue) = (None, false);
    let mut keeps = version != "HTTP/1.0";
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(BadHead::NotHttp)?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse::<usize>().ok(),
            "transfer-encoding" => return Err(BadHead::Length),
            "authorization" => authorization = Some(value.to_owned()),
            "connection" => keeps = !value.eq_ignore_ascii_case("close"),
            "expect" => expects_continue = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
    let body_len = length.ok_or(BadHead::Length)?;
    if body_len > BODY_LEN_MAX {
        return Err(BadHead::BodyTooLong);
    }
    Ok(Head { body_len, authorization, keeps, expects_continue })
}

/// A complete response, ready to be written.
pub(super) fn response(status: u16, body: &[u8], keeps: bool) -> Vec<u8> {
    let connection = if keeps { "keep-alive" } else { "close" };
    let challenge =
        if status == 401 { "WWW-Authenticate: Basic realm=\"jsonrpc\"\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\n{challenge}\
         Connection: {connection}\r\nContent-Length: {}\r\n\r\n",
        reason(status),
        body.len(),
    );
    [head.as_bytes(), body].concat()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}

/// Sent to a client that expects it.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
pub(super) const HEAD_LEN_MAX: usize = 16 * 1024;
/// A block of 4 MB in hex, and its envelope.
pub(super) const BODY_LEN_MAX: usize = 9 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let read = |text: &str| read_head(text.as_bytes());
        assert_eq!(read("POST / HTTP/1.1\r\nContent-Length: 5\r\n"), Ok(None));
        let text = "POST / HTTP/1.1\r\ncontent-LENGTH: 5\r\nAuthorization: Basic x\r\n\r\nabcde";
        let head = Head {
            body_len: 5,
            authorization: Some("Basic x".into()),
            keeps: true,
            expects_continue: false,
        };
        assert_eq!(read(text), Ok(Some((head, text.len() - 5))));
        let bad = |text: &str| read(text).unwrap_err();
        assert_eq!(bad("GET / HTTP/1.1\r\n\r\n"), BadHead::Method);
        assert_eq!(bad("\0\0\r\n\r\n"), BadHead::NotHttp);
        assert_eq!(bad("POST / HTTP/1.1\r\n\r\n"), BadHead::Length);
        assert_eq!(bad("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), BadHead::Length);
        let long = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", BODY_LEN_MAX + 1);
        assert_eq!(bad(&long), BadHead::BodyTooLong);
        assert_eq!(bad(&"x".repeat(HEAD_LEN_MAX)), BadHead::HeadTooLong);
    }

    #[test]
    fn connections_of_old_and_closing_clients_are_not_kept() {
        let keeps = |text: &str| read_head(text.as_bytes()).unwrap().unwrap().0.keeps;
        assert!(!keeps("POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n"));
        assert!(!keeps("POST / HTTP/1.1\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n"));
        assert!(keeps("POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"));
    }
}
