//! The W3C's tests of SPARQL 1.1 Update, each evaluated to effects, encoded, decoded and applied.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use oxrdf::dataset::CanonicalizationAlgorithm;
use oxrdf::vocab::rdf;
use oxrdf::{
    Dataset, Graph, GraphName, NamedNode, NamedNodeRef, NamedOrBlankNodeRef, Quad, Term, TermRef,
};
use oxrdfio::{RdfFormat, RdfParser};
use quadraft_node::sparql::update::{
    Evaluated, EvaluationLimits, Target, Write, WriteError, evaluate_group,
};
use quadraft_node::state::{Apply, Command, LogPosition, Outcome, RequestId, State};

const MANIFEST: &str = "http://www.w3.org/2001/sw/DataAccess/tests/test-manifest#";
const UPDATE: &str = "http://www.w3.org/2009/sparql/tests/test-update#";

fn node(namespace: &str, name: &str) -> NamedNode {
    NamedNode::new(format!("{namespace}{name}")).unwrap()
}

fn path_of(iri: &str) -> PathBuf {
    PathBuf::from(iri.strip_prefix("file://").unwrap())
}

fn base_of(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// A file or part of a manifest, with what it says.
struct Manifest(Graph);

impl Manifest {
    fn read(path: &Path) -> Self {
        let text = fs::read(path).unwrap();
        let triples = RdfParser::from_format(RdfFormat::Turtle)
            .with_base_iri(base_of(path))
            .unwrap()
            .for_slice(&text)
            .map(|quad| oxrdf::Triple::from(quad.unwrap()))
            .collect();
        Self(triples)
    }

    fn object<'a>(
        &'a self,
        subject: NamedOrBlankNodeRef<'a>,
        predicate: NamedNodeRef<'a>,
    ) -> Option<TermRef<'a>> {
        self.0.object_for_subject_predicate(subject, predicate)
    }

    fn entries(&self) -> Vec<NamedOrBlankNodeRef<'_>> {
        let predicate = node(MANIFEST, "entries");
        let mut list = self
            .0
            .triples_for_predicate(&predicate)
            .next()
            .map(|triple| triple.object);
        let mut entries = Vec::new();
        while let Some(cell) = list.and_then(as_subject) {
            entries.extend(self.object(cell, rdf::FIRST).and_then(as_subject));
            list = self.object(cell, rdf::REST);
        }
        entries
    }

    /// The files of an action or a result with the graphs they belong to.
    fn data(&self, subject: NamedOrBlankNodeRef<'_>) -> Vec<(Target, PathBuf)> {
        let label = NamedNode::new("http://www.w3.org/2000/01/rdf-schema#label").unwrap();
        let (data, graph_data, graph) = (
            node(UPDATE, "data"),
            node(UPDATE, "graphData"),
            node(UPDATE, "graph"),
        );
        let mut files: Vec<_> = self
            .0
            .objects_for_subject_predicate(subject, &data)
            .map(|file| (Target::DefaultGraph, file_of(file)))
            .collect();
        for part in self.0.objects_for_subject_predicate(subject, &graph_data) {
            let part = as_subject(part).unwrap();
            let TermRef::Literal(name) = self.object(part, label.as_ref()).unwrap() else {
                panic!("a graph has no name");
            };
            let file = self
                .object(part, graph.as_ref())
                .or_else(|| self.object(part, data.as_ref()))
                .unwrap();
            files.push((Target::NamedGraph(name.value().to_owned()), file_of(file)));
        }
        files
    }
}

fn as_subject(term: TermRef<'_>) -> Option<NamedOrBlankNodeRef<'_>> {
    match term {
        TermRef::NamedNode(node) => Some(node.into()),
        TermRef::BlankNode(node) => Some(node.into()),
        TermRef::Literal(_) => None,
    }
}

fn file_of(term: TermRef<'_>) -> PathBuf {
    let Term::NamedNode(node) = term.into_owned() else {
        panic!("{term} is not a file");
    };
    path_of(node.as_str())
}

struct Runner<'a> {
    state: &'a State,
}

