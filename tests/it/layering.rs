//! The direction of knowledge, and rules over the sources that no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cm_core::error::ErrorCode;
use serde_json::Value;

/// Longest file, its tests included.
const MOST_LINES: usize = 500;

/// The folders that hold the product.
const PRODUCT: [&str; 3] = ["src", "actors", "routes"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below a folder of the repository.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether a whole file is compiled for tests only.
fn is_test_file(path: &Path) -> bool {
    let inside = path.strip_prefix(root()).unwrap_or(path);
    inside.iter().filter_map(|part| part.to_str()).any(|part| {
        let stem = part.trim_end_matches(".rs");
        stem == "tests" || stem == "testing" || stem.ends_with("_tests")
    })
}

/// The code of a file without comments, and without the tests that it ends with.
fn code(path: &Path) -> String {
    if is_test_file(path) {
        return String::new();
    }
    let text = read(path);
    let product = match text.find("#[cfg(test)]\nmod tests {") {
        Some(end) => &text[..end],
        None => text.as_str(),
    };
    let lines = product.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Asserts that none of the words stands in the code of the folders.
#[track_caller]
fn assert_absent(folders: &[&str], words: &[&str], why: &str) {
    let mut found = Vec::new();
    for path in folders.iter().flat_map(|folder| sources(folder)) {
        let code = code(&path);
        for word in words.iter().filter(|word| code.contains(**word)) {
            found.push(format!("{}: {word}", path.display()));
        }
    }
    assert!(found.is_empty(), "{why}: {found:#?}");
}

/// The dependencies of each of our crates, by package name, those of tests left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let listed = package["dependencies"].as_array().expect("a list");
            let of_product = listed.iter().filter(|dependency| dependency["kind"] != "dev");
            (name(package), of_product.map(name).collect())
        })
        .collect()
}

const CORE: &str = "codex-manager-core";
const PROCESS: &str = "codex-manager-process";
const RUNTIME: &str = "codex-manager-runtime";
const CLI: &str = "codex-manager-cli";
const ACTORS: &str = "codex-manager-actors";
const ROUTES: &str = "codex-manager-routes";
const PROGRAM: &str = "codex-manager";
const TESTKIT: &str = "codex-manager-testkit";
const LOAD: &str = "codex-manager-load";

#[test]
fn crates_know_only_what_is_below_them() {
    let allowed: [(&str, &[&str]); 9] = [
        (CORE, &[]),
        (PROCESS, &[CORE]),
        (RUNTIME, &[CORE, PROCESS]),
        (ACTORS, &[CORE, PROCESS]),
        (ROUTES, &[CORE, ACTORS]),
        (CLI, &[CORE]),
        (PROGRAM, &[CORE, PROCESS, RUNTIME, ACTORS, ROUTES, CLI]),
        // A test tool; nothing of the product may know it, and it knows the wire alone.
        (TESTKIT, &[CORE]),
        // It measures from outside what any manager does.
        (LOAD, &[TESTKIT]),
    ];
    let all = dependencies();
    let names: BTreeSet<&str> = all.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = allowed.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known, "a crate without a place in the house");
    for (name, below) in allowed {
        let ours = all[name].iter().map(String::as_str).filter(|one| names.contains(one));
        let above: Vec<&str> = ours.filter(|one| !below.contains(one)).collect();
        assert!(above.is_empty(), "{name} knows {above:?}");
    }
}

#[test]
fn crates_stay_away_from_what_is_not_theirs() {
    let banned: [(&str, &[&str]); 5] = [
        (CORE, &["actix", "actix-web", "actix-rt", "tokio", "sled", "nix", "ureq", "rand"]),
        (PROCESS, &["actix", "actix-web", "sled", "ureq", "tungstenite"]),
        (ACTORS, &["actix-web", "actix-http", "actix-web-actors", "ureq", "tungstenite"]),
        (ROUTES, &["sled", "ureq", "tungstenite"]),
        (CLI, &["actix", "actix-web", "sled", "tokio"]),
    ];
    let all = dependencies();
    for (name, banned) in banned {
        let known: Vec<&&str> = banned.iter().filter(|one| all[name].contains(**one)).collect();
        assert!(known.is_empty(), "{name} depends on {known:?}");
    }
    for (name, dependencies) in &all {
        for client in ["reqwest", "hyper", "awc", "async-openai"] {
            assert!(!dependencies.contains(client), "{name} depends on {client}");
        }
    }
}

#[test]
fn models_are_called_and_tools_run_by_the_app_server_alone() {
    let words = [
        "process::Command",
        "Command::new",
        "reqwest",
        "ureq",
        "hyper::",
        "/v1/responses",
        "api.openai.com",
        "/bin/sh",
        "TcpStream::connect",
    ];
    let folders = ["src/core", "actors", "routes"];
    assert_absent(&folders, &words, "model calls and tools stay out of the manager");
}

