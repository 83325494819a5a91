use iothub_protocol::id::PolicyName;
use iothub_protocol::sas::{self, SharedAccessKey};
use proptest::prelude::*;

use super::sas::{AuthError, authorize_service};
use super::*;
use crate::identity::{AuthenticationKind, DeviceAuthentication, Keys, Policy, Rights};

const NOW: u64 = 1_800_000_000;

fn key(text: &str) -> SharedAccessKey {
    SharedAccessKey::from_bytes(text.as_bytes()).unwrap()
}

fn keys(name: &str) -> Keys {
    Keys {
        primary: key(&format!("{name}, primary key, 32 bytes long!")),
        secondary: key(&format!("{name}, secondary key, 32 bytes!!")),
    }
}

fn names() -> HostNames {
    HostNames::new(["Hub.example.net", "127.0.0.1", "::1"])
}

fn stored() -> DeviceAuthentication {
    DeviceAuthentication {
        enabled: true,
        etag: "MQ==".to_owned(),
        kind: AuthenticationKind::Sas(keys("device")),
    }
}

fn policy(name: &PolicyName) -> Option<Policy> {
    let rights = match name.as_str() {
        "device" => Rights::DEVICE_CONNECT,
        "service" => Rights::SERVICE_CONNECT,
        _ => return None,
    };
    Some(Policy {
        name: name.clone(),
        keys: keys("policy"),
        rights,
        bounds: None,
    })
}

fn log_in(
    user_name: &str,
    token: &str,
    stored: Option<&DeviceAuthentication>,
) -> Result<Identity, LoginError> {
    let login = DeviceLogin {
        client_id: "lobby",
        user_name: Some(user_name),
        password: Some(token.as_bytes()),
        certificates: &[],
    };
    judge(&login, stored)
}

fn judge(
    login: &DeviceLogin<'_>,
    stored: Option<&DeviceAuthentication>,
) -> Result<Identity, LoginError> {
    let claim = login.claim()?;
    let trust = Trust {
        names: &names(),
        authorities: &DeviceAuthorities::default(),
    };
    authenticate_device(login, &claim, trust, stored, policy, NOW)
}

fn device_token(audience: &str, key: &SharedAccessKey) -> String {
    sas::sign(audience, key, NOW + 60, None)
}

const USER: &str = "hub.example.net/lobby/?api-version=2021-04-12";

#[test]
fn accepts_tokens_of_both_device_keys_and_of_policies_with_device_connect() {
    let Keys { primary, secondary } = keys("device");
    for key in [&primary, &secondary] {
        let identity = log_in(
            USER,
            &device_token("hub.example.net/devices/lobby", key),
            Some(&stored()),
        )
        .unwrap();
        assert_eq!(identity.device.as_str(), "lobby");
        assert_eq!(identity.expires_unix_s, NOW + 60 + 300);
    }
    // Azure's documentation asks for a lower-case audience, but clients send it as it is.
    let other_case = device_token("hub.example.net/devices/LOBBY", &primary);
    assert!(log_in(USER, &other_case, Some(&stored())).is_ok());
    let by_policy = |name: &str, audience: &str| {
        let token = sas::sign(
            audience,
            &keys("policy").secondary,
            NOW + 60,
            Some(&name.parse().unwrap()),
        );
        log_in(USER, &token, Some(&stored()))
    };
    assert!(by_policy("device", "hub.example.net/devices/lobby").is_ok());
    assert!(
        by_policy("device", "HUB.example.net:8443/devices").is_ok(),
        "a wider audience covers the device"
    );
    assert_eq!(
        by_policy("device", "hub.example.net/devices/LOBBY").unwrap_err(),
        LoginError::Audience,
        "the key of a policy is valid for other devices too"
    );
    assert_eq!(
        by_policy("service", "hub.example.net").unwrap_err(),
        LoginError::Signature
    );
    assert_eq!(
        by_policy("stranger", "hub.example.net").unwrap_err(),
        LoginError::Signature
    );
}

#[test]
fn accepts_every_form_of_user_name_that_clients_send() {
    for user_name in [
        "hub.example.net/lobby/?api-version=2019-10-01\
         &DeviceClientType=azure-iot-device-iothub-py%2F2.14.0",
        "hub.example.net/lobby/api-version=2016-11-14",
        "hub.example.net/lobby/",
        "hub.example.net/lobby",
    ] {
        let token = device_token("hub.example.net/devices/lobby", &keys("device").primary);
        assert!(
            log_in(user_name, &token, Some(&stored())).is_ok(),
            "{user_name}"
        );
    }
}

