//! What version 1's clients rely on, compared with what the program says of itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::fake_app::embedded;

/// `tests/contract/v1.toml`.
#[derive(Deserialize)]
struct Contract {
    operation: Vec<Operation>,
    enums: BTreeMap<String, BTreeSet<String>>,
    schemas: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    verb: String,
    path: String,
    answer: u16,
    #[serde(default)]
    members: BTreeSet<String>,
    #[serde(default)]
    optional: BTreeSet<String>,
    #[serde(default)]
    body: BTreeSet<String>,
    #[serde(default)]
    query: BTreeSet<String>,
    #[serde(default)]
    refusals: BTreeSet<u16>,
    #[serde(default)]
    later: bool,
}

impl Contract {
    fn read() -> Self {
        toml::from_str(include_str!("../contract/v1.toml")).expect("a contract")
    }
}

/// The description that the program serves.
struct Described(Value);

impl Described {
    fn read() -> Self {
        let app = embedded().start();
        Self(app.get("/api/openapi.json").expect_status(200).body)
    }

    /// An operation, whatever its path calls its parameters.
    fn operation(&self, verb: &str, path: &str) -> Option<&Value> {
        let shape = |path: &str| -> Vec<String> {
            let part = |part: &str| if part.starts_with('{') { "{}" } else { part }.to_owned();
            path.split('/').map(part).collect()
        };
        let paths = self.0["paths"].as_object().expect("paths");
        let (_, operations) = paths.iter().find(|(known, _)| shape(known) == shape(path))?;
        operations.get(verb.to_lowercase())
    }

    /// A schema behind its references; one that may be `null` counts as what it is otherwise.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or_default();
            return self.resolve(&self.0["components"]["schemas"][name]);
        }
        let forms = schema["oneOf"].as_array().into_iter().flatten();
        let mut forms = forms.filter(|form| form["type"] != "null");
        match (forms.next(), forms.next()) {
            (Some(form), None) => self.resolve(form),
            _ => schema,
        }
    }

    /// The members that a schema has, and those of them that must be there.
    fn members(&self, schema: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
        let schema = self.resolve(schema);
        let names = |value: &Value| -> BTreeSet<String> {
            value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        let properties = schema["properties"].as_object();
        let mut all: BTreeSet<String> =
            properties.into_iter().flat_map(|p| p.keys().cloned()).collect();
        let mut required = names(&schema["required"]);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let (more, needed) = self.members(part);
            all.extend(more);
            required.extend(needed);
        }
        // One of several forms: only what all of them need is needed.
        let forms = schema["oneOf"].as_array().into_iter().flatten();
        let forms: Vec<_> = forms.map(|form| self.members(form)).collect();
        if let Some((_, first)) = forms.first() {
            let needed = first.iter().filter(|name| forms.iter().all(|(_, n)| n.contains(*name)));
            required.extend(needed.cloned());
            all.extend(forms.iter().flat_map(|(all, _)| all.iter().cloned()));
        }
        (all, required)
    }
}

fn schema_of(content: &Value) -> &Value {
    &content["content"]["application/json"]["schema"]
}

#[test]
fn every_operation_of_version_1_is_there_and_promises_what_it_promised() {
    let (contract, described) = (Contract::read(), Described::read());
    assert_eq!(contract.operation.len(), 71);
    let mut missing = Vec::new();
    for wanted in &contract.operation {
        let name = format!("{} {}", wanted.verb, wanted.path);
        let operation = described.operation(&wanted.verb, &wanted.path);
        let Some(operation) = operation else {
            if !wanted.later {
                missing.push(format!("{name} is not there"));
            }
            continue;
        };
        assert!(!wanted.later, "{name} is there by now");
        let mut expect = |holds: bool, what: String| {
            if !holds {
                missing.push(format!("{name}: {what}"));
            }
        };
        let responses = &operation["responses"];
        let answer = &responses[wanted.answer.to_string()];
        expect(answer.is_object(), format!("no answer {}", wanted.answer));
        let (all, required) = described.members(schema_of(answer));
        let lacking: Vec<_> = wanted.members.difference(&required).collect();
        expect(lacking.is_empty(), format!("the answer need not have {lacking:?}"));
        let lacking: Vec<_> = wanted.optional.difference(&all).collect();
        expect(lacking.is_empty(), format!("the answer never has {lacking:?}"));
        for status in &wanted.refusals {
            expect(responses[status.to_string()].is_object(), format!("no refusal {status}"));
        }
        let (known, needed) = described.members(schema_of(&operation["requestBody"]));
        let unknown: Vec<_> = wanted.body.difference(&known).collect();
        expect(unknown.is_empty(), format!("the body does not know {unknown:?}"));
        let stricter: Vec<_> = needed.difference(&wanted.body).collect();
        expect(stricter.is_empty(), format!("the body must have {stricter:?} as well"));
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters: BTreeSet<String> = parameters
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str().map(str::to_owned))
            .collect();
        let unknown: Vec<_> = wanted.query.difference(&parameters).collect();
        expect(unknown.is_empty(), format!("the query does not know {unknown:?}"));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn what_clients_choose_from_and_read_is_as_in_version_1() {
    let (contract, described) = (Contract::read(), Described::read());
    let schemas = &described.0["components"]["schemas"];
    for (name, values) in &contract.enums {
        let known = schemas[name]["enum"].as_array().into_iter().flatten();
        let known: BTreeSet<String> = known.filter_map(Value::as_str).map(str::to_owned).collect();
        // Some are described value by value, each with its meaning.
        let forms = schemas[name]["oneOf"].as_array().into_iter().flatten();
        let forms = forms.flat_map(|form| form["enum"].as_array().into_iter().flatten());
        let known: BTreeSet<String> =
            forms.filter_map(Value::as_str).map(str::to_owned).chain(known).collect();
        // What is added to a choice is nothing that a client of version 1 must know.
        assert!(known.is_superset(values), "{name}: {}", schemas[name]);
    }
    for (name, members) in &contract.schemas {
        let (_, required) = described.members(&schemas[name]);
        let lacking: Vec<_> = members.difference(&required).collect();
        assert!(lacking.is_empty(), "{name} need not have {lacking:?}");
    }
}
