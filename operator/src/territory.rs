//! Which of several installations acts in a namespace: the one that holds a Lease there.
//!
//! Within one installation another Lease lets one of its pods act ([`crate::lease`]). This one is held by
//! the installation as a whole and for longer than a reconcile can take, so that a pod that takes over
//! goes on at once, and it is renewed by the reconciles themselves: where nothing is reconciled nothing
//! is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::progress::RECONCILE_DEADLINE;

const LEASE_NAME: &str = "quadraft-operator-territory";
/// A reconcile begins with at most this since the last renewal.
const RENEWED_WITHIN: Duration = Duration::from_secs(30);
/// Another installation takes over when nothing was renewed for so long by its own clock.
const DURATION: Duration = Duration::from_secs(180);

/// What is known of the Lease of one namespace.
#[derive(Debug, Default)]
struct Known {
    /// As it was written last by us, and when.
    ours: Option<(Lease, Instant)>,
    /// The resourceVersion as it was seen last, and since when.
    seen: Option<(String, Instant)>,
}

/// The namespaces that this installation acts in.
#[derive(Clone)]
pub struct Territory {
    client: Client,
    installation: String,
    namespaces: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>>,
}

impl std::fmt::Debug for Territory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Territory")
            .field("installation", &self.installation)
            .finish_non_exhaustive()
    }
}

/// Whose a namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This installation's, for as long as a reconcile can take.
    Ours,
    /// Another's, which is named.
    Theirs(String),
}

/// What to do about a Lease that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Create,
    Write,
    Leave(String),
}

fn decide(lease: Option<&Lease>, installation: &str, unchanged_for: Duration) -> Decision {
    let Some(lease) = lease else {
        return Decision::Create;
    };
    let spec = lease.spec.as_ref();
    let holder = spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or("");
    if holder == installation || holder.is_empty() || unchanged_for >= DURATION {
        Decision::Write
    } else {
        Decision::Leave(holder.to_owned())
    }
}

impl Territory {
    /// The territory of an installation, which is named by what all its pods have in common.
    #[must_use]
    pub fn new(client: Client, installation: String) -> Self {
        Self {
            client,
            installation,
            namespaces: Arc::default(),
        }
    }

    /// The installation's name.
    #[must_use]
    pub fn installation(&self) -> &str {
        &self.installation
    }

    /// Holds, or tries to hold, a namespace.
    ///
    /// # Errors
    /// When the API server does not answer or refuses.
    pub async fn hold(&self, namespace: &str) -> Result<Whose, kube::Error> {
        let known = {
            let mut namespaces = self
                .namespaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            namespaces.entry(namespace.to_owned()).or_default().clone()
        };
        let mut known = known.lock().await;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        if let Some((lease, renewed)) = known.ours.take() {
            if renewed.elapsed() < RENEWED_WITHIN {
                known.ours = Some((lease, renewed));
                return Ok(Whose::Ours);
            }
            let written = self.write(&leases, lease, &mut known).await?;
            if written {
                return Ok(Whose::Ours);
            }
        }
        // Somebody who was faster is seen at the next look, and named.
        loop {
            let found = leases.get_opt(LEASE_NAME).await?;
            let version = found
                .as_ref()
                .and_then(|lease| lease.metadata.resource_version.clone())
                .unwrap_or_default();
            let since = match &known.seen {
                Some((seen, since)) if *seen == version => *since,
                _ => Instant::now(),
            };
            known.seen = Some((version, since));
            let written = match decide(found.as_ref(), &self.installation, since.elapsed()) {
                Decision::Leave(holder) => return Ok(Whose::Theirs(holder)),
                Decision::Write => {
                    let lease = found.unwrap_or_default();
                    self.write(&leases, lease, &mut known).await?
                }
                Decision::Create => self.create(&leases, &mut known).await?,
            };
            if written {
                return Ok(Whose::Ours);
            }
        }
    }

    /// Makes the Lease as ours; of two that try at once, one is refused.
    async fn create(&self, leases: &Api<Lease>, known: &mut Known) -> Result<bool, kube::Error> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(LEASE_NAME.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(self.spec()),
        };
        let begun = Instant::now();
        match leases.create(&PostParams::default(), &lease).await {
            Ok(written) => {
                known.ours = Some((written, begun));
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes the Lease as ours; of two that try at once, one is refused.
    async fn write(
        &self,
        leases: &Api<Lease>,
        mut lease: Lease,
        known: &mut Known,
    ) -> Result<bool, kube::Error> {
        lease.spec = Some(self.spec());
        let begun = Instant::now();
        match leases
            .replace(LEASE_NAME, &PostParams::default(), &lease)
            .await
        {
            Ok(written) => {
                known.ours = Some((written, begun));
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn spec(&self) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.installation.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }
    }
}

/// A reconcile that began within the time of a renewal has ended before another may begin.
const _: () = assert!(
    RENEWED_WITHIN.as_secs() + RECONCILE_DEADLINE.as_secs() < DURATION.as_secs(),
    "another installation would act beside a reconcile that still goes on"
);

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
    fn a_namespace_is_left_to_the_installation_that_was_there_first_until_it_is_silent() {
        let short = Duration::from_secs(179);
        let theirs = held_by("team-a/quadraft");
        let leave = Decision::Leave("team-a/quadraft".to_owned());
        assert_eq!(decide(Some(&theirs), "team-b/quadraft", short), leave);
        assert_eq!(
            decide(Some(&theirs), "team-b/quadraft", DURATION),
            Decision::Write
        );
        assert_eq!(
            decide(Some(&theirs), "team-a/quadraft", short),
            Decision::Write
        );
        assert_eq!(
            decide(Some(&held_by("")), "x", Duration::ZERO),
            Decision::Write
        );
        assert_eq!(decide(None, "x", Duration::ZERO), Decision::Create);
    }
}
