//! Largest packets of the device and its routes.
