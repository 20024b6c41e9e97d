//! Merges the layers into one [`Config`] and collects every mistake on the way.

use std::collections::BTreeMap;
use std::path::Path;

use super::catalogue::{Catalogue, VARIABLE_PREFIX, flag, variable};
use super::file;
use super::flags::ConfigFlags;
use super::value::{RawValue, Value};
use super::{Config, ConfigError, DEFAULT_FILE, Environment, Origin, Problem, Section, Visitor};

/// A complete, checked configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to run with.
    pub config: Config,
    /// Where each setting's value was written; settings left at their default are absent.
    pub origins: BTreeMap<String, Origin>,
    /// Oddities that are no reason to stop, such as a variable that is nearly a setting's.
    pub warnings: Vec<String>,
}

/// Takes the layers in their order (file, environment, flags), later ones winning.
#[derive(Debug)]
pub struct Loader {
    catalogue: Catalogue,
    config: Config,
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

impl Loader {
    /// Starts from the defaults.
    pub fn new() -> Self {
        Self {
            catalogue: Catalogue::of(&mut Config::default()),
            config: Config::default(),
            origins: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Loads as the agent does: the file that `flags` name, else [`DEFAULT_FILE`] if it exists,
    /// then `environment`, then `flags`.
    pub fn load(flags: &ConfigFlags, environment: &dyn Environment) -> Result<Loaded, ConfigError> {
        let default_file = Path::new(DEFAULT_FILE);
        let file = flags
            .file
            .as_deref()
            .or_else(|| default_file.exists().then_some(default_file));
        let mut loader = Self::new();
        if let Some(path) = file {
            loader = loader.file(path);
        }
        loader
            .environment(environment)
            .flags(flags)
            .finish(environment)
    }

    /// Adds the file at `path`, which must be readable.
    #[must_use]
    pub fn file(mut self, path: &Path) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => self.file_text(path, &text),
            Err(error) => {
                self.problems.push(Problem {
                    setting: String::new(),
                    value: None,
                    origin: Origin::File(path.into()),
                    reason: format!("cannot be read: {error}"),
                    advice: "give a readable YAML file with --config, or none".into(),
                });
                self
            }
        }
    }

    /// Adds the YAML in `text`, which messages call `path`.
    #[must_use]
    pub fn file_text(mut self, path: &Path, text: &str) -> Self {
        let origin = Origin::File(path.into());
        let (values, mut problems) = file::parse(text, &self.catalogue, &origin);
        self.problems.append(&mut problems);
        self.layer(
            values
                .into_iter()
                .map(|(key, raw)| (key, raw, origin.clone()))
                .collect(),
        )
    }

    /// Adds the variables of `environment`.
    #[must_use]
    pub fn environment(mut self, environment: &dyn Environment) -> Self {
        let mut values = Vec::new();
        for (name, value) in environment.variables(VARIABLE_PREFIX) {
            if let Some(key) = self
                .catalogue
                .settings
                .iter()
                .find(|key| variable(key) == name)
            {
                values.push((
                    key.clone(),
                    RawValue::Text(value),
                    Origin::Environment(name),
                ));
            } else if let Some(near) = self.catalogue.nearest_variable(&name) {
                // No error: Kubernetes itself makes variables such as `WEIR_SERVICE_HOST`.
                let warning = format!("variable {name} is not a setting; did you mean {near}?");
                self.warnings.push(warning);
            }
        }
        self.layer(values)
    }

    /// Adds the flags.
    #[must_use]
    pub fn flags(self, flags: &ConfigFlags) -> Self {
        let with_origin = |(key, value): (&String, &String)| {
            (
                key.clone(),
                RawValue::Text(value.clone()),
                Origin::Flag(format!("--{}", flag(key))),
            )
        };
        let values = flags.values.iter().map(with_origin).collect();
        self.layer(values)
    }

    /// Checks the whole and hands it out. An empty node name becomes the host name.
    pub fn finish(mut self, environment: &dyn Environment) -> Result<Loaded, ConfigError> {
        if self.config.node_name.is_empty() {
            self.config.node_name = environment.host_name().to_lowercase();
        }
        let findings = self.config.check();
        let shown = values(&mut self.config);
        self.problems.extend(findings.into_iter().map(|finding| {
            Problem {
                setting: finding.setting.to_owned(),
                value: shown.get(finding.setting).cloned(),
                origin: self
                    .origins
                    .get(finding.setting)
                    .cloned()
                    .unwrap_or(Origin::Default),
                reason: finding.reason,
                advice: finding.advice,
            }
        }));
        if self.problems.is_empty() {
            let Self {
                config,
                origins,
                warnings,
                ..
            } = self;
            Ok(Loaded {
                config,
                origins,
                warnings,
            })
        } else {
            Err(ConfigError {
                problems: self.problems,
            })
        }
    }

    fn layer(mut self, values: Vec<(String, RawValue, Origin)>) -> Self {
        let mut values: BTreeMap<_, _> = values
            .into_iter()
            .map(|(key, raw, origin)| (key, (raw, origin)))
            .collect();
        let Self {
            config,
            origins,
            problems,
            ..
        } = &mut self;
        each_setting(config, &mut |path, value| {
            let Some((raw, origin)) = values.remove(path) else {
                return;
            };
            match value.set(&raw) {
                Ok(()) => {
                    origins.insert(path.to_owned(), origin);
                }
                Err(reason) => problems.push(Problem {
                    setting: path.to_owned(),
                    value: Some(raw.shown()),
                    origin,
                    reason,
                    advice: format!("write {}", value.form()),
                }),
            }
        });
        self
    }
}

impl Loaded {
    /// All settings as `key=value`, for the log.
    pub fn summary(&self) -> String {
        let pairs = values(&mut self.config.clone());
        pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Calls `act` with every setting of `config`.
fn each_setting(config: &mut Config, act: &mut dyn FnMut(&str, &mut dyn Value)) {
    struct Each<'a>(&'a mut dyn FnMut(&str, &mut dyn Value));
    impl Visitor for Each<'_> {
        fn section(&mut self, _path: &str, _doc: &'static str) {}
        fn setting(&mut self, path: &str, _doc: &'static str, value: &mut dyn Value) {
            (self.0)(path, value);
        }
    }
    config.visit("", &mut Each(act));
}

/// Every setting's value as YAML.
fn values(config: &mut Config) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    each_setting(config, &mut |path, value| {
        values.insert(path.to_owned(), value.yaml());
    });
    values
}

/// Loads one file alone, as `--check` does.
pub fn check_file(path: &Path, environment: &dyn Environment) -> Result<Loaded, ConfigError> {
    Loader::new().file(path).finish(environment)
}

#[cfg(test)]
mod tests;
