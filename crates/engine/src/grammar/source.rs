//! A constraint as it was sent: checked for its size and nesting before the compiler sees it.

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use super::problem;
use crate::{Constraint, ConstraintProblem, EngineError, MAX_CONSTRAINT_BYTES};

/// Deepest nesting of brackets: the compiler follows them by recursion. (Brackets inside of strings count, too.)
const MAX_NESTING: usize = 100;

/// White space between two tokens of JSON: enough to indent, and no endless row of spaces, into which small models fall.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,40}";

/// The key under which the compiler takes its own options out of a schema.
const OPTIONS: &str = "x-guidance";

pub(super) fn read(constraint: &Constraint) -> Result<TopLevelGrammar, EngineError> {
    let text = constraint.source();
    if text.len() > MAX_CONSTRAINT_BYTES {
        return Err(problem(ConstraintProblem::TooLong {
            bytes: text.len() as u64,
            cap: MAX_CONSTRAINT_BYTES as u64,
        }));
    }
    if nesting(text) > MAX_NESTING {
        return Err(problem(ConstraintProblem::TooDeep {
            cap: MAX_NESTING as u32,
        }));
    }
    match constraint {
        Constraint::JsonSchema(schema) => Ok(TopLevelGrammar::from_json_schema(options(schema)?)),
        Constraint::Lark(grammar) => Ok(TopLevelGrammar::from_lark(grammar.clone())),
        Constraint::Regex(regex) => Ok(TopLevelGrammar::from_regex(regex)),
    }
}

/// The schema with this engine's options for the compiler, and nobody else's.
fn options(schema: &str) -> Result<Value, EngineError> {
    let schema = serde_json::from_str(schema);
    let schema = schema.map_err(|error| super::refused(&format!("it is no JSON: {error}")))?;
    let mut object = match schema {
        Value::Object(object) => object,
        Value::Bool(true) => serde_json::Map::new(),
        Value::Bool(false)
        | Value::Null
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_) => {
            return Err(super::refused(&"a schema is an object or true"));
        }
    };
    object.insert(
        OPTIONS.to_owned(),
        json!({ "whitespace_pattern": WHITE_SPACE }),
    );
    Ok(Value::Object(object))
}

fn nesting(text: &str) -> usize {
    let mut deepest = 0usize;
    let mut depth = 0usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
