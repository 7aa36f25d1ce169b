//! The WebSocket subscriber, against a server of a few lines.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cm_testkit::app::{Closed, StreamClient, StreamOptions};
use cm_testkit::mailbox::WaitError;
use serde_json::json;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket, accept_hdr};

const DEADLINE: Duration = Duration::from_secs(20);

type Checked = Result<Response, ErrorResponse>;

/// Accepts one connection on a thread of its own and plays `serve` on it. A connection that ends
/// in the middle is the test's business.
fn server(
    serve: impl FnOnce(&mut WebSocket<TcpStream>) -> Result<(), tungstenite::Error> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        #[expect(clippy::result_large_err, reason = "the library's signature")]
        let check = |request: &Request, response: Response| -> Checked {
            let origin = request.headers().get("origin").map(|value| value.as_bytes().to_vec());
            if origin.as_deref() == Some(b"http://evil.example") {
                let refusal = tungstenite::http::Response::builder().status(403);
                return Err(refusal.body(Some("{\"code\":\"origin\"}".to_owned())).unwrap());
            }
            assert_eq!(request.uri().to_string(), "/api/stream?threadId=t");
            Ok(response)
        };
        if let Ok(mut socket) = accept_hdr(stream, check) {
            let _ = serve(&mut socket);
        }
    });
    address
}

fn connect(address: SocketAddr) -> StreamClient {
    StreamClient::connect(address, &StreamOptions::default().query("threadId", "t")).unwrap()
}

#[test]
fn frames_are_waited_for_in_order_and_all_kept() {
    let address = server(|socket| {
        for number in 0..3_000 {
            socket.write(Message::text(json!({ "type": "n", "number": number }).to_string()))?;
        }
        socket.flush()?;
        let question = socket.read()?;
        socket.send(question)?;
        socket.send(Message::text("not JSON"))?;
        let code = 1013.into();
        socket.close(Some(CloseFrame { code, reason: "try again".into() }))?;
        while socket.read().is_ok() {}
        Ok(())
    });
    let mut client = connect(address);
    assert_eq!(client.next(DEADLINE)["number"], 0);
    assert_eq!(client.wait_for(|frame| frame["number"] == 2_999, DEADLINE)["type"], "n");
    client.send(&json!({ "type": "echo" }));
    client.wait_type("echo", DEADLINE);
    assert_eq!(client.next(DEADLINE), json!("not JSON"));
    let closed = client.wait_closed(DEADLINE);
    assert_eq!(closed, Closed { code: Some(1013), reason: "try again".to_owned() });
    assert_eq!(client.frames().len(), 3_002);
    let after = client.try_wait_for(|_| true, DEADLINE);
    assert!(matches!(after, Err(WaitError::Closed(_))), "{after:?}");
}

#[test]
fn a_refused_upgrade_is_an_answer() {
    let address = server(|_| Ok(()));
    let options = StreamOptions::default().header("Origin", "http://evil.example");
    let refused = StreamClient::connect(address, &options).unwrap_err();
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("origin")));
}

#[test]
fn a_stalled_client_takes_nothing_until_it_reads_again() {
    let (told, stalled) = std::sync::mpsc::sync_channel::<()>(1);
    let address = server(move |socket| {
        stalled.recv().unwrap();
        // More than the buffers of both sockets hold, so this ends only when the client reads.
        socket.send(Message::text("x".repeat(64 * 1024 * 1024)))?;
        socket.read().map(|_| ())
    });
    let mut client = connect(address);
    client.stop_reading();
    told.send(()).unwrap();
    let nothing = client.try_wait_for(|_| true, Duration::from_millis(100));
    assert_eq!(nothing, Err(WaitError::Deadline(Duration::from_millis(100))));
    client.resume_reading();
    assert_eq!(client.next(DEADLINE).as_str().map(str::len), Some(64 * 1024 * 1024));
    client.close();
    client.wait_closed(DEADLINE);
}
