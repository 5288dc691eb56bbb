//! What decides the bins: the first values of a feature.
//!
//! They wait in a block; sketches of it find the tenths of a number and the most frequent categories. The
//! sketches only choose the bins: the block itself is then counted into them, exactly, so the reference has
//! no error of its own even where many events share a value.

use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use datasketches::tdigest::TDigestMut;

use super::bins::{Bins, CategoryBins, NUMBER_BINS, NumberBins, TOP_MAX};
use crate::codec::{Malformed, Reader, Writer};

/// Compression of the t-digest: its rank error is far below a bin's tenth.
const COMPRESSION: u16 = 500;

/// Size of the map of frequent categories.
const FREQUENT_MAX: usize = 4096;

/// The first values of one feature.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Block {
    Numbers(Vec<f64>),
    Categories { ids: Vec<u32>, missing: u32 },
}

impl Block {
    /// Chooses the bins, and counts the block into them.
    pub fn bin(&self) -> (Bins, Vec<u32>) {
        match self {
            Block::Numbers(values) => {
                let bins = NumberBins::new(&tenths(values));
                let mut counts = vec![0; NumberBins::COUNT];
                values.iter().for_each(|value| counts[bins.of(*value)] += 1);
                (Bins::Number(bins), counts)
            }
            Block::Categories { ids, missing } => {
                let bins = CategoryBins::new(most_frequent(ids, *missing), *missing);
                let mut counts = vec![0; CategoryBins::COUNT];
                ids.iter().for_each(|id| counts[bins.of(*id)] += 1);
                (Bins::Category(Box::new(bins)), counts)
            }
        }
    }

    pub fn write(&self, writer: &mut Writer) {
        match self {
            Block::Numbers(values) => {
                writer.u64(values.len() as u64);
                values.iter().for_each(|value| writer.f64(*value));
            }
            Block::Categories { ids, .. } => {
                writer.u64(ids.len() as u64);
                ids.iter().for_each(|id| writer.u32(*id));
            }
        }
    }

    /// Reads the values of a block of this kind.
    pub fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        match self {
            Block::Numbers(values) => {
                let count = reader.count(8)?;
                *values = (0..count).map(|_| reader.f64()).collect::<Result<_, _>>()?;
            }
            Block::Categories { ids, .. } => {
                let count = reader.count(4)?;
                *ids = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
            }
        }
        Ok(())
    }
}

fn tenths(values: &[f64]) -> Vec<f64> {
    let mut digest = TDigestMut::new(COMPRESSION).expect("the compression is in range");
    values.iter().for_each(|value| digest.update(*value));
    let ranks: Vec<f64> = (1..NUMBER_BINS)
        .map(|at| at as f64 / NUMBER_BINS as f64)
        .collect();
    digest.quantiles(&ranks).ok().flatten().unwrap_or_default()
}

fn most_frequent(ids: &[u32], missing: u32) -> Vec<u32> {
    let mut frequent = FrequentItemsSketch::new(FREQUENT_MAX).expect("the size is a power of two");
    ids.iter().for_each(|id| frequent.update(*id));
    let mut rows: Vec<(u64, u32)> = frequent
        .frequent_items(ErrorType::NoFalseNegatives)
        .iter()
        .map(|row| (row.lower_bound(), *row.item()))
        .filter(|(_, id)| *id != missing)
        .collect();
    rows.sort_unstable_by_key(|(count, id)| (std::cmp::Reverse(*count), *id));
    rows.into_iter().take(TOP_MAX).map(|(_, id)| id).collect()
}
