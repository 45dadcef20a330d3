//! The JSON-RPC envelope, borrowed from the line.
//!
//! There are two readers: `scan_submit` reads what miners send all day without a general parser,
//! and knows its limits; `RpcRequest::parse` reads everything else.

use std::borrow::Cow;

use arrayvec::ArrayVec;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Any line that is not a plain submit.
#[derive(Debug)]
pub(super) struct RpcRequest<'a> {
    /// As JSON, to be echoed verbatim.
    pub(super) id: &'a [u8],
    /// None for answers to our own messages.
    pub(super) method: Option<Cow<'a, str>>,
    pub(super) params: Option<&'a RawValue>,
}

impl<'a> RpcRequest<'a> {
    /// None when the line is not a JSON object.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow, default)]
            id: Option<&'a RawValue>,
            #[serde(borrow, default)]
            method: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            params: Option<&'a RawValue>,
        }
        let first = line.iter().find(|byte| !byte.is_ascii_whitespace())?;
        // Serde would accept an array as a struct.
        (*first == b'{').then_some(())?;
        let wire: Wire<'_> = serde_json::from_slice(line).ok()?;
        let id = wire.id.map_or(b"null".as_slice(), |id| id.get().as_bytes());
        Some(Self { id, method: wire.method, params: wire.params })
    }

    /// True when no answer is wanted.
    pub(super) fn is_notice(&self) -> bool {
        self.id == b"null"
    }

    /// The parameters as `T`; none when they are missing or something else.
    pub(super) fn params<T: Deserialize<'a>>(&self) -> Option<T> {
        serde_json::from_str(self.params?.get()).ok()
    }
}

/// Without what firmware puts around a line: white space, and the zero byte that ends its strings.
pub(super) fn trimmed(mut line: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    while let [first, rest @ ..] = line
        && is_blank(first)
    {
        line = rest;
    }
    while let [rest @ .., last] = line
        && is_blank(last)
    {
        line = rest;
    }
    line
}

/// As UTF-8; anything else is read as Latin-1, in which some firmware stores names.
pub(super) fn printable(line: &[u8]) -> Cow<'_, [u8]> {
    if std::str::from_utf8(line).is_ok() {
        return Cow::Borrowed(line);
    }
    let mut text = String::with_capacity(line.len() + 16);
    for chunk in line.utf8_chunks() {
        text.push_str(chunk.valid());
        let odd = chunk.invalid().iter().map(|byte| char::from(*byte));
        text.extend(odd.map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }));
    }
    Cow::Owned(text.into_bytes())
}

/// The fields of a submit: username, job, extranonce2, ntime, nonce, version bits.
pub(super) type SubmitFields<'a> = ArrayVec<&'a str, FIELDS_MAX>;

/// A submit in its usual form.
#[derive(Debug, PartialEq)]
pub(super) struct PlainSubmit<'a> {
    pub(super) id: &'a [u8],
    pub(super) fields: SubmitFields<'a>,
}

/// Reads a submit whose strings hold no escapes and whose id is a plain number, string or null.
///
/// None only means that this reader cannot tell; `RpcRequest::parse` has the last word.
pub(super) fn scan_submit(line: &[u8]) -> Option<PlainSubmit<'_>> {
    let mut cursor = Cursor { rest: line };
    let mut id: Option<&[u8]> = None;
    let mut submit = false;
    let mut fields = None;
    cursor.expect(b'{')?;
    loop {
        let key = cursor.string()?;
        cursor.expect(b':')?;
        match key {
            b"id" if id.is_none() => id = Some(cursor.scalar()?),
            b"method" if !submit => {
                (cursor.string()? == b"mining.submit").then_some(())?;
                submit = true;
            }
            b"params" if fields.is_none() => fields = Some(cursor.strings()?),
            _ => return None,
        }
        match cursor.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    cursor.rest.trim_ascii().is_empty().then_some(())?;
    submit.then_some(())?;
    Some(PlainSubmit { id: id.unwrap_or(b"null"), fields: fields? })
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The next byte that is not white space.
    fn next(&mut self) -> Option<u8> {
        loop {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
        }
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        self.string_tail()
    }

    /// The rest of a string after its opening quote.
    fn string_tail(&mut self) -> Option<&'a [u8]> {
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1F);
        let end = self.rest.iter().position(special)?;
        (self.rest[end] == b'"').then_some(())?;
        let string = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(string)
    }

    /// A whole number, a plain ASCII string or null, as JSON.
    fn scalar(&mut self) -> Option<&'a [u8]> {
        let trimmed = self.rest.trim_ascii_start();
        if trimmed.first() == Some(&b'"') {
            self.rest = &trimmed[1..];
            let len = self.string_tail()?.len() + 2;
            return trimmed[..len].is_ascii().then_some(&trimmed[..len]);
        }
        let end = trimmed.iter().position(|byte| !byte.is_ascii_alphanumeric())?;
        let (scalar, rest) = trimmed.split_at(end);
        self.rest = rest;
        let number = match scalar {
            [b'0'] => true,
            [b'1'..=b'9', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        (number || scalar == b"null").then_some(scalar)
    }

    /// An array of at most `FIELDS_MAX` strings.
    fn strings(&mut self) -> Option<SubmitFields<'a>> {
        self.expect(b'[')?;
        let mut strings = SubmitFields::new();
        loop {
            strings.try_push(std::str::from_utf8(self.string()?).ok()?).ok()?;
            match self.next()? {
                b',' => {}
                b']' => return Some(strings),
                _ => return None,
            }
        }
    }
}

