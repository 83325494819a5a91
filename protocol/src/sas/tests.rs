use proptest::prelude::*;

use super::*;

// The key and the first token were checked with RenewableSasToken of azure-iot-device 2.14.0.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const EXPIRY: u64 = 1_893_456_000;
const DEVICE: &str = "SharedAccessSignature sr=hub.example.net%2Fdevices%2Fdev1&sig=ncXfJXbeyTiRLDz9kvk1ElOCiWr2fUvGO9PPFIYKEFA%3D&se=1893456000";
const LOWER_CASE: &str = "SharedAccessSignature sr=hub.example.net%2fdevices%2fdev1&sig=2yTe4q4FWC%2BV3aZDl%2BSCwm3q6EWfz0fKdhlK5DZP%2FJY%3D&se=1893456000";
const SERVICE: &str = "SharedAccessSignature sr=hub.example.net&sig=JsaJO5gTLF8mah9LxN0bGUcqp1KDFGr998P4Kix6V8A%3D&se=1893456000&skn=iothubowner";

fn key() -> SharedAccessKey {
    SharedAccessKey::from_base64(KEY).unwrap()
}

#[test]
fn tokens_equal_those_of_the_official_clients() {
    let policy = "iothubowner".parse().unwrap();
    assert_eq!(
        sign("hub.example.net/devices/dev1", &key(), EXPIRY, None),
        DEVICE
    );
    assert_eq!(
        sign("hub.example.net", &key(), EXPIRY, Some(&policy)),
        SERVICE
    );
}

#[test]
fn tokens_are_verified_over_their_own_spelling() {
    for text in [DEVICE, LOWER_CASE, SERVICE] {
        let token = SasToken::parse(text).unwrap();
        assert!(token.verify(&key()), "{text}");
        assert_eq!(token.expiry(), EXPIRY);
    }
    assert_eq!(
        SasToken::parse(LOWER_CASE).unwrap().audience(),
        "hub.example.net/devices/dev1"
    );
    assert_eq!(
        SasToken::parse(SERVICE).unwrap().policy().unwrap(),
        &"iothubowner"
    );
}

#[test]
fn fields_come_in_any_order_and_encoding() {
    // Python's service client leaves `/` raw, Node's writes skn before se; `sig` may be unencoded
    // up to its `=`.
    let token = "SharedAccessSignature skn=p&SE=1893456000&sig=2yTe4q4FWC+V3aZDl%2bSCwm3q6EWfz0fKdhlK5DZP/JY=&sr=hub.example.net%2fdevices%2fdev1";
    assert!(SasToken::parse(token).unwrap().verify(&key()));
}

#[test]
fn a_changed_token_or_another_key_fails() {
    let other = SharedAccessKey::from_bytes(b"another key").unwrap();
    assert!(!SasToken::parse(DEVICE).unwrap().verify(&other));
    for (from, to) in [
        ("dev1", "dev2"),
        ("1893456000", "1893456001"),
        ("ncXf", "ncXe"),
        ("%2F", "%2f"),
    ] {
        let changed = DEVICE.replacen(from, to, 1);
        assert!(
            !SasToken::parse(&changed).unwrap().verify(&key()),
            "{changed}"
        );
    }
}

#[test]
fn what_is_not_a_token_is_refused() {
    fn parse(text: &str) -> SasError {
        SasToken::parse(text).unwrap_err()
    }
    assert_eq!(parse(""), SasError::Scheme);
    assert_eq!(parse("Bearer sr=a"), SasError::Scheme);
    assert_eq!(parse("SharedAccessSignature"), SasError::Scheme);
    assert_eq!(parse("SharedAccessSignature  "), SasError::Field);
    assert_eq!(
        parse("SharedAccessSignature sr=a&sr=b"),
        SasError::Repeated("sr")
    );
    assert_eq!(
        parse("SharedAccessSignature se=1&sig=x"),
        SasError::Missing("sr")
    );
    assert_eq!(
        parse("SharedAccessSignature sr=a&se=1"),
        SasError::Missing("sig")
    );
    assert_eq!(
        parse("SharedAccessSignature sr=a&se=1&sig=AAAA"),
        SasError::Signature
    );
    assert_eq!(
        parse("SharedAccessSignature sr=%ff&se=1&sig=AAAA"),
        SasError::Audience
    );
    for expiry in ["", "-1", "1e9", "+1", "99999999999999999999", ".5", "soon"] {
        assert_eq!(
            parse(&DEVICE.replace("1893456000", expiry)),
            SasError::Expiry,
            "{expiry}"
        );
    }
    assert_eq!(parse(&format!("{DEVICE}&skn=a%20b")), SasError::Policy);
}

#[test]
fn secrets_are_not_shown() {
    assert_eq!(format!("{:?}", key()), "SharedAccessKey(..)");
    assert!(!format!("{:?}", SasToken::parse(DEVICE).unwrap()).contains("sig"));
    assert_eq!(
        SharedAccessKey::from_base64("not base64!").unwrap_err(),
        KeyError::NotBase64
    );
    assert_eq!(
        SharedAccessKey::from_base64("").unwrap_err(),
        KeyError::Empty
    );
}

#[test]
fn audiences_cover_whole_segments() {
    for (audience, resource, covers) in [
        ("hub", "hub/devices/a", true),
        ("HUB", "hub/devices/a", true),
        ("hub/", "hub/devices/a", true),
        ("hub/devices", "hub/devices/a", true),
        ("hub/devices/a", "hub/devices/a", true),
        ("hub/devices/a", "hub/devices/a/modules/m", true),
        ("hub/devices/a", "hub/devices/ab", false),
        ("hub/devices/A", "hub/devices/a", false),
        ("hub/devices/a/modules/m", "hub/devices/a", false),
        ("hub/devices", "hub", false),
        ("hubx", "hub/devices/a", false),
        ("", "hub/devices/a", false),
        ("/", "hub/devices/a", false),
        ("hub//devices", "hub/devices/a", false),
        ("hub:8443", "hub/devices/a", false),
    ] {
        assert_eq!(
            audience_covers(audience, resource),
            covers,
            "{audience} {resource}"
        );
    }
}

proptest! {
    #[test]
    fn a_token_made_is_verified(
        audience in "\\PC{1,60}",
        bytes in prop::collection::vec(any::<u8>(), 1..100),
        expiry in any::<u64>(),
        policy in prop::option::of("[A-Za-z0-9._-]{1,64}"),
    ) {
        let key = SharedAccessKey::from_bytes(&bytes).unwrap();
        let policy: Option<PolicyName> = policy.map(|name| name.parse().unwrap());
        let text = sign(&audience, &key, expiry, policy.as_ref());
        let token = SasToken::parse(&text).unwrap();
        prop_assert!(token.verify(&key));
        prop_assert_eq!(token.audience(), audience);
        prop_assert_eq!(token.expiry(), expiry);
        prop_assert_eq!(token.policy(), policy.as_ref());
    }

    #[test]
    fn keys_keep_their_bytes(bytes in prop::collection::vec(any::<u8>(), 1..100)) {
        let key = SharedAccessKey::from_bytes(&bytes).unwrap();
        prop_assert_eq!(SharedAccessKey::from_base64(&key.to_base64()).unwrap(), key);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(SharedAccessSignature )?((sr|se|sig|skn|x)?=?[ -~]{0,20}&?|\\PC{0,20})*") {
        let _ = SasToken::parse(&text);
        let _ = audience_covers(&text, "hub/devices/a");
    }
}
