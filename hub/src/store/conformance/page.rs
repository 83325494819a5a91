use bytes::Bytes;

use super::*;
use crate::types::{PlanPut, PlanRecord};

pub(crate) async fn sessions_of_the_page_are_kept_until_their_end(database: &TestDatabase) {
    let test = database.open().await;
    let session = |number: u8, expires| StoredPageSession {
        cookie: [number; 32],
        token: [number + 1; 32],
        policy: "owner".parse().unwrap(),
        key: [0; 32],
        expires,
    };
    let sessions = [session(1, 100), session(2, 200), session(3, 300)];
    for session in sessions.clone() {
        test.store.page_session_insert(session).await.unwrap();
    }
    let again = test.store.page_session_insert(session(1, 400)).await;
    again.unwrap_err();
    let test = database.reopen(test).await;
    test.store.page_session_delete([2; 32]).await.unwrap();
    test.store.page_session_delete([9; 32]).await.unwrap();
    let at = async |now| {
        let mut sessions = test.store.page_sessions(now).await.unwrap();
        sessions.sort_by_key(|session| session.expires);
        sessions
    };
    assert_eq!(at(99).await, [sessions[0].clone(), sessions[2].clone()]);
    assert_eq!(at(100).await, [sessions[2].clone()]);
    // Those that have ended are deleted.
    assert_eq!(at(0).await, [sessions[2].clone()]);
}

pub(crate) async fn plans_are_bounded_and_replaced(database: &TestDatabase) {
    let test = database.open().await;
    let plan = |id: &str, image: &[u8]| PlanRecord {
        id: id.into(),
        media_type: "image/png".into(),
        bytes: image.len() as u64,
        etag: format!("{}", image.len()),
    };
    let put = async |id: &str, image: &'static [u8]| {
        let image_bytes = Bytes::from_static(image);
        let stored = test.store.plan_put(plan(id, image), image_bytes, 2);
        stored.await.unwrap()
    };
    assert_eq!(put("b", b"\x00\xff").await, PlanPut::Created);
    assert_eq!(put("a", b"1").await, PlanPut::Created);
    assert_eq!(put("c", b"").await, PlanPut::TooMany);
    assert_eq!(put("b", b"\x00\xff\x01").await, PlanPut::Replaced);
    let expected = [plan("a", b"1"), plan("b", b"\x00\xff\x01")];
    assert_eq!(test.store.plans().await.unwrap(), expected);
    let found = test.store.plan_get("b".into()).await.unwrap();
    let image = Bytes::from_static(b"\x00\xff\x01");
    assert_eq!(found, Some(("image/png".into(), "3".into(), image)));
    assert_eq!(test.store.plan_get("c".into()).await.unwrap(), None);
    assert!(test.store.plan_delete("a".into()).await.unwrap());
    assert!(!test.store.plan_delete("a".into()).await.unwrap());
    assert_eq!(put("c", b"").await, PlanPut::Created);
}

pub(crate) async fn a_webhook_continues_after_its_cursor(database: &TestDatabase) {
    let test = database.open().await;
    for (name, event) in [("a", 1), ("b", 2), ("a", 7), ("c", 3)] {
        test.store.webhook_save(name, event).await.unwrap();
    }
    let test = database.reopen(test).await;
    let cursors = async || {
        let mut cursors = Vec::new();
        for name in ["a", "b", "c", "d"] {
            cursors.push(test.store.webhook_cursor(name).await.unwrap());
        }
        cursors
    };
    assert_eq!(cursors().await, [Some(7), Some(2), Some(3), None]);
    let retain = ["b", "d"].map(str::to_owned).into();
    test.store.webhook_retain(retain).await.unwrap();
    assert_eq!(cursors().await, [None, Some(2), None, None]);
}
