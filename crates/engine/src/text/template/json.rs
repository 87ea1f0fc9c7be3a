//! `tojson`, as `transformers` defines it: Python's `json.dumps` without its escapes.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Spaces of one level of indented JSON at most.
const MAX_INDENT: usize = 8;

/// Bytes of one value written as JSON at most. Equal parts of a value may be shared, so that a small one is written at
/// exponential length.
const MAX_JSON: usize = 1 << 20;

/// Nesting of a value written as JSON at most.
const MAX_DEPTH: usize = 64;

/// JSON as Python writes it: `", "` and `": "` between things, nothing escaped that JSON does not require.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(refused("separators are two texts")),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut writer = Writer {
        indent: indent.map(|indent| indent.min(MAX_INDENT)),
        item,
        key,
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ascii: options
            .get::<Option<bool>>("ensure_ascii")?
            .unwrap_or(false),
        out: String::new(),
    };
    options.assert_all_used()?;
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer {
    indent: Option<usize>,
    /// Between items.
    item: String,
    /// Between a key and its value.
    key: String,
    sorted: bool,
    ascii: bool,
    out: String,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(refused("too deep for JSON"));
        }
        if self.out.len() > MAX_JSON {
            return Err(refused("too long for JSON"));
        }
        if let Some(text) = value.as_str() {
            return self.text(text);
        }
        let kind = value.kind();
        if matches!(kind, ValueKind::Seq | ValueKind::Iterable) {
            self.list(value, depth)
        } else if kind == ValueKind::Map {
            self.map(value, depth)
        } else {
            self.out.push_str(&scalar(value)?);
            Ok(())
        }
    }

    fn list(&mut self, list: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut any = false;
        for item in list.try_iter()? {
            self.begin(&mut any, depth);
            self.value(&item, depth + 1)?;
        }
        self.end(any, depth);
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, map: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('{');
        let mut any = false;
        let mut keys: Vec<Value> = map.try_iter()?.collect();
        if self.sorted {
            keys.sort();
        }
        for key in keys {
            self.begin(&mut any, depth);
            match key.as_str() {
                Some(text) => self.text(text)?,
                None => self.text(&scalar(&key)?)?,
            }
            self.out.push_str(&self.key);
            self.value(&map.get_item(&key)?, depth + 1)?;
        }
        self.end(any, depth);
        self.out.push('}');
        Ok(())
    }

    fn begin(&mut self, any: &mut bool, depth: usize) {
        if std::mem::replace(any, true) {
            self.out.push_str(&self.item);
        }
        self.line(depth + 1);
    }

    fn end(&mut self, any: bool, depth: usize) {
        if any {
            self.line(depth);
        }
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        let quoted = serde_json::to_string(text)
            .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
        for character in quoted.chars() {
            // Python escapes this one, JSON does not ask for it.
            if character == '\u{7f}' && self.ascii {
                self.out.push_str("\\u007f");
            } else if character.is_ascii() || !self.ascii || super::is_marker(character) {
                self.out.push(character);
            } else {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    self.out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        Ok(())
    }
}

fn scalar(value: &Value) -> Result<String, Error> {
    let kind = value.kind();
    if kind == ValueKind::None {
        Ok("null".to_owned())
    } else if kind == ValueKind::Bool {
        Ok(value.is_true().to_string())
    } else if kind == ValueKind::Number {
        Ok(value.to_string())
    } else {
        Err(Error::new(
            ErrorKind::BadSerialization,
            format!("{kind} as JSON"),
        ))
    }
}

fn refused(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}
