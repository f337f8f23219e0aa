//! Request ids and the table that makes a repeated request change nothing.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The number of requests that are remembered.
pub const REMEMBERED_REQUESTS: usize = 16_384;

/// The most requests that one entry may hold: their places are numbers of 16 bits.
pub const MAXIMUM_REQUESTS_AN_ENTRY: usize = 1 << PLACE_BITS;

const PLACE_BITS: u32 = 16;

/// Names one write of one client, so that a repeated or forwarded one is applied once.
///
/// The first half is the key: of two requests with the same key at most one is ever applied. The
/// second half says what is asked for, so that a key which is used again for something else is
/// noticed. Two different keys that are equal here (one pair in 2^64) differ there in all
/// likelihood: then the later request is refused, never taken for the earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 16]);

/// What of an id may be given once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey(u64);

impl RequestId {
    /// The id of a request with an idempotency key: the first 8 bytes of the key's SHA-256, and
    /// the first 8 bytes of the digest of what is asked for.
    pub fn of_key(key: &str, content_digest: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&Sha256::digest(key.as_bytes())[..8]);
        id[8..].copy_from_slice(&content_digest[..8]);
        Self(id)
    }

    /// An id for tests: the first 16 bytes of a hash.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn from_key(key: &str) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(key.as_bytes())[..16]);
        Self(id)
    }

    /// The half that names the request, whatever it asks for.
    pub fn key(self) -> RequestKey {
        let [first, ..] = self.halves();
        RequestKey(first)
    }

    fn halves(self) -> [u64; 2] {
        let number = self.number();
        [(number >> 64) as u64, number as u64]
    }

    /// An id that nobody else has. Those of one process follow each other, so that the store can
    /// remember many of them in one record.
    pub fn unique() -> Self {
        /// The key of the next, and the content of all.
        static NEXT: LazyLock<(AtomicU64, u64)> =
            LazyLock::new(|| (AtomicU64::new(rand::random()), rand::random()));
        let (next_key, content) = &*NEXT;
        // Past the last number it begins again.
        let key = next_key.fetch_add(1, Ordering::Relaxed);
        Self::from_number(u128::from(key) << 64 | u128::from(*content))
    }

    pub(crate) fn number(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    pub(crate) fn from_number(number: u128) -> Self {
        Self(number.to_be_bytes())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.number())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(serde::de::Error::custom(
                "a request id is 32 hexadecimal digits",
            ));
        }
        u128::from_str_radix(&text, 16)
            .map(Self::from_number)
            .map_err(serde::de::Error::custom)
    }
}

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestOutcome {
    /// The entry that applied it.
    pub log_index: u64,
    /// It had been applied before.
    pub duplicate: bool,
}

/// The entry that applied a request and the place of the request in it, as one number that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestPlace(u64);

impl RequestPlace {
    /// `None` for numbers that do not fit: an index of 47 bits lasts longer than any log.
    pub(crate) fn new(log_index: u64, place: usize) -> Option<Self> {
        let place = u64::try_from(place).ok()?;
        (log_index < 1 << (63 - PLACE_BITS) && place < 1 << PLACE_BITS)
            .then_some(Self((log_index << PLACE_BITS) | place))
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        (number < 1 << 63).then_some(Self(number))
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }

    pub(crate) fn log_index(self) -> u64 {
        self.0 >> PLACE_BITS
    }

    /// The next place in the same entry, if there can be one.
    pub(crate) fn next(self) -> Option<Self> {
        let next = Self(self.0 + 1);
        (next.log_index() == self.log_index()).then_some(next)
    }
}

/// A request that is remembered.
pub(crate) type Remembered = (RequestId, RequestPlace);

/// Requests that leave the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) requests: Vec<Remembered>,
    /// Those that stay of the entry of the last that leaves.
    pub(crate) staying: Vec<Remembered>,
}

/// The last requests in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestTable {
    places: HashMap<RequestKey, (RequestId, RequestPlace)>,
    order: VecDeque<RequestId>,
}

