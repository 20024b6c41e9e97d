use super::*;
use crate::state::ClusterState;

fn intake(kind: Kind) -> Intake {
    let changed = Arc::new(Notify::new());
    Intake::new(kind, "https://api/".to_owned(), SharedState::new(), changed)
}

fn raw(text: &str) -> Box<RawValue> {
    serde_json::from_str(text).unwrap()
}

fn service(name: &str, ip: &str) -> Box<RawValue> {
    raw(&format!(
        r#"{{"metadata":{{"name":"{name}"}},"spec":{{"clusterIP":"{ip}","ports":[{{"port":80}}]}}}}"#
    ))
}

fn names(intake: &Intake) -> Vec<String> {
    let state = intake.state.read();
    state
        .names(intake.kind)
        .into_iter()
        .map(|name| name.name.to_string())
        .collect()
}

fn problems(cluster: &ClusterState) -> Vec<String> {
    cluster.problems().map(ToString::to_string).collect()
}

fn list(intake: &mut Intake, pages: &[&[&RawValue]]) {
    let mut seen = Seen::default();
    for page in pages {
        intake.page(page, &mut seen);
    }
    intake.complete(&seen);
}

#[test]
fn a_list_deletes_what_no_page_showed() {
    let mut intake = intake(Kind::Service);
    let [a, b, c] = ["a", "b", "c"].map(|name| service(name, "10.0.0.1"));
    list(&mut intake, &[&[&a, &b], &[&c]]);
    assert_eq!(names(&intake), ["a", "b", "c"]);
    list(&mut intake, &[&[&a], &[], &[&c]]);
    assert_eq!(names(&intake), ["a", "c"]);
    // Of another kind's tables nothing is touched.
    let mut nodes = Intake::new(
        Kind::Node,
        String::new(),
        intake.state.clone(),
        Arc::new(Notify::new()),
    );
    list(&mut nodes, &[]);
    assert_eq!(names(&intake), ["a", "c"]);
}

#[test]
fn a_list_with_an_object_without_a_name_deletes_nothing() {
    let mut intake = intake(Kind::Service);
    let [a, b] = ["a", "b"].map(|name| service(name, "10.0.0.1"));
    list(&mut intake, &[&[&a, &b]]);
    list(&mut intake, &[&[&raw("{}"), &a]]);
    assert_eq!(names(&intake), ["a", "b"]);
}

#[test]
fn a_batch_is_one_update_and_what_came_before_nonsense_is_taken() {
    let mut intake = intake(Kind::Service);
    let revision = intake.state.subscribe();
    let [a, b] = ["a", "b"].map(|name| service(name, "10.0.0.1"));
    let gone = ObjectName::new("default", "a");
    intake
        .steps(vec![Step::Put(&a), Step::Put(&b), Step::Gone(gone)])
        .unwrap();
    assert_eq!(
        (names(&intake), *revision.borrow()),
        (vec!["b".to_owned()], 1)
    );
    let (c, nonsense, d) = (
        service("c", "10.0.0.1"),
        raw("17"),
        service("d", "10.0.0.1"),
    );
    let steps = vec![Step::Put(&c), Step::Put(&nonsense), Step::Put(&d)];
    intake.steps(steps).unwrap_err();
    assert_eq!(names(&intake), ["b", "c"]);
}

#[tokio::test]
async fn only_a_difference_is_told() {
    let mut intake = intake(Kind::Service);
    let a = service("a", "10.0.0.1");
    intake.steps(vec![Step::Put(&a)]).unwrap();
    intake.changed.notified().await;
    intake.steps(vec![Step::Put(&a)]).unwrap();
    let told = futures::FutureExt::now_or_never(intake.changed.notified());
    assert!(told.is_none());
}

