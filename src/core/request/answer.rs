//! What the child is told about a decision on an approval, of whatever kind.

use serde_json::{Map, Value, json};

use super::form;
use super::grant::is_part;
use super::kind::RequestKind;
use super::record::RequestRecord;
use crate::wire::{ApprovalDecision, ApprovalScope, DecideApproval};

/// Why an answer does not fit the request. Nothing of the answer is repeated in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Misfit {
    /// The member of the body that is wrong, its parts separated by dots.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl Misfit {
    pub(super) fn new(path: &str, message: &str) -> Self {
        Self { path: path.to_owned(), message: message.to_owned() }
    }
}

impl RequestRecord {
    /// The JSON-RPC result for a decision; `None` where only an error says it.
    ///
    /// # Errors
    ///
    /// [`Misfit`] when the runtime could not read the answer, or it would say more than was asked.
    pub fn approval_answer(&self, body: &DecideApproval) -> Result<Option<Value>, Misfit> {
        if body.decision != ApprovalDecision::Accept {
            return Ok(self.kind.refusal_result(body.decision));
        }
        self.check_members(body)?;
        if self.params_bytes.is_some() && self.kind.needs_params() {
            let message = "cannot be accepted: what is asked for is too long to be checked";
            return Err(Misfit::new("decision", message));
        }
        Ok(Some(match self.kind {
            RequestKind::Elicitation => {
                json!({ "action": "accept", "content": self.form_answer(body)?, "_meta": null })
            }
            RequestKind::McpToolApproval => {
                let meta = match body.scope {
                    ApprovalScope::Turn => Value::Null,
                    scope => json!({ "persist": scope.as_str() }),
                };
                json!({ "action": "accept", "content": {}, "_meta": meta })
            }
            RequestKind::Permissions => {
                json!({ "permissions": self.granted(body)?, "scope": body.scope.as_str() })
            }
            RequestKind::AuthRefresh => {
                let Some(tokens) = &body.tokens else {
                    return Err(Misfit::new("tokens", "is required"));
                };
                for (name, value) in [
                    ("accessToken", &tokens.access_token),
                    ("chatgptAccountId", &tokens.chatgpt_account_id),
                ] {
                    if value.trim().is_empty() {
                        return Err(Misfit::new(&format!("tokens.{name}"), "must not be blank"));
                    }
                }
                json!(tokens)
            }
            kind => kind.approval_result(body.decision, body.scope),
        }))
    }

    /// A member that another kind takes is a mistake: it would promise what does not happen.
    fn check_members(&self, body: &DecideApproval) -> Result<(), Misfit> {
        let members = [
            ("content", body.content.is_some(), RequestKind::Elicitation),
            ("permissions", body.permissions.is_some(), RequestKind::Permissions),
            ("tokens", body.tokens.is_some(), RequestKind::AuthRefresh),
        ];
        for (name, given, kind) in members {
            if given && kind != self.kind {
                let message = format!("is not taken by a request of kind {}", self.kind.as_str());
                return Err(Misfit::new(name, &message));
            }
        }
        if !self.offers(body.scope) {
            let message = format!("`{}` is not offered by this request", body.scope.as_str());
            return Err(Misfit::new("scope", &message));
        }
        Ok(())
    }

    fn offers(&self, scope: ApprovalScope) -> bool {
        match (self.kind, scope) {
            (_, ApprovalScope::Turn) => true,
            (RequestKind::Elicitation | RequestKind::AuthRefresh, _) => false,
            // 0.169 says what it remembers, as one word or a list.
            (RequestKind::McpToolApproval, scope) => match self.params.pointer("/_meta/persist") {
                Some(Value::Array(words)) => words.iter().any(|word| word == scope.as_str()),
                Some(word) => word == scope.as_str(),
                None => false,
            },
            (_, ApprovalScope::Session) => true,
            (_, ApprovalScope::Always) => false,
        }
    }

