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
    node.register_metrics(registry);
    registry.register_collector(Box::new(NodeCollector(node)));
}

type NamedGauge = (&'static str, &'static str, u64);

fn scrub_gauges(scrub: &v1::Scrub) -> [NamedGauge; 9] {
    let last = scrub.last.clone().unwrap_or_default();
    [
        (
            "quadraft_scrub_running",
            "Whether a round of scrubbing goes on",
            u64::from(scrub.started_ms != 0),
        ),
        (
            "quadraft_scrub_part_done_bytes",
            "Bytes read of the part that is being scrubbed",
            scrub.bytes_done,
        ),
        (
            "quadraft_scrub_part_total_bytes",
            "Bytes of the part that is being scrubbed",
            scrub.bytes_total,
        ),
        (
            "quadraft_scrub_last_end_timestamp_seconds",
            "When the last round of scrubbing ended, 0 for never",
            last.ended_ms / 1000,
        ),
        (
            "quadraft_scrub_last_checked_bytes",
            "Bytes read in the last round of scrubbing",
            last.checked_bytes,
        ),
        (
            "quadraft_scrub_last_checked",
            "Copies, records, snapshots and quads checked in the last round of scrubbing",
            last.checked,
        ),
        (
            "quadraft_scrub_last_mended",
            "Damages that the node made good by itself in the last round of scrubbing",
            last.mended,
        ),
        (
            "quadraft_scrub_last_repaired_from_peers",
            "Entries that other members gave in the last round of scrubbing",
            last.repaired_from_peers,
        ),
        (
            "quadraft_scrub_last_unrepairable",
            "Damages that were not made good in the last round of scrubbing",
            last.unrepairable,
        ),
    ]
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.0.status();
        let index = |log_id: Option<v1::LogId>| log_id.map_or(0, |log_id| log_id.index);
        let report = self.0.recovery_report();
        let gauges: [NamedGauge; 18] = [
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
        let scrub = scrub_gauges(&status.scrub.unwrap_or_default());
        for (name, help, value) in gauges.into_iter().chain(scrub) {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
