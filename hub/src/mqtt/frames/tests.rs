use proptest::prelude::*;

use super::*;

const BINARY: u8 = 0x2;
const CONTINUE: u8 = 0x0;
const FINAL: u8 = 0x80;

/// A client's frame, written by the RFC and not with the crate that parses it.
fn frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut wire = vec![first];
    match payload.len() {
        short @ 0..=125 => wire.push(0x80 | u8::try_from(short).unwrap()),
        middle @ 126..=65_535 => {
            wire.push(0x80 | 126);
            wire.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            wire.push(0x80 | 127);
            wire.extend((long as u64).to_be_bytes());
        }
    }
    wire.extend(mask);
    wire.extend(
        payload
            .iter()
            .enumerate()
            .map(|(n, byte)| byte ^ mask[n % 4]),
    );
    wire
}

/// The result of reading `wire` in pieces of `cut` bytes.
fn read(wire: &[u8], cut: usize) -> (Result<(), FrameError>, Vec<u8>, Vec<u8>, bool) {
    let (mut frames, mut mqtt, mut answers) = (FrameReader::default(), Vec::new(), Vec::new());
    let mut outcome = Ok(());
    for piece in wire.chunks(cut) {
        outcome = frames.read(piece, &mut mqtt, &mut answers);
        if outcome.is_err() {
            break;
        }
    }
    (outcome, mqtt, answers, frames.closed())
}

#[test]
fn a_ping_between_the_fragments_of_a_message_is_answered() {
    let wire = [
        frame(BINARY, [1, 2, 3, 4], b"ab"),
        frame(FINAL | 0x9, [9, 9, 9, 9], b"are you there"),
        frame(FINAL | CONTINUE, [5, 6, 7, 8], b"cd"),
    ]
    .concat();
    for cut in [1, 3, wire.len()] {
        let (outcome, mqtt, answers, closed) = read(&wire, cut);
        assert_eq!(
            (outcome, mqtt.as_slice(), closed),
            (Ok(()), &b"abcd"[..], false)
        );
        assert_eq!(answers, [&[0x8a, 13], &b"are you there"[..]].concat());
    }
}

#[test]
fn a_close_frame_is_answered_with_its_code_and_ends_the_input() {
    let wire = [
        frame(FINAL | BINARY, [0; 4], b"x"),
        frame(FINAL | 0x8, [1, 0, 1, 0], b"\x03\xe8done"),
        frame(FINAL | BINARY, [0; 4], b"y"),
    ]
    .concat();
    let (outcome, mqtt, answers, closed) = read(&wire, 2);
    assert_eq!(
        (outcome, mqtt.as_slice(), closed),
        (Ok(()), &b"x"[..], true)
    );
    assert_eq!(answers, b"\x88\x02\x03\xe8");
}

#[test]
fn distinguishes_protocol_errors_from_unsupported_data() {
    let good = frame(BINARY, [0; 4], b"a");
    let cases = [
        (vec![FINAL | BINARY, 1, b'a'], FrameError::Unmasked),
        (frame(FINAL | 0x1, [0; 4], b"{}"), FrameError::Text),
        (
            frame(FINAL | 0x40 | BINARY, [0; 4], b"a"),
            FrameError::Reserved,
        ),
        (frame(FINAL | 0x3, [0; 4], b"a"), FrameError::Reserved),
        (
            frame(FINAL | CONTINUE, [0; 4], b"a"),
            FrameError::Continuation,
        ),
        ([good.clone(), good].concat(), FrameError::Continuation),
        (frame(0x9, [0; 4], b""), FrameError::Control),
        (frame(FINAL | 0x9, [0; 4], &[0; 126]), FrameError::Control),
    ];
    for (wire, expected) in cases {
        assert_eq!(read(&wire, wire.len()).0, Err(expected), "{wire:?}");
    }
}

#[test]
fn a_giant_frame_is_read_as_it_arrives_without_a_buffer() {
    let mut wire = vec![FINAL | BINARY, 0x80 | 127];
    wire.extend((u64::MAX >> 1).to_be_bytes());
    wire.extend([0; 4]);
    wire.extend(b"packet");
    let (outcome, mqtt, answers, closed) = read(&wire, 5);
    assert_eq!((outcome, mqtt.as_slice()), (Ok(()), &b"packet"[..]));
    assert!(answers.is_empty() && !closed);
}

#[test]
fn writes_frames_without_a_mask() {
    let mut wire = Vec::new();
    write_header(&mut wire, 5);
    write_header(&mut wire, 300);
    write_close(&mut wire, 1001);
    assert_eq!(wire, b"\x82\x05\x82\x7e\x01\x2c\x88\x02\x03\xe9");
}

proptest! {
    #[test]
    fn packets_survive_any_cut_into_frames_and_reads(
        pieces in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..300), any::<[u8; 4]>()),
            1..6,
        ),
        one_message: bool,
        cut in 1_usize..400,
    ) {
        let last = pieces.len() - 1;
        let wire: Vec<u8> = pieces.iter().enumerate().flat_map(|(n, (payload, mask))| {
            let first = match (one_message, n) {
                (false, _) => FINAL | BINARY,
                (true, n) => {
                    let opcode = if n == 0 { BINARY } else { CONTINUE };
                    if n == last { FINAL | opcode } else { opcode }
                }
            };
            frame(first, *mask, payload)
        }).collect();
        let expected: Vec<u8> = pieces.into_iter().flat_map(|(payload, _)| payload).collect();
        let (outcome, mqtt, answers, closed) = read(&wire, cut);
        prop_assert_eq!((outcome, mqtt, answers, closed), (Ok(()), expected, Vec::new(), false));
    }

    #[test]
    fn no_bytes_panic_and_the_output_is_never_longer_than_the_input(
        wire: Vec<u8>,
        cut in 1_usize..40,
    ) {
        let (_, mqtt, answers, _) = read(&wire, cut);
        prop_assert!(mqtt.len() + answers.len() <= wire.len());
    }
}
