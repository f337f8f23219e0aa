//! What the operator asks of the API server: the one list of it. The chart's roles are generated from
//! this list (`quadraft-operator rights`), and a request that is not in it is never sent
//! ([`super::client`]), so that neither can fall behind the other.

use std::fmt::Write as _;

use hyper::Method;

/// The verbs on some resources of one group.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub group: &'static str,
    /// With their subresources: `pods/eviction`.
    pub resources: &'static [&'static str],
    pub verbs: &'static [&'static str],
    /// A sentence for those who review the role.
    pub why: &'static str,
}

/// Where rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each namespace with clusters.
    Watched,
    /// The namespace of the operator's Lease.
    Own,
}

/// What is needed in each namespace with clusters.
const WATCHED: &[Rule] = &[
    Rule {
        group: "quadraft.dev",
        resources: &["rdfclusters"],
        verbs: &["get", "list", "watch", "create", "patch"],
        why: "Clusters; a restore creates one, and a finalizer keeps one while something has to be done.",
    },
    Rule {
        group: "quadraft.dev",
        resources: &["rdfbackups"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "Backups; a schedule creates them and deletes those that it no longer keeps, and a finalizer keeps one until its data is deleted.",
    },
    Rule {
        group: "quadraft.dev",
        resources: &["rdfbackupschedules", "rdfrestores"],
        verbs: &["get", "list", "watch"],
        why: "Schedules and restores.",
    },
    Rule {
        group: "quadraft.dev",
        resources: &[
            "rdfclusters/status",
            "rdfbackups/status",
            "rdfbackupschedules/status",
            "rdfrestores/status",
        ],
        verbs: &["update"],
        why: "What is known of each.",
    },
    Rule {
        group: "quadraft.dev",
        resources: &["rdfclusters/finalizers", "rdfbackups/finalizers"],
        verbs: &["update"],
        why: "For owner references that block the owner's deletion, where the API server asks for this.",
    },
    Rule {
        group: "apps",
        resources: &["statefulsets"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "One for each member.",
    },
    Rule {
        group: "",
        resources: &["persistentvolumeclaims"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "The volume of each member.",
    },
    Rule {
        group: "",
        resources: &["services", "configmaps", "serviceaccounts"],
        verbs: &["get", "list", "watch", "create", "patch"],
        why: "What the members of a cluster share.",
    },
    Rule {
        group: "policy",
        resources: &["poddisruptionbudgets"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "Keeps a majority through evictions.",
    },
    Rule {
        group: "batch",
        resources: &["jobs"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "Recovery, backup and restore.",
    },
    Rule {
        group: "",
        resources: &["pods"],
        verbs: &["list", "watch", "patch", "delete"],
        why: "How members and Jobs do; who leads is a label; the pod of an only member is deleted to bring it to a new template.",
    },
    Rule {
        group: "",
        resources: &["pods/eviction"],
        verbs: &["create"],
        why: "A member's pod is evicted to bring it to a new template, as the disruption budget allows.",
    },
    Rule {
        group: "discovery.k8s.io",
        resources: &["endpointslices"],
        verbs: &["list", "watch"],
        why: "Whether the Service of a cluster leads to its members.",
    },
    Rule {
        group: "coordination.k8s.io",
        resources: &["leases"],
        verbs: &["get", "create", "update"],
        why: "Of several installations that watch a namespace, one acts.",
    },
    Rule {
        group: "",
        resources: &["events"],
        verbs: &["list"],
        why: "Why a Job or a member has no pod: a quota, a limit, an admission.",
    },
    Rule {
        group: "events.k8s.io",
        resources: &["events"],
        verbs: &["create", "patch"],
        why: "What happened to whom.",
    },
];

/// What is needed in the namespace of the Lease.
const OWN: &[Rule] = &[Rule {
    group: "coordination.k8s.io",
    resources: &["leases"],
    verbs: &["get", "create", "update"],
    why: "Of several pods of this installation, one acts.",
}];

impl Scope {
    /// The rules that apply here.
    #[must_use]
    pub fn rules(self) -> &'static [Rule] {
        match self {
            Self::Watched => WATCHED,
            Self::Own => OWN,
        }
    }

    /// The rules as the YAML of a role's `rules`.
    #[must_use]
    pub fn yaml(self) -> String {
        let mut text = String::new();
        let list = |items: &[&str]| {
            let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
            quoted.join(", ")
        };
        for rule in self.rules() {
            // Writing into a string does not fail.
            let _ = write!(
                text,
                "# {}\n- apiGroups: [{:?}]\n  resources: [{}]\n  verbs: [{}]\n",
                rule.why,
                rule.group,
                list(rule.resources),
                list(rule.verbs),
            );
        }
        text
    }
}

/// One request as the API server's authorization sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    pub group: String,
    /// With its subresource.
    pub resource: String,
    pub verb: &'static str,
}

impl Request {
    /// What a request to this path asks for; nothing for paths that are no resources (`/version`).
    ///
    /// The mapping is that of <https://kubernetes.io/docs/reference/access-authn-authz/authorization/>,
    /// "Determine the Request Verb".
    #[must_use]
    pub fn of(method: &Method, path: &str, query: Option<&str>) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, rest) = match parts.as_slice() {
            ["api", _version, rest @ ..] => ("", rest),
            ["apis", group, _version, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let rest = match rest {
            ["namespaces", _namespace, rest @ ..] if !rest.is_empty() => rest,
            rest => rest,
        };
        let (resource, name, subresource) = match rest {
            [] => return None,
            [resource] => (*resource, None, None),
            [resource, name] => (*resource, Some(*name), None),
            [resource, name, subresource @ ..] => {
                (*resource, Some(*name), Some(subresource.join("/")))
            }
        };
        let watches = query.is_some_and(|query| {
            query
                .split('&')
                .any(|pair| matches!(pair, "watch=true" | "watch=1"))
        });
        let verb = match (method.as_str(), name) {
            ("GET" | "HEAD", _) if watches => "watch",
            ("GET" | "HEAD", Some(_)) => "get",
            ("GET" | "HEAD", None) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", Some(_)) => "delete",
            ("DELETE", None) => "deletecollection",
            _ => return None,
        };
        Some(Self {
            group: group.to_owned(),
            resource: match subresource {
                Some(subresource) => format!("{resource}/{subresource}"),
                None => resource.to_owned(),
            },
            verb,
        })
    }

    /// Whether a rule of any scope allows it.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        [Scope::Watched, Scope::Own]
            .into_iter()
            .flat_map(Scope::rules)
            .any(|rule| {
                rule.group == self.group
                    && rule.resources.contains(&self.resource.as_str())
                    && rule.verbs.contains(&self.verb)
            })
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)?;
        if self.group.is_empty() {
            Ok(())
        } else {
            write!(formatter, ".{}", self.group)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn requests_are_read_as_the_api_server_reads_them() {
        for (method, path, query, expected) in [
            ("GET", "/api/v1/namespaces/a/pods", None, "list pods"),
            (
                "GET",
                "/api/v1/pods",
                Some("limit=1&watch=true"),
                "watch pods",
            ),
            ("GET", "/api/v1/namespaces/a/pods/b", None, "get pods"),
            (
                "POST",
                "/api/v1/namespaces/a/pods/b/eviction",
                None,
                "create pods/eviction",
            ),
            ("DELETE", "/api/v1/namespaces/a/pods/b", None, "delete pods"),
            (
                "DELETE",
                "/api/v1/namespaces/a/pods",
                None,
                "deletecollection pods",
            ),
            ("GET", "/api/v1/namespaces/a", None, "get namespaces"),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/statefulsets/b",
                None,
                "patch statefulsets.apps",
            ),
            (
                "PUT",
                "/apis/quadraft.dev/v1alpha1/namespaces/a/rdfclusters/b/status",
                None,
                "update rdfclusters/status.quadraft.dev",
            ),
        ] {
            let request = Request::of(&method.parse().unwrap(), path, query).unwrap();
            assert_eq!(request.to_string(), expected);
        }
        assert_eq!(Request::of(&Method::GET, "/version", None), None);
    }

    #[test]
    fn nothing_is_listed_twice() {
        for scope in [Scope::Watched, Scope::Own] {
            let mut seen = BTreeSet::new();
            for rule in scope.rules() {
                for resource in rule.resources {
                    assert!(seen.insert((rule.group, *resource)), "{resource}");
                }
            }
        }
    }

    #[test]
    fn what_could_read_secrets_or_change_rights_is_not_listed() {
        for rule in [Scope::Watched, Scope::Own]
            .into_iter()
            .flat_map(Scope::rules)
        {
            assert_ne!(rule.group, "rbac.authorization.k8s.io");
            assert!(!rule.resources.contains(&"secrets"));
            assert!(!rule.verbs.contains(&"*") && !rule.resources.contains(&"*"));
        }
    }
}