    /// What an MCP server gets: nothing for a link, what its form asks for, and for a mode that
    /// this build does not know what was given.
    fn form_answer(&self, body: &DecideApproval) -> Result<Value, Misfit> {
        match self.params.get("mode").and_then(Value::as_str) {
            Some("url") => match &body.content {
                None => Ok(Value::Null),
                Some(_) => Err(Misfit::new("content", "is not taken by a link")),
            },
            mode => {
                let content = body.content.clone().unwrap_or_default();
                if mode.is_none_or(|mode| mode == "form") {
                    let schema = self.params.get("requestedSchema").unwrap_or(&Value::Null);
                    form::check(schema, &content)?;
                }
                Ok(Value::Object(content))
            }
        }
    }

    fn granted(&self, body: &DecideApproval) -> Result<Map<String, Value>, Misfit> {
        let asked = self.params.get("permissions").unwrap_or(&Value::Null);
        let Some(all) = asked.as_object() else {
            return Err(Misfit::new("decision", "cannot be accepted: the request names nothing"));
        };
        match &body.permissions {
            None => Ok(all.clone()),
            Some(part) if is_part(asked, part) => Ok(part.clone()),
            Some(_) => Err(Misfit::new("permissions", "must be a part of what was asked for")),
        }
    }
}

impl RequestKind {
    /// Whether an acceptance is made from what the request says.
    fn needs_params(self) -> bool {
        matches!(self, Self::Elicitation | Self::McpToolApproval | Self::Permissions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RequestId;
    use crate::wire::AuthTokens;

    /// A request as the store has it.
    fn asked(kind: RequestKind, params: Value) -> RequestRecord {
        let stored = json!({
            "version": 1, "id": RequestId::from_random([7; 16]), "kind": kind, "method": "m",
            "thread_id": "t", "turn_id": null, "item_id": null, "call_id": null,
            "incarnation": 1, "rpc_id": 0, "params": params, "created_at": "then",
            "created_ms": 1, "ended_ms": null, "ordinal": 0, "state": { "state": "pending" },
        });
        serde_json::from_value(stored).unwrap()
    }

    fn body(decision: ApprovalDecision) -> DecideApproval {
        DecideApproval::of(decision, ApprovalScope::Turn)
    }

    fn accept() -> DecideApproval {
        body(ApprovalDecision::Accept)
    }

    fn object(value: Value) -> Option<Map<String, Value>> {
        value.as_object().cloned()
    }

    /// The result, or the path of what is wrong.
    fn answer(request: &RequestRecord, body: &DecideApproval) -> Result<Option<Value>, String> {
        request.approval_answer(body).map_err(|misfit| misfit.path)
    }

    #[test]
    fn a_form_is_answered_as_it_asks() {
        let form = json!({ "mode": "form", "requestedSchema": {
            "type": "object", "required": ["colour"],
            "properties": { "colour": { "type": "string", "enum": ["red"] } },
        }});
        let form = asked(RequestKind::Elicitation, form);
        let red = DecideApproval { content: object(json!({ "colour": "red" })), ..accept() };
        let expected = json!({ "action": "accept", "content": { "colour": "red" }, "_meta": null });
        assert_eq!(answer(&form, &red), Ok(Some(expected)));
        assert_eq!(answer(&form, &accept()), Err("content.colour".to_owned()));
        let session = DecideApproval { scope: ApprovalScope::Session, ..red.clone() };
        assert_eq!(answer(&form, &session), Err("scope".to_owned()));
        for (decision, word) in
            [(ApprovalDecision::Decline, "decline"), (ApprovalDecision::Cancel, "cancel")]
        {
            let expected = json!({ "action": word, "content": null, "_meta": null });
            assert_eq!(answer(&form, &body(decision)), Ok(Some(expected)));
        }
        let link = asked(RequestKind::Elicitation, json!({ "mode": "url", "url": "https://x" }));
        let expected = json!({ "action": "accept", "content": null, "_meta": null });
        assert_eq!(answer(&link, &accept()), Ok(Some(expected)));
        assert_eq!(answer(&link, &red), Err("content".to_owned()));
    }

    #[test]
    fn a_tool_of_an_mcp_server_is_remembered_where_that_is_offered() {
        let tool = |persist: Value| {
            asked(RequestKind::McpToolApproval, json!({ "_meta": { "persist": persist } }))
        };
        let scope = |scope| DecideApproval { scope, ..accept() };
        let expected =
            |meta: Value| Ok(Some(json!({ "action": "accept", "content": {}, "_meta": meta })));
        let both = tool(json!(["session", "always"]));
        assert_eq!(answer(&both, &accept()), expected(Value::Null));
        let session = answer(&both, &scope(ApprovalScope::Session));
        assert_eq!(session, expected(json!({ "persist": "session" })));
        let always = answer(&both, &scope(ApprovalScope::Always));
        assert_eq!(always, expected(json!({ "persist": "always" })));
        let one = tool(json!("session"));
        assert!(answer(&one, &scope(ApprovalScope::Session)).is_ok());
        assert_eq!(answer(&one, &scope(ApprovalScope::Always)), Err("scope".to_owned()));
        let none = tool(Value::Null);
        assert_eq!(answer(&none, &scope(ApprovalScope::Session)), Err("scope".to_owned()));
        let command = asked(RequestKind::CommandApproval, json!({}));
        assert_eq!(answer(&command, &scope(ApprovalScope::Always)), Err("scope".to_owned()));
    }

    #[test]
    fn permissions_are_granted_as_they_were_asked_for_or_in_part() {
        let profile = json!({ "network": { "enabled": true }, "fileSystem": { "read": ["/a"] } });
        let request = asked(RequestKind::Permissions, json!({ "permissions": profile }));
        let session = DecideApproval { scope: ApprovalScope::Session, ..accept() };
        let expected = json!({ "permissions": profile, "scope": "session" });
        assert_eq!(answer(&request, &session), Ok(Some(expected)));
        let part = json!({ "network": { "enabled": true } });
        let some = DecideApproval { permissions: object(part.clone()), ..accept() };
        let expected = json!({ "permissions": part, "scope": "turn" });
        assert_eq!(answer(&request, &some), Ok(Some(expected)));
        let more = json!({ "fileSystem": { "write": ["/a"] } });
        let more = DecideApproval { permissions: object(more), ..accept() };
        assert_eq!(answer(&request, &more), Err("permissions".to_owned()));
        let nothing = json!({ "permissions": {}, "scope": "turn" });
        assert_eq!(answer(&request, &body(ApprovalDecision::Cancel)), Ok(Some(nothing)));
        let long = RequestRecord { params_bytes: Some(2 << 20), ..request };
        assert_eq!(answer(&long, &accept()), Err("decision".to_owned()));
        assert!(answer(&long, &body(ApprovalDecision::Decline)).is_ok());
        let empty = asked(RequestKind::Permissions, json!({}));
        assert_eq!(answer(&empty, &accept()), Err("decision".to_owned()));
    }

    #[test]
    fn tokens_are_given_whole_or_refused_with_an_error() {
        let request = asked(RequestKind::AuthRefresh, json!({ "reason": "unauthorized" }));
        let tokens = AuthTokens {
            access_token: "secret-token".to_owned(),
            chatgpt_account_id: "account".to_owned(),
            chatgpt_plan_type: None,
        };
        let given = DecideApproval { tokens: Some(tokens.clone()), ..accept() };
        let expected = json!({
            "accessToken": "secret-token", "chatgptAccountId": "account", "chatgptPlanType": null,
        });
        assert_eq!(answer(&request, &given), Ok(Some(expected)));
        assert!(!format!("{given:?}").contains("secret-token"), "{given:?}");
        assert_eq!(answer(&request, &accept()), Err("tokens".to_owned()));
        let blank = AuthTokens { access_token: " ".to_owned(), ..tokens };
        let blank = DecideApproval { tokens: Some(blank), ..accept() };
        assert_eq!(answer(&request, &blank), Err("tokens.accessToken".to_owned()));
        assert_eq!(answer(&request, &body(ApprovalDecision::Decline)), Ok(None));
    }

    #[test]
    fn a_member_of_another_kind_is_refused() {
        let command = asked(RequestKind::CommandApproval, json!({}));
        let wrong = DecideApproval { content: object(json!({})), ..accept() };
        assert_eq!(answer(&command, &wrong), Err("content".to_owned()));
        assert_eq!(answer(&command, &accept()), Ok(Some(json!({ "decision": "accept" }))));
    }
}
