//! The methods of Python's strings, lists and mappings that chat templates lean on.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

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
            // The library's own joins without counting what it writes.
            "join" => {
                let (items,): (Value,) = from_args(args)?;
                return state.apply_filter("join", &[items, value.clone()]);
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