impl Runner<'_> {
    fn write(&self, write: Write) -> Result<(), WriteError> {
        let writes = [(RequestId::unique(), write)];
        let mut evaluation =
            evaluate_group(self.state, &writes, EvaluationLimits::default()).unwrap();
        let evaluated = evaluation.answers.remove(0)?;
        assert!(matches!(evaluated, Evaluated::Proposed { place: 0, .. }));
        let command = Command::decode(&evaluation.command.unwrap().encode()).unwrap();
        let index = self.state.applied().map_or(1, |applied| applied.index + 1);
        let outcomes = self
            .state
            .apply(&[(LogPosition { term: 1, index }, Apply::Command(command))])
            .unwrap();
        assert!(matches!(outcomes[..], [Outcome::Applied(_)]));
        let (digest, quads, _) = self.state.recompute().unwrap();
        assert_eq!((digest, quads), (self.state.digest(), self.state.quads()));
        Ok(())
    }

    fn load(&self, files: Vec<(Target, PathBuf)>) {
        for (target, path) in files {
            let media_type = if path.extension().is_some_and(|ending| ending == "rdf") {
                "application/rdf+xml"
            } else {
                "text/turtle"
            };
            self.write(Write::Add {
                target,
                media_type: media_type.into(),
                base_iri: Some(base_of(&path)),
                body: fs::read(&path).unwrap(),
            })
            .unwrap();
        }
    }

    fn update(&self, path: &Path) -> Result<(), WriteError> {
        self.write(Write::Update {
            text: fs::read_to_string(path).unwrap(),
            base_iri: Some(base_of(path)),
            using_graphs: None,
        })
    }

    fn content(&self) -> Dataset {
        let view = self.state.view();
        let mut dataset: Dataset = view.read().unwrap().quads().map(Result::unwrap).collect();
        dataset.canonicalize(CanonicalizationAlgorithm::Unstable);
        dataset
    }

    fn clear(&self) {
        self.write(Write::Delete {
            target: Target::Dataset,
        })
        .unwrap();
        assert_eq!(self.state.quads(), 0);
    }

    /// `Err` says what went wrong.
    fn run(&self, manifest: &Manifest, test: NamedOrBlankNodeRef<'_>) -> Result<(), String> {
        let kind = manifest.object(test, rdf::TYPE).unwrap().to_string();
        let action_predicate = node(MANIFEST, "action");
        let action = manifest.object(test, action_predicate.as_ref()).unwrap();
        self.clear();
        if kind.contains("NegativeSyntaxTest") || kind.contains("NegativeUpdateSyntax") {
            return match self.update(&file_of(action)) {
                Err(WriteError::Malformed { .. }) => Ok(()),
                other => Err(format!("was not refused as malformed: {other:?}")),
            };
        }
        assert!(kind.contains("UpdateEvaluationTest"), "{kind}");
        let result_predicate = node(MANIFEST, "result");
        let result = manifest.object(test, result_predicate.as_ref()).unwrap();
        self.load(manifest.data(as_subject(result).unwrap()));
        let expected = self.content();
        self.clear();
        let action = as_subject(action).unwrap();
        self.load(manifest.data(action));
        let request_predicate = node(UPDATE, "request");
        let request = manifest.object(action, request_predicate.as_ref()).unwrap();
        self.update(&file_of(request))
            .map_err(|error| format!("was refused: {error}"))?;
        let found = self.content();
        if found == expected {
            Ok(())
        } else {
            Err(format!("expected\n{expected}\nbut found\n{found}"))
        }
    }
}

#[test]
fn all_tests_of_the_published_suites_pass() {
    let suites = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/sparql11-update");
    let suites = suites.canonicalize().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("store")).unwrap();
    let runner = Runner { state: &state };
    let (mut passed, mut failures) = (0, Vec::new());
    for suite in [
        "basic-update",
        "delete",
        "delete-data",
        "delete-insert",
        "delete-where",
        "clear",
        "drop",
        "add",
        "copy",
        "move",
        "update-silent",
    ] {
        let manifest = Manifest::read(&suites.join(suite).join("manifest.ttl"));
        let entries = manifest.entries();
        assert!(!entries.is_empty(), "{suite} has no tests");
        for test in entries {
            match runner.run(&manifest, test) {
                Ok(()) => passed += 1,
                Err(reason) => failures.push(format!("{suite} {test} {reason}")),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(passed >= 90, "only {passed} tests were found");
}

#[test]
fn equal_content_with_other_blank_nodes_is_equal() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("store")).unwrap();
    let runner = Runner { state: &state };
    let document = || Write::Replace {
        target: Target::DefaultGraph,
        media_type: "text/turtle".into(),
        base_iri: None,
        body: b"_:a <urn:p> [ <urn:q> _:a ] .".to_vec(),
    };
    runner.write(document()).unwrap();
    let first = runner.content();
    runner.write(document()).unwrap();
    assert_eq!(runner.content(), first);
    let quad = Quad::new(
        NamedNode::new("urn:p").unwrap(),
        NamedNode::new("urn:p").unwrap(),
        NamedNode::new("urn:p").unwrap(),
        GraphName::DefaultGraph,
    );
    let mut other = first.clone();
    other.insert(&quad);
    assert_ne!(other, first);
}
