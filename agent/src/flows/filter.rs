//! [`FlowFilter`]s, compiled once into conditions on the compact record.
//!
//! Alternatives and conditions nest as the flow API says: a flow passes if some filter of the allow
//! list matches (or the list is empty) and none of the deny list does; a filter matches if all its
//! fields do; a field matches if some value of it does. A field that asks for what no record has
//! (HTTP, DNS, traces) is checked for its syntax and then never matches. What cannot be honoured
//! (CEL) is refused, because ignoring it would show flows that were not asked for.

mod address;
mod event;
mod glob;
mod l7;
mod name;
mod selector;
mod transport;

use thiserror::Error;
use weir_proto::flow::FlowFilter;

use super::record::{FlowRecord, Side};

/// A value of a filter that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid filter: {field}: {reason}")]
pub struct FilterError {
    /// Name of the field in `FlowFilter`.
    pub field: &'static str,
    /// What is wrong with the value, and what would be right.
    pub reason: String,
}

/// One field of a filter, ready to be asked.
type Condition = Box<dyn Fn(&FlowRecord) -> bool + Send + Sync>;

/// A compiled allow list and deny list.
#[derive(Default)]
pub struct FlowFilters {
    allow: Vec<Matcher>,
    deny: Vec<Matcher>,
}

impl FlowFilters {
    /// Compiles both lists.
    pub fn compile(allow: &[FlowFilter], deny: &[FlowFilter]) -> Result<Self, FilterError> {
        let compile = |filters: &[FlowFilter]| {
            filters
                .iter()
                .map(Matcher::compile)
                .collect::<Result<_, _>>()
        };
        Ok(Self {
            allow: compile(allow)?,
            deny: compile(deny)?,
        })
    }

    /// True if the flow shall be delivered.
    pub fn matches(&self, record: &FlowRecord) -> bool {
        (self.allow.is_empty() || self.allow.iter().any(|filter| filter.matches(record)))
            && !self.deny.iter().any(|filter| filter.matches(record))
    }
}

/// One compiled filter.
struct Matcher(Vec<Condition>);

impl Matcher {
    fn compile(filter: &FlowFilter) -> Result<Self, FilterError> {
        let mut fields = Fields(Vec::new());
        address::compile(filter, &mut fields)?;
        name::compile(filter, &mut fields)?;
        transport::compile(filter, &mut fields)?;
        event::compile(filter, &mut fields)?;
        l7::compile(filter, &mut fields)?;
        Ok(Self(fields.0))
    }

    fn matches(&self, record: &FlowRecord) -> bool {
        self.0.iter().all(|condition| condition(record))
    }
}

/// Collects the conditions of one filter.
struct Fields(Vec<Condition>);

impl Fields {
    /// Adds a field whose values are parsed first. A field without values is no condition.
    fn add_text<T: Send + Sync + 'static>(
        &mut self,
        field: &'static str,
        values: &[String],
        parse: impl Fn(&str) -> Result<T, String>,
        matches: impl Fn(&T, &FlowRecord) -> bool + Send + Sync + 'static,
    ) -> Result<(), FilterError> {
        let parsed: Vec<T> = values
            .iter()
            .map(|value| parse(value).map_err(|reason| FilterError { field, reason }))
            .collect::<Result<_, _>>()?;
        self.add(parsed, matches);
        Ok(())
    }

    /// Adds a field. One without values is no condition.
    fn add<T: Send + Sync + 'static>(
        &mut self,
        values: Vec<T>,
        matches: impl Fn(&T, &FlowRecord) -> bool + Send + Sync + 'static,
    ) {
        if !values.is_empty() {
            self.0.push(Box::new(move |record| {
                values.iter().any(|value| matches(value, record))
            }));
        }
    }

    /// Adds a field whose values need no parsing.
    fn add_plain<T: Clone + Send + Sync + 'static>(
        &mut self,
        values: &[T],
        matches: impl Fn(&T, &FlowRecord) -> bool + Send + Sync + 'static,
    ) {
        self.add(values.to_vec(), matches);
    }
}

/// A field that exists once for each end: its two names, its two lists of values.
fn both<'a, V>(
    source: (&'static str, &'a [V]),
    destination: (&'static str, &'a [V]),
) -> [(Side, &'static str, &'a [V]); 2] {
    [
        (Side::Source, source.0, source.1),
        (Side::Destination, destination.0, destination.1),
    ]
}

#[cfg(test)]
mod tests;
