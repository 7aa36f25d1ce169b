//! Answers to the forms of MCP servers.
//!
//! The schema of a form is that of MCP's `elicitation/create` (2025-11-25): an object of texts,
//! numbers, switches and choices, never nested.

use serde_json::{Map, Value};

use super::answer::Misfit;

/// Checks an answer against its form. What a text means (an address, a date) is left to the server.
///
/// # Errors
///
/// [`Misfit`] with the member that is wrong.
pub(super) fn check(schema: &Value, content: &Map<String, Value>) -> Result<(), Misfit> {
    let fields = schema.get("properties").and_then(Value::as_object);
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = name.as_str() else { continue };
        if !content.contains_key(name) {
            return Err(Misfit::new(&format!("content.{name}"), "is required"));
        }
    }
    for (name, value) in content {
        let path = format!("content.{name}");
        let Some(field) = fields.and_then(|fields| fields.get(name)) else {
            return Err(Misfit::new(&path, "is not a member of the form"));
        };
        if let Some(wrong) = wrong(field, value) {
            return Err(Misfit::new(&path, &wrong));
        }
    }
    Ok(())
}

/// What is wrong with a value.
fn wrong(field: &Value, value: &Value) -> Option<String> {
    let limit = |name: &str| field.get(name).and_then(Value::as_f64);
    let outside = |size: f64, least: &str, most: &str| {
        limit(least).is_some_and(|least| size < least)
            || limit(most).is_some_and(|most| size > most)
    };
    // Lengths are far below the 2^52 up to which a float is exact.
    let length = |length: usize| length as f64;
    match field.get("type").and_then(Value::as_str)? {
        "string" => {
            let Some(text) = value.as_str() else { return Some("must be a text".to_owned()) };
            if choices(field).is_some_and(|choices| !choices.contains(&text)) {
                return Some("must be one of the choices".to_owned());
            }
            outside(length(text.chars().count()), "minLength", "maxLength")
                .then(|| "is too short or too long".to_owned())
        }
        word @ ("number" | "integer") => {
            let Some(number) = value.as_f64() else { return Some("must be a number".to_owned()) };
            if word == "integer" && number.fract() != 0.0 {
                return Some("must be a whole number".to_owned());
            }
            outside(number, "minimum", "maximum").then(|| "is too small or too large".to_owned())
        }
        "boolean" => (!value.is_boolean()).then(|| "must be true or false".to_owned()),
        "array" => {
            let Some(values) = value.as_array() else { return Some("must be a list".to_owned()) };
            let choices = field.get("items").and_then(choices);
            let known = |value: &Value| {
                value.as_str().is_some_and(|text| {
                    choices.as_ref().is_none_or(|choices| choices.contains(&text))
                })
            };
            if !values.iter().all(known) {
                return Some("must hold choices only".to_owned());
            }
            outside(length(values.len()), "minItems", "maxItems")
                .then(|| "has too few or too many choices".to_owned())
        }
        _ => None,
    }
}

/// The choices of a field, in each spelling of the schema.
fn choices(field: &Value) -> Option<Vec<&str>> {
    if let Some(choices) = field.get("enum").and_then(Value::as_array) {
        return Some(choices.iter().filter_map(Value::as_str).collect());
    }
    let titled = field.get("oneOf").or_else(|| field.get("anyOf"))?.as_array()?;
    Some(titled.iter().filter_map(|choice| choice.get("const")?.as_str()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_fits_its_form_or_is_refused_by_the_member_that_does_not() {
        let schema = json!({
            "type": "object",
            "properties": {
                "colour": { "type": "string", "enum": ["red", "blue"] },
                "size": { "type": "string", "oneOf": [{ "const": "s", "title": "Small" }] },
                "name": { "type": "string", "minLength": 2, "maxLength": 3 },
                "n": { "type": "integer", "minimum": 1 },
                "x": { "type": "number", "maximum": 0.5 },
                "sure": { "type": "boolean" },
                "tags": { "type": "array", "maxItems": 1, "items": { "enum": ["a", "b"] } },
                "more": { "type": "array", "items": { "anyOf": [{ "const": "c" }] } },
                "new": { "type": "of tomorrow" },
            },
            "required": ["colour"],
        });
        let with = |name: &str, value: Value| {
            let mut content = json!({ "colour": "red" });
            content[name] = value;
            check(&schema, content.as_object().unwrap()).map_err(|misfit| misfit.path)
        };
        for (name, value) in [
            ("size", json!("s")),
            ("name", json!("\u{e4}\u{f6}\u{fc}")),
            ("n", json!(1)),
            ("n", json!(2.0)),
            ("x", json!(-1)),
            ("sure", json!(false)),
            ("tags", json!(["b"])),
            ("more", json!(["c", "c"])),
            ("new", json!({ "any": 1 })),
        ] {
            assert_eq!(with(name, value.clone()), Ok(()), "{name} {value}");
        }
        for (name, value) in [
            ("colour", json!("green")),
            ("colour", json!(null)),
            ("size", json!("Small")),
            ("name", json!("long")),
            ("n", json!(0)),
            ("n", json!(1.5)),
            ("n", json!("1")),
            ("x", json!(1)),
            ("sure", json!("yes")),
            ("tags", json!(["a", "b"])),
            ("tags", json!(["z"])),
            ("more", json!("c")),
            ("other", json!(1)),
        ] {
            assert_eq!(with(name, value.clone()), Err(format!("content.{name}")), "{value}");
        }
        let missing = check(&schema, &Map::new()).unwrap_err();
        assert_eq!(missing.path, "content.colour");
    }
}
