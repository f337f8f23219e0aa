//! From what stands on a volume to a node that may serve, or a refusal that says why.
//!
//! [`open_volume`] is what `serve` runs at each start and what `recover` runs offline: it mends
//! what may be mended (docs/operations/recovery-ladder.md), and refuses where a promise is lost.
//! [`verify_volume`] reads everything and changes nothing; [`salvage`] puts together elsewhere what a
//! volume still holds.

#[cfg(test)]
mod formats;
mod let_go;
mod order;
mod rebirth;
mod refusal;
mod salvage;
mod store;
mod verify;
mod volume;

#[cfg(test)]
pub(crate) use formats::stored_volume_folder;
pub(crate) use order::{OrderError, Positions, check_running, log_explains_store};
pub use rebirth::give_new_identity;
pub use refusal::Refusal;
pub(crate) use salvage::{SalvageError, SalvageReport, salvage};
pub(crate) use store::order_rebuild;
pub use verify::{VerifyReport, list_entries, verify_volume};
pub(crate) use volume::log_identity;
pub use volume::{OpenOptions, StorePlace, Volume, open_volume};
