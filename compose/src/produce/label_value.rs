//! Labels as files have them: yes or no, numbers, names of classes.

use schemas::contract::{Label, LabelType};

use super::render;

/// A label.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelValue {
    /// Yes or no.
    YesOrNo(bool),
    /// A finite number.
    Number(f64),
    /// The name of a class.
    Class(Box<str>),
}

impl LabelValue {
    /// Reads a text as a label of a type: true or false, 1 or 0; a number; the name of a class.
    pub(crate) fn read(text: &str, kind: LabelType) -> Option<LabelValue> {
        match kind {
            LabelType::Bool => match text {
                "1" | "true" | "True" | "TRUE" | "1.0" => Some(LabelValue::YesOrNo(true)),
                "0" | "false" | "False" | "FALSE" | "0.0" => Some(LabelValue::YesOrNo(false)),
                _ => None,
            },
            LabelType::Number => LabelValue::number(text.trim().parse().ok()?, kind),
            LabelType::Class => Some(LabelValue::Class(text.into())),
        }
    }

    /// Takes a number as a label of a type.
    pub(crate) fn number(number: f64, kind: LabelType) -> Option<LabelValue> {
        match kind {
            LabelType::Bool if number == 0.0 || number == 1.0 => {
                Some(LabelValue::YesOrNo(number == 1.0))
            }
            LabelType::Number if number.is_finite() => Some(LabelValue::Number(number)),
            LabelType::Bool | LabelType::Number | LabelType::Class => None,
        }
    }

    /// Returns what a learner is told: 1 or 0, the number, the index of the class; `None` for a class that the
    /// contract does not name.
    pub fn told(&self, label: &Label) -> Option<f64> {
        match self {
            LabelValue::YesOrNo(yes) => Some(f64::from(u8::from(*yes))),
            LabelValue::Number(number) => Some(*number),
            LabelValue::Class(name) => {
                let is_it = |class: &String| class.as_str() == &**name;
                label.classes.iter().position(is_it).map(|at| at as f64)
            }
        }
    }

    /// Says whether it is yes.
    pub fn is_yes(&self) -> bool {
        *self == LabelValue::YesOrNo(true)
    }

    /// Appends the label as JSON.
    pub(crate) fn render(&self, out: &mut Vec<u8>) {
        match self {
            LabelValue::YesOrNo(yes) => render::boolean(*yes, out),
            LabelValue::Number(number) => render::float(*number, out),
            LabelValue::Class(name) => render::text(name, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: LabelType, json: Option<&str>) {
        let rendered = LabelValue::read(text, kind).map(|label| {
            let mut out = Vec::new();
            label.render(&mut out);
            String::from_utf8(out).unwrap()
        });
        assert_eq!(rendered.as_deref(), json, "{text} {kind:?}");
    }

    #[test]
    fn texts_are_read_as_the_type_says() {
        check("True", LabelType::Bool, Some("true"));
        check("0", LabelType::Bool, Some("false"));
        check("2", LabelType::Bool, None);
        check(" 2.5", LabelType::Number, Some("2.5"));
        check("inf", LabelType::Number, None);
        check("far", LabelType::Number, None);
        check("far", LabelType::Class, Some("\"far\""));
    }
}