#[test]
fn problems_of_one_object_and_of_one_kind_are_bounded() {
    let mut intake = intake(Kind::EndpointSlice);
    let endpoints = vec![r#"{"addresses":["fd00::1"]}"#; 1_000].join(",");
    let slice = |name: &str| {
        raw(&format!(
            r#"{{"metadata":{{"name":"{name}","labels":{{"kubernetes.io/service-name":"web"}}}},
            "addressType":"IPv4","ports":[{{"port":80}}],"endpoints":[{endpoints}]}}"#
        ))
    };
    intake.steps(vec![Step::Put(&slice("one"))]).unwrap();
    let told = problems(&intake.state.read());
    assert_eq!(told.len(), PROBLEMS_OF_OBJECT_MAX + 1);
    assert!(
        told.last().unwrap().contains("990 further problems"),
        "{told:?}"
    );
    for number in 0..150 {
        intake
            .steps(vec![Step::Put(&slice(&format!("s{number}")))])
            .unwrap();
    }
    let told = problems(&intake.state.read());
    assert_eq!(
        told.len(),
        OBJECTS_LISTED_MAX * (PROBLEMS_OF_OBJECT_MAX + 1) + 1
    );
    assert!(
        told.last().unwrap().contains("51 further objects"),
        "{:?}",
        told.last()
    );
    assert_eq!(
        names(&intake).len(),
        151,
        "all are served with what is good of them"
    );
}

#[test]
fn the_problems_of_what_is_gone_go_too() {
    let mut intake = intake(Kind::Service);
    let bad = raw(r#"{"metadata":{"name":"bad"},"spec":{"clusterIP":"10.0.0.1"}}"#);
    intake.steps(vec![Step::Put(&bad)]).unwrap();
    assert_eq!(problems(&intake.state.read()).len(), 1);
    list(&mut intake, &[]);
    assert_eq!(problems(&intake.state.read()), [""; 0]);
    intake.steps(vec![Step::Put(&bad)]).unwrap();
    intake
        .steps(vec![Step::Gone(ObjectName::new("default", "bad"))])
        .unwrap();
    assert_eq!(problems(&intake.state.read()), [""; 0]);
}

#[test]
fn what_is_refused_is_listed_before_what_is_served() {
    let warned = |number: usize| {
        raw(&format!(
            r#"{{"metadata":{{"name":"a{number:03}"}},"spec":{{"clusterIP":"10.0.0.1",
                "externalTrafficPolicy":"Local","ports":[{{"port":80}}]}}}}"#
        ))
    };
    let refused = raw(r#"{"metadata":{"name":"zz"},"spec":{"clusterIP":"nowhere"}}"#);
    let warned: Vec<_> = (0..OBJECTS_LISTED_MAX + 20).map(warned).collect();
    let mut intake = intake(Kind::Service);
    let mut page: Vec<&RawValue> = warned.iter().map(AsRef::as_ref).collect();
    page.push(&refused);
    list(&mut intake, &[&page]);
    let state = intake.state.read();
    let errors: Vec<_> = state
        .problems()
        .filter(|problem| problem.severity == Severity::Error)
        .collect();
    assert!(!errors.is_empty());
    assert!(
        errors.iter().all(|problem| problem.object.ends_with("/zz")),
        "{errors:?}"
    );
    let rest = state
        .problems()
        .find(|problem| problem.message.contains("not listed"));
    let rest = rest.unwrap();
    assert_eq!(rest.severity, Severity::Warning);
    assert!(rest.message.starts_with("21 further objects"), "{rest}");
}

#[test]
fn of_one_object_errors_are_listed_first_and_the_rest_is_as_bad_as_its_worst() {
    let mut intake = intake(Kind::Service);
    let key = ObjectKey {
        kind: Kind::Service,
        name: ObjectName::new("default", "a"),
    };
    let mut findings = Findings::default();
    for number in 0..PROBLEMS_OF_OBJECT_MAX {
        findings.warning(format!("w{number}"), "is odd");
    }
    findings.error("e", "is wrong");
    intake.set_problems(&key, findings, false);
    let problems = &intake.problems[&key.name];
    let told = |at: usize| (problems[at].severity, &*problems[at].field);
    assert_eq!(told(0), (Severity::Error, "e"));
    assert_eq!(told(PROBLEMS_OF_OBJECT_MAX), (Severity::Warning, ""));
    let mut findings = Findings::default();
    for number in 0..=PROBLEMS_OF_OBJECT_MAX {
        findings.error(format!("e{number}"), "is wrong");
    }
    intake.set_problems(&key, findings, false);
    let problems = &intake.problems[&key.name];
    assert_eq!(problems[PROBLEMS_OF_OBJECT_MAX].severity, Severity::Error);
}
