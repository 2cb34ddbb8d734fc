//! Behaviour on `Memory`, on a paused clock, without a network.

mod architecture;
mod group;
mod grpc;
mod grpc_deadlines;
mod grpc_failures;
mod grpc_streams;
mod grpc_support;
mod grpc_tonic;
#[path = "../common/histories.rs"]
mod histories;
mod http_asked;
#[cfg(feature = "axum")]
mod http_axum;
mod http_caps;
mod http_confirm;
mod http_content;
mod http_content_wire;
mod http_counts;
mod http_flight;
mod http_follow;
mod http_guards;
mod http_identity;
mod http_invalidate;
mod http_origin;
mod http_overtaken;
mod http_readers;
mod http_revalidate;
mod http_stream;
mod http_support;
mod http_survive;
mod http_tower;
mod http_vary;
mod http_wire;
#[cfg(feature = "contract")]
#[path = "../common/lock_histories.rs"]
mod lock_histories;
#[cfg(feature = "contract")]
mod locks;
#[cfg(feature = "contract")]
mod memory;
mod stacks;
