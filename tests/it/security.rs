//! Nobody gets in from another origin, under a foreign name, or without the token where one is
//! needed.

use std::os::unix::fs::PermissionsExt;

use cm_testkit::app::{AppBuilder, StreamOptions, TestApp};
use cm_testkit::http::Reply;
use cm_testkit::process::wait_until;
use serde_json::json;

use crate::common::{DEADLINE, text};
use crate::fake_app::{embedded, refused};

pub(crate) const TOKEN: &str = "a-token-of-the-integration-suite";

type Headers<'a> = &'a [(&'a str, &'a str)];

fn read(app: &TestApp, headers: Headers<'_>) -> Reply {
    app.request("GET", "/api/sessions", headers, None)
}

fn write(app: &TestApp, headers: Headers<'_>) -> Reply {
    let body = json!({ "cwd": app.workspace() }).to_string();
    app.request("POST", "/api/sessions", headers, Some(body.as_bytes()))
}

/// The status of an upgrade: 101 where it was made.
fn upgrade(app: &TestApp, headers: Headers<'_>) -> Reply {
    let options = headers
        .iter()
        .fold(StreamOptions::default(), |options, (name, value)| options.header(name, value));
    match app.try_stream(options) {
        Ok(mut stream) => {
            let ready = stream.wait_type("ready", DEADLINE);
            Reply { status: 101, headers: Vec::new(), text: ready.to_string(), body: ready }
        }
        Err(refusal) => *refusal,
    }
}

