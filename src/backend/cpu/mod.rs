//! The CPU backend: the embedded default, and the oracle of all other backends.
