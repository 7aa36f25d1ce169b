//! Turns that are interrupted.

use std::time::Duration;

use actix::prelude::*;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::actor::Thread;
use super::calls::{Pending, answer};
use super::error::SessionError;
use super::messages::Reply;
use crate::app_server::CallFailure;

/// How often, and after what time, a turn is interrupted again that the child does not know yet.
const INTERRUPT_TRIES: u32 = 20;
const INTERRUPT_AGAIN: Duration = Duration::from_millis(50);

impl Thread {
    pub(super) fn interrupt(
        &mut self,
        turn_id: Option<String>,
        reply: Reply<String>,
        ctx: &mut Context<Self>,
    ) {
        // A turn that does not run is not asked for: codex 0.106 never answers that.
        let turn_id = match turn_id {
            Some(turn_id) if self.state.is_running(&turn_id) => {
                Some(self.state.id_of(&turn_id).to_owned())
            }
            Some(_) => None,
            None => self.state.active_turn().map(|turn| turn.id.clone()),
        };
        let Some(turn_id) = turn_id else {
            return answer(reply, Err(SessionError::NoActiveTurn(self.id.clone())));
        };
        self.ask_interrupt(turn_id, 0, Some(reply), ctx);
    }

    /// Asks the child; a turn goes by the name under which it began.
    pub(super) fn ask_interrupt(
        &mut self,
        turn_id: String,
        tries: u32,
        reply: Option<Reply<String>>,
        ctx: &mut Context<Self>,
    ) {
        let params = json!({ "turnId": self.state.first_name_of(&turn_id) });
        let pending = Pending::Interrupt { turn_id, tries, reply };
        self.call("turn/interrupt", params, pending, ctx);
    }

    /// Interrupts what runs because the child is about to be stopped.
    pub(super) fn park(&mut self, parked: oneshot::Sender<()>, ctx: &mut Context<Self>) {
        self.parked = Some(parked);
        let ids: Vec<String> = self.state.running().iter().map(|turn| turn.id.clone()).collect();
        for turn_id in ids {
            self.ask_interrupt(turn_id, 0, None, ctx);
        }
    }

    pub(super) fn interrupted(
        &mut self,
        turn_id: String,
        outcome: Result<Value, CallFailure>,
        tries: u32,
        reply: Option<Reply<String>>,
        ctx: &mut Context<Self>,
    ) {
        let result = match outcome {
            Ok(_) => {
                self.clean_terminals(ctx);
                Ok(turn_id)
            }
            // Codex 0.140 answers `turn/start` a moment before the turn can be interrupted, and says
            // later under which name a review began.
            Err(error)
                if error.is_turn_over()
                    && self.state.is_running(&turn_id)
                    && tries < INTERRUPT_TRIES =>
            {
                self.busy += 1;
                ctx.run_later(INTERRUPT_AGAIN, move |thread, ctx| {
                    thread.busy -= 1;
                    thread.ask_interrupt(turn_id, tries + 1, reply, ctx);
                });
                return;
            }
            // The turn ended by itself in the meantime.
            Err(CallFailure::Rpc(_)) if !self.state.is_running(&turn_id) => {
                Err(SessionError::NoActiveTurn(self.id.clone()))
            }
            Err(error) => Err(error.failure("turn/interrupt").into()),
        };
        if let Some(reply) = reply {
            answer(reply, result);
        }
    }

    /// From codex 0.140 on an interrupted turn's command goes on as a background terminal.
    fn clean_terminals(&mut self, ctx: &mut Context<Self>) {
        const METHOD: &str = "thread/backgroundTerminals/clean";
        if self.child_has(METHOD) {
            self.call(METHOD, json!({}), Pending::CleanTerminals, ctx);
        }
    }
}
