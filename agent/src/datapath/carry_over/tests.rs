//! Which folders are carried over, in what order. What is in the maps has scenarios of its own.

use std::fs;

use tempfile::TempDir;

use super::*;

const LINK: &str = "xdp_uplink-3";

/// Folders of pins, each with a link or not.
fn pins(folders: &[(&str, bool)]) -> (TempDir, Pins) {
    let bpffs = tempfile::tempdir().unwrap();
    let pins = Pins::new(bpffs.path());
    for folder in [pins.maps(), pins.links()] {
        fs::create_dir_all(folder).unwrap();
    }
    for (name, is_used) in folders {
        let folder = pins.root().join(name);
        for part in ["maps", "links"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        if *is_used {
            fs::write(folder.join("links").join(format!("{LINK}-{name}")), "").unwrap();
        }
    }
    (bpffs, pins)
}

fn names(carry_over: &CarryOver) -> Vec<String> {
    let folders = carry_over.folders.iter();
    folders.map(|folder| file_name(folder)).collect()
}

#[test]
fn only_versions_in_use_are_carried_over_and_others_are_removed() {
    let (_bpffs, pins) = pins(&[("other", true), ("tried", false)]);
    let found = CarryOver::find(&pins).unwrap().unwrap();
    assert_eq!(names(&found), ["other"]);
    assert!(!found.was_cut_off());
    assert!(!pins.root().join("tried").exists());
}

#[test]
fn a_version_without_links_is_in_use_if_it_says_so() {
    let (_bpffs, pins) = pins(&[("filters", false)]);
    fs::create_dir(pins.root().join("filters/used")).unwrap();
    let found = CarryOver::find(&pins).unwrap().unwrap();
    assert_eq!(names(&found), ["filters"]);
    found.forget().unwrap();
    assert!(!pins.root().join("filters").exists());

    fs::write(pins.map("SETTINGS"), "").unwrap();
    pins.mark_used().unwrap();
    fs::create_dir_all(pins.root().join("other/used")).unwrap();
    CarryOver::find(&pins).unwrap().unwrap();
    assert!(pins.map("SETTINGS").exists(), "of a version that runs");
}

#[test]
fn nothing_else_is_nothing_to_carry_over() {
    let (_bpffs, pins) = pins(&[("tried", false)]);
    assert!(CarryOver::find(&pins).unwrap().is_none());
}

/// The version that was replaced comes back before the other one has removed what was left of it: the
/// newest connections are with the other one.
#[test]
fn what_was_cut_off_stays_beside_what_is_in_use() {
    let (_bpffs, pins) = pins(&[
        ("former-10-second", false),
        ("former-9-first", false),
        ("other", true),
    ]);
    let mut found = CarryOver::find(&pins).unwrap().unwrap();
    assert_eq!(
        names(&found),
        ["former-9-first", "former-10-second", "other"]
    );
    assert!(found.was_cut_off());

    found.move_links(&pins).unwrap();
    assert!(pins.links().join(format!("{LINK}-other")).exists());
    let all = ["former-9-first", "former-10-second", "former-11-other"];
    assert_eq!(names(&found), all);
    // Cut off here, the next agent finds the same.
    assert_eq!(names(&CarryOver::find(&pins).unwrap().unwrap()), all);
    found.forget().unwrap();
    assert!(CarryOver::find(&pins).unwrap().is_none());
}
