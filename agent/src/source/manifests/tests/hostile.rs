//! What nobody should put into the directory: each has a line of status, and all else is served.

use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::time::Instant;

use super::*;

/// By far longer than all of it takes, and by far shorter than any of it would take without bounds.
const SOON: Duration = Duration::from_secs(20);

/// Each alias stands for nine of the one before.
fn bomb() -> String {
    let laughs = (1..30).fold("a0: &a0 [x]\n".to_owned(), |text, i| {
        let before = format!("*a{},", i - 1).repeat(9);
        text + &format!("a{i}: &a{i} [{before}]\n")
    });
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: bomb}}\n{laughs}")
}

#[tokio::test]
async fn hostile_files_are_told_and_the_others_served_soon() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let deep = format!("metadata: {}", "[".repeat(100_000));
    let levels = (0..500).flat_map(|depth| [" ".repeat(depth), "a:\n".to_owned()]);
    let deep_blocks: String = levels.collect();
    let many = "---\n{kind: [}\n".repeat(50_000);
    for (name, text) in [
        ("bomb.yaml", bomb()),
        ("brackets.yaml", deep),
        ("blocks.yaml", deep_blocks),
        ("brackets.json", "[".repeat(100_000)),
        ("documents.yaml", many),
        ("huge.yaml", "# ".repeat(6 << 20)),
        ("good.yaml", service("web", "10.96.0.1")),
    ] {
        fs::write(path(name), text).unwrap();
    }
    symlink("self.yaml", path("self.yaml")).unwrap();
    symlink("there.yaml", path("back.yaml")).unwrap();
    symlink("back.yaml", path("there.yaml")).unwrap();
    symlink("/dev/zero", path("device.yaml")).unwrap();
    symlink(".", path("folder-link.yaml")).unwrap();
    fs::create_dir(path("folder.yaml")).unwrap();
    fs::write(
        path("folder.yaml/inner.yaml"),
        service("inner", "10.96.0.3"),
    )
    .unwrap();
    mkfifo(&path("fifo.yaml"), Mode::from_bits_truncate(0o600)).unwrap();

    let begun = Instant::now();
    let source = Source::start_and_read(root.path()).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(source.services(), ["web 10.96.0.1"]);
    let problems = source.problems();
    for (file, words) in [
        ("back.yaml", "symbolic links"),
        ("blocks.yaml", "recursion limit"),
        ("bomb.yaml", "repetition limit"),
        ("brackets.json", "brackets are open"),
        ("brackets.yaml", "brackets are open"),
        ("device.yaml", "is no regular file"),
        (
            "documents.yaml",
            "further problems in this file are not listed",
        ),
        ("fifo.yaml", "is no regular file"),
        ("folder-link.yaml", "is a folder"),
        ("folder.yaml", "is a folder"),
        ("huge.yaml", "is larger than 10 MiB"),
        ("self.yaml", "symbolic links"),
        ("there.yaml", "symbolic links"),
    ] {
        let told = |line: &&String| line.contains(&format!("/{file}")) && line.contains(words);
        assert!(
            problems.iter().any(|line| told(&line)),
            "{file}: {problems:#?}"
        );
    }
    assert!(problems.len() < 150, "{} lines", problems.len());

    // It goes on, and what becomes good is served.
    fs::write(path("good.yaml"), service("web", "10.96.0.2")).unwrap();
    fs::remove_dir_all(path("folder.yaml")).unwrap();
    fs::write(path("folder.yaml"), service("folder", "10.96.0.4")).unwrap();
    fs::remove_file(path("self.yaml")).unwrap();
    fs::write(path("self.yaml"), service("self", "10.96.0.5")).unwrap();
    source
        .expect_services(&["folder 10.96.0.4", "self 10.96.0.5", "web 10.96.0.2"])
        .await;
    source.stop().await;
}

#[tokio::test]
async fn problems_of_many_files_are_bounded() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..2_000 {
        fs::write(root.path().join(format!("{number}.yaml")), "kind: [").unwrap();
    }
    fs::write(root.path().join("web.yaml"), service("web", "10.96.0.1")).unwrap();
    let source = Source::start_and_read(root.path()).await;
    assert_eq!(source.services(), ["web 10.96.0.1"]);
    let problems = source.problems();
    assert!(problems.len() <= 1_001, "{} lines", problems.len());
    let last = problems.last().unwrap();
    assert!(last.contains("further problems are not listed"), "{last}");
    source.stop().await;
}

#[tokio::test]
async fn endpoints_listed_over_and_over_and_odd_labels_harm_nothing() {
    let root = tempfile::tempdir().unwrap();
    let endpoint = "- {addresses: [10.1.0.1], conditions: {ready: true}}\n";
    let slice = |name: &str, endpoints: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  \
             labels: {{kubernetes.io/service-name: web, ключ: значение, big: {}}}\n  annotations: \
             {{big: {}}}\naddressType: IPv4\nports: [{{port: 8080}}]\nendpoints:\n{endpoints}",
            "x".repeat(100_000),
            "y".repeat(256 << 10),
        )
    };
    let text = service("web", "10.96.0.1") + &slice("web-1", &endpoint.repeat(1_000));
    fs::write(root.path().join("web.yaml"), text).unwrap();
    let wrong = "- {addresses: ['fd00::1']}\n".repeat(1_000);
    fs::write(root.path().join("wrong.yaml"), slice("web-2", &wrong)).unwrap();
    let source = Source::start_and_read(root.path()).await;
    {
        let state = source.state.read();
        let endpoints = state.endpoint_slices().map(|slice| slice.endpoints.len());
        assert_eq!(endpoints.collect::<Vec<_>>(), [1_000, 0]);
        let node = crate::lb::desired::ThisNode::default();
        let desired = crate::lb::desired::desired(&state, &node);
        let backends = desired
            .services
            .values()
            .map(|service| service.backends.len());
        assert_eq!(
            backends.collect::<Vec<_>>(),
            [1],
            "one address is one backend"
        );
    }
    let problems = source.problems();
    let of_addresses = |line: &&String| line.contains("is not of the slice's addressType");
    assert!(
        problems.iter().any(|line| of_addresses(&line)),
        "{problems:#?}"
    );
    assert!(problems.len() <= 102, "{} lines", problems.len());
    source.stop().await;
}
