//! The names of the settings: keys, variables, flags, and which of them a wrong one resembles.

use std::collections::BTreeSet;

use super::value::Value;
use super::{Config, Section, Visitor};

/// First part of every variable's name.
pub(super) const VARIABLE_PREFIX: &str = "WEIR_";

/// Below this likeness (0 to 1) a suggestion would be a riddle.
const SUGGESTION_THRESHOLD: f64 = 0.7;

/// Every key there is.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub sections: BTreeSet<String>,
    /// In the order of declaration.
    pub settings: Vec<String>,
}

impl Catalogue {
    pub fn of(config: &mut Config) -> Self {
        let mut catalogue = Self {
            sections: BTreeSet::new(),
            settings: Vec::new(),
        };
        config.visit("", &mut catalogue);
        catalogue
    }

    /// The key that `unknown` most likely was meant to be: misspelt, or in another section.
    pub fn nearest(&self, unknown: &str) -> Option<&str> {
        let leaf = |key: &str| key.rsplit('.').next().unwrap_or_default().to_lowercase();
        let keys = self.settings.iter().chain(&self.sections);
        nearest(keys.map(|key| {
            let whole = strsim::normalized_damerau_levenshtein(unknown, key);
            let last = strsim::normalized_damerau_levenshtein(&leaf(unknown), &leaf(key));
            (key.as_str(), whole.max(last * 0.95)) // a tie goes to the same section
        }))
    }

    /// The variable that `unknown` most likely was meant to be.
    pub fn nearest_variable(&self, unknown: &str) -> Option<String> {
        let key = nearest(self.settings.iter().map(|key| {
            (
                key.as_str(),
                strsim::normalized_damerau_levenshtein(unknown, &variable(key)),
            )
        }))?;
        Some(variable(key))
    }
}

impl Visitor for Catalogue {
    fn section(&mut self, path: &str, _doc: &'static str) {
        self.sections.insert(path.to_owned());
    }

    fn setting(&mut self, path: &str, _doc: &'static str, _value: &mut dyn Value) {
        self.settings.push(path.to_owned());
    }
}

fn nearest<'a>(candidates: impl Iterator<Item = (&'a str, f64)>) -> Option<&'a str> {
    candidates
        .filter(|(_, likeness)| *likeness >= SUGGESTION_THRESHOLD)
        .max_by(|(_, left), (_, right)| left.total_cmp(right))
        .map(|(key, _)| key)
}

/// `flows.reportInterval` -> `WEIR_FLOWS_REPORT_INTERVAL`.
pub fn variable(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", words(key, '_').to_uppercase())
}

/// `flows.reportInterval` -> `flows-report-interval`.
pub fn flag(key: &str) -> String {
    words(key, '-').to_lowercase()
}

/// Separates the words of a dotted camel-case key. A run of capitals is one word.
fn words(key: &str, separator: char) -> String {
    let mut text = String::new();
    let mut previous = separator;
    for character in key.chars() {
        match character {
            '.' => text.push(separator),
            _ if character.is_uppercase() && !previous.is_uppercase() && previous != '.' => {
                text.extend([separator, character]);
            }
            _ => text.push(character),
        }
        previous = character;
    }
    text
}
