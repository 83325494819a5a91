//! The hub's own page: files, sessions and plans.

use doorfleet_testing::{Answer, TestHub, answer, eventually, texts};
use futures_util::future::join_all;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::bounds::{GUARD, VIEWER, add, bounds, change, fleet};

const TOKEN: &str = "x-doorfleet-token";
const SITE: &str = "sec-fetch-site";

/// A browser that is signed in.
struct Browser {
    cookie: String,
    token: String,
}

impl Browser {
    fn request(&self, hub: &TestHub, method: Method, path: &str) -> RequestBuilder {
        hub.anonymous(method, path)
            .header(COOKIE, &self.cookie)
            .header(TOKEN, &self.token)
            .header(SITE, "same-origin")
    }

    async fn send(&self, hub: &TestHub, method: Method, path: &str) -> Answer {
        answer(self.request(hub, method, path)).await
    }

    async fn status(&self, hub: &TestHub, path: &str) -> StatusCode {
        self.send(hub, Method::GET, path).await.status
    }
}

fn key_of(hub: &TestHub, policy: &str) -> String {
    hub.hub.policy(policy).unwrap().keys.primary.to_base64()
}

async fn login(hub: &TestHub, policy: &str, key: &str) -> Answer {
    let request = hub.anonymous(Method::POST, "/ui/login");
    let body = json!({ "policy": policy, "key": key });
    answer(request.header(SITE, "same-origin").json(&body)).await
}

async fn sign_in(hub: &TestHub, policy: &str) -> Browser {
    let answer = login(hub, policy, &key_of(hub, policy)).await;
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    let (cookie, attributes) = cookie.split_once("; ").unwrap();
    for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(attributes.contains(attribute), "{attributes}");
    }
    assert!(cookie.starts_with("__Host-doorfleet-"), "{cookie}");
    let cookie = cookie.to_owned();
    let document = answer.ok();
    assert_eq!(
        (&document["policy"], &document["api"]),
        (&json!(policy), &json!("/"))
    );
    let token = document["token"].as_str().unwrap().to_owned();
    Browser { cookie, token }
}

/// A hub with a guard and a viewer of building 43.
async fn guarded() -> TestHub {
    let hub = fleet().await;
    for role in [GUARD, VIEWER] {
        add(
            &hub,
            role,
            "ServiceConnect,RegistryRead",
            Some(bounds(role)),
        )
        .await;
    }
    hub
}

#[tokio::test]
async fn a_session_acts_as_its_policy_and_the_audit_log_names_the_page() {
    let hub = guarded().await;
    let guard = sign_in(&hub, GUARD).await;
    let document = guard.send(&hub, Method::GET, "/ui/session").await.ok();
    assert_eq!(document["bounds"], bounds(GUARD));
    assert_eq!(document["token"], guard.token.as_str());
    assert_eq!(guard.status(&hub, "/twins/inner").await, 200);
    assert_eq!(guard.status(&hub, "/twins/outer").await, 404);
    let lockdown = json!({ "properties": { "desired": { "lockdown": { "id": "one" } } } });
    let patch = guard
        .request(&hub, Method::PATCH, "/twins/inner")
        .json(&lockdown);
    answer(patch).await.ok();
    let mode = json!({ "properties": { "desired": { "mode": "passage" } } });
    let patch = guard
        .request(&hub, Method::PATCH, "/twins/inner")
        .json(&mode);
    assert_eq!(answer(patch).await.status, 401);

    let rows = hub.get("/audit?policy=guard").await.ok();
    assert_eq!(
        texts(&rows, "operation"),
        ["twin.update", "twin.update", "session.begin"]
    );
    let peers = texts(&rows, "peer");
    assert!(
        peers[0].ends_with(" page") && peers[1].ends_with(" page"),
        "{peers:?}"
    );
    assert_eq!(rows[2]["status"], 200);
}

