//! A small synchronous Varlink server, for the verbs that are services as well.
//!
//! A [`service::Service`] answers for its interfaces; [`activation`] finds the socket that the process
//! was started with, as systemd passes it and as `varlinkctl` runs programs; [`server`] takes
//! connections, each in a thread of its own, and [`connection`] speaks on one.
//!
//! Invariant: whatever a client sends, and however slowly, it costs no more than its own connection.

pub(crate) mod activation;
pub(crate) mod connection;
pub(crate) mod server;
pub(crate) mod service;
