//! What live tests stand on: private servers, a proxy to watch and disturb the traffic, and forged data.

pub mod calls;
pub mod example;
pub mod fleet;
pub mod forge;
// Benches, which stand on the rest, do without that feature.
#[cfg(feature = "contract")]
pub mod locks;
pub mod proxy;
pub mod replica;
pub mod server;

pub use self::{proxy::Proxy, server::Server};
