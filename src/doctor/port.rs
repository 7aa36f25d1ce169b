//! The port, and whoever answers there.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use cm_core::wire::{Readiness, Reason};

use crate::config::{Secret, ServerSettings};
use crate::neighbour;

use super::report::{Finding, State};

const AREA: &str = "port";
const OTHER_PORT: &str = "stop it, or take another port with --port (PORT)";

/// Whether the port is free, and if a manager answers there, how that one is.
pub(super) fn check(server: &ServerSettings) -> Vec<Finding> {
    let shown = match server.host.contains(':') {
        true => format!("[{}]:{}", server.host, server.port),
        false => format!("{}:{}", server.host, server.port),
    };
    let address = match (server.host.as_str(), server.port).to_socket_addrs() {
        Ok(mut addresses) => addresses.next(),
        Err(error) => {
            let message = format!("{} cannot be found: {error}", server.host);
            return vec![Finding::problem(AREA, message, "correct --host (HOST)")];
        }
    };
    let Some(address) = address else {
        let message = format!("{} has no address", server.host);
        return vec![Finding::problem(AREA, message, "correct --host (HOST)")];
    };
    match TcpListener::bind(address) {
        Ok(_) if server.port == 0 => vec![Finding::ok(AREA, "any free one will be taken")],
        Ok(_) => vec![Finding::ok(AREA, format!("{shown} is free"))],
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            in_use(address, &shown, server.token.as_ref())
        }
        Err(error) => {
            let message = format!("{shown} cannot be listened on: {error}");
            vec![Finding::problem(AREA, message, "correct --host (HOST) or --port (PORT)")]
        }
    }
}

fn in_use(address: SocketAddr, shown: &str, token: Option<&Secret>) -> Vec<Finding> {
    match neighbour::get::<Readiness>(address, token, "/readyz") {
        Ok(readiness) => running(shown, readiness),
        Err(_) => {
            let message =
                format!("{shown} is taken by another program, or by a manager with another token");
            vec![Finding::problem(AREA, message, OTHER_PORT)]
        }
    }
}

/// What a running manager says of itself: the same list as its `/readyz`.
fn running(shown: &str, readiness: Readiness) -> Vec<Finding> {
    let ready = readiness.reasons.is_empty();
    let how = if ready { "is ready" } else { "is not ready" };
    let mut findings =
        vec![Finding::ok(AREA, format!("a manager runs on {shown} already and {how}"))];
    let mut add = |state: State, reason: Reason| {
        findings.push(Finding {
            area: "manager",
            state,
            code: Some(reason.code),
            message: reason.message,
            mend: None,
        });
    };
    readiness.reasons.into_iter().for_each(|reason| add(State::Problem, reason));
    readiness.warnings.into_iter().for_each(|reason| add(State::Note, reason));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn settings(port: u16) -> ServerSettings {
        ServerSettings {
            host: "127.0.0.1".to_owned(),
            port,
            allowed_origins: Vec::new(),
            token: Some(Secret::new("0123456789abcdef")),
            http_workers: 1,
        }
    }

    /// Answers one connection, and returns what was asked.
    fn answer(listener: TcpListener, text: &'static str) -> std::thread::JoinHandle<String> {
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            let mut byte = [0];
            while !seen.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                seen.push(byte[0]);
            }
            stream.write_all(text.as_bytes()).unwrap();
            String::from_utf8(seen).unwrap()
        })
    }

    #[test]
    fn a_free_port_is_free() {
        assert_eq!(check(&settings(0))[0].state, State::Ok);
        let mut wrong = settings(3001);
        wrong.host = "no such host.invalid".to_owned();
        assert_eq!(check(&wrong)[0].state, State::Problem);
    }

    #[test]
    fn a_manager_that_runs_there_tells_its_reasons() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = answer(
            listener,
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\r\n\
             {\"status\":\"not_ready\",\"reasons\":[{\"code\":\"auth_required\",\"message\":\"m\"}],\
             \"warnings\":[{\"code\":\"restored\",\"message\":\"w\"}]}",
        );
        let findings = check(&settings(port));
        let asked = server.join().unwrap();
        assert!(asked.starts_with("GET /readyz HTTP/1.0\r\n"), "{asked}");
        assert!(asked.contains(&format!("Host: 127.0.0.1:{port}\r\n")));
        assert!(asked.contains("Authorization: Bearer 0123456789abcdef\r\n"));
        let states: Vec<_> = findings.iter().map(|one| (one.state, one.code.as_deref())).collect();
        assert_eq!(
            states,
            [
                (State::Ok, None),
                (State::Problem, Some("auth_required")),
                (State::Note, Some("restored"))
            ]
        );
    }

    #[test]
    fn a_stranger_on_the_port_is_a_problem() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = answer(listener, "SSH-2.0-OpenSSH_9.2\r\n");
        let findings = check(&settings(port));
        server.join().unwrap();
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].state, State::Problem);
        assert!(findings[0].message.contains("another program"));
    }
}
