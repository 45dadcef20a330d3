//! The file's text as values for figment. It is read by the parser that edits the file and finds the
//! lines of its keys, so that the three never differ on what is TOML.

use figment::{
    Error, Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};
use toml_edit::{Document, Item, TableLike};

/// The text of a gatewayd.toml.
pub(super) struct Written<'a>(pub(super) &'a str);

impl Provider for Written<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named("gatewayd.toml")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let document = Document::parse(self.0);
        let document = document.map_err(|error| Error::from(error.message().to_owned()))?;
        Ok(Profile::Default.collect(section(document.as_table())))
    }
}

fn section(table: &dyn TableLike) -> Dict {
    let entries = table.iter().filter_map(|(key, item)| Some((key.to_owned(), of_item(item)?)));
    entries.collect()
}

fn of_item(item: &Item) -> Option<Value> {
    Some(match item {
        Item::None => return None,
        Item::Value(value) => of_value(value),
        Item::Table(table) => section(table).into(),
        Item::ArrayOfTables(tables) => {
            tables.iter().map(|table| Value::from(section(table))).collect::<Vec<_>>().into()
        }
    })
}

fn of_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(value) => (*value.value()).into(),
        toml_edit::Value::Array(list) => list.iter().map(of_value).collect::<Vec<_>>().into(),
        toml_edit::Value::InlineTable(table) => section(table).into(),
        // No key is a date, so it must not pass for a text: a text is in quotes.
        toml_edit::Value::Datetime(date) => {
            Dict::from([(DATE.to_owned(), date.value().to_string().into())]).into()
        }
    }
}

/// What toml calls a date that is asked for as a table.
const DATE: &str = "$__toml_private_datetime";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn written(text: &str) -> Dict {
        Written(text).data().unwrap().remove(&Profile::Default).unwrap()
    }

    #[test]
    fn each_kind_of_value_is_taken_over() {
        let text =
            "a = 'x'\nb = -7\nc = 0.5\nd = true\ne.f = [1, { g = [] }]\n[[h]]\n[[h]]\ni = 1\n";
        let table = |entries: &[(&str, Value)]| {
            let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
            entries.collect::<Dict>()
        };
        let list = |entries: Vec<Value>| Value::from(entries);
        let inner = table(&[("g", list(vec![]))]);
        let expected = table(&[
            ("a", "x".into()),
            ("b", (-7_i64).into()),
            ("c", 0.5.into()),
            ("d", true.into()),
            ("e", table(&[("f", list(vec![1_i64.into(), inner.into()]))]).into()),
            ("h", list(vec![Dict::new().into(), table(&[("i", 1_i64.into())]).into()])),
        ]);
        assert_eq!(written(text), expected);
        assert_eq!(written(""), Dict::new());
    }

    #[test]
    fn a_date_is_no_text() {
        let error = Config::parse("[log]\nformat = 2026-11-27\n").unwrap_err().to_string();
        assert!(error.contains("configuration:2: log.format is a section, but"), "{error}");
    }

    /// Editing allows it, and so an edit could have written what could not be read again.
    #[test]
    fn what_can_be_edited_can_be_read() {
        let text = "node = [{\n  name = 'a', # here\n  rpc_url = 'http://a:1',\n}]\n";
        let document: toml_edit::DocumentMut = text.parse().unwrap();
        assert_eq!(document.to_string(), text);
        let Value::Array(_, nodes) = &written(text)["node"] else { panic!("no list") };
        assert_eq!(nodes[0].as_dict().unwrap()["name"], "a".into());
    }
}
