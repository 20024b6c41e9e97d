//! Kubernetes label selectors over labels of the form `source:key=value`.
//!
//! A key may name its source (`k8s:app`); without one, or with `any` or `unspec`, it matches labels
//! of every source. A label without a source counts as `unspec`.

/// Requirements that must all hold.
#[derive(Debug)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Debug, PartialEq, Eq)]
struct Requirement {
    /// Source the key asks for, if any.
    source: Option<String>,
    key: String,
    operator: Operator,
}

#[derive(Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Selector {
    /// Parses `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k`, `!k`, joined by commas.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let requirements = split_requirements(text)
            .map(|part| {
                Requirement::parse(part)
                    .ok_or_else(|| format!("{part:?} in {text:?} is not a label requirement"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self(requirements))
    }

    pub(super) fn matches(&self, labels: &[String]) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }
}

/// Splits at the commas outside of parentheses. An empty selector has no requirement.
fn split_requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let parts = text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    let parts = if text.trim().is_empty() {
        None
    } else {
        Some(parts)
    };
    parts.into_iter().flatten().map(str::trim)
}

impl Requirement {
    fn parse(text: &str) -> Option<Self> {
        if let Some(key) = text.strip_prefix('!') {
            return Self::new(key, Operator::Absent);
        }
        if let Some((key, value)) = text.split_once("!=") {
            return Self::new(key, Operator::NotIn(vec![checked_value(value)?]));
        }
        if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            return Self::new(key, Operator::In(vec![checked_value(value)?]));
        }
        let Some((head, list)) = text.split_once('(') else {
            return Self::new(text, Operator::Exists);
        };
        let values = list.strip_suffix(')')?.split(',').map(checked_value);
        let values = values.collect::<Option<Vec<_>>>()?;
        let (key, word) = head.trim().rsplit_once(char::is_whitespace)?;
        match word {
            "in" => Self::new(key, Operator::In(values)),
            "notin" => Self::new(key, Operator::NotIn(values)),
            _ => None,
        }
    }

    fn new(key: &str, operator: Operator) -> Option<Self> {
        let (source, key) = match key.trim().split_once(':') {
            Some(("any" | "unspec" | "", key)) => (None, key),
            Some((source, key)) => (Some(source.to_owned()), key),
            None => (None, key.trim()),
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
        (!key.is_empty() && key.chars().all(legal)).then(|| Self {
            source,
            key: key.to_owned(),
            operator,
        })
    }

    fn matches(&self, labels: &[String]) -> bool {
        let mut values = labels.iter().filter_map(|label| self.value_of(label));
        match &self.operator {
            Operator::Exists => values.next().is_some(),
            Operator::Absent => values.next().is_none(),
            Operator::In(wanted) => values.any(|value| wanted.iter().any(|one| one == value)),
            Operator::NotIn(wanted) => !values.any(|value| wanted.iter().any(|one| one == value)),
        }
    }

    /// The value of a label if it has this key.
    fn value_of<'a>(&self, label: &'a str) -> Option<&'a str> {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        let (source, key) = name.split_once(':').unwrap_or(("unspec", name));
        let source_matches = self.source.as_ref().is_none_or(|wanted| wanted == source);
        (source_matches && key == self.key).then_some(value)
    }
}

fn checked_value(value: &str) -> Option<String> {
    let value = value.trim();
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    value.chars().all(legal).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_match_as_in_kubernetes() {
        let labels = [
            "k8s:app=web",
            "k8s:tier=front",
            "k8s:empty=",
            "reserved:world",
            "zone=a",
        ]
        .map(str::to_owned);
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            (" app = web ", true),
            ("k8s:app=web", true),
            ("any:app=web", true),
            ("unspec:app=web", true),
            ("reserved:app=web", false),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("missing!=x", true),
            ("app", true),
            ("!app", false),
            ("!missing", true),
            ("reserved:world", true),
            ("world", true),
            ("app in (db, web)", true),
            ("app in (db)", false),
            ("app notin (db,cache)", true),
            ("app notin (web)", false),
            ("missing notin (web)", true),
            ("app=web,tier=front", true),
            ("app in (db,web),tier=back", false),
            ("empty=", true),
            ("zone=a", true),
            ("k8s:zone=a", false),
        ];
        for (text, expected) in cases {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.matches(&labels), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "=web",
            "app=we b",
            "app in web",
            "app in (web",
            "a,,b",
            "app~web",
            "app of (a)",
            "!",
        ] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
    }
}
