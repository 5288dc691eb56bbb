//! Everything of a learner in one safetensors object, to the last bit.
//!
//! Tensors of a linear model: `weights` (2^bits, F32), one of the same length for each part of the optimiser's
//! state, `bias` (weight and state, F32), `scalers` (per number, then of a label that is a number: count, sum of
//! squares, mean, 1 / deviation; F64), `moved` (one bit per weight that moved since the last update, U64). Of a
//! blend: `features` (2^bits and the bias, 16 numbers each, F32), `crosses` (4 numbers each, F32), `state` (F64),
//! `moved` and `moved_crosses`. Of both: `section.NAME` (bytes, U8) for what the caller adds: pending labels,
//! metrics, offsets. One entry of metadata, `thalweg`, says in lines
//! `key=value` what it is: equal models give equal bytes, and a checksum finds flipped bits.

use std::collections::{BTreeMap, HashMap};

use linfa::ParamGuard;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use schemas::contract::Update;
use schemas::{Digest, ModelVersion};
use xxhash_rust::xxh3::Xxh3;

use super::lines;
use super::served::{Kind, LinearWeights};
use super::tensors::{self, Tensor};
use super::{Lineage, ServedModel};
use crate::features::Layout;
use crate::learners::{
    Adagrad, Blend, BlendWeights, CheckedParams, Coin, Entry, Ftrl, Learner, Linear, Model,
    Normalised, Pairs, Scale, Scaler, Sgd, SingleCoin, Usage, Weight, each, is_number,
};

/// Name of the metadata's one entry.
const ENTRY: &str = "thalweg";

/// What the entry's line `format` says.
const FORMAT: &str = "model-2";

/// What it said before models had other losses than the logistic one; still read.
const FORMAT_BEFORE: &str = "model-1";

/// What the name of a tensor that holds a caller's bytes begins with.
const SECTION: &str = "section.";

/// Most slots of a row: far more than any contract names.
const SLOTS_MAX: usize = 1 << 24;

/// A learner, which version it is, and what the caller keeps with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The learner.
    pub learner: Learner,
    /// Which version it is.
    pub lineage: Lineage,
    /// The caller's bytes, by name.
    pub sections: BTreeMap<String, Vec<u8>>,
}

/// Bytes that are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not safetensors.
    #[error("not a safetensors object: {0}")]
    NotSafetensors(String),
    /// Safetensors of somebody else, or of a version that this build does not read.
    #[error("safetensors object is not a model of format `{FORMAT}`")]
    Foreign,
    /// A part is missing or impossible.
    #[error("`{part}` of the snapshot is missing or impossible")]
    Broken {
        /// Tensor or line of the metadata.
        part: String,
    },
    /// The tensors are not those that were written.
    #[error("tensors of the snapshot do not have its checksum")]
    Checksum,
}

