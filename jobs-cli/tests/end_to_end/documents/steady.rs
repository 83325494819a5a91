//! Output that is the same at each run: times, ids and digests are replaced.

/// What stands in place of what differs each time.
const DIGEST: &str = "5d0f1b3c9a47";
const DAY_AND_TIME: &str = "Mon 2026-11-23 22:00:00";
const IN_TEN_MINUTES: &str = "Mon 2026-11-23 22:10:00";
const ID: &str = "-20261123-220000-x7k2";

/// The words of each line: the width of a column follows from what was replaced.
pub(super) fn words(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// Replaces what differs each time; drops the lines that a terminal overwrites.
pub(super) fn steady(typed: &str) -> String {
    const END_OF_WAITING: &str = "running";
    let mut steady = String::new();
    // The rest of an overwritten line that was wrapped.
    let mut is_rest = false;
    for line in typed.lines() {
        if is_rest {
            is_rest = !line.ends_with(END_OF_WAITING);
            continue;
        }
        let line = replaced(line, "-99999999-999999-xxxx", |_| ID.to_owned());
        let line = replaced(&line, "plan xxxxxxxxxxxx", |_| format!("plan {DIGEST}"));
        let line = replaced(&line, "in 9 s", |_| "in 5 s".to_owned());
        let line = replaced(&line, "Xxx 9999-99-99 99:99:99", |_| {
            DAY_AND_TIME.to_owned()
        });
        // The end of a slot.
        let line = replaced(&line, "Xxx 99:99:99", |_| "Mon 22:10:00".to_owned());
        let line = replaced(&line, "9999-99-99 99:99:99", |_| {
            DAY_AND_TIME[4..].to_owned()
        });
        let line = replaced(&line, "in 9 min 99 s", |_| "in 9 min 59 s".to_owned());
        let line = replaced(&line, "in 9 min 9 s", |_| "in 9 min 59 s".to_owned())
            .replace("in 10 min", "in 9 min 59 s")
            .replace(
                &format!("{DAY_AND_TIME} UTC, in 9"),
                &format!("{IN_TEN_MINUTES} UTC, in 9"),
            );
        let line = replaced(&line, "9999-99-99T99:99:99", |_| {
            DAY_AND_TIME[4..].replace(' ', "T")
        });
        let line = without_fraction(&line);
        let overwritten = line
            .split_once("  ")
            .is_some_and(|(first, _)| first.ends_with(ID) && !first.contains(' '));
        is_rest = overwritten && line.contains("; waiting") && !line.ends_with(END_OF_WAITING);
        if !overwritten {
            steady.push_str(line.trim_end());
            steady.push('\n');
        }
    }
    steady
}

/// Drops the fraction of a second of a time that was replaced.
fn without_fraction(line: &str) -> String {
    let Some((before, after)) = line.split_once("T22:00:00.") else {
        return line.to_owned();
    };
    let after = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
    format!("{before}T22:00:00{after}")
}

/// Replaces every part of a line that has this shape: 9 stands for a digit, x for a lower-case
/// letter or digit, X for a capital, the rest for itself.
fn replaced(line: &str, shape: &str, with: impl Fn(&str) -> String) -> String {
    let fits = |text: &str| {
        text.chars()
            .zip(shape.chars())
            .all(|(found, wanted)| match wanted {
                '9' => found.is_ascii_digit(),
                'x' => found.is_ascii_lowercase() || found.is_ascii_digit(),
                'X' => found.is_ascii_uppercase(),
                wanted => found == wanted,
            })
    };
    let mut done = String::new();
    let mut at = 0;
    while at < line.len() {
        let place = line.get(at..at + shape.len()).filter(|place| fits(place));
        match (place, line[at..].chars().next()) {
            (Some(place), _) => {
                done += &with(place);
                at += shape.len();
            }
            (None, Some(character)) => {
                done.push(character);
                at += character.len_utf8();
            }
            (None, None) => break,
        }
    }
    done
}

#[test]
fn masks_variable_parts() {
    let printed = "\
job lock-20271224-014440-ms8z is queued
lock-20271224-014440-ms8z  waits for its start
lock-20271224-014440-ms8z  0 of 2 done; waiting until 01:46:40 for lobby-east and
lobby-west; Ctrl-C leaves the job
running
until Fri 2027-12-24 01:54:40 UTC, in 10 min  x
plan 0123456789ab; in 4 s
since 2027-12-24T01:54:40.5Z
2027-12-24 01:44:40  lobby";
    let masked = "\
job lock-20261123-220000-x7k2 is queued
until Mon 2026-11-23 22:10:00 UTC, in 9 min 59 s  x
plan 5d0f1b3c9a47; in 5 s
since 2026-11-23T22:00:00Z
2026-11-23 22:00:00  lobby
";
    assert_eq!(steady(printed), masked);
}
