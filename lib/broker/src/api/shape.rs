//! The shapes of requests, walked before they are decoded.
//!
//! The decoder of the wire types makes room for as many elements as a length field claims. So every length is compared
//! with the bytes that are really there first, and the elements are counted: whatever passes is safe to decode, and
//! decoded it is not much larger than it was.

use bytes::Buf;

use crate::config::REQUEST_ELEMENTS_MAX;

/// Why a request cannot be decoded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Misshapen {
    /// A length points beyond the end.
    #[error("it ends too early")]
    Short,
    /// More elements than anybody needs.
    #[error("it has more than {REQUEST_ELEMENTS_MAX} elements")]
    Crowded,
    /// A tagged field that only brokers send to each other.
    #[error("it has tagged field {0}, which only other brokers send")]
    Tag(u32),
}

enum Kind {
    Fixed(usize),
    Text,
    Blob,
    Structs(&'static [Field]),
    Numbers,
    Texts,
}

struct Field {
    kind: Kind,
    since: i16,
    until: i16,
}

impl Field {
    const fn since(self, since: i16) -> Self {
        Self { since, ..self }
    }

    const fn until(self, until: i16) -> Self {
        Self { until, ..self }
    }
}

const fn field(kind: Kind) -> Field {
    Field {
        kind,
        since: 0,
        until: i16::MAX,
    }
}

const fn fixed(bytes: usize) -> Field {
    field(Kind::Fixed(bytes))
}

const fn structs(fields: &'static [Field]) -> Field {
    field(Kind::Structs(fields))
}

const TEXT: Field = field(Kind::Text);
const BLOB: Field = field(Kind::Blob);
const NUMBERS: Field = field(Kind::Numbers);
const TEXTS: Field = field(Kind::Texts);

/// The shape of one kind of request in all its versions.
pub struct Shape {
    flexible_since: i16,
    known_tags: u32,
    fields: &'static [Field],
}

const fn shape(flexible_since: i16, fields: &'static [Field]) -> Shape {
    Shape {
        flexible_since,
        known_tags: 0,
        fields,
    }
}

pub const PRODUCE: Shape = shape(
    9,
    &[
        TEXT,
        fixed(2),
        fixed(4),
        structs(&[TEXT.until(12), structs(&[fixed(4), BLOB])]),
    ],
);
pub const FETCH: Shape = Shape {
    flexible_since: 12,
    known_tags: 2,
    fields: &[
        fixed(4).until(14),
        fixed(13),
        fixed(8).since(7),
        structs(&[
            TEXT.until(12),
            fixed(16).since(13),
            structs(&[
                fixed(4),
                fixed(4).since(9),
                fixed(8),
                fixed(4).since(12),
                fixed(8).since(5),
                fixed(4),
            ]),
        ]),
        structs(&[TEXT.until(12), fixed(16).since(13), NUMBERS]).since(7),
        TEXT.since(11),
    ],
};
pub const LIST_OFFSETS: Shape = shape(
    6,
    &[
        fixed(4),
        fixed(1).since(2),
        structs(&[TEXT, structs(&[fixed(4), fixed(4).since(4), fixed(8)])]),
    ],
);
pub const METADATA: Shape = shape(
    9,
    &[
        structs(&[fixed(16).since(10), TEXT]),
        fixed(1).since(4),
        fixed(1).since(8).until(10),
        fixed(1).since(8),
    ],
);
pub const OFFSET_COMMIT: Shape = shape(
    8,
    &[
        TEXT,
        fixed(4),
        TEXT,
        TEXT.since(7),
        fixed(8).until(4),
        structs(&[
            TEXT,
            structs(&[fixed(4), fixed(8), fixed(4).since(6), TEXT]),
        ]),
    ],
);
pub const OFFSET_FETCH: Shape = shape(
    6,
    &[
        TEXT.until(7),
        structs(&[TEXT, NUMBERS]).until(7),
        structs(&[
            TEXT,
            TEXT.since(9),
            fixed(4).since(9),
            structs(&[TEXT, NUMBERS]),
        ])
        .since(8),
        fixed(1).since(7),
    ],
);
pub const FIND_COORDINATOR: Shape = shape(3, &[TEXT.until(3), fixed(1).since(1), TEXTS.since(4)]);
pub const JOIN_GROUP: Shape = shape(
    6,
    &[
        TEXT,
        fixed(4),
        fixed(4).since(1),
        TEXT,
        TEXT.since(5),
        TEXT,
        structs(&[TEXT, BLOB]),
        TEXT.since(8),
    ],
);
pub const HEARTBEAT: Shape = shape(4, &[TEXT, fixed(4), TEXT, TEXT.since(3)]);
pub const LEAVE_GROUP: Shape = shape(
    4,
    &[
        TEXT,
        TEXT.until(2),
        structs(&[TEXT, TEXT, TEXT.since(5)]).since(3),
    ],
);
pub const SYNC_GROUP: Shape = shape(
    4,
    &[
        TEXT,
        fixed(4),
        TEXT,
        TEXT.since(3),
        TEXT.since(5),
        TEXT.since(5),
        structs(&[TEXT, BLOB]),
    ],
);
pub const DESCRIBE_GROUPS: Shape = shape(5, &[TEXTS, fixed(1).since(3)]);
pub const LIST_GROUPS: Shape = shape(3, &[TEXTS.since(4), TEXTS.since(5)]);
pub const DELETE_GROUPS: Shape = shape(2, &[TEXTS]);
pub const OFFSET_DELETE: Shape = shape(i16::MAX, &[TEXT, structs(&[TEXT, NUMBERS])]);
pub const API_VERSIONS: Shape = shape(3, &[TEXT.since(3), TEXT.since(3)]);
pub const CREATE_TOPICS: Shape = shape(
    5,
    &[
        structs(&[
            TEXT,
            fixed(6),
            structs(&[fixed(4), NUMBERS]),
            structs(&[TEXT, TEXT]),
        ]),
        fixed(5),
    ],
);
pub const DELETE_TOPICS: Shape = shape(
    4,
    &[
        structs(&[TEXT, fixed(16)]).since(6),
        TEXTS.until(5),
        fixed(4),
    ],
);
pub const CREATE_PARTITIONS: Shape = shape(
    2,
    &[structs(&[TEXT, fixed(4), structs(&[NUMBERS])]), fixed(5)],
);
pub const DELETE_RECORDS: Shape = shape(2, &[structs(&[TEXT, structs(&[fixed(12)])]), fixed(4)]);
pub const DESCRIBE_CLUSTER: Shape = shape(0, &[fixed(1), fixed(1).since(1), fixed(1).since(2)]);
pub const DESCRIBE_CONFIGS: Shape = shape(
    4,
    &[
        structs(&[fixed(1), TEXT, TEXTS]),
        fixed(1),
        fixed(1).since(3),
    ],
);
pub const ALTER_CONFIGS: Shape = shape(
    2,
    &[structs(&[fixed(1), TEXT, structs(&[TEXT, TEXT])]), fixed(1)],
);
pub const INCREMENTAL_ALTER_CONFIGS: Shape = shape(
    1,
    &[
        structs(&[fixed(1), TEXT, structs(&[TEXT, fixed(1), TEXT])]),
        fixed(1),
    ],
);
pub const INIT_PRODUCER_ID: Shape = shape(2, &[TEXT, fixed(4), fixed(10).since(3)]);
pub const OFFSET_FOR_LEADER_EPOCH: Shape = shape(
    4,
    &[fixed(4).since(3), structs(&[TEXT, structs(&[fixed(12)])])],
);

impl Shape {
    /// Checks that a body in this version has this shape.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, body: &[u8], version: i16) -> Result<(), Misshapen> {
        let flexible = self.flexible_since <= version;
        let mut walk = Walk {
            rest: body,
            version,
            flexible,
            known_tags: self.known_tags,
            elements: 0,
        };
        walk.fields(self.fields)
    }
}

