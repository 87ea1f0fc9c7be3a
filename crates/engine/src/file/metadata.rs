//! The key-value part of a header.

use std::collections::BTreeMap;

use crate::FileProblem;

/// A metadata value. Integers of every width are widened: nothing in the format gives the width a meaning.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// Either float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(String),
    /// A list of one type.
    Array(Array),
}

/// A list of values of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Of unsigned integers.
    Unsigned(Vec<u64>),
    /// Of signed integers.
    Signed(Vec<i64>),
    /// Of floats.
    Float(Vec<f64>),
    /// Of truth values.
    Bool(Vec<bool>),
    /// Of texts.
    Text(Vec<String>),
}

/// All metadata of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(pub(super) BTreeMap<String, Value>);

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// A text; `None` when it is absent or something else.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            Value::Unsigned(_)
            | Value::Signed(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Array(_) => None,
        }
    }

    /// A truth value; `None` when it is absent or something else.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(value) => Some(*value),
            Value::Unsigned(_)
            | Value::Signed(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Array(_) => None,
        }
    }

    /// A float; integers are taken as floats.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Float(value) => Some(*value),
            Value::Unsigned(value) => Some(*value as f64),
            Value::Signed(value) => Some(*value as f64),
            Value::Bool(_) | Value::Text(_) | Value::Array(_) => None,
        }
    }

    /// A whole number that is not negative and fits.
    pub fn u32(&self, key: &str) -> Option<u32> {
        match self.get(key)? {
            Value::Unsigned(value) => u32::try_from(*value).ok(),
            Value::Signed(value) => u32::try_from(*value).ok(),
            Value::Float(_) | Value::Bool(_) | Value::Text(_) | Value::Array(_) => None,
        }
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            Value::Array(Array::Text(texts)) => Some(texts),
            Value::Array(_)
            | Value::Unsigned(_)
            | Value::Signed(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Text(_) => None,
        }
    }

    /// A list of numbers of any kind, as floats.
    pub fn numbers(&self, key: &str) -> Option<Vec<f64>> {
        match self.get(key)? {
            Value::Array(Array::Unsigned(values)) => {
                Some(values.iter().map(|&value| value as f64).collect())
            }
            Value::Array(Array::Signed(values)) => {
                Some(values.iter().map(|&value| value as f64).collect())
            }
            Value::Array(Array::Float(values)) => Some(values.clone()),
            Value::Array(Array::Bool(_) | Array::Text(_))
            | Value::Unsigned(_)
            | Value::Signed(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Text(_) => None,
        }
    }

    /// A whole number that must be there, within bounds.
    pub fn required(&self, key: &str, low: u32, high: u32) -> Result<u32, FileProblem> {
        match self.get(key) {
            None => Err(FileProblem::MissingKey {
                key: key.to_owned(),
            }),
            Some(value) => match self.u32(key) {
                Some(number) if (low..=high).contains(&number) => Ok(number),
                Some(_) | None => Err(FileProblem::BadValue {
                    key: key.to_owned(),
                    value: value.brief(),
                }),
            },
        }
    }
}

impl Value {
    /// A few characters of it, for messages.
    pub fn brief(&self) -> String {
        match self {
            Value::Unsigned(value) => value.to_string(),
            Value::Signed(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Text(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Value::Array(_) => "a list".to_owned(),
        }
    }
}
