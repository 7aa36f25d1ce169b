//! The pure part: which hosts, origins and tokens are accepted.

use std::net::IpAddr;

use subtle::ConstantTimeEq;

/// Names by which this machine reaches itself.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// What is accepted.
#[derive(Clone)]
pub struct AccessPolicy {
    /// Host names, without port, besides the loopback names.
    hosts: Vec<String>,
    /// Whether the server is bound to every address of the machine. Then any literal address is
    /// one of its names: a name could be rebound by DNS, an address cannot.
    every_address: bool,
    /// Origins besides the server's own.
    origins: Vec<String>,
    /// The token that every request must carry; `None` when none is needed.
    token: Option<String>,
}

impl std::fmt::Debug for AccessPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessPolicy")
            .field("hosts", &self.hosts)
            .field("origins", &self.origins)
            .field("token", &self.token.is_some())
            .finish()
    }
}

impl AccessPolicy {
    /// Makes a policy for a server that is bound to `host`.
    pub fn new(host: &str, origins: Vec<String>, token: Option<String>) -> Self {
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        let every_address = address.is_some_and(|address| address.is_unspecified());
        let host = match address {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host,
        };
        let origins = origins
            .into_iter()
            .map(|origin| origin.trim_end_matches('/').to_ascii_lowercase())
            .collect();
        Self { hosts: vec![host], every_address, origins, token }
    }

    /// Whether requests need a token.
    pub fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether the `Host` header names this server. The port does not matter: a rebound name
    /// cannot be a loopback name, and a proxy on this machine may keep its own port.
    pub fn accepts_host(&self, host: &str) -> bool {
        let host = host.trim().to_ascii_lowercase();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => {
                name
            }
            _ => host.as_str(),
        };
        let is_address = || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        LOOPBACK_NAMES.contains(&name)
            || self.hosts.iter().any(|own| own == name)
            || (self.every_address && is_address())
    }

    /// Whether a page of this origin may talk to the server. `null` may only read: without CORS
    /// headers it cannot see the answer.
    pub fn accepts_origin(&self, origin: &str, host: &str, reads_only: bool) -> bool {
        let origin = origin.trim().to_ascii_lowercase();
        if origin == "null" {
            return reads_only;
        }
        let own = host.trim().to_ascii_lowercase();
        let is_own = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
            .is_some_and(|authority| authority == own);
        is_own || self.origins.contains(&origin)
    }

    /// Whether a token is the right one; compared in constant time.
    pub fn accepts_token(&self, given: &str) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        token.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> AccessPolicy {
        let origins = vec!["http://localhost:5173".to_owned()];
        AccessPolicy::new("192.168.1.5", origins, Some("secret".to_owned()))
    }

    #[test]
    fn only_our_own_names_are_hosts() {
        for host in ["127.0.0.1:3001", "localhost", "[::1]:3001", "192.168.1.5:1", "LOCALHOST:9"] {
            assert!(policy().accepts_host(host), "{host}");
        }
        let foreign =
            ["evil.example:3001", "127.0.0.1.evil.example", "", "localhost.evil", "192.168.1.50"];
        for host in foreign {
            assert!(!policy().accepts_host(host), "{host}");
        }
    }

    #[test]
    fn bound_to_every_address_it_answers_to_each_but_to_no_name() {
        let policy = AccessPolicy::new("0.0.0.0", Vec::new(), None);
        assert!(policy.accepts_host("192.0.2.7:3001"));
        assert!(policy.accepts_host("[2001:db8::1]:3001"));
        assert!(!policy.accepts_host("evil.example:3001"));
        assert!(!policy.accepts_host("192.0.2.7.evil.example"));
    }

    #[test]
    fn only_our_own_page_and_allowed_ones_are_origins() {
        let accepts = |origin: &str| policy().accepts_origin(origin, "127.0.0.1:3001", false);
        assert!(accepts("http://127.0.0.1:3001"));
        assert!(accepts("http://localhost:5173"));
        for origin in [
            "http://127.0.0.1:8000",
            "http://evil.example",
            "null",
            "",
            "http://127.0.0.1:3001.evil.example",
            "ftp://127.0.0.1:3001",
        ] {
            assert!(!accepts(origin), "{origin}");
        }
        assert!(policy().accepts_origin("null", "127.0.0.1:3001", true));
    }

    #[test]
    fn a_token_must_match() {
        assert!(policy().accepts_token("secret"));
        assert!(!policy().accepts_token("secre"));
        assert!(!policy().accepts_token(""));
        assert!(AccessPolicy::new("127.0.0.1", Vec::new(), None).accepts_token(""));
    }
}
