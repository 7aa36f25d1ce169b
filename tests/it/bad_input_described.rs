//! Bad input for every operation, made from the served description: no operation and no member can be
//! forgotten. Whatever is wrong, the answer is a 4xx with a code and a sentence, and names the member, whichever runtime
//! is behind it.

use cm_testkit::app::TestApp;
use cm_testkit::http::Reply;
use serde_json::{Value, json};

use crate::bad_input::{is_refusal, still_works};
use crate::common::{Bench, Kind, over_runtimes};
use crate::description::{Description, Operation, required};
use crate::fake_app::create;

over_runtimes!(whatever_is_wrong_is_refused_and_named);

/// Operations whose body is not looked at while there is no queue, as in version 1.
const UNREAD: [&str; 3] = [
    "POST /api/sessions/{id}/suggested-request",
    "POST /api/sessions/{id}/suggested-request/jobs",
    "POST /api/sessions/{id}/suggested-request/upsert",
];

/// Bound of a body, with room for every member that is one character too long.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The server and what paths can name.
struct Target {
    bench: Bench,
    description: Description,
    session: String,
    project: String,
}

impl Target {
    fn start(kind: Kind) -> Self {
        let most = MOST_BYTES.to_string();
        let bench =
            Bench::start_with(kind, |builder| builder.env("CODEX_MANAGER_MAX_BODY_BYTES", most));
        let app = &bench.app;
        let description = Description::read(app);
        let session = create(app);
        let made = app.post("/api/projects", json!({ "name": "one" })).expect_status(200);
        let project = made.body["project"]["projectId"].as_str().unwrap().to_owned();
        Self { bench, description, session, project }
    }

    fn app(&self) -> &TestApp {
        &self.bench.app
    }

    /// A path that names what is there, with one parameter in another way.
    fn path(&self, operation: &Operation, other: Option<(&str, &str)>) -> String {
        let mut path = operation.path.clone();
        for parameter in operation.parameters("path") {
            let name = parameter["name"].as_str().unwrap();
            let usual = match (name, path.starts_with("/api/projects/")) {
                ("id", false) if path.starts_with("/api/sessions/") => self.session.as_str(),
                ("id" | "projectId", true) => self.project.as_str(),
                _ => "one",
            };
            // The project of a session goes by the session's id.
            let value = other.filter(|(which, _)| *which == name).map_or(usual, |(_, value)| value);
            path = path.replace(&format!("{{{name}}}"), value);
        }
        path
    }

    fn send(&self, operation: &Operation, path: &str, body: Option<&str>) -> Reply {
        let kind = [("Content-Type", "application/json")];
        let headers = if body.is_some() { &kind[..] } else { &[] };
        self.app().request(&operation.verb, path, headers, body.map(str::as_bytes))
    }

    /// Operations with a body that is read, and that body's schema.
    fn with_body(&self) -> Vec<(Operation, Value)> {
        let all = self.description.operations().into_iter();
        let read = all.filter(|operation| !UNREAD.contains(&operation.name().as_str()));
        read.filter_map(|operation| {
            let schema = operation.body()?.clone();
            Some((operation, schema))
        })
        .collect()
    }

    /// Sends a body that is wrong at `at` and checks that the answer says so.
    #[track_caller]
    fn is_refused(&self, operation: &Operation, body: &Value, at: &str, why: &str) {
        let reply = self.send(operation, &self.path(operation, None), Some(&body.to_string()));
        let shown: String = body.to_string().chars().take(200).collect();
        let what = format!("{}: {why} `{at}` in {shown}", operation.name());
        is_refusal(&reply, &what);
        assert_eq!(reply.body["code"], "invalid_request", "{what}: {}", reply.text);
        let issue = &reply.body["issues"][0];
        // An item of a list is named by the list at least.
        let is_name = |part: &&str| part.parse::<usize>().is_err();
        let member = at.rsplit('.').find(is_name).unwrap_or_default();
        let path = issue["path"].as_array();
        let in_path = path.is_some_and(|path| path.iter().any(|part| part == member));
        let in_words = issue["message"].as_str().is_some_and(|text| text.contains(member));
        assert!(in_path || in_words, "{what} is not named: {}", reply.text);
    }
}

/// One change of a body: where, why it is wrong, and the value in its place (`None`: it is missing).
struct Change {
    at: Vec<String>,
    why: &'static str,
    value: Option<Value>,
}

/// Every way in which a value can be wrong against its schema, and texts without a bound.
struct Changes<'a> {
    description: &'a Description,
    found: Vec<Change>,
    unbounded: Vec<String>,
}

