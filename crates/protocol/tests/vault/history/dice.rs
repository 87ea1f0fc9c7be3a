//! Where the choices of a history come from.

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a history is its seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Small ones mostly, with the edges of the type among them.
    pub(super) fn amount(&mut self) -> u128 {
        match self.below(40) {
            0 => 0,
            1 => 1,
            2 => u128::MAX,
            3 => u128::MAX - u128::from(self.below(1_000)),
            4..10 => u128::from(self.below(200_000)),
            _ => u128::from(self.below(20_000)),
        }
    }

    pub(super) fn any<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let at = self.below(list.len() as u64) as usize;
        list.get(at)
    }
}
