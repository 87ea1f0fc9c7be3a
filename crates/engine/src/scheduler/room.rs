//! Who has pages: promised in the order of the classes, and in a class in the order in which they came.

use crate::Class;

/// What an accepted sequence was promised: the bytes of the pages of its longest form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Its call; later ones have larger numbers.
    pub call: u64,
    /// Whose work it is.
    pub class: Class,
    /// Bytes of pages.
    pub bytes: u64,
}

/// A claim that does not fit, with the pages there are for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// Bytes that the class could have.
    pub have: u64,
}

/// Whether a claim may be accepted beside those that were: it must fit together with everything of its own and earlier
/// classes. Later classes stand aside for it.
pub fn admit(accepted: &[Claim], claim: &Claim, capacity: u64) -> Result<(), NoRoom> {
    let before: u64 = accepted
        .iter()
        .filter(|other| other.class <= claim.class)
        .map(|other| other.bytes)
        .sum();
    let have = capacity.saturating_sub(before);
    if claim.bytes > have {
        return Err(NoRoom { have });
    }
    Ok(())
}

/// Which of the accepted claims stand aside for now (ascending): those that no longer fit when the pages are dealt out in
/// order. Of one class, the latest stand aside first.
pub fn aside(accepted: &[Claim], capacity: u64) -> Vec<u64> {
    let mut claims = accepted.to_vec();
    claims.sort_by_key(|claim| (claim.class, claim.call));
    let mut left = capacity;
    let mut aside = Vec::new();
    for claim in claims {
        if claim.bytes <= left {
            left -= claim.bytes;
        } else {
            aside.push(claim.call);
        }
    }
    aside.sort_unstable();
    aside
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims() -> impl Strategy<Value = Vec<(Class, u64)>> {
        let class = prop::sample::select(Class::ALL.to_vec());
        prop::collection::vec((class, 1u64..20), 0..24)
    }

    proptest! {
        #[test]
        fn pages_go_to_the_earlier_class(wishes in claims(), capacity in 0u64..60) {
            let mut accepted: Vec<Claim> = Vec::new();
            for (call, (class, bytes)) in wishes.into_iter().enumerate() {
                let claim = Claim { call: call as u64, class, bytes };
                match admit(&accepted, &claim, capacity) {
                    Ok(()) => accepted.push(claim),
                    Err(NoRoom { have }) => prop_assert!(have < bytes),
                }
                let aside = aside(&accepted, capacity);
                let seated: u64 = accepted.iter().filter(|claim| !aside.contains(&claim.call)).map(|claim| claim.bytes).sum();
                prop_assert!(seated <= capacity);
                // What was accepted last has its pages at once, and the owner's never loses them.
                prop_assert!(accepted.iter().all(|claim| claim.class != Class::Own || !aside.contains(&claim.call)));
                for out in accepted.iter().filter(|claim| aside.contains(&claim.call)) {
                    // It would not fit beside those that come before it.
                    let before: u64 = accepted
                        .iter()
                        .filter(|claim| (claim.class, claim.call) < (out.class, out.call) && !aside.contains(&claim.call))
                        .map(|claim| claim.bytes)
                        .sum();
                    prop_assert!(before + out.bytes > capacity);
                }
            }
        }
    }
}
