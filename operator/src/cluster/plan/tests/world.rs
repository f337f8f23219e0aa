//! A small world in which plans are carried out: API objects, pods, volumes and a Raft group,
//! with crashes, damaged and lost volumes, changed specs, and an operator that dies anywhere.

use std::collections::{BTreeMap, BTreeSet};

use quadraft_protocol::{NodeId, RecoveryOutcome};

use super::super::super::health;
use super::super::super::observation::{
    BackupSeen, JobState, Loss, Membership, Node, Observation, Pod, Record, RecoveryFindings,
    RestoreFindings, Role, Slot, SlotObservation, StatefulSetState, Termination, Volume,
};
use super::super::super::validate::ValidatedCluster;
use super::super::{Ensure, Plan, Step, Verdict, plan};
use super::{Random, UUID, assert_safe, bootstrap, cluster, for_seeds};
use crate::api::WhenDataIsLost;

const WORLDS: u64 = 6_000;
const FAULTY_STEPS: u64 = 120;
const STEPS_TO_CONVERGE: usize = 600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// `recover` mends it.
    Repairable,
    /// Vote or log are lost: only a new identity helps.
    Promises,
}

#[derive(Clone, Debug)]
struct Disk {
    id: NodeId,
    last: u64,
    membership: Option<Membership>,
    damage: Option<Damage>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    volume: Option<Volume>,
    disk: Option<Disk>,
    set: Option<StatefulSetState>,
    pod: Option<Pod>,
    jobs: BTreeMap<u32, (bool, JobState<RecoveryFindings>)>,
    export: JobState<()>,
    silent: bool,
}

