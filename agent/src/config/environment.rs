//! Environment variables, behind a trait so that tests pass a map.

use std::collections::BTreeMap;

/// What the process was told from outside.
pub trait Environment {
    /// Every variable whose name starts with `prefix`, in the order of the names.
    fn variables(&self, prefix: &str) -> BTreeMap<String, String>;
    /// The machine's host name; empty if it cannot be told.
    fn host_name(&self) -> String;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variables(&self, prefix: &str) -> BTreeMap<String, String> {
        std::env::vars_os()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .filter(|(name, _)| name.starts_with(prefix))
            .collect()
    }

    fn host_name(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map(|name| name.trim().to_owned())
            .unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An environment made up for a test, on a host named `Node-A`.
    #[derive(Default)]
    pub struct Fixed(BTreeMap<String, String>);

    impl Fixed {
        pub fn with<const N: usize>(pairs: [(&str, &str); N]) -> Self {
            Self(
                pairs
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
            )
        }
    }

    impl From<BTreeMap<String, String>> for Fixed {
        fn from(variables: BTreeMap<String, String>) -> Self {
            Self(variables)
        }
    }

    impl Environment for Fixed {
        fn variables(&self, prefix: &str) -> BTreeMap<String, String> {
            let mut variables = self.0.clone();
            variables.retain(|name, _| name.starts_with(prefix));
            variables
        }

        fn host_name(&self) -> String {
            "Node-A".into()
        }
    }

    #[test]
    fn the_process_environment_is_filtered_by_prefix() {
        let variables = ProcessEnvironment.variables("CARGO_");
        assert!(variables.contains_key("CARGO_MANIFEST_DIR"));
        assert!(variables.keys().all(|name| name.starts_with("CARGO_")));
        assert!(!ProcessEnvironment.host_name().is_empty());
    }
}
