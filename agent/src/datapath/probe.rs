//! What can and cannot be done here.
