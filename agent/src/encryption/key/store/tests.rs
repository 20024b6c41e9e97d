use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::encryption::key::PublicKey;

struct Fixture {
    state: TempDir,
    store: KeyStore,
}

fn fixture() -> Fixture {
    let state = tempfile::tempdir().expect("a temporary folder");
    let store = KeyStore::open(state.path()).expect("opens");
    Fixture { state, store }
}

fn public(stored: Option<StoredKey>) -> Option<PublicKey> {
    stored.map(|stored| stored.key.public())
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
}

#[test]
fn a_key_is_made_once_and_only_its_owner_can_read_it() {
    let Fixture { state, store } = fixture();
    assert!(store.load().expect("nothing there").is_none());
    let before = SystemTime::now() - std::time::Duration::from_millis(1);
    let made = store.load_or_create().expect("made");
    let again = KeyStore::open(state.path())
        .and_then(|store| store.load_or_create())
        .expect("loaded");
    assert_eq!(made.key.public(), again.key.public());
    assert_eq!(made.created, again.created, "the age survives a restart");
    assert!(made.created >= before && made.created <= SystemTime::now());
    for (path, mode) in [(store.folder.clone(), 0o700), (store.path(CURRENT), 0o600)] {
        let found = fs::metadata(&path).expect("there").mode() & 0o7777;
        assert_eq!(found, mode, "{path:?}");
    }
}

#[test]
fn a_rotation_keeps_the_old_key_until_told() {
    let Fixture {
        state: _kept,
        store,
    } = fixture();
    let old = store.load_or_create().expect("made").key.public();
    let new = store.rotate().expect("rotated").key.public();
    assert_ne!(old, new);
    assert_eq!(public(store.load().expect("loads")), Some(new));
    assert_eq!(public(store.previous().expect("loads")), Some(old));
    let refused = store.rotate().expect_err("the first is not finished");
    assert!(
        matches!(refused, KeyStoreError::RotationUnfinished { .. }),
        "{refused}"
    );
    assert_eq!(
        public(store.load().expect("loads")),
        Some(new),
        "nothing changed"
    );
    store.drop_previous().expect("dropped");
    assert_eq!(public(store.previous().expect("none")), None);
    store.rotate().expect("possible again");
}

#[test]
fn a_rotation_that_was_cut_off_can_be_repeated() {
    let Fixture {
        state: _kept,
        store,
    } = fixture();
    let old = store.load_or_create().expect("made").key.public();
    fs::hard_link(store.path(CURRENT), store.path(PREVIOUS)).expect("as rotate does");
    fs::write(store.path(UNFINISHED), "half a k").expect("as write_new does");
    assert_eq!(public(store.load().expect("loads")), Some(old));
    assert_eq!(
        public(store.previous().expect("the same key is none")),
        None
    );
    let new = store.rotate().expect("rotates").key.public();
    assert_eq!(public(store.load().expect("loads")), Some(new));
    assert_eq!(public(store.previous().expect("loads")), Some(old));
}

#[test]
fn a_key_that_others_can_read_is_refused_with_what_to_do() {
    let Fixture { state, store } = fixture();
    store.load_or_create().expect("made");
    let path = store.path(CURRENT);
    for mode in [0o640, 0o604, 0o660, 0o644] {
        chmod(&path, mode);
        let error = store
            .load_or_create()
            .expect_err("open to others")
            .to_string();
        let command = format!("chmod 0600 {}", path.display());
        assert!(error.contains(&command), "{error}");
        assert!(error.contains(&format!("mode {mode:04o}")), "{error}");
    }
    chmod(&path, 0o400);
    store.load_or_create().expect("stricter is fine");
    chmod(&store.folder, 0o755);
    let error = KeyStore::open(state.path()).expect_err("folder open to others");
    assert!(error.to_string().contains("chmod 0700"), "{error}");
}

#[test]
fn links_folders_and_pipes_are_no_keys() {
    let Fixture { state, store } = fixture();
    let path = store.path(CURRENT);
    let elsewhere = state.path().join("elsewhere");
    fs::write(&elsewhere, "x").expect("written");
    let refused = |found: &str| {
        let error = store.load_or_create().expect_err("refused").to_string();
        assert!(error.contains(found), "{error}");
    };
    symlink(&elsewhere, &path).expect("linked");
    refused("a symbolic link");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("made");
    refused("a folder");
    fs::remove_dir(&path).expect("removed");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
    refused("a pipe");
    assert_eq!(fs::read_to_string(elsewhere).expect("untouched"), "x");
}

#[test]
fn a_folder_that_is_a_link_is_refused() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    symlink(elsewhere.path(), state.path().join(FOLDER)).expect("linked");
    let error = KeyStore::open(state.path()).expect_err("refused");
    assert!(error.to_string().contains("a symbolic link"), "{error}");
}

#[test]
fn a_damaged_file_is_refused_and_not_replaced() {
    let Fixture {
        state: _kept,
        store,
    } = fixture();
    store.load_or_create().expect("made");
    let path = store.path(CURRENT);
    let good = fs::read_to_string(&path).expect("ours");
    let key_line = good.lines().last().expect("the key");
    for (content, reason) in [
        (String::new(), "created"),
        (good.replace("created: ", "created: x"), "time"),
        (good.replace(key_line, ""), "`key: KEY`"),
        (good.replace(key_line, "key: AAAA"), "32 bytes"),
        ("x".repeat(2000), "too long"),
    ] {
        fs::write(&path, &content).expect("ours");
        let error = store.load_or_create().expect_err("damaged").to_string();
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains(&key_line[5..]), "the key is not told");
        assert_eq!(fs::read_to_string(&path).expect("ours"), content);
    }
}

#[test]
fn removing_leaves_nothing() {
    let Fixture { state, store } = fixture();
    store.load_or_create().expect("made");
    store.rotate().expect("rotated");
    store.remove_all().expect("removed");
    assert_eq!(fs::read_dir(state.path()).expect("there").count(), 0);
}
