//! Bodies of REST requests as the hub parses them: never a panic, and no key in the error.

use door_hub::fuzzing::{Body, rest_body};

use crate::secret::assert_hidden;
use crate::{Seeds, texts};

pub(crate) fn run(data: &[u8]) {
    for kind in Body::ALL {
        let Err(answer) = rest_body(kind, data) else {
            continue;
        };
        assert!(!answer.is_empty(), "no reason");
        if let Ok(text) = std::str::from_utf8(data) {
            assert_hidden(text, &['{', ','], &answer);
        }
    }
}

pub(crate) fn seeds() -> Seeds {
    let mut seeds = texts([
        concat!(
            r#"{"deviceId":"lobby-east","status":"enabled","statusReason":null,"#,
            r#""authentication":{"type":"sas","symmetricKey":{"primaryKey":"c2VjcmV0IG9mIGEgZG9vc"#,
            r#"iwgc2VjcmV0","secondaryKey":""}},"capabilities":{"iotEdge":false}}"#
        ),
        concat!(
            r#"{"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"0123"#,
            r#"456789abcdef0123456789ABCDEF01234567","secondaryThumbprint":null}}}"#
        ),
        concat!(
            r#"[{"id":"lobby-east","importMode":"createOrUpdate","eTag":"*","status":"enabled","#,
            r#""authentication":{"type":"sas","symmetricKey":{"primaryKey":"c2VjcmV0IG9mIGEgZG9vc"#,
            r#"iwgc2VjcmV0","secondaryKey":null}},"tags":{"floor":3},"#,
            r#""properties":{"desired":{"a":1}}},{"id":"d2","importMode":"deleteIfMatchETag","#,
            r#""eTag":"MQ=="}]"#
        ),
    ]);
    for (target, others) in [
        ("method", super::method::seeds()),
        ("job", super::job::seeds()),
        ("twin", super::twin::seeds()),
    ] {
        seeds.extend(
            others
                .into_iter()
                .map(|(name, seed)| (format!("{target}-{name}"), seed)),
        );
    }
    seeds
}