impl Snapshot {
    /// Returns the bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut tensors = each!(&self.learner.model,
            linear => tensors::of_linear(linear),
            blend => tensors::of_blend(blend));
        for (name, bytes) in &self.sections {
            let name = format!("{SECTION}{name}");
            tensors.push(Tensor {
                name,
                dtype: Dtype::U8,
                shape: vec![bytes.len()],
                bytes: bytes.clone(),
            });
        }
        let text = self.describe(checksum(
            tensors
                .iter()
                .map(|tensor| (tensor.name.as_str(), &tensor.bytes[..])),
        ));
        let metadata = HashMap::from([(ENTRY.to_owned(), text)]);
        let views = tensors.iter().map(|tensor| {
            let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
            (
                tensor.name.as_str(),
                view.expect("the shape is that of the bytes"),
            )
        });
        safetensors::serialize(views, Some(metadata)).expect("names differ and the header is short")
    }

    fn describe(&self, checksum: u128) -> String {
        let Lineage {
            version,
            digest,
            contract,
        } = self.lineage;
        let Layout {
            slots,
            numbers,
            crosses,
        } = self.learner.layout();
        let params = lines::write(&self.learner.params);
        let examples = self.learner.examples();
        let Usage { met, new } = self.learner.usage();
        format!(
            "format={FORMAT}\nversion={version}\ndigest={digest}\ncontract={contract}\nslots={slots}\n\
             numbers={numbers}\ncrossed={crosses}\n{params}examples={examples}\nmet={met}\nnew={new}\nchecksum={checksum:032x}"
        )
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`SnapshotError`], the first thing that is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
        let object = Object::open(bytes)?;
        let (params, layout) = (object.params()?, object.layout()?);
        let model = match params.update {
            Update::Adagrad => Model::Adagrad(object.linear::<Adagrad>(&params, layout)?),
            Update::Ftrl => Model::Ftrl(object.linear::<Ftrl>(&params, layout)?),
            Update::Sgd => Model::Sgd(object.linear::<Sgd>(&params, layout)?),
            Update::Normalised => Model::Normalised(object.linear::<Normalised>(&params, layout)?),
            Update::Coin => Model::Coin(object.linear::<SingleCoin>(&params, layout)?),
            Update::Blend => Model::Blend(Box::new(object.blend(&params, layout)?)),
        };
        let sections = object.tensors.iter().filter_map(|(name, view)| {
            let name = name.strip_prefix(SECTION)?;
            Some((name.to_owned(), view.data().to_vec()))
        });
        Ok(Snapshot {
            learner: Learner::from_model(params, model),
            lineage: object.lineage()?,
            sections: sections.collect(),
        })
    }

    /// Reads only what predicts.
    pub(super) fn served(bytes: &[u8]) -> Result<ServedModel, SnapshotError> {
        let object = Object::open(bytes)?;
        let (params, layout) = (object.params()?, object.layout()?);
        let kind = match params.update {
            Update::Blend => {
                let blend = object.blend(&params, layout)?;
                Kind::Blend(Box::new(BlendWeights::of(&blend)))
            }
            _ => Kind::Linear(object.linear_weights(&params, layout)?),
        };
        Ok(ServedModel {
            layout,
            lineage: object.lineage()?,
            kind,
        })
    }
}

