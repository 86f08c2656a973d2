//! The known word nearest to a mistyped one.

/// How unlike two words may be and still be offered: 0 is nothing in common, 1 is equal. Lower offers nonsense for words that
/// were never meant; higher misses a slip in a short word (`mtu`, `mtv` are 0.82 alike by this measure).
const LIKENESS_MIN: f64 = 0.7;

/// The nearest of `known` to `word`, if any is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let known = ["cpus", "memory", "disk", "mtu"];
        assert_eq!(nearest("memroy", known), Some("memory"));
        assert_eq!(nearest("mtv", known), Some("mtu"));
        assert_eq!(nearest("cpu", known), Some("cpus"));
        assert_eq!(nearest("xyzzy", known), None);
    }
}
