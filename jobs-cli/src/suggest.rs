//! Suggestions for misspelled names.

/// The candidate closest to `given`, if it is close enough to be a typing error.
pub(crate) fn closest<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = 1 + given.chars().count() / 4;
    candidates
        .into_iter()
        // The name exists; only Azure's queries may lag.
        .filter(|candidate| *candidate != given)
        .map(|candidate| (distance(given, candidate), candidate))
        // A single character that differs is no basis for a suggestion.
        .filter(|(distance, _)| *distance <= allowed && *distance < given.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edit distance: insertions, deletions, replacements and swaps of neighbours, ignoring case.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (
        from.to_lowercase().chars().collect(),
        to.to_lowercase().chars().collect(),
    );
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_corrected_and_an_unrelated_word_is_not() {
        let doors = ["lobby-east", "lobby-west", "vault"];
        assert_eq!(closest("lobby-eats", doors), Some("lobby-east"));
        assert_eq!(closest("Lobby-West", doors), Some("lobby-west"));
        assert_eq!(closest("vualt", doors), Some("vault"));
        assert_eq!(closest("roof", doors), None);
        assert_eq!(closest("x", []), None);
        assert_eq!(closest("9", ["1", "2"]), None);
        assert_eq!(closest("vault", doors), None);
    }
}