#[test]
fn each_invalid_login_is_refused_with_its_own_error() {
    let good = device_token("hub.example.net/devices/lobby", &keys("device").primary);
    let refused =
        |user_name: &str, token: &str| log_in(user_name, token, Some(&stored())).unwrap_err();
    assert_eq!(refused("hub.example.net", &good), LoginError::UserName);
    assert_eq!(
        refused("hub.example.net/other/?api-version=2021-04-12", &good),
        LoginError::ClientId
    );
    assert_eq!(
        refused("other.example.net/lobby/?api-version=2021-04-12", &good),
        LoginError::HostName
    );
    let other = device_token("hub.example.net/devices/lobby2", &keys("device").primary);
    assert_eq!(refused(USER, &other), LoginError::Audience);
    let elsewhere = device_token("other.example.net/devices/lobby", &keys("device").primary);
    assert_eq!(refused(USER, &elsewhere), LoginError::Audience);
    let forged = device_token(
        "hub.example.net/devices/lobby",
        &key("a key that nobody was ever given"),
    );
    assert_eq!(refused(USER, &forged), LoginError::Signature);
    let old = sas::sign(
        "hub.example.net/devices/lobby",
        &keys("device").primary,
        NOW - 300,
        None,
    );
    assert_eq!(refused(USER, &old), LoginError::Expired);
    assert!(matches!(
        refused(USER, "SharedAccessSignature"),
        LoginError::Token(_)
    ));
    assert_eq!(
        log_in(USER, &good, None).unwrap_err(),
        LoginError::UnknownDevice
    );
    let disabled = DeviceAuthentication {
        enabled: false,
        ..stored()
    };
    assert_eq!(
        log_in(USER, &good, Some(&disabled)).unwrap_err(),
        LoginError::Disabled
    );
    let certificate = DeviceAuthentication {
        kind: AuthenticationKind::CertificateAuthority,
        ..stored()
    };
    assert_eq!(
        log_in(USER, &good, Some(&certificate)).unwrap_err(),
        LoginError::Password
    );
    let cut_off = DeviceAuthentication {
        kind: AuthenticationKind::None,
        ..stored()
    };
    assert_eq!(
        log_in(USER, &good, Some(&cut_off)).unwrap_err(),
        LoginError::TypeNone
    );

    let module = DeviceLogin {
        client_id: "lobby/m",
        user_name: Some("hub.example.net/lobby/m/?api-version=1"),
        password: None,
        certificates: &[],
    };
    assert_eq!(module.claim().unwrap_err(), LoginError::Module);
    let nobody = DeviceLogin {
        client_id: "lobby",
        user_name: None,
        password: None,
        certificates: &[],
    };
    assert_eq!(nobody.claim().unwrap_err(), LoginError::NoUserName);
    let silent = DeviceLogin {
        client_id: "lobby",
        user_name: Some(USER),
        password: None,
        certificates: &[],
    };
    assert_eq!(
        judge(&silent, Some(&stored())).unwrap_err(),
        LoginError::NoPassword
    );
}

#[test]
fn a_token_is_valid_only_for_the_path_of_its_audience() {
    let signed = |audience: &str, policy: &str| {
        sas::sign(
            audience,
            &keys("policy").primary,
            NOW + 60,
            Some(&policy.parse().unwrap()),
        )
    };
    let judge =
        |token: &str, path: &str| authorize_service(Some(token), &names(), policy, path, NOW);

    let caller = judge(&signed("hub.example.net", "service"), "/twins/lobby").unwrap();
    assert_eq!(
        (caller.policy.name.as_str(), caller.policy.rights),
        ("service", Rights::SERVICE_CONNECT)
    );
    assert!(judge(&signed("127.0.0.1:8443", "service"), "/twins/lobby").is_ok());
    assert!(judge(&signed("[::1]:8443", "service"), "/twins/lobby").is_ok());

    let narrow = signed("hub.example.net/twins", "service");
    assert!(judge(&narrow, "/twins/lobby").is_ok());
    assert_eq!(judge(&narrow, "/devices/lobby"), Err(AuthError::Audience));
    assert_eq!(
        judge(&signed("other.example.net", "service"), "/twins"),
        Err(AuthError::Audience)
    );
    assert_eq!(
        judge(&signed("hub.example.net", "stranger"), "/twins"),
        Err(AuthError::Signature)
    );
    assert_eq!(
        authorize_service(None, &names(), policy, "/twins", NOW),
        Err(AuthError::Missing)
    );
    let device = sas::sign("hub.example.net", &keys("device").primary, NOW + 60, None);
    assert_eq!(judge(&device, "/twins"), Err(AuthError::NoPolicy));
    let expired = sas::sign(
        "hub.example.net",
        &keys("policy").primary,
        NOW - 300,
        Some(&"service".parse().unwrap()),
    );
    assert_eq!(judge(&expired, "/twins"), Err(AuthError::Expired));
}

proptest! {
    #[test]
    fn no_random_login_panics_or_passes(
        user in "\\PC{0,200}",
        password in prop::collection::vec(any::<u8>(), 0..300),
        client in "\\PC{0,20}",
    ) {
        let login = DeviceLogin {
            client_id: &client,
            user_name: Some(&user),
            password: Some(&password),
            certificates: &[],
        };
        prop_assert!(judge(&login, Some(&stored())).is_err());
    }

    #[test]
    fn no_random_header_panics_or_passes(header in "\\PC{0,300}", path in "/\\PC{0,50}") {
        prop_assert!(authorize_service(Some(&header), &names(), policy, &path, NOW).is_err());
    }
}

#[test]
fn the_model_id_of_a_user_name_is_read_encoded_or_not() {
    for (query, model) in [
        ("?api-version=2021-04-12", None),
        (
            "?api-version=2021-04-12&model-id=dtmi:com:example;1",
            Some("dtmi:com:example;1"),
        ),
        (
            "?model-id=dtmi%3Acom%3Aexample%3B1&api-version=1",
            Some("dtmi:com:example;1"),
        ),
        ("model-id=dtmi:a;1", Some("dtmi:a;1")),
        ("?model-id=a+b&model-id=second", Some("a+b")),
        ("?model-id=", None),
        ("?model-id=a%0Ab", None),
        ("?model-id=%FF", None),
    ] {
        let user_name = format!("hub.example.net/lobby/{query}");
        let login = DeviceLogin {
            client_id: "lobby",
            user_name: Some(&user_name),
            password: None,
            certificates: &[],
        };
        let claim = login.claim().unwrap();
        assert_eq!(claim.model_id.as_deref(), model, "{query}");
    }
}
