//! Wrapping: subject keys under the key-encryption key.

use zeroize::Zeroize;

use crate::SealError;
use crate::kek::{KekVersion, Keyring};
use crate::secret::{Derive, Secret, push_part, random};
use crate::store::{KeyVersion, SubjectRef, WrappedKey};
use crate::xchacha;

/// Makes a random key and wraps it under the newest key-encryption key.
pub(crate) fn create(
    ring: &Keyring,
    subject: SubjectRef,
    version: KeyVersion,
) -> Result<WrappedKey, SealError> {
    let key = Secret::random()?;
    let mut nonce = [0; 24];
    random(&mut nonce)?;
    Ok(wrap(ring, subject, version, &key, nonce))
}

pub(crate) fn wrap(
    ring: &Keyring,
    subject: SubjectRef,
    version: KeyVersion,
    key: &Secret,
    nonce: [u8; 24],
) -> WrappedKey {
    let (kek, kek_key) = ring.newest();
    let mut sealed = [0; 48];
    sealed[..32].copy_from_slice(key.bytes());
    let tag = xchacha::seal(
        kek_key,
        &nonce,
        &binding(subject, version, kek),
        &mut sealed[..32],
    );
    sealed[32..].copy_from_slice(&tag);
    let check = check(&Derive::from(key), subject, version);
    WrappedKey {
        version,
        kek,
        nonce,
        sealed,
        check: *check.bytes(),
    }
}

/// Unwraps a key and checks that it is the one that was wrapped.
pub(crate) fn unwrap(
    ring: &Keyring,
    subject: SubjectRef,
    wrapped: &WrappedKey,
) -> Result<Derive, SealError> {
    let kek = ring.get(wrapped.kek).ok_or(SealError::UnknownKek {
        version: wrapped.kek,
    })?;
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&wrapped.sealed[..32]);
    let tag: [u8; 16] = wrapped.sealed[32..].try_into().expect("48 - 32 is 16");
    let binding = binding(subject, wrapped.version, wrapped.kek);
    let opened = xchacha::open(kek, &wrapped.nonce, &binding, &mut bytes, &tag);
    let key = Secret::of(bytes);
    bytes.zeroize();
    let derive = Derive::from(&key);
    let expected = check(&derive, subject, wrapped.version);
    // `blake3::Hash` compares in constant time.
    let same = blake3::Hash::from(*expected.bytes()) == blake3::Hash::from(wrapped.check);
    if opened.is_none() || !same {
        return Err(SealError::Unwrap {
            subject,
            kek: wrapped.kek,
        });
    }
    Ok(derive)
}

fn check(key: &Derive, subject: SubjectRef, version: KeyVersion) -> Secret {
    key.key("check", &[&subject.0, &version.0.to_be_bytes()])
}

fn binding(subject: SubjectRef, version: KeyVersion, kek: KekVersion) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    push_part(&mut bytes, b"thalweg wrap 1");
    push_part(&mut bytes, &subject.0);
    push_part(&mut bytes, &version.0.to_be_bytes());
    push_part(&mut bytes, &kek.0.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: SubjectRef = SubjectRef([3; 16]);

    #[test]
    fn a_wrapped_key_opens_for_its_subject_and_version_alone() {
        let ring = Keyring::of([1; 32]);
        let good = create(&ring, SUBJECT, KeyVersion(1)).unwrap();
        assert!(unwrap(&ring, SUBJECT, &good).is_ok());
        assert!(unwrap(&ring, SubjectRef([4; 16]), &good).is_err());
        assert!(unwrap(&Keyring::of([2; 32]), SUBJECT, &good).is_err());
        for change in [
            (|key: &mut WrappedKey| key.version = KeyVersion(2)) as fn(&mut WrappedKey),
            |key| key.kek = KekVersion(2),
            |key| key.nonce[23] ^= 1,
            |key| key.sealed[0] ^= 1,
            |key| key.sealed[47] ^= 1,
            |key| key.check[31] ^= 1,
        ] {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(unwrap(&ring, SUBJECT, &bad).is_err(), "{bad:?}");
        }
    }
}
