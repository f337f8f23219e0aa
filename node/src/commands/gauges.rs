//! Where the node stands, as metrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use quadraft_protocol::v1;

use crate::raft::Node;

/// Reads the node's status whenever metrics are asked for.
#[derive(Debug)]
struct NodeCollector(Arc<Node>);

pub(super) fn register(registry: &mut Registry, node: Arc<Node>) {
    registry.register_collector(Box::new(NodeCollector(node)));
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.0.status();
        let index = |log_id: Option<v1::LogId>| log_id.map_or(0, |log_id| log_id.index);
        let report = self.0.recovery_report();
        let gauges: [(&str, &str, u64); 18] = [
            ("quadraft_raft_term", "The current term", status.term),
            (
                "quadraft_raft_is_leader",
                "Whether this node leads",
                u64::from(status.role() == v1::Role::Leader),
            ),
            (
                "quadraft_raft_has_leader",
                "Whether a leader is known",
                u64::from(status.leader_node_id != 0),
            ),
            (
                "quadraft_raft_last_log_index",
                "Index of the last log entry",
                index(status.last_log_id),
            ),
            (
                "quadraft_raft_committed_index",
                "Index of the last committed entry known here",
                index(status.committed),
            ),
            (
                "quadraft_raft_applied_index",
                "Index of the last applied entry",
                index(status.applied),
            ),
            (
                "quadraft_log_unreadable_entries",
                "Entries of the log that cannot be read and that no peer has given yet",
                status.unreadable.len() as u64,
            ),
            (
                "quadraft_log_repaired_entries",
                "Entries of the log that were repaired from peers since the start",
                status.repaired_from_peers.len() as u64,
            ),
            (
                "quadraft_disk_available_bytes",
                "Bytes that are left on the disk",
                status.disk_available_bytes,
            ),
            (
                "quadraft_disk_is_short",
                "Whether no writes are taken for want of space",
                u64::from(status.disk_is_short),
            ),
            (
                "quadraft_raft_snapshot_index",
                "Index of the last snapshot",
                index(status.snapshot),
            ),
            (
                "quadraft_raft_purged_index",
                "Index of the last entry let go",
                index(status.purged),
            ),
            ("quadraft_state_quads", "Quads in the store", status.quads),
            (
                "quadraft_ready",
                "Whether the node is ready for clients",
                u64::from(status.ready),
            ),
            (
                "quadraft_boot_count",
                "Starts of this node",
                status.boot_count,
            ),
            (
                "quadraft_diverged_replicas",
                "Replicas whose digest differed",
                status.divergences.len() as u64,
            ),
            (
                "quadraft_recovery_duration_milliseconds",
                "Time that the last recovery took",
                report.duration_ms,
            ),
            (
                "quadraft_recovery_entries_replayed",
                "Entries replayed at the last start",
                report.entries_replayed,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
