//! What producers really send: broken, mistyped, impossible, doubled and outsized messages.
//!
//! Everything follows from a seed. A message that the contract must refuse is sent beside the good one, never
//! in its place, so that what must come out clean is known beforehand; the rest changes the event itself.

use schemas::Contract;
use schemas::contract::{Bounds, CleanStep, Field, FieldType, UnknownFields, Violation};

use super::rows::{Edit, Rows};

/// Bytes of a piece of garbage.
const GARBAGE_BYTES: usize = 2 << 20;
/// A duplicate comes at most this many events after its original.
const DUPLICATE_DELAY_MAX: u64 = 500;

/// A kind of dirt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DirtKind {
    /// JSON that ends in the middle.
    Truncated,
    /// A field of another type.
    WrongType,
    /// A value out of bounds that the contract rejects.
    Impossible,
    /// A value out of bounds that the contract repairs.
    Repairable,
    /// The same event again, a little later.
    Duplicate,
    /// A field that the contract does not name.
    UnknownField,
    /// 2 MB of anything.
    Garbage,
}

impl DirtKind {
    /// Every kind.
    pub const ALL: [DirtKind; 7] = [
        DirtKind::Truncated,
        DirtKind::WrongType,
        DirtKind::Impossible,
        DirtKind::Repairable,
        DirtKind::Duplicate,
        DirtKind::UnknownField,
        DirtKind::Garbage,
    ];

    /// Returns the kind's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            DirtKind::Truncated => "truncated",
            DirtKind::WrongType => "wrong_type",
            DirtKind::Impossible => "impossible",
            DirtKind::Repairable => "repairable",
            DirtKind::Duplicate => "duplicate",
            DirtKind::UnknownField => "unknown_field",
            DirtKind::Garbage => "garbage",
        }
    }

    /// Says whether the contract must refuse such a message.
    pub fn is_refused(self, contract: &Contract) -> bool {
        match self {
            DirtKind::Repairable => false,
            DirtKind::UnknownField => contract.stream.unknown_fields == UnknownFields::Reject,
            _ => true,
        }
    }

    /// Returns how often the kind comes, of 1,000 pieces of dirt.
    fn weight(self) -> u64 {
        match self {
            DirtKind::Truncated => 220,
            DirtKind::WrongType => 200,
            DirtKind::Impossible => 160,
            DirtKind::Repairable => 100,
            DirtKind::Duplicate => 217,
            DirtKind::UnknownField => 100,
            DirtKind::Garbage => 3,
        }
    }
}

/// A seeded generator (splitmix64): small, and the same for ever.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Seeded {
        Seeded(seed)
    }

    /// Returns the next 64 bits.
    ///
    /// # Source
    /// Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators".
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below a bound (0 if that is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Says yes with a probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64 <= probability && 0.0 < probability
    }
}

/// What happens to one event.
#[derive(Clone, Debug, PartialEq)]
pub enum Dirt {
    /// A message in `Dirtier::message` goes out before the event.
    Before(DirtKind),
    /// The event itself is changed; it is in `Dirtier::message`.
    Instead(DirtKind),
    /// The event is sent again after this many more events.
    Again(u64),
}

/// Decides what becomes dirty, and how.
pub struct Dirtier {
    random: Seeded,
    fraction: f64,
    plan: Vec<(DirtKind, u64)>,
    weight_total: u64,
    /// Of each field that rejects: its name and a value of another type.
    mistyped: Vec<(String, String)>,
    /// Of each field that rejects: its name and a value out of bounds.
    impossible: Vec<(String, String)>,
    repairable: Vec<(String, String)>,
    unknown_refused: bool,
    duplicate_delay_max: u64,
}

