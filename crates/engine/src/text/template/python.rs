//! The methods of Python's strings, lists and mappings that chat templates lean on.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::MAX_RENDERED;

/// A method that Jinja values do not have by themselves.
pub(super) fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match name {
            "removeprefix" => {
                let (affix,): (&str,) = from_args(args)?;
                return Ok(Value::from(text.strip_prefix(affix).unwrap_or(text)));
            }
            "removesuffix" => {
                let (affix,): (&str,) = from_args(args)?;
                return Ok(Value::from(text.strip_suffix(affix).unwrap_or(text)));
            }
            "rsplit" => return rsplit(text, args),
            "join" => {
                let (items,): (Value,) = from_args(args)?;
                return joined(&items, text).map(Value::from);
            }
            "format" if asks_for_width(text) => {
                let detail = "format with a width or precision";
                return Err(Error::new(ErrorKind::InvalidOperation, detail));
            }
            _ => {}
        }
    }
    if name == "copy" && matches!(value.kind(), ValueKind::Map | ValueKind::Seq) {
        return Ok(value.clone());
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// `join`, which may be told an attribute of the items. The library's own counts what it wrote when it is too late.
pub(super) fn join(
    state: &mut State,
    items: &Value,
    between: Option<&str>,
    options: Kwargs,
) -> Result<String, Error> {
    let attribute: Option<Value> = options.get("attribute")?;
    options.assert_all_used()?;
    let between = between.unwrap_or_default();
    match attribute {
        Some(attribute) => {
            let attribute = Kwargs::from_iter([("attribute", attribute)]);
            let items = state.apply_filter("map", &[items.clone(), attribute.into()])?;
            joined(&items, between)
        }
        None => joined(items, between),
    }
}

/// `string`, for the same reason.
pub(super) fn string(value: &Value) -> Result<String, Error> {
    let mut out = Bounded(String::new());
    write!(out, "{value}").map_err(|_| too_long())?;
    Ok(out.0)
}

fn joined(items: &Value, between: &str) -> Result<String, Error> {
    let mut out = Bounded(String::new());
    for (at, item) in items.try_iter()?.enumerate() {
        let between = if at > 0 { between } else { "" };
        write!(out, "{between}{item}").map_err(|_| too_long())?;
    }
    Ok(out.0)
}

/// Text up to the length that a whole rendering may have.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > MAX_RENDERED {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

fn too_long() -> Error {
    let detail = format!("a text of more than {MAX_RENDERED} bytes");
    Error::new(ErrorKind::InvalidOperation, detail)
}

/// Python's `iter(value)` would work: texts are, nothing is not.
pub(super) fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

/// Python's `len(value)` and `value[…]` would work.
pub(super) fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined
    )
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, most): (&str, Option<i64>) = from_args(args)?;
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let pieces = most
        .and_then(|most| usize::try_from(most).ok())
        .map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<&str> = text.rsplitn(pieces, separator).collect();
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

/// A width fills memory with spaces, and no template is known to ask for one.
fn asks_for_width(format: &str) -> bool {
    let fields = format.split('{').skip(1);
    fields
        .map(|rest| rest.split('}').next().unwrap_or_default())
        .any(|field| field.contains(':'))
}
