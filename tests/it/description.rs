//! The served description, as tests walk it: its operations, and values that fit its schemas.

use std::collections::BTreeSet;

use cm_testkit::app::TestApp;
use serde_json::{Map, Value, json};

use crate::common::text;

/// The description as it is served.
pub(crate) struct Description(pub(crate) Value);

/// An operation of it.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// `GET`, `POST` or `DELETE`.
    pub(crate) verb: String,
    /// With the names of its parameters in braces.
    pub(crate) path: String,
    /// As it is described.
    pub(crate) value: Value,
}

impl Operation {
    /// Verb and path.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.verb, self.path)
    }

    /// Its parameters in `query`, `path` or `header`.
    pub(crate) fn parameters(&self, place: &str) -> Vec<&Value> {
        let all = self.value["parameters"].as_array();
        all.into_iter().flatten().filter(|parameter| parameter["in"] == place).collect()
    }

    /// The schema of its body.
    pub(crate) fn body(&self) -> Option<&Value> {
        Some(&self.value["requestBody"]["content"]["application/json"]["schema"])
            .filter(|schema| schema.is_object())
    }
}

impl Description {
    /// Reads it from the server.
    #[track_caller]
    pub(crate) fn read(app: &TestApp) -> Self {
        Self(app.get("/api/openapi.json").expect_status(200).body)
    }

    /// Every operation.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let paths = self.0["paths"].as_object().into_iter().flatten();
        let of_path = |(path, verbs): (&String, &Value)| {
            let verbs = verbs.as_object().cloned().unwrap_or_default();
            let path = path.clone();
            verbs.into_iter().map(move |(verb, value)| Operation {
                verb: verb.to_uppercase(),
                path: path.clone(),
                value,
            })
        };
        paths.flat_map(of_path).collect()
    }

    /// A schema without references at its top.
    pub(crate) fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.resolved(self.0.pointer(&reference[1..]).unwrap()),
            None => schema,
        }
    }

    /// The ways in which a value can fit: the members of `oneOf`, or the schema itself.
    pub(crate) fn ways<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        let schema = self.resolved(schema);
        match schema["oneOf"].as_array() {
            Some(either) => either.iter().flat_map(|one| self.ways(one)).collect(),
            None => vec![schema],
        }
    }

    /// The types that a value may have; none is any.
    pub(crate) fn types(&self, schema: &Value) -> BTreeSet<String> {
        let of_one = |schema: &Value| match &schema["type"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(several) => several.iter().map(text).collect(),
            _ => Vec::new(),
        };
        self.ways(schema).into_iter().flat_map(of_one).collect()
    }

    /// A small value that fits, not `null` where something else does. Objects have what they must
    /// have, and what `everything` adds.
    pub(crate) fn sample(&self, schema: &Value, everything: bool) -> Value {
        let not_null = |way: &&Value| way["type"] != "null";
        let ways = self.ways(schema);
        let Some(schema) = ways.into_iter().find(not_null) else { return Value::Null };
        if let Some(known) = schema["enum"].as_array() {
            return known[0].clone();
        }
        let types = self.types(schema);
        let is = |name: &str| types.contains(name);
        if is("object") || schema["properties"].is_object() {
            return self.object(schema, everything);
        }
        if is("array") {
            let least = schema["minItems"].as_u64().unwrap_or_else(|| u64::from(everything));
            return (0..least).map(|_| self.sample(&schema["items"], everything)).collect();
        }
        if is("string") {
            return json!("a");
        }
        if is("integer") || is("number") {
            return schema.get("minimum").cloned().unwrap_or_else(|| json!(1));
        }
        if is("boolean") { json!(true) } else { json!("anything") }
    }

    fn object(&self, schema: &Value, everything: bool) -> Value {
        let needed = required(schema);
        let properties = schema["properties"].as_object().into_iter().flatten();
        let wanted = properties.filter(|(name, _)| everything || needed.contains(*name));
        let mut object: Map<String, Value> =
            wanted.map(|(name, value)| (name.clone(), self.sample(value, everything))).collect();
        if everything && schema["additionalProperties"].is_object() {
            let value = self.sample(&schema["additionalProperties"], true);
            object.insert("one".to_owned(), value);
        }
        Value::Object(object)
    }
}

/// The members that an object must have.
pub(crate) fn required(schema: &Value) -> BTreeSet<String> {
    schema["required"].as_array().into_iter().flatten().map(text).collect()
}
