//! Making, adopting and removing devices.