#[test]
fn the_ground_floor_does_nothing_by_itself() {
    let words =
        ["std::fs", "std::net", "std::thread", "SystemTime::now", "Instant::now", "std::env"];
    assert_absent(&["src/core"], &words, "core has no input, no output and no clock");
}

#[test]
fn routes_do_not_see_the_store() {
    let words = ["cm_actors::store", "StoreHandle", "sled"];
    assert_absent(&["routes"], &words, "routes ask actors");
}

#[test]
fn no_file_is_too_long() {
    let mut long = Vec::new();
    for path in PRODUCT.iter().chain(&["tests"]).flat_map(|folder| sources(folder)) {
        let lines = read(&path).lines().count();
        if lines > MOST_LINES {
            long.push(format!("{}: {lines}", path.display()));
        }
    }
    assert!(long.is_empty(), "over {MOST_LINES} lines: {long:#?}");
}

#[test]
fn nothing_is_unwrapped_outside_of_tests() {
    assert_absent(
        &PRODUCT,
        &[".unwrap()", "todo!(", "unimplemented!("],
        "no input may end the program",
    );
}

#[test]
fn every_error_code_has_its_page() {
    let folder = root().join("docs/errors");
    let index = read(&folder.join("README.md"));
    let mut expected: BTreeSet<String> = BTreeSet::from(["README.md".to_owned()]);
    for code in ErrorCode::ALL {
        let page = format!("{code}.md");
        assert!(index.contains(&format!("]({page})")), "the index does not link {page}");
        let text = read(&folder.join(&page));
        assert!(text.contains(code.as_str()), "{page} does not name its code");
        let status = code.row().status.to_string();
        assert!(text.contains(&status) || index.contains(&format!("| {status} |")), "{page}");
        expected.insert(page);
    }
    let entries = std::fs::read_dir(&folder).expect("docs/errors");
    let found =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    assert_eq!(found.collect::<BTreeSet<_>>(), expected, "pages of no code, or codes of no page");
}

/// The words that stand in `code` without being codes of the table: version 1's for decisions and steers, what keeps a
/// server or a session from working, the command line's own.
fn words_of_codes() -> BTreeMap<String, PathBuf> {
    // Where such a word is made, and how far behind it stands.
    let makers = [
        (".named(", ")"),
        ("(Some(\"", ")"),
        ("set_problem(", ","),
        ("Reason { code: ", ","),
        ("add(", ","),
        ("let code = if", ";"),
        ("fn steer_failure", "SteerFailure { status"),
        ("fn code(&self) -> &str {\n        match self {\n            Self", "\n    }"),
    ];
    let mut found = BTreeMap::new();
    for path in ["actors", "routes", "src/cli"].iter().flat_map(|folder| sources(folder)) {
        let code = code(&path);
        for (maker, end) in makers {
            for (at, _) in code.match_indices(maker) {
                let rest = &code[at + maker.trim_end_matches('"').len()..];
                let length = rest.find(end).map_or(rest.len(), |length| length + 1);
                for word in rest[..length].split('"').skip(1).step_by(2) {
                    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
                    // Elsewhere a single word is a member of a set, or a part of the manager.
                    let is_code =
                        word.contains('_') || maker.contains("fn ") || maker.contains("Some");
                    if word.chars().all(is_word) && is_code {
                        found.insert(word.to_owned(), path.clone());
                    }
                }
            }
        }
    }
    found
}

#[test]
fn every_word_of_a_code_is_explained() {
    let words = words_of_codes();
    for known in [
        "in_flight",
        "already_decided",
        "expired",
        "not_eligible",
        "runtime_failed",
        "resume_failed",
        "nobody_to_ask",
    ] {
        assert!(words.contains_key(known), "the sources are not read any more: no `{known}`");
    }
    let pages = ["errors/README.md", "protocol/rest.md", "operations/supervision.md"];
    let pages: String = pages.iter().map(|page| read(&root().join("docs").join(page))).collect();
    let is_explained = |word: &str| {
        let is_code = ErrorCode::ALL.iter().any(|code| code.as_str() == word);
        is_code || pages.contains(&format!("\n| `{word}` |"))
    };
    let unknown: Vec<_> = words.iter().filter(|(word, _)| !is_explained(word)).collect();
    assert!(unknown.is_empty(), "no row in docs: {unknown:?}");
}

#[test]
fn the_sources_have_what_this_file_looks_for() {
    // If a crate were renamed or a folder moved, the scans above would pass without looking.
    assert!(sources("src/core").iter().any(|path| path.ends_with("src/core/error.rs")));
    assert!(code(&root().join("src/process/launch.rs")).contains("Command"));
    assert!(!code(&root().join("src/core/error.rs")).contains("fn codes_are_unique"));
    assert!(is_test_file(&root().join("src/runtime/wire_tests/turns.rs")));
    assert!(!is_test_file(&root().join("src/runtime/turn/run.rs")));
}