#[derive(Debug)]
struct World {
    random: Random,
    cluster: ValidatedCluster,
    template: String,
    record: Record,
    places: BTreeMap<Slot, Place>,
    restore: JobState<RestoreFindings>,
    membership: Option<Membership>,
    leader: Option<NodeId>,
    term: u64,
    committed: u64,
    counter: u64,
    initialisations: u32,
    backups: Vec<BackupSeen>,
    /// Those that cannot be restored.
    damaged: BTreeSet<String>,
    /// Volumes of which the data was lost.
    kept: Vec<Volume>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut cluster = cluster(*random.pick(&[1, 3, 3, 5]));
        cluster.bootstrap = random.chance(20).then(bootstrap);
        cluster.spec.recovery.replace_after_seconds = random.chance(30).then_some(600);
        if random.chance(50) {
            cluster.spec.recovery.when_data_is_lost = WhenDataIsLost::RestoreLatestBackup;
        }
        let backups: Vec<BackupSeen> = (0..random.below(4))
            .map(|number| BackupSeen {
                name: format!("backup-{number}"),
                cluster_uuid: UUID.to_owned(),
                completed_at: i64::try_from(number).unwrap(),
                ..BackupSeen::default()
            })
            .collect();
        let damaged = backups
            .iter()
            .filter(|_| random.chance(40))
            .map(|backup| backup.name.clone())
            .collect();
        Self {
            random,
            cluster,
            template: "good-0".into(),
            record: Record::default(),
            places: BTreeMap::new(),
            restore: JobState::Absent,
            membership: None,
            leader: None,
            term: 1,
            committed: 0,
            counter: 0,
            initialisations: 0,
            backups,
            damaged,
            kept: Vec::new(),
        }
    }

    fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn serves(&self, id: NodeId) -> bool {
        self.places.values().any(|place| {
            place.pod.as_ref().is_some_and(|pod| pod.running)
                && place.disk.as_ref().is_some_and(|disk| disk.id == id)
        })
    }

    fn observe(&self) -> Observation {
        let slots = self
            .places
            .iter()
            .map(|(slot, place)| {
                let seen = SlotObservation {
                    volume: place.volume.clone(),
                    stateful_set: place.set.clone(),
                    pod: place.pod.clone(),
                    node: self.node(place),
                    start: None,
                    export: place.export.clone(),
                    // Long enough for whoever wants the member replaced.
                    unreachable_seconds: if place.silent { 1000 } else { 0 },
                    recoveries: place
                        .jobs
                        .iter()
                        .map(|(attempt, (_, state))| (*attempt, state.clone()))
                        .collect(),
                };
                (*slot, seen)
            })
            .filter(|(_, seen)| *seen != SlotObservation::default())
            .collect();
        Observation {
            record: self.record.clone(),
            slots,
            restore: self.restore.clone(),
            backups: self.backups.clone(),
            ..Observation::default()
        }
    }

    fn node(&self, place: &Place) -> Option<Node> {
        let pod = place
            .pod
            .as_ref()
            .filter(|pod| pod.running && !place.silent)?;
        let disk = place.disk.as_ref()?;
        let member = self
            .membership
            .as_ref()
            .is_some_and(|membership| membership.members.contains_key(&disk.id));
        let voter = member
            && self
                .membership
                .as_ref()
                .is_some_and(|membership| membership.voters.contains(&disk.id));
        let role = match &disk.membership {
            None => Role::Waiting,
            Some(_) if self.leader == Some(disk.id) => Role::Leader,
            Some(_) if voter && self.leader.is_some() => Role::Follower,
            Some(_) if voter => Role::Candidate,
            Some(_) => Role::Learner,
        };
        Some(Node {
            node_id: disk.id,
            cluster_uuid: UUID.into(),
            role,
            term: self.term,
            leader: self.leader.filter(|_| member),
            last_log_index: disk.last,
            committed_index: self.committed.min(disk.last),
            applied_index: disk.last,
            ready: member && self.leader.is_some() && !pod.deleting,
            membership: disk.membership.clone(),
            matching: self
                .places
                .values()
                .filter_map(|place| place.disk.as_ref().map(|disk| (disk.id, disk.last)))
                .collect(),
            ..Node::default()
        })
    }

    /// One reconcile. The operator may die after any of its actions.
    fn reconcile(&mut self, faulty: bool) -> (Observation, Plan) {
        let observation = self.observe();
        let made = plan(&self.cluster, &observation);
        assert_safe(&self.cluster, &observation, &made);
        if faulty {
            // The world goes on between what is seen and what is done.
            for _ in 0..self.random.below(2) {
                self.fault();
            }
        }
        for action in &made.ensure {
            if faulty && self.random.chance(5) {
                return (observation, made);
            }
            self.ensure(action);
        }
        if let Some(step) = made.step.clone()
            && !(faulty && self.random.chance(10))
        {
            self.carry_out(&step);
        }
        if !(faulty && self.random.chance(10)) {
            self.write_status(&observation);
        }
        (observation, made)
    }

    fn write_status(&mut self, observation: &Observation) {
        let leadership = health::leadership(observation, UUID);
        for (slot, seen) in &observation.slots {
            if let Some(node) = &seen.node {
                self.record.nodes.insert(*slot, node.node_id);
                if leadership
                    .as_ref()
                    .is_some_and(|leadership| leadership.healthy_voters.contains(&node.node_id))
                {
                    self.record
                        .settled_attempts
                        .insert(*slot, seen.recovery_attempt());
                }
            }
        }
    }

    fn ensure(&mut self, action: &Ensure) {
        let number = self.fresh();
        let template = self.template.clone();
        match action {
            Ensure::Volume { slot } => {
                let uuid = self.record.cluster_uuid.clone();
                let place = self.places.entry(*slot).or_default();
                if place.volume.is_none() {
                    place.disk = None;
                    place.volume = Some(Volume {
                        uid: format!("volume-{number}"),
                        resource_version: "1".into(),
                        cluster_uuid: uuid,
                        requested_bytes: 1,
                        ..Volume::default()
                    });
                }
            }
            Ensure::Role { .. } => {}
            Ensure::Member {
                slot,
                replicas,
                recovery_attempt,
                fenced_at,
            } => {
                let place = self.places.entry(*slot).or_default();
                let uid = place
                    .set
                    .as_ref()
                    .map_or_else(|| format!("set-{number}"), |set| set.uid.clone());
                place.set = Some(StatefulSetState {
                    uid,
                    resource_version: "1".into(),
                    replicas: *replicas,
                    template_hash: template,
                    spec_hash: String::new(),
                    recovery_attempt: *recovery_attempt,
                    fenced_at: *fenced_at,
                    fenced_seconds: 0,
                    deleting: false,
                });
            }
        }
    }

    fn carry_out(&mut self, step: &Step) {
        let template = self.template.clone();
        match step {
            Step::MakeClusterUuid => self.record.cluster_uuid = Some(UUID.into()),
            Step::AdoptClusterUuid(uuid) => {
                self.record.cluster_uuid = Some(uuid.clone());
                self.record.initialised = true;
            }
            Step::RecordInitialMembers(members) => self.record.initial_members = members.clone(),
            Step::RecordInitialised => {
                self.record.initialised = true;
                self.record.loss = None;
            }
            Step::RecordLoss(message) => {
                self.record.loss = Some(Loss {
                    message: message.clone(),
                    ..Loss::default()
                });
            }
            Step::ForgetLoss => self.record.loss = None,
            Step::StartExport { slot, .. } => {
                self.places.entry(*slot).or_default().export = JobState::Running;
            }
            Step::KeepVolume { slot, uid } => {
                if let Some(volume) = &mut self.places.entry(*slot).or_default().volume
                    && volume.uid == *uid
                {
                    volume.is_kept = true;
                }
            }
            Step::RecordRestore(backup) => self.begin_anew(backup),
            Step::Initialise { contact, members } => self.initialise(*contact, members),
            Step::StartRestore => {
                if self.restore == JobState::Absent {
                    self.restore = JobState::Running;
                }
            }
            Step::AddLearner {
                slot,
                node_id,
                membership_index,
            } => self.change(*membership_index, |membership| {
                membership.members.insert(*node_id, Some(*slot));
            }),
            Step::Promote {
                node_id,
                membership_index,
                ..
            } => self.change(*membership_index, |membership| {
                membership.voters.insert(*node_id);
            }),
            Step::Remove {
                node_id,
                membership_index,
                ..
            } => {
                self.change(*membership_index, |membership| {
                    membership.voters.remove(node_id);
                    membership.members.remove(node_id);
                });
            }
            Step::TransferLeadership { to, .. } => {
                if self.leader.is_some() && self.serves(*to) {
                    self.term += 1;
                    self.leader = Some(*to);
                }
            }
            Step::RestartPod { slot, pod_uid } => {
                if let Some(pod) = &mut self.places.entry(*slot).or_default().pod
                    && pod.uid == *pod_uid
                {
                    pod.deleting = true;
                }
            }
            Step::Discard {
                slot,
                volume_uid,
                pod_uid,
                ..
            } => {
                let place = self.places.entry(*slot).or_default();
                if let Some(volume) = &mut place.volume
                    && volume.uid == *volume_uid
                {
                    volume.deleting = true;
                }
                if let Some(pod) = &mut place.pod
                    && Some(&pod.uid) == pod_uid.as_ref()
                {
                    pod.deleting = true;
                }
            }
            Step::DeleteStatefulSet { slot, uid, .. } => {
                let place = self.places.entry(*slot).or_default();
                if place.set.as_ref().is_some_and(|set| set.uid == *uid) {
                    place.set = None;
                }
            }
            Step::DeleteVolume { slot, uid, .. } => {
                let membership = self.membership.clone().unwrap_or_default();
                let place = self.places.entry(*slot).or_default();
                if let Some(volume) = &mut place.volume
                    && volume.uid == *uid
                {
                    if let Some(disk) = &place.disk {
                        assert!(
                            !membership.members.contains_key(&disk.id),
                            "a member's volume"
                        );
                    }
                    volume.deleting = true;
                }
            }
            Step::Fence { slot, attempt } => {
                let place = self.places.entry(*slot).or_default();
                if let Some(set) = &mut place.set {
                    set.replicas = 0;
                    set.recovery_attempt = *attempt;
                    set.fenced_at = Some(0);
                    set.template_hash = template;
                }
            }
            Step::StartRecovery {
                slot,
                attempt,
                allow_new_identity,
            } => {
                let place = self.places.entry(*slot).or_default();
                place
                    .jobs
                    .entry(*attempt)
                    .or_insert((*allow_new_identity, JobState::Running));
            }
            Step::Unfence { slot, attempt } => {
                if let Some(set) = &mut self.places.entry(*slot).or_default().set {
                    set.replicas = 1;
                    set.recovery_attempt = *attempt;
                    set.fenced_at = None;
                    set.template_hash = template;
                }
            }
            // Its Jobs begin at once, and it has no use for the others.
            Step::WithdrawJob { .. } | Step::RecordVolumeGeneration(_) | Step::TakeBackup(_) => {}
        }
    }

    /// The cluster begins anew from a backup, on other volumes.
    fn begin_anew(&mut self, backup: &BackupSeen) {
        self.restore = JobState::Absent;
        let loss = self.record.loss.get_or_insert_default();
        if let Some(damaged) = loss.backup.replace(backup.name.clone()) {
            loss.damaged_backups.insert(damaged);
            return;
        }
        for place in std::mem::take(&mut self.places).into_values() {
            let holds_data = place
                .disk
                .as_ref()
                .is_some_and(|disk| disk.membership.is_some() && disk.damage.is_none());
            let stays = place.volume.as_ref().is_some_and(|volume| !volume.deleting);
            assert!(!(holds_data && stays), "data that could have come back");
            self.kept.extend(place.volume);
        }
        let loss = self.record.loss.clone();
        self.record = Record {
            cluster_uuid: self.record.cluster_uuid.clone(),
            loss,
            ..Record::default()
        };
        self.cluster.volume_generation += 1;
        self.cluster.bootstrap = Some(bootstrap());
        (self.membership, self.leader, self.committed) = (None, None, 0);
    }

    fn initialise(&mut self, contact: Slot, members: &BTreeMap<Slot, NodeId>) {
        let Some(place) = self.places.get_mut(&contact) else {
            return;
        };
        let running = place.pod.as_ref().is_some_and(|pod| pod.running);
        let Some(disk) = place
            .disk
            .as_mut()
            .filter(|disk| running && members.get(&contact) == Some(&disk.id))
        else {
            return;
        };
        if disk.membership.is_some() {
            return; // already initialised
        }
        self.initialisations += 1;
        assert_eq!(self.initialisations, 1, "initialised twice");
        let membership = Membership {
            index: 1,
            joint: false,
            voters: members.values().copied().collect(),
            members: members
                .iter()
                .map(|(slot, id)| (*id, Some(*slot)))
                .collect(),
        };
        disk.membership = Some(membership.clone());
        disk.last = 1;
        self.committed = 1;
        self.membership = Some(membership);
    }

    fn change(&mut self, expected: u64, change: impl FnOnce(&mut Membership)) {
        let Some(membership) = self.membership.clone() else {
            return;
        };
        if self.leader.is_none() || membership.index != expected || !self.has_quorum(&membership) {
            return;
        }
        let mut new = membership;
        change(&mut new);
        if !self.has_quorum(&new) {
            return; // it does not commit
        }
        self.committed += 1;
        new.index = self.committed;
        self.membership = Some(new);
        self.replicate();
    }

    fn has_quorum(&self, membership: &Membership) -> bool {
        let serving = membership
            .voters
            .iter()
            .filter(|id| self.serves(**id))
            .count();
        serving * 2 > membership.voters.len()
    }

    fn replicate(&mut self) {
        let (Some(membership), Some(_)) = (self.membership.clone(), self.leader) else {
            return;
        };
        let committed = self.committed;
        for place in self.places.values_mut() {
            let running = place.pod.as_ref().is_some_and(|pod| pod.running);
            if let Some(disk) = place.disk.as_mut().filter(|_| running)
                && membership.members.contains_key(&disk.id)
            {
                disk.last = committed;
                disk.membership = Some(membership.clone());
            }
        }
    }

    /// Kubernetes and Raft do their part.
    fn tick(&mut self, faulty: bool) {
        let slots: Vec<Slot> = self.places.keys().copied().collect();
        for slot in slots {
            self.tick_place(slot, faulty);
        }
        let loss = self.record.loss.as_ref();
        let restoring = loss.and_then(|loss| loss.backup.clone());
        if self.restore == JobState::Running
            && restoring.is_some_and(|backup| self.damaged.contains(&backup))
        {
            self.restore = JobState::Failed {
                exit_code: Some(24),
                message: "the backup is damaged".into(),
                with_new_identity: false,
            };
        }
        if self.restore == JobState::Running && self.random.chance(50) {
            let id = NodeId(1000 + self.fresh());
            let membership = Membership {
                index: 1,
                joint: false,
                voters: [id].into(),
                members: [(id, Some(0))].into(),
            };
            if let Some(place) = self
                .places
                .get_mut(&0)
                .filter(|place| place.volume.is_some())
            {
                place.disk = Some(Disk {
                    id,
                    last: 1,
                    membership: Some(membership.clone()),
                    damage: None,
                });
                self.membership = Some(membership);
                self.committed = 1;
                self.restore = JobState::Succeeded(RestoreFindings::default());
            }
        }
        self.elect();
        if self.leader.is_some() {
            self.committed += self.random.below(3);
        }
        self.replicate();
    }

    fn elect(&mut self) {
        let Some(membership) = self.membership.clone() else {
            return;
        };
        if self
            .leader
            .is_some_and(|leader| !self.serves(leader) || !membership.voters.contains(&leader))
        {
            self.leader = None;
        }
        if !self.has_quorum(&membership) {
            self.leader = None;
            return;
        }
        if self.leader.is_none() {
            // Whoever has everything that was committed may win.
            let candidates: Vec<NodeId> = self
                .places
                .values()
                .filter(|place| place.pod.as_ref().is_some_and(|pod| pod.running))
                .filter_map(|place| place.disk.as_ref())
                .filter(|disk| membership.voters.contains(&disk.id) && disk.last >= self.committed)
                .map(|disk| disk.id)
                .collect();
            if !candidates.is_empty() {
                self.term += 1;
                self.leader = Some(*self.random.pick(&candidates));
            }
        }
    }

    fn tick_place(&mut self, slot: Slot, faulty: bool) {
        let number = self.fresh();
        let finishes = self.random.chance(60);
        let exits = self.random.chance(30);
        let silent = faulty && self.random.chance(5);
        let membership = self.membership.clone();
        let has_uuid = self.record.cluster_uuid.is_some();
        let place = self.places.entry(slot).or_default();
        place.silent = silent;
        let wanted = place.set.as_ref().is_some_and(|set| set.replicas > 0);
        if let Some(pod) = &mut place.pod {
            if pod.deleting && finishes {
                place.pod = None;
            } else if !wanted {
                pod.deleting = true;
            }
        }
        if place.export == JobState::Running && finishes {
            place.export = JobState::Succeeded(());
        }
        for (allowed, state) in place.jobs.values_mut() {
            if *state == JobState::Running && finishes {
                *state = run_recovery(&mut place.disk, *allowed, number);
            }
        }
        // A pod that was never started is not scheduled onto a volume that goes, and does not hold it.
        let held = place
            .pod
            .as_ref()
            .is_some_and(|pod| pod.running || pod.termination.is_some());
        if place.volume.as_ref().is_some_and(|volume| volume.deleting) && !held {
            place.volume = None;
            place.disk = None;
        }
        let Some(set) = place.set.as_ref().filter(|_| wanted) else {
            return;
        };
        let pod = place.pod.get_or_insert_with(|| Pod {
            uid: format!("pod-{number}"),
            template_hash: set.template_hash.clone(),
            ..Pod::default()
        });
        if pod.running || pod.deleting || pod.template_hash.starts_with("bad") || !has_uuid {
            return;
        }
        if place.volume.is_none() {
            return;
        }
        let disk = place.disk.get_or_insert_with(|| Disk {
            id: NodeId(1_000_000 + number),
            last: 0,
            membership: None,
            damage: None,
        });
        let removed = disk.membership.is_some()
            && membership.is_some_and(|membership| !membership.members.contains_key(&disk.id));
        let exit_code = match disk.damage {
            Some(_) => 20,
            None if removed && exits => 26,
            None => {
                pod.running = true;
                return;
            }
        };
        pod.termination = Some(Termination {
            exit_code,
            message: String::new(),
        });
    }

    fn fault(&mut self) {
        let slots: Vec<Slot> = self.places.keys().copied().collect();
        if slots.is_empty() {
            return;
        }
        let slot = *self.random.pick(&slots);
        let kind = self.random.below(100);
        let number = self.fresh();
        let place = self.places.entry(slot).or_default();
        match kind {
            0..40 => {
                if let Some(pod) = &mut place.pod {
                    pod.running = false;
                    pod.termination = Some(Termination {
                        exit_code: 137,
                        message: String::new(),
                    });
                }
            }
            40..50 => {
                if let (Some(disk), Some(pod)) = (&mut place.disk, &mut place.pod) {
                    disk.damage = Some(if number.is_multiple_of(2) {
                        Damage::Promises
                    } else {
                        Damage::Repairable
                    });
                    pod.running = false;
                    pod.termination = None;
                }
            }
            50..56 => {
                if let Some(volume) = &mut place.volume {
                    volume.deleting = true;
                    if let Some(pod) = &mut place.pod {
                        pod.deleting = true;
                    }
                }
            }
            56..62 => {
                let chosen = *self.random.pick(&[1, 3, 3, 5]);
                // The API server lets replicas change at any time.
                self.cluster.replicas = chosen;
            }
            62..70 => self.template = format!("good-{number}"),
            70..74 => self.template = format!("bad-{number}"),
            74..80 => self.leader = None,
            80..84 => place.set = None,
            84..88 => {
                // Somebody scales a StatefulSet by hand.
                if let Some(set) = &mut place.set {
                    set.replicas = 0;
                }
            }
            _ => {}
        }
    }

    fn is_converged(&self) -> bool {
        let wanted: BTreeSet<Slot> = self.cluster.wanted_slots().collect();
        let existing: BTreeSet<Slot> = self
            .places
            .iter()
            .filter(|(_, place)| {
                place.volume.is_some() || place.set.is_some() || place.pod.is_some()
            })
            .map(|(slot, _)| *slot)
            .collect();
        let voters: BTreeSet<Slot> = self
            .membership
            .iter()
            .flat_map(|membership| {
                membership
                    .voters
                    .iter()
                    .filter_map(|id| membership.members.get(id).copied().flatten())
            })
            .collect();
        existing == wanted
            && voters == wanted
            && self.leader.is_some()
            && self.places.values().all(|place| {
                place.pod.as_ref().is_none_or(|pod| {
                    pod.running && !pod.deleting && pod.template_hash == self.template
                })
            })
    }
}

