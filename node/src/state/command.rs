//! Log entries as bytes. `docs/formats/effects.md` describes the format.

use super::codec::{
    DecodeError, Decoder, put_count, put_graph, put_graph_name, put_number, put_quads,
};
use super::effects::{Command, Effects};
use super::request::RequestId;

/// The version of the encoding, its first byte.
const VERSION: u8 = 1;

/// An id and four counts.
const MINIMUM_REQUEST_BYTES: usize = 16 + 4;

impl Command {
    /// The command as bytes. Equal commands have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_number(&mut out, self.base_index);
        put_count(&mut out, self.requests.len());
        for (id, effects) in &self.requests {
            out.extend_from_slice(&id.0);
            put_effects(&mut out, effects);
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let version = decoder.byte("the version")?;
        if version != VERSION {
            return Err(DecodeError::Version {
                found: version,
                known: VERSION,
            });
        }
        let base_index = decoder.number()?;
        let count = decoder.count(MINIMUM_REQUEST_BYTES, "requests")?;
        let mut requests = Vec::new();
        for _ in 0..count {
            let id = RequestId(decoder.array("a request id")?);
            requests.push((id, effects(&mut decoder)?));
        }
        decoder.finish()?;
        Ok(Self {
            base_index,
            requests,
        })
    }
}

fn put_effects(out: &mut Vec<u8>, effects: &Effects) {
    put_quads(out, &effects.deletes);
    put_count(out, effects.dropped_graphs.len());
    for name in &effects.dropped_graphs {
        put_graph_name(out, name);
    }
    put_count(out, effects.created_graphs.len());
    for name in &effects.created_graphs {
        put_graph(out, name);
    }
    put_quads(out, &effects.inserts);
}

fn effects(decoder: &mut Decoder<'_>) -> Result<Effects, DecodeError> {
    let deletes = decoder.quads()?;
    let dropped_graphs = (0..decoder.count(1, "dropped graphs")?)
        .map(|_| decoder.graph_name())
        .collect::<Result<_, _>>()?;
    let created_graphs = (0..decoder.count(1, "created graphs")?)
        .map(|_| decoder.graph())
        .collect::<Result<_, _>>()?;
    let inserts = decoder.quads()?;
    Ok(Effects {
        deletes,
        dropped_graphs,
        created_graphs,
        inserts,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::state::testing::any_command;

    #[test]
    fn the_bytes_of_a_small_command_never_change() {
        let command = Command {
            base_index: 300,
            requests: vec![(RequestId([7; 16]), Effects::default())],
        };
        let mut expected = vec![1, 0xac, 0x02, 1];
        expected.extend([7; 16]);
        expected.extend([0, 0, 0, 0]);
        assert_eq!(command.encode(), expected);
    }

    #[test]
    fn an_unknown_version_and_trailing_bytes_are_refused() {
        let mut bytes = Command::default().encode();
        bytes.push(0);
        assert_eq!(Command::decode(&bytes), Err(DecodeError::Trailing(1)));
        bytes[0] = 2;
        assert_eq!(
            Command::decode(&bytes),
            Err(DecodeError::Version { found: 2, known: 1 })
        );
        assert!(Command::decode(&[]).is_err());
    }

    proptest! {
        #[test]
        fn every_command_is_read_back(command in any_command()) {
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read_but_never_panic(bytes: Vec<u8>) {
            if let Ok(command) = Command::decode(&bytes) {
                prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
            }
        }

        #[test]
        fn a_command_with_a_changed_byte_never_panics(
            command in any_command(), place: prop::sample::Index, value: u8,
        ) {
            let mut bytes = command.encode();
            let place = place.index(bytes.len());
            bytes[place] = value;
            let _read_or_refused = Command::decode(&bytes);
        }

        #[test]
        fn a_truncated_command_is_refused(command in any_command(), place: prop::sample::Index) {
            let bytes = command.encode();
            let place = place.index(bytes.len());
            prop_assert!(Command::decode(&bytes[..place]).is_err());
        }
    }
}
