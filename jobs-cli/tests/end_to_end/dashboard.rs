//! `doorctl dashboard`: what reaches the hub through it, and what does not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use doorfleet_testing::{DEADLINE, HubProcess, Process};
use serde_json::Value;

use super::support::{Operator, start_hub};

struct Dashboard {
    process: Process,
    port: u16,
    /// `/SECRET/`.
    base: String,
    token: String,
}

/// Status, head in lower case, and body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Dashboard {
    fn start(operator: &Operator, flags: &str) -> Self {
        let mut command = operator.command(format!("dashboard --no-open {flags}"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        let address = process.stdout().next().unwrap();
        let (port, base) = address
            .strip_prefix("http://127.0.0.1:")
            .and_then(|rest| rest.split_once('/'))
            .unwrap_or_else(|| panic!("{address}"));
        let mut dashboard = Self {
            process,
            port: port.parse().unwrap(),
            base: format!("/{base}"),
            token: String::new(),
        };
        let session = dashboard.get("session");
        assert_eq!(session.status, 200, "{}", session.body);
        let session: Value = serde_json::from_str(&session.body).unwrap();
        dashboard.token = session["token"].as_str().unwrap().to_owned();
        dashboard
    }

    fn get(&self, path: &str) -> Answer {
        let host = format!("127.0.0.1:{}", self.port);
        self.send(&format!("GET {{base}}{path} HTTP/1.1\r\nHost: {host}\r\n"))
    }

    fn api(&self, path: &str, more: &str) -> Answer {
        let ours = "Host: localhost:{port}\r\nx-doorfleet-token: {token}\r\n";
        self.send(&format!("GET {{base}}api/{path} HTTP/1.1\r\n{ours}{more}"))
    }

    /// Sends a request without the empty line after its head.
    fn send(&self, head: &str) -> Answer {
        let mut stream = self.begin(&format!("{head}connection: close\r\n\r\n"));
        let mut text = String::new();
        // A server that refuses a body closes the connection before all of it is sent.
        let read = stream.read_to_string(&mut text);
        assert!(read.is_ok() || !text.is_empty(), "{head}: {read:?}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        Answer {
            status: head.get(9..12).unwrap_or("0").parse().unwrap(),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    fn begin(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let text = text
            .replace("{base}", &self.base)
            .replace("{token}", &self.token)
            .replace("{port}", &self.port.to_string());
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }
}

fn read_until(stream: &mut TcpStream, part: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(part) {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).unwrap();
        assert!(
            count > 0,
            "{part:?} is missing: {}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend(&bytes[..count]);
    }
    String::from_utf8(seen).unwrap()
}

fn hub() -> (Operator, HubProcess) {
    let operator = Operator::new();
    let data = operator.folder().join("hub");
    let hub = start_hub(&data);
    operator.use_hub(&data);
    (operator, hub)
}

#[test]
fn hostile_requests_reach_neither_page_nor_hub() {
    let (operator, _hub) = hub();
    let dashboard = Dashboard::start(&operator, "");
    let ours = "HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n";
    let token = "x-doorfleet-token: {token}\r\n";
    let long = format!("content-length: {}\r\n", 3 * 1024 * 1024);
    for (what, request, status) in [
        ("the page", format!("GET {{base}} {ours}"), 200),
        (
            "a request",
            format!("GET {{base}}api/devices?api-version=1 {ours}{token}"),
            200,
        ),
        (
            "a request of the page",
            format!("GET {{base}}session {ours}sec-fetch-site: same-origin\r\n"),
            200,
        ),
        (
            "a rebound name",
            "GET {base} HTTP/1.1\r\nHost: rebound.example:{port}\r\n".into(),
            421,
        ),
        (
            "another port",
            "GET {base} HTTP/1.1\r\nHost: 127.0.0.1:1\r\n".into(),
            421,
        ),
        (
            "no port",
            "GET {base} HTTP/1.1\r\nHost: localhost\r\n".into(),
            421,
        ),
        ("no host", "GET {base} HTTP/1.1\r\n".into(), 421),
        (
            "two hosts",
            format!("GET {{base}} {ours}Host: rebound.example\r\n"),
            421,
        ),
        (
            "an absolute address",
            format!("GET http://127.0.0.1:{{port}}{{base}} {ours}"),
            421,
        ),
        (
            "another proxy's address",
            format!("GET http://example.org/ {ours}"),
            421,
        ),
        ("the root", format!("GET / {ours}"), 404),
        (
            "a wrong secret",
            format!("GET /00000000000000000000000000000000/ {ours}"),
            404,
        ),
        (
            "no secret",
            format!("GET /api/devices?api-version=1 {ours}{token}"),
            404,
        ),
        ("an empty secret", format!("GET //session {ours}"), 404),
        (
            "the folder above",
            format!("GET {{base}}../session {ours}"),
            404,
        ),
        (
            "a file beside",
            format!("GET {{base}}..%2fCargo.toml {ours}"),
            404,
        ),
        (
            "another method",
            format!("POST {{base}}session {ours}content-length: 0\r\n"),
            405,
        ),
        (
            "another site",
            format!("GET {{base}}session {ours}sec-fetch-site: cross-site\r\n"),
            403,
        ),
        (
            "another service of this machine",
            format!("GET {{base}}session {ours}sec-fetch-site: same-site\r\n"),
            403,
        ),
        (
            "another site with a token",
            format!("GET {{base}}api/devices {ours}{token}sec-fetch-site: cross-site\r\n"),
            403,
        ),
        ("no token", format!("GET {{base}}api/devices {ours}"), 403),
        (
            "an empty token",
            format!("GET {{base}}api/devices {ours}x-doorfleet-token:\r\n"),
            403,
        ),
        (
            "a wrong token",
            format!("GET {{base}}api/devices {ours}x-doorfleet-token: 0\r\n"),
            403,
        ),
        (
            "a preflight",
            format!("OPTIONS {{base}}api/devices {ours}{token}"),
            405,
        ),
        (
            "a path upwards",
            format!("GET {{base}}api/../session {ours}{token}"),
            404,
        ),
        (
            "an encoded path upwards",
            format!("GET {{base}}api/%2e%2E/devices {ours}{token}"),
            404,
        ),
        (
            "another host",
            format!("GET {{base}}api//example.org/ {ours}{token}"),
            404,
        ),
        (
            "an address as path",
            format!("GET {{base}}api/http://example.org {ours}{token}"),
            404,
        ),
        (
            "a line break",
            format!("GET {{base}}api/a%0d%0aHost:%20b {ours}{token}"),
            404,
        ),
        (
            "a folded header",
            format!("GET {{base}} {ours}x-a: b\r\n c: d\r\n"),
            400,
        ),
        (
            "a long body",
            format!("POST {{base}}api/devices/query {ours}{token}{long}"),
            413,
        ),
    ] {
        let answer = dashboard.send(&request);
        assert_eq!(
            answer.status, status,
            "{what}: {} {}",
            answer.head, answer.body
        );
        assert!(
            !answer.head.contains("access-control-"),
            "{what}: {}",
            answer.head
        );
        assert!(answer.body.contains(&dashboard.token) == request.contains("same-origin"));
        if status != 400 {
            for header in [
                "content-security-policy: default-src 'none'; script-src 'self';",
                "x-content-type-options: nosniff",
                "referrer-policy: no-referrer",
                "cache-control: no-",
            ] {
                assert!(answer.head.contains(header), "{what}: {}", answer.head);
            }
        }
        if status > 400 {
            assert!(
                answer.body.contains(r#""Message":"ErrorCode:"#),
                "{what}: {}",
                answer.body
            );
        }
    }
}

#[test]
fn slow_clients_do_not_keep_others_out() {
    let (operator, _hub) = hub();
    let dashboard = Dashboard::start(&operator, "");
    let _slow = [(); 20].map(|()| dashboard.begin("GET {base} HTTP/1.1\r\nHost:"));
    let _silent = [(); 20].map(|()| dashboard.begin(""));
    assert_eq!(dashboard.get("").status, 200);
}

#[test]
fn answers_of_the_hub_come_through_as_they_are() {
    let (operator, hub) = hub();
    operator
        .run("devices add lobby-east lobby-west --building 43")
        .expect(0);
    operator
        .run("devices tag lobby-east name=<b>ä</b>")
        .expect(0);
    let dashboard = Dashboard::start(&operator, "");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = hub.operator.client();
    let query = r#"{"query":"SELECT * FROM devices"}"#;
    let answers = async |method: reqwest::Method, path: &str, headers: &[(&str, &str)]| {
        let through = format!(
            "http://127.0.0.1:{}{}api{path}",
            dashboard.port, dashboard.base
        );
        let through = client.request(method.clone(), through);
        let through = through.header("x-doorfleet-token", &dashboard.token);
        let mut both = Vec::new();
        for mut request in [hub.operator.request(method, path), through] {
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if path.contains("query") {
                request = request.body(query);
            }
            let response = request.send().await.unwrap();
            let status = response.status();
            let named = |name: &&str| response.headers().get(*name).cloned();
            let names = [
                "content-type",
                "etag",
                "iothub-errorcode",
                "x-ms-continuation",
            ];
            let headers: Vec<_> = names.iter().map(named).collect();
            let mut body = response.text().await.unwrap();
            // Each error has an id and a time of its own.
            if let Some((before, _)) = body.split_once("Tracking ID") {
                body = before.to_owned();
            }
            both.push((status, headers, body));
        }
        both
    };
    runtime.block_on(async {
        let version = "?api-version=2021-04-12";
        let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
        let page = &[("x-ms-max-item-count", "1")][..];
        for (method, path, headers, status) in [
            (
                get.clone(),
                format!("/twins/lobby-east{version}"),
                &[][..],
                200,
            ),
            (get.clone(), format!("/twins/nobody{version}"), &[], 404),
            (get.clone(), format!("/devices{version}&top=1"), &[], 200),
            (
                get.clone(),
                "/events?after=0&follow=false".to_owned(),
                &[],
                200,
            ),
            (
                get,
                "/events?follow=false".to_owned(),
                &[("last-event-id", "2")],
                200,
            ),
            (post, format!("/devices/query{version}"), page, 200),
            (
                reqwest::Method::DELETE,
                format!("/devices/lobby-west{version}"),
                &[("if-match", "\"wrong\"")],
                412,
            ),
        ] {
            let both = answers(method, &path, headers).await;
            assert_eq!(both[0].0, status, "{path}: {}", both[0].2);
            assert_eq!(both[0], both[1], "{path}");
        }
    });
}

#[test]
fn events_pass_through_when_they_happen_and_end_with_ctrl_c() {
    let (operator, _hub) = hub();
    let mut dashboard = Dashboard::start(&operator, "--verbose");
    let mut stderr = dashboard.process.stderr();
    let mut stream = dashboard.begin(
        "GET {base}api/events HTTP/1.1\r\nHost: localhost:{port}\r\n\
         x-doorfleet-token: {token}\r\naccept: text/event-stream\r\n\r\n",
    );
    read_until(&mut stream, "content-type: text/event-stream");
    operator.run("devices add lobby-east").expect(0);
    read_until(&mut stream, r#""deviceId":"lobby-east""#);
    assert_eq!(dashboard.process.interrupt().code(), Some(0));
    let log = stderr.by_ref().collect::<Vec<_>>().join("\n");
    assert!(log.contains("> GET https://localhost:"), "{log}");
    for secret in [&dashboard.token, &dashboard.base, "SharedAccess", "sig="] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

#[test]
fn a_hub_that_is_away_is_an_error_until_it_is_back() {
    let (operator, hub) = hub();
    let dashboard = Dashboard::start(&operator, "");
    let twins = "twins/nobody?api-version=2021-04-12";
    assert_eq!(dashboard.api(twins, "").status, 404);
    let start = hub.kill();
    for answer in [dashboard.api(twins, ""), dashboard.get("session")] {
        assert_eq!(answer.status, 502, "{}", answer.body);
        assert!(
            answer.body.contains("ErrorCode:HubUnavailable;"),
            "{}",
            answer.body
        );
    }
    let _hub = start();
    let begun = std::time::Instant::now();
    while dashboard.api(twins, "").status != 404 {
        assert!(begun.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(50));
    }
}
