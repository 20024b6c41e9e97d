use super::*;
use crate::source::Findings;
use crate::source::convert;

fn state() -> SharedState {
    let yaml = "{metadata: {name: a, namespace: n, labels: {app: a}}, \
                spec: {containers: [], nodeName: x}, status: {podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]}}";
    let pod = serde_yaml_ng::from_str(yaml).unwrap();
    let pod = convert::pod(&pod, &mut Findings::default()).unwrap();
    let yaml = "{metadata: {name: x, annotations: {weir.dev/version: '1'}}, \
                spec: {podCIDRs: [10.1.0.0/24]}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}";
    let node = serde_yaml_ng::from_str(yaml).unwrap();
    let node = convert::node(&node, &mut Findings::default()).unwrap();
    let yaml = "{metadata: {name: web, namespace: n}, \
                spec: {type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080, protocol: UDP}]}}";
    let service = serde_yaml_ng::from_str(yaml).unwrap();
    let service = convert::service(&service, &mut Findings::default()).unwrap();
    let state = SharedState::new();
    let objects = [
        Object::Pod(pod),
        Object::Node(node),
        Object::Service(service),
    ];
    state.update(|cluster| cluster.apply(objects.map(Change::Upsert).into()));
    state
}

#[test]
fn what_was_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Kept::within(folder.path());
    assert_eq!(kept.read().missing, KINDS);
    let state = state();
    for kind in KINDS {
        kept.write(kind, &state).unwrap();
    }
    let restored = kept.read();
    assert!(restored.missing.is_empty() && restored.written.is_some());
    assert_eq!(restored.changes.len(), 3);
    state.update(|cluster| {
        assert!(!cluster.apply(restored.changes), "nothing differs");
        false
    });
    kept.remove().unwrap();
    kept.remove().unwrap();
    assert_eq!(kept.read().missing, KINDS);
}

#[test]
fn what_is_damaged_is_missing_and_good_rows_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Kept::within(folder.path());
    kept.write(Kind::Pod, &state()).unwrap();
    let path = kept.path(Kind::Pod);
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{good}{{\"name\":17}}\n")).unwrap();
    let restored = kept.read();
    assert_eq!(restored.changes.len(), 1);
    // A table that lacks rows must not be acted on.
    assert!(restored.missing.contains(&Kind::Pod));
    for damaged in [
        "",
        "x",
        "{\"version\":2,\"written\":\"2026-01-01T00:00:00Z\"}\n",
    ] {
        fs::write(&path, damaged).unwrap();
        assert!(kept.read().missing.contains(&Kind::Pod), "{damaged:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_written_once_listed_then_seldom_and_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Kept::within(folder.path());
    let (state, changed, stop) = (state(), Arc::new(Notify::new()), CancellationToken::new());
    let (listed, receiver) = watch::channel(false);
    let keeper = Keeper {
        kind: Kind::Service,
        kept: kept.clone(),
        state: state.clone(),
        changed: Arc::clone(&changed),
        listed: receiver,
    };
    let task = tokio::spawn(keeper.run(stop.clone()));
    changed.notify_one();
    sleep(INTERVAL * 3).await;
    assert!(
        kept.read().missing.contains(&Kind::Service),
        "half a list is not kept"
    );
    listed.send_replace(true);
    let rows = || {
        kept.read_kind(Kind::Service)
            .map_or(0, |(_, objects, _)| objects.len())
    };
    while rows() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let name = state.read().names(Kind::Service).remove(0);
    let gone = crate::state::ObjectKey {
        kind: Kind::Service,
        name,
    };
    state.update(|cluster| cluster.apply(vec![Change::Delete(gone)]));
    changed.notify_one();
    stop.cancel();
    task.await.unwrap();
    assert_eq!(rows(), 0, "what changed last is written at the end");
}

/// A disk may be full for a while, and nothing of the kind change for hours after.
#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Kept::within(folder.path());
    // In the place of the folder.
    fs::write(&kept.folder, "").unwrap();
    let (state, stop) = (state(), CancellationToken::new());
    let (_listed, receiver) = watch::channel(true);
    let keeper = Keeper {
        kind: Kind::Service,
        kept: kept.clone(),
        state: state.clone(),
        changed: Arc::new(Notify::new()),
        listed: receiver,
    };
    let task = tokio::spawn(keeper.run(stop.clone()));
    while state.read().problems().next().is_none() {
        sleep(Duration::from_millis(1)).await;
    }
    fs::remove_file(&kept.folder).unwrap();
    while kept.read().missing.contains(&Kind::Service) {
        sleep(Duration::from_secs(1)).await;
    }
    stop.cancel();
    task.await.unwrap();
    assert_eq!(state.read().problems().count(), 0);
}
