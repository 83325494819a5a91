//! SAS tokens: parsing never panics, an error does not repeat the token, and the signature covers
//! the token's own text.

use iothub_protocol::id::PolicyName;
use iothub_protocol::sas::{SasToken, SharedAccessKey, audience_covers, sign};

use crate::secret::assert_hidden;
use crate::{Seeds, texts};

fn key() -> SharedAccessKey {
    SharedAccessKey::from_bytes(b"a key of thirty-two bytes, or so").expect("some bytes")
}

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let token = match SasToken::parse(text) {
        Ok(token) => token,
        Err(error) => {
            assert_hidden(text, &['&'], &format!("{error} {error:?}"));
            return;
        }
    };
    assert_hidden(text, &['&'], &format!("{token:?}"));
    assert!(
        audience_covers(token.audience(), token.audience()) || token.audience().starts_with('/')
    );
    let is_signed_by_key = token.verify(&key());
    let again = sign(token.audience(), &key(), token.expiry(), token.policy());
    let again = SasToken::parse(&again).expect("a generated token parses");
    assert!(again.verify(&key()), "a generated token does not verify");
    assert_eq!(
        (again.audience(), again.expiry(), again.policy()),
        (token.audience(), token.expiry(), token.policy())
    );
    // Without the key nobody can change what a token is for: the signed text is the parsed text.
    assert!(
        !is_signed_by_key || is_like_a_seed(&token),
        "a token has a valid signature without the key"
    );
}

fn is_like_a_seed(token: &SasToken<'_>) -> bool {
    let claims = |token: &SasToken<'_>| (token.audience().to_owned(), token.expiry());
    seeds().iter().any(|(_, seed)| {
        let text = std::str::from_utf8(seed).expect("a seed is text");
        SasToken::parse(text).is_ok_and(|seed| claims(&seed) == claims(token))
    })
}

pub(crate) fn seeds() -> Seeds {
    let policy: PolicyName = "iothubowner".parse().expect("a policy");
    let token = sign(
        "hub.example.net/devices/lobby-east",
        &key(),
        1_700_000_000,
        None,
    );
    texts([
        sign("hub.example.net", &key(), 4_102_444_800, Some(&policy)),
        token.replace("%2F", "%2f"),
        token.replace("&se=1700000000", "&se=1700000000.5"),
        token.replace("SharedAccessSignature sr", "sharedaccesssignature Sr"),
        token,
    ])
}