/// Checks the header of a request.
///
/// # Errors
/// What is wrong with it.
pub fn check_header(frame: &[u8], tagged: bool) -> Result<(), Misshapen> {
    // The client id is of the old kind even where everything else is flexible.
    let mut walk = Walk {
        rest: frame,
        version: 0,
        flexible: false,
        known_tags: 0,
        elements: 0,
    };
    walk.fields(&[fixed(8), TEXT])?;
    if tagged { walk.tags() } else { Ok(()) }
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    known_tags: u32,
    elements: usize,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), Misshapen> {
        for field in fields {
            if (field.since..=field.until).contains(&self.version) {
                self.field(&field.kind)?;
            }
        }
        if self.flexible { self.tags() } else { Ok(()) }
    }

    fn field(&mut self, kind: &Kind) -> Result<(), Misshapen> {
        match kind {
            Kind::Fixed(bytes) => self.skip(*bytes),
            Kind::Text => {
                let bytes = self.length(2)?;
                self.skip(bytes)
            }
            Kind::Blob => {
                let bytes = self.length(4)?;
                self.skip(bytes)
            }
            Kind::Structs(fields) => self.array(|walk| walk.fields(fields)),
            Kind::Numbers => self.array(|walk| walk.skip(4)),
            Kind::Texts => self.array(|walk| walk.field(&Kind::Text)),
        }
    }

    fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Misshapen>,
    ) -> Result<(), Misshapen> {
        let count = self.length(4)?;
        self.count(count)?;
        for _ in 0..count {
            element(self)?;
        }
        Ok(())
    }

    fn count(&mut self, count: usize) -> Result<(), Misshapen> {
        self.elements = self.elements.saturating_add(count);
        if REQUEST_ELEMENTS_MAX < self.elements {
            Err(Misshapen::Crowded)
        } else {
            Ok(())
        }
    }

    fn tags(&mut self) -> Result<(), Misshapen> {
        let count = self.varint()?;
        self.count(count as usize)?;
        for _ in 0..count {
            let (tag, bytes) = (self.varint()?, self.varint()?);
            if tag < self.known_tags {
                return Err(Misshapen::Tag(tag));
            }
            self.skip(bytes as usize)?;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Misshapen> {
        self.rest = self.rest.get(bytes..).ok_or(Misshapen::Short)?;
        Ok(())
    }

    /// Reads a length: one more than it is, as a varint, or as it is in `bytes` bytes. Null counts as empty.
    fn length(&mut self, bytes: usize) -> Result<usize, Misshapen> {
        if self.flexible {
            return Ok(self.varint()?.saturating_sub(1) as usize);
        }
        let length = self.rest.try_get_int(bytes).map_err(|_| Misshapen::Short)?;
        Ok(usize::try_from(length).unwrap_or(0))
    }

    fn varint(&mut self) -> Result<u32, Misshapen> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.rest.try_get_u8().map_err(|_| Misshapen::Short)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_requests_pass_and_every_cut_of_them_is_short() {
        let body =
            b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x07\0\0\0\0\0\0\0\x05\0\0\0\x08\0\0\0\0\0\0\0\x05";
        let whole = [&b"\xff\xff\xff\xff"[..], body].concat();
        assert_eq!(LIST_OFFSETS.check(&whole, 1), Ok(()));
        for cut in 0..whole.len() {
            assert_eq!(
                LIST_OFFSETS.check(&whole[..cut], 1),
                Err(Misshapen::Short),
                "{cut}"
            );
        }
    }

    #[test]
    fn lengths_beyond_the_end_and_crowds_are_refused() {
        assert_eq!(
            METADATA.check(b"\x7f\xff\xff\xff", 1),
            Err(Misshapen::Crowded)
        );
        assert_eq!(
            METADATA.check(b"\0\0\0\x09\0\x01a", 1),
            Err(Misshapen::Short)
        );
        assert_eq!(
            METADATA.check(b"\xff\xff\xff\xff\x0f", 12),
            Err(Misshapen::Crowded)
        );
        assert_eq!(METADATA.check(b"\0\x01\x01\0", 13), Ok(()));
    }

    #[test]
    fn tags_between_brokers_are_refused_and_unknown_ones_skipped() {
        let fetch = |tags: &[u8]| [&[0; 21][..], b"\x01\x01\x01", tags].concat();
        assert_eq!(FETCH.check(&fetch(b"\0"), 16), Ok(()));
        assert_eq!(FETCH.check(&fetch(b"\x01\x09\x02ab"), 16), Ok(()));
        assert_eq!(
            FETCH.check(&fetch(b"\x01\x01\x00"), 16),
            Err(Misshapen::Tag(1))
        );
    }
}
