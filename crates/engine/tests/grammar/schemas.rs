//! Schemas to answer by, and a judge of their own kind: whether a value satisfies one.

use serde_json::{Value, json};

pub(super) fn schemas() -> Vec<Value> {
    vec![
        json!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "minLength": 1, "maxLength": 12 },
                "age": { "type": "integer", "minimum": -5, "maximum": 140 },
                "kind": { "enum": ["é", "two words", 3, null] },
                "tags": { "type": "array", "items": { "type": "string", "pattern": "^[a-c]{2,4}$" }, "minItems": 1, "maxItems": 3 }
            },
            "required": ["name", "age", "tags"],
            "additionalProperties": false
        }),
        json!({ "type": "array", "items": { "type": "boolean" }, "maxItems": 4 }),
        json!({ "anyOf": [{ "type": "null" }, { "type": "number", "minimum": 0, "maximum": 1 }] }),
        json!({
            "$defs": { "tree": {
                "type": "object",
                "properties": {
                    "leaf": { "type": "integer" },
                    "below": { "type": "array", "items": { "$ref": "#/$defs/tree" }, "maxItems": 2 }
                },
                "required": ["leaf"],
                "additionalProperties": false
            } },
            "$ref": "#/$defs/tree"
        }),
        json!({ "type": "object", "properties": { "free": true }, "required": ["free"] }),
        json!(true),
    ]
}

/// Whether a value satisfies a schema, as far as the schemas above go.
pub(super) fn satisfies(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else {
        return schema == &json!(true);
    };
    schema
        .iter()
        .all(|(key, rule)| match (key.as_str(), value) {
            ("$ref", _) => {
                let target = root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap());
                satisfies(root, target.unwrap(), value)
            }
            ("anyOf", _) => rule
                .as_array()
                .unwrap()
                .iter()
                .any(|option| satisfies(root, option, value)),
            ("enum", _) => rule.as_array().unwrap().contains(value),
            ("type", _) => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "null" => value.is_null(),
                "number" => value.is_number(),
                "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
                other => panic!("no rule for the type {other}"),
            },
            ("minimum", Value::Number(number)) => number.as_f64() >= rule.as_f64(),
            ("maximum", Value::Number(number)) => number.as_f64() <= rule.as_f64(),
            ("minLength", Value::String(text)) => {
                text.chars().count() as u64 >= rule.as_u64().unwrap()
            }
            ("maxLength", Value::String(text)) => {
                text.chars().count() as u64 <= rule.as_u64().unwrap()
            }
            ("pattern", Value::String(text)) => regex::Regex::new(rule.as_str().unwrap())
                .unwrap()
                .is_match(text),
            ("minItems", Value::Array(items)) => items.len() as u64 >= rule.as_u64().unwrap(),
            ("maxItems", Value::Array(items)) => items.len() as u64 <= rule.as_u64().unwrap(),
            ("items", Value::Array(items)) => items.iter().all(|item| satisfies(root, rule, item)),
            ("properties", Value::Object(object)) => {
                rule.as_object().unwrap().iter().all(|(name, rule)| {
                    object
                        .get(name)
                        .is_none_or(|value| satisfies(root, rule, value))
                })
            }
            ("required", Value::Object(object)) => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|name| object.contains_key(name.as_str().unwrap())),
            ("additionalProperties", Value::Object(object)) => object
                .keys()
                .all(|name| schema["properties"].get(name).is_some()),
            _ => true,
        })
}