impl Dirtier {
    /// Learns from the contract what it refuses and what it repairs, of the columns that a file has.
    pub fn new(
        contract: &Contract,
        has: impl Fn(&str) -> bool,
        fraction: f64,
        seed: u64,
    ) -> Dirtier {
        let fields = || contract.fields.iter().filter(|field| has(&field.name));
        let rejects = |field: &&Field| field.on_violation == Violation::Reject;
        let mistyped: Vec<_> = fields().filter(rejects).map(mistyped).collect();
        let impossible: Vec<_> = fields().filter(rejects).filter_map(out_of_bounds).collect();
        let repairable: Vec<_> = fields()
            .filter(|field| !rejects(field))
            .filter_map(out_of_bounds)
            .collect();
        let possible = |kind: &DirtKind| match kind {
            DirtKind::WrongType => !mistyped.is_empty(),
            DirtKind::Impossible => !impossible.is_empty(),
            DirtKind::Repairable => !repairable.is_empty(),
            _ => true,
        };
        let plan: Vec<_> = DirtKind::ALL
            .into_iter()
            .filter(possible)
            .map(|kind| (kind, kind.weight()))
            .collect();
        Dirtier {
            random: Seeded::new(seed),
            fraction,
            weight_total: plan.iter().map(|(_, weight)| weight).sum(),
            plan,
            mistyped,
            impossible,
            repairable,
            unknown_refused: DirtKind::UnknownField.is_refused(contract),
            duplicate_delay_max: DUPLICATE_DELAY_MAX
                .min(contract.event.duplicates_window as u64 / 4)
                .max(1),
        }
    }