/// Six are defined; some proxies add more.
const FIELDS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIELDS: [&str; 6] = ["u.w", "1f", "0000000000000001", "5f5e1000", "deadbeef", "1fffe000"];

    #[track_caller]
    fn plain(line: &str, id: &str) {
        let submit = scan_submit(line.as_bytes()).unwrap();
        assert_eq!(submit.id, id.as_bytes());
        assert_eq!(&submit.fields[..], FIELDS);
    }

    #[test]
    fn submits_are_scanned_in_any_order_and_spacing() {
        let fields = format!("{FIELDS:?}");
        plain(&format!(r#"{{"id":4,"method":"mining.submit","params":{fields}}}"#), "4");
        plain(
            &format!(r#" {{ "params" : {fields}, "id": null, "method":"mining.submit"}} "#),
            "null",
        );
        plain(
            &format!("{{\"method\":\"mining.submit\",\"params\":{fields},\"id\":\"x y\"}}\r"),
            "\"x y\"",
        );
        plain(&format!(r#"{{"method":"mining.submit","params":{fields}}}"#), "null");
    }

    #[test]
    fn the_unusual_is_left_to_the_parser() {
        for line in [
            r#"{"id":4,"method":"mining.submit","params":["a\"b","1"]}"#,
            r#"{"id":4,"method":"mining.submit","params":["a",1]}"#,
            r#"{"id":4,"method":"mining.submit","params":[]}"#,
            r#"{"id":4,"method":"mining.subscribe","params":["a"]}"#,
            r#"{"id":4,"jsonrpc":"2.0","method":"mining.submit","params":["a"]}"#,
            r#"{"id":04,"method":"mining.submit","params":["a"]}"#,
            r#"{"id":[1],"method":"mining.submit","params":["a"]}"#,
            r#"{"id":4,"method":"mining.submit","params":["1","2","3","4","5","6","7","8","9"]}"#,
            r#"{"id":4,"method":"mining.submit","params":["a"]"#,
            r#"{"id":4,"method":"mining.submit","params":["a"]}}"#,
        ] {
            assert_eq!(scan_submit(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn only_objects_are_requests() {
        for line in ["[1,\"mining.ping\",[]]", "1", "", "{", "GET / HTTP/1.1", "{\"id\":1}x"] {
            assert!(RpcRequest::parse(line.as_bytes()).is_none(), "{line}");
        }
        assert!(RpcRequest::parse(br#"{"id":{"a":1},"x":[],"method":"m"}"#).is_some());
    }

    proptest! {
        /// The fast reader never accepts what the parser would read differently.
        #[test]
        fn scanning_agrees_with_serde(
            line in r#"[{ ]{0,2}"id": ?("?[0-9a-z\\]{0,3}"?|null),"method":"mining.submit", ?"params":\["[a-z\\é]{0,3}",? ?"[a-f]?"\][ }]{0,2}"#
        ) {
            if let Some(submit) = scan_submit(line.as_bytes()) {
                let request = RpcRequest::parse(line.as_bytes()).unwrap();
                prop_assert_eq!(submit.id, request.id);
                prop_assert_eq!(request.method.as_deref(), Some("mining.submit"));
                let fields: Vec<String> = request.params().unwrap();
                prop_assert_eq!(&submit.fields[..], &fields[..]);
            }
        }

        #[test]
        fn nothing_panics(line: Vec<u8>) {
            let _ = scan_submit(&line);
            let _ = RpcRequest::parse(&line);
        }
    }
}
