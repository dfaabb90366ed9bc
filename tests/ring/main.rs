//! The ring through its public interface: call by call, in random histories, under threads.

mod calls;
mod histories;
mod loans;
mod stress;
