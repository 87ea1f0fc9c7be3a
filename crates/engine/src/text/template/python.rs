//! The parts of Python that chat templates lean on: methods of strings and mappings, `json.dumps`, `strftime`.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

/// Spaces of one level of indented JSON at most.
const MAX_INDENT: usize = 8;

/// Bytes of one value written as JSON at most.
const MAX_JSON: usize = 1 << 20;

/// Nesting of a value written as JSON at most.
const MAX_DEPTH: usize = 64;

/// A method that Jinja values do not have by themselves.
pub(super) fn method(
    _: &mut State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match (value.kind(), value.as_str()) {
        (_, Some(text)) => string_method(text, name, args),
        (ValueKind::Map, _) => map_method(value, name, args),
        _ => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Error {
    Error::new(
        ErrorKind::UnknownMethod,
        format!("there is no method {name}"),
    )
}

fn string_method(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let set = |args: &[Value]| -> Result<Option<String>, Error> {
        from_args::<(Option<String>,)>(args).map(|args| args.0)
    };
    Ok(match name {
        "strip" => Value::from(strip(text, set(args)?.as_deref(), true, true)),
        "lstrip" => Value::from(strip(text, set(args)?.as_deref(), true, false)),
        "rstrip" => Value::from(strip(text, set(args)?.as_deref(), false, true)),
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "capitalize" => Value::from(capitalize(text)),
        "title" => Value::from(title(text)),
        "startswith" => Value::from(any_affix(args, |affix| text.starts_with(affix))?),
        "endswith" => Value::from(any_affix(args, |affix| text.ends_with(affix))?),
        "removeprefix" => {
            let (affix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(affix).unwrap_or(text))
        }
        "removesuffix" => {
            let (affix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(affix).unwrap_or(text))
        }
        "replace" => {
            let (old, new, count): (&str, &str, Option<usize>) = from_args(args)?;
            Value::from(text.replacen(old, new, count.unwrap_or(usize::MAX)))
        }
        "split" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            let pieces = most
                .and_then(|most| usize::try_from(most).ok())
                .map_or(usize::MAX, |most| most.saturating_add(1));
            match separator {
                Some("") => {
                    return Err(Error::new(ErrorKind::InvalidOperation, "split by nothing"));
                }
                Some(separator) => text.splitn(pieces, separator).map(Value::from).collect(),
                None => text.split_whitespace().map(Value::from).collect(),
            }
        }
        "rsplit" => {
            let (separator, most): (&str, Option<i64>) = from_args(args)?;
            let pieces = most
                .and_then(|most| usize::try_from(most).ok())
                .map_or(usize::MAX, |most| most.saturating_add(1));
            let mut parts: Vec<&str> = text.rsplitn(pieces, separator).collect();
            parts.reverse();
            parts.into_iter().map(Value::from).collect()
        }
        "splitlines" => text.lines().map(Value::from).collect(),
        "find" => {
            let (what,): (&str,) = from_args(args)?;
            let at = text.find(what).map(|at| text[..at].chars().count() as i64);
            Value::from(at.unwrap_or(-1))
        }
        "count" => {
            let (what,): (&str,) = from_args(args)?;
            Value::from(if what.is_empty() {
                text.chars().count() + 1
            } else {
                text.matches(what).count()
            })
        }
        "join" => {
            let (items,): (Value,) = from_args(args)?;
            let items: Vec<String> = items.try_iter()?.map(|item| item.to_string()).collect();
            Value::from(items.join(text))
        }
        "isdigit" => Value::from(
            !text.is_empty() && text.chars().all(|character| character.is_ascii_digit()),
        ),
        "isspace" => Value::from(!text.is_empty() && text.chars().all(char::is_whitespace)),
        _ => return Err(unknown(name)),
    })
}

fn map_method(map: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let pairs = || -> Result<Vec<(Value, Value)>, Error> {
        map.try_iter()?
            .map(|key| Ok((key.clone(), map.get_item(&key)?)))
            .collect()
    };
    Ok(match name {
        "get" => {
            let (key, otherwise): (Value, Option<Value>) = from_args(args)?;
            let found = map.get_item(&key)?;
            if found.is_undefined() {
                otherwise.unwrap_or(Value::from(()))
            } else {
                found
            }
        }
        "items" => pairs()?
            .into_iter()
            .map(|(key, value)| Value::from(vec![key, value]))
            .collect(),
        "keys" => pairs()?.into_iter().map(|(key, _)| key).collect(),
        "values" => pairs()?.into_iter().map(|(_, value)| value).collect(),
        _ => return Err(unknown(name)),
    })
}

fn strip<'t>(text: &'t str, set: Option<&str>, start: bool, end: bool) -> &'t str {
    let drops =
        |character: char| set.map_or(character.is_whitespace(), |set| set.contains(character));
    let text = if start {
        text.trim_start_matches(drops)
    } else {
        text
    };
    if end {
        text.trim_end_matches(drops)
    } else {
        text
    }
}

fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first
        .chain(characters.flat_map(char::to_lowercase))
        .collect()
}

fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if inside {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        inside = character.is_alphabetic();
    }
    out
}

/// `startswith` and `endswith` take a text or several.
fn any_affix(args: &[Value], matches: impl Fn(&str) -> bool) -> Result<bool, Error> {
    let (affix,): (Value,) = from_args(args)?;
    match affix.as_str() {
        Some(affix) => Ok(matches(affix)),
        None => Ok(affix
            .try_iter()?
            .any(|affix| affix.as_str().is_some_and(&matches))),
    }
}

/// JSON as Python writes it: `", "` and `": "` between things, nothing escaped that JSON does not require.
pub(super) fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Other options of `json.dumps` (ensure_ascii, sort_keys) do not change what models were trained on here.
    let mut out = String::new();
    write_json(
        &value,
        indent.map(|indent| indent.min(MAX_INDENT)),
        0,
        &mut out,
    )?;
    Ok(out)
}

fn write_json(
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "too deep for JSON"));
    }
    let line = |depth: usize, out: &mut String| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    let between = if indent.is_some() { "," } else { ", " };
    // Equal parts of a value may be shared, so that a small one is written at exponential length.
    if out.len() > MAX_JSON {
        return Err(Error::new(ErrorKind::InvalidOperation, "too long for JSON"));
    }
    let kind = value.kind();
    let mut any = false;
    let mut begin = |out: &mut String| {
        out.push_str(if any { between } else { "" });
        line(depth + 1, out);
        any = true;
    };
    if matches!(kind, ValueKind::Seq | ValueKind::Iterable) {
        out.push('[');
        for item in value.try_iter()? {
            begin(out);
            write_json(&item, indent, depth + 1, out)?;
        }
        if any {
            line(depth, out);
        }
        out.push(']');
    } else if kind == ValueKind::Map {
        out.push('{');
        for key in value.try_iter()? {
            begin(out);
            out.push_str(&json_scalar(&Value::from(key.to_string()))?);
            out.push_str(": ");
            write_json(&value.get_item(&key)?, indent, depth + 1, out)?;
        }
        if any {
            line(depth, out);
        }
        out.push('}');
    } else {
        out.push_str(&json_scalar(value)?);
    }
    Ok(())
}

fn json_scalar(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return serde_json::to_string(text)
            .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()));
    }
    let kind = value.kind();
    if matches!(kind, ValueKind::Undefined | ValueKind::None) {
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

/// Formats seconds since 1970 (UTC).
pub(super) fn strftime(seconds: u64, format: &str) -> Result<String, Error> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = [
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
        "Monday",
        "Tuesday",
        "Wednesday",
    ];
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let weekday = DAYS[(days % 7) as usize];
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let name = MONTHS[month as usize - 1];
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        // Writing into a string cannot fail.
        let written = match letters.next() {
            Some('d') => write!(out, "{day:02}"),
            Some('e') => write!(out, "{day:2}"),
            Some('-') if letters.next() == Some('d') => write!(out, "{day}"),
            Some('m') => write!(out, "{month:02}"),
            Some('Y') => write!(out, "{year}"),
            Some('y') => write!(out, "{:02}", year % 100),
            Some('B') => write!(out, "{name}"),
            Some('b') => write!(out, "{}", &name[..3]),
            Some('A') => write!(out, "{weekday}"),
            Some('a') => write!(out, "{}", &weekday[..3]),
            Some('H') => write!(out, "{hour:02}"),
            Some('M') => write!(out, "{minute:02}"),
            Some('S') => write!(out, "{second:02}"),
            Some('F') => write!(out, "{year}-{month:02}-{day:02}"),
            Some('T') => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            Some('%') => write!(out, "%"),
            other => {
                let detail = format!("strftime_now does not know %{}", other.unwrap_or(' '));
                return Err(Error::new(ErrorKind::InvalidOperation, detail));
            }
        };
        written.map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    }
    Ok(out)
}

/// Year, month and day of a day counted from 1970-01-01, by counting months of 400-year cycles from March on.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970_FROM_MARCH_OF_YEAR_0: u64 = 719_468;
    let days = days + DAYS_TO_1970_FROM_MARCH_OF_YEAR_0;
    let (cycle, of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle =
        (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(
            strftime(1_794_873_600, "%a %d %b %Y %H:%M").unwrap(),
            "Tue 17 Nov 2026 00:00"
        );
    }
}
