//! The source of the API server: against one in this process that misbehaves, and against a real
//! one.

mod accepted;
mod bad_input;
mod connectivity;
mod differential;
mod faults;
mod following;
mod real;
mod stale;