    /// Decides about one event; a message that this makes replaces what is in `message`.
    pub fn decide(&mut self, rows: &Rows, row: usize, message: &mut Vec<u8>) -> Option<Dirt> {
        if !self.random.chance(self.fraction) {
            return None;
        }
        let kind = self.kind();
        message.clear();
        match kind {
            DirtKind::Duplicate => {
                return Some(Dirt::Again(1 + self.random.below(self.duplicate_delay_max)));
            }
            DirtKind::Truncated => {
                rows.render(row, message);
                let length = 1 + self.random.below(message.len() as u64 - 1);
                message.truncate(length as usize);
            }
            DirtKind::Garbage => {
                while message.len() < GARBAGE_BYTES {
                    message.extend_from_slice(&self.random.bits().to_le_bytes());
                }
            }
            DirtKind::WrongType => replace(&mut self.random, &self.mistyped, rows, row, message),
            DirtKind::Impossible => replace(&mut self.random, &self.impossible, rows, row, message),
            DirtKind::Repairable => {
                replace(&mut self.random, &self.repairable, rows, row, message);
                return Some(Dirt::Instead(kind));
            }
            DirtKind::UnknownField => {
                rows.render_edited(
                    row,
                    Edit::Add("debug_note", r#"{"retry":1,"host":"gate-7"}"#),
                    message,
                );
                if !self.unknown_refused {
                    return Some(Dirt::Instead(kind));
                }
            }
        }
        Some(Dirt::Before(kind))
    }

    fn kind(&mut self) -> DirtKind {
        let mut at = self.random.below(self.weight_total);
        for (kind, weight) in &self.plan {
            if at < *weight {
                return *kind;
            }
            at -= weight;
        }
        DirtKind::Truncated
    }
}

fn replace(
    random: &mut Seeded,
    edits: &[(String, String)],
    rows: &Rows,
    row: usize,
    message: &mut Vec<u8>,
) {
    if let Some((field, json)) = edits.get(random.below(edits.len() as u64) as usize) {
        rows.render_edited(row, Edit::Replace(field, json), message);
    }
}

/// Returns a value that is not of the field's type, whatever a cleaner is ready to convert.
fn mistyped(field: &Field) -> (String, String) {
    let json = match field.kind {
        FieldType::String => r#"{"value":"?"}"#,
        FieldType::Int64 | FieldType::Float64 => r#""a lot""#,
        FieldType::Bool => r#""perhaps""#,
        FieldType::Timestamp => r#""yesterday""#,
    };
    (field.name.clone(), json.to_owned())
}

/// Returns a value out of the field's bounds, if it has any that no cleaning step can move.
fn out_of_bounds(field: &Field) -> Option<(String, String)> {
    if field
        .clean
        .iter()
        .any(|step| matches!(step, CleanStep::Scale { .. }))
    {
        return None;
    }
    let json = match (field.kind, field.bounds) {
        (FieldType::String, _) => {
            let too_long = field
                .bytes_max
                .checked_add(8)
                .filter(|length| *length < GARBAGE_BYTES)?;
            format!("\"{}\"", "X".repeat(too_long))
        }
        (FieldType::Int64, Bounds::Int { max, .. }) => max.checked_add(990_000)?.to_string(),
        (FieldType::Timestamp, Bounds::Int { min, .. }) => {
            let mut json = Vec::new();
            super::render::time(min.checked_sub(86_400_000_000)?, &mut json);
            String::from_utf8(json).ok()?
        }
        (FieldType::Float64, Bounds::Float { min, max }) => {
            match (min.is_finite(), max.is_finite()) {
                (_, true) => format!("{:?}", max * 10.0 + 9999.0).replace("inf", "1e308"),
                (true, false) => format!("{:?}", min - 9999.0),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some((field.name.clone(), json))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use schemas::Contract;

    use schemas::contract::LabelType;

    use super::super::rows::{Body, Layout, Object};
    use super::*;

    const CONTRACT: &str = include_str!("../../streams/flights/stream.toml");
    const EVENT: &str =
        r#"{"id":"a","scheduled_departure":5,"carrier":"UA","flight":7,"humidity":50.0,"n":[1]}"#;

    fn rows() -> Rows {
        let layout = Layout {
            id: "id".into(),
            time: "scheduled_departure".into(),
            label: None,
            label_type: LabelType::Bool,
            label_time: None,
            label_time_required: false,
            send_labels: true,
            number_rows: false,
        };
        let body = Body::Objects(vec![Object::parse(EVENT.as_bytes()).unwrap()]);
        Rows {
            file: "f".into(),
            first_row: 0,
            layout: Arc::new(layout),
            body,
        }
    }

    fn dirtier(fraction: f64, seed: u64) -> Dirtier {
        let contract = Contract::parse("flights", CONTRACT).unwrap();
        let has = |name: &str| EVENT.contains(&format!("\"{name}\""));
        Dirtier::new(&contract, has, fraction, seed)
    }

    #[test]
    fn every_kind_is_what_it_says() {
        let (rows, mut dirtier, mut message) = (rows(), dirtier(1.0, 1), Vec::new());
        let mut seen = std::collections::BTreeMap::new();
        while seen.len() < DirtKind::ALL.len() {
            let dirt = dirtier.decide(&rows, 0, &mut message).unwrap();
            let json = serde_json::from_slice::<serde_json::Value>(&message);
            let kind = match dirt {
                Dirt::Again(delay) => {
                    assert!((1..=DUPLICATE_DELAY_MAX).contains(&delay));
                    DirtKind::Duplicate
                }
                Dirt::Before(kind) => {
                    match kind {
                        DirtKind::Truncated => assert!(json.is_err() && !message.is_empty()),
                        DirtKind::Garbage => assert_eq!(message.len(), GARBAGE_BYTES),
                        DirtKind::WrongType | DirtKind::Impossible => {
                            assert_ne!(json.unwrap()["id"], "b")
                        }
                        _ => panic!("{kind:?} is not refused"),
                    }
                    kind
                }
                Dirt::Instead(kind) => {
                    let json = json.unwrap();
                    match kind {
                        DirtKind::Repairable => assert!(100.0 < json["humidity"].as_f64().unwrap()),
                        DirtKind::UnknownField => assert_eq!(json["debug_note"]["retry"], 1),
                        _ => panic!("{kind:?} does not change the event"),
                    }
                    kind
                }
            };
            *seen.entry(kind).or_insert(0) += 1;
        }
    }

    #[test]
    fn dirt_follows_from_its_seed_and_fraction() {
        let rows = rows();
        let run = |fraction, seed| {
            let (mut dirtier, mut message) = (dirtier(fraction, seed), Vec::new());
            (0..20_000)
                .map(|_| dirtier.decide(&rows, 0, &mut message))
                .collect::<Vec<_>>()
        };
        let (once, twice, other) = (run(0.01, 1), run(0.01, 1), run(0.01, 2));
        assert_eq!(once, twice);
        assert_ne!(once, other);
        let count = once.iter().flatten().count();
        assert!((150..250).contains(&count), "{count} of 20000 at 1 %");
        assert_eq!(run(0.0, 1).iter().flatten().count(), 0);
    }
}
