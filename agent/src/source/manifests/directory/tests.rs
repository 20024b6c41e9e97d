use std::os::unix::fs::symlink;
use std::sync::LazyLock;

use super::*;

static LOOKS: LazyLock<Hints> = LazyLock::new(|| Hints {
    scope: Scope::Looks,
    ..Hints::default()
});

struct Fixture {
    root: tempfile::TempDir,
    directory: Directory,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(root.path().to_owned());
        Self { root, directory }
    }

    /// Writes a file with a time long enough ago to be stamped.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.root.path().join(name);
        fs::write(&path, content).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(10))
            .unwrap();
    }

    /// Files read, as `name=text` or `name!`, and files removed, as `-name`.
    fn scan(&mut self, hints: &Hints) -> Vec<String> {
        let scan = self.directory.scan(hints).unwrap();
        let read = scan.read.iter().map(|file| match &file.text {
            Ok(text) => format!("{}={text}", file.name),
            Err(_) => format!("{}!", file.name),
        });
        let removed = scan.removed.iter().map(|name| format!("-{name}"));
        read.chain(removed).collect()
    }
}

#[test]
fn only_manifests_are_read_and_only_when_they_changed() {
    let mut fixture = Fixture::new();
    for name in [
        "b.yaml",
        "a.yml",
        "c.json",
        ".hidden.yaml",
        "d.txt",
        "yaml",
        "e.yaml~",
    ] {
        fixture.write(name, "x");
    }
    assert_eq!(fixture.scan(&LOOKS), ["a.yml=x", "b.yaml=x", "c.json=x"]);
    assert_eq!(fixture.scan(&LOOKS), [""; 0]);

    fixture.write("b.yaml", "y");
    fs::remove_file(fixture.root.path().join("c.json")).unwrap();
    assert_eq!(fixture.scan(&LOOKS), ["b.yaml=y", "-c.json"]);
}

#[test]
fn hints_say_what_is_looked_at() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", "x");
    fixture.write("b.yaml", "x");
    fixture.scan(&LOOKS);
    let all = Hints {
        scope: Scope::All,
        ..Hints::default()
    };
    assert_eq!(fixture.scan(&all), ["a.yaml=x", "b.yaml=x"]);

    // Only the one that is named, even if it looks the same and others do not.
    fixture.write("b.yaml", "y");
    fixture.write("c.yaml", "y");
    let named = Hints {
        changed: ["a.yaml".to_owned()].into(),
        ..Hints::default()
    };
    assert_eq!(fixture.scan(&named), ["a.yaml=x"]);
    let named = Hints {
        scope: Scope::Looks,
        ..named
    };
    assert_eq!(fixture.scan(&named), ["a.yaml=x", "b.yaml=y", "c.yaml=y"]);

    let gone = ["b.yaml", "never.yaml", "..data", "x.txt"]
        .map(str::to_owned)
        .into();
    fs::remove_file(fixture.root.path().join("b.yaml")).unwrap();
    assert_eq!(
        fixture.scan(&Hints {
            changed: gone,
            ..Hints::default()
        }),
        ["-b.yaml"]
    );
}

#[test]
fn files_that_are_being_written_are_left_alone() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", "x");
    fixture.scan(&LOOKS);
    fixture.write("a.yaml", "half");
    fixture.write("new.yaml", "half");
    let being_written: HashSet<_> = ["a.yaml", "new.yaml"].map(str::to_owned).into();
    for scope in [Scope::Looks, Scope::All] {
        let being_written = being_written.clone();
        assert_eq!(
            fixture.scan(&Hints {
                scope,
                being_written,
                ..Hints::default()
            }),
            [""; 0]
        );
    }
    assert_eq!(fixture.scan(&LOOKS), ["a.yaml=half", "new.yaml=half"]);
}

#[test]
fn a_file_that_changed_just_now_is_read_again() {
    let mut fixture = Fixture::new();
    fixture.write("old.yaml", "x");
    let new = fixture.root.path().join("new.yaml");
    fs::write(&new, "x").unwrap();
    let future = SystemTime::now() + Duration::from_hours(1);
    File::options()
        .write(true)
        .open(&new)
        .unwrap()
        .set_modified(future)
        .unwrap();
    assert_eq!(fixture.scan(&LOOKS), ["new.yaml=x", "old.yaml=x"]);
    assert_eq!(fixture.scan(&LOOKS), ["new.yaml=x"]);
}

#[test]
fn files_that_cannot_be_used_say_why() {
    let mut fixture = Fixture::new();
    fixture.write("binary.yaml", b"a: \xff\xfe");
    fixture.write("large.yaml", vec![b'#'; MAX_FILE_BYTES as usize + 1]);
    fixture.write("limit.yaml", vec![b'#'; MAX_FILE_BYTES as usize]);
    symlink("nowhere", fixture.root.path().join("dangling.yaml")).unwrap();
    nix::unistd::mkfifo(
        &fixture.root.path().join("pipe.yaml"),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    fs::create_dir(fixture.root.path().join("sub.yaml")).unwrap();
    let scan = fixture.directory.scan(&LOOKS).unwrap();
    let why: Vec<_> = scan
        .read
        .into_iter()
        .filter_map(|file| Some(format!("{} {}", file.name, file.text.err()?)))
        .collect();
    assert_eq!(
        why,
        [
            "binary.yaml is not UTF-8 text: byte 3 begins no character",
            "dangling.yaml cannot be read: No such file or directory (os error 2)",
            "large.yaml is larger than 10 MiB and was not read: split it up",
            "pipe.yaml is no regular file",
            "sub.yaml is a folder, and what is in it is not read",
        ]
    );
}

#[test]
fn a_swapped_link_shows_the_new_files() {
    let mut fixture = Fixture::new();
    let root = fixture.root.path().to_owned();
    for (version, text) in [("..1", "x"), ("..2", "y")] {
        fs::create_dir(root.join(version)).unwrap();
        fixture.write(&format!("{version}/a.yaml"), text);
    }
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    assert_eq!(fixture.scan(&LOOKS), ["a.yaml=x"]);
    symlink("..2", root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    assert_eq!(fixture.scan(&LOOKS), ["a.yaml=y"]);
}

#[test]
fn a_missing_directory_is_an_error_and_forgets_nothing() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", "x");
    fixture.scan(&LOOKS);
    let root = fixture.root.path().to_owned();
    let elsewhere = root.with_extension("moved");
    fs::rename(&root, &elsewhere).unwrap();
    assert!(fixture.directory.scan(&LOOKS).is_err());
    let named = Hints {
        changed: ["a.yaml".to_owned()].into(),
        ..Hints::default()
    };
    assert!(fixture.directory.scan(&named).is_err());
    fs::rename(&elsewhere, &root).unwrap();
    assert_eq!(fixture.scan(&LOOKS), [""; 0]);
}
