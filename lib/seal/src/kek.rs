//! Key-encryption keys and the file that holds them.
//!
//! The file is text, one line for each version of the key, and only its owner may read it:
//!
//! ```text
//! thalweg-kek 1
//! 1 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! ```
//!
//! The newest version wraps new subject keys; older ones only unwrap what they once wrapped, so a key is
//! rotated by adding a line. No key is ever printed: `Debug` shows versions alone.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

use crate::SealError;
use crate::file;
use crate::secret::Secret;

const FIRST_LINE: &str = "thalweg-kek 1";
/// A key file is a line of 75 bytes per rotation; more than this is something else.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The version of a key-encryption key; each rotation adds 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KekVersion(pub u32);

/// The key-encryption keys of a deployment, in the order of their versions; never empty.
pub struct Keyring {
    keys: Vec<(KekVersion, Secret)>,
}

impl Keyring {
    /// Makes a ring of one random key, which no file holds.
    ///
    /// # Errors
    /// [`SealError::Random`] if the operating system gives no randomness.
    pub fn generate() -> Result<Keyring, SealError> {
        Ok(Keyring {
            keys: vec![(KekVersion(1), Secret::random()?)],
        })
    }

    /// Makes a ring of one given key, as tests and the simulator need it.
    pub fn of(key: [u8; 32]) -> Keyring {
        Keyring {
            keys: vec![(KekVersion(1), Secret::of(key))],
        }
    }

    pub(crate) fn newest(&self) -> (KekVersion, &Secret) {
        let (version, key) = self.keys.last().expect("a key ring is never empty");
        (*version, key)
    }

    pub(crate) fn get(&self, version: KekVersion) -> Option<&Secret> {
        self.keys
            .iter()
            .find(|(number, _)| *number == version)
            .map(|(_, key)| key)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.keys.iter().map(|(version, _)| (version.0, "***")))
            .finish()
    }
}

/// The file that holds the key-encryption keys.
pub struct KeyFile;

impl KeyFile {
    /// Makes a file with one random key, readable by its owner alone, and returns the key.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] if there is a file already: a key that is overwritten is lost, and all that
    /// it wrapped with it.
    pub fn create(path: &Path) -> Result<Keyring, SealError> {
        let ring = Keyring::generate()?;
        let mut text = Zeroizing::new(String::with_capacity(128));
        text.push_str(FIRST_LINE);
        let (version, key) = ring.newest();
        write_line(&mut text, version, key);
        let io = |source| KeyFileError::Write {
            path: path.into(),
            source,
        };
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let mut file = match opened {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(KeyFileError::Exists { path: path.into() }.into());
            }
            opened => opened.map_err(io)?,
        };
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(io)?;
        file::sync_name(path).map_err(io)?;
        Ok(ring)
    }

    /// Reads a file's keys.
    ///
    /// # Errors
    /// [`KeyFileError`] if others than the owner may read it, or if it is no key file.
    pub fn read(path: &Path) -> Result<Keyring, SealError> {
        let io = |source| KeyFileError::Read {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed {
                path: path.into(),
                mode,
            }
            .into());
        }
        let mut text = Zeroizing::new(String::with_capacity(4096));
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(io)?;
        let keys = parse(&text).map_err(|line| KeyFileError::Malformed {
            path: path.into(),
            line,
        })?;
        Ok(Keyring { keys })
    }
}

/// Why a key file cannot be made or used; shows no content.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is there already.
    #[error("key file `{path}` exists already and is not overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("could not write key file `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be read.
    #[error("could not read key file `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than its owner may read it.
    #[error("key file `{path}` has mode {mode:03o}, so others may read it; run `chmod 600 {path}`")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A line is not what it should be.
    #[error(
        "key file `{path}` is malformed in line {line}; it should have `thalweg-kek 1`, then lines of a \
             version and 64 hexadecimal digits, the versions rising"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Number of the line.
        line: usize,
    },
}

fn write_line(text: &mut String, version: KekVersion, key: &Secret) {
    use fmt::Write;
    let _ = write!(text, "\n{} ", version.0);
    for byte in key.bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
}

/// Returns the keys, or the number of the first bad line.
fn parse(text: &str) -> Result<Vec<(KekVersion, Secret)>, usize> {
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    match lines.next() {
        Some((_, FIRST_LINE)) => {}
        other => return Err(other.map_or(1, |(at, _)| at + 1)),
    }
    let mut keys: Vec<(KekVersion, Secret)> = Vec::new();
    for (at, line) in lines {
        let (version, digits) = line.split_once(' ').ok_or(at + 1)?;
        let version = version.parse().map(KekVersion).map_err(|_| at + 1)?;
        if keys.last().is_some_and(|(last, _)| version <= *last) {
            return Err(at + 1);
        }
        keys.push((version, key_of_hex(digits.trim_end()).ok_or(at + 1)?));
    }
    if keys.is_empty() { Err(2) } else { Ok(keys) }
}

fn key_of_hex(digits: &str) -> Option<Secret> {
    let digits = digits.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = (pair[0] as char).to_digit(16)?;
        let low = (pair[1] as char).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    let secret = Secret::of(bytes);
    bytes.zeroize();
    Some(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_gives_back_the_key_that_it_was_made_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let made = KeyFile::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let read = KeyFile::read(&path).unwrap();
        assert_eq!(made.newest().1.bytes(), read.newest().1.bytes());
        let again = KeyFile::create(&path).unwrap_err();
        assert!(again.to_string().contains("exists already"), "{again}");
        assert_eq!(format!("{made:?}"), r#"{1: "***"}"#);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        KeyFile::create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = KeyFile::read(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    fn check(text: &str, expected: Result<Vec<u32>, usize>) {
        let versions = parse(text).map(|keys| keys.iter().map(|(version, _)| version.0).collect());
        assert_eq!(versions, expected, "{text}");
    }

    #[test]
    fn malformed_files_name_the_line() {
        let (one, two) = ("11".repeat(32), "2a".repeat(32));
        check(&format!("thalweg-kek 1\n1 {one}\n"), Ok(vec![1]));
        check(
            &format!("thalweg-kek 1\n1 {one}\n7 {two}\n\n"),
            Ok(vec![1, 7]),
        );
        check("", Err(1));
        check("thalweg-kek 2\n", Err(1));
        check("thalweg-kek 1\n", Err(2));
        check(&format!("thalweg-kek 1\n2 {one}\n2 {two}\n"), Err(3));
        check(&format!("thalweg-kek 1\n1 {one}0\n"), Err(2));
        check(&format!("thalweg-kek 1\nx {one}\n"), Err(2));
        check("thalweg-kek 1\n1 zz\n", Err(2));
    }
}
