//! What else of the host decides whether packets pass.
