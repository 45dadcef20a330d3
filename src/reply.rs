//! An HTTP answer, as far as JSON-RPC needs one: status and body, read as it comes. Pure.
//!
//! A node tells its answer's length; a proxy before it may send chunks (RFC 9112, 7.1) instead.

/// A whole answer.
#[derive(Debug, Eq, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
    /// The connection may be used again.
    pub keeps: bool,
}

/// Why an answer is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReplyError {
    #[error("the response is not HTTP")]
    NotHttp,
    #[error("the response's {0} is longer than any that a node sends")]
    TooLong(&'static str),
    #[error("the response's Content-Length is not a number")]
    Length,
    #[error(
        "the response comes in an encoding that was not asked for: let the proxy leave it as it is"
    )]
    Encoding,
    #[error("the response's chunks are not as HTTP wants them")]
    Chunk,
    #[error("the response ends in the middle")]
    Ended,
}

/// Reads one answer.
#[derive(Debug)]
pub struct Reader {
    /// What has come of the head; empty once that is read.
    start: Vec<u8>,
    head: Option<Head>,
    body: Vec<u8>,
    body_max: usize,
}

#[derive(Debug, Eq, PartialEq)]
struct Head {
    status: u16,
    way: Way,
    keeps: bool,
}

/// How the body's end is known.
#[derive(Debug, Eq, PartialEq)]
enum Way {
    Length(usize),
    Chunks(Chunks),
    /// By the connection's end.
    Close,
}

impl Reader {
    /// A body may have up to `body_max` bytes.
    pub fn new(body_max: usize) -> Self {
        Self { start: Vec::new(), head: None, body: Vec::new(), body_max }
    }

    /// Takes what came. The answer, once it is whole; what follows it is nobody's.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Result<Option<Reply>, ReplyError> {
        if self.head.is_some() {
            return self.on_body(bytes);
        }
        // The end of the head may be in two pieces.
        let seen = self.start.len().saturating_sub(HEAD_END.len());
        self.start.extend_from_slice(bytes);
        let Some(end) = memchr::memmem::find(&self.start[seen..], HEAD_END) else {
            let is_long = self.start.len() > HEAD_LEN_MAX;
            return if is_long { Err(ReplyError::TooLong("head")) } else { Ok(None) };
        };
        let start = std::mem::take(&mut self.start);
        let (head, rest) = start.split_at(seen + end + HEAD_END.len());
        let head = Head::parse(head)?;
        if let Way::Length(length) = head.way {
            if length > self.body_max {
                return Err(ReplyError::TooLong("body"));
            }
            self.body.reserve_exact(length);
        }
        self.head = Some(head);
        self.on_body(rest)
    }

    /// The connection has ended: that is the end of an answer that does not tell its own.
    pub fn on_end(&mut self) -> Result<Reply, ReplyError> {
        match self.head.take() {
            Some(Head { status, way: Way::Close, .. }) => {
                Ok(Reply { status, body: std::mem::take(&mut self.body), keeps: false })
            }
            _ => Err(ReplyError::Ended),
        }
    }

    fn on_body(&mut self, bytes: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let Some(head) = &mut self.head else { return Err(ReplyError::NotHttp) };
        let is_whole = match &mut head.way {
            Way::Length(length) => {
                let left = length.saturating_sub(self.body.len());
                self.body.extend_from_slice(&bytes[..bytes.len().min(left)]);
                self.body.len() == *length
            }
            Way::Chunks(chunks) => chunks.on_bytes(bytes, &mut self.body, self.body_max)?,
            Way::Close if self.body.len() + bytes.len() > self.body_max => {
                return Err(ReplyError::TooLong("body"));
            }
            Way::Close => {
                self.body.extend_from_slice(bytes);
                false
            }
        };
        if !is_whole {
            return Ok(None);
        }
        let (status, keeps) = (head.status, head.keeps);
        self.head = None;
        Ok(Some(Reply { status, body: std::mem::take(&mut self.body), keeps }))
    }
}

