//! All files together: which object counts, and what changed.
//!
//! Pure. Three rules make the outcome:
//! - *Last good stays.* An object that its file held and that cannot be read now is kept as it was;
//!   so is every object of a file in which something cannot be read so far that its name is known.
//! - *First counts.* Of several definitions of one object, that of the first file by name counts,
//!   and within a file the first; the others are reported. If the first one goes, the next counts.
//! - *Only differences go on*, so that touching a file disturbs nobody.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::parse::ParsedFile;
use crate::source::finding::problem;
use crate::state::{Change, Kind, Object, ObjectKey, ObjectName, Problem, Severity};

/// What the files of a directory hold.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// By file name.
    files: BTreeMap<String, File>,
    /// What was handed on last.
    served: BTreeMap<ObjectKey, Arc<Object>>,
}

#[derive(Debug, Default)]
struct File {
    objects: BTreeMap<ObjectKey, Definition>,
    /// All but those that depend on other files.
    problems: Vec<Problem>,
}

#[derive(Clone, Debug)]
struct Definition {
    object: Arc<Object>,
    /// `FILE:LINE` of the document.
    origin: String,
}

/// What a settled catalog means for the state.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) changes: Vec<Change>,
    /// All problems that there are now.
    pub(super) problems: Vec<Problem>,
}

impl Catalog {
    /// Number of files.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// Number of objects that count.
    pub(super) fn objects(&self) -> usize {
        self.served.len()
    }

    /// Whether there is a file of this name.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// What a file holds now, as it was read last or kept from before.
    pub(super) fn keys(&self, name: &str) -> impl Iterator<Item = &ObjectKey> {
        self.files
            .get(name)
            .into_iter()
            .flat_map(|file| file.objects.keys())
    }

    /// Takes over a file that is new or was read again. `origin` is its name in problems.
    pub(super) fn put(&mut self, name: &str, origin: &str, parsed: ParsedFile) {
        let before = self.files.remove(name).unwrap_or_default();
        let mut file = File {
            objects: BTreeMap::new(),
            problems: parsed.problems,
        };
        let mut refused = HashSet::new();
        for item in parsed.items {
            let item_origin = format!("{origin}:{}", item.line);
            let Some(object) = item.object else {
                refused.insert(item.key);
                continue;
            };
            match file.objects.entry(item.key) {
                Entry::Vacant(vacant) => {
                    vacant.insert(Definition {
                        object,
                        origin: item_origin,
                    });
                }
                Entry::Occupied(first) => {
                    file.problems
                        .push(duplicate(first.key(), item_origin, &first.get().origin));
                }
            }
        }
        let kept = before.objects.into_iter().filter(|(key, _)| {
            !file.objects.contains_key(key) && (parsed.lost_something || refused.contains(key))
        });
        let kept: Vec<_> = kept.collect();
        file.problems.extend(kept_notice(&kept, origin));
        file.objects.extend(kept);
        self.files.insert(name.to_owned(), file);
    }

    /// Forgets a file that is gone, and with it its objects.
    pub(super) fn remove(&mut self, name: &str) {
        self.files.remove(name);
    }

    /// Compares what counts now with what was handed on last.
    pub(super) fn settle(&mut self) -> Outcome {
        let mut problems = Vec::new();
        let mut counting: BTreeMap<&ObjectKey, &Definition> = BTreeMap::new();
        for file in self.files.values() {
            problems.extend(file.problems.iter().cloned());
            for (key, definition) in &file.objects {
                match counting.entry(key) {
                    Entry::Vacant(vacant) => {
                        vacant.insert(definition);
                    }
                    Entry::Occupied(first) => {
                        let origin = definition.origin.clone();
                        problems.push(duplicate(key, origin, &first.get().origin));
                    }
                }
            }
        }
        problems.extend(slices_without_service(&counting));
        bound(&mut problems);

        let gone = self.served.keys().filter(|key| !counting.contains_key(key));
        // Deletions first: an address that moved to another object is free when it is claimed.
        let mut changes: Vec<_> = gone.cloned().map(Change::Delete).collect();
        for (key, definition) in &counting {
            if self
                .served
                .get(*key)
                .is_none_or(|served| *served != definition.object)
            {
                changes.push(Change::Upsert(Object::clone(&definition.object)));
            }
        }
        let objects = counting
            .into_iter()
            .map(|(key, d)| (key.clone(), Arc::clone(&d.object)));
        self.served = objects.collect();
        Outcome { changes, problems }
    }
}

