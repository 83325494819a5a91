//! Suggestions for misspelled names.

/// `; did you mean `NAME`?` for the closest candidate, if any.
pub(crate) fn hint<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    did_you_mean(closest(given, candidates))
}

/// `; did you mean `NAME`?`, if there is a name.
pub(crate) fn did_you_mean(closest: Option<&str>) -> String {
    closest.map_or(String::new(), |closest| {
        format!("; did you mean `{closest}`?")
    })
}

/// The candidate closest to `given`, ignoring case, if it is close enough to be a typing error.
pub(crate) fn closest<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = given.to_lowercase();
    let distance = |to: &str| strsim::osa_distance(&lower, &to.to_lowercase());
    let allowed = 1 + given.chars().count() / 4;
    candidates
        .into_iter()
        // The name exists; only Azure's queries may lag.
        .filter(|candidate| *candidate != given)
        .map(|candidate| (distance(candidate), candidate))
        // A single character that differs is no basis for a suggestion.
        .filter(|(distance, _)| *distance <= allowed && *distance < given.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
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
