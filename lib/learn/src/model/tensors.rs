//! What tensors a learner is written as.

use safetensors::tensor::Dtype;

use crate::learners::{Blend, Linear, Scale, Scaler, Weight, is_number};

/// A tensor to be written.
pub(super) struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

fn floats(name: &str, values: impl Iterator<Item = f32>) -> Tensor {
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    Tensor {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape: vec![bytes.len() / 4],
        bytes,
    }
}

fn doubles(name: &str, values: impl Iterator<Item = f64>) -> Tensor {
    let bytes: Vec<u8> = values.flat_map(f64::to_le_bytes).collect();
    Tensor {
        name: name.to_owned(),
        dtype: Dtype::F64,
        shape: vec![bytes.len() / 8],
        bytes,
    }
}

fn words(name: &str, values: &[u64]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        dtype: Dtype::U64,
        shape: vec![values.len()],
        bytes: values.iter().flat_map(|word| word.to_le_bytes()).collect(),
    }
}

/// Returns the tensors of a linear model.
pub(super) fn of_linear<W: Weight>(linear: &Linear<W>) -> Vec<Tensor> {
    let bias = std::iter::once(linear.bias.weight());
    let bias = bias.chain((0..W::STATE.len()).map(|part| linear.bias.state(part)));
    let labels = is_number(linear.target.loss).then_some(&linear.target.scaler);
    let scalers = linear.scalers.iter().chain(labels).flat_map(|scaler| {
        let Scaler {
            count,
            squares,
            scale: Scale { mean, inverse },
        } = *scaler;
        [count, squares, mean, inverse]
    });
    let mut tensors = vec![
        floats("weights", linear.table.iter().map(W::weight)),
        floats("bias", bias),
        doubles("scalers", scalers),
        words("moved", &linear.moved),
    ];
    for (part, name) in W::STATE.iter().enumerate() {
        tensors.push(floats(
            name,
            linear.table.iter().map(|weight| weight.state(part)),
        ));
    }
    tensors
}

/// Returns the tensors of a blend.
pub(super) fn of_blend(blend: &Blend) -> Vec<Tensor> {
    let tables = &blend.tables;
    vec![
        floats(
            "features",
            tables.features.iter().flat_map(|entry| entry.to_array()),
        ),
        floats(
            "crosses",
            tables.crosses.iter().flat_map(|coin| coin.to_array()),
        ),
        doubles("state", blend.state().into_iter()),
        words("moved", &tables.moved_features),
        words("moved_crosses", &tables.moved_crosses),
    ]
}
