//! Where the server is.

use ureq::http::Uri;

use crate::failure::Failure;

/// A checked base URL and API prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `host:port`, for sockets.
    pub(crate) authority: String,
    /// Host without brackets.
    pub(crate) host: String,
    /// Port; 80 where the URL names none.
    pub(crate) port: u16,
    /// Path in front of every route, such as `/api`, without a slash at the end.
    prefix: String,
}

impl Endpoint {
    /// Checks a base URL and an API prefix.
    ///
    /// # Errors
    ///
    /// When the URL is not a plain `http://host[:port][/path]`.
    pub(crate) fn parse(base: &str, prefix: &str) -> Result<Self, Failure> {
        let trimmed = base.trim();
        let uri: Uri = trimmed.parse().map_err(|error| {
            Failure::Usage(format!("the server URL {trimmed:?} cannot be read: {error}"))
        })?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(Failure::Usage(format!(
                    "the server URL {trimmed:?} wants TLS, which this client does not speak: \
                     forward the port with `ssh -L 3001:127.0.0.1:3001 HOST` or through a local \
                     proxy and give the http:// address of that"
                )));
            }
            _ => {
                return Err(Failure::Usage(format!(
                    "the server URL {trimmed:?} does not start with http://"
                )));
            }
        }
        let authority = uri
            .authority()
            .ok_or_else(|| Failure::Usage(format!("the server URL {trimmed:?} names no host")))?;
        if authority.as_str().contains('@') {
            return Err(Failure::Usage(
                "the server URL holds a user name: give a token with --token-file instead"
                    .to_owned(),
            ));
        }
        if uri.query().is_some() {
            return Err(Failure::Usage(format!("the server URL {trimmed:?} holds a query")));
        }
        let prefix =
            format!("{}/{}", uri.path().trim_matches('/'), prefix.trim().trim_matches('/'));
        let prefix = prefix.trim_matches('/');
        Ok(Self {
            authority: authority.as_str().to_owned(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") },
        })
    }

    /// The base URL, for people.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.authority)
    }

    /// The URL of a route, which starts with a slash.
    pub(crate) fn url(&self, route: &str) -> String {
        format!("http://{}{}{route}", self.authority, self.prefix)
    }

    /// The URL of a WebSocket route, which starts with a slash.
    pub(crate) fn socket_url(&self, route: &str) -> String {
        format!("ws://{}{}{route}", self.authority, self.prefix)
    }
}

/// A value as it stands in a query.
pub(crate) fn query_value(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_put_together() {
        let endpoint = Endpoint::parse("http://127.0.0.1:3001/", "api/").unwrap();
        assert_eq!(endpoint.url("/health"), "http://127.0.0.1:3001/api/health");
        assert_eq!(endpoint.socket_url("/stream"), "ws://127.0.0.1:3001/api/stream");
        let below = Endpoint::parse("http://[::1]:8/manager/", "/api").unwrap();
        assert_eq!(below.url("/health"), "http://[::1]:8/manager/api/health");
        assert_eq!((below.host.as_str(), below.port), ("::1", 8));
        let bare = Endpoint::parse("http://host", "/").unwrap();
        assert_eq!((bare.url("/health").as_str(), bare.port), ("http://host/health", 80));
    }

    #[test]
    fn what_cannot_work_is_said() {
        for (url, word) in [
            ("https://host", "TLS"),
            ("ftp://host", "http://"),
            ("host:3001", "http"),
            ("http://user:secret@host", "token"),
            ("http://host/?a=b", "query"),
            ("", "cannot be read"),
        ] {
            let message = Endpoint::parse(url, "/api").unwrap_err().to_string();
            assert!(message.contains(word), "{url}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(query_value("a b&c=ä/"), "a%20b%26c%3D%C3%A4%2F");
    }
}
