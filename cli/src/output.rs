//! What answers look like: colours, columns, and the forms of a flow.

mod columns;
mod compact;
mod dict;
mod drop_text;
pub(crate) mod event;
mod table;

pub(crate) use columns::Columns;
pub(crate) use compact::Compact;
pub(crate) use dict::Dict;
pub(crate) use table::Table;

/// Puts colours around text, or leaves it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    enabled: bool,
}

/// Colours, as numbers of the escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hue {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Magenta = 35,
    Cyan = 36,
}

impl Paint {
    /// With or without colours.
    pub fn new(enabled: bool) -> Self {
        Self { enabled }
    }

    /// The text in a colour.
    pub(crate) fn paint(self, hue: Hue, text: &str) -> String {
        if self.enabled && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", hue as u8)
        } else {
            text.to_owned()
        }
    }
}

/// How flows are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Colours.
    pub paint: Paint,
    /// Addresses instead of names.
    pub numeric: bool,
    /// Show which node saw the flow.
    pub node_name: bool,
}
