//! Property bags: order is kept, the last of equal names takes the place of the first, and the
//! printed text parses to the same.

use std::collections::HashMap;

use iothub_protocol::topic::{PropertyBag, TopicError};

use crate::{Seeds, texts};

type Pairs = Vec<(Vec<u8>, Option<Vec<u8>>)>;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let expected = parse_naively(text);
    let bag = match PropertyBag::parse(text) {
        Ok(bag) => bag,
        Err(TopicError::TooManyProperties) => {
            let names = text.matches('&').count() + 1;
            assert!(
                names > PropertyBag::MAX_PROPERTIES,
                "{names} properties are too many"
            );
            return;
        }
        Err(_) => {
            let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
            let all = expected.all.iter();
            let bad = all
                .clone()
                .any(|(name, value)| !is_text(name) || !value.as_deref().is_none_or(is_text));
            assert!(bad, "refused although every name and value is text");
            return;
        }
    };
    let pairs: Pairs = bag
        .iter()
        .map(|(name, value)| (name.into(), value.map(Into::into)))
        .collect();
    assert_eq!(pairs, expected.kept);
    for (name, value) in bag.iter() {
        assert_eq!(bag.get(name), value);
    }
    let written = bag.to_string();
    assert!(
        written
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'+')
    );
    assert_eq!(
        PropertyBag::parse(&written).as_ref(),
        Ok(&bag),
        "{written:?}"
    );
}

struct Plain {
    /// Every pair.
    all: Pairs,
    /// The effective ones.
    kept: Pairs,
}

/// A second, naive implementation of the rules.
fn parse_naively(text: &str) -> Plain {
    let text = text.strip_prefix('?').unwrap_or(text);
    let text = text.strip_suffix('/').unwrap_or(text);
    let all: Pairs = text
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.find('=') {
            Some(at) => (decode(&pair[..at]), Some(decode(&pair[at + 1..]))),
            None => (decode(pair), None),
        })
        .collect();
    let (mut kept, mut places) = (Pairs::new(), HashMap::<&Vec<u8>, usize>::new());
    for (name, value) in &all {
        match places.get(name) {
            Some(&at) => kept[at].1.clone_from(value),
            None => {
                places.insert(name, kept.len());
                kept.push((name.clone(), value.clone()));
            }
        }
    }
    Plain { all, kept }
}

fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits"));
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

pub(crate) fn seeds() -> Seeds {
    let bag = |pairs: &[(&str, &str)]| {
        let mut bag = PropertyBag::default();
        for (name, value) in pairs {
            bag.insert(*name, *value);
        }
        bag.to_string()
    };
    texts([
        bag(&[
            ("$.mid", "7"),
            ("$.ct", "application/json"),
            ("$.ce", "utf-8"),
        ]),
        bag(&[("temperature", "21 °C"), ("sum", "1+1=2"), ("", "")]),
        "?prop1&prop2=&prop3=a%20string".to_owned(),
        "a=1&b=2&a=3=3&&%24.mid=%2f/".to_owned(),
    ])
}
