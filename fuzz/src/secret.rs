//! Secrets in a text, found without the parsers that are being judged, and whether they show where
//! they must not.

/// What stands before a secret in connection strings, tokens and identities.
const MARKS: [&str; 5] = [
    "sharedaccesskey=",
    "sharedaccesssignature=",
    "sig=",
    "\"primarykey\":\"",
    "\"secondarykey\":\"",
];

/// What a token begins with; its first field follows.
const SCHEME: &str = "sharedaccesssignature ";

/// Shorter ones are found in texts by chance.
const SHORTEST: usize = 12;

/// Panics when one of the secrets of `input` is in `output`. `separators` stand between its parts.
pub(crate) fn assert_hidden(input: &str, separators: &[char], output: &str) {
    let lower = input.to_ascii_lowercase();
    for mark in MARKS {
        for (at, _) in lower.match_indices(mark) {
            let before = &lower[..at];
            let begins_part =
                before.is_empty() || before.ends_with(separators) || before.ends_with(SCHEME);
            let rest = &input[at + mark.len()..];
            let end = rest.find([';', '&', '"', ' ', '\\']).unwrap_or(rest.len());
            let secret = &rest[..end];
            // Without a digit it may be a word of the reason; a key or signature of this length has
            // one.
            let is_key = secret.bytes().all(|byte| byte.is_ascii_graphic())
                && secret.bytes().any(|byte| byte.is_ascii_digit());
            let is_said_elsewhere = input.matches(secret).nth(1).is_some();
            assert!(
                !begins_part
                    || is_said_elsewhere
                    || secret.len() < SHORTEST
                    || !is_key
                    || !output.contains(secret),
                "the secret {secret:?} shows in {output:?}"
            );
        }
    }
}
