//! Servers that are there, and of which nothing new is learnt.

use std::time::Duration;

use tokio::time::sleep;
use weir_agent::source::kubernetes::Timing;
use weir_agent::state::ClusterState;
use weir_tests::api_server::{Ask, Fault, Server};

use crate::faults::{service, start, until_met};
use crate::following::{Following, settings_for, timing};

#[tokio::test]
async fn a_watch_that_stalls_is_given_up() {
    let server = Server::start().await.unwrap();
    server.put("services", service("a", "10.0.0.1"));
    server.fail("services", Ask::Watch, [Fault::Stall]);
    let folder = tempfile::tempdir().unwrap();
    let impatient = Timing {
        watch_idle: Duration::from_secs(1),
        ..timing()
    };
    let mut source = Following::url(&server.url, folder.path(), impatient);
    source.synced().await;
    server.put("services", service("a", "10.0.0.2"));
    source.until_ips(&["10.0.0.2"]).await;
    source.stop().await;
}

#[tokio::test]
async fn a_server_that_was_set_back_in_time_is_listed_though_its_watches_are_silent() {
    let server = Server::start().await.unwrap();
    server.put("services", service("a", "10.0.0.1"));
    server.fail("services", Ask::Watch, vec![Fault::Stall; 2]);
    let folder = tempfile::tempdir().unwrap();
    let impatient = Timing {
        watch_idle: Duration::from_millis(300),
        ..timing()
    };
    let mut source = Following::url(&server.url, folder.path(), impatient);
    source.synced().await;
    until_met(&server).await;
    assert_eq!(server.requests("services", Ask::List), 1);
    server.delete("services", "a");
    source.until_ips(&[]).await;
    // The third watch would have told it as well.
    assert!(server.requests("services", Ask::List) >= 2);
    source.stop().await;
}

#[tokio::test]
async fn a_gateway_without_a_server_costs_no_list() {
    let (server, _folder, source) = start(&[("a", "10.0.0.1")]).await;
    server.fail("services", Ask::Watch, vec![Fault::Status(504); 3]);
    server.cut_watches();
    until_met(&server).await;
    server.put("services", service("a", "10.0.0.2"));
    source.until_ips(&["10.0.0.2"]).await;
    assert_eq!(server.requests("services", Ask::List), 1);
    source.stop().await;
}

#[tokio::test]
async fn a_server_that_lists_and_refuses_every_watch_is_told_of() {
    let server = Server::start().await.unwrap();
    server.put("services", service("a", "10.0.0.1"));
    server.fail("services", Ask::Watch, vec![Fault::Status(410); 10_000]);
    let folder = tempfile::tempdir().unwrap();
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    let is_told = |cluster: &ClusterState| {
        let mut problems = cluster.problems();
        problems.any(|it| it.message.contains("status 410"))
    };
    source.until("that it is told", is_told).await;
    assert!(server.requests("services", Ask::List) < 100);
    source.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_every_watch_is_asked_seldom_and_told_of() {
    let server = Server::start().await.unwrap();
    server.fail("services", Ask::Watch, vec![Fault::EndAtOnce; 10_000]);
    let folder = tempfile::tempdir().unwrap();
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    let told = |cluster: &ClusterState| {
        cluster
            .problems()
            .any(|problem| problem.message.contains("ends watches at once"))
    };
    source.until("a problem", told).await;
    let before = server.requests("services", Ask::Watch);
    sleep(Duration::from_secs(2)).await;
    let more = server.requests("services", Ask::Watch) - before;
    assert!(
        (8..=22).contains(&more),
        "{more} in two seconds, with pauses of 100 to 200 ms"
    );
    assert_eq!(server.requests("services", Ask::List), 1);
    source.stop().await;
}

/// As certificates are renewed under the names that a kubeconfig has: the new one leads elsewhere here, which
/// can be seen.
#[tokio::test]
async fn a_kubeconfig_that_changes_is_used_without_a_restart() {
    let (old, new) = (
        Server::start().await.unwrap(),
        Server::start().await.unwrap(),
    );
    old.put("services", service("a", "10.0.0.1"));
    new.put("services", service("b", "10.0.0.2"));
    // Where the old one was in history means nothing to the new one.
    new.compact();
    let folder = tempfile::tempdir().unwrap();
    let mut source = Following::url(&old.url, folder.path(), timing());
    source.synced().await;
    source.until_ips(&["10.0.0.1"]).await;
    settings_for(&new.url, folder.path());
    while new.requests("services", Ask::List) == 0 {
        old.cut_watches();
        sleep(Duration::from_millis(50)).await;
    }
    source.until_ips(&["10.0.0.2"]).await;
    source.stop().await;
}
