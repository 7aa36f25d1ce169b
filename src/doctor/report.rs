//! Findings, and how they are printed.

use std::fmt;

use cm_core::error::exit;
use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing fails for it.
    Note,
    /// Something does not work.
    Problem,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at, a word or two.
    pub(crate) area: &'static str,
    /// How bad it is.
    pub(crate) state: State,
    /// Stable code, where a running manager gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// What was found.
    pub(crate) message: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mend: Option<String>,
}

impl Finding {
    fn new(area: &'static str, state: State, message: String, mend: Option<String>) -> Self {
        Self { area, state, code: None, message, mend }
    }

    /// As it should be.
    pub(crate) fn ok(area: &'static str, message: impl Into<String>) -> Self {
        Self::new(area, State::Ok, message.into(), None)
    }

    /// Worth knowing.
    pub(crate) fn note(area: &'static str, message: impl Into<String>) -> Self {
        Self::new(area, State::Note, message.into(), None)
    }

    /// Something does not work; `mend` says what to do.
    pub(crate) fn problem(
        area: &'static str,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new(area, State::Problem, message.into(), Some(mend.into()))
    }
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// The findings in the order of the checks.
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// Exit code: 0 when nothing is wrong.
    pub(crate) fn exit(&self) -> u8 {
        if self.problems() == 0 { exit::OK } else { exit::UNAVAILABLE }
    }

    fn problems(&self) -> usize {
        self.findings.iter().filter(|finding| finding.state == State::Problem).count()
    }

    /// The report for programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({"ok": self.problems() == 0, "findings": self.findings})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let mark = match finding.state {
                State::Ok => "ok",
                State::Note => "note",
                State::Problem => "WRONG",
            };
            write!(f, "{mark:<6} {:<12} {}", finding.area, finding.message)?;
            if let Some(code) = &finding.code {
                write!(f, " [{code}]")?;
            }
            f.write_str("\n")?;
            if let Some(mend) = &finding.mend {
                writeln!(f, "{:<19} -> {mend}", "")?;
            }
        }
        match self.problems() {
            0 => f.write_str("\nAll is well.\n"),
            1 => f.write_str("\nOne thing is wrong.\n"),
            count => writeln!(f, "\n{count} things are wrong."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_and_the_last_line_follow_the_problems() {
        let mut report = Report::default();
        report.findings.push(Finding::ok("codex", "0.169.0"));
        report.findings.push(Finding::note("sandbox", "bwrap is missing"));
        assert_eq!(report.exit(), exit::OK);
        assert!(report.to_string().ends_with("All is well.\n"));
        report.findings.push(Finding::problem("port", "taken", "take another"));
        assert_eq!(report.exit(), exit::UNAVAILABLE);
        let text = report.to_string();
        assert!(text.contains("WRONG  port         taken\n"), "{text}");
        assert!(text.contains("-> take another"));
        assert_eq!(report.json()["ok"], false);
        assert_eq!(report.json()["findings"][2]["state"], "problem");
    }
}