impl Changes<'_> {
    fn add(&mut self, at: &[String], why: &'static str, value: impl Into<Option<Value>>) {
        self.found.push(Change { at: at.to_vec(), why, value: value.into() });
    }

    /// Of a value that stands in `body` at `at`; what is not there is not looked into.
    fn of(&mut self, schema: &Value, body: &Value, at: &[String]) {
        let description = self.description;
        let types = description.types(schema);
        let mut strange = [
            json!({ "strange": [] }),
            json!([[7]]),
            json!(true),
            json!(-7.5),
            json!("\u{1}strange"),
        ]
        .into_iter();
        let is_strange = |value: &Value| {
            let kind = match value {
                Value::Object(_) => "object",
                Value::Array(_) => "array",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "integer",
                _ => "string",
            };
            let also = (kind == "integer").then_some("number");
            !types.contains(kind) && !also.is_some_and(|also| types.contains(also))
        };
        if !types.is_empty() && !at.is_empty() {
            let value = strange.find(is_strange);
            self.add(at, "the wrong type of", value);
        }
        for way in description.ways(schema) {
            if way["enum"].is_array() || way["pattern"].is_string() && !at.is_empty() {
                self.add(at, "an unknown value of", json!("no such value"));
            } else if way["type"] == "string" || way["type"][0] == "string" {
                match way["maxLength"].as_u64() {
                    Some(most) => {
                        let long = "a".repeat(usize::try_from(most).unwrap() + 1);
                        self.add(at, "a text too long for", json!(long));
                    }
                    None => self.unbounded.push(at.join(".")),
                }
            }
            if let Some(least) = way["minimum"].as_i64() {
                self.add(at, "too small a number for", json!(least - 1));
            }
            if let Some(most) = way["maximum"].as_i64() {
                self.add(at, "too large a number for", json!(most + 1));
            }
            self.of_array(way, body, at);
            self.of_object(way, body, at);
        }
    }

    fn of_array(&mut self, way: &Value, body: &Value, at: &[String]) {
        if !way["items"].is_object() {
            return;
        }
        match way["maxItems"].as_u64() {
            Some(most) => {
                let item = self.description.sample(&way["items"], false);
                let many: Value = (0..=most).map(|_| item.clone()).collect();
                self.add(at, "too many items in", many);
            }
            None => self.unbounded.push(at.join(".")),
        }
        if let Some(item) = body.get(0) {
            self.of(&way["items"], item, &[at, &["0".to_owned()]].concat());
        }
    }

    fn of_object(&mut self, way: &Value, body: &Value, at: &[String]) {
        for name in required(way) {
            if body.get(&name).is_some() {
                self.add(&[at, &[name]].concat(), "without", None);
            }
        }
        for (name, schema) in way["properties"].as_object().into_iter().flatten() {
            if let Some(value) = body.get(name) {
                self.of(schema, value, &[at, std::slice::from_ref(name)].concat());
            }
        }
        if let Some(value) = body.get("one") {
            self.of(&way["additionalProperties"], value, &[at, &["one".to_owned()]].concat());
        }
    }
}

/// The body with one change.
fn changed(body: &Value, change: &Change) -> Value {
    let mut body = body.clone();
    let (last, before) = change.at.split_last().unwrap();
    let mut place = &mut body;
    for part in before {
        place = match part.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[part],
        };
    }
    match (&change.value, last.parse::<usize>()) {
        (Some(value), Ok(index)) => place[index] = value.clone(),
        (Some(value), Err(_)) => place[last] = value.clone(),
        (None, _) => {
            place.as_object_mut().unwrap().remove(last);
        }
    }
    body
}

/// Bodies that fit, one for each way; members that exclude one another are left out.
fn bodies(target: &Target, operation: &Operation, schema: &Value) -> Vec<(Value, Value)> {
    let ways = target.description.ways(schema).into_iter();
    ways.map(|way| {
        let mut body = target.description.sample(way, true);
        match operation.path.as_str() {
            "/api/sessions/{id}/settings" => {
                body.as_object_mut().unwrap().remove("settings");
            }
            // A folder that is there, and no tools: sessions are made with it.
            "/api/sessions" => body["cwd"] = json!(target.app().workspace()),
            "/api/sessions/{id}/project" => body["projectId"] = json!(target.project),
            _ => {}
        }
        (way.clone(), body)
    })
    .collect()
}

