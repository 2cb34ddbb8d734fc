//! `Redis` keeps the contract of backends.

use tower_singleflight::backend::Redis;

use crate::support::Server;

tower_singleflight::backend_contract_tests!(async || {
    let server = Server::start();
    let a = Redis::connect(&server.url(), "contract").await.expect("the server is there");
    let b = Redis::connect(&server.url(), "contract").await.expect("the server is there");
    ([a, b], server)
});