/// Each row: what is wrong with a request that has the right cookie.
#[tokio::test]
async fn a_cookie_opens_nothing_without_token_origin_and_host() {
    let hub = guarded().await;
    let browser = sign_in(&hub, "iothubowner").await;
    let other = sign_in(&hub, GUARD).await;
    let whole = |name: &str, value: &str| {
        let mut headers = vec![
            (COOKIE.as_str(), browser.cookie.clone()),
            (TOKEN, browser.token.clone()),
            (SITE, "same-origin".to_owned()),
        ];
        headers.retain(|(known, _)| *known != name);
        if !value.is_empty() {
            headers.push(match name {
                "cookie" => (COOKIE.as_str(), value.to_owned()),
                "host" => (HOST.as_str(), value.to_owned()),
                TOKEN => (TOKEN, value.to_owned()),
                _ => (SITE, value.to_owned()),
            });
        }
        let request = hub.anonymous(Method::GET, "/twins/inner");
        headers.into_iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        })
    };
    assert_eq!(answer(whole("", "")).await.status, 200);
    let twice = format!("{0}; {0}", browser.cookie);
    for (name, value) in [
        (TOKEN, ""),
        (TOKEN, "0"),
        (TOKEN, other.token.as_str()),
        (SITE, ""),
        (SITE, "none"),
        (SITE, "same-site"),
        (SITE, "cross-site"),
        ("host", "attacker.example"),
        ("cookie", ""),
        ("cookie", "__Host-doorfleet-1=0"),
        ("cookie", twice.as_str()),
        ("cookie", other.cookie.as_str()),
    ] {
        let refused = answer(whole(name, value)).await;
        assert_eq!(refused.status, 401, "{name}: {value}");
    }
    // A login from another site would let a person act as somebody else.
    for site in ["cross-site", "none"] {
        let request = hub.anonymous(Method::POST, "/ui/login").header(SITE, site);
        let body = json!({ "policy": GUARD, "key": key_of(&hub, GUARD) });
        let refused = answer(request.json(&body)).await;
        assert_eq!(refused.status, 401);
        assert!(!refused.headers.contains_key(SET_COOKIE));
    }
    // With a token of a policy the cookie is not looked at.
    let signed = whole(TOKEN, "").header(AUTHORIZATION, hub.owner_token());
    assert_eq!(answer(signed).await.status, 200);
}

#[tokio::test]
async fn a_session_ends_with_its_policy_its_key_and_its_sign_out_and_so_do_its_streams() {
    let hub = guarded().await;
    for end in ["sign out", "rotate", "remove"] {
        let guard = sign_in(&hub, GUARD).await;
        let stream = guard
            .request(&hub, Method::GET, "/events")
            .send()
            .await
            .unwrap();
        assert_eq!(stream.status(), 200);
        match end {
            "sign out" => {
                let ended = guard.send(&hub, Method::POST, "/ui/logout").await;
                assert_eq!(ended.status, 204);
                let cookie = ended.headers[SET_COOKIE].to_str().unwrap();
                assert!(
                    cookie.contains("=; ") && cookie.contains("Max-Age=0"),
                    "{cookie}"
                );
            }
            "rotate" => {
                let body = json!({ "key": "primary" });
                hub.post("/policies/guard/rotate", body).await.ok();
            }
            _ => {
                let removed = hub.send(Method::DELETE, "/policies/guard", None).await;
                assert_eq!(removed.status, 204);
            }
        }
        for path in ["/twins/inner", "/ui/session"] {
            assert_eq!(guard.status(&hub, path).await, 401, "{end} {path}");
        }
        // Ends on its own.
        stream.text().await.unwrap();
    }
}

#[tokio::test]
async fn a_session_follows_bounds_at_once() {
    let hub = guarded().await;
    let guard = sign_in(&hub, GUARD).await;
    let lockdown = json!({ "properties": { "desired": { "lockdown": null } } });
    let patch = || {
        guard
            .request(&hub, Method::PATCH, "/twins/inner")
            .json(&lockdown)
    };
    answer(patch()).await.ok();
    change(&hub, GUARD, Some(bounds(VIEWER))).await;
    assert_eq!(answer(patch()).await.status, 401);
    assert_eq!(guard.status(&hub, "/twins/inner").await, 200);
}

#[tokio::test]
async fn a_wall_does_not_get_the_rights_that_its_policy_gets_later() {
    let hub = guarded().await;
    let wall = sign_in(&hub, VIEWER).await;
    assert_eq!(wall.status(&hub, "/twins/inner").await, 200);
    change(&hub, VIEWER, Some(bounds(GUARD))).await;
    assert_eq!(wall.status(&hub, "/twins/inner").await, 401);
}