fn whatever_is_wrong_is_refused_and_named(kind: Kind) {
    let target = Target::start(kind);
    every_member_of_every_body_is_checked_and_named(&target);
    bodies_that_are_none_are_refused_by_every_operation(&target);
    every_member_of_every_query_is_checked_and_named(&target);
    names_in_paths_that_name_nothing_are_refused_by_every_operation(&target);
    still_works(target.app());
}

fn every_member_of_every_body_is_checked_and_named(target: &Target) {
    let (mut operations, mut tried) = (0, 0);
    for (operation, schema) in target.with_body() {
        for (way, body) in bodies(target, &operation, &schema) {
            // Codex would do it: sign in, run commands, send feedback to its makers.
            if !target.bench.kind.is_codex() {
                let path = target.path(&operation, None);
                let fits = target.send(&operation, &path, Some(&body.to_string()));
                let what = format!("{} {body}: {}", operation.name(), fits.text);
                assert!(fits.body["code"] != "invalid_request" && fits.status != 500, "{what}");
            }
            let mut changes = Changes {
                description: &target.description,
                found: Vec::new(),
                unbounded: Vec::new(),
            };
            changes.of(&way, &body, &[]);
            assert_eq!(changes.unbounded, Vec::<String>::new(), "no bound: {}", operation.name());
            for change in &changes.found {
                let wrong = changed(&body, change);
                target.is_refused(&operation, &wrong, &change.at.join("."), change.why);
                tried += 1;
            }
        }
        operations += 1;
    }
    assert!(operations >= 30 && tried >= 200, "{operations} operations, {tried} changes");
}

fn bodies_that_are_none_are_refused_by_every_operation(target: &Target) {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let large = json!({ "padding": "a".repeat(MOST_BYTES) }).to_string();
    for (operation, schema) in target.with_body() {
        let path = target.path(&operation, None);
        let name = operation.name();
        let refused = |body: &str, status: u16, code: &str| {
            let reply = target.send(&operation, &path, Some(body));
            is_refusal(&reply, &name);
            let said = (reply.status, reply.body["code"].as_str());
            assert_eq!(said, (status, Some(code)), "{name}: {}", reply.text);
        };
        refused(&large, 413, "too_large");
        for body in ["", "{", "no", "{\"a\":1} more", &deep] {
            refused(body, 400, "request_failed");
        }
        let nested = format!("{{\"a\":{deep}}}");
        refused(&nested, 400, "request_failed");
        refused("[]", 400, "invalid_request");
        for kind in ["text/html", "application/x-www-form-urlencoded", "application/xml"] {
            let reply = target.app().request("POST", &path, &[("Content-Type", kind)], Some(b"{}"));
            is_refusal(&reply, &name);
            assert_eq!(reply.body["code"], "unsupported_media_type", "{name}: {}", reply.text);
        }
        for (way, body) in bodies(target, &operation, &schema) {
            let members = body.as_object().unwrap();
            let known = |member: &&String| way["properties"].get(member.as_str()).is_some();
            for member in members.keys().filter(known) {
                let value = &body[member];
                let text = body.to_string();
                let twice = format!("{},\"{member}\":{value}}}", &text[..text.len() - 1]);
                let reply = target.send(&operation, &path, Some(&twice));
                let what = format!("{name}: `{member}` twice");
                is_refusal(&reply, &what);
                assert_eq!(reply.status, 400, "{what}: {}", reply.text);
                assert!(reply.body["issues"][0].to_string().contains(member), "{}", reply.text);
            }
        }
    }
}

fn every_member_of_every_query_is_checked_and_named(target: &Target) {
    let mut tried = 0;
    for operation in target.description.operations() {
        if is_stream(&operation) {
            continue;
        }
        let path = target.path(&operation, None);
        for broken in ["%", "a=%zz", "a=%ff", "%ff=a", "a=%00"] {
            let reply = target.send(&operation, &format!("{path}?{broken}"), None);
            is_refusal(&reply, &format!("{} {broken}", operation.name()));
        }
        for parameter in operation.parameters("query") {
            let name = parameter["name"].as_str().unwrap();
            let mut changes = Changes {
                description: &target.description,
                found: Vec::new(),
                unbounded: Vec::new(),
            };
            changes.of(&parameter["schema"], &Value::Null, &[name.to_owned()]);
            assert_eq!(changes.unbounded, Vec::<String>::new(), "no bound: {}", operation.name());
            let mut values: Vec<String> = Vec::new();
            let types = target.description.types(&parameter["schema"]);
            for change in changes.found {
                match change.value {
                    // Whatever stands in a query is a text.
                    Some(_) if change.why.contains("type") && types.contains("string") => {}
                    Some(Value::String(text)) => values.push(text.replace(' ', "%20")),
                    Some(value) => values.push(value.to_string().replace(['{', '}', '"'], "x")),
                    None => {}
                }
            }
            if ["cursor", "before"].contains(&name) {
                // Those of the runtime's own lists only the runtime can tell.
                if operation.path.starts_with("/api/sessions") {
                    values.push("nonsense".to_owned());
                }
                values.push(String::new());
            }
            values.push(format!("a&{name}=b"));
            for value in values {
                let reply = target.send(&operation, &format!("{path}?{name}={value}"), None);
                let short: String = value.chars().take(60).collect();
                let what = format!("{} {name}={short}", operation.name());
                is_refusal(&reply, &what);
                assert_eq!(reply.body["code"], "invalid_request", "{what}: {}", reply.text);
                assert_eq!(
                    reply.body["issues"][0]["path"],
                    json!([name]),
                    "{what}: {}",
                    reply.text
                );
                tried += 1;
            }
        }
    }
    assert!(tried >= 60, "{tried}");
}

