//! Thirty-two secret bytes, wiped when dropped and never printed.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::SealError;

/// A 256-bit key.
#[derive(Clone)]
pub(crate) struct Secret([u8; 32]);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for Secret {}

impl Secret {
    pub(crate) fn of(bytes: [u8; 32]) -> Secret {
        Secret(bytes)
    }

    pub(crate) fn random() -> Result<Secret, SealError> {
        let mut secret = Secret([0; 32]);
        random(&mut secret.0)?;
        Ok(secret)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

pub(crate) fn random(bytes: &mut [u8]) -> Result<(), SealError> {
    getrandom::fill(bytes).map_err(|error| SealError::Random {
        reason: error.to_string(),
    })
}

/// Derives keys from one secret, each for one use: HKDF-SHA256, extracted once.
pub(crate) struct Derive(Hkdf<Sha256>);

impl Derive {
    /// Salt of every extraction: keys of other systems made from the same secret differ from ours.
    const SALT: &[u8] = b"thalweg seal 1";

    pub(crate) fn from(secret: &Secret) -> Derive {
        Derive(Hkdf::new(Some(Derive::SALT), secret.bytes()))
    }

    /// Returns the key for `purpose` and its parameters; each part of the info is length-prefixed.
    pub(crate) fn key(&self, purpose: &str, parts: &[&[u8]]) -> Secret {
        let mut info = Vec::with_capacity(64);
        push_part(&mut info, purpose.as_bytes());
        for part in parts {
            push_part(&mut info, part);
        }
        let mut secret = Secret([0; 32]);
        self.0
            .expand(&info, &mut secret.0)
            .expect("HKDF gives up to 8,160 bytes");
        secret
    }
}

/// Appends a part with its length before it (2 bytes, big-endian), so that parts cannot run together.
pub(crate) fn push_part(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u16::try_from(part.len())
        .expect("names are bounded when a stream is opened, the rest is fixed");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(part);
}
