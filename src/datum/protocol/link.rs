//! One end of a connection: masks, seals, signs and encrypts what is sent; opens what is received.

use bytes::BytesMut;

use super::{
    cipher::{CipherError, Identity, MAC_LEN, PublicIdentity, SIGNATURE_LEN, SecureChannel},
    frame::{BODY_MAX, FrameBuffer, FrameError, FrameHeader, HEADER_LEN, HeaderKey, command},
};

/// Framing and encryption of one connection, either end.
pub struct Link {
    inbox: FrameBuffer,
    send: HeaderKey,
    receive: HeaderKey,
    channel: Option<SecureChannel>,
}

/// A frame that has been opened. `plain` still has its signature.
#[derive(Debug)]
pub struct Frame {
    pub header: FrameHeader,
    pub plain: BytesMut,
}

impl Link {
    /// `body_max`: the longest frame that the other side may send.
    pub fn new(send: HeaderKey, receive: HeaderKey, body_max: usize) -> Self {
        Self { inbox: FrameBuffer::new(body_max), send, receive, channel: None }
    }

    /// Sets the masks of both directions, after HELLO.
    pub(crate) fn set_keys(&mut self, send: HeaderKey, receive: HeaderKey) {
        self.send = send;
        self.receive = receive;
    }

    /// Starts using the channel.
    pub(crate) fn set_channel(&mut self, channel: SecureChannel) {
        self.channel = Some(channel);
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.inbox.push(bytes);
    }

    /// The next frame, opened with the channel or with our identity.
    pub fn next(&mut self, ours: &Identity) -> Result<Option<Frame>, LinkError> {
        let Some((header, mut body)) = self.inbox.next(&mut self.receive)? else {
            return Ok(None);
        };
        let plain = match (header.sealed, header.channel) {
            (false, false) => body,
            (true, false) => BytesMut::from(ours.unseal(&body)?.as_slice()),
            (false, true) => {
                let channel = self.channel.as_mut().ok_or(LinkError::NoChannel)?;
                channel.decrypt(&mut body)?;
                body.split_off(MAC_LEN)
            }
            (true, true) => return Err(LinkError::TwiceSealed),
        };
        Ok(Some(Frame { header, plain }))
    }

    /// Writes a message through the channel, signed if there is a signer.
    pub fn write_channel(
        &mut self,
        signer: Option<&Identity>,
        out: &mut Vec<u8>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), LinkError> {
        let start = out.len();
        let result = self.try_write_channel(signer, out, start, encode);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn try_write_channel(
        &mut self,
        signer: Option<&Identity>,
        out: &mut Vec<u8>,
        start: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), LinkError> {
        let channel = self.channel.as_mut().ok_or(LinkError::NoChannel)?;
        out.extend_from_slice(&[0; HEADER_LEN + MAC_LEN]);
        let message_at = out.len();
        encode(out);
        if let Some(signer) = signer {
            let mut message = out.split_off(message_at);
            signer.sign(&mut message);
            out.extend_from_slice(&message);
        }
        let len = out.len() - start - HEADER_LEN;
        if len > BODY_MAX {
            return Err(LinkError::Frame(FrameError { len, max: BODY_MAX }));
        }
        channel.encrypt(out, start + HEADER_LEN)?;
        let header = FrameHeader {
            len: u32::try_from(len).unwrap_or(u32::MAX),
            signed: signer.is_some(),
            channel: true,
            command: command::MINING,
            ..FrameHeader::default()
        };
        let header = self.send.apply(header.encode()).to_le_bytes();
        out[start..start + HEADER_LEN].copy_from_slice(&header);
        Ok(())
    }

    /// Writes a message unencrypted.
    pub fn write_plain(&mut self, command: u8, message: &[u8], out: &mut Vec<u8>) {
        let message = &message[..message.len().min(BODY_MAX)];
        self.write_body(FrameHeader { command, ..FrameHeader::default() }, message, out);
    }

    /// Writes a signed message, sealed to `to`.
    pub fn write_sealed(
        &mut self,
        command: u8,
        mut message: Vec<u8>,
        signer: &Identity,
        to: &PublicIdentity,
        rng: &mut (impl rand::RngCore + rand::CryptoRng),
        out: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        signer.sign(&mut message);
        let body = to.seal(&message, rng)?;
        let header = FrameHeader { signed: true, sealed: true, command, ..FrameHeader::default() };
        self.write_body(header, &body, out);
        Ok(())
    }

    fn write_body(&mut self, header: FrameHeader, body: &[u8], out: &mut Vec<u8>) {
        let header = FrameHeader { len: u32::try_from(body.len()).unwrap_or(0), ..header };
        out.extend_from_slice(&self.send.apply(header.encode()).to_le_bytes());
        out.extend_from_slice(body);
    }
}

impl Frame {
    /// The message without its signature; if it is signed, `signer` must have signed it.
    pub fn verified(&self, signer: &PublicIdentity) -> Result<&[u8], CipherError> {
        if self.header.signed { signer.verify(&self.plain) } else { Ok(&self.plain) }
    }

    /// The message without its signature, unchecked.
    pub fn unchecked(&self) -> &[u8] {
        let signature = if self.header.signed { SIGNATURE_LEN } else { 0 };
        &self.plain[..self.plain.len().saturating_sub(signature)]
    }
}

/// Why a connection can no longer be understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Cipher(#[from] CipherError),
    #[error("an encrypted message before the handshake ended")]
    NoChannel,
    #[error("a message both sealed and encrypted")]
    TwiceSealed,
}
