//! Little-endian bytes of what is no tensor: metrics and drift in a checkpoint.

/// Most examples that a snapshot may have counted: a million a second for nine years.
const EXAMPLES_MAX: u64 = 1 << 48;

/// Bytes that are not the snapshot that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes are not a snapshot of {what} in a version that this build reads")]
pub struct Malformed {
    what: &'static str,
}

/// Puts numbers behind each other.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// Starts with four letters and a version that [`Reader::new`] checks.
    pub fn new(magic: &[u8; 4], version: u32) -> Writer {
        let mut writer = Writer(magic.to_vec());
        writer.u32(version);
        writer
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes how many examples there were: never more than reads back.
    pub fn examples(&mut self, count: u64) {
        self.u64(count.min(EXAMPLES_MAX));
    }

    pub fn i64(&mut self, value: i64) {
        self.u64(value as u64);
    }

    pub fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    pub fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes numbers off, and refuses what is too short.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub fn new(
        bytes: &'a [u8],
        magic: &[u8; 4],
        version: u32,
        what: &'static str,
    ) -> Result<Reader<'a>, Malformed> {
        let mut reader = Reader { rest: bytes, what };
        let known = reader.array::<4>()? == *magic && reader.u32()? == version;
        if known {
            Ok(reader)
        } else {
            Err(Malformed { what })
        }
    }

    pub fn malformed(&self) -> Malformed {
        Malformed { what: self.what }
    }

    /// Refuses what is not so.
    pub fn expect(&self, holds: bool) -> Result<(), Malformed> {
        if holds { Ok(()) } else { Err(self.malformed()) }
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    pub fn f64(&mut self) -> Result<f64, Malformed> {
        self.u64().map(f64::from_bits)
    }

    /// Reads how many examples there were, so few that sums of such counts have room.
    pub fn examples(&mut self) -> Result<u64, Malformed> {
        let count = self.u64()?;
        self.expect(count <= EXAMPLES_MAX)?;
        Ok(count)
    }

    /// Reads a count of things of which each takes at least some bytes, so that a lie allocates nothing.
    pub fn count(&mut self, bytes_each: usize) -> Result<usize, Malformed> {
        let count = self.u64()?;
        let most = (self.rest.len() / bytes_each.max(1)) as u64;
        self.expect(count <= most)?;
        Ok(count as usize)
    }

    /// Reads a text of some bytes.
    pub fn text(&mut self) -> Result<String, Malformed> {
        let length = self.u32()? as usize;
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| self.malformed())?;
        self.rest = rest;
        let text = std::str::from_utf8(head).map_err(|_| self.malformed())?;
        Ok(text.to_owned())
    }

    pub fn finish(self) -> Result<(), Malformed> {
        self.expect(self.rest.is_empty())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_examples_are_written_they_read_back() {
        for (count, read) in [(7, 7), (EXAMPLES_MAX + 1, EXAMPLES_MAX)] {
            let mut writer = Writer::new(b"TEST", 1);
            writer.examples(count);
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes, b"TEST", 1, "test").unwrap();
            assert_eq!(reader.examples(), Ok(read));
        }
    }
}
