//! Everything of a learner in one safetensors object, to the last bit.
//!
//! Tensors: `weights` (2^bits, F32), one of the same length for each part of the optimiser's state, `bias`
//! (weight and state, F32), `scalers` (per number: count, sum of squares, mean, 1 / deviation; F64),
//! `moved` (one bit per weight that moved since the last update, U64), and `section.NAME` (bytes, U8) for
//! what the caller adds: pending labels, metrics, offsets. One entry of metadata, `thalweg`, says in lines
//! `key=value` what it is: equal models give equal bytes, and a checksum finds flipped bits.

use std::collections::{BTreeMap, HashMap};

use linfa::ParamGuard;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use schemas::contract::Update;
use schemas::{Digest, ModelVersion};
use xxhash_rust::xxh3::Xxh3;

use super::{Lineage, ServedModel};
use crate::features::Layout;
use crate::learners::{
    Adagrad, CheckedParams, Ftrl, Learner, Linear, Model, Params, Scale, Scaler, Weight, each,
};

/// Name of the metadata's one entry.
const ENTRY: &str = "thalweg";

/// What the entry's line `format` says.
const FORMAT: &str = "model-1";

/// What the name of a tensor that holds a caller's bytes begins with.
const SECTION: &str = "section.";

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

/// A tensor to be written.
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Returns the bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut tensors = each!(&self.learner.model, linear => tensors(linear));
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
        let Layout { slots, numbers } = self.learner.layout();
        let (update, bits, [rate, l1, l2]) = self.learner.params.parts();
        let update = match update {
            Update::Adagrad => "adagrad",
            Update::Ftrl => "ftrl",
        };
        let examples = self.learner.examples();
        format!(
            "format={FORMAT}\nversion={version}\ndigest={digest}\ncontract={contract}\nslots={slots}\n\
             numbers={numbers}\nupdate={update}\nbits={bits}\nrate={rate}\nl1={l1}\nl2={l2}\n\
             examples={examples}\nchecksum={checksum:032x}"
        )
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`SnapshotError`], the first thing that is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
        let object = Object::open(bytes)?;
        let (params, layout) = (object.params()?, object.layout()?);
        let model = match params.parts().0 {
            Update::Adagrad => Model::Adagrad(object.linear::<Adagrad>(&params, layout)?),
            Update::Ftrl => Model::Ftrl(object.linear::<Ftrl>(&params, layout)?),
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
        let weights = object.floats("weights", params.weights())?;
        let bias = *object
            .floats("bias", 0)?
            .first()
            .ok_or_else(|| broken("bias"))?;
        let scales = object
            .scalers(layout)?
            .into_iter()
            .map(|scaler| scaler.scale)
            .collect();
        Ok(ServedModel {
            layout,
            lineage: object.lineage()?,
            weights,
            bias,
            scales,
        })
    }
}

fn tensors<W: Weight>(linear: &Linear<W>) -> Vec<Tensor> {
    let floats = |name: &str, values: Vec<f32>| Tensor {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape: vec![values.len()],
        bytes: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    };
    let bias = std::iter::once(linear.bias.weight());
    let bias = bias.chain((0..W::STATE.len()).map(|part| linear.bias.state(part)));
    let scalers = linear.scalers.iter().flat_map(|scaler| {
        let Scaler {
            count,
            squares,
            scale: Scale { mean, inverse },
        } = *scaler;
        [count, squares, mean, inverse].map(f64::to_le_bytes)
    });
    let mut tensors = vec![
        floats("weights", linear.table.iter().map(W::weight).collect()),
        floats("bias", bias.collect()),
        Tensor {
            name: "scalers".to_owned(),
            dtype: Dtype::F64,
            shape: vec![linear.scalers.len(), 4],
            bytes: scalers.flatten().collect(),
        },
        Tensor {
            name: "moved".to_owned(),
            dtype: Dtype::U64,
            shape: vec![linear.moved.len()],
            bytes: linear
                .moved
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect(),
        },
    ];
    for (part, name) in W::STATE.iter().enumerate() {
        tensors.push(floats(
            name,
            linear
                .table
                .iter()
                .map(|weight| weight.state(part))
                .collect(),
        ));
    }
    tensors
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
        if lines.get("format").is_none_or(|format| format != FORMAT) {
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
        let update = match self.line("update")? {
            "adagrad" => Update::Adagrad,
            "ftrl" => Update::Ftrl,
            _ => return Err(broken("update")),
        };
        let params = Params::new(update)
            .bits(self.parse("bits")?)
            .rate(self.parse("rate")?);
        let params = params.l1(self.parse("l1")?).l2(self.parse("l2")?);
        params
            .check()
            .map_err(|problem| broken(&problem.to_string()))
    }

    fn layout(&self) -> Result<Layout, SnapshotError> {
        let layout = Layout {
            slots: self.parse("slots")?,
            numbers: self.parse("numbers")?,
        };
        if layout.numbers <= layout.slots {
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

    fn scalers(&self, layout: Layout) -> Result<Vec<Scaler>, SnapshotError> {
        let (chunks, _) = self.data("scalers", Dtype::F64)?.as_chunks::<8>();
        let values: Vec<f64> = chunks
            .iter()
            .map(|bytes| f64::from_le_bytes(*bytes))
            .collect();
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
            (scaler.scale.is_sound() && count.is_finite() && squares.is_finite()).then_some(scaler)
        };
        let scalers = quads.iter().map(scaler).collect::<Option<Vec<_>>>();
        let right = scalers.filter(|scalers| scalers.len() == layout.numbers && rest.is_empty());
        right.ok_or_else(|| broken("scalers"))
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
        let (words, _) = self.data("moved", Dtype::U64)?.as_chunks::<8>();
        let mut linear = Linear::new(params, layout);
        if words.len() != linear.moved.len() {
            return Err(broken("moved"));
        }
        linear.moved = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        linear.scalers = self.scalers(layout)?;
        linear.examples = self.parse("examples")?;
        linear.bias = W::restore(bias[0], &bias[1..]);
        let mut state = vec![0.0; states.len()];
        for (at, (entry, weight)) in linear.table.iter_mut().zip(&weights).enumerate() {
            state
                .iter_mut()
                .zip(&states)
                .for_each(|(part, all)| *part = all[at]);
            *entry = W::restore(*weight, &state);
        }
        Ok(linear)
    }
}
