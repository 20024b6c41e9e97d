//! Sets of labels that many objects have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One label.
type Label = (Arc<str>, Arc<str>);

/// A set of labels, in the order of their keys. Clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[Label]>);

impl Labels {
    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The same set of other parts.
    pub(super) fn map(&self, mut part: impl FnMut(&Arc<str>) -> Arc<str>) -> Self {
        let label = |(key, value): &Label| (part(key), part(value));
        Self(self.0.iter().map(label).collect())
    }

    /// Whether nobody else has it.
    pub(super) fn is_unshared(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<K: Into<Arc<str>> + Ord, V: Into<Arc<str>>> FromIterator<(K, V)> for Labels {
    /// Of several values of a key the last one counts.
    fn from_iter<T: IntoIterator<Item = (K, V)>>(labels: T) -> Self {
        let sorted: BTreeMap<K, V> = labels.into_iter().collect();
        let label = |(key, value): (K, V)| (key.into(), value.into());
        Self(sorted.into_iter().map(label).collect())
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let labels = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(labels.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_a_sorted_set_that_is_read_back_as_it_was_written() {
        let labels: Labels = [("b", "2"), ("a", "1"), ("b", "3")].into_iter().collect();
        let pairs: Vec<_> = labels.iter().collect();
        assert_eq!(pairs, [("a", "1"), ("b", "3")]);
        let text = serde_json::to_string(&labels).unwrap();
        assert_eq!(text, r#"{"a":"1","b":"3"}"#);
        assert_eq!(serde_json::from_str::<Labels>(&text).unwrap(), labels);
    }
}
