//! The C interface from inside.
