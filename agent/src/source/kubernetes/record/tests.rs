use super::*;

fn node(yaml: &str) -> api::Node {
    serde_yaml_ng::from_str(yaml).unwrap()
}

fn now() -> Timestamp {
    "2026-01-02T03:04:05.678Z".parse().unwrap()
}

#[test]
fn annotations_are_written_when_they_differ_and_others_are_left_alone() {
    let wanted = OwnAnnotations::from([("weir.dev/a", Some("1".to_owned())), ("weir.dev/b", None)]);
    let change = |yaml| annotations_change(&node(yaml), &wanted);
    assert_eq!(
        change("metadata: {annotations: {weir.dev/b: x, other: y}}"),
        Some(json!({ "metadata": { "annotations": { "weir.dev/a": "1", "weir.dev/b": null } } })),
    );
    assert_eq!(
        change("metadata: {annotations: {weir.dev/a: '2'}}"),
        Some(json!({ "metadata": { "annotations": { "weir.dev/a": "1" } } })),
    );
    assert_eq!(
        change("metadata: {annotations: {weir.dev/a: '1', other: y}}"),
        None
    );
}

#[test]
fn only_the_one_taint_is_removed_and_only_from_the_object_that_was_read() {
    let ours = "{key: node.weir.dev/agent-not-ready, effect: NoSchedule}";
    let other = "{key: other, effect: NoExecute, value: v}";
    let change = |taints: &str| {
        let yaml = format!("{{metadata: {{resourceVersion: '7'}}, spec: {{taints: [{taints}]}}}}");
        taints_change(&node(&yaml), "node.weir.dev/agent-not-ready")
    };
    assert_eq!(
        change(&format!("{ours}, {other}")),
        Some(json!({
            "metadata": { "resourceVersion": "7" },
            "spec": { "taints": [{ "key": "other", "effect": "NoExecute", "value": "v" }] },
        })),
    );
    assert_eq!(change(other), None);
    assert_eq!(change(""), None);
    assert_eq!(taints_change(&node("spec: {}"), "x"), None);
}

#[test]
fn the_condition_changes_with_readiness_and_keeps_its_time_of_transition() {
    let change =
        condition_change(&node("{}"), &["attach", "apply services"], false, now()).unwrap();
    let condition = &change["status"]["conditions"][0];
    assert_eq!(condition["status"], "False");
    assert_eq!(condition["message"], "waits for: attach, apply services");
    assert_eq!(condition["lastTransitionTime"], "2026-01-02T03:04:05Z");

    let starting = "{status: {conditions: [{type: Ready, status: 'True'}, {type: WeirReady, \
        status: 'False', reason: Starting, message: 'waits for: attach', \
        lastTransitionTime: '2025-01-01T00:00:00Z'}]}}";
    assert_eq!(
        condition_change(&node(starting), &["attach"], false, now()),
        None
    );
    let change = condition_change(&node(starting), &["encrypt"], false, now()).unwrap();
    let since = &change["status"]["conditions"][0]["lastTransitionTime"];
    assert_eq!(
        since, "2025-01-01T00:00:00Z",
        "it was not ready before either"
    );
    let change = condition_change(&node(starting), &[], false, now()).unwrap();
    let condition = &change["status"]["conditions"][0];
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("True"), &json!("InStep"))
    );
    assert_eq!(condition["lastTransitionTime"], "2026-01-02T03:04:05Z");

    let change = condition_change(&node("{}"), &["encrypt"], true, now()).unwrap();
    let condition = &change["status"]["conditions"][0];
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("False"), &json!("OutOfStep"))
    );
}

#[tokio::test(start_paused = true)]
async fn who_changes_the_object_all_the_time_is_answered_ever_less() {
    let mut answers = Answers::new();
    let begun = Instant::now();
    let mut given = 0;
    while begun.elapsed() < Duration::from_mins(10) {
        sleep(answers.pause()).await;
        given += 1;
    }
    // Eight while pauses double, and then one in 15 to 30 seconds.
    assert!((20..=50).contains(&given), "{given} in ten minutes");
    sleep(CALM).await;
    assert!(answers.pause() <= ANSWERS.first, "a first one");
}
