//! Finds secrets in a text without the parsers under test, and checks that an output hides them.

/// What precedes a secret in connection strings, tokens and identities.
const MARKS: [&str; 5] = [
    "sharedaccesskey=",
    "sharedaccesssignature=",
    "sig=",
    "\"primarykey\":\"",
    "\"secondarykey\":\"",
];

/// Start of a token; its first field follows.
const SCHEME: &str = "sharedaccesssignature ";

/// Shorter ones occur in texts by chance.
const SHORTEST: usize = 12;

/// Panics if `output` contains a secret of `input`, whose parts are separated by `separators`.
pub(crate) fn assert_hidden(input: &str, separators: &[char], output: &str) {
    let lower = input.to_ascii_lowercase();
    for mark in MARKS {
        for (at, _) in lower.match_indices(mark) {
            let before = &lower[..at];
            let starts_part =
                before.is_empty() || before.ends_with(separators) || before.ends_with(SCHEME);
            let rest = &input[at + mark.len()..];
            let end = rest.find([';', '&', '"', ' ', '\\']).unwrap_or(rest.len());
            let secret = &rest[..end];
            // Without a digit it may be a word of the error; keys and signatures of this length
            // contain one.
            let is_key = secret.bytes().all(|byte| byte.is_ascii_graphic())
                && secret.bytes().any(|byte| byte.is_ascii_digit());
            let occurs_twice = input.matches(secret).nth(1).is_some();
            assert!(
                !starts_part
                    || occurs_twice
                    || secret.len() < SHORTEST
                    || !is_key
                    || !output.contains(secret),
                "the secret {secret:?} is visible in {output:?}"
            );
        }
    }
}
