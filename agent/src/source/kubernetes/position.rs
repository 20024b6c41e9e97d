//! Where in the history of the cluster a watch has arrived.
//!
//! A watch is resumed from the last resource version that was seen. That is only right while the
//! server tells history in order; where it does not, something may have been left out, and only a
//! new list tells what.

use std::fmt;

/// The place from which a watch is resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    version: String,
    /// It is that of a bookmark or list, which stands for all that was before.
    complete: bool,
}

/// History was not told in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutOfOrder {
    event: String,
    position: String,
}

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, position } = self;
        write!(
            f,
            "an event of version {event:?} came after version {position:?}"
        )
    }
}

impl Position {
    /// That of a list.
    pub(super) fn of_list(version: String) -> Self {
        Self {
            version,
            complete: true,
        }
    }

    /// What to ask the server for.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// An object changed at `version`. An error says that events may be missing: a bookmark had
    /// promised that all up to a later one were told.
    pub(super) fn event(&mut self, version: &str) -> Result<(), OutOfOrder> {
        if version.is_empty() {
            // Not told: the place stays, and the event may come again.
            return Ok(());
        }
        match compare(version, &self.version) {
            Some(order) if order.is_lt() || (order.is_eq() && self.complete) => Err(OutOfOrder {
                event: version.to_owned(),
                position: self.version.clone(),
            }),
            _ => {
                self.moved(version, false);
                Ok(())
            }
        }
    }

    /// Nothing more happened up to `version`. One that lies back says nothing new.
    pub(super) fn bookmark(&mut self, version: &str) {
        let back = compare(version, &self.version).is_some_and(std::cmp::Ordering::is_lt);
        if !version.is_empty() && !back {
            self.moved(version, true);
        }
    }

    fn moved(&mut self, version: &str, complete: bool) {
        self.version.clear();
        self.version.push_str(version);
        self.complete = complete;
    }
}

/// The order of two versions, if they are numbers, as those of Kubernetes are. Others cannot be
/// compared, and then the order in which they come must do.
fn compare(one: &str, other: &str) -> Option<std::cmp::Ordering> {
    let number = |text: &str| text.parse::<u128>().ok();
    Some(number(one)?.cmp(&number(other)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_bookmarks_move_the_place_on() {
        let mut position = Position::of_list("10".to_owned());
        position.event("12").unwrap();
        position.bookmark("20");
        position.event("21").unwrap();
        position.event("").unwrap();
        assert_eq!(position.version(), "21");
    }

    #[test]
    fn a_bookmark_never_moves_it_back() {
        let mut position = Position::of_list("10".to_owned());
        for bookmark in ["9", "", "3"] {
            position.bookmark(bookmark);
            assert_eq!(position.version(), "10");
        }
    }

    #[test]
    fn an_event_before_the_place_is_out_of_order() {
        let mut position = Position::of_list("10".to_owned());
        position.event("9").unwrap_err();
        position.event("10").unwrap_err();
        position.bookmark("30");
        position.event("25").unwrap_err();
        assert_eq!(position.version(), "30");
        position.event("31").unwrap();
        position.event("30").unwrap_err();
    }

    #[test]
    fn versions_that_are_no_numbers_are_taken_as_they_come() {
        let mut position = Position::of_list("a".to_owned());
        position.event("c").unwrap();
        position.event("b").unwrap();
        position.bookmark("a2");
        assert_eq!(position.version(), "a2");
    }
}
