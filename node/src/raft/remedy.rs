//! What a store that holds other data than was applied to it leads to. Pure.

/// What is done about a damaged store. Vote and log are kept in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreRemedy {
    /// The node starts again, moves the store to quarantine, and rebuilds it from what the volume
    /// has.
    Rebuild,
    /// The node starts again; the volume cannot give the data back, so it is refused, and the
    /// member returns with the data of the others.
    Return,
    /// Nobody has the data: it is kept as it is, and no client is sent to it.
    Keep,
}

/// Decides by whether a whole snapshot reaches where the log begins (or the log has everything),
/// and whether there are other members.
pub(crate) fn remedy(volume_has_everything: bool, has_other_members: bool) -> StoreRemedy {
    match (volume_has_everything, has_other_members) {
        (true, _) => StoreRemedy::Rebuild,
        (false, true) => StoreRemedy::Return,
        (false, false) => StoreRemedy::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_copy_is_never_given_up() {
        assert_eq!(remedy(true, false), StoreRemedy::Rebuild);
        assert_eq!(remedy(true, true), StoreRemedy::Rebuild);
        assert_eq!(remedy(false, true), StoreRemedy::Return);
        assert_eq!(remedy(false, false), StoreRemedy::Keep);
    }
}
