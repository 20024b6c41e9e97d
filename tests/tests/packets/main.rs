//! Program tests: single packets through `BPF_PROG_TEST_RUN`, compared to the byte.
//!
//! Each test has a network namespace of its own with real routes and neighbours, loads the programs
//! as the agent does, and writes the maps through the agent's own handles. What comes out is compared
//! with a packet built from scratch, checksums and all; see [`packet`]. The cgroup programs are not
//! here: the kernel cannot run them on demand, so scenarios cover them with real sockets.
//!
//! Needs root and `ip`. What a kernel's `BPF_PROG_TEST_RUN` cannot do is skipped with a line
//! `SKIPPED: reason`.
mod network;
mod node;
mod packet;
mod tables;
mod test_run;
mod turned;

mod bad_input;
mod carrying_over;
mod device;
mod encryption;
mod events;
mod forward;
mod host_routing;
mod large;
mod load;
mod log;
mod moves;
mod open;
mod pods;
mod ports;
mod stack;
