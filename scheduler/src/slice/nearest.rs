//! The known word nearest to what was written.

/// The known word nearest to what was written, if any is near enough to be what was meant.
#[must_use]
pub(super) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |word: &&str| edit_distance(written, word);
    let near = known.iter().min_by_key(|word| distance(word))?;
    (distance(near) <= near.len().div_ceil(3).max(1)).then_some(*near)
}

/// Letters to add, drop, change or swap with a neighbour. What was written counts at most 64 bytes.
fn edit_distance(written: &str, word: &str) -> usize {
    let a: Vec<u8> = written.bytes().take(64).collect();
    let b = word.as_bytes();
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swap = if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    rows[i - 2][j - 2] + 1
                } else {
                    usize::MAX
                };
                change.min(swap).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearness_forgives_a_slip_and_not_a_stranger() {
        assert_eq!(nearest("memroy", &["cpus", "memory", "disk"]), Some("memory"));
        assert_eq!(nearest("cpu", &["cpus", "memory"]), Some("cpus"));
        assert_eq!(nearest("colour", &["cpus", "memory"]), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