fn run_recovery(disk: &mut Option<Disk>, allowed: bool, number: u64) -> JobState<RecoveryFindings> {
    let done = |outcome| {
        JobState::Succeeded(RecoveryFindings {
            outcome,
            message: String::new(),
            entries_replayed: 0,
        })
    };
    let Some(disk) = disk else {
        return done(RecoveryOutcome::Clean);
    };
    match disk.damage {
        None => done(RecoveryOutcome::Clean),
        Some(Damage::Repairable) => {
            disk.damage = None;
            done(RecoveryOutcome::Recovered)
        }
        Some(Damage::Promises) if allowed => {
            *disk = Disk {
                id: NodeId(2_000_000 + number),
                last: 0,
                membership: None,
                damage: None,
            };
            done(RecoveryOutcome::NewIdentity)
        }
        Some(Damage::Promises) => JobState::Failed {
            exit_code: Some(20),
            message: "the vote is gone".into(),
            with_new_identity: false,
        },
    }
}

/// Runs a world until it is as the spec wants it, or a person must decide; says which.
fn converge(world: &mut World) -> Verdict {
    let mut last = None;
    for _ in 0..STEPS_TO_CONVERGE {
        let (_, made) = world.reconcile(false);
        world.tick(false);
        match &made.verdict {
            Verdict::Steady if world.is_converged() => return Verdict::Steady,
            // A person's decision is named only when nothing else is left to do.
            Verdict::Stalled { .. } if made.step.is_none() && last.as_ref() == Some(&made) => {
                return made.verdict;
            }
            _ => {}
        }
        last = Some(made);
    }
    panic!("no convergence: {last:?}\n{world:#?}");
}

