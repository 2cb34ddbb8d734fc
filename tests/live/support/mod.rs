//! What live tests stand on: private servers, and a proxy to watch and disturb the traffic.

pub mod proxy;
pub mod server;

pub use self::{proxy::Proxy, server::Server};
