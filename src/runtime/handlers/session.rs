//! The handshake, and what there is to know about model and account.

use serde::Deserialize;
use serde_json::{Value, json};

use super::table::Call;
use crate::server::{Client, Server};
use crate::thread::MODEL;
use crate::wire::{Fault, lock, parse_thread_id};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialize {
    client_info: ClientInfo,
    #[serde(default)]
    capabilities: Option<Capabilities>,
}

#[derive(Deserialize)]
struct ClientInfo {
    name: String,
    version: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Capabilities {
    experimental_api: bool,
    opt_out_notification_methods: Option<Vec<String>>,
}

pub(super) fn initialize(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    let params: Initialize = call.params()?;
    let capabilities = params.capabilities.unwrap_or_default();
    let info = params.client_info;
    let client = Client { name: info.name.clone(), experimental: capabilities.experimental_api };
    if server.client.set(client).is_err() {
        return Err(Fault::invalid("Already initialized"));
    }
    tracing::debug!(client = info.name, version = info.version, "initialized");
    server.outbox.mute(capabilities.opt_out_notification_methods.unwrap_or_default());
    let version = &server.options.version;
    let (name, os, arch) = (info.name, std::env::consts::OS, std::env::consts::ARCH);
    call.answer(json!({
        "userAgent": format!("{name}/{version} ({os}; {arch}) embedded (codex-manager; {version})"),
        "codexHome": server.options.home, "platformFamily": std::env::consts::FAMILY,
        "platformOs": os,
    }));
    Ok(())
}

impl Server {
    /// Whether the client may use experimental methods and fields.
    pub(super) fn is_experimental(&self) -> bool {
        self.client.get().is_some_and(|client| client.experimental)
    }

    /// Refuses an experimental method or field to a client that did not ask for them.
    pub(super) fn require_experimental(&self, what: &str) -> Result<(), Fault> {
        match self.is_experimental() {
            true => Ok(()),
            false => Err(Fault::invalid(format!("{what} requires experimentalApi capability"))),
        }
    }
}

/// The guided agent is the only model.
pub(super) fn models(call: &Call<'_>) -> Result<(), Fault> {
    let _: Value = call.params()?;
    call.answer(json!({
        "data": [{
            "id": MODEL, "model": MODEL, "upgrade": null, "upgradeInfo": null,
            "availabilityNux": null, "displayName": "Built-in guide (not a language model)",
            "description": "Carries out a few directives; /help lists them. Needs no account.",
            "modelSpecialty": null, "hidden": false,
            "supportedReasoningEfforts": [
                { "reasoningEffort": "low", "description": "The only one; nothing is reasoned" }
            ],
            "defaultReasoningEffort": "low", "inputModalities": ["text"],
            "supportsPersonality": false, "multiAgentVersion": null, "additionalSpeedTiers": [],
            "serviceTiers": [], "defaultServiceTier": null, "availableAccessPrograms": null,
            "isDefault": true,
        }],
        "nextCursor": null,
    }));
    Ok(())
}

/// There is no account and none is needed.
pub(super) fn account(call: &Call<'_>) -> Result<(), Fault> {
    let _: Value = call.params()?;
    call.answer(json!({
        "account": null, "userId": null, "requiresOpenaiAuth": false, "workspaceRouting": null,
    }));
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfThread {
    thread_id: String,
}

/// Commands end with their turn here, so there is never anything to clean.
pub(super) fn clean_background_terminals(call: &Call<'_>) -> Result<(), Fault> {
    let server = call.server;
    server.require_experimental("thread/backgroundTerminals/clean")?;
    let params: OfThread = call.params()?;
    let thread_id = parse_thread_id(&params.thread_id)?;
    lock(&server.threads).get(thread_id).ok_or_else(|| Fault::thread_not_found(thread_id))?;
    call.answer(json!({}));
    Ok(())
}
