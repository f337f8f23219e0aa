//! The custom resources, one file a kind, and what they share.

// The derive for CEL rules repeats each struct inside a block of its own, where `pub` is unreachable.
#![allow(unreachable_pub)]

pub mod backup;
pub mod cluster;
pub mod common;
pub mod crds;
pub mod restore;
pub mod schedule;

pub use backup::{BackupPhase, RdfBackup, RdfBackupSpec, RdfBackupStatus};
pub use cluster::{
    Bootstrap, BootstrapFromBackup, ChosenBackup, ClusterPhase, Cors, DataLoss, HighWaterMark,
    HttpOptions, InitialMember, LastRecovery, MemberStatus, NodeOptions, OnClusterDeletion,
    RdfCluster, RdfClusterSpec, RdfClusterStatus, Recovery, Restored, RestoredAfterLoss,
    Scheduling, SecurityOptions, ServiceOptions, Storage, WhenDataIsLost,
};
pub use common::{
    BackupLocation, Condition, DeletionPolicy, JobOptions, Quantity, Resources, condition_is_true,
};
pub use restore::{RdfRestore, RdfRestoreSpec, RdfRestoreStatus, RestorePhase, RestoreSource};
pub use schedule::{RdfBackupSchedule, RdfBackupScheduleSpec, RdfBackupScheduleStatus};

/// The API group of all kinds.
pub const GROUP: &str = "quadraft.dev";
/// The only version so far.
pub const VERSION: &str = "v1alpha1";
