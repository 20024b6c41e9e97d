//! Namespaces.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A namespace and its labels, which are part of its pods' identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}
