//! Which of several operators acts: the one that holds a Lease.
//!
//! The holder renews every few seconds and stops acting when it could not for so long that
//! another may have taken over; another takes over only when the Lease did not change for its
//! whole duration by its own clock, so that clocks of different machines are never compared.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::kubernetes::describe_error;

/// A holder that was silent for this long has lost the Lease.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for this long stops by itself, before another may start.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RENEW_PERIOD: Duration = Duration::from_secs(4);
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// What to do about the Lease as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Create,
    Renew,
    TakeOver,
    Wait,
}

fn decide(lease: Option<&Lease>, identity: &str, unchanged_for: Duration) -> Decision {
    let Some(lease) = lease else {
        return Decision::Create;
    };
    let holder = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or("");
    if holder == identity {
        Decision::Renew
    } else if holder.is_empty() || unchanged_for >= LEASE_DURATION {
        Decision::TakeOver
    } else {
        Decision::Wait
    }
}

/// Holds, or tries to hold, the operator's Lease.
#[derive(Debug)]
pub struct Elector {
    leases: Api<Lease>,
    name: String,
    identity: String,
    /// What the Lease was last seen as, and since when by our own clock.
    seen: Option<(String, Instant)>,
    /// The Lease as it was written last.
    held: Option<Lease>,
}

impl Elector {
    /// An elector for the Lease `name` in `namespace`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity,
            seen: None,
            held: None,
        }
    }

    /// Returns when the Lease is held.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(error = describe_error(&error), "failed to get the lease");
                }
            }
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews the Lease until it is lost.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        let mut pause = RENEW_PERIOD;
        loop {
            tokio::time::sleep(pause).await;
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            pause = match tokio::time::timeout(left, self.renew()).await {
                Ok(Ok(true)) => {
                    renewed = Instant::now();
                    RENEW_PERIOD
                }
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => {
                    tracing::warn!(error = describe_error(&error), "failed to renew the lease");
                    RETRY_PERIOD
                }
            };
            if renewed.elapsed() >= RENEW_DEADLINE {
                return;
            }
        }
    }

    /// Renews the Lease as it was written last, which takes one request; when somebody else has written
    /// to it since, it is looked at.
    async fn renew(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.held.take() else {
            return self.attempt().await;
        };
        let old = lease.spec.take().unwrap_or_default();
        lease.spec = Some(self.spec(old.lease_transitions.unwrap_or(0), old.acquire_time));
        match self
            .leases
            .replace(&self.name, &PostParams::default(), &lease)
            .await
        {
            Ok(written) => {
                self.held = Some(written);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                self.attempt().await
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the Lease up, so that another operator need not wait.
    pub async fn release(&mut self) {
        let released = async {
            if let Some(mut lease) = self.leases.get_opt(&self.name).await? {
                let spec = lease.spec.get_or_insert_default();
                if spec.holder_identity.as_deref() == Some(self.identity.as_str()) {
                    spec.holder_identity = Some(String::new());
                    self.leases
                        .replace(&self.name, &PostParams::default(), &lease)
                        .await?;
                }
            }
            Ok::<(), kube::Error>(())
        };
        if let Err(error) = released.await {
            tracing::warn!(
                error = describe_error(&error),
                "failed to release the lease"
            );
        }
    }

    /// One attempt to get or renew the Lease; whether it is held now.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let lease = self.leases.get_opt(&self.name).await?;
        let version = lease
            .as_ref()
            .and_then(|lease| lease.metadata.resource_version.clone())
            .unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => Instant::now(),
        };
        self.seen = Some((version, since));
        let decision = decide(lease.as_ref(), &self.identity, since.elapsed());
        let result = match (decision, lease) {
            (Decision::Wait, _) => return Ok(false),
            (Decision::Create, _) | (_, None) => {
                let new = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(self.spec(0, None)),
                };
                self.leases.create(&PostParams::default(), &new).await
            }
            (Decision::Renew | Decision::TakeOver, Some(mut lease)) => {
                let old = lease.spec.take().unwrap_or_default();
                let transitions = old.lease_transitions.unwrap_or(0);
                lease.spec = Some(if decision == Decision::Renew {
                    self.spec(transitions, old.acquire_time)
                } else {
                    self.spec(transitions + 1, None)
                });
                // The resourceVersion goes along: of two that try, one is refused.
                self.leases
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await
            }
        };
        match result {
            Ok(written) => {
                self.held = Some(written);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, transitions: i32, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn a_lease_is_taken_over_only_when_its_holder_was_silent_for_its_whole_duration() {
        let short = Duration::from_secs(14);
        assert_eq!(decide(Some(&held_by("other")), "me", short), Decision::Wait);
        assert_eq!(
            decide(Some(&held_by("other")), "me", LEASE_DURATION),
            Decision::TakeOver
        );
        assert_eq!(
            decide(Some(&held_by("")), "me", Duration::ZERO),
            Decision::TakeOver
        );
        assert_eq!(decide(Some(&held_by("me")), "me", short), Decision::Renew);
        assert_eq!(decide(None, "me", Duration::ZERO), Decision::Create);
    }

    #[test]
    fn a_holder_stops_before_another_may_start() {
        assert!(RENEW_DEADLINE + RETRY_PERIOD < LEASE_DURATION);
        assert!(RENEW_PERIOD + RETRY_PERIOD < RENEW_DEADLINE);
    }
}