#[test]
fn without_faults_every_cluster_is_created_and_becomes_steady() {
    for_seeds(200, |seed| {
        let mut world = World::new(seed);
        assert_eq!(converge(&mut world), Verdict::Steady);
        assert_eq!(
            world.initialisations,
            u32::from(world.cluster.bootstrap.is_none())
        );
    });
}

#[test]
fn a_cluster_that_is_steady_stays_so_without_any_step() {
    for_seeds(100, |seed| {
        let mut world = World::new(seed);
        converge(&mut world);
        for _ in 0..10 {
            let (_, made) = world.reconcile(false);
            world.tick(false);
            assert_eq!((made.step, made.verdict), (None, Verdict::Steady));
        }
    });
}

#[test]
fn after_any_faults_the_world_converges_or_names_a_decision() {
    let outcomes = std::sync::Mutex::new(BTreeMap::<String, u64>::new());
    for_seeds(WORLDS, |seed| {
        let mut world = World::new(seed);
        if seed % 3 > 0 {
            converge(&mut world);
        }
        for _ in 0..world.random.below(FAULTY_STEPS) {
            if world.random.chance(25) {
                world.fault();
            }
            world.reconcile(true);
            world.tick(true);
        }
        // Faults stop; a template that cannot run is mended by its author.
        if world.template.starts_with("bad") {
            world.template = "good-last".into();
        }
        let verdict = converge(&mut world);
        assert!(world.initialisations <= 1);
        assert!(
            world.kept.iter().all(|volume| volume.is_kept),
            "a volume without its label"
        );
        let name = match verdict {
            Verdict::Stalled { reason, .. } => reason.to_string(),
            _ => "Steady".to_owned(),
        };
        *outcomes.lock().unwrap().entry(name).or_default() += 1;
    });
    eprintln!("outcomes: {:?}", outcomes.lock().unwrap());
}
