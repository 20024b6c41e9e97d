//! Globs over DNS names and node names.

use regex::Regex;

/// A whole-string pattern: `*` stands for any run of `[-.0-9a-z]`, also an empty one. An empty
/// pattern matches anything only where the caller says so.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let name = pattern.trim().to_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.*".contains(c);
    if name.is_empty() {
        return Err("a pattern must not be empty".into());
    }
    if let Some(other) = name.chars().find(|c| !allowed(*c)) {
        return Err(format!("{other:?} cannot be part of a name in {pattern:?}"));
    }
    let expression = name.replace('.', "[.]").replace('*', "[-.0-9a-z]*");
    Regex::new(&format!("^{expression}$")).map_err(|error| error.to_string())
}
