//! A login that Codex cannot renew any more, told by the words that it says so in.
//!
//! The access token of a ChatGPT login is renewed with a refresh token, which changes each time. Of
//! two copies of one login only one renews; the other is told that its token was already used.

/// Why a login cannot be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFailure {
    /// Its refresh token was used by another copy of it.
    Used,
    /// Its refresh token is too old.
    Expired,
    /// Its refresh token was revoked.
    Revoked,
    /// Somebody signed out, or in to another account.
    OtherAccount,
    /// Codex does not say why.
    Unknown,
}

/// What to do, as sentences.
pub const LOGIN_ADVICE: &str = "Sign in for this home (`codex login` with the CODEX_HOME that /api/runtime shows) and restart \
     the runtime, or take over a fresh login of yours with `codex-manager account adopt`.";

impl LoginFailure {
    /// Looks for it in what Codex said: an error of a call or of a turn.
    ///
    /// Texts as codex 0.53 – 0.169 write them (openai/codex issues 6028, 6498 and 9634).
    pub fn find(text: &str) -> Option<Self> {
        const BECAUSE: &str = "access token could not be refreshed because ";
        if let Some((_, why)) = text.split_once(BECAUSE) {
            return Some(if why.starts_with("your refresh token was already used") {
                Self::Used
            } else if why.starts_with("your refresh token has expired") {
                Self::Expired
            } else if why.starts_with("your refresh token was revoked") {
                Self::Revoked
            } else if why.starts_with("you have since logged out or signed in") {
                Self::OtherAccount
            } else {
                Self::Unknown
            });
        }
        if text.contains("refresh token has already been used")
            || text.contains("refresh_token_reused")
        {
            return Some(Self::Used);
        }
        text.contains("access token could not be refreshed. Please log out")
            .then_some(Self::Unknown)
    }

    /// What happened, as a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Used => {
                "The login of Codex is used up: its refresh token was already used by another copy \
                 of the same login."
            }
            Self::Expired => "The login of Codex is used up: its refresh token has expired.",
            Self::Revoked => "The login of Codex is used up: its refresh token was revoked.",
            Self::OtherAccount => {
                "The login of Codex is used up: somebody signed out, or in to another account."
            }
            Self::Unknown => "The login of Codex is used up: it cannot be renewed any more.",
        }
    }

    /// What happened and what to do, as sentences.
    pub fn message(self) -> String {
        format!("{} {LOGIN_ADVICE}", self.sentence())
    }
}

/// Why Codex refuses tokens that are none.
pub const SIGN_IN_TOKENS: &str =
    "Codex does not take these tokens: the access token must be a JWT of the named account.";

/// Why Codex refused a sign-in, in words of our own: its own may hold what it was given.
///
/// Texts as codex 0.140 – 0.169 write them.
pub fn sign_in_refusal(text: &str) -> &'static str {
    let text = text.to_ascii_lowercase();
    let has = |known: &str| text.contains(known);
    if has("api key login is disabled") {
        "The configuration of Codex does not allow signing in with an API key."
    } else if has("chatgpt login is disabled") {
        "The configuration of Codex does not allow signing in with ChatGPT."
    } else if has("external auth is active") {
        "Tokens that a client keeps fresh are in use: send new ones, or sign out first."
    } else if has("must use one of workspace") || has("must use workspace") {
        "The configuration of Codex allows other ChatGPT workspaces only."
    } else if has("access token") || has("external auth") || has("jwt") || has("token format") {
        SIGN_IN_TOKENS
    } else {
        "Codex refused the sign-in. Its own words are not repeated, since they may hold what it was \
         given."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_sign_in_is_told_in_words_of_our_own() {
        for (text, word) in [
            ("API key login is disabled. Use ChatGPT login instead.", "API key"),
            ("ChatGPT login is disabled. Use API key login instead.", "with ChatGPT"),
            ("External auth is active. Use account/login/start", "sign out"),
            ("External auth must use one of workspace(s) a, but received b.", "workspaces"),
            ("failed to set external auth: invalid sk-secret", "JWT"),
            ("boom sk-secret", "refused"),
        ] {
            let said = sign_in_refusal(text);
            assert!(said.contains(word) && !said.contains("sk-secret"), "{said}");
        }
    }

    #[test]
    fn every_text_that_was_seen_is_recognised() {
        let refreshed = "Your access token could not be refreshed";
        for (text, failure) in [
            (
                format!("{refreshed} because your refresh token was already used. Please log out and sign in again."),
                LoginFailure::Used,
            ),
            (
                format!("{refreshed} because your refresh token has expired. Please log out and sign in again."),
                LoginFailure::Expired,
            ),
            (
                format!("{refreshed} because your refresh token was revoked. Please log out and sign in again."),
                LoginFailure::Revoked,
            ),
            (
                format!("{refreshed} because you have since logged out or signed in to another account. Please sign in again."),
                LoginFailure::OtherAccount,
            ),
            (format!("{refreshed}. Please log out and sign in again."), LoginFailure::Unknown),
            (
                "Failed to refresh token: 401 Unauthorized: Your refresh token has already been used to generate a new access token. Please try signing in again.".to_owned(),
                LoginFailure::Used,
            ),
            (
                r#"Failed to refresh token: 401 Unauthorized: {"error": {"code": "refresh_token_reused"}}"#.to_owned(),
                LoginFailure::Used,
            ),
        ] {
            assert_eq!(LoginFailure::find(&text), Some(failure), "{text}");
            let inside = format!("failed: {text}");
            assert_eq!(LoginFailure::find(&inside), Some(failure), "{inside}");
            assert!(failure.message().contains("account adopt"));
        }
    }

    #[test]
    fn other_errors_are_not_taken_for_it() {
        for text in [
            "",
            "unexpected status 401 Unauthorized: token expired",
            "the refresh token of the MCP server was rejected",
            "Your access token is fine",
        ] {
            assert_eq!(LoginFailure::find(text), None, "{text}");
        }
    }
}
