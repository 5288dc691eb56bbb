//! `thalweg check`: every problem of a contract at once, or what it says.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use schemas::Contract;
use schemas::contract::{FieldType, Privacy, Update};

const EXAMPLES: &str = "\
Examples:
  thalweg check stream.toml            problems by line, with remedies; exit code 64 if there are any
  thalweg check stream.toml && echo good";

/// Options of `thalweg check`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Contract to check
    #[arg(value_name = "FILE")]
    contract: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let contract = super::contract(&args.contract)?;
    print!("{}", summary(&contract));
    Ok(ExitCode::SUCCESS)
}

/// Sums a contract up.
fn summary(contract: &Contract) -> String {
    let mut text = format!(
        "stream    {} of {}\n",
        contract.stream.name, contract.stream.tenant
    );
    fields(&mut text, contract);
    let names: Vec<&str> = contract
        .features
        .iter()
        .map(|feature| feature.name.as_str())
        .collect();
    let _ = writeln!(text, "features  {}: {}", names.len(), names.join(", "));
    match &contract.label {
        Some(label) => {
            let hours = label.wait_max.as_secs_f64() / 3600.0;
            let _ = writeln!(
                text,
                "label     {}, at most {hours} h after the event",
                label.name
            );
        }
        None => text.push_str("label     none: the stream is not learned from\n"),
    }
    let learner = &contract.learner;
    let (loss, update, bits) = (learner.loss, learner.update, learner.bits);
    let _ = write!(
        text,
        "learner   {loss:?} loss, {update:?}, 2^{bits} weights"
    );
    let free = matches!(update, Update::Blend | Update::Coin);
    let _ = if free {
        writeln!(text)
    } else {
        writeln!(text, ", rate {}", learner.rate)
    };
    let _ = writeln!(text, "digest    {}", contract.digest());
    text
}

/// Lists the fields, and which of them are not in the clear.
fn fields(text: &mut String, contract: &Contract) {
    let _ = writeln!(text, "fields    {}", contract.fields.len());
    for field in &contract.fields {
        let presence = if field.required {
            "required"
        } else {
            "optional"
        };
        let kind = type_name(field.kind);
        let _ = writeln!(text, "          {:<22} {kind:<9} {presence}", field.name);
    }
    let with = |wanted: fn(&Privacy) -> bool| {
        let fields = contract
            .fields
            .iter()
            .filter(|field| wanted(&field.privacy));
        fields
            .map(|field| field.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let is_dropped = |privacy: &Privacy| !privacy.open && !privacy.seal && !privacy.token;
    for (heading, list) in [
        ("sealed", with(|privacy| privacy.seal)),
        ("tokens", with(|privacy| privacy.token)),
        ("dropped", with(is_dropped)),
    ] {
        if !list.is_empty() {
            let _ = writeln!(text, "{heading:<9} {list}");
        }
    }
}

fn type_name(kind: FieldType) -> &'static str {
    match kind {
        FieldType::String => "string",
        FieldType::Int64 => "int64",
        FieldType::Float64 => "float64",
        FieldType::Bool => "bool",
        FieldType::Timestamp => "timestamp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_what_matters() {
        let contract =
            Contract::parse("flights", include_str!("../../streams/flights/stream.toml")).unwrap();
        let text = summary(&contract);
        for part in [
            "flights of demo",
            "sealed    tail_number",
            "carrier",
            "label     late",
            "48 h",
            "digest",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
