//! WebSocket frames: the result does not depend on how the bytes are split, and is never larger
//! than the input.

use door_hub::fuzzing::unframe;

use crate::Seeds;

/// Inputs up to this length are split at every byte.
const SHORT: usize = 256;

/// Longer ones are split at this many places, so that the time per input stays bounded.
const CUTS: usize = 64;

pub(crate) fn run(data: &[u8]) {
    let whole = unframe([data]);
    assert!(
        whole.mqtt.len() + whole.answers.len() <= data.len(),
        "more came out than went in"
    );
    assert!(
        !(whole.closed && whole.error.is_some()),
        "a close frame that violates the protocol"
    );
    assert_eq!(unframe(data.chunks(1)), whole, "byte by byte");
    let step = if data.len() <= SHORT {
        1
    } else {
        data.len() / CUTS
    };
    for at in (0..data.len()).step_by(step) {
        let (before, after) = data.split_at(at);
        assert_eq!(unframe([before, after]), whole, "cut after {at} bytes");
    }
}

pub(crate) fn seeds() -> Seeds {
    const PACKETS: &[u8] = b"\xc0\x00\xc0\x00\x30\x05\x00\x01a12";
    let long = vec![b'x'; 300];
    let seeds: [(&str, Vec<u8>); 7] = [
        ("binary", frame(0x82, PACKETS)),
        ("close", frame(0x88, &1000_u16.to_be_bytes())),
        (
            "fragments",
            [frame(0x02, &PACKETS[..3]), frame(0x80, &PACKETS[3..])].concat(),
        ),
        ("long", frame(0x82, &long)),
        (
            "ping-between-fragments",
            [frame(0x02, b"\xc0"), frame(0x89, b"hi"), frame(0x80, b"\0")].concat(),
        ),
        ("text", frame(0x81, b"MQTT")),
        ("empty", frame(0x82, b"")),
    ];
    seeds.map(|(name, bytes)| (name.to_owned(), bytes)).into()
}

/// A masked frame as a client sends it (RFC 6455 section 5.2).
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match u8::try_from(payload.len()) {
        Ok(short @ 0..=125) => bytes.push(0x80 | short),
        _ => {
            bytes.push(0x80 | 126);
            let length = u16::try_from(payload.len()).expect("a short seed");
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}