#[tokio::test]
async fn sessions_give_way_to_those_of_their_own_policy_alone() {
    let hub = guarded().await;
    let guard = sign_in(&hub, GUARD).await;
    let first = sign_in(&hub, VIEWER).await;
    for _ in 0..16 {
        sign_in(&hub, VIEWER).await;
    }
    assert_eq!(first.status(&hub, "/twins/inner").await, 401);
    assert_eq!(guard.status(&hub, "/twins/inner").await, 200);
    // The next sign-in of a browser ends its session.
    let body = json!({ "policy": GUARD, "key": key_of(&hub, GUARD) });
    let again = guard.request(&hub, Method::POST, "/ui/login").json(&body);
    answer(again).await.ok();
    assert_eq!(guard.status(&hub, "/twins/inner").await, 401);
}

#[tokio::test]
async fn another_site_cannot_sign_a_person_out() {
    let hub = guarded().await;
    let guard = sign_in(&hub, GUARD).await;
    let request = hub
        .anonymous(Method::POST, "/ui/logout")
        .header(SITE, "cross-site");
    let refused = answer(request).await;
    assert_eq!(refused.status, 401);
    assert!(!refused.headers.contains_key(SET_COOKIE));
    let nobody = hub
        .anonymous(Method::POST, "/ui/logout")
        .header(SITE, "same-origin");
    assert!(!answer(nobody).await.headers.contains_key(SET_COOKIE));
    assert_eq!(guard.status(&hub, "/twins/inner").await, 200);
}

#[tokio::test]
async fn only_sessions_that_read_survive_a_restart() {
    let hub = guarded().await;
    let (guard, wall) = (sign_in(&hub, GUARD).await, sign_in(&hub, VIEWER).await);
    let hub = hub.stop().await.start().await;
    assert_eq!(guard.status(&hub, "/twins/inner").await, 401);
    assert_eq!(wall.status(&hub, "/twins/inner").await, 200);
    assert_eq!(
        wall.send(&hub, Method::POST, "/ui/logout").await.status,
        204
    );
    let hub = hub.stop().await.start().await;
    assert_eq!(wall.status(&hub, "/twins/inner").await, 401);
}

#[tokio::test]
async fn wrong_keys_are_recorded_and_then_refused_for_a_while() {
    let hub = guarded().await;
    let wrong = "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc=";
    let attempts = (0..10).map(|number| {
        let policy = if number % 2 == 0 { GUARD } else { "nobody" };
        login(&hub, policy, wrong)
    });
    let attempts = join_all(attempts).await;
    assert!(attempts.iter().all(|answer| answer.status == 401));
    let rows = hub.get("/audit?operation=session.begin").await.ok();
    assert_eq!(rows.as_array().unwrap().len(), 10);
    assert!(
        rows.as_array()
            .unwrap()
            .iter()
            .all(|row| row["status"] == 401)
    );
    assert!(!rows.to_string().contains(wrong));
    assert_eq!(login(&hub, GUARD, wrong).await.status, 429);
    let rows = hub.get("/audit?operation=session.begin").await.ok();
    assert_eq!(rows.as_array().unwrap().len(), 10);
    // Nobody can lock the others out.
    sign_in(&hub, GUARD).await;
}

#[tokio::test]
async fn a_policy_with_bounds_signs_in_60_times_a_minute() {
    let hub = guarded().await;
    let key = key_of(&hub, VIEWER);
    let sign_ins = join_all((0..62).map(|_| login(&hub, VIEWER, &key))).await;
    // Of those that were let in, all but 16 gave way to later ones.
    let refused = sign_ins.iter().filter(|found| found.status == 429);
    assert_eq!(refused.count(), 2);
    let rows = hub.get("/audit?policy=viewer&top=1000").await.ok();
    assert_eq!(rows.as_array().unwrap().len(), 60);
    sign_in(&hub, GUARD).await;
}

