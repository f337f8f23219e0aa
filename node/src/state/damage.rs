//! Whether the store was found to be damaged.

use tokio::sync::watch;

use super::StateError;

/// What was found first of the generation in force. Whoever reads or writes the store and fails
/// says so here, and whoever decides what becomes of the node waits for it.
#[derive(Debug)]
pub(crate) struct Damage {
    found: watch::Sender<Found>,
}

#[derive(Clone, Debug, Default)]
struct Found {
    generation: u64,
    what: Option<String>,
}

impl Damage {
    pub(crate) fn new(generation: u64) -> Self {
        let found = Found {
            generation,
            what: None,
        };
        Self {
            found: watch::channel(found).0,
        }
    }

    /// Notes a failure of this generation, if it is one that only a damaged store has. What was
    /// found first stays; what is said of a generation that was replaced does not matter.
    pub(crate) fn note(&self, generation: u64, error: &StateError) {
        if error.is_damage() {
            self.note_what(generation, &error.to_string());
        }
    }

    /// As [`Self::note`], for what is known to be damage.
    pub(crate) fn note_what(&self, generation: u64, what: &str) {
        self.found.send_if_modified(|found| {
            let is_news = found.generation == generation && found.what.is_none();
            if is_news {
                tracing::error!(what, "the store is damaged");
                found.what = Some(what.to_owned());
            }
            is_news
        });
    }

    /// Another generation is in force, of which nothing is known yet.
    pub(crate) fn forget(&self, generation: u64) {
        self.found.send_replace(Found {
            generation,
            what: None,
        });
    }

    /// What was found.
    pub(crate) fn found(&self) -> Option<String> {
        self.found.borrow().what.clone()
    }

    /// Waits until something is found, and says what.
    pub(crate) async fn wait(&self) -> String {
        let mut found = self.found.subscribe();
        let what = match found.wait_for(|found| found.what.is_some()).await {
            Ok(found) => found.what.clone(),
            // The sender lives as long as this.
            Err(_) => None,
        };
        match what {
            Some(what) => what,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inconsistent(what: &str) -> StateError {
        StateError::Inconsistent(what.into())
    }

    #[test]
    fn the_first_damage_of_the_generation_in_force_counts() {
        let damage = Damage::new(1);
        damage.note(1, &StateError::Broken);
        assert_eq!(damage.found(), None);
        damage.note(2, &inconsistent("another store"));
        assert_eq!(damage.found(), None);
        damage.note(1, &inconsistent("first"));
        damage.note(1, &inconsistent("second"));
        assert!(damage.found().is_some_and(|what| what.contains("first")));
        damage.forget(2);
        damage.note(1, &inconsistent("the old one"));
        assert_eq!(damage.found(), None);
    }
}
