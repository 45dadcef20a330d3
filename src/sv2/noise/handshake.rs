//! The two messages of the handshake, from either side.

use std::{fmt, sync::Arc};

use bitcoin::secp256k1::{
    PublicKey, XOnlyPublicKey,
    ellswift::{ElligatorSwift, ElligatorSwiftParty},
};
use snow::{
    Builder, HandshakeState,
    params::{
        BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifierList,
        HandshakePattern, HashChoice, NoiseParams,
    },
};
use zeroize::Zeroizing;

use super::{
    ACT1_LEN, ACT2_LEN, AuthorityPublicKey, CERTIFICATE_LEN, ELLSWIFT_LEN, Identity, NoiseError,
    Opener, Sealer, TAG_LEN, Transport, identity::check_certificate, resolver::Resolver,
};

/// The server's side. It answers one client, and keeps no state until that client has sent its key.
#[derive(Clone, Debug)]
pub struct Responder {
    identity: Arc<Identity>,
}

impl Responder {
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity }
    }

    /// Appends act 2 to `out`, whatever the client sent: any 64 bytes are a key.
    pub fn on_act1(
        self,
        act1: &[u8; ACT1_LEN],
        out: &mut Vec<u8>,
    ) -> Result<Transport, NoiseError> {
        let mut handshake = builder(ElligatorSwiftParty::B)
            .local_private_key(self.identity.key.as_bytes())
            .and_then(Builder::build_responder)
            .map_err(NoiseError::Handshake)?;
        handshake.read_message(act1, &mut []).map_err(NoiseError::Handshake)?;
        let mut act2 = [0; ACT2_LEN];
        handshake
            .write_message(&self.identity.certificate, &mut act2)
            .map_err(NoiseError::Handshake)?;
        out.extend_from_slice(&act2);
        let (from_initiator, from_responder) = split(&mut handshake);
        Ok(Transport { reader: Opener::new(&from_initiator), writer: Sealer::new(&from_responder) })
    }
}

/// The client's side, between its two messages.
pub struct Initiator {
    handshake: HandshakeState,
    authority: Option<AuthorityPublicKey>,
}

impl Initiator {
    /// Appends act 1 to `out`. Without the key of an `authority` the channel is encrypted, but the
    /// other end is not authenticated.
    pub fn start(
        authority: Option<AuthorityPublicKey>,
        out: &mut Vec<u8>,
    ) -> Result<Self, NoiseError> {
        let mut handshake =
            builder(ElligatorSwiftParty::A).build_initiator().map_err(NoiseError::Handshake)?;
        // Snow requires room for an authentication code even where none is written.
        let mut act1 = [0; ACT1_LEN + TAG_LEN];
        let len = handshake.write_message(&[], &mut act1).map_err(NoiseError::Handshake)?;
        out.extend_from_slice(&act1[..len]);
        Ok(Self { handshake, authority })
    }

    /// Reads the server's answer and checks its certificate; `now_unix` in seconds since 1970.
    pub fn on_act2(
        mut self,
        act2: &[u8; ACT2_LEN],
        now_unix: u32,
    ) -> Result<Transport, NoiseError> {
        let mut certificate = [0; CERTIFICATE_LEN];
        self.handshake.read_message(act2, &mut certificate).map_err(NoiseError::Handshake)?;
        let key = self.server_key().ok_or(NoiseError::Handshake(snow::Error::Dh))?;
        check_certificate(&certificate, &key, self.authority.as_ref(), now_unix)?;
        let (from_initiator, from_responder) = split(&mut self.handshake);
        Ok(Transport { reader: Opener::new(&from_responder), writer: Sealer::new(&from_initiator) })
    }

    fn server_key(&self) -> Option<XOnlyPublicKey> {
        let encoded: [u8; ELLSWIFT_LEN] = self.handshake.get_remote_static()?.try_into().ok()?;
        let key = PublicKey::from_ellswift(ElligatorSwift::from_array(encoded));
        Some(key.x_only_public_key().0)
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator").field("authority", &self.authority).finish_non_exhaustive()
    }
}

fn builder(party: ElligatorSwiftParty) -> Builder<'static> {
    let handshake = HandshakeChoice {
        pattern: HandshakePattern::NX,
        modifiers: HandshakeModifierList { list: Vec::new() },
    };
    // Snow has no name for the curve, and only passes the choice on to the resolver. P256 stands in
    // because it needs snow's feature p256: without that feature snow has room for keys of 56
    // bytes, and a peer that sent one of 64 would make it panic.
    let params = NoiseParams::new(
        PROTOCOL.to_owned(),
        BaseChoice::Noise,
        handshake,
        DHChoice::P256,
        CipherChoice::ChaChaPoly,
        HashChoice::SHA256,
    );
    Builder::with_resolver(params, Box::new(Resolver(party)))
}

/// The keys for what the initiator sends, and for what the responder sends. Taken from snow, since
/// its transport can neither be split nor open in place.
fn split(handshake: &mut HandshakeState) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let (from_initiator, from_responder) = handshake.dangerously_get_raw_split();
    (Zeroizing::new(from_initiator), Zeroizing::new(from_responder))
}

const PROTOCOL: &str = "Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256";

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