impl Head {
    fn parse(head: &[u8]) -> Result<Self, ReplyError> {
        let text = std::str::from_utf8(head).map_err(|_| ReplyError::NotHttp)?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok()).ok_or(ReplyError::NotHttp)?;
        let (mut way, mut keeps) = (Way::Close, true);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
                way = Way::Chunks(Chunks::default());
            } else if is("transfer-encoding")
                || is("content-encoding") && !value.eq_ignore_ascii_case("identity")
            {
                return Err(ReplyError::Encoding);
            } else if is("content-length") && !matches!(way, Way::Chunks(_)) {
                // Chunks go before it.
                way = Way::Length(value.parse().map_err(|_| ReplyError::Length)?);
            } else if is("connection") {
                keeps = !value.eq_ignore_ascii_case("close");
            }
        }
        keeps &= way != Way::Close;
        Ok(Self { status, way, keeps })
    }
}

/// A body in chunks, on its way.
#[derive(Debug, Default, Eq, PartialEq)]
struct Chunks {
    next: Next,
    /// Of a line that has not ended.
    line: Vec<u8>,
    trailers_len: usize,
}

/// What comes next of the chunks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Next {
    #[default]
    Size,
    Data(usize),
    /// The line's end behind the data.
    Gap,
    Trailer,
    Nothing,
}

impl Chunks {
    /// Adds what came to `body`; true when that was the last of it.
    fn on_bytes(
        &mut self,
        mut bytes: &[u8],
        body: &mut Vec<u8>,
        body_max: usize,
    ) -> Result<bool, ReplyError> {
        while !bytes.is_empty() && self.next != Next::Nothing {
            if let Next::Data(left) = self.next {
                let (data, rest) = bytes.split_at(bytes.len().min(left));
                body.extend_from_slice(data);
                let left = left - data.len();
                self.next = if left == 0 { Next::Gap } else { Next::Data(left) };
                bytes = rest;
                continue;
            }
            let end = memchr::memchr(b'\n', bytes);
            let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
            self.line.extend_from_slice(part);
            if self.line.len() > LINE_LEN_MAX {
                return Err(ReplyError::Chunk);
            }
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                self.next = self.on_line(line.trim_ascii(), body_max.saturating_sub(body.len()))?;
            }
            bytes = rest;
        }
        Ok(self.next == Next::Nothing)
    }

    fn on_line(&mut self, line: &[u8], room: usize) -> Result<Next, ReplyError> {
        match self.next {
            Next::Size => match chunk_size(line).ok_or(ReplyError::Chunk)? {
                0 => Ok(Next::Trailer),
                size if size > room => Err(ReplyError::TooLong("body")),
                size => Ok(Next::Data(size)),
            },
            Next::Gap if line.is_empty() => Ok(Next::Size),
            Next::Trailer if line.is_empty() => Ok(Next::Nothing),
            Next::Trailer => {
                self.trailers_len += line.len();
                let is_long = self.trailers_len > HEAD_LEN_MAX;
                if is_long { Err(ReplyError::TooLong("trailer")) } else { Ok(Next::Trailer) }
            }
            _ => Err(ReplyError::Chunk),
        }
    }
}

/// The number before the extensions: hex digits only, where a parser would take a sign.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let is_hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
    usize::from_str_radix(text, 16).ok()
}

