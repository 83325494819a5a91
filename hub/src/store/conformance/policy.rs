use super::*;

fn bounded(name: &str) -> Policy {
    let bounds = r#"{"access":"operate","methods":["reboot"]}"#;
    Policy {
        bounds: Some(serde_json::from_str(bounds).unwrap()),
        ..policy(name)
    }
}

pub(crate) async fn defaults_are_stored_once(database: &TestDatabase) {
    let test = database.open().await;
    let defaults = vec![bounded("guard"), policy("owner")];
    let stored = test.store.policy_list(defaults.clone()).await;
    assert_eq!(stored.unwrap(), defaults);
    let test = database.reopen(test).await;
    let stored = test.store.policy_list(vec![policy("other")]).await;
    assert_eq!(stored.unwrap(), defaults);
}

pub(crate) async fn a_failed_change_of_policies_changes_nothing(database: &TestDatabase) {
    let test = database.open().await;
    let list = || test.store.policy_list(Vec::new());
    let defaults = vec![policy("b"), policy("c")];
    test.store.policy_list(defaults.clone()).await.unwrap();
    let failed = test.store.policy_change(|policies| {
        policies.clear();
        Err::<(), _>(StoreError::Closed)
    });
    assert!(failed.await.is_err());
    assert_eq!(list().await.unwrap(), defaults);
    let changed = test.store.policy_change(|policies| {
        policies.remove(0);
        policies[0].rights = Rights::ALL;
        policies.push(bounded("a"));
        ok(policies.len())
    });
    let (output, policies) = changed.await.unwrap();
    assert_eq!((output, policies.len()), (2, 2));
    let full = Policy {
        rights: Rights::ALL,
        ..policy("c")
    };
    let test = database.reopen(test).await;
    let stored = test.store.policy_list(Vec::new()).await.unwrap();
    assert_eq!(stored, [bounded("a"), full]);
}
