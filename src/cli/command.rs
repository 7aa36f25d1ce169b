//! What can be typed, and doing it.

use cm_core::error::exit;

use crate::approvals::{self, ApprovalsArgs};
use crate::console::Console;
use crate::failure::Failure;
use crate::hooks::RunHooks;
use crate::http::Api;
use crate::options::ClientOptions;
use crate::run::{self, RunArgs};
use crate::sessions::{self, SessionAction, SessionsArgs};
use crate::tool_calls::{self, ToolCallsArgs};
use crate::tool_input::{self, ToolInputArgs};

/// Commands that talk to a server. Flatten it into the program's own subcommands.
///
/// Each command has its [`ClientOptions`] in it, not in front of it, so that their names do not
/// collide with those of the program's other commands.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ClientCommand {
    /// Send a message to the agent and follow its turn
    Run(Box<RunArgs>),
    /// List, show and manage sessions
    Sessions(SessionsArgs),
    /// List and decide approvals
    Approvals(ApprovalsArgs),
    /// List and answer the agent's questions
    ToolInput(ToolInputArgs),
    /// List and answer the agent's tool calls
    ToolCalls(ToolCallsArgs),
}

impl ClientCommand {
    /// Where the server is and how to print.
    pub fn options(&self) -> &ClientOptions {
        match self {
            Self::Run(arguments) => &arguments.options,
            Self::Sessions(arguments) => &arguments.options,
            Self::Approvals(arguments) => &arguments.options,
            Self::ToolInput(arguments) => &arguments.options,
            Self::ToolCalls(arguments) => &arguments.options,
        }
    }

    /// Whether the command looks at [`RunHooks::interrupted`]. Others are over so soon that the
    /// signal may as well end the process.
    pub fn handles_interrupt(&self) -> bool {
        match self {
            Self::Run(_) => true,
            Self::Sessions(arguments) => match &arguments.action {
                SessionAction::Send(arguments) => arguments.follow,
                SessionAction::Tail(_) => true,
                _ => false,
            },
            Self::Approvals(_) | Self::ToolInput(_) | Self::ToolCalls(_) => false,
        }
    }
}

/// Does what the command says. Returns the exit code; failures are printed already.
///
/// Standard output that is closed (`… | head`) is a success.
pub fn execute(command: ClientCommand, hooks: RunHooks) -> u8 {
    let mut console = Console::of_process(command.options());
    match dispatch(command, hooks, &mut console) {
        Ok(()) => exit::OK,
        Err(failure) => {
            console.fail(&failure);
            failure.exit_code()
        }
    }
}

fn dispatch(command: ClientCommand, hooks: RunHooks, console: &mut Console) -> Result<(), Failure> {
    let options = command.options();
    let api = Api::new(options.endpoint()?, options.token()?, options.timeout());
    match command {
        ClientCommand::Run(arguments) => run::execute(&arguments, api, console, hooks),
        ClientCommand::Sessions(arguments) => {
            sessions::execute(&arguments, &api, &hooks.interrupted, console)
        }
        ClientCommand::Approvals(arguments) => approvals::execute(&arguments, &api, console),
        ClientCommand::ToolInput(arguments) => tool_input::execute(&arguments, &api, console),
        ClientCommand::ToolCalls(arguments) => tool_calls::execute(&arguments, &api, console),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    #[command(name = "codex-manager", term_width = 100)]
    struct Program {
        #[command(subcommand)]
        command: ClientCommand,
    }

    fn helps(command: &mut clap::Command, path: &str, text: &mut String) {
        text.push_str(&format!("$ {path} --help\n{}\n", command.render_help()));
        for sub in command.get_subcommands_mut() {
            if sub.get_name() != "help" {
                let path = format!("{path} {}", sub.get_name());
                helps(sub, &path, text);
            }
        }
    }

    #[test]
    fn help_is_what_the_snapshot_says() {
        let mut program = Program::command();
        program.build();
        program.clone().debug_assert();
        for noun in ["run", "sessions", "approvals", "tool-input", "tool-calls"] {
            let command = program.find_subcommand_mut(noun).unwrap();
            let mut text = String::new();
            helps(command, &format!("codex-manager {noun}"), &mut text);
            insta::assert_snapshot!(format!("help_{}", noun.replace('-', "_")), text);
        }
    }

    #[test]
    fn first_lines_are_imperative_without_a_full_stop() {
        fn check(command: &clap::Command) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.'), "{}: {about}", command.get_name());
            // Long texts would turn every `--help` into a page of its own.
            assert!(!command.clone().render_help().to_string().contains("see more"));
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty() && !help.ends_with('.'), "{argument}: {help}");
            }
            for sub in command.get_subcommands() {
                check(sub);
            }
        }
        for command in Program::command().get_subcommands() {
            check(command);
        }
    }

    #[test]
    fn options_may_stand_before_or_behind_the_action() {
        for line in [
            ["codex-manager", "sessions", "--server", "http://h:1", "list"],
            ["codex-manager", "sessions", "list", "--server", "http://h:1"],
        ] {
            let program = Program::try_parse_from(line).unwrap();
            assert_eq!(program.command.options().server, "http://h:1");
        }
    }

    #[test]
    fn typing_errors_do_not_reach_the_server() {
        for line in [
            &["codex-manager", "run", "x", "--sandbox", "read-onyl"][..],
            &["codex-manager", "run", "x", "--yes", "--no"],
            &["codex-manager", "run"],
            &["codex-manager", "run", "x", "--cd", ".", "--session", "latest"],
            &["codex-manager", "approvals", "decide", "a", "approve"],
            &["codex-manager", "sessions", "list", "--limit", "0"],
            &["codex-manager", "run", "x", "--timeout-ms", "0"],
        ] {
            assert!(Program::try_parse_from(line).is_err(), "{line:?}");
        }
        let program = Program::try_parse_from(["codex-manager", "run", "-"]).unwrap();
        assert!(program.command.handles_interrupt());
    }
}