const HEAD_END: &[u8] = b"\r\n\r\n";
/// A node's is 150 bytes, a proxy's a few more.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// A chunk's size and what may stand behind it; nobody uses that.
const LINE_LEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of `bytes`, in pieces of `size`.
    fn read_by(bytes: &[u8], size: usize) -> Result<Option<Reply>, ReplyError> {
        let mut reader = Reader::new(100);
        for piece in bytes.chunks(size) {
            if let Some(reply) = reader.on_bytes(piece)? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    #[track_caller]
    fn case(text: &str, expected: Result<Option<(u16, &str, bool)>, ReplyError>) {
        for size in [1, 2, 3, 7, text.len()] {
            let reply = read_by(text.as_bytes(), size);
            let reply = reply.map(|reply| {
                reply.map(|it| (it.status, String::from_utf8(it.body).unwrap(), it.keeps))
            });
            let wanted =
                expected.map(|it| it.map(|(status, body, keeps)| (status, body.into(), keeps)));
            assert_eq!(reply, wanted, "{text:?} in pieces of {size}");
        }
    }

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn an_answer_with_its_length() {
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        case(ok, Ok(Some((200, "hello", true))));
        case(
            "HTTP/1.1 500 E\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            Ok(Some((500, "", false))),
        );
        case("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", Ok(None));
    }

    #[test]
    fn an_answer_that_ends_with_its_connection() {
        let mut reader = Reader::new(100);
        assert_eq!(reader.on_bytes(b"HTTP/1.0 401 No\r\n\r\nwho?"), Ok(None));
        let reply = reader.on_end().unwrap();
        assert_eq!((reply.status, &*reply.body, reply.keeps), (401, &b"who?"[..], false));
        for cut in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"] {
            let mut reader = Reader::new(100);
            reader.on_bytes(cut.as_bytes()).unwrap();
            assert_eq!(reader.on_end(), Err(ReplyError::Ended), "{cut}");
        }
    }

    #[test]
    fn an_answer_in_chunks() {
        case(&format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n"), Ok(Some((200, "hello", true))));
        let odd = "2;name=\"a b\"\r\nhe\r\n 03 \r\nllo\r\n0\r\nExpires: never\r\nX: y\r\n\r\n";
        case(&format!("{CHUNKED}{odd}"), Ok(Some((200, "hello", true))));
        let both = "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\nContent-Length: 99\r\n\r\n";
        case(&format!("{both}a\r\n0123456789\r\n0\r\n\r\n"), Ok(Some((200, "0123456789", true))));
        case(&format!("{CHUNKED}5\r\nhello\r\n"), Ok(None));
    }

    #[test]
    fn hostile_answers_end_in_bounds() {
        let chunked = |rest: &str| format!("{CHUNKED}{rest}");
        case(&chunked("65\r\n"), Err(ReplyError::TooLong("body")));
        case(&chunked("ffffffffffffffff\r\n"), Err(ReplyError::TooLong("body")));
        let fill = format!("50\r\n{}\r\n", "a".repeat(0x50));
        case(&chunked(&format!("{fill}{fill}")), Err(ReplyError::TooLong("body")));
        for wrong in
            ["\r\n", "-1\r\n", "+5\r\nhello", "g\r\n", "5\r\nhello!\r\n", "10000000000000000\r\n"]
        {
            case(&chunked(wrong), Err(ReplyError::Chunk));
        }
        case(&chunked(&"1".repeat(LINE_LEN_MAX + 1)), Err(ReplyError::Chunk));
        let trailers = format!("0\r\n{}", "x: y\r\n".repeat(HEAD_LEN_MAX));
        case(&chunked(&trailers), Err(ReplyError::TooLong("trailer")));
        case(&"x".repeat(HEAD_LEN_MAX + 8), Err(ReplyError::TooLong("head")));
        let length = |value: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\n");
        case(&length("101"), Err(ReplyError::TooLong("body")));
        case(&length("-1"), Err(ReplyError::Length));
        case("SSH-2.0\r\n\r\n", Err(ReplyError::NotHttp));
        case("HTTP/1.1 x\r\n\r\n", Err(ReplyError::NotHttp));
        for coding in ["Transfer-Encoding: gzip, chunked", "Content-Encoding: gzip"] {
            case(&format!("HTTP/1.1 200 OK\r\n{coding}\r\n\r\n"), Err(ReplyError::Encoding));
        }
    }
}
