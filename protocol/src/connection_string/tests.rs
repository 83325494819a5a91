use proptest::prelude::*;

use super::*;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn say(text: &str) -> String {
    text.parse::<ConnectionString>().unwrap_err().to_string()
}

#[test]
fn a_service_connection_string_is_read_and_written() {
    let text =
        format!("HostName=localhost:8443;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}");
    let service: ServiceConnectionString = text.parse().unwrap();
    assert_eq!(service.host_name.host(), "localhost");
    assert_eq!(service.host_name.port(), Some(8443));
    assert_eq!(service.policy, "iothubowner");
    assert_eq!(service.expose_secret(), text);
}

#[test]
fn a_device_connection_string_is_read_and_written() {
    let text = format!(
        "HostName=hub.example.net;DeviceId=lobby-east;SharedAccessKey={KEY};GatewayHostName=localhost"
    );
    let device: DeviceConnectionString = text.parse().unwrap();
    assert_eq!(device.device_id, "lobby-east");
    assert_eq!(
        device.gateway_host_name.as_ref().map(HostName::as_str),
        Some("localhost")
    );
    assert_eq!(device.expose_secret(), text);

    let x509: DeviceConnectionString = "HostName=hub;DeviceId=d;x509=true".parse().unwrap();
    assert_eq!(x509.credential, DeviceCredential::X509);
    assert_eq!(x509.expose_secret(), "HostName=hub;DeviceId=d;x509=true");

    let token = "SharedAccessSignature \
        sr=hub%2Fdevices%2Fd&sig=ncXfJXbeyTiRLDz9kvk1ElOCiWr2fUvGO9PPFIYKEFA%3D&se=1893456000";
    let text = format!("HostName=hub;DeviceId=d;SharedAccessSignature={token}");
    let with_token: DeviceConnectionString = text.parse().unwrap();
    assert_eq!(with_token.expose_secret(), text);
}

#[test]
fn order_case_and_a_last_semicolon_do_not_matter() {
    let text = format!("sharedaccesskey={KEY};DEVICEID=d;hostname=hub;");
    assert!(matches!(text.parse(), Ok(ConnectionString::Device(_))));
}

#[test]
fn errors_name_the_key_and_what_was_expected() {
    assert_eq!(
        say(""),
        "the connection string is empty; expected `HostName=...;...`"
    );
    assert_eq!(
        say("HostName=hub;DeviceId=d"),
        "the connection string has no `SharedAccessKey`; expected \
         `HostName=...;DeviceId=...;SharedAccessKey=...` (or `SharedAccessSignature=...`, or \
         `x509=true`)"
    );
    assert!(say("HostName=hub").contains("has no `DeviceId`"));
    assert!(say(&format!("DeviceId=d;SharedAccessKey={KEY}")).contains("has no `HostName`"));
    assert!(say("HostName=hub;SharedAccessKeyName=p").contains("has no `SharedAccessKey`"));
    assert!(say("HostName=a;HostName=b").contains("`HostName` twice"));
    assert!(say("HostName=;DeviceId=d").contains("`HostName` of the connection string is empty"));
    assert!(
        say("HostName=hub;DeviceId=a/b;x509=true")
            .contains("`DeviceId` of the connection string: device id \"a/b\"")
    );
    assert_eq!(
        say("HostName=hub,SharedAccessKeyName=p;DeviceId=d;x509=true"),
        "`HostName` of the connection string holds a `=`; expected a `;` before the next \
         `Key=Value` part"
    );
    assert!(say("HostName=https://hub;DeviceId=d;x509=true").contains("is not a host name"));
    assert!(
        say("HostName=hub:0;DeviceId=d;x509=true").contains("expected a number from 1 to 65535")
    );
    assert!(say("HostName=hub;DeviceId=d;ModuleId=m;x509=true").contains("module"));
    assert!(say("HostName=hub;DeviceId=d;x509=yes").contains("`x509`"));
    assert!(
        say(&format!(
            "HostName=hub;DeviceId=d;SharedAccessKey={KEY};x509=true"
        ))
        .contains("both `SharedAccessKey` and `x509`")
    );
    let device = format!("HostName=hub;DeviceId=d;SharedAccessKey={KEY}");
    assert_eq!(
        device
            .parse::<ServiceConnectionString>()
            .unwrap_err()
            .to_string(),
        "the connection string is for a device; expected one for a service"
    );
}

#[test]
fn no_error_and_no_debug_text_shows_a_secret() {
    let key = "c2VjcmV0LXNlY3JldA";
    let bad = [
        format!("HostName=hub;DeviceId=d;SharedAccessKey=!{key}"),
        format!("HostName=hub;DeviceId=d;{key}=="),
        format!("HostName=hub;DeviceId=d;{key}"),
        format!("HostName=hub;DeviceId=d;SharedAccessSignature={key}"),
        format!("HostName=hub;DeviceId=d;x509={key}"),
        format!("HostName=hub;SharedAccessKey={key}"),
        // Parts joined by something else than `;`: the second is in the value of the first.
        format!("HostName=hub&SharedAccessKey={key};DeviceId=d;x509=true"),
        format!("HostName=hub;DeviceId=d SharedAccessKey={key};x509=true"),
        format!("HostName=hub;SharedAccessKeyName=p,/SharedAccessKey={key};SharedAccessKey={key}"),
    ];
    for text in bad {
        let error = text.parse::<ConnectionString>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("c2Vj"), "{error}");
    }
    let good: ConnectionString = format!("HostName=hub;DeviceId=d;SharedAccessKey={key}")
        .parse()
        .unwrap();
    assert!(!format!("{good:?}").contains("c2Vj"));
}

#[test]
fn host_names_may_have_a_port() {
    for (text, host, port) in [
        ("hub.azure-devices.net", "hub.azure-devices.net", None),
        ("localhost:443", "localhost", Some(443)),
        ("192.168.1.7:8443", "192.168.1.7", Some(8443)),
        ("[::1]:8443", "::1", Some(8443)),
        ("[fe80::1]", "fe80::1", None),
    ] {
        let name: HostName = text.parse().unwrap();
        assert_eq!(
            (name.host(), name.port(), name.as_str()),
            (host, port, text)
        );
    }
    for bad in [
        "",
        ":443",
        "hub:",
        "hub:x",
        "hub:+1",
        "hub:65536",
        "a..b",
        "a b",
        "::1",
        "[::1]x",
        "[hub]",
        "hub/x",
        "hü",
    ] {
        assert!(bad.parse::<HostName>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        device_id in "[A-Za-z0-9\\-:.+%_#*?!(),=@$']{1,128}",
        host in "[a-z0-9-]{1,20}(\\.[a-z0-9-]{1,20}){0,3}(:[1-9][0-9]{0,3})?",
        bytes in prop::collection::vec(any::<u8>(), 1..64),
        with_gateway in any::<bool>(),
    ) {
        let host_name: HostName = host.parse().unwrap();
        let device = DeviceConnectionString {
            host_name: host_name.clone(),
            device_id: device_id.parse().unwrap(),
            gateway_host_name: with_gateway.then_some(host_name),
            credential: DeviceCredential::Key(SharedAccessKey::from_bytes(&bytes).unwrap()),
        };
        prop_assert_eq!(device.expose_secret().parse::<DeviceConnectionString>().unwrap(), device);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "((HostName|DeviceId|SharedAccessKey|x509|SharedAccessKeyName)?=?\\PC{0,12};?){0,6}") {
        let _ = text.parse::<ConnectionString>();
        let _ = text.parse::<HostName>();
    }
}
