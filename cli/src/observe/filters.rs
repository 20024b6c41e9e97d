//! Filters as they grow from flags.
//!
//! A flag without direction asks for either end, and all such flags for the *same* end. So two
//! filters grow side by side: such a flag writes its source field into the left one and its
//! destination field into the right one; all other flags write into both. If they end up equal,
//! one is enough.

use weir_proto::flow::FlowFilter;

/// Which end of a flow a flag is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Any of the two.
    Either,
    /// The sender of the packet.
    Source,
    /// Its receiver.
    Destination,
}

/// Two filters that grow side by side.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    left: Half,
    right: Half,
    /// Namespaces for either end. Names without one are looked for in them, whichever end they are.
    namespaces: Vec<String>,
}

#[derive(Debug, Default)]
struct Half {
    filter: FlowFilter,
    source: Names,
    destination: Names,
}

/// Names of one end, before namespaces and names are put together.
#[derive(Debug, Default)]
struct Names {
    namespaces: Vec<String>,
    pods: Vec<String>,
    services: Vec<String>,
}

impl Tracker {
    /// Writes a field about the flow as a whole.
    pub(super) fn each(&mut self, set: impl Fn(&mut FlowFilter)) {
        set(&mut self.left.filter);
        set(&mut self.right.filter);
    }

    /// Writes a field that both ends have.
    pub(super) fn end(
        &mut self,
        end: End,
        source: impl Fn(&mut FlowFilter),
        destination: impl Fn(&mut FlowFilter),
    ) {
        match end {
            End::Either => {
                source(&mut self.left.filter);
                destination(&mut self.right.filter);
            }
            End::Source => self.each(source),
            End::Destination => self.each(destination),
        }
    }

    pub(super) fn pod(&mut self, end: End, name: &str) {
        self.names(end, |names| names.pods.push(name.to_owned()));
    }

    pub(super) fn service(&mut self, end: End, name: &str) {
        self.names(end, |names| names.services.push(name.to_owned()));
    }

    /// An empty name is any namespace.
    pub(super) fn namespace(&mut self, end: End, name: &str) {
        self.names(end, |names| names.namespaces.push(name.to_owned()));
        if end == End::Either {
            self.namespaces.push(name.to_owned());
        }
    }

    fn names(&mut self, end: End, set: impl Fn(&mut Names)) {
        match end {
            End::Either => {
                set(&mut self.left.source);
                set(&mut self.right.destination);
            }
            End::Source => {
                set(&mut self.left.source);
                set(&mut self.right.source);
            }
            End::Destination => {
                set(&mut self.left.destination);
                set(&mut self.right.destination);
            }
        }
    }

    /// The filters; none if no flag was given.
    pub(super) fn finish(self) -> Result<Vec<FlowFilter>, String> {
        let left = self.left.finish(&self.namespaces)?;
        let right = self.right.finish(&self.namespaces)?;
        Ok(match (left == right, left == FlowFilter::default()) {
            (true, true) => Vec::new(),
            (true, false) => vec![left],
            (false, _) => vec![left, right],
        })
    }
}

impl Half {
    fn finish(self, either: &[String]) -> Result<FlowFilter, String> {
        let mut filter = self.filter;
        (filter.source_pod, filter.source_service) = self.source.finish(either)?;
        (filter.destination_pod, filter.destination_service) = self.destination.finish(either)?;
        Ok(filter)
    }
}

impl Names {
    /// Pods and services with their namespaces. A namespace alone means all pods in it.
    fn finish(self, either: &[String]) -> Result<(Vec<String>, Vec<String>), String> {
        let own = &self.namespaces;
        if !own.is_empty() && self.pods.is_empty() && self.services.is_empty() {
            return Ok((
                own.iter()
                    .map(|namespace| format!("{namespace}/"))
                    .collect(),
                Vec::new(),
            ));
        }
        let namespaces = if own.is_empty() { either } else { own };
        Ok((
            qualify(self.pods, namespaces)?,
            qualify(self.services, namespaces)?,
        ))
    }
}

/// Puts names into namespaces. One that has its own must not contradict them.
fn qualify(names: Vec<String>, namespaces: &[String]) -> Result<Vec<String>, String> {
    if namespaces.is_empty() {
        return Ok(names);
    }
    let mut qualified = Vec::new();
    for name in names {
        match name.split_once('/') {
            None => qualified.extend(namespaces.iter().map(|one| format!("{one}/{name}"))),
            Some((own, _)) if namespaces.iter().any(|one| one.is_empty() || one == own) => {
                qualified.push(name);
            }
            Some(_) => {
                return Err(format!(
                    "{name} is not in namespace {}; give its namespace once",
                    namespaces.join(" or ")
                ));
            }
        }
    }
    Ok(qualified)
}