impl RequestTable {
    /// The request that was applied with this key, if one was.
    pub(crate) fn get(&self, key: RequestKey) -> Option<(RequestId, RequestPlace)> {
        self.places.get(&key).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The requests in the order in which they were applied.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RequestId, RequestPlace)> + '_ {
        self.order.iter().filter_map(|id| self.get(id.key()))
    }

    /// The requests at these places in the order in which they were applied.
    pub(crate) fn ids(
        &self,
        range: std::ops::Range<usize>,
    ) -> impl Iterator<Item = RequestId> + '_ {
        self.order
            .iter()
            .skip(range.start)
            .take(range.end.saturating_sub(range.start))
            .copied()
    }

    /// Reads a table back: `None` when a key is repeated or there are too many.
    pub(crate) fn from_places(mut places: Vec<(RequestId, RequestPlace)>) -> Option<Self> {
        places.sort_unstable_by_key(|(_, place)| *place);
        let ordered = places.windows(2).all(|pair| pair[0].1 < pair[1].1);
        let order: VecDeque<_> = places.iter().map(|(id, _)| *id).collect();
        let places: HashMap<_, _> = places
            .into_iter()
            .map(|(id, place)| (id.key(), (id, place)))
            .collect();
        (ordered && places.len() == order.len() && order.len() <= REMEMBERED_REQUESTS)
            .then_some(Self { places, order })
    }

    /// The requests that leave the table when `incoming` more are added.
    pub(crate) fn leaving(&self, incoming: usize) -> Leaving {
        let excess = (self.order.len() + incoming).saturating_sub(REMEMBERED_REQUESTS);
        let mut all = self.iter();
        let requests: Vec<Remembered> = all.by_ref().take(excess).collect();
        let last = requests.last().map(|(_, place)| place.log_index());
        let staying = all
            .take_while(|(_, place)| Some(place.log_index()) == last)
            .collect();
        Leaving { requests, staying }
    }

    /// Adds requests that follow all those in the table; the oldest leave.
    pub(crate) fn append(&mut self, added: &[(RequestId, RequestPlace)]) {
        for (id, place) in added {
            self.places.insert(id.key(), (*id, *place));
            self.order.push_back(*id);
        }
        while self.order.len() > REMEMBERED_REQUESTS {
            if let Some(id) = self.order.pop_front() {
                self.places.remove(&id.key());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_id_is_the_start_of_two_hashes() {
        // SHA-256("abc") begins with ba7816bf.
        let id = RequestId::of_key("abc", &[0x2a; 32]);
        assert_eq!(id.to_string(), "ba7816bf8f01cfea2a2a2a2a2a2a2a2a");
        assert_eq!(id.key(), RequestId::of_key("abc", &[0; 32]).key());
        assert_ne!(id.key(), RequestId::of_key("abd", &[0x2a; 32]).key());
        assert_ne!(RequestId::unique(), RequestId::unique());
    }

    #[test]
    fn an_id_survives_being_written_as_json() {
        let id = RequestId::of_key("abc", &[1; 32]);
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<RequestId>(&text).unwrap(), id);
    }

    #[test]
    fn the_oldest_requests_leave_a_full_table() {
        let mut table = RequestTable::default();
        let place = |number: usize| RequestPlace::new(number as u64, 0).unwrap();
        let id = |number: usize| RequestId::from_number((number as u128) << 64);
        let all: Vec<_> = (0..REMEMBERED_REQUESTS)
            .map(|number| (id(number), place(number)))
            .collect();
        table.append(&all);
        assert_eq!(table.leaving(0), Leaving::default());
        let leaving = table.leaving(2);
        assert_eq!(leaving.requests, [(id(0), place(0)), (id(1), place(1))]);
        assert!(leaving.staying.is_empty());
        let more = REMEMBERED_REQUESTS;
        table.append(&[(id(more), place(more)), (id(more + 1), place(more + 1))]);
        assert_eq!(table.len(), REMEMBERED_REQUESTS);
        assert_eq!(table.get(id(1).key()), None);
        assert_eq!(table.get(id(2).key()), Some((id(2), place(2))));
        assert_eq!(
            RequestTable::from_places(table.iter().collect()),
            Some(table)
        );
    }

    #[test]
    fn places_too_large_for_their_number_are_refused() {
        assert_eq!(RequestPlace::new(1 << 47, 0), None);
        assert_eq!(RequestPlace::new(1, 1 << 16), None);
        let last = RequestPlace::new((1 << 47) - 1, (1 << 16) - 1).unwrap();
        assert_eq!(last.log_index(), (1 << 47) - 1);
        assert_eq!(RequestPlace::from_number(last.number()), Some(last));
        assert!(i64::try_from(last.number()).is_ok());
    }
}