/// As many problems as anybody reads; the others are counted.
fn bound(problems: &mut Vec<Problem>) {
    const LISTED_MAX: usize = 1_000;
    let unlisted = problems.len().saturating_sub(LISTED_MAX);
    if unlisted > 0 {
        problems.truncate(LISTED_MAX);
        let message = format!("{unlisted} further problems are not listed");
        problems.push(problem(Severity::Error, String::new(), &"", "", message));
    }
}

fn duplicate(key: &ObjectKey, origin: String, counts: &str) -> Problem {
    let message = format!("is defined at {counts} too, and that one counts: remove one of them");
    problem(Severity::Error, origin, key, "", message)
}

fn kept_notice(kept: &[(ObjectKey, Definition)], origin: &str) -> Option<Problem> {
    const NAMED: usize = 3;
    if kept.is_empty() {
        return None;
    }
    let names: Vec<_> = kept
        .iter()
        .take(NAMED)
        .map(|(key, _)| key.to_string())
        .collect();
    let more = match kept.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "serving the last good state of {}{more}: what the file says now cannot be read",
        names.join(", ")
    );
    Some(problem(
        Severity::Warning,
        origin.to_owned(),
        &"",
        "",
        message,
    ))
}

fn slices_without_service<'a>(
    counting: &'a BTreeMap<&ObjectKey, &Definition>,
) -> impl Iterator<Item = Problem> + 'a {
    counting.iter().filter_map(|(key, definition)| {
        let Object::EndpointSlice(slice) = &*definition.object else {
            return None;
        };
        let name = ObjectName::new(slice.name.namespace.clone(), slice.service.clone());
        let service = ObjectKey {
            kind: Kind::Service,
            name,
        };
        if counting.contains_key(&service) {
            return None;
        }
        let message = format!("there is no {service}, so nobody is sent to these endpoints");
        Some(problem(
            Severity::Warning,
            definition.origin.clone(),
            key,
            "",
            message,
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::tree::Syntax;
    use super::*;

    fn service(name: &str, ip: &str) -> String {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, \
             spec: {{clusterIP: {ip}, ports: [{{port: 80}}]}}}}\n"
        )
    }

    fn slice(name: &str, service: &str) -> String {
        format!(
            "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
             metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}, \
             ports: [{{port: 80}}]}}\n"
        )
    }

    /// A catalog in which files are written as text, and whose outcome is short lines.
    #[derive(Default)]
    struct Files(Catalog);

    impl Files {
        fn write(&mut self, name: &str, text: &str) {
            self.0.put(name, name, parse(name, Syntax::Yaml, text));
        }

        /// Changes as `+ NAME IP` and `- KEY`; problems as `origin object`.
        fn settle(&mut self) -> (Vec<String>, Vec<String>) {
            let Outcome { changes, problems } = self.0.settle();
            let change = |change: &Change| match change {
                Change::Upsert(Object::Service(service)) => {
                    format!("+ {} {}", service.name.name, service.cluster_ips[0])
                }
                Change::Upsert(other) => format!("+ {}", other.key().name.name),
                Change::Delete(key) => format!("- {}", key.name.name),
            };
            let line = |p: &Problem| format!("{} {}", p.origin, p.object).trim_end().to_owned();
            (
                changes.iter().map(change).collect(),
                problems.iter().map(line).collect(),
            )
        }

        fn changes(&mut self) -> Vec<String> {
            self.settle().0
        }
    }

    #[test]
    fn only_differences_go_on() {
        let mut files = Files::default();
        files.write(
            "a",
            &(service("web", "10.96.0.1") + &service("api", "10.96.0.2")),
        );
        assert_eq!(files.changes(), ["+ api 10.96.0.2", "+ web 10.96.0.1"]);
        assert_eq!(files.changes(), [""; 0]);
        files.write(
            "a",
            &(service("web", "10.96.0.9") + &service("api", "10.96.0.2")),
        );
        assert_eq!(files.changes(), ["+ web 10.96.0.9"]);
        files.write("a", &service("web", "10.96.0.9"));
        assert_eq!(files.changes(), ["- api"]);
        files.0.remove("a");
        assert_eq!(files.changes(), ["- web"]);
        assert_eq!((files.0.files(), files.0.objects()), (0, 0));
    }

    #[test]
    fn a_refused_object_keeps_its_last_good_state() {
        let mut files = Files::default();
        files.write(
            "a",
            &(service("web", "10.96.0.1") + &service("api", "10.96.0.2")),
        );
        files.settle();
        files.write(
            "a",
            &(service("web", "nowhere") + &service("new", "10.96.0.3")),
        );
        let (changes, problems) = files.settle();
        assert_eq!(changes, ["- api", "+ new 10.96.0.3"]);
        assert_eq!(problems, ["a:2 Service default/web", "a"]);
        // Also over several bad states, and until the object is really gone.
        files.write("a", &service("web", "elsewhere"));
        assert_eq!(files.changes(), ["- new"]);
        files.write("a", "");
        assert_eq!(files.settle(), (vec!["- web".to_owned()], vec![]));
    }

    #[test]
    fn a_refused_object_that_never_was_good_is_not_served() {
        let mut files = Files::default();
        files.write("a", &service("web", "nowhere"));
        let (changes, problems) = files.settle();
        assert_eq!((changes.len(), problems.len()), (0, 1));
    }

    #[test]
    fn a_document_that_cannot_be_read_keeps_all_that_the_file_held() {
        let mut files = Files::default();
        files.write(
            "a",
            &(service("web", "10.96.0.1") + &service("api", "10.96.0.2")),
        );
        files.write("b", &service("other", "10.96.0.3"));
        files.settle();
        files.write(
            "a",
            &("kind: [\n".to_owned() + &service("web", "10.96.0.9")),
        );
        let (changes, problems) = files.settle();
        assert_eq!(changes, ["+ web 10.96.0.9"]);
        assert_eq!(problems, ["a:2", "a"]);
        files
            .0
            .put("a", "a", ParsedFile::unreadable("a", "too large"));
        assert_eq!(
            files.settle(),
            (vec![], vec!["a".to_owned(), "a".to_owned()])
        );
        files.write("a", &service("web", "10.96.0.9"));
        assert_eq!(files.settle(), (vec!["- api".to_owned()], vec![]));
    }

    #[test]
    fn the_first_definition_counts_and_the_next_takes_over() {
        let mut files = Files::default();
        files.write("b", &service("web", "10.96.0.2"));
        assert_eq!(files.changes(), ["+ web 10.96.0.2"]);
        files.write(
            "a",
            &(service("web", "10.96.0.1") + &service("web", "10.96.0.3")),
        );
        let (changes, problems) = files.settle();
        assert_eq!(changes, ["+ web 10.96.0.1"]);
        assert_eq!(
            problems,
            ["a:4 Service default/web", "b:2 Service default/web"]
        );
        files.0.remove("a");
        assert_eq!(files.settle(), (vec!["+ web 10.96.0.2".to_owned()], vec![]));
    }

    #[test]
    fn an_object_may_move_between_files() {
        let mut files = Files::default();
        files.write("a", &service("web", "10.96.0.1"));
        files.settle();
        files.write("b", &service("web", "10.96.0.1"));
        files.0.remove("a");
        assert_eq!(files.settle(), (vec![], vec![]));
    }

    #[test]
    fn slices_are_reported_while_their_service_is_missing() {
        let mut files = Files::default();
        files.write("a", &slice("web-1", "web"));
        let (changes, problems) = files.settle();
        assert_eq!(changes, ["+ web-1"]);
        assert_eq!(problems, ["a:2 EndpointSlice default/web-1"]);
        files.write("b", &service("web", "10.96.0.1"));
        assert_eq!(files.settle(), (vec!["+ web 10.96.0.1".to_owned()], vec![]));
    }
}
