//! What every controller is given.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::kubernetes::cache::Caches;
use crate::progress::Failures;
use crate::releases::RELEASES;
use crate::territory::Territory;
use crate::turns::Turns;

/// What every controller is given.
#[derive(Clone)]
pub struct Context {
    pub client: Client,
    pub caches: Caches,
    pub territory: Territory,
    pub turns: Turns,
    /// Of all controllers: an object's UID is nobody else's.
    pub failures: Failures,
    pub node_image_repository: String,
    recorder: Recorder,
    /// The last event of each object, so that one is published once and not at each reconcile.
    last_events: std::sync::Arc<Mutex<HashMap<String, (String, String)>>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Context").finish_non_exhaustive()
    }
}

impl Context {
    /// Makes the context of all controllers.
    #[must_use]
    pub fn new(
        client: Client,
        caches: Caches,
        territory: Territory,
        turns: Turns,
        node_image_repository: String,
        instance: String,
    ) -> Self {
        let reporter = Reporter {
            controller: crate::names::FIELD_MANAGER.to_owned(),
            instance: Some(instance),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            caches,
            territory,
            turns,
            failures: Failures::default(),
            node_image_repository,
            last_events: std::sync::Arc::default(),
        }
    }

    /// The image of the newest release.
    #[must_use]
    pub fn newest_image(&self) -> String {
        let version = RELEASES.last().map_or("latest", |release| release.version);
        format!("{}:{version}", self.node_image_repository)
    }

    /// Publishes an event about an object unless it is the same as the last one about it.
    pub async fn event(
        &self,
        object: &ObjectReference,
        warning: bool,
        action: &str,
        reason: &str,
        note: &str,
    ) {
        let key = object.uid.clone().unwrap_or_default();
        let value = (reason.to_owned(), note.to_owned());
        {
            let mut last = self
                .last_events
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if last.get(&key) == Some(&value) {
                return;
            }
            last.insert(key, value);
        }
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(note.chars().take(1000).collect()),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, object).await {
            tracing::debug!(%error, reason, "failed to publish an event");
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.turns.end(uid, Instant::now());
        self.failures.forget(uid);
        self.last_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}