fn names_in_paths_that_name_nothing_are_refused_by_every_operation(target: &Target) {
    let long = "a".repeat(5_000);
    let mut tried = 0;
    for operation in target.description.operations() {
        if is_stream(&operation) {
            continue;
        }
        let schema = operation.body();
        let body = schema.map(|schema| target.description.sample(schema, false).to_string());
        for parameter in operation.parameters("path") {
            let name = parameter["name"].as_str().unwrap();
            for id in ["%", "%zz", "%ff", "%00", "a%00b", "__proto__", "constructor", &long] {
                let path = target.path(&operation, Some((name, id)));
                let reply = target.send(&operation, &path, body.as_deref());
                let short: String = id.chars().take(20).collect();
                let what = format!("{} {name}={short}", operation.name());
                assert!(reply.status != 500, "{what}: {}", reply.text);
                if id.contains('%') {
                    is_refusal(&reply, &what);
                    assert_eq!(reply.status, 404, "{what}: {}", reply.text);
                } else if name == "id" && !lists_nothing(&operation) {
                    is_refusal(&reply, &what);
                    let fits = matches!(reply.status, 404 | 400);
                    assert!(fits, "{what}: {} {}", reply.status, reply.text);
                    if body.is_none() {
                        assert_eq!(reply.status, 404, "{what}: {}", reply.text);
                    }
                }
                tried += 1;
            }
        }
    }
    assert!(tried >= 200, "{tried}");
}

/// Streams do not end; the suites of the stream have what they refuse.
fn is_stream(operation: &Operation) -> bool {
    ["/api/stream", "/api/events"].contains(&operation.path.as_str())
        || operation.path.ends_with("/events")
}

/// Lists of a session that does not exist are empty in version 1.
fn lists_nothing(operation: &Operation) -> bool {
    ["/approvals", "/tool-input", "/tool-calls"].iter().any(|end| operation.path.ends_with(end))
}

/// Bytes of an address that the HTTP server reads; it refuses a longer one before the API sees it.
const LONGEST_ADDRESS: usize = 65_534;

#[test]
fn texts_as_long_as_they_may_be_fit_into_an_address() {
    let target = Target::start(Kind::Embedded);
    // Four bytes in UTF-8, three characters for each.
    let widest = "%F0%9F%A6%80";
    for operation in target.description.operations() {
        let path = target.path(&operation, None);
        let pair = |parameter: &&Value| {
            let name = parameter["name"].as_str().unwrap();
            let schema = &parameter["schema"];
            let most = match schema["maxLength"].as_u64() {
                Some(most) => usize::try_from(most).unwrap(),
                // Numbers, words of a list, `true`.
                None if schema["type"] == "string" && schema["enum"].is_null() => {
                    panic!("{}: {name} has no bound", operation.name())
                }
                None => 2,
            };
            format!("{name}={}", widest.repeat(most))
        };
        let pairs: Vec<String> = operation.parameters("query").iter().map(pair).collect();
        let address = format!("{path}?{}", pairs.join("&"));
        assert!(address.len() < LONGEST_ADDRESS, "{}: {}", operation.name(), address.len());
    }
    let longest = |bytes: usize| {
        let path = "/api/sessions?q=";
        format!("{path}{}", "a".repeat(bytes - path.len()))
    };
    is_refusal(&target.app().get(&longest(LONGEST_ADDRESS)), "the longest address");
    let beyond = target.app().get(&longest(LONGEST_ADDRESS + 1));
    assert_eq!((beyond.status, beyond.text.as_str()), (400, ""));
    still_works(target.app());
}
