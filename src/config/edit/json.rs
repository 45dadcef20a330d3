//! Any value that a key can have, as JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml_edit::{Array, InlineTable, Value};

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Json {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
    /// Removes a key.
    Null(()),
}

impl Json {
    /// None: it contains a null, which TOML does not have.
    pub(super) fn to_toml(&self) -> Option<Value> {
        Some(match self {
            Self::Null(()) => return None,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Float(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
            Self::List(values) => {
                let values: Option<Array> = values.iter().map(Self::to_toml).collect();
                values?.into()
            }
            Self::Map(values) => {
                let mut table = InlineTable::new();
                for (key, value) in values {
                    table.insert(key, value.to_toml()?);
                }
                table.into()
            }
        })
    }

    /// Each leaf with its path, like `node.0.rpc_url`.
    pub(super) fn leaves(&self, path: &str, out: &mut BTreeMap<String, Self>) {
        let below = |key: &str| if path.is_empty() { key.into() } else { format!("{path}.{key}") };
        match self {
            Self::Map(values) => {
                values.iter().for_each(|(key, value)| value.leaves(&below(key), out));
            }
            // Only lists of tables are descended into; a list of plain values is a leaf.
            Self::List(values) if values.iter().any(|it| matches!(it, Self::Map(_))) => {
                let numbered = values.iter().enumerate();
                numbered.for_each(|(at, value)| value.leaves(&below(&at.to_string()), out));
            }
            leaf => {
                out.insert(path.to_owned(), leaf.clone());
            }
        }
    }
}
