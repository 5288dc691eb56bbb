//! The feature space of a contract: clean batches go in, rows of hashed ids and raw numbers come out.
//!
//! This is the one feature path: what is scored, learned from and watched for drift is made here, from the
//! same bytes. Every feature gives exactly one slot of a row (a bag, as many as it may have parts); a missing value
//! is a value of its own. Numbers
//! stay raw: the learner standardises them. Nothing here looks at a sealed cell.

mod bag;
mod encode;
mod hash;
mod rows;

use arrow_array::RecordBatch;
use schemas::contract::{Bag, Contract, Feature, FeatureKind, FieldType, TimePart, Update};
use schemas::{ColumnRole, Columns};

use self::hash::Namespace;
pub use self::rows::{ABSENT, Layout, Row, Rows};

/// Turns clean batches into rows.
#[derive(Clone, Debug)]
pub struct FeatureSpace {
    slots: Vec<Slot>,
    layout: Layout,
    mask: u32,
    /// One column of hashes per slot that is a category: crosses are made of them.
    hashes: Vec<Vec<u64>>,
}

/// One slot of a row.
#[derive(Clone, Debug)]
struct Slot {
    name: String,
    watched: bool,
    namespace: Namespace,
    source: Source,
}

/// What a slot is made of. Columns are indices into the batch, parents indices of slots.
#[derive(Clone, Debug)]
enum Source {
    Number {
        column: usize,
        kind: FieldType,
    },
    Category {
        column: usize,
        kind: Kind,
    },
    Bucket {
        column: usize,
        kind: FieldType,
        width: f64,
    },
    Time {
        column: usize,
        part: TimePart,
        offset_micros: i64,
    },
    /// The first of the slots of a bag; those of its other parts follow.
    Bag {
        column: usize,
        bag: Bag,
    },
    /// A further part of the bag before it.
    More,
    Cross {
        parents: Vec<usize>,
    },
}

/// How the values of a category are stored.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Token,
    Plain(FieldType),
}

/// A batch or contract that does not fit the feature space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// A column has another type than the contract implies, or is not there.
    #[error("column {column} of the batch is not what feature `{feature}` is made of")]
    Column {
        /// Name of the feature.
        feature: String,
        /// Index of the column.
        column: usize,
    },
    /// A feature wants a column that clean batches do not have.
    #[error("feature `{feature}` is made of a field that is neither open nor a token")]
    Closed {
        /// Name of the feature.
        feature: String,
    },
}

impl FeatureSpace {
    /// Lays out the features of a contract.
    ///
    /// # Errors
    /// [`FeatureError::Closed`]; a contract that was parsed has no such feature.
    pub fn new(contract: &Contract) -> Result<FeatureSpace, FeatureError> {
        let columns = Columns::of(contract);
        let kind = |at: &usize| &contract.features[*at].kind;
        let (numbers, categories): (Vec<usize>, Vec<usize>) = (0..contract.features.len())
            .partition(|at| matches!(kind(at), FeatureKind::Number { .. }));
        let (others, categories): (Vec<usize>, Vec<usize>) =
            categories.into_iter().partition(|at| {
                matches!(
                    kind(at),
                    FeatureKind::Cross { .. } | FeatureKind::Bag { .. }
                )
            });
        let alone = numbers.len() + categories.len();
        let order = [numbers.as_slice(), &categories, &others].concat();
        let mut slots = Vec::with_capacity(order.len());
        for at in &order {
            let first = slot(contract, &columns, &contract.features[*at], &order)?;
            let more = match &first.source {
                Source::Bag { bag, .. } => bag.most - 1,
                _ => 0,
            };
            let further = Slot {
                source: Source::More,
                ..first.clone()
            };
            slots.push(first);
            slots.extend(std::iter::repeat_n(further, more));
        }
        Ok(FeatureSpace {
            layout: Layout {
                slots: slots.len(),
                numbers: numbers.len(),
                crosses: slots.len() - alone,
            },
            mask: match contract.learner.update {
                Update::Blend => u32::MAX,
                _ => ((1_u64 << contract.learner.bits.min(31)) - 1) as u32,
            },
            hashes: vec![Vec::new(); slots.len()],
            slots,
        })
    }

    /// Returns the shape of its rows.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns the name of a slot's feature.
    pub fn name(&self, slot: usize) -> &str {
        &self.slots[slot].name
    }

    /// Returns the names of all slots' features.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.slots.iter().map(|slot| slot.name.as_str())
    }

    /// Returns the id that says that a slot's value is missing.
    pub fn missing_id(&self, slot: usize) -> u32 {
        self.slots[slot].namespace.missing as u32 & self.mask
    }

    /// Says whether drift of a slot's feature means something.
    ///
    /// Crosses drift with their parents, and the calendar day and month always do.
    pub fn watched(&self, slot: usize) -> bool {
        self.slots[slot].watched
    }

    /// Adds one row for each event of a clean batch.
    ///
    /// # Errors
    /// [`FeatureError::Column`] if the batch has another schema than the contract implies; no row is added.
    pub fn encode(&mut self, batch: &RecordBatch, rows: &mut Rows) -> Result<(), FeatureError> {
        for slot in &self.slots {
            encode::check(slot, batch)?;
        }
        encode::encode(self, batch, rows);
        Ok(())
    }
}

fn slot(
    contract: &Contract,
    columns: &Columns,
    feature: &Feature,
    order: &[usize],
) -> Result<Slot, FeatureError> {
    let closed = || FeatureError::Closed {
        feature: feature.name.clone(),
    };
    let open = |field: usize| columns.index(field, ColumnRole::Open).ok_or_else(closed);
    let name = &feature.name;
    let (source, namespace, watched) = match &feature.kind {
        FeatureKind::Number { field } => {
            let kind = contract.fields[*field].kind;
            let source = Source::Number {
                column: open(*field)?,
                kind,
            };
            (source, format!("number/{name}"), true)
        }
        FeatureKind::Category { field } => {
            let source = match columns.index(*field, ColumnRole::Token) {
                Some(column) => Source::Category {
                    column,
                    kind: Kind::Token,
                },
                None => {
                    let kind = Kind::Plain(contract.fields[*field].kind);
                    Source::Category {
                        column: open(*field)?,
                        kind,
                    }
                }
            };
            (source, format!("category/{name}"), true)
        }
        FeatureKind::Bucket { field, width } => {
            let kind = contract.fields[*field].kind;
            let source = Source::Bucket {
                column: open(*field)?,
                kind,
                width: *width,
            };
            (source, format!("bucket/{name}/{width}"), true)
        }
        FeatureKind::Time {
            field,
            part,
            utc_offset_seconds: offset,
        } => {
            let offset_micros = i64::from(*offset) * 1_000_000;
            let source = Source::Time {
                column: open(*field)?,
                part: *part,
                offset_micros,
            };
            let watched = !matches!(part, TimePart::Day | TimePart::Month);
            (source, format!("time/{name}/{offset}"), watched)
        }
        FeatureKind::Bag { field, bag } => {
            let source = Source::Bag {
                column: open(*field)?,
                bag: bag.clone(),
            };
            (source, format!("bag/{name}"), false)
        }
        FeatureKind::Cross { features } => {
            let slot_of = |parent: &usize| order.iter().position(|at| at == parent);
            let parents = features.iter().filter_map(slot_of).collect();
            (Source::Cross { parents }, format!("cross/{name}"), false)
        }
    };
    Ok(Slot {
        name: name.clone(),
        watched,
        namespace: Namespace::new(&namespace),
        source,
    })
}

#[cfg(test)]
mod tests;
