//! How the program says that something went wrong: one sentence, details, a hint, an exit code.

use std::fmt;
use std::io;

use cm_core::error::{ErrorCode, Failure, exit};

use crate::config::Problems;

/// A message for the person who typed the command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Complaint {
    /// Stable code; `None` for usage and plain input and output.
    pub(crate) code: Option<ErrorCode>,
    /// Exit code of the process.
    pub(crate) exit: u8,
    /// What happened.
    pub(crate) primary: String,
    /// More about it, a line each.
    pub(crate) details: Vec<String>,
    /// What to do.
    pub(crate) hint: Option<String>,
}

impl Complaint {
    /// A failure without a row in the error table.
    pub(crate) fn plain(primary: impl Into<String>) -> Self {
        let primary = primary.into();
        Self { code: None, exit: exit::FAILURE, primary, details: Vec::new(), hint: None }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "error[{code}]: {}", self.primary)?,
            None => write!(f, "error: {}", self.primary)?,
        }
        for detail in &self.details {
            write!(f, "\n  {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl From<Failure> for Complaint {
    fn from(failure: Failure) -> Self {
        Self {
            code: Some(failure.code),
            exit: failure.code.row().exit,
            primary: failure.message,
            details: Vec::new(),
            hint: None,
        }
    }
}

impl From<Problems> for Complaint {
    fn from(problems: Problems) -> Self {
        let Problems(problems) = problems;
        let primary = match problems.len() {
            1 => "the configuration is wrong".to_owned(),
            count => format!("the configuration is wrong in {count} places"),
        };
        Self {
            code: Some(ErrorCode::InvalidConfig),
            exit: ErrorCode::InvalidConfig.row().exit,
            primary,
            details: problems.iter().map(ToString::to_string).collect(),
            hint: Some("`codex-manager config example` prints every name with its default".into()),
        }
    }
}

impl From<io::Error> for Complaint {
    fn from(error: io::Error) -> Self {
        Self::plain(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origin, Problem};

    #[test]
    fn all_problems_stand_under_one_sentence() {
        let problem =
            |message: &str| Problem { origin: Origin::Flag("--port"), message: message.to_owned() };
        let complaint = Complaint::from(Problems(vec![problem("one"), problem("two")]));
        assert_eq!(complaint.exit, exit::USAGE);
        let text = complaint.to_string();
        assert!(
            text.starts_with("error[invalid_config]: the configuration is wrong in 2 places\n")
        );
        assert!(text.contains("\n  flag --port: one\n  flag --port: two\nhint: "), "{text}");
    }
}
