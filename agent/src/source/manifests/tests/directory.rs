//! A directory that is swapped, missing or replaced.

use super::*;

#[tokio::test]
async fn a_swap_of_kubelets_link_is_one_change() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let version = |name: &str, files: &[(&str, String)]| {
        fs::create_dir(path(name)).unwrap();
        for (file, text) in files {
            fs::write(path(name).join(file), text).unwrap();
        }
        symlink(name, path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    version(
        "..1",
        &[
            ("a.yaml", service("web", "10.96.0.1")),
            ("b.yaml", service("api", "10.96.0.2")),
        ],
    );
    symlink("..data/a.yaml", path("a.yaml")).unwrap();
    symlink("..data/b.yaml", path("b.yaml")).unwrap();
    let source = Source::start_and_read(root.path()).await;
    let revision = *source.state.subscribe().borrow();

    version(
        "..2",
        &[
            ("a.yaml", service("web", "10.96.1.1")),
            ("b.yaml", service("api", "10.96.1.2")),
        ],
    );
    fs::remove_dir_all(path("..1")).unwrap();
    source
        .expect_services(&["api 10.96.1.2", "web 10.96.1.1"])
        .await;
    assert_eq!(*source.state.subscribe().borrow(), revision + 1);

    // A key that leaves the ConfigMap: its link dangles until kubelet removes it.
    version("..3", &[("a.yaml", service("web", "10.96.2.1"))]);
    source
        .expect_services(&["api 10.96.1.2", "web 10.96.2.1"])
        .await;
    fs::remove_file(path("b.yaml")).unwrap();
    source.expect_services(&["web 10.96.2.1"]).await;
    assert_eq!(source.problems(), [""; 0]);
    source.stop().await;
}

#[tokio::test]
async fn a_missing_directory_is_reported_and_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("deeper/manifests");
    let mut source = Source::start(&directory);
    source.expect(|source| source.problems().len() == 1).await;
    assert!(!*source.synced.borrow(), "nothing has been read");

    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("a.yaml"), service("web", "10.96.0.1")).unwrap();
    source.expect_services(&["web 10.96.0.1"]).await;
    source.synced.wait_for(|synced| *synced).await.unwrap();
    assert_eq!(source.problems(), [""; 0]);
    source.stop().await;
}

#[tokio::test]
async fn a_directory_that_goes_and_comes_back_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let (directory, aside) = (root.path().join("manifests"), root.path().join("aside"));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("a.yaml"), service("web", "10.96.0.1")).unwrap();
    let source = Source::start_and_read(&directory).await;

    fs::rename(&directory, &aside).unwrap();
    source.expect(|source| source.problems().len() == 1).await;
    assert_eq!(source.services(), ["web 10.96.0.1"]);

    fs::create_dir(&directory).unwrap();
    source.expect_services(&[]).await;
    fs::write(directory.join("b.yaml"), service("api", "10.96.0.2")).unwrap();
    source.expect_services(&["api 10.96.0.2"]).await;

    // Another one in its place, in one step, as nobody can tell from the name.
    fs::remove_file(directory.join("b.yaml")).unwrap();
    source.expect_services(&[]).await;
    fs::rename(&directory, root.path().join("old")).unwrap();
    fs::rename(&aside, &directory).unwrap();
    source.expect_services(&["web 10.96.0.1"]).await;
    fs::write(directory.join("c.yaml"), service("new", "10.96.0.3")).unwrap();
    source
        .expect_services(&["new 10.96.0.3", "web 10.96.0.1"])
        .await;
    source.stop().await;
}