#[tokio::test]
async fn every_answer_has_the_headers_that_protect_a_browser() {
    let hub = TestHub::start().await;
    for (path, status) in [
        ("/ui", 200),
        ("/ui/", 200),
        ("/ui/main.js", 200),
        ("/ui/session", 401),
        ("/ui/%2e%2e/hub.db", 401),
        ("/ui/none", 404),
        ("/healthz", 200),
        ("/twins/nobody", 401),
        ("/", 401),
    ] {
        let found = answer(hub.anonymous(Method::GET, path)).await;
        assert_eq!(found.status, status, "{path}");
        let header = |name: &str| found.headers[name].to_str().unwrap();
        let policy = header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'; script-src 'self'"),
            "{policy}"
        );
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        let cache = match status {
            200 if path.starts_with("/ui") => "no-cache",
            _ => "no-store",
        };
        assert_eq!(header("cache-control"), cache, "{path}");
    }
    let main = answer(hub.anonymous(Method::GET, "/ui/main.js")).await;
    let etag = main.headers["etag"].clone();
    let again = hub
        .anonymous(Method::GET, "/ui/main.js")
        .header("if-none-match", etag);
    assert_eq!(answer(again).await.status, 304);
}

fn png(size: usize) -> Vec<u8> {
    let mut image = b"\x89PNG\r\n\x1a\n".to_vec();
    image.resize(size, 7);
    image
}

async fn put_plan(hub: &TestHub, id: &str, image: Vec<u8>) -> Answer {
    let request = hub.request(Method::PUT, &format!("/plans/{id}"));
    answer(request.header(CONTENT_TYPE, "text/html").body(image)).await
}

#[tokio::test]
async fn plans_are_images_of_at_most_2_mib_and_a_guard_sees_those_of_its_doors() {
    let hub = guarded().await;
    let max = 2 * 1024 * 1024;
    assert_eq!(put_plan(&hub, "f3", png(max)).await.status, 201);
    let replaced = put_plan(&hub, "f3", png(64)).await.ok();
    assert_eq!(
        (&replaced["type"], &replaced["bytes"]),
        (&json!("image/png"), &json!(64))
    );
    put_plan(&hub, "f4", png(9)).await;
    for (id, image, status) in [
        ("f5", png(max + 1), 413),
        (
            "f5",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(),
            400,
        ),
        ("f5", b"\x89PN".to_vec(), 400),
        ("a%27b", png(9), 400),
        ("a%2Fb", png(9), 400),
    ] {
        let refused = put_plan(&hub, id, image).await;
        assert_eq!(refused.status, status, "{id}: {}", refused.body);
    }
    assert_eq!(texts(&hub.get("/plans").await.ok(), "id"), ["f3", "f4"]);
    let plan = hub.request(Method::GET, "/plans/f3").send().await.unwrap();
    assert_eq!(plan.headers()[CONTENT_TYPE], "image/png");
    assert_eq!(plan.bytes().await.unwrap(), png(64));

    let guard = sign_in(&hub, GUARD).await;
    let none = guard.send(&hub, Method::GET, "/plans/f9").await;
    for (door, visible) in [("outer", false), ("inner", true)] {
        let tags = json!({ "tags": { "plan": { "id": "f3", "x": 0.5, "y": 0.5 } } });
        hub.patch(&format!("/twins/{door}"), tags).await.ok();
        let found = guard.send(&hub, Method::GET, "/plans/f3").await;
        assert_eq!(found.status == 200, visible, "{door}");
        if !visible {
            let text =
                |answer: &Answer| answer.body["Message"].as_str().unwrap().replace("f3", "f9");
            assert_eq!(found.status, none.status);
            assert!(text(&found).starts_with(text(&none).split("Tracking").next().unwrap()));
        }
    }
    assert_eq!(guard.status(&hub, "/plans").await, 401);
    assert_eq!(
        guard.send(&hub, Method::DELETE, "/plans/f3").await.status,
        401
    );
    assert_eq!(
        hub.send(Method::DELETE, "/plans/f3", None).await.status,
        204
    );
    assert_eq!(
        hub.send(Method::DELETE, "/plans/f3", None).await.status,
        404
    );
    let rows = hub.get("/audit?operation=plan.put&target=f3").await.ok();
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    eventually("the plan is gone", || async {
        let list: Value = hub.get("/plans").await.ok();
        (texts(&list, "id") == ["f4"]).then_some(())
    })
    .await;
}