/// XXH3-128 of names and bytes, in the order of the names.
fn checksum<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> u128 {
    let mut sorted: Vec<_> = tensors.collect();
    sorted.sort_unstable();
    let mut hasher = Xxh3::new();
    for (name, bytes) in sorted {
        hasher.update(name.as_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    hasher.digest128()
}

fn broken(part: &str) -> SnapshotError {
    SnapshotError::Broken {
        part: part.to_owned(),
    }
}

/// A snapshot's tensors and lines, with its checksum right.
struct Object<'a> {
    tensors: Vec<(String, TensorView<'a>)>,
    lines: BTreeMap<String, String>,
}

impl<'a> Object<'a> {
    fn open(bytes: &'a [u8]) -> Result<Object<'a>, SnapshotError> {
        let not =
            |error: safetensors::SafeTensorError| SnapshotError::NotSafetensors(error.to_string());
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(not)?;
        let text = metadata
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(ENTRY));
        let line = |line: &str| {
            line.split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        let lines: BTreeMap<String, String> = text
            .ok_or(SnapshotError::Foreign)?
            .lines()
            .filter_map(line)
            .collect();
        if lines
            .get("format")
            .is_none_or(|format| format != FORMAT && format != FORMAT_BEFORE)
        {
            return Err(SnapshotError::Foreign);
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(not)?.tensors();
        let object = Object { tensors, lines };
        let found = checksum(
            object
                .tensors
                .iter()
                .map(|(name, view)| (name.as_str(), view.data())),
        );
        if object.line("checksum")? != format!("{found:032x}") {
            return Err(SnapshotError::Checksum);
        }
        Ok(object)
    }

    fn line(&self, key: &str) -> Result<&str, SnapshotError> {
        self.lines
            .get(key)
            .map(String::as_str)
            .ok_or_else(|| broken(key))
    }

    fn parse<T: std::str::FromStr>(&self, key: &str) -> Result<T, SnapshotError> {
        self.line(key)?.parse().map_err(|_| broken(key))
    }

    fn lineage(&self) -> Result<Lineage, SnapshotError> {
        Ok(Lineage {
            version: ModelVersion(self.parse("version")?),
            digest: self.parse::<Digest>("digest")?,
            contract: self.parse::<Digest>("contract")?,
        })
    }

    fn params(&self) -> Result<CheckedParams, SnapshotError> {
        let params = lines::read(&self.lines).map_err(broken)?;
        params
            .check()
            .map_err(|problem| broken(&problem.to_string()))
    }

    /// Returns how the tables were used, which the first snapshots did not say.
    fn usage(&self) -> Result<Usage, SnapshotError> {
        let count = |key: &str| match self.lines.get(key) {
            Some(count) => count.parse().map_err(|_| broken(key)),
            None => Ok(0),
        };
        Ok(Usage {
            met: count("met")?,
            new: count("new")?,
        })
    }

    fn layout(&self) -> Result<Layout, SnapshotError> {
        let layout = Layout {
            slots: self.parse("slots")?,
            numbers: self.parse("numbers")?,
            crosses: match self.lines.get("crossed") {
                Some(count) => count.parse().map_err(|_| broken("crossed"))?,
                None => 0,
            },
        };
        let parts = layout.numbers.checked_add(layout.crosses);
        if SLOTS_MAX < layout.slots {
            Err(broken("slots"))
        } else if parts.is_some_and(|parts| parts <= layout.slots) {
            Ok(layout)
        } else {
            Err(broken("numbers"))
        }
    }

    fn data(&self, name: &str, dtype: Dtype) -> Result<&'a [u8], SnapshotError> {
        let found = self
            .tensors
            .iter()
            .find(|(found, view)| found == name && view.dtype() == dtype);
        found
            .map(|(_, view)| view.data())
            .ok_or_else(|| broken(name))
    }

    /// Returns a tensor of finite floats; `len` 0 is any length.
    fn floats(&self, name: &str, len: usize) -> Result<Vec<f32>, SnapshotError> {
        let (chunks, _) = self.data(name, Dtype::F32)?.as_chunks::<4>();
        let values: Vec<f32> = chunks
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let right =
            (len == 0 || values.len() == len) && values.iter().all(|value| value.is_finite());
        if right { Ok(values) } else { Err(broken(name)) }
    }

    fn doubles(&self, name: &str) -> Result<Vec<f64>, SnapshotError> {
        let (chunks, rest) = self.data(name, Dtype::F64)?.as_chunks::<8>();
        let values = chunks.iter().map(|bytes| f64::from_le_bytes(*bytes));
        if rest.is_empty() {
            Ok(values.collect())
        } else {
            Err(broken(name))
        }
    }

    /// Returns a tensor of one bit for each of `count` weights.
    fn bits(&self, name: &str, count: usize) -> Result<Vec<u64>, SnapshotError> {
        let (words, _) = self.data(name, Dtype::U64)?.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        // There is no weight for what lies beyond the last.
        let beyond = words
            .last()
            .map_or(0, |last| last >> ((count - 1) % 64) >> 1);
        if words.len() == count.div_ceil(64) && beyond == 0 {
            Ok(words)
        } else {
            Err(broken(name))
        }
    }

    /// Refuses a tensor of fewer than so many values, before there is room for them.
    fn holds(&self, name: &str, dtype: Dtype, least: usize) -> Result<(), SnapshotError> {
        let values = self.data(name, dtype)?.len() / (dtype.bitsize() / 8);
        if least <= values {
            Ok(())
        } else {
            Err(broken(name))
        }
    }

    /// Returns the scalers of numbers, and that of the label.
    fn scalers(
        &self,
        params: &CheckedParams,
        layout: Layout,
    ) -> Result<(Vec<Scaler>, Scaler), SnapshotError> {
        let values = self.doubles("scalers")?;
        let (quads, rest) = values.as_chunks::<4>();
        let scaler = |[count, squares, mean, inverse]: &[f64; 4]| {
            let scaler = Scaler {
                count: *count,
                squares: *squares,
                scale: Scale {
                    mean: *mean,
                    inverse: *inverse,
                },
            };
            scaler.may_be().then_some(scaler)
        };
        let scalers = quads.iter().map(scaler).collect::<Option<Vec<_>>>();
        let labelled = is_number(params.loss);
        let len = layout.numbers + usize::from(labelled);
        let right = scalers.filter(|scalers| scalers.len() == len && rest.is_empty());
        let mut scalers = right.ok_or_else(|| broken("scalers"))?;
        let label = if labelled { scalers.pop() } else { None };
        Ok((scalers, label.unwrap_or_default()))
    }

    fn linear_weights(
        &self,
        params: &CheckedParams,
        layout: Layout,
    ) -> Result<LinearWeights, SnapshotError> {
        let bias = self.floats("bias", 0)?;
        let (scalers, label) = self.scalers(params, layout)?;
        Ok(LinearWeights {
            loss: params.loss,
            weights: self.floats("weights", params.weights())?,
            bias: *bias.first().ok_or_else(|| broken("bias"))?,
            scales: scalers.into_iter().map(|scaler| scaler.scale).collect(),
            target: label.scale,
            pairs: Pairs::new(params.crosses, params.bits, layout),
        })
    }

    fn blend(&self, params: &CheckedParams, layout: Layout) -> Result<Blend, SnapshotError> {
        self.holds("features", Dtype::F32, params.weights() * 16)?;
        self.holds("state", Dtype::F64, layout.slots)?;
        let mut blend = Blend::of(params, layout);
        let tables = &mut blend.tables;
        let features = self.floats("features", tables.features.len() * 16)?;
        let entries = features.as_chunks::<16>().0.iter();
        tables.features = entries.map(|values| Entry::from_array(*values)).collect();
        let crosses = match tables.crosses.len() {
            0 => Vec::new(),
            len => self.floats("crosses", len * 4)?,
        };
        let coins = crosses.as_chunks::<4>().0.iter();
        tables.crosses = coins.map(|values| Coin::from_array(*values)).collect();
        // Opinions of weights without bounds would be infinite, and not read back.
        for (part, may_be) in [
            ("features", tables.features.iter().all(Entry::may_be)),
            ("crosses", tables.crosses.iter().all(Coin::may_be)),
        ] {
            may_be.then_some(()).ok_or_else(|| broken(part))?;
        }
        tables.moved_features = self.bits("moved", tables.features.len())?;
        tables.moved_crosses = match tables.crosses.len() {
            0 => Vec::new(),
            len => self.bits("moved_crosses", len)?,
        };
        blend.examples = self.parse("examples")?;
        blend.usage = self.usage()?;
        let state = self.doubles("state")?;
        blend.restore(&state).ok_or_else(|| broken("state"))?;
        Ok(blend)
    }

    fn linear<W: Weight>(
        &self,
        params: &CheckedParams,
        layout: Layout,
    ) -> Result<Linear<W>, SnapshotError> {
        let weights = self.floats("weights", params.weights())?;
        let states = W::STATE
            .iter()
            .map(|name| self.floats(name, params.weights()));
        let states = states.collect::<Result<Vec<_>, _>>()?;
        let bias = self.floats("bias", 1 + W::STATE.len())?;
        let scalers = self.scalers(params, layout)?;
        let mut linear = Linear::new(params, layout);
        linear.moved = self.bits("moved", linear.table.len())?;
        (linear.scalers, linear.target.scaler) = scalers;
        linear.examples = self.parse("examples")?;
        linear.usage = self.usage()?;
        linear.bias = W::restore(bias[0], &bias[1..]);
        let mut state = vec![0.0; states.len()];
        for (at, (entry, weight)) in linear.table.iter_mut().zip(&weights).enumerate() {
            state
                .iter_mut()
                .zip(&states)
                .for_each(|(part, all)| *part = all[at]);
            *entry = W::restore(*weight, &state);
        }
        // The root of a negative sum of squares would be found a step later, when it has been stored.
        if linear.bias.may_be() && linear.table.iter().all(W::may_be) {
            Ok(linear)
        } else {
            Err(broken("weights"))
        }
    }
}
