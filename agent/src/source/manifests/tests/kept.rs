//! The last good state, kept on disk for the next agent.

use super::*;

#[tokio::test]
async fn the_last_good_state_outlives_the_agent() {
    let (root, state_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = root.path().join("a.yaml");
    let start = async || {
        Source::start_with(root.path(), state_folder.path())
            .read_once()
            .await
    };
    let good = service("web", "10.96.0.1") + &service("api", "10.96.0.2");
    fs::write(&path, &good).unwrap();
    start().await.stop().await;

    // One document refused, one good and changed: over two restarts.
    fs::write(
        &path,
        service("web", "nowhere") + &service("api", "10.96.0.3"),
    )
    .unwrap();
    for _ in 0..2 {
        let source = start().await;
        assert_eq!(source.services(), ["api 10.96.0.3", "web 10.96.0.1"]);
        let problems = source.problems();
        let told = "serving the last good state of Service default/web: ";
        assert!(problems[1].contains(told), "{problems:?}");
        source.stop().await;
    }

    // Nothing in the file can be read; then all of it.
    fs::write(&path, "kind: [").unwrap();
    let source = start().await;
    assert_eq!(source.services(), ["api 10.96.0.3", "web 10.96.0.1"]);
    fs::write(&path, &good).unwrap();
    source
        .expect_services(&["api 10.96.0.2", "web 10.96.0.1"])
        .await;
    assert_eq!(source.problems(), [""; 0]);
    source.stop().await;
}

#[tokio::test]
async fn what_was_removed_does_not_come_back_with_a_broken_file() {
    let (root, state_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = root.path().join("a.yaml");
    let start = async || {
        Source::start_with(root.path(), state_folder.path())
            .read_once()
            .await
    };
    // While an agent runs, and while none does.
    for agent_sees_it in [true, false] {
        fs::write(&path, service("web", "10.96.0.1")).unwrap();
        let source = start().await;
        if agent_sees_it {
            fs::remove_file(&path).unwrap();
            source.expect_services(&[]).await;
        }
        source.stop().await;
        if !agent_sees_it {
            fs::remove_file(&path).unwrap();
        }
        start().await.stop().await;
        fs::write(&path, "kind: [").unwrap();
        let source = start().await;
        assert_eq!(source.services(), [""; 0]);
        source.stop().await;
    }
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_written_is_told_and_harms_nothing() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("state");
    fs::write(&folder, "a file where a folder should be").unwrap();
    fs::write(root.path().join("a.yaml"), service("web", "10.96.0.1")).unwrap();
    let source = Source::start_with(root.path(), &folder).read_once().await;
    source
        .expect(|source| source.problems().iter().any(|p| p.contains("last good")))
        .await;
    assert_eq!(source.services(), ["web 10.96.0.1"]);
    source.stop().await;
}
