//! What a caller gets wrong is told so by the runtime's own words, as 400, and not as a state in which
//! the call would have to wait.

use cm_testkit::http::Reply;
use serde_json::json;

use crate::common::{Bench, Kind};
use crate::fake_app::refused;

mod codex_new {
    #[test]
    fn bad_input_is_no_state() {
        super::bad_input_is_no_state(crate::common::Kind::CodexNew);
    }
}

mod codex_old {
    #[test]
    fn bad_input_is_no_state() {
        super::bad_input_is_no_state(crate::common::Kind::CodexOld);
    }
}

fn bad_input_is_no_state(kind: Kind) {
    let bench = Bench::start(kind);
    let app = &bench.app;
    let wrong = |reply: Reply| refused(&reply, 400, "invalid_params");
    let write = |value: serde_json::Value| {
        let body = json!({ "keyPath": "model", "value": value, "mergeStrategy": "replace" });
        app.post("/api/config/value", body)
    };
    wrong(write(json!(7)));
    let edits = json!([{ "keyPath": "a..b", "value": 1, "mergeStrategy": "replace" }]);
    wrong(app.post("/api/config/batch", json!({ "edits": edits })));
    let elsewhere = json!({
        "keyPath": "model", "value": "m", "mergeStrategy": "replace", "filePath": "/nowhere/config.toml",
    });
    wrong(app.post("/api/config/value", elsewhere));
    let older = json!({
        "keyPath": "model", "value": "m", "mergeStrategy": "replace", "expectedVersion": "older",
    });
    refused(&app.post("/api/config/value", older), 409, "invalid_state");

    wrong(app.post("/api/skills/config", json!({ "path": "not/absolute", "enabled": true })));
    for list in ["/api/models", "/api/mcp/servers", "/api/features/experimental"] {
        wrong(app.get(&format!("{list}?cursor=bad")));
        wrong(app.get(&format!("{list}?cursor=999999")));
    }
    wrong(app.post("/api/account/login/cancel", json!({ "loginId": "none" })));
    for name in ["a b!", "mcp__a"] {
        let tool = json!({ "name": name, "description": "d", "inputSchema": { "type": "object" } });
        let body = json!({ "cwd": app.workspace(), "dynamicTools": [tool] });
        wrong(app.post("/api/sessions", body));
    }
}