fn sessions(app: &TestApp) -> usize {
    let list = read(app, &[]).expect_status(200).body;
    list["data"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_foreign_host_is_refused_on_reads_writes_and_upgrades() {
    let app = embedded().start();
    let port = app.address().port();
    let foreign = [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("192.168.1.7:{port}"),
        format!("evil.example@127.0.0.1:{port}"),
        String::new(),
    ];
    for host in &foreign {
        let headers: Headers<'_> = &[("Host", host)];
        refused(&read(&app, headers), 403, "host_not_allowed");
        refused(&write(&app, headers), 403, "host_not_allowed");
        let own: Headers<'_> = &[("Host", host), ("Origin", &format!("http://{host}"))];
        refused(&read(&app, own), 403, "host_not_allowed");
        refused(&write(&app, own), 403, "host_not_allowed");
        if !host.contains('@') && !host.is_empty() {
            let reply = upgrade(&app, headers);
            assert_eq!(reply.status, 403, "{host}: {}", reply.text);
            assert_eq!(reply.body["code"], "host_not_allowed", "{host}");
        }
        for path in ["/livez", "/readyz", "/api/health", "/nope"] {
            refused(&app.request("GET", path, headers, None), 403, "host_not_allowed");
        }
    }
    assert_eq!(sessions(&app), 0, "a refused write did something");
}

#[test]
fn a_foreign_origin_is_refused_on_writes_and_upgrades() {
    let app = embedded().start();
    let port = app.address().port();
    let foreign = [
        "http://evil.example".to_owned(),
        "https://evil.example".to_owned(),
        format!("http://127.0.0.1:{}", port.wrapping_add(1)),
        "http://127.0.0.1".to_owned(),
        format!("http://127.0.0.1:{port}.evil.example"),
        format!("http://evil.example:{port}"),
        "http://localhost:5174".to_owned(),
        "file://".to_owned(),
    ];
    for origin in &foreign {
        let headers: Headers<'_> = &[("Origin", origin)];
        refused(&write(&app, headers), 403, "origin_not_allowed");
        let reply = upgrade(&app, headers);
        assert_eq!(reply.status, 403, "{origin}: {}", reply.text);
        let deleted = app.request("DELETE", "/api/sessions/x", headers, None);
        refused(&deleted, 403, "origin_not_allowed");
        // Whatever a read answers, the page cannot see it: no answer carries CORS headers.
        let read = read(&app, headers);
        assert_eq!(read.header("access-control-allow-origin"), None);
    }
    let preflight = app.request(
        "OPTIONS",
        "/api/sessions",
        &[("Origin", "http://evil.example"), ("Access-Control-Request-Method", "POST")],
        None,
    );
    assert!(preflight.status >= 400, "{}", preflight.text);
    assert_eq!(preflight.header("access-control-allow-origin"), None);
    assert_eq!(sessions(&app), 0, "a refused write did something");
}

#[test]
fn the_origin_null_may_read_and_nothing_else() {
    let app = embedded().start();
    let null: Headers<'_> = &[("Origin", "null")];
    assert_eq!(read(&app, null).status, 200);
    refused(&write(&app, null), 403, "origin_not_allowed");
    assert_eq!(upgrade(&app, null).status, 403);
    assert_eq!(sessions(&app), 0);
}

#[test]
fn our_own_page_version_1s_page_and_programs_get_in() {
    let app = embedded().start();
    let port = app.address().port();
    let own = format!("http://127.0.0.1:{port}");
    let local = format!("localhost:{port}");
    let own_local = format!("http://localhost:{port}");
    let friends: [Headers<'_>; 7] = [
        &[],
        &[("Origin", &own)],
        &[("Host", &local), ("Origin", &own_local)],
        &[("Origin", "http://127.0.0.1:5173")],
        &[("Origin", "http://localhost:5173")],
        // A proxy on this machine that keeps the name under which it was asked.
        &[("Host", "localhost:5173"), ("Origin", "http://localhost:5173")],
        &[("Host", "LocalHost:5173")],
    ];
    for (number, headers) in friends.iter().enumerate() {
        assert_eq!(read(&app, headers).status, 200, "{headers:?}");
        assert_eq!(write(&app, headers).status, 200, "{headers:?}");
        assert_eq!(upgrade(&app, headers).status, 101, "{headers:?}");
        assert_eq!(sessions(&app), number + 1);
    }
}

#[test]
fn origins_are_what_the_configuration_says() {
    let app = embedded().env("ALLOWED_ORIGINS", "https://board.example").start();
    assert_eq!(write(&app, &[("Origin", "https://board.example")]).status, 200);
    let gone: Headers<'_> = &[("Origin", "http://localhost:5173")];
    refused(&write(&app, gone), 403, "origin_not_allowed");
}

#[test]
fn text_plain_is_json_only_from_here() {
    let app = embedded().start();
    let port = app.address().port();
    let own = format!("http://127.0.0.1:{port}");
    let plain = ("Content-Type", "text/plain;charset=UTF-8");
    assert_eq!(write(&app, &[plain]).status, 200);
    assert_eq!(write(&app, &[plain, ("Origin", &own)]).status, 200);
    // An allowed page still has to ask first, which a browser does for JSON.
    let other = ("Origin", "http://localhost:5173");
    refused(&write(&app, &[plain, other]), 415, "unsupported_media_type");
    let json = ("Content-Type", "application/json");
    assert_eq!(write(&app, &[json, other]).status, 200);
    for kind in ["application/x-www-form-urlencoded", "multipart/form-data", "text/html", ""] {
        refused(&write(&app, &[("Content-Type", kind)]), 415, "unsupported_media_type");
    }
}

/// A start with a token file that holds [`TOKEN`].
pub(crate) fn with_token(builder: AppBuilder) -> AppBuilder {
    let path = builder.dir().write("token", format!("{TOKEN}\n"));
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, owner_only).expect("the mode is set");
    // Readiness wants the token as well.
    builder.arg("--token-file").arg(path).without_readiness()
}

pub(crate) fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

pub(crate) fn wait_ready_with_token(app: &TestApp) {
    let bearer = bearer();
    wait_until("it is ready", DEADLINE, || {
        let headers: Headers<'_> = &[("Authorization", &bearer)];
        app.request("GET", "/readyz", headers, None).status == 200
    });
}

#[test]
fn with_a_token_nothing_but_liveness_and_login_goes_without() {
    let app = with_token(embedded()).start();
    wait_ready_with_token(&app);
    assert_eq!(app.get("/livez").status, 200);
    for path in [
        "/readyz",
        "/metrics",
        "/api",
        "/api/docs/",
        "/api/health",
        "/api/runtime",
        "/api/sessions",
        "/nope",
    ] {
        refused(&app.get(path), 401, "unauthorized");
    }
    refused(&write(&app, &[]), 401, "unauthorized");
    assert_eq!(upgrade(&app, &[]).status, 401);
    let bearer = bearer();
    let good: [Headers<'_>; 2] =
        [&[("Authorization", &bearer)], &[("x-codex-manager-token", TOKEN)]];
    for headers in good {
        assert_eq!(read(&app, headers).status, 200);
        assert_eq!(write(&app, headers).status, 200);
        assert_eq!(upgrade(&app, headers).status, 101);
    }
    let wrong = [
        ("Authorization", "Bearer wrong"),
        ("Authorization", "Bearer "),
        ("Authorization", TOKEN),
        ("Authorization", "Basic YTpi"),
        ("x-codex-manager-token", "a-token-of-the-integration-suit"),
        ("Cookie", "codex_manager_session=a-token-of-the-integration-suite"),
    ];
    for header in wrong {
        refused(&read(&app, &[header]), 401, "unauthorized");
        assert_eq!(upgrade(&app, &[header]).status, 401, "{header:?}");
    }
    // A right token does not make a foreign page welcome.
    let foreign = [("Authorization", bearer.as_str()), ("Origin", "http://evil.example")];
    refused(&write(&app, &foreign), 403, "origin_not_allowed");
    assert!(!app.logs().contains(TOKEN), "the token is in the log");
}

#[test]
fn the_token_is_never_taken_from_the_url() {
    let app = with_token(embedded()).start();
    for query in ["token", "access_token", "ticket", "authorization", "bearer"] {
        let path = format!("/api/sessions?{query}={TOKEN}");
        refused(&app.get(&path), 401, "unauthorized");
        let options = StreamOptions::default().query(query, TOKEN);
        let refusal = app.try_stream(options).map(|_| ()).expect_err("no upgrade");
        assert_eq!(refusal.status, 401, "{query}");
    }
}

#[test]
fn a_ticket_opens_one_stream() {
    let app = with_token(embedded()).start();
    wait_ready_with_token(&app);
    refused(&app.request("POST", "/api/stream/tickets", &[], None), 401, "unauthorized");
    let issue = || {
        let bearer = bearer();
        let headers: Headers<'_> = &[("Authorization", &bearer)];
        let reply = app.request("POST", "/api/stream/tickets", headers, None);
        text(&reply.expect_status(200).body["ticket"])
    };
    let (ticket, other) = (issue(), issue());
    assert_ne!(ticket, other);
    let connect = |ticket: &str| app.try_stream(StreamOptions::default().query("ticket", ticket));
    let mut stream = connect(&ticket).expect("the ticket is good");
    stream.wait_type("ready", DEADLINE);
    assert_eq!(connect(&ticket).map(|_| ()).expect_err("used up").status, 401);
    // A ticket is for the stream alone.
    refused(&app.get(&format!("/api/sessions?ticket={other}")), 401, "unauthorized");
    let mut second = connect(&other).expect("the other ticket is good");
    second.wait_type("ready", DEADLINE);
}

#[test]
fn a_login_gives_a_cookie_and_a_logout_takes_it() {
    let app = with_token(embedded()).start();
    wait_ready_with_token(&app);
    refused(&app.post("/api/login", json!({ "token": "wrong" })), 401, "unauthorized");
    refused(&app.post("/api/login", json!({})), 400, "invalid_request");
    let login = app.post("/api/login", json!({ "token": TOKEN })).expect_status(200);
    let set = login.header("set-cookie").expect("a cookie").to_owned();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    assert!(!set.contains(TOKEN) && !login.text.contains(TOKEN));
    let cookie = set.split(';').next().expect("name and value").to_owned();
    let headers: Headers<'_> = &[("Cookie", &cookie)];
    assert_eq!(read(&app, headers).status, 200);
    assert_eq!(write(&app, headers).status, 200);
    assert_eq!(upgrade(&app, headers).status, 101);
    let foreign: Headers<'_> = &[("Cookie", &cookie), ("Origin", "http://evil.example")];
    refused(&write(&app, foreign), 403, "origin_not_allowed");
    assert_eq!(upgrade(&app, foreign).status, 403);
    app.request("POST", "/api/logout", headers, None).expect_status(200);
    refused(&read(&app, headers), 401, "unauthorized");
}

#[test]
fn an_address_that_others_reach_needs_a_token_file() {
    for host in ["0.0.0.0", "::", "192.0.2.1"] {
        let exited = embedded().arg("--host").arg(host).try_start();
        let exited = exited.map(|_| ()).expect_err("it must not start");
        assert_eq!(exited.code, Some(2), "{exited}");
        assert!(exited.stderr.contains("error[invalid_config]"), "{exited}");
        assert!(exited.stderr.contains("--token-file"), "{exited}");
    }
    let app = with_token(embedded()).arg("--host").arg("0.0.0.0").start();
    wait_ready_with_token(&app);
    refused(&app.get("/api/health"), 401, "unauthorized");
    let bearer = bearer();
    let loopback = format!("127.0.0.1:{}", app.address().port());
    let named: Headers<'_> = &[("Authorization", &bearer), ("Host", &loopback)];
    assert_eq!(read(&app, named).status, 200);
    let foreign: Headers<'_> = &[("Authorization", &bearer), ("Host", "evil.example")];
    refused(&read(&app, foreign), 403, "host_not_allowed");
}

#[test]
fn a_token_file_that_others_can_read_is_refused() {
    let builder = embedded();
    let path = builder.dir().write("token", TOKEN);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("the mode");
    let exited = builder.arg("--token-file").arg(&path).try_start();
    let exited = exited.map(|_| ()).expect_err("it must not start");
    assert_eq!(exited.code, Some(2), "{exited}");
    assert!(exited.stderr.contains("chmod 600"), "{exited}");
    assert!(!exited.stderr.contains(TOKEN), "{exited}");
}
