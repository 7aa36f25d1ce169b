//! Every method, in the order in which an unknown one is told about them.

use std::sync::Arc;

use cm_core::rpc::RpcId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{history, lifecycle, list, open, session, turns};
use crate::server::Server;
use crate::wire::{Fault, parse_params};

/// One call of the client.
pub(crate) struct Call<'a> {
    pub(crate) server: &'a Arc<Server>,
    pub(crate) id: &'a RpcId,
    pub(crate) params: Option<&'a RawValue>,
}

impl Call<'_> {
    /// The parameters in the form of the method.
    pub(super) fn params<P: DeserializeOwned>(&self) -> Result<P, Fault> {
        parse_params(self.params)
    }

    /// Sends the result.
    pub(super) fn answer(&self, result: impl Serialize) {
        self.server.outbox.result(self.id, result);
    }
}

/// Answers one call through the outbox, or says why it is refused.
pub(crate) type Handler = fn(&Call<'_>) -> Result<(), Fault>;

/// The method table. Names as in codex 0.169.
pub(crate) const METHODS: &[(&str, Handler)] = &[
    ("initialize", session::initialize),
    ("thread/start", open::start),
    ("thread/resume", open::resume),
    ("thread/fork", open::fork),
    ("thread/archive", lifecycle::archive),
    ("thread/delete", lifecycle::delete),
    ("thread/name/set", lifecycle::set_name),
    ("thread/unarchive", lifecycle::unarchive),
    ("thread/backgroundTerminals/clean", session::clean_background_terminals),
    ("thread/list", list::list),
    ("thread/loaded/list", list::loaded),
    ("thread/read", history::read),
    ("thread/turns/list", history::turns),
    ("turn/start", turns::start),
    ("turn/steer", turns::steer),
    ("turn/interrupt", turns::interrupt),
    ("model/list", session::models),
    ("account/read", session::account),
];
