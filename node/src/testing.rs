//! What tests of several rooms share.

/// Runs a fuzz target as an ordinary test, always with the same input: by turns noise, a valid encoding with one bit flipped, and one cut short.
pub(crate) fn fuzz_for_a_moment(valid: &[Vec<u8>], target: impl Fn(&[u8])) {
    const ROUNDS: usize = 20_000;
    const NOISE_BYTES_MAX: usize = 96;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    // Xorshift (Marsaglia 2003): enough for input that only has to differ.
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 8).expect("56 bits") % limit
    };
    for round in 0..ROUNDS {
        let mut data = valid[round % valid.len()].clone();
        match below(3) {
            0 => data = (0..below(NOISE_BYTES_MAX)).map(|_| below(256).to_le_bytes()[0]).collect(),
            1 => {
                let at = below(data.len());
                data[at] ^= 1 << below(8);
            }
            _ => data.truncate(below(data.len())),
        }
        target(&data);
    }
}
